"""RecoBundles (DIPY): streamlines given to bundles by their likeness to those of a model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

#: Points of a streamline, and mm of the thresholds, as DIPY's documentation gives them.
_POINTS, _CLUSTERS, _REDUCTION, _PRUNING = 20, 5.0, 15.0, 8.0

Lines = Sequence[NDArray[np.floating]]


def recobundles(lines: Lines, models: Mapping[str, Lines], seed: int) -> NDArray[np.str_]:
    """The bundle of each streamline, empty where none recognises it.

    The tractogram is laid over the models by an affine first (whole-brain SLR). A streamline that several
    bundles claim goes to the one that has the nearest streamline (Garyfallidis et al., NeuroImage 2018).

    Args:
        lines: Streamlines, world mm.
        models: Streamlines of each bundle of the model, world mm.
        seed: Of its clustering.
    """
    from dipy.align.bundlemin import distance_matrix_mdf
    from dipy.align.streamlinear import whole_brain_slr
    from dipy.segment.bundles import RecoBundles
    from dipy.tracking.streamline import Streamlines, set_number_of_points

    rng = np.random.default_rng(seed)
    every = Streamlines([line.astype(np.float32) for m in models.values() for line in m])
    target = Streamlines([line.astype(np.float32) for line in lines])
    moved = whole_brain_slr(every, target, x0="affine", rng=rng, verbose=False)[0]
    search = RecoBundles(moved, greater_than=0, less_than=10_000, clust_thr=15, rng=rng)
    nearest = np.full(len(lines), np.inf)
    chosen = np.full(len(lines), "", dtype=object)
    at = np.array(set_number_of_points(moved, nb_points=_POINTS))
    for name, model in models.items():
        own = Streamlines([line.astype(np.float32) for line in model])
        _, found = search.recognize(
            own, _CLUSTERS, reduction_thr=_REDUCTION, pruning_thr=_PRUNING, slr=True
        )
        index = np.asarray(found, np.int64)
        if not len(index):
            continue
        points = np.array(set_number_of_points(own, nb_points=_POINTS), np.float64)
        away = distance_matrix_mdf(at[index].astype(np.float64), points).min(1)
        closer = index[away < nearest[index]]
        chosen[closer] = name
        nearest[index] = np.minimum(nearest[index], away)
    return np.asarray(chosen, str)
