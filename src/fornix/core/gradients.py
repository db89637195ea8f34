"""The gradient table, which knows its frame: b-values and unit directions in world (RAS+) axes.

FSL's `bvec` files are in voxel axes with x flipped where the affine's determinant is positive;
MRtrix's gradient files are in world axes. Both are converted at the door, here, and nowhere else.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fornix.core.errors import FornixError
from fornix.core.protocol import ProtocolFacts

B0_THRESHOLD = 50.0  # s/mm²


@dataclass(frozen=True)
class Shell:
    """Volumes whose b-values lie together. b: their mean, s/mm²; volumes: their indices."""

    b: float
    volumes: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.volumes)


@dataclass(frozen=True, eq=False)
class Gradients:
    """One b-value and one direction per volume.

    Attributes:
        bvals: (N,) float64, s/mm².
        directions: (N, 3) float64, unit vectors in world (RAS+) axes; zero only where b is a b0.
        b0_threshold: A volume is a b0 if b <= this; its true b is still used in every fit.
        notes: What was changed on the way in, one line each.

    Raises:
        FornixError: Where the table cannot be right; see the messages.
    """

    bvals: NDArray[np.float64]
    directions: NDArray[np.float64]
    b0_threshold: float = B0_THRESHOLD
    notes: tuple[str, ...] = field(default=())

    def __post_init__(self) -> None:
        bvals = np.array(self.bvals, dtype=np.float64).reshape(-1)
        directions = np.array(self.directions, dtype=np.float64)
        if directions.shape != (len(bvals), 3):
            raise FornixError(
                f"{len(bvals)} b-values need directions of shape ({len(bvals)}, 3), "
                f"got {directions.shape}"
            )
        if not np.isfinite(bvals).all() or (bvals < 0).any():
            bad = int(np.flatnonzero(~np.isfinite(bvals) | (bvals < 0))[0])
            raise FornixError(
                f"b-value of volume {bad} is {bvals[bad]}; it must be finite and >= 0"
            )
        notes = list(self.notes)
        directions, more = _unit_directions(bvals, directions, self.b0_threshold)
        notes += more
        bvals.flags.writeable = directions.flags.writeable = False
        object.__setattr__(self, "bvals", bvals)
        object.__setattr__(self, "directions", directions)
        object.__setattr__(self, "notes", tuple(notes))

    def __len__(self) -> int:
        return len(self.bvals)

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, Gradients)
            and np.array_equal(self.bvals, other.bvals)
            and np.array_equal(self.directions, other.directions)
            and self.b0_threshold == other.b0_threshold
        )

    @property
    def b(self) -> NDArray[np.float64]:
        """b-values in ms/µm², the unit used inside."""
        return self.bvals / 1000.0

    @cached_property
    def b0_mask(self) -> NDArray[np.bool_]:
        """(N,) True where the volume is a b0."""
        return self.bvals <= self.b0_threshold

    @cached_property
    def shells(self) -> tuple[Shell, ...]:
        """The non-b0 volumes, clustered where sorted b-values leave a gap; ascending b."""
        index = np.flatnonzero(~self.b0_mask)
        index = index[np.argsort(self.bvals[index], kind="stable")]
        if not len(index):
            return ()
        b = self.bvals[index]
        gaps = np.diff(b) > np.maximum(50.0, 0.05 * b[1:])
        groups = np.split(index, np.flatnonzero(gaps) + 1)
        return tuple(Shell(float(self.bvals[g].mean()), tuple(sorted(map(int, g)))) for g in groups)

    @cached_property
    def facts(self) -> ProtocolFacts:
        """What this table can and cannot give, computed once."""
        return ProtocolFacts(
            self.bvals,
            self.directions,
            self.b0_mask,
            tuple(shell.b for shell in self.shells),
            lambda volumes: self.subset(volumes).facts,
        )

    def __repr__(self) -> str:
        return f"Gradients({self})"

    def __str__(self) -> str:
        parts = [f"{int(self.b0_mask.sum())} b0"]
        parts += [f"{len(s)} at b={s.b:.0f}" for s in self.shells[:8]]
        if len(self.shells) > 8:
            parts.append(f"… {len(self.shells)} shells up to b={self.shells[-1].b:.0f}")
        return ", ".join(parts)

    def subset(self, volumes: ArrayLike) -> Gradients:
        """The table of some volumes (indices or a boolean mask), in the order given."""
        index = np.asarray(volumes)
        return replace(self, bvals=self.bvals[index], directions=self.directions[index])

    def rotated(self, rotation: ArrayLike) -> Gradients:
        """Directions turned by one (3, 3) rotation, or by one per volume (N, 3, 3)."""
        matrix = np.broadcast_to(np.asarray(rotation, dtype=np.float64), (len(self), 3, 3))
        return replace(self, directions=np.einsum("nij,nj->ni", matrix, self.directions))

    @classmethod
    def from_fsl(
        cls,
        bvals: ArrayLike,
        bvecs: ArrayLike,
        affine: ArrayLike,
        b0_threshold: float = B0_THRESHOLD,
    ) -> Gradients:
        """From FSL's table: bvecs (3, N) or (N, 3) in voxel axes of an image with this affine."""
        bvals = np.atleast_1d(np.asarray(bvals, dtype=np.float64)).reshape(-1)
        bvecs, notes = _as_rows(np.asarray(bvecs, dtype=np.float64), len(bvals))
        if len(bvals) > 0 and bvals.max() <= 20 and (np.linalg.norm(bvecs, axis=1) > 0.5).any():
            raise FornixError(
                f"the largest b-value is {bvals.max():g}: these look like ms/µm², "
                "write b-values in s/mm² (multiply by 1000)"
            )
        world = bvecs @ fsl_to_world(affine).T
        return cls(bvals, world, b0_threshold, tuple(notes))

    def to_fsl(self, affine: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """(bvals (N,), bvecs (3, N)) for an image with this affine."""
        return self.bvals.copy(), fsl_to_world(affine).T @ self.directions.T

    @classmethod
    def from_mrtrix(cls, table: ArrayLike, b0_threshold: float = B0_THRESHOLD) -> Gradients:
        """From MRtrix's gradient table: rows x y z b, world axes."""
        table = np.atleast_2d(np.asarray(table, dtype=np.float64))
        if table.shape[1] != 4:
            raise FornixError(
                f"an MRtrix gradient table has 4 columns x y z b, got {table.shape[1]}"
            )
        return cls(table[:, 3], table[:, :3], b0_threshold)

    def to_mrtrix(self) -> NDArray[np.float64]:
        """(N, 4) rows x y z b, world axes."""
        return np.column_stack([self.directions, self.bvals])


def voxel_rotation(affine: ArrayLike) -> NDArray[np.float64]:
    """The orthogonal part of an affine: columns are the voxel axes in world space.

    A sheared affine gives the nearest orthogonal matrix (polar decomposition).
    """
    linear = np.asarray(affine, dtype=np.float64)[:3, :3]
    if not np.isfinite(linear).all() or abs(np.linalg.det(linear)) < 1e-9:
        raise FornixError(
            "the affine is singular: the header gives no usable voxel axes; repair it"
        )
    left, _, right = np.linalg.svd(linear / np.linalg.norm(linear, axis=0))
    return left @ right


def fsl_to_world(affine: ArrayLike) -> NDArray[np.float64]:
    """(3, 3) orthogonal matrix M with world = M @ fsl_bvec."""
    rotation = voxel_rotation(affine).copy()
    if np.linalg.det(rotation) > 0:
        rotation[:, 0] *= -1
    return rotation


def _as_rows(bvecs: NDArray[np.float64], count: int) -> tuple[NDArray[np.float64], list[str]]:
    if bvecs.ndim == 1 and bvecs.size == 3:
        bvecs = bvecs.reshape(3, 1)
    if bvecs.ndim != 2 or 3 not in bvecs.shape:
        raise FornixError(f"b-vectors must be 3 rows of {count} numbers, got shape {bvecs.shape}")
    if bvecs.shape == (3, count):
        return bvecs.T, []
    if bvecs.shape == (count, 3):
        return bvecs, ["b-vectors are stored as columns (N x 3); read as such"]
    found = bvecs.shape[1] if bvecs.shape[0] == 3 else bvecs.shape[0]
    raise FornixError(
        f"{count} b-values but {found} b-vectors; the two files do not belong together"
    )


def _unit_directions(
    bvals: NDArray[np.float64], directions: NDArray[np.float64], threshold: float
) -> tuple[NDArray[np.float64], list[str]]:
    notes = []
    b0 = bvals <= threshold
    finite: NDArray[np.bool_] = np.all(np.isfinite(directions), axis=1, keepdims=False)
    if not finite[~b0].all():
        bad = int(np.flatnonzero(~finite & ~b0)[0])
        raise FornixError(f"the b-vector of volume {bad} (b={bvals[bad]:g}) is not finite")
    directions = np.where(finite[:, None], directions, 0.0)
    norm = np.linalg.norm(directions, axis=1)
    zero = norm < 1e-6
    if (zero & ~b0).any():
        missing = np.flatnonzero(zero & ~b0)
        raise FornixError(
            f"volume {missing[0]} has b={bvals[missing[0]]:g} but a zero b-vector "
            f"({len(missing)} such volume(s)); correct the table, or raise --b0-threshold if it is a b0"
        )
    off = (np.abs(norm - 1) > 0.01) & ~zero & ~b0
    if off.any():
        notes.append(
            f"{int(off.sum())} b-vectors were not of unit length "
            f"(from {norm[off].min():.3f} to {norm[off].max():.3f}); normalised, b-values kept"
        )
    return np.where(zero[:, None], 0.0, directions / np.where(zero, 1.0, norm)[:, None]), notes
