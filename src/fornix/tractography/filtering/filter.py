"""Filtering: which streamlines to believe, by the signal and by how plausible they are.

    filtered = fornix.filter_tractogram(tractogram, dwi, maps)

Every streamline gets three scores, which stay with it in the file: `weight` and `support` by the fit to
the signal (`filtering.fit`), `plausibility` by a small network (`filtering.network`).
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fornix.core.dwi import DWI
from fornix.core.errors import FornixError, tell
from fornix.core.maps import Maps
from fornix.core.methods import Deferred
from fornix.core.tractogram import Tractogram
from fornix.tractography.filtering.features import Features, streamline_features
from fornix.tractography.filtering.fit import RIDGE, Fit, fit_weights
from fornix.tractography.filtering.fixels import Fixels, find_fixels
from fornix.tractography.tissue_fractions import (
    TissueFractions,
    tissue_fractions,
    tissue_from_segmentation,
)

# Loads torch, a second of start-up, when it is used.
judge = Deferred("fornix.tractography.filtering.network:judge")

#: Scores by which streamlines may be kept, and what each keeps where nothing is asked for: what is
#: more likely true than false, and what the signal asks for at all.
THRESHOLDS = {"plausibility": 0.5, "weight": 0.0}
#: Least share of white matter of a voxel whose fixels count.
_MIN_WM = 0.05
#: Fewer streamlines than this hold too few neighbours to tell much by.
_FEW = 3_000


def filter_tractogram(
    tractogram: Tractogram,
    dwi: DWI,
    maps: Maps,
    *,
    by: str = "plausibility",
    threshold: float | None = None,
    keep: float | None = None,
    tissue: TissueFractions | str | Path | None = None,
    threads: int | None = None,
) -> Tractogram:
    """Keep the streamlines that score best; all scores stay with the streamlines that are kept.

    Args:
        tractogram: In world mm, on any grid.
        dwi: The scan, of which only grid and mask are used.
        maps: Of that scan: `fod`, and dti_fa and dti_md for the tissue if that is not given.
        by: `plausibility` (0 to 1) or `weight` (mm² of cross-section by the fit to the signal).
        threshold: Keep scores above this; by default 0.5 of plausibility, 0 of weight.
        keep: Instead, the share of the streamlines to keep, the best ones, 0 to 1.
        tissue: Fractions, or a file for `tissue_from_segmentation`; by default from the maps.
        threads: Threads in use; all cores if not given.

    Returns:
        A Tractogram with per_streamline `plausibility`, `weight` and `support`.

    Raises:
        FornixError: The tractogram is empty or lies outside the scan, the FOD is missing or on another
            grid, or no streamline is left (says what the scores are).
    """
    check_choice(by, threshold, keep)
    scored = score_streamlines(tractogram, dwi, maps, tissue=tissue, threads=threads)
    return scored.subset(chosen(scored.per_streamline[by], by, threshold, keep))


def score_streamlines(
    tractogram: Tractogram,
    dwi: DWI,
    maps: Maps,
    *,
    tissue: TissueFractions | str | Path | None = None,
    threads: int | None = None,
) -> Tractogram:
    """The tractogram with its scores, all streamlines kept.

    Args:
        tractogram: As in `filter_tractogram`, like the others.
        dwi: The scan.
        maps: Of that scan.
        tissue: Fractions, or a file.
        threads: Threads in use.

    Raises:
        FornixError: The tractogram is empty or lies outside the scan, or the FOD is missing or on
            another grid.
    """
    features, fit = observe(tractogram, dwi, maps, tissue=tissue, threads=threads)
    if len(tractogram) < _FEW:
        tell(
            f"plausibility is judged among {len(tractogram):,} streamlines only: with {_FEW:,} or more, "
            "more true ones are recognised"
        )
    scores = {
        "plausibility": judge(features, threads=threads),
        "weight": fit.weight.astype(np.float32),
        "support": fit.support.astype(np.float32),
    }
    return replace(tractogram, per_streamline={**tractogram.per_streamline, **scores})


def observe(
    tractogram: Tractogram,
    dwi: DWI,
    maps: Maps,
    *,
    tissue: TissueFractions | str | Path | None = None,
    threads: int | None = None,
) -> tuple[Features, Fit]:
    """Features of each streamline, and the fit to the signal; arguments as in `filter_tractogram`."""
    fixels, fractions = _fixels_and_tissue(tractogram, dwi, maps, tissue)
    fit = fit_weights(tractogram, fixels, ridge=RIDGE, threads=threads)
    fod = maps["fod"].data
    return streamline_features(tractogram, fod, fixels, fractions, fit, threads=threads), fit


def check_choice(by: str, threshold: float | None, keep: float | None) -> None:
    """Refuse an impossible choice before any work is done.

    Raises:
        FornixError: No such score, both a threshold and a share, or a value out of range.
    """
    if by not in THRESHOLDS:
        raise FornixError(
            f"streamlines cannot be kept by {by!r}; choose one of: {', '.join(THRESHOLDS)}"
        )
    if threshold is not None and keep is not None:
        raise FornixError("give a threshold or the share to keep, not both")
    if keep is not None and not 0 < keep <= 1:
        raise FornixError(f"the share to keep must lie above 0 and up to 1, not {keep:g}")
    if threshold is not None and not threshold >= 0:
        raise FornixError(f"the threshold must be 0 or more, not {threshold:g}")


def chosen(
    scores: NDArray[np.float32], by: str, threshold: float | None = None, keep: float | None = None
) -> NDArray[np.int64]:
    """Which streamlines to keep.

    Args:
        scores: (S,).
        by: The score's name, for its default threshold.
        threshold: Keep scores above this.
        keep: Instead, the share of the streamlines to keep, the best ones.

    Returns:
        Indices, ascending.

    Raises:
        FornixError: No streamline is left.
    """
    if keep is not None:
        count = max(1, round(keep * len(scores)))
        # Stable: of equal scores the first are kept, whatever the machine.
        return np.sort(np.argsort(-scores, kind="stable")[:count])
    least = THRESHOLDS[by] if threshold is None else threshold
    above = np.flatnonzero(scores > least)
    if not len(above):
        raise FornixError(
            f"no streamline is left: {by} is at most {scores.max():.3g} and more than {least:g} was "
            "asked for; give a lower threshold, or the share to keep"
        )
    return above


def _fixels_and_tissue(
    tractogram: Tractogram, dwi: DWI, maps: Maps, tissue: TissueFractions | str | Path | None
) -> tuple[Fixels, TissueFractions]:
    if not len(tractogram):
        raise FornixError("the tractogram holds no streamline: there is nothing to filter")
    if "fod" not in maps:
        raise FornixError("there is no FOD among the maps; make it with fornix.fod first")
    fod = maps["fod"]
    if fod.data.shape[:3] != dwi.grid:
        raise FornixError(
            f"the FOD is on another grid {fod.data.shape[:3]} than the scan {dwi.grid}"
        )
    on_scan = Tractogram(tractogram.points, tractogram.offsets, dwi.affine, dwi.grid)
    if on_scan.outside().all():
        raise FornixError(
            "all streamlines leave the scan's volume: the tractogram is of another head or space"
        )
    if tissue is None:
        fractions = tissue_fractions(dwi, maps)
    elif isinstance(tissue, TissueFractions):
        fractions = tissue
    else:
        fractions = tissue_from_segmentation(tissue, dwi)
    if fractions.wm.shape != dwi.grid:
        raise FornixError(
            f"the tissue is on another grid {fractions.wm.shape} than the scan {dwi.grid}"
        )
    mask = dwi.brain() & (fractions.wm > _MIN_WM)
    return find_fixels(fod.data, dwi.affine, mask), fractions
