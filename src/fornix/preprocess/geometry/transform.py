"""The geometry of a scan: where the signal of a place in the head was measured, volume by volume.

A place p of the resting head lies at q = R (p - c) + c + t when a volume is taken, and its signal is
found at q + d(q) along the phase-encoded axis, where d is the field (susceptibility and eddy currents)
times the readout time. Corrected volumes are read there, and multiplied by 1 + d's slope, since signal
is conserved: all in one interpolation (Andersson & Sotiropoulos, NeuroImage 2016).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from fornix.physics.scanner.fields import EDDY_UNIT, polynomials
from fornix.preprocess.geometry._eddy_kernel import move_and_shift
from fornix.preprocess.geometry._sampling import value_and_slope
from fornix.preprocess.phase_encoding import PhaseEncoding


@dataclass(frozen=True, eq=False)
class Geometry:
    """Poses and fields of N volumes.

    Attributes:
        affine: (4, 4) voxel to world, mm.
        grid: (X, Y, Z).
        poses: (N, 4, 4) from the head at rest to the head in the volume, world mm.
        encoding: How EPI distorts; None where it is not known: then there are no fields.
        eddy: (N, 10) Hz, coefficients of `EDDY_TERMS`.
        field: Coefficients of the spline of the susceptibility field in Hz, (X, Y, Z), on the grid at
            rest; it moves with the head. None is none.
    """

    affine: NDArray[np.float64]
    grid: tuple[int, int, int]
    poses: NDArray[np.float64]
    encoding: PhaseEncoding | None
    eddy: NDArray[np.float64]
    field: NDArray[np.float32] | None = None

    @classmethod
    def at_rest(
        cls,
        affine: NDArray[np.float64],
        grid: tuple[int, int, int],
        volumes: int,
        encoding: PhaseEncoding | None = None,
        field: NDArray[np.float32] | None = None,
    ) -> Geometry:
        """Nothing moves, and no eddy currents flow."""
        poses = np.tile(np.eye(4), (volumes, 1, 1))
        return cls(affine, grid, poses, encoding, np.zeros((volumes, 10)), field)

    @property
    def centre(self) -> NDArray[np.float64]:
        """World mm of the grid's centre, about which poses turn, (3,)."""
        return self.affine[:3, :3] @ ((np.array(self.grid) - 1) / 2) + self.affine[:3, 3]

    @property
    def rotations(self) -> NDArray[np.float64]:
        """(N, 3, 3) of the head, world axes."""
        return self.poses[:, :3, :3]

    @property
    def translations(self) -> NDArray[np.float64]:
        """(N, 3) mm, of the grid's centre."""
        return self.rotations @ self.centre + self.poses[:, :3, 3] - self.centre

    @property
    def angles(self) -> NDArray[np.float64]:
        """(N, 3) radians about world x, y, z: R = Rz Ry Rx."""
        return Rotation.from_matrix(self.rotations).as_euler("xyz")

    def with_(self, **changes: object) -> Geometry:
        """A copy with some fields replaced."""
        return replace(self, **changes)  # type: ignore[arg-type]

    def matrix(self, volume: int) -> NDArray[np.float64]:
        """(4, 4) from voxels of the head at rest to voxels of the scanner."""
        return np.asarray(np.linalg.inv(self.affine) @ self.poses[volume] @ self.affine)

    def in_scanner(self, volume: int, points: NDArray[np.floating]) -> NDArray[np.float64]:
        """Where places of the head at rest (n, 3) lie in a volume, before distortion, both in voxels."""
        matrix = self.matrix(volume)
        return points @ matrix[:3, :3].T + matrix[:3, 3]

    def distorts(self, volume: int) -> bool:
        """Whether a field displaces the volume's signal."""
        return self.encoding is not None and (
            self.field is not None or bool(self.eddy[volume].any())
        )

    def measured(
        self, volume: int, places: NDArray[np.floating]
    ) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]:
        """Where the signal of places of the head at rest was measured.

        Args:
            volume: Which.
            places: (n, 3) in voxels.

        Returns:
            (n, 3) voxels where the places lie in the scanner; (n,) by how many voxels their signal is
            displaced along the phase-encoded axis; (n,) the factor 1 + slope of the displacement by which
            signals are multiplied, as what piled up is spread again.
        """
        places = np.asarray(places, dtype=np.float32)
        n = len(places)
        moved, shift, slope = (np.empty(s, dtype=np.float32) for s in ((n, 3), n, n))
        matrix = self.matrix(volume)
        scale = 0.0 if self.encoding is None else self.encoding.voxels_per_hz
        axis = 0 if self.encoding is None else self.encoding.axis
        move_and_shift(
            places,
            matrix[:3],
            self._to_unit(),
            self.eddy[volume] * scale,
            axis,
            moved,
            shift,
            slope,
        )
        if self.encoding is not None and self.field is not None:
            hz = np.nan_to_num(value_and_slope(self.field, places)) * np.float32(scale)
            # The field moves with the head: its slopes are along the axes of the head at rest.
            along = np.linalg.inv(matrix[:3, :3])[:, axis].astype(np.float32)
            shift += hz[:, 0]
            slope += hz[:, 1:] @ along
        return moved, shift, np.clip(1 + slope, 0.1, 5.0)

    def _to_unit(self) -> NDArray[np.float64]:
        """(3, 4) from voxels to coordinates of the eddy polynomials."""
        linear = self.affine[:3, :3] / EDDY_UNIT
        return np.c_[linear, -linear @ ((np.array(self.grid) - 1) / 2)]

    def polynomials(self, voxels: NDArray[np.floating]) -> NDArray[np.float64]:
        """`EDDY_TERMS` at voxels (n, 3) of the scanner, (n, 10)."""
        unit = self._to_unit()
        return polynomials(voxels @ unit[:, :3].T + unit[:, 3])


