"""Named acquisition schemes like those in real use, and random ones.

b0 volumes are interleaved. Shells of one scheme are rotated against each other, so that no
direction is measured twice.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from fornix.core.errors import FornixError
from fornix.core.gradients import Gradients
from fornix.numerics.directions import spread


def shells(b0: int, *counts: tuple[float, int], seed: int = 0) -> Gradients:
    """A scheme of b0 volumes and shells, volumes of the shells mixed and the b0s spread among them.

    counts: (b in s/mm², number of directions) of each shell.
    """
    rng = np.random.default_rng(seed)
    bvals: list[NDArray[np.float64]] = []
    rows: list[NDArray[np.float64]] = []
    for i, (level, count) in enumerate(counts):
        turn = Rotation.random(random_state=seed + i) if i else Rotation.identity()
        sign = rng.choice([-1.0, 1.0], size=(count, 1))  # whole-sphere, as eddy correction wants
        rows.append(turn.apply(spread(count).copy()) * sign)
        bvals.append(np.full(count, float(level)))
    b, directions = np.concatenate(bvals), np.concatenate(rows)
    if len(counts) > 1:
        order = rng.permutation(len(b))
        b, directions = b[order], directions[order]
    return _interleaved(b, directions, b0)


def dsi(bmax: float = 4000.0, radius_squared: int = 13) -> Gradients:
    """Diffusion spectrum imaging: the Cartesian q-space grid inside a sphere (Wedeen et al., MRM 2005).

    Args:
        bmax: Largest b, s/mm².
        radius_squared: Of the sphere in grid steps, where b is bmax; 13 gives 203 volumes, one a b0.
    """
    reach = int(np.floor(np.sqrt(radius_squared)))
    axis = np.arange(-reach, reach + 1)
    q = np.stack(np.meshgrid(axis, axis, axis, indexing="ij"), -1).reshape(-1, 3)
    length = (q**2).sum(1)
    keep = (length > 0) & (length <= radius_squared)
    q, length = q[keep], length[keep]
    order = np.lexsort((q[:, 2], q[:, 1], q[:, 0], length))
    q, length = q[order], length[order]
    directions = q / np.sqrt(length)[:, None]
    return _interleaved(bmax * length / radius_squared, directions, 1)


def _interleaved(b: NDArray[np.float64], directions: NDArray[np.float64], b0: int) -> Gradients:
    """b0 volumes first and at even distances."""
    total = len(b) + b0
    is_b0 = np.zeros(total, dtype=bool)
    is_b0[np.floor(np.arange(b0) * total / max(b0, 1)).astype(int)] = True
    bvals, table = np.zeros(total), np.zeros((total, 3))
    bvals[~is_b0], table[~is_b0] = b, directions
    return Gradients(bvals, table)


def _single(directions: int, b0: int, b: float = 1000.0) -> Callable[[], Gradients]:
    return lambda: shells(b0, (b, directions))


#: Every named scheme, made when asked for.
SCHEMES: dict[str, Callable[[], Gradients]] = {
    "dti6": _single(6, 1),
    "dti12": _single(12, 1),
    "dti15": _single(15, 1),
    "dti20": _single(20, 2),
    "dti30": _single(30, 3),
    "dti32": _single(32, 1),
    "dti64": _single(64, 5),
    "hcp": lambda: shells(18, (1000, 90), (2000, 90), (3000, 90)),
    "ukb": lambda: shells(5, (1000, 50), (2000, 50)),
    "abcd": lambda: shells(7, (500, 6), (1000, 15), (2000, 15), (3000, 60)),
    "bench96": lambda: shells(6, (1000, 30), (2000, 60)),
    "demo": lambda: shells(4, (1000, 24), (2000, 40)),
    "dsi": dsi,
}


def scheme(name: str) -> Gradients:
    """The scheme of this name; FornixError with the list of names where there is none.

    HCP-like (Sotiropoulos et al., NeuroImage 2013), UK-Biobank-like (Miller et al., Nat Neurosci
    2016), ABCD-like (Casey et al., Dev Cogn Neurosci 2018), DSI (Wedeen et al., MRM 2005).
    """
    if name not in SCHEMES:
        raise FornixError(f"there is no scheme {name!r}; choose one of: {', '.join(SCHEMES)}")
    return SCHEMES[name]()


def random_protocol(
    seed: int | np.random.Generator = 0,
    *,
    volumes: tuple[int, int] = (7, 130),
    bmax: tuple[float, float] = (700.0, 3000.0),
    max_shells: int = 3,
) -> Gradients:
    """A random but plausible scheme: 1 to max_shells shells, or (one in ten) a random q-space cloud.

    Args:
        seed: Of all chance.
        volumes: Fewest and most, b0s included (at least 7)
        bmax: Range of the outermost b, s/mm². Directions are evenly spread, or spread and jittered;
            b-values scatter a little, b0s may be at b = 5, as on real scanners.
        max_shells: At most so many.
    """
    if volumes[0] < 7 or volumes[1] < volumes[0]:
        raise FornixError(f"a random protocol needs 7 or more volumes, got the range {volumes}")
    rng = np.random.default_rng(seed)
    # Log-uniform: short scans are common and are where protocols differ most.
    total = round(np.exp(rng.uniform(np.log(volumes[0]), np.log(volumes[1]))))
    b0 = int(np.clip(rng.integers(1, max(2, total // 10) + 1), 1, total - 6))
    weighted = total - b0
    top = float(np.round(rng.uniform(*bmax) / 50) * 50)
    if rng.random() < 0.1 and weighted >= 30:
        directions = rng.standard_normal((weighted, 3))
        b = top * rng.uniform(0.05, 1, weighted) ** (2 / 3)
    else:
        count = int(rng.integers(1, min(max_shells, max(1, weighted // 6)) + 1))
        levels = top * np.sort(rng.uniform(0.25, 0.85, count - 1)) if count > 1 else np.array([])
        levels = np.round(np.append(levels, top) / 50) * 50
        shares = rng.dirichlet(levels / levels.mean() * 4) if count > 1 else np.ones(1)
        sizes = np.maximum(6, np.round(shares * weighted).astype(int))
        while sizes.sum() > weighted:
            sizes[np.argmax(sizes)] -= 1
        sizes[-1] += weighted - sizes.sum()
        made = [_turned_set(int(size), rng) for size in sizes]
        directions = np.concatenate(made)
        b = np.repeat(levels, sizes)
    if rng.random() < 0.3:
        b = b + rng.choice([-5.0, 0.0, 5.0], len(b))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    table = _interleaved(b, directions, b0)
    if rng.random() < 0.15:
        filled = np.where(table.b0_mask[:, None], [1.0, 0.0, 0.0], table.directions)
        table = Gradients(np.where(table.b0_mask, 5.0, table.bvals), filled)
    return table


def _turned_set(count: int, rng: np.random.Generator) -> NDArray[np.float64]:
    even = spread(count) * rng.choice([-1.0, 1.0], size=(count, 1))
    turned: NDArray[np.float64] = Rotation.random(random_state=int(rng.integers(2**31))).apply(even)
    if rng.random() < 0.25:
        turned = turned + 0.15 * rng.standard_normal(turned.shape)
    return turned
