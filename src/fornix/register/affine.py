"""From one head to another by an affine map: a start by where tissues lie, then the best overlap."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from fornix.register.features import Features, elements, matrices
from fornix.register.grids import Affine, Lattice, inside, resampled, sample

#: mm between the points of each round, coarse to fine.
_SPACINGS = (12.0, 8.0, 5.0)
#: Blur before that, over the spacing. With half of it the two lattices' interpolation, which depends on how
#: they lie to each other, made minima 2 to 3 mm beside the best one (one head turned by its header).
_BLUR = 1.0
#: Weight of a squared difference of shape tensors (norm FA), of sides, and of tissues.
SHAPE_WEIGHT, SIDE_WEIGHT = 2.0, 0.3
#: Litres of a tissue on one side from which its middle counts as a landmark.
_SOME = 0.004
#: Steps of Newton's iteration: sizes from a half to two reach 1 to a millionth.
_NEWTON = 6
#: Free parameters by kind of map: three turns and shifts, then three sizes, then three shears.
KINDS = {"rigid": 6, "similarity": 7, "affine": 12}


@dataclass(frozen=True, eq=False)
class AffineMatch:
    """An affine map and how well it fits.

    Attributes:
        matrix: (4, 4) world mm of the fixed head to world mm of the moving head.
        difference: Mean squared difference of the features where both are, after it.
    """

    matrix: Affine
    difference: float


def match_affine(
    moving: Features, fixed: Features, *, kind: str = "affine", start: Affine | None = None
) -> AffineMatch:
    """The affine map under which a moving head is most like a fixed one.

    Args:
        moving: The head whose images shall be resampled.
        fixed: The head onto whose grid they shall come.
        kind: `rigid`, `similarity` or `affine`.
        start: (4, 4) fixed world to moving world; by the middles of tissues if absent.
    """
    first = starting_affine(moving, fixed) if start is None else start
    centre = centre_of(fixed)
    if kind == "rigid":
        first = _unscaled(first, centre)
    count = KINDS[kind]
    base = first
    for spacing in _SPACINGS:
        base = _refined(moving, fixed, base, centre, spacing, count)
    return AffineMatch(base, _difference(moving, fixed, base, _SPACINGS[-1]))


def landmarks(head: Features) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Middles (12, 3) in world mm of six tissues on the left and on the right; their litres (12,)."""
    points = head.lattice.points().numpy().reshape(-1, 3)
    litre = float(np.prod(head.lattice.spacing)) / 1e6
    middles, sizes = [], []
    for tissue in head.tissue:
        for side in (head.left, 1 - head.left):
            weight = (tissue * side).numpy().reshape(-1).astype(np.float64)
            total = weight.sum()
            middles.append(weight @ points / max(total, 1e-9))
            sizes.append(total * litre)
    return np.array(middles), np.array(sizes)


def starting_affine(moving: Features, fixed: Features) -> Affine:
    """The similarity under which the middles of tissues meet (Umeyama, IEEE TPAMI 1991)."""
    (source, n), (target, m) = landmarks(fixed), landmarks(moving)
    weight = np.where(np.minimum(n, m) > _SOME, np.sqrt(np.minimum(n, m)), 0)
    if (weight > 0).sum() < 3:
        shift = np.eye(4)
        shift[:3, 3] = centre_of(moving) - centre_of(fixed)
        return shift
    weight = weight / weight.sum()
    here, there = weight @ source, weight @ target
    a, b = source - here, target - there
    u, s, v = np.linalg.svd((b * weight[:, None]).T @ a)
    sign = np.array([1, 1, np.sign(np.linalg.det(u) * np.linalg.det(v))])
    turn = u * sign @ v
    scale = float((s * sign).sum() / max((weight[:, None] * a**2).sum(), 1e-9))
    scale = float(np.clip(scale, 0.75, 1.3))
    made = np.eye(4)
    made[:3, :3] = scale * turn
    made[:3, 3] = there - made[:3, :3] @ here
    return made


def _unscaled(matrix: Affine, centre: NDArray[np.float64]) -> Affine:
    """The rotation nearest to an affine map, about a point that goes where it went."""
    made = np.eye(4)
    made[:3, :3] = _polar(torch.as_tensor(matrix[:3, :3], dtype=torch.float64)).numpy()
    made[:3, 3] = matrix[:3, :3] @ centre + matrix[:3, 3] - made[:3, :3] @ centre
    return made


def centre_of(head: Features) -> NDArray[np.float64]:
    """Middle of the brain (3,) in world mm."""
    brain = head.brain.reshape(-1)
    points = head.lattice.points().reshape(-1, 3)
    return np.asarray((brain @ points / brain.sum().clamp(min=1e-6)).numpy(), np.float64)


def stacked(head: Features, lattice: Lattice, width: float = 0.5) -> torch.Tensor:
    """Tissue, signed side and shape on a lattice, weighted so that squares add up: (13, X, Y, Z)."""
    side = SIDE_WEIGHT**0.5 * (2 * head.left - 1) * head.brain
    scale = torch.tensor([1, 1, 1, 2, 2, 2.0]).sqrt() * SHAPE_WEIGHT**0.5
    shape = head.shape * scale[:, None, None, None]
    return resampled(torch.cat([head.tissue, side[None], shape]), head.lattice, lattice, width)


