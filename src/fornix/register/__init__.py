"""One head onto another: features, affine maps, flows, and what is carried over by them."""
