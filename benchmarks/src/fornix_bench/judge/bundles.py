"""The bundles that a `trxscan` head is made of, as the truth of tractograms."""

from __future__ import annotations

import os
from itertools import pairwise
from pathlib import Path

import numpy as np

from fornix.io.tractograms import read_streamlines
from fornix.physics.bundle_maps import visits
from fornix.physics.bundles import end_regions, one_way
from fornix.tractography.scoring.truth import BundleTruth
from fornix_bench.judge.phantom import Head


def bundle_truth(head: Head, data: str | Path | None = None) -> BundleTruth:
    """Masks and end regions of every bundle of the atlas on the head's grid.

    Args:
        head: Of `build_head`.
        data: Folder that holds `atlas/adult1065/bundles`; FORNIX_TEST_DATA or ../shared/data if absent.
    """
    folder = Path(data or os.environ.get("FORNIX_TEST_DATA", "../shared/data"))
    x, y, z = head.mask.shape
    names, masks, begins, ends = [], [], [], []
    for path in sorted((folder / "atlas" / "adult1065" / "bundles").glob("*.tck")):
        points, offsets = read_streamlines(path)
        lines = one_way([points[a:b] for a, b in pairwise(offsets) if b - a > 1])
        offsets = np.r_[0, np.cumsum([len(line) for line in lines])]
        mask = np.zeros((x, y, z), bool)
        mask.ravel()[visits(np.concatenate(lines), offsets, head.affine, (x, y, z)).voxels] = True
        begin, end = end_regions(lines, head.affine, (x, y, z))
        if begin.any() and end.any():
            names.append(path.stem)
            masks.append(mask)
            begins.append(begin)
            ends.append(end)
    return BundleTruth(tuple(names), np.stack(masks), np.stack(begins), np.stack(ends), head.affine)