def turned(images: torch.Tensor, turn: torch.Tensor) -> torch.Tensor:
    """`stacked` images (13, ...) whose tensors are turned by rotations (..., 3, 3)."""
    root = torch.tensor([1, 1, 1, 2, 2, 2.0]).sqrt().reshape(-1, *[1] * (images.ndim - 1))
    tensor = matrices(images[7:] / root)
    return torch.cat([images[:7], elements(turn @ tensor @ turn.transpose(-1, -2)) * root])


def _refined(
    moving: Features, fixed: Features, base: Affine, centre: NDArray[np.float64], spacing: float, count: int
) -> Affine:  # fmt: skip
    coarse, own = fixed.lattice.with_spacing(spacing), moving.lattice.with_spacing(spacing)
    target, source = stacked(fixed, coarse, _BLUR), stacked(moving, own, _BLUR)
    points = coarse.points()
    near = near_brain(fixed, coarse)
    points, target = points[near], target[:, near]
    middle = torch.as_tensor(centre, dtype=torch.float32)
    start = torch.as_tensor(base, dtype=torch.float32)
    free = torch.zeros(count, requires_grad=True)

    def matrix() -> torch.Tensor:
        # In the fixed head's world, so that no header of the moving one changes what is sought.
        return start @ pose_matrix(free, middle)

    def loss() -> torch.Tensor:
        m = matrix()
        there = points @ m[:3, :3].T + m[:3, 3]
        seen = inside(own, there)
        turn = nearest_rotation(m[:3, :3])
        found = turned(sample(source, own, there), turn.T.expand(len(there), 3, 3))
        each = ((found - target) ** 2).sum(0)
        # Shrinking out of the picture must not pay: what is not seen costs what it holds.
        lost = (target**2).sum(0) * (1 - seen)
        return (each * seen).sum() / seen.sum().clamp(min=1) + 0.1 * lost.mean()

    minimise(loss, free, steps=40)
    with torch.no_grad():
        return np.asarray(matrix().numpy(), np.float64)


def minimise(loss: Callable[[], torch.Tensor], free: torch.Tensor, *, steps: int) -> None:
    """Change parameters until a loss of them is least, by LBFGS."""
    search = torch.optim.LBFGS(
        [free], lr=1.0, max_iter=steps, history_size=12, line_search_fn="strong_wolfe"
    )

    def closure() -> torch.Tensor:
        search.zero_grad()
        value = loss()
        value.backward()
        return value

    search.step(closure)


def near_brain(fixed: Features, lattice: Lattice, margin: float = 8.0) -> torch.Tensor:
    """Points (X, Y, Z) of a lattice in the fixed brain or some mm around it, bool."""
    brain = resampled(fixed.brain[None], fixed.lattice, lattice)
    reach = 2 * int(np.ceil(margin / lattice.spacing.mean())) + 1
    wide = torch.nn.functional.max_pool3d(brain[None], reach, stride=1, padding=reach // 2)
    return torch.as_tensor(wide[0, 0] > 0.2)


def pose_matrix(free: torch.Tensor, middle: torch.Tensor) -> torch.Tensor:
    """A map near to none, about a point, from turns, shifts, log sizes and shears; all about 1."""
    zero = free.new_zeros(())
    x, y, z = (0.1 * free[i] for i in range(3))
    skew = torch.stack([zero, -z, y, z, zero, -x, -y, x, zero]).reshape(3, 3)
    linear = torch.linalg.matrix_exp(skew)
    if len(free) == 7:
        linear = linear * torch.exp(0.1 * free[6])
    elif len(free) == 12:
        sizes = torch.diag(torch.exp(0.1 * free[6:9]))
        a, b, c = (0.1 * free[i] for i in range(9, 12))
        one = torch.ones(())
        shear = torch.stack([one, a, b, zero, one, c, zero, zero, one]).reshape(3, 3)
        linear = linear @ sizes @ shear
    shift = 10 * free[3:6] + middle - linear @ middle
    top = torch.cat([linear, shift[:, None]], 1)
    return torch.cat([top, torch.tensor([[0.0, 0, 0, 1]])])


def _polar(matrix: torch.Tensor) -> torch.Tensor:
    """The rotation nearest to a matrix (3, 3)."""
    u, _, v = torch.linalg.svd(matrix)
    sign = float(torch.sign(torch.linalg.det(u @ v)))
    return u @ torch.diag(torch.tensor([1.0, 1.0, sign], dtype=matrix.dtype)) @ v


def _difference(moving: Features, fixed: Features, matrix: Affine, spacing: float) -> float:
    coarse, own = fixed.lattice.with_spacing(spacing), moving.lattice.with_spacing(spacing)
    near = near_brain(fixed, coarse)
    target, points = stacked(fixed, coarse)[:, near], coarse.points()[near]
    m = torch.as_tensor(matrix, dtype=torch.float32)
    there = points @ m[:3, :3].T + m[:3, 3]
    seen = inside(own, there)
    turn = _polar(m[:3, :3]).T.expand(len(there), 3, 3)
    found = turned(sample(stacked(moving, own), own, there), turn)
    return float((((found - target) ** 2).sum(0) * seen).sum() / seen.sum().clamp(min=1))


def nearest_rotation(matrix: torch.Tensor) -> torch.Tensor:
    """The rotation nearest to a matrix (3, 3) of positive determinant, differentiable.

    By Newton's iteration (Higham, SIAM J Sci Stat Comput 1986): the singular value decomposition has no
    gradient where sizes are equal, as they are in every rigid map.
    """
    turn = matrix
    for _ in range(_NEWTON):
        turn = 0.5 * (turn + torch.linalg.inv(turn).T)
    return turn
