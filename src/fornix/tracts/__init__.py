"""Tracts without tractography: the atlas, the scan's evidence, and what is measured along a tract."""
