"""What a voxel measures of a finer grid: slice profile, truncated k-space, and their adjoint.

A scan in large voxels is taken for the product of one linear operator per axis on the image in small ones:
y = (Ax ⊗ Ay ⊗ Az) x. Across slices a voxel weighs what lies in it by the slice's profile; in the plane it is
what a sampled and truncated k-space leaves, a sinc, wider where part of the lines was not measured.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from fornix.core.errors import FornixError

#: Profiles: `slice` a slice with flanks, `sinc` truncated k-space, `box` the mean over the voxel.
PROFILES = ("slice", "sinc", "box")
#: Width of a slice profile's flanks, in slices, and how far a sinc is followed, in voxels.
_FLANK, _REACH = 0.3, 4.0
#: Samples of a small voxel over which a profile is integrated.
_SAMPLES = 8
#: Voxels of an axis are taken for those of the scan where they differ by less, as a share.
SAME = 0.02


@dataclass(frozen=True, eq=False)
class Grid:
    """Where voxels lie.

    Attributes:
        shape: (X, Y, Z).
        affine: (4, 4) voxel to world (RAS+, mm).
    """

    shape: tuple[int, int, int]
    affine: NDArray[np.float64]

    @property
    def voxel_size(self) -> NDArray[np.float64]:
        """(3,) mm."""
        return np.asarray(np.linalg.norm(self.affine[:3, :3], axis=0))

    def finer(self, voxel_size: NDArray[np.float64]) -> Grid:
        """The grid of this voxel size (3,) mm, same axes and centre, that fills the field of view.

        It differs from the field of view by half a small voxel at most.
        """
        step = np.asarray(voxel_size, dtype=np.float64) / self.voxel_size
        count = np.maximum(np.round(np.array(self.shape) / step).astype(int), 1)
        x, y, z = (int(n) for n in count)
        affine = self.affine.copy()
        affine[:3, :3] = self.affine[:3, :3] * step
        middle = self.affine[:3, :3] @ ((np.array(self.shape) - 1) / 2) + self.affine[:3, 3]
        affine[:3, 3] = middle - affine[:3, :3] @ ((count - 1) / 2)
        return Grid((x, y, z), affine)


def centres(large: int, small: int, step: float) -> NDArray[np.float64]:
    """Centres of small voxels of an axis, in indices of the large ones; the middles of both agree.

    Args:
        large: How many large voxels.
        small: How many small ones.
        step: A small voxel's edge over a large one's.
    """
    return np.asarray((np.arange(small) - (small - 1) / 2) * step + (large - 1) / 2)


@lru_cache(maxsize=64)
def axis_operator(
    large: int, small: int, step: float, profile: str, partial_fourier: float = 1.0
) -> sparse.csr_matrix:
    """(large, small) what each large voxel weighs of the small ones; rows sum to 1.

    Args:
        large: As in `centres`.
        small: As in `centres`.
        step: As in `centres`.
        profile: One of PROFILES.
        partial_fourier: Share of the lines that was measured, above 0.5 to 1; widens a sinc.
    """
    if profile not in PROFILES:
        raise FornixError(f"no profile {profile!r}; choose one of: {', '.join(PROFILES)}")
    if not 0.5 < partial_fourier <= 1:
        raise FornixError(f"partial Fourier lies above 0.5 up to 1, not {partial_fourier:g}")
    if large == small and abs(step - 1) < SAME:
        return sparse.identity(large, dtype=np.float32, format="csr")
    inside = ((np.arange(_SAMPLES) + 0.5) / _SAMPLES - 0.5) * step
    at = centres(large, small, step)[None, :, None] + inside - np.arange(large)[:, None, None]
    weight = _profile(at, profile, partial_fourier).mean(-1)
    weight[np.abs(weight) < 1e-5 * np.abs(weight).max()] = 0
    weight /= weight.sum(1, keepdims=True)
    return sparse.csr_matrix(weight.astype(np.float32))


def _profile(at: NDArray[np.float64], kind: str, partial_fourier: float) -> NDArray[np.float64]:
    """The weight of what lies this many voxels from a voxel's centre."""
    distance = np.abs(at)
    if kind == "box":
        return np.asarray(distance < 0.5, dtype=np.float64)
    if kind == "slice":
        return np.clip((0.5 + _FLANK / 2 - distance) / _FLANK, 0, 1)
    low = 2 * partial_fourier - 1
    # Of an image without phase, lines measured on one side only leave half of what both would.
    wave = (np.sinc(at) + low * np.sinc(low * at)) / 2
    return wave * np.cos(np.pi * np.clip(distance / _REACH, 0, 1) / 2) ** 2


