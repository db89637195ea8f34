"""Whether left and right of a scan are where its header says: by the brain's own asymmetry.

The template's fibres are the mean of 1,065 adults, and not symmetric: the arcuate fasciculus and others
differ from side to side, alike in most people. A head is registered to the mean of the template and its
mirror image, which favours no side. What is left of its asymmetry there is compared with the template's. A
head whose header has left and right swapped shows the opposite.
"""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache

import numpy as np
import torch

from fornix.register.affine import match_affine
from fornix.register.deformable import LEVELS, match_deformable
from fornix.register.features import Features
from fornix.register.grids import Affine, Lattice, sample
from fornix.register.mean_head import carried_head
from fornix.register.template import mni_template
from fornix.register.warp import Warp

#: Match of asymmetries under which a warning is given; chosen on the 12 scans of `fornix bench side`.
SWAPPED = -0.01
#: Share of the template's white matter, of both sides, that must have been scanned to say anything.
_SEEN = 0.8
#: mm: places nearer to the middle have no side.
_MIDDLE = 3.0
#: Elements of a tensor that change their sign in a mirror: xy and xz.
_SIGNS = torch.tensor([1.0, 1, 1, -1, -1, 1])


def mirrored(head: Features) -> Features:
    """The mirror image, left for right, of a head on a grid that is symmetric about x = 0."""
    points = head.lattice.points() * torch.tensor([-1.0, 1, 1])

    def across(images: torch.Tensor) -> torch.Tensor:
        return sample(images, head.lattice, points)

    return Features(
        head.lattice,
        across(head.tissue),
        1 - across(head.left[None])[0],
        across(head.shape) * _SIGNS[:, None, None, None],
    )


def asymmetry_match(head: Features, start: Affine | None = None) -> float | None:
    """How like the template's a head's asymmetry is.

    Args:
        head: Of a scan.
        start: (4, 4) template's world to the scan's, if it is known about.

    Returns:
        The sum of two correlations over white matter, of the differences of FA and of tensors between the
        sides: above 0 in 11 of 12 real scans, and below in 11 of 12 with their sides exchanged; None where
        too little was scanned.
    """
    template, other, between, white = _sides()
    matrix = match_affine(head, between, start=start).matrix
    # The finest level costs most and moves least.
    velocity, grid = match_deformable(head, between, matrix, levels=LEVELS[:2])
    warp = Warp(matrix, between.lattice, head.lattice, velocity, grid)
    carried = carried_head(head, between.lattice, warp.to_moving)
    mirror = mirrored(carried)
    one_side = white & (between.lattice.points()[..., 0] > _MIDDLE)
    there = one_side & (carried.brain > 0.5) & (mirror.brain > 0.5)
    if float(there.sum()) < _SEEN * float(one_side.sum()):
        return None
    anisotropy = _alike((_fa(carried) - _fa(mirror))[there], (_fa(template) - _fa(other))[there])
    tensors = _alike(
        (carried.shape - mirror.shape)[:, there], (template.shape - other.shape)[:, there]
    )
    return anisotropy + tensors


def side_doubt(head: Features, start: Affine | None = None) -> str:
    """A line where left and right of a scan seem swapped; empty where they do not."""
    found = asymmetry_match(head, start)
    if found is None or found > SWAPPED:
        return ""
    return (
        f"left and right may be swapped: the brain's asymmetry mirrors the template's (match {found:.2f}, "
        "above 0 in most heads; of 12 right scans none was warned of). Nothing was changed; compare with a "
        "scan of known sides"
    )


def with_side_doubt(warp: Warp, head: Features) -> Warp:
    """A warp onto the template, with the line of `side_doubt` among its notes where there is one."""
    doubt = side_doubt(head, warp.matrix)
    return replace(warp, notes=(*warp.notes, doubt)) if doubt else warp


@lru_cache(maxsize=1)
def _sides() -> tuple[Features, Features, Features, torch.Tensor]:
    """The template, its mirror image, their mean, and its white matter, on a symmetric grid."""
    stored = mni_template().features()
    affine = stored.lattice.affine.copy()
    affine[0, 3] = -affine[0, 0] * (stored.lattice.shape[0] - 1) / 2
    lattice = Lattice(affine, stored.lattice.shape)
    points = lattice.points()
    template = Features(
        lattice,
        sample(stored.tissue, stored.lattice, points),
        sample(stored.left[None], stored.lattice, points)[0],
        sample(stored.shape, stored.lattice, points),
    )
    other = mirrored(template)
    between = Features(
        lattice,
        (template.tissue + other.tissue) / 2,
        (template.left + other.left) / 2,
        (template.shape + other.shape) / 2,
    )
    return template, other, between, between.tissue[2] > 0.5


def _fa(head: Features) -> torch.Tensor:
    return (head.shape[:3].square().sum(0) + 2 * head.shape[3:].square().sum(0)).sqrt()


def _alike(a: torch.Tensor, b: torch.Tensor) -> float:
    one, two = (v.reshape(-1).double().numpy() for v in (a, b))
    return float(np.corrcoef(one, two)[0, 1])
