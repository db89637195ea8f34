"""The gradient table, which knows its frame: b-values and unit directions in world (RAS+) axes.

FSL's `bvec` files are in voxel axes with x flipped where the affine's determinant is positive;
MRtrix's gradient files are in world axes. Both are converted at the door, here, and nowhere else.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fornix.core.errors import FornixError
from fornix.core.protocol import ProtocolFacts

B0_THRESHOLD = 50.0  # s/mm²
#: Larger b-values are of another unit: no scanner reaches them.
_LARGEST = 200_000.0
#: A shell is no wider than this share of its largest b, or than 100 s/mm².
_SHELL_WIDTH = 0.1


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
        numbers: (N,) each volume's number in the file that it came from; messages name it by this.

    Raises:
        FornixError: Where the table cannot be right; see the messages.
    """

    bvals: NDArray[np.float64]
    directions: NDArray[np.float64]
    b0_threshold: float = B0_THRESHOLD
    notes: tuple[str, ...] = field(default=())
    numbers: NDArray[np.int64] = field(default_factory=lambda: np.empty(0, np.int64))

    def __post_init__(self) -> None:
        bvals = np.array(self.bvals, dtype=np.float64).reshape(-1)
        directions = np.array(self.directions, dtype=np.float64)
        if directions.shape != (len(bvals), 3):
            raise FornixError(
                f"{len(bvals)} b-values need directions of shape ({len(bvals)}, 3), "
                f"got {directions.shape}"
            )
        numbers = np.array(self.numbers) if len(self.numbers) else np.arange(len(bvals))
        if numbers.shape != bvals.shape:
            raise FornixError(f"{len(bvals)} b-values need as many numbers, got {numbers.shape}")
        wrong = ~np.isfinite(bvals) | (bvals < 0)
        if wrong.any():
            bad = int(np.flatnonzero(wrong)[0])
            raise FornixError(
                f"b-value of volume {numbers[bad]} is {bvals[bad]}; it must be finite and >= 0: correct "
                f"the table, or leave the volume out with --exclude {_listed(numbers[wrong])}"
            )
        if len(bvals) and bvals.max() > _LARGEST:
            raise FornixError(
                f"the largest b-value is {bvals.max():g}, beyond what a scanner reaches; write b-values "
                "in s/mm²"
            )
        notes = list(self.notes)
        directions, more = _unit_directions(bvals, directions, self.b0_threshold, numbers)
        notes += more
        bvals.flags.writeable = directions.flags.writeable = numbers.flags.writeable = False
        object.__setattr__(self, "bvals", bvals)
        object.__setattr__(self, "directions", directions)
        object.__setattr__(self, "numbers", numbers)
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
        """The non-b0 volumes, clustered where sorted b-values leave a gap; ascending b.

        Where b-values follow each other without a gap (continuous b, grids in q-space) a cluster is cut
        into parts of like width, so that no shell spans more than a tenth of its b: see `continuous_b`.
        """
        return tuple(
            Shell(float(self.bvals[g].mean()), tuple(sorted(map(int, g))))
            for cluster in self._clusters
            for g in self._narrow(cluster)
        )

    @property
    def continuous_b(self) -> bool:
        """True where b-values follow each other without gaps, so that there are no shells."""
        return len(self.shells) > len(self._clusters)

    @cached_property
    def _clusters(self) -> tuple[NDArray[np.int64], ...]:
        index = np.flatnonzero(~self.b0_mask)
        index = index[np.argsort(self.bvals[index], kind="stable")]
        if not len(index):
            return ()
        b = self.bvals[index]
        gaps = np.diff(b) > np.maximum(50.0, 0.05 * b[1:])
        return tuple(np.split(index, np.flatnonzero(gaps) + 1))

    def _narrow(self, cluster: NDArray[np.int64]) -> list[NDArray[np.int64]]:
        b = self.bvals[cluster]
        width = max(100.0, _SHELL_WIDTH * float(b[-1]))
        if b[-1] - b[0] <= width:
            return [cluster]
        # Cuts at like ratios of b: the width that a shell may have grows with b.
        low = max(float(b[0]), 100.0)
        parts = int(np.ceil(np.log(b[-1] / low) / np.log1p(_SHELL_WIDTH))) + 1
        edges = low * (b[-1] / low) ** (np.arange(1, parts) / parts)
        return [part for part in np.split(cluster, np.searchsorted(b, edges)) if len(part)]

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
        if self.continuous_b:
            b = self.bvals[~self.b0_mask]
            return f"{parts[0]}, {len(b)} at b={b.min():.0f} to {b.max():.0f} without shells"
        parts += [f"{len(s)} at b={s.b:.0f}" for s in self.shells[:8]]
        if len(self.shells) > 8:
            parts.append(f"… {len(self.shells)} shells up to b={self.shells[-1].b:.0f}")
        return ", ".join(parts)

    def subset(self, volumes: ArrayLike) -> Gradients:
        """The table of some volumes (indices or a boolean mask), in the order given."""
        index = np.asarray(volumes)
        return replace(
            self, bvals=self.bvals[index], directions=self.directions[index],
            numbers=self.numbers[index],
        )  # fmt: skip

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
        exclude: Collection[int] = (),
    ) -> Gradients:
        """From FSL's table: bvecs (3, N) or (N, 3) in voxel axes of an image with this affine.

        Args:
            bvals: (N,) s/mm².
            bvecs: (3, N) or (N, 3).
            affine: (4, 4) of the image.
            b0_threshold: s/mm²; a volume is a b0 if b <= this.
            exclude: Volumes to leave out; their entries may be wrong.
        """
        bvals = np.atleast_1d(np.asarray(bvals, dtype=np.float64)).reshape(-1)
        bvecs, notes = _as_rows(np.asarray(bvecs, dtype=np.float64), len(bvals))
        world = bvecs @ fsl_to_world(affine).T
        return cls._from_table(bvals, world, b0_threshold, exclude, notes)

    def to_fsl(self, affine: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """(bvals (N,), bvecs (3, N)) for an image with this affine."""
        return self.bvals.copy(), fsl_to_world(affine).T @ self.directions.T

    @classmethod
    def from_mrtrix(
        cls,
        table: ArrayLike,
        b0_threshold: float = B0_THRESHOLD,
        exclude: Collection[int] = (),
    ) -> Gradients:
        """From MRtrix's gradient table: rows x y z b, world axes; exclude: volumes to leave out."""
        table = np.atleast_2d(np.asarray(table, dtype=np.float64))
        if table.shape[1] != 4:
            raise FornixError(
                f"an MRtrix gradient table has 4 columns x y z b, got {table.shape[1]}"
            )
        return cls._from_table(table[:, 3], table[:, :3], b0_threshold, exclude, [])

    @classmethod
    def _from_table(
        cls,
        bvals: NDArray[np.float64],
        directions: NDArray[np.float64],
        b0_threshold: float,
        exclude: Collection[int],
        notes: list[str],
    ) -> Gradients:
        """What a file holds, of the volumes that are kept: units and codes in vector lengths read."""
        keep = np.setdiff1d(np.arange(len(bvals)), np.asarray(list(exclude), dtype=np.int64))
        if not len(keep):
            raise FornixError("no volume is left: every one was excluded")
        bvals, directions = bvals[keep], directions[keep]
        lengths = np.linalg.norm(np.nan_to_num(directions), axis=1)
        if 0 < bvals.max() <= 20 and (lengths > 0.5).any():
            raise FornixError(
                f"the largest b-value is {bvals.max():g}: these look like ms/µm², "
                "write b-values in s/mm² (multiply by 1000)"
            )
        bvals, more = _decoded(bvals, lengths, b0_threshold)
        return cls(bvals, directions, b0_threshold, (*notes, *more), keep)

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
    return np.asarray(left @ right)


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


def _decoded(
    bvals: NDArray[np.float64], lengths: NDArray[np.float64], threshold: float
) -> tuple[NDArray[np.float64], list[str]]:
    """b-values, read from the lengths of the vectors where a table codes them so.

    Scanners that play out many b-values as one write the largest for every volume and shorten the
    vector: b is then b_max times the squared length, as MRtrix3 reads it.
    """
    weighted = (bvals > threshold) & (lengths > 1e-6)
    b, length = bvals[weighted], lengths[weighted]
    if len(b) < 2 or b.max() - b.min() > 0.02 * b.max():
        return bvals, []
    if length.max() > 1.02 or length.max() < 0.98 or length.min() > 0.95:
        return bvals, []
    # A vector of no length in such a table codes b = 0.
    scaled = np.where(bvals > threshold, bvals * np.minimum(lengths, 1.0) ** 2, bvals)
    levels = scaled[weighted]
    return scaled, [
        f"b-values were coded in the lengths of the b-vectors ({length.min():.2f} to 1, all at "
        f"b={b.max():.0f}): read as b={levels.min():.0f} to {levels.max():.0f}; write unit vectors if that "
        "is wrong"
    ]


def _listed(numbers: NDArray[np.int64]) -> str:
    """Volume numbers as `--exclude` takes them, the first of many."""
    return ",".join(str(n) for n in numbers[:20]) + (",…" if len(numbers) > 20 else "")


def _unit_directions(
    bvals: NDArray[np.float64],
    directions: NDArray[np.float64],
    threshold: float,
    numbers: NDArray[np.int64],
) -> tuple[NDArray[np.float64], list[str]]:
    notes = []
    b0 = bvals <= threshold
    finite: NDArray[np.bool_] = np.all(np.isfinite(directions), axis=1, keepdims=False)
    if not finite[~b0].all():
        wrong = ~finite & ~b0
        bad = int(np.flatnonzero(wrong)[0])
        raise FornixError(
            f"the b-vector of volume {numbers[bad]} (b={bvals[bad]:g}) is not finite; correct the table, "
            f"or leave the volume out with --exclude {_listed(numbers[wrong])}"
        )
    directions = np.where(finite[:, None], directions, 0.0)
    norm = np.linalg.norm(directions, axis=1)
    zero = norm < 1e-6
    if (zero & ~b0).any():
        missing = np.flatnonzero(zero & ~b0)
        most, others = bvals[missing].max(), bvals[~zero & ~b0]
        limit = (
            f"raise the limit with --b0-threshold {np.ceil(most):g}"
            if not len(others) or most < others.min()
            else "write 0 for it in the table"
        )
        raise FornixError(
            f"volume {numbers[missing[0]]} has b={bvals[missing[0]]:g} but a zero b-vector ({len(missing)} "
            f"such volume(s)); if it is a b0, {limit}; if it is a trace or mean volume, leave it out with "
            f"--exclude {_listed(numbers[missing])}"
        )
    there = norm[~zero & ~b0]
    odd = (norm > 1.5) & ~b0 & (abs(np.median(there) - 1) < 0.1 if len(there) else False)
    if odd.any():
        notes.append(
            f"the b-vector of volume {numbers[odd][0]} has length {norm[odd][0]:.3g} where the others have "
            f"about 1: an entry is wrong ({int(odd.sum())} such volume(s)); correct it, or leave the volume "
            f"out with --exclude {_listed(numbers[odd])}"
        )
    off = (np.abs(norm - 1) > 0.01) & ~zero & ~b0 & ~odd
    if off.any():
        notes.append(
            f"{int(off.sum())} b-vectors were not of unit length "
            f"(from {norm[off].min():.3f} to {norm[off].max():.3f}); normalised, b-values kept"
        )
    return np.where(zero[:, None], 0.0, directions / np.where(zero, 1.0, norm)[:, None]), notes