def interpolator(places: NDArray[np.float64], large: int) -> sparse.csr_matrix:
    """(small, large) weights of linear interpolation at places (small,); ends are repeated."""
    at, small = np.clip(places, 0, large - 1), len(places)
    low = np.minimum(np.floor(at).astype(int), max(large - 2, 0))
    share = (at - low).astype(np.float32)
    rows = np.tile(np.arange(small), 2)
    columns = np.r_[low, np.minimum(low + 1, large - 1)]
    return sparse.csr_matrix((np.r_[1 - share, share], (rows, columns)), shape=(small, large))


@dataclass(frozen=True, eq=False)
class Measurement:
    """The operator from small voxels to measured ones.

    Attributes:
        axes: One (large, small) sparse matrix per axis.
    """

    axes: tuple[sparse.csr_matrix, sparse.csr_matrix, sparse.csr_matrix]

    @classmethod
    def of(
        cls, large: Grid, small: Grid, profiles: tuple[str, str, str],
        partial_fourier: tuple[float, float, float] = (1.0, 1.0, 1.0),
    ) -> Measurement:  # fmt: skip
        """The operator between two grids of one field of view.

        Args:
            large: As measured.
            small: Of `Grid.finer`.
            profiles: Of each axis, of PROFILES.
            partial_fourier: Of each axis.
        """
        step = small.voxel_size / large.voxel_size
        x, y, z = (
            axis_operator(n, m, round(float(s), 6), kind, share)
            for n, m, s, kind, share in zip(
                large.shape, small.shape, step, profiles, partial_fourier, strict=True
            )
        )
        return cls((x, y, z))

    def measured(self, image: NDArray[np.floating]) -> NDArray[np.float32]:
        """What the large voxels hold of an image (x, y, z, …): (X, Y, Z, …)."""
        return along(self.axes, image)

    def adjoint(self, image: NDArray[np.floating]) -> NDArray[np.float32]:
        """The transpose of `measured`: (X, Y, Z, …) to (x, y, z, …)."""
        return along(tuple(a.T.tocsr() for a in self.axes), image)

    def spread(self, image: NDArray[np.floating]) -> NDArray[np.float32]:
        """Values of large voxels laid on the small ones: the adjoint, with weights that sum to 1."""
        turned = []
        for axis in self.axes:
            back = axis.maximum(0).T.tocsr()
            total = np.asarray(back.sum(1)).ravel()
            turned.append(sparse.diags(1 / np.maximum(total, 1e-6)) @ back)
        return along(tuple(turned), image)


def along(
    matrices: tuple[sparse.csr_matrix, ...], image: NDArray[np.floating]
) -> NDArray[np.float32]:
    """One matrix applied along each axis of an image (x, y, z, …)."""
    out = np.asarray(image, dtype=np.float32)
    for axis, matrix in enumerate(matrices):
        moved = np.moveaxis(out, axis, 0)
        if matrix.shape[1] != len(moved):
            raise FornixError(
                f"the image has {len(moved)} voxels along axis {axis}, the operator {matrix.shape[1]}"
            )
        rest = moved.shape[1:]
        made = matrix @ np.ascontiguousarray(moved).reshape(len(moved), -1)
        out = np.moveaxis(np.asarray(made, np.float32).reshape(-1, *rest), 0, axis)
    return np.ascontiguousarray(out)
