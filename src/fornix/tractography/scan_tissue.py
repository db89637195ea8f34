"""Tissue fractions for tracking from the scan alone: the tissue network and the tensor together.

The network knows the brain's edge, fluid in sulci and white matter where fibres cross and FA is low; FA
follows thin white matter into the gyri better than a network that sees 2.5 mm. Either alone is worse
(docs/benchmarks/tracking-ends.md).
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from fornix.core.dwi import DWI
from fornix.core.errors import tell
from fornix.core.grid import head_scale
from fornix.core.maps import Maps
from fornix.nets import weights
from fornix.nets.tissue_classes import TissueSegmentation
from fornix.nets.tissue_segmentation import NAME, segment
from fornix.tractography.tissue_fractions import (
    TissueFractions,
    deep_inside,
    split,
    tensor_evidence,
    tissue_fractions,
)

#: Share of the tensor's threshold of FA: with the network's edge and fluid a lower one serves better.
_THRESHOLD = 0.9
#: What the network's word counts for in white matter of low FA.
_CROSSING = 0.4
#: Share of the brain mask that the network takes for brain, and by how much its white matter must be more
#: anisotropic than its cortex: phantoms and real scans have 0.85 and 1.9 or more.
_AGREES, _ORDERED = 0.7, 1.2


def scan_tissue(dwi: DWI, maps: Maps, seen: TissueSegmentation | None = None) -> TissueFractions:
    """Tissue fractions of a scan, as streamlines need them.

    Cortex and deep grey matter are where streamlines end, and so is the edge of the image; brainstem and
    cerebellum are split by FA alone. Where the network does not know such an image (an animal, another
    contrast), the tensor alone decides, which is told.

    Args:
        dwi: The scan with its mask.
        maps: With dti_fa, and dti_md in mm²/s.
        seen: What the network says of this scan; asked for if absent.
    """
    if seen is None and weights.available(NAME):
        seen = segment(dwi)
    why = _no_use(seen, dwi, maps)
    if seen is None or why:
        note = tell(f"streamlines end by FA and a rim around the brain alone: {why}")
        return replace(tissue_fractions(dwi, maps), notes=(note,))
    brain, tensor = dwi.brain(), tensor_evidence(dwi, maps)
    head = 1 - seen["background"]
    white, fluid = (seen[c] / np.maximum(head, 1e-6) for c in ("white", "csf"))
    # Near the brain's edge misaligned volumes look anisotropic: there the network must see white matter too.
    believed = _either(deep_inside(dwi), white)
    fibres = _either(tensor.white(_THRESHOLD * tensor.threshold) * believed, _CROSSING * white)
    return split(fibres * head, np.maximum(tensor.csf, fluid), brain)


def _either(one: NDArray[np.floating], other: NDArray[np.floating]) -> NDArray[np.float64]:
    """At least one of two probabilities."""
    return np.asarray(1 - (1 - one) * (1 - other))


def _no_use(seen: TissueSegmentation | None, dwi: DWI, maps: Maps) -> str:
    """Why the network's word does not count, in half a line; empty where it does."""
    if seen is None:
        return "the weights of the tissue network are not installed"
    if seen.notes:
        return seen.notes[0]
    brain, fa = dwi.brain(), maps["dti_fa"].data
    if head_scale(brain, dwi.voxel_size) < 1:
        return "the brain is smaller than a human's"
    agree = float((1 - seen["background"])[brain].mean()) if brain.any() else 0.0
    if agree < _AGREES:
        return f"the tissue network takes only {100 * agree:.0f}% of the mask for brain"
    white, cortex = (brain & (seen[c] > 0.5) for c in ("white", "cortical grey"))
    if white.any() and cortex.any():
        ratio = float(np.median(fa[white])) / max(float(np.median(fa[cortex])), 1e-6)
        if ratio < _ORDERED:
            return f"FA in the network's white matter is {ratio:.2f} times that in its cortex"
    return ""
