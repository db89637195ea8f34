"""A template of a study's own heads: their mean look in their mean shape, found in rounds.

Every round registers all heads to the mean so far, takes the mean of the maps out, and averages again: no
head is favoured, nor the one that was started from, of which only the pose stays (Guimond et al., CVIU 2000;
Avants et al., NeuroImage 2010).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from scipy import linalg

from fornix.core.errors import FornixError
from fornix.register.affine import centre_of
from fornix.register.deformable import LEVELS, Level
from fornix.register.features import Features, matrices
from fornix.register.grids import Lattice
from fornix.register.halfway import common_grid
from fornix.register.mean_head import carried_head, mean_head, reach
from fornix.register.register import register
from fornix.register.template import Template, mni_template
from fornix.register.warp import PointMap, Warp

#: mm: voxels of the template.
SPACING = 2.0
#: Rounds: the first affine, the others deformable.
ROUNDS = 4


@dataclass(frozen=True, eq=False)
class Round:
    """The heads in the mean of one round.

    Attributes:
        mean: Their mean features.
        maps: Of each head: from the mean's world points to its own.
        difference: Mean squared difference of the heads' features from the mean, in its brain.
    """

    mean: Features
    maps: tuple[PointMap, ...]
    difference: float


def study_template(
    heads: Sequence[Features],
    *,
    rounds: int = ROUNDS,
    spacing: float = SPACING,
    levels: tuple[Level, ...] = LEVELS,
    threads: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> list[Round]:
    """The mean of some heads, round by round; the last one is the template.

    Args:
        heads: Features of two scans or more.
        rounds: After the first mean, of heads that were only turned and shifted: one affine round, then
            deformable ones.
        spacing: Mm of the template's voxels.
        levels: Of the deformable registration.
        threads: Of torch; as it is if absent.
        progress: Told registrations done and all.

    Raises:
        FornixError: Fewer than two heads, or one without a brain.
    """
    if len(heads) < 2:
        raise FornixError("a template needs two scans or more")
    total, done = len(heads) * (rounds + 1), 0

    def step() -> None:
        nonlocal done
        done += 1
        if progress is not None:
            progress(done, total)

    pose = mni_template().features()
    poses = []
    for head in heads:
        poses.append(register(head, pose, kind="rigid", threads=threads).matrix)
        step()
    lattice = common_grid(heads, poses, spacing)
    start = [Warp(m, lattice, h.lattice).to_moving for m, h in zip(poses, heads)]
    made = [_averaged(heads, start, lattice)]
    for number in range(rounds):
        warps = []
        for head in heads:
            kind = "affine" if number == 0 else "deformable"
            warps.append(register(head, made[-1].mean, kind=kind, levels=levels, threads=threads))
            step()
        back = mean_shape(warps, np.asarray(centre_of(made[-1].mean)))
        maps = [_through(back, warp) for warp in warps]
        made.append(_averaged(heads, maps, lattice))
    return made


def mean_shape(warps: Sequence[Warp], centre: np.ndarray) -> Warp:
    """How the heads lie on the mean on the whole, without their poses, as a map from it.

    Args:
        warps: Of each head, the same mean fixed.
        centre: (3,) world mm about which sizes are meant.
    """
    stretch = np.zeros((3, 3))
    for warp in warps:
        # A = R S: the turn is the head's pose in its scanner, the stretch its shape.
        stretch += np.real(linalg.logm(linalg.polar(warp.matrix[:3, :3])[1])) / len(warps)
    matrix = np.eye(4)
    matrix[:3, :3] = linalg.expm(stretch)
    matrix[:3, 3] = centre - matrix[:3, :3] @ centre
    velocities = [w.velocity for w in warps if w.velocity is not None]
    lattice = warps[0].fixed
    if len(velocities) < len(warps):
        return Warp(matrix, lattice, lattice)
    mean = torch.stack(velocities).mean(0)
    return Warp(matrix, lattice, lattice, mean, warps[0].control)


def as_template(mean: Features) -> Template:
    """A mean in the form that is stored; `Template.features` gives it back.

    Peaks along the tensor's axes, each as long as its part above the least, say all of a trace-free tensor.
    """
    values, axes = torch.linalg.eigh(matrices(mean.shape))
    length = values - values[..., :1]
    peaks = (axes * length[..., None, :]).movedim(-1, -2).flip(-2)
    fa = values.square().sum(-1).sqrt()
    return Template(
        mean.lattice.affine,
        mean.tissue.numpy(),
        mean.left.clamp(0, 1).numpy(),
        fa.numpy().astype(np.float32),
        np.ascontiguousarray(peaks.numpy(), np.float32),
    )


def _through(back: Warp, warp: Warp) -> PointMap:
    return lambda points: warp.to_moving(back.to_fixed(points))


def _averaged(heads: Sequence[Features], maps: Sequence[PointMap], lattice: Lattice) -> Round:
    carried = [carried_head(h, lattice, m) for h, m in zip(heads, maps)]
    seen = [reach(h.lattice, lattice, m) for h, m in zip(heads, maps)]
    mean = mean_head(carried, seen)
    brain = mean.brain > 0.5
    apart = 0.0
    for head, there in zip(carried, seen):
        inside = brain & (there > 0)
        tissue = (head.tissue - mean.tissue)[:, inside].square().sum(0).mean()
        shape = matrices((head.shape - mean.shape)[:, inside]).square().sum((-1, -2)).mean()
        apart += float(tissue + 2 * shape) / len(heads)
    return Round(mean, tuple(maps), apart)
