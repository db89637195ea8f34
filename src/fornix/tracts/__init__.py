"""Tracts without tractography: the atlas, the network that weighs it, what is measured along a tract."""
