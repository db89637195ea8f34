"""Streamlines given to tracts: true ones, pieces and crossbreeds of them.

A section of `fornix bench segmentation`.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np

from fornix.core.dwi import DWI
from fornix.core.tractogram import Tractogram
from fornix.estimators.mask import brain_mask
from fornix.physics.anatomy.model import Anatomy
from fornix.physics.anatomy.variation import vary
from fornix.physics.phantom import simulate
from fornix.register.features import Features
from fornix.register.warp import Warp
from fornix.tracts.label import label_streamlines
from fornix.tracts.segment import segment_tracts
from fornix_bench.table import Row

#: Heads; those that the network learned from are numbered from 100.
HEADS = (501, 502)

Placed = Callable[[DWI], tuple[Features, Warp, float]]


def labels(base: Anatomy, placed: Placed, quick: bool, seed: int) -> list[Row]:
    """Streamlines of the true tracts, and pieces and crossbreeds of them, given to tracts."""
    rows: list[Row] = []
    for number in HEADS[:1] if quick else HEADS:
        head = vary(base, number + seed)
        dwi = brain_mask(simulate(head, "dti30", snr=20.0, seed=number + seed).dwi)
        seen, warp, _ = placed(dwi)
        found = segment_tracts(dwi, seen, warp)
        rng = np.random.default_rng([seed, number])
        lines, truth = [], []
        for name in (n for n in found.found if n != "CC"):  # its parts are tracts of their own
            own = head.bundles[name].streamlines
            for i in rng.choice(len(own), min(60, len(own)), replace=False):
                lines.append(own[i])
                truth.append(name)
        count = len(lines)
        for _ in range(count // 3):
            one, two = (lines[i] for i in rng.integers(0, count, 2))
            half = len(one) // 2
            near = np.linalg.norm(one[half] - two[len(two) // 2]) < 12  # mm: could be tracked so
            lines.append(np.concatenate([one[:half], two[len(two) // 2 :]]) if near else one[:half])
            truth.append("")
        tractogram = Tractogram.from_list(lines, head.affine, head.grid)
        start = time.perf_counter()
        told = label_streamlines(tractogram, found)
        seconds = time.perf_counter() - start
        chosen = np.array([told.names[i] if i >= 0 else "" for i in told.tract])
        true = np.array(truth)
        right = int(((chosen == true) & (true != "")).sum())
        wrong = int(((chosen != "") & (chosen != true)).sum())
        missed = int(((true != "") & (chosen != true)).sum())
        rows.append(
            {
                "head": number, "streamlines": len(lines), "F1": 2 * right / (2 * right + wrong + missed),
                "true ones right": right / count, "false ones accepted": float((chosen[count:] != "").mean()),
                "seconds": seconds,
            }
        )  # fmt: skip
    return rows


WORDS = """## Labels of streamlines

Up to 60 true streamlines of each of 71 tracts, and a third as many false ones: halves, and crossbreeds of two
that pass within 12 mm. F1 counts a streamline of a wrong tract as both wrong and missed; many tracts share
their voxels and ends."""
