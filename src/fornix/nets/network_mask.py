"""The brain mask that the tissue network and the threshold of `shells` agree on.

The network knows brainstem and temporal lobes, where signal is low, but takes parts of the scalp for fluid;
a threshold knows what is bright, but not what it is. Cortex and fluid must be near to what is bright, what
is bright must look like a head's inside, and strips thinner than a few millimetres are cut off.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from fornix.core.dwi import DWI
from fornix.core.errors import tell
from fornix.nets.tissue_classes import CLASSES, TissueSegmentation
from fornix.nets.tissue_segmentation import segment
from fornix.preprocess.mask import closed, grown, largest, opened, shells

Mask = NDArray[np.bool_]

#: Probability of background below which a voxel is brain, and where the threshold says so too: the network
#: is tight around the fluid of the brain's surface.
_BRAIN, _BRIGHT = 0.5, 0.85
#: mm between what is bright and what the network alone calls cortex or fluid.
_NEAR = 2.0
#: mm: half the width of strips that are cut off, and half that of gaps that are filled.
_STRIP, _GAP = 4.0, 6.0
#: What the network does not take scalp for.
_SURE = tuple(CLASSES.index(c) for c in ("deep grey", "white", "cerebellum", "brainstem"))


def network_mask(dwi: DWI, seen: TissueSegmentation | None = None) -> Mask:
    """The brain with the water inside of the skull, (X, Y, Z).

    Where the network is unsure about the scan, or the brain is no human's, it is `shells`, which is told.

    Args:
        dwi: The scan; its mask is not used.
        seen: What the network says of it; asked for if absent.
    """
    bright = shells(dwi)
    seen = segment(replace(dwi, mask=None)) if seen is None else seen
    if seen.notes or not bright.any():
        if seen.notes:
            tell(f"the mask is that of shells: {seen.notes[0]}")
        return bright
    background = seen.probabilities[..., 0]
    sure = seen.probabilities[..., _SURE].sum(-1) > 0.5
    likely = (background < _BRAIN) & (grown(bright, dwi, _NEAR) | sure)
    likely |= (background < _BRIGHT) & bright
    filled = ndimage.binary_fill_holes(largest(likely))
    core = opened(filled, dwi, _STRIP)
    whole = core | (closed(core, dwi, _GAP) & filled)
    return np.asarray(ndimage.binary_fill_holes(largest(whole)), bool)
