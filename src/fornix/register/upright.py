"""A head that does not lie as its header says: found by which way of holding it the tissue network knows.

The network was trained on heads up to half a right angle from upright. Of one that a header turns further
(axes named wrongly by a converter, an animal's pose), it makes an upright head that is not there, and is
nearly as sure of it. Held the right way it is surer, and its tissues lie as the template's.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import permutations, product

import numpy as np
import torch
from numpy.typing import NDArray

from fornix.core.dwi import DWI
from fornix.core.errors import tell
from fornix.nets.tissue_classes import TissueSegmentation
from fornix.nets.tissue_segmentation import WHOLE, segment
from fornix.register.affine import near_brain, starting_affine
from fornix.register.features import Features
from fornix.register.grids import Lattice, inside, resampled, sample
from fornix.register.template import mni_template

#: mm between the points at which tissues are compared.
_SPACING = 12.0
#: Mean squared difference of tissues from the template's up to which a head is where its header says: nine
#: whole real heads have 0.014 to 0.039, turned by right angles 0.044 or more.
_PLACED = 0.04
#: How much better another way must be: in those, the right one is by 0.055 or more.
_BETTER = 0.03
_ENDS = (("left", "right"), ("back", "front"), ("bottom", "top"))


@dataclass(frozen=True, eq=False)
class _Held:
    """A scan held in one way: the segmentation, and how unlikely it is."""

    segmentation: TissueSegmentation
    misfit: float
    doubt: float


def upright_segmentation(dwi: DWI) -> TissueSegmentation:
    """The tissue network's word on a scan, the right way up even where the header is wrong about it.

    Where a whole head's tissues do not lie as the template's, the scan is held in all 24 ways that right
    angles allow, and the best counts if it is clearly better. Mirror images are not tried: see `side`.

    Args:
        dwi: The scan; its mask is not used.

    Returns:
        The segmentation on the scan's own grid, with a note where the header was not followed.
    """
    found = segment(dwi)
    if not (np.array(dwi.grid) * dwi.voxel_size > WHOLE).all() or not found.mask.any():
        return found
    first = _held(dwi, found)
    if first.misfit < _PLACED:
        return found
    others = [(turn, _held(dwi, segment(_turned(dwi, turn)))) for turn in right_angles()[1:]]
    turn, best = min(others, key=lambda other: other[1].doubt)
    if best.doubt > first.doubt - _BETTER:
        return found
    note = tell(
        f"the head does not lie as the header says: its top points to the header's {_end(turn[2])}, its "
        f"front to the header's {_end(turn[1])}. Tissues, registration and tracts follow the head; names of "
        "directions in files and colours of maps follow the header, which needs mending"
    )
    return replace(best.segmentation, turned=note)


def right_angles() -> list[NDArray[np.float64]]:
    """The 24 rotations (3, 3) that bring axes onto axes, none first."""
    made = []
    for order, signs in product(permutations(range(3)), product((1.0, -1.0), repeat=3)):
        turn = np.zeros((3, 3))
        turn[range(3), order] = signs
        if np.linalg.det(turn) > 0:
            made.append(turn)
    return sorted(made, key=lambda turn: -np.trace(turn))


def _turned(dwi: DWI, turn: NDArray[np.float64]) -> DWI:
    affine = np.eye(4)
    affine[:3, :3] = turn
    return dwi.with_(affine=affine @ dwi.affine, gradients=dwi.gradients.rotated(turn))


def _held(dwi: DWI, found: TissueSegmentation) -> _Held:
    inner = np.where(found.mask[..., None], found.probabilities[..., 1:], 0)
    tissue = torch.from_numpy(np.ascontiguousarray(np.moveaxis(inner, -1, 0), np.float32))
    left = torch.from_numpy(np.ascontiguousarray(found.left, np.float32))
    # The lattice is that of the header: tissues are what is compared, and the start may turn them.
    shape = torch.zeros((6, *dwi.grid))
    misfit = _misfit(Features(Lattice(dwi.affine, dwi.grid), tissue, left, shape))
    sure = float(found.probabilities[found.mask].max(-1).mean()) if found.mask.any() else 0.0
    return _Held(found, misfit, misfit - sure)


def _misfit(head: Features) -> float:
    """Mean squared difference of tissues from the template's when their middles meet."""
    template = mni_template().features()
    coarse, own = template.lattice.with_spacing(_SPACING), head.lattice.with_spacing(_SPACING)
    near = near_brain(template, coarse)
    target = resampled(template.tissue, template.lattice, coarse)[:, near]
    m = torch.as_tensor(starting_affine(head, template), dtype=torch.float32)
    there = coarse.points()[near] @ m[:3, :3].T + m[:3, 3]
    seen = inside(own, there)
    found = sample(resampled(head.tissue, head.lattice, own), own, there)
    return float((((found - target) ** 2).sum(0) * seen).sum() / seen.sum().clamp(min=1))


def _end(row: NDArray[np.float64]) -> str:
    """Where an axis of the head points in the header's space."""
    axis = int(np.abs(row).argmax())
    return _ENDS[axis][int(row[axis] > 0)]
