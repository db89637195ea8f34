"""A T1 image of the same head onto a diffusion scan, by a rigid map.

The tissue network tells what each voxel of the scan holds. A T1 lies right where a weighted sum of tissues
and of the b0 explains most of its brightness: no contrast has to be known beforehand, as with the correlation
ratio (Roche et al., MICCAI 1998), of which this is the linear form with several given images.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import product

import numpy as np
import torch
from numpy.typing import NDArray

from fornix.core.errors import FornixError
from fornix.register.affine import centre_of, minimise, near_brain, pose_matrix
from fornix.register.features import Features
from fornix.register.grids import Affine, Lattice, blurred, inside, resampled, sample
from fornix.register.warp import Warp

#: Rounds: mm between points, smoothing of the T1 (mm, standard deviation), mm around the brain, starts that
#: go on to the next, whether the coil's shading is known by then.
_ROUNDS = (
    (10.0, 5.0, 8.0, 4, False), (6.0, 3.0, 6.0, 2, False), (4.0, 2.0, 4.0, 1, True), (4.0, 2.0, 4.0, 1, True),
)  # fmt: skip
#: Degrees about each axis, and mm along each, of the starts.
_TURNS, _SHIFTS = (-20.0, 0.0, 20.0), (-18.0, 18.0)
#: Steps of the search: of each start, and of each later round.
_STEPS, _LATER = 12, 40
#: Share of a T1's variance near the brain that tissues explain from which it is taken to be of the head.
_LEAST = 0.25
#: Share of the points that the T1 must hold.
_SEEN = 0.6


@dataclass(frozen=True, eq=False)
class Structural:
    """A T1 image.

    Attributes:
        data: (X, Y, Z), any unit.
        lattice: Where its voxels lie.
    """

    data: NDArray[np.float32]
    lattice: Lattice


@dataclass(frozen=True, eq=False)
class _Round:
    """Points of the scan, an orthonormal basis of what explains the T1 there, and the T1, smoothed.

    brain: probability at the points. gain: of the T1 at the points, which is divided out.
    """

    points: torch.Tensor
    basis: torch.Tensor
    brain: torch.Tensor
    image: torch.Tensor
    lattice: Lattice
    gain: torch.Tensor

    def read(self, matrix: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The T1's brightness at the points under a map, and the share of them that it holds."""
        there = self.points @ matrix[:3, :3].T + matrix[:3, 3]
        value = sample(self.image, self.lattice, there)[0] / self.gain
        return value, inside(self.lattice, there).mean()


def register_structural(
    t1: Structural,
    head: Features,
    b0: NDArray[np.floating],
    *,
    progress: Callable[[int, int], None] | None = None,
) -> Warp:
    """Where a T1 lies on a diffusion scan of the same head.

    Args:
        t1: With scalp or without; anywhere within about 30 degrees and 30 mm of where it should be.
        head: Features of the scan.
        b0: (X, Y, Z) mean b0 of the scan.
        progress: Told rounds done and all.

    Returns:
        The T1 moving, the scan fixed.

    Raises:
        FornixError: The scan shows no brain, or nowhere does the T1 look like its head.
    """
    if float(head.brain.max()) < 0.5:
        raise FornixError(
            "the tissue network finds no brain in the scan; nothing can be registered to it"
        )
    scale = float(np.percentile(t1.data, 99.5)) or 1.0
    bright = torch.from_numpy(np.clip(t1.data / np.float32(scale), 0, 1.2).astype(np.float32))
    centre = torch.as_tensor(centre_of(head), dtype=torch.float32)
    candidates = _starts(centre.numpy())
    for number, (spacing, smooth, margin, kept, shaded) in enumerate(_ROUNDS):
        looked = _looked(bright, t1.lattice, head, b0, spacing, smooth, margin)
        if shaded:
            looked = _unshaded(looked, candidates[0])
        steps = _STEPS if number == 0 else _LATER
        found = sorted(
            (_sought(looked, start, centre, steps) for start in candidates), key=lambda f: f[0]
        )
        candidates = [matrix for _, matrix in found[:kept]]
        if progress is not None:
            progress(number + 1, len(_ROUNDS))
    loss, matrix = found[0]
    explained = 1 - loss
    if explained < _LEAST:
        raise FornixError(
            f"the T1 looks like the scan's head nowhere (tissues explain {100 * explained:.0f}% of its "
            f"brightness, {100 * _LEAST:.0f}% at least are needed): is it of this person, and whole?"
        )
    return Warp(matrix, head.lattice, t1.lattice)


