"""What a prompt shows of a scan, its maps and its tractogram: one line, no arrays."""

from __future__ import annotations

import numpy as np

import fornix
from fornix.core.maps import Map


def test_one_line_each(head, tmp_path):
    fa = Map("dti", "fa", np.zeros(head.grid, np.float32), head.affine, method="wls")
    maps = fornix.Maps({"dti_fa": fa})
    lines = fornix.Tractogram(
        np.zeros((5, 3), np.float32), np.array([0, 2, 5]), head.affine, head.grid
    )
    for thing, words in [
        (head, ("DWI(", "mm", "b=1000", "in the mask")),
        (head.gradients, ("Gradients(", "b0")),
        (fa, ("Map(dti_fa", "wls")),
        (maps, ("Maps(dti_fa)",)),
        (lines, ("2 streamlines", "5 points")),
    ]:
        shown = repr(thing)
        assert len(shown) < 200 and "\n" not in shown and "array" not in shown
        assert all(word in shown for word in words), shown


def test_maps_are_saved_into_a_folder_that_is_made(head, tmp_path):
    fa = Map("dti", "fa", np.zeros(head.grid, np.float32), head.affine)
    [path] = fornix.save_maps(fornix.Maps({"dti_fa": fa}), tmp_path / "new" / "er", "scan")
    assert path.is_file() and path.parent == tmp_path / "new" / "er"
