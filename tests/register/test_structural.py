"""A T1 of a simulated head, moved by a known amount, is found where it lies, whatever its contrast."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy import ndimage

from fornix.core.errors import FornixError
from fornix.physics import Phantom, simulate
from fornix.physics.protocol import shells
from fornix.preprocess.geometry.transform import small_pose
from fornix.register.features import Features
from fornix.register.grids import Lattice, moved
from fornix.register.scan_features import scan_features
from fornix.register.structural import Structural, register_structural
from fornix.register.warp import Warp

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")


@pytest.fixture(scope="module")
def scanned() -> tuple[Phantom, Features]:
    made = simulate(protocol=shells(1, (1000, 12)), snr=25, seed=8, voxel_size=4.0, threads=1)
    return made, scan_features(made.dwi.with_(mask=made.mask))


def pose_of(phantom: Phantom, degrees: float, mm: float, seed: int) -> np.ndarray:
    """From the scan's world to the T1's: a turn about the head's middle and a shift, of any direction."""
    rng = np.random.default_rng(seed)
    turn, shift = (v / np.linalg.norm(v) for v in rng.standard_normal((2, 3)))
    affine = phantom.dwi.affine
    middle = affine[:3, :3] @ (np.array(phantom.mask.shape) / 2) + affine[:3, 3]
    return small_pose(np.r_[mm * shift, np.radians(degrees) * turn], middle)


def t1_of(
    phantom: Phantom, pose: np.ndarray, levels: tuple[float, float, float], size: float = 2.0
) -> Structural:
    """White matter, grey matter and fluid as bright as `levels`, in a skull, shaded, with noise."""
    head = phantom.anatomy
    assert head is not None
    grid = tuple(int(n / size) for n in (190, 230, 190))
    affine = np.diag([-size, size, size, 1.0])
    middle = head.affine[:3, :3] @ (np.array(head.grid) / 2) + head.affine[:3, 3]
    affine[:3, 3] = middle - affine[:3, :3] @ (np.array(grid) / 2)
    matrix = np.linalg.inv(head.affine) @ np.linalg.inv(pose) @ affine

    def put(data: np.ndarray) -> np.ndarray:
        return ndimage.affine_transform(
            np.asarray(data, np.float32), matrix[:3, :3], matrix[:3, 3], output_shape=grid, order=1
        )

    image = sum(b * put(v) for b, v in zip(levels, (head.wm, head.gm, head.csf)))
    away = ndimage.distance_transform_edt(put(head.mask) < 0.5) * size
    image = image + 0.9 * ((away > 7) & (away < 11))
    across = np.indices(grid) / np.array(grid).reshape(3, 1, 1, 1) - 0.5
    image = image * (1 + 0.3 * across[0] - 0.2 * across[1] + 0.2 * across[2])
    image = image + 0.02 * np.random.default_rng(0).standard_normal(grid)
    return Structural(np.abs(image).astype(np.float32), Lattice(affine, grid))


def error(warp: Warp, pose: np.ndarray, phantom: Phantom) -> float:
    """Largest distance in mm over the brain."""
    affine = phantom.dwi.affine
    places = np.argwhere(phantom.mask)[::50] @ affine[:3, :3].T + affine[:3, 3]
    points = torch.tensor(places, dtype=torch.float32)
    return float((warp.to_moving(points) - moved(pose, points)).norm(dim=-1).max())


@pytest.mark.parametrize(
    ("seed", "degrees", "mm", "levels"),
    [
        (1, 30, 30, (1.0, 0.65, 0.2)),
        (3, 12, 20, (0.3, 0.5, 1.0)),  # T2: nothing is assumed of the contrast
    ],
)
def test_starts_far_away_end_within_a_millimetre(
    scanned: tuple[Phantom, Features], seed: int, degrees: float, mm: float,
    levels: tuple[float, float, float],
) -> None:  # fmt: skip
    phantom, head = scanned
    pose = pose_of(phantom, degrees, mm, seed)
    found = register_structural(t1_of(phantom, pose, levels), head, phantom.dwi.mean_b0())
    assert error(found, pose, phantom) < 1.0  # mm, of voxels of 4 mm
    assert np.allclose(found.matrix[:3, :3] @ found.matrix[:3, :3].T, np.eye(3), atol=1e-4)


def test_an_image_of_something_else_is_refused(scanned: tuple[Phantom, Features]) -> None:
    phantom, head = scanned
    noise = np.random.default_rng(0).random((80, 90, 80)).astype(np.float32)
    affine = np.diag([2.0, 2, 2, 1])
    affine[:3, 3] = -80
    other = Structural(noise, Lattice(affine, noise.shape))
    with pytest.raises(FornixError, match="looks like the scan's head nowhere"):
        register_structural(other, head, phantom.dwi.mean_b0())
    empty = replace(head, tissue=torch.zeros_like(head.tissue))
    with pytest.raises(FornixError, match="finds no brain in the scan"):
        register_structural(other, empty, phantom.dwi.mean_b0())