def _starts(centre: NDArray[np.float32]) -> list[Affine]:
    """As the headers say, turned about each axis, and moved along each."""
    made = []
    for x, y, z in product(_TURNS, repeat=3):
        free = torch.tensor([*np.radians([x, y, z]) * 10, 0, 0, 0], dtype=torch.float32)
        made.append(np.asarray(pose_matrix(free, torch.as_tensor(centre)).numpy(), np.float64))
    for axis, shift in product(range(3), _SHIFTS):
        moved = np.eye(4)
        moved[axis, 3] = shift
        made.append(moved)
    return made


def _looked(
    bright: torch.Tensor, own: Lattice, head: Features, b0: NDArray[np.floating], spacing: float,
    smooth: float, margin: float,
) -> _Round:  # fmt: skip
    lattice = head.lattice.with_spacing(spacing)
    level = float(np.median(b0[head.brain.numpy() > 0.5])) or 1.0
    shown = torch.from_numpy(np.clip(b0 / level, 0, 4).astype(np.float32))
    images = torch.cat([head.tissue, shown[None]])
    there = resampled(images, head.lattice, lattice)
    near = near_brain(head, lattice, margin)
    points = lattice.points()[near]
    columns = torch.cat([torch.ones(1, len(points)), there[:, near]]).T.double()
    basis, size, _ = torch.linalg.svd(columns, full_matrices=False)
    basis = basis[:, size > 1e-3 * size[0]].float()
    # A grid that is no finer than it needs to be: reading it is what takes time.
    coarse = own.with_spacing(max(smooth, float(own.spacing.min())))
    sigma = np.sqrt(np.maximum(smooth**2 - (0.4 * own.spacing) ** 2, 0)) / own.spacing
    image = sample(blurred(bright[None], sigma), own, coarse.points())
    brain = there[:6, near].sum(0).clamp(0, 1)
    return _Round(points, basis, brain, image, coarse, torch.ones(len(points)))


def _unshaded(looked: _Round, matrix: Affine) -> _Round:
    """The same without the coil's shading, by which the T1 is brighter than told: of second order."""
    value, _ = looked.read(torch.as_tensor(matrix, dtype=torch.float32))
    predicted = looked.basis @ (looked.basis.T @ value)
    x, y, z = ((looked.points - looked.points.mean(0)) / 80.0).T
    one = torch.ones_like(x)
    terms = torch.stack([one, x, y, z, x * x, y * y, z * z, x * y, x * z, y * z], 1)
    weight = looked.brain.sqrt()[:, None]
    columns = weight * terms * predicted[:, None]
    found = torch.linalg.lstsq(columns, weight * value[:, None]).solution
    return replace(looked, gain=(terms @ found)[:, 0].clamp(0.5, 2.0))


def _sought(
    looked: _Round, start: Affine, centre: torch.Tensor, steps: int
) -> tuple[float, Affine]:
    """Share of the T1's variance that is not explained, and the map (fixed world to T1's world)."""
    first = torch.as_tensor(start, dtype=torch.float32)
    free = torch.zeros(6, requires_grad=True)

    def matrix() -> torch.Tensor:
        return first @ pose_matrix(free, centre)

    def loss() -> torch.Tensor:
        value, seen = looked.read(matrix())
        away = value - value.mean()
        explained = (looked.basis.T @ value).square().sum() - len(value) * value.mean() ** 2
        share = explained / away.square().sum().clamp(min=1e-6)
        return 1 - share + (0.0 if float(seen) > _SEEN else 1.0)

    minimise(loss, free, steps=steps)
    with torch.no_grad():
        return float(loss()), np.asarray(matrix().numpy(), np.float64)
