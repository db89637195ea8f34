"""`fornix bench enhance`: other gradients and smaller voxels."""