def small_pose(move: NDArray[np.float64], centre: NDArray[np.float64]) -> NDArray[np.float64]:
    """(4, 4) of a translation in mm and a rotation vector in radians about `centre`: move is (6,)."""
    made = np.eye(4)
    made[:3, :3] = Rotation.from_rotvec(move[3:]).as_matrix()
    made[:3, 3] = centre - made[:3, :3] @ centre + move[:3]
    return made


def step_across(
    slopes: NDArray[np.floating],
    arm: NDArray[np.floating],
    residual: NDArray[np.floating],
    weight: NDArray[np.floating],
    way: NDArray[np.float64],
    centre: NDArray[np.float64],
) -> NDArray[np.float64]:
    """(4, 4) pose of one Gauss-Newton step that moves a head across an axis and turns it.

    Along the phase-encoded axis a shift and a constant field are the same: it is left out.

    Args:
        slopes: (n, 3) of the image in world axes.
        arm: (n, 3) places, mm from the centre.
        residual: (n,).
        weight: (n,).
        way: (3,) the axis, world.
        centre: (3,) of rotations, world mm.

    Returns:
        At most 2 mm and 0.035 radians.
    """
    across = np.linalg.svd((way / np.linalg.norm(way))[None])[2][1:]
    columns = np.concatenate([slopes @ across.T, np.cross(arm, slopes)], 1)
    left = columns * weight[:, None]
    normal = left.T @ columns
    step = np.linalg.solve(normal + 1e-8 * np.diag(np.diag(normal)), left.T @ residual)
    move = np.r_[step[:2] @ across, step[2:]]
    move /= max(np.linalg.norm(move[:3]) / 2, np.linalg.norm(move[3:]) / 0.035, 1.0)
    return small_pose(move, centre)


def displacement(
    one: NDArray[np.float64],
    other: NDArray[np.float64],
    centre: NDArray[np.float64],
    radius: float = 50.0,
) -> NDArray[np.float64]:
    """Root mean square distance (…,) in mm between poses (…, 4, 4) over a ball about `centre`.

    After Jenkinson (FMRIB TR99MJ1): sqrt(R²/5 tr(MᵀM) + |t|²).
    """
    m = one - other
    at = m[..., :3, :3] @ centre + m[..., :3, 3]
    return np.sqrt(radius**2 / 5 * (m[..., :3, :3] ** 2).sum((-2, -1)) + (at**2).sum(-1))
