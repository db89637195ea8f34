"""Streamlines given to tracts: true ones, pieces and crossbreeds of them.

A section of `fornix bench segmentation`.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

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
from fornix_bench.peers.bundles import recobundles
from fornix_bench.table import Row

#: Heads; those that the network learned from are numbered from 100.
HEADS = (501, 502)
#: Streamlines of each bundle of RecoBundles' model.
MODEL = 200

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
            for i in _some(rng, len(own), 60):
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
        named = np.array([told.names[i] if i >= 0 else "" for i in told.tract])
        models = {n: base.bundles[n].streamlines for n in found.found if n != "CC"}
        some = {n: [m[i] for i in _some(rng, len(m), MODEL)] for n, m in models.items()}
        start = time.perf_counter()
        peers = recobundles(lines, some, seed)
        waited = time.perf_counter() - start
        for by, chosen, took in (("fornix label", named, seconds), ("RecoBundles", peers, waited)):
            measures = _measures(chosen, np.array(truth), lines, head, count)
            rows.append(
                {"head": number, "by": by, "streamlines": len(lines), **measures, "seconds": took}
            )
    return rows


def _some(rng: np.random.Generator, count: int, most: int) -> NDArray[np.int64]:
    return rng.choice(count, min(most, count), replace=False)


def _measures(
    chosen: NDArray[np.str_],
    true: NDArray[np.str_],
    lines: list[NDArray],
    head: Anatomy,
    count: int,
) -> Row:
    """Scores of the tracts that streamlines were given to, of which the first `count` are true ones."""
    fits = np.array(
        [c not in ("", t) and belongs(line, head, c) for c, t, line in zip(chosen, true, lines)]
    )
    accepted = chosen[count:] != ""
    return {
        "F1": _f1(chosen, true),
        "F1, either": _f1(np.where(fits, true, chosen), true),
        "true ones right": float((chosen == true)[:count].mean()),
        "false ones accepted": float(accepted.mean()),
        "of them fitting": float(fits[count:].sum() / max(accepted.sum(), 1)),
    }


def _f1(chosen: NDArray[np.str_], true: NDArray[np.str_]) -> float:
    right = int(((chosen == true) & (true != "")).sum())
    wrong = int(((chosen != "") & (chosen != true)).sum())
    missed = int(((true != "") & (chosen != true)).sum())
    return 2 * right / (2 * right + wrong + missed)


def belongs(line: NDArray[np.float32], head: Anatomy, name: str) -> bool:
    """Whether a streamline lies in another true tract too, from one of its end regions to the other."""
    mask, ends = _wide(head, name)
    inverse = np.linalg.inv(head.affine)
    voxel = np.rint(line @ inverse[:3, :3].T + inverse[:3, 3]).astype(int)
    at = tuple(voxel.clip(0, np.array(head.grid) - 1).T)
    first, last = (tuple(v[i] for v in at) for i in (0, -1))
    ended = (ends[0][first] and ends[1][last]) or (ends[1][first] and ends[0][last])
    return bool(ended and mask[at].mean() > 0.95)


@lru_cache(maxsize=128)
def _wide(head: Anatomy, name: str) -> tuple[NDArray[np.bool_], list[NDArray[np.bool_]]]:
    """A tract's true mask and end regions, a voxel wider."""
    bundle = head.bundles[name]
    return ndimage.binary_dilation(bundle.mask), [
        ndimage.binary_dilation(e) for e in bundle.endings
    ]


WORDS = """## Labels of streamlines

Up to 60 true streamlines of each of 71 tracts, and a third as many false ones: halves, and crossbreeds of two
that pass within 12 mm. F1 counts a streamline of a wrong tract as both wrong and missed. Some tracts hold
others' streamlines by definition (the optic radiation and T_OCC, ATR and T_PREF), and half of one may be all
of another: `F1, either` also takes a tract as right whose true mask and end regions, a voxel wider, hold the
streamline. `of them fitting`: the share of accepted false ones that do. RecoBundles (DIPY) has the undeformed
head's own bundles as its model, laid over by its affine; of several that claim a streamline, the nearest has
it."""
