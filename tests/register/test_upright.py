"""A head that a header turns is found the right way up."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

import fornix
from fornix.core.dwi import DWI
from fornix.core.errors import FornixWarning
from fornix.nets.tissue_segmentation import segment
from fornix.register.affine import match_affine
from fornix.register.scan_features import scan_features
from fornix.register.template import mni_template
from fornix.register.upright import right_angles, upright_segmentation

pytestmark = pytest.mark.real

#: Axis of world space and its sign.
ENDS = {
    "left": (0, -1), "right": (0, 1), "back": (1, -1), "front": (1, 1), "bottom": (2, -1), "top": (2, 1),
}  # fmt: skip


@pytest.fixture(scope="module")
def scan(shared_data: Path) -> DWI:
    image = shared_data / "dwi" / "toshiba-galan_b1500x12" / "dwi.nii.gz"
    return fornix.brain_mask(fornix.load(image))


def turned(dwi: DWI, turn: np.ndarray) -> DWI:
    """The scan with a header that turns its world."""
    affine = np.eye(4)
    affine[:3, :3] = turn
    return dwi.with_(affine=affine @ dwi.affine, gradients=dwi.gradients.rotated(turn))


def test_there_are_24_right_angles() -> None:
    turns = right_angles()
    assert np.array_equal(turns[0], np.eye(3))
    assert len({tuple(t.ravel()) for t in turns}) == 24
    assert all(np.isclose(np.linalg.det(t), 1) and np.allclose(t @ t.T, np.eye(3)) for t in turns)


def test_an_upright_head_is_left_as_it_is(scan: DWI) -> None:
    found = upright_segmentation(scan)
    assert not found.turned
    assert np.array_equal(found.probabilities, segment(scan).probabilities)


@pytest.mark.parametrize("number", [4, 19])
def test_a_turned_header_is_seen_through_and_told(scan: DWI, number: int) -> None:
    turn = right_angles()[number]
    upright = segment(scan)
    with pytest.warns(
        FornixWarning, match="the head does not lie as the header says: its top points"
    ):
        found = upright_segmentation(turned(scan, turn))
    where = found.turned.split("top points to the header's ")[1].split(",")[0]
    axis, sign = ENDS[where]
    assert turn[axis, 2] == sign  # where the head's top went
    assert np.allclose(found.probabilities, upright.probabilities, atol=1e-4)
    assert np.allclose(found.left, upright.left, atol=1e-4)


@pytest.fixture(scope="module")
def straight(scan: DWI) -> np.ndarray:
    return match_affine(scan_features(scan), mni_template().features(), kind="rigid").matrix


@pytest.mark.parametrize(
    ("degrees", "axis"),
    [(20, (1.0, 0, 0)), (30, (0, 0, 1.0)), (110, (0.6, 0, 0.8)), (155, (0.6, 0.8, 0))],
)
def test_a_head_is_registered_however_it_is_turned(
    scan: DWI, straight: np.ndarray, degrees: float, axis: tuple[float, float, float]
) -> None:
    turn = Rotation.from_rotvec(np.radians(degrees) * np.array(axis)).as_matrix()
    told = degrees > 45
    with (
        pytest.warns(FornixWarning, match="the head does not lie as the header says")
        if told
        else nullcontext()
    ):
        head = scan_features(turned(scan, turn))
    assert bool(head.notes) == told
    found = match_affine(head, mni_template().features(), kind="rigid").matrix
    points = np.array([[0.0, -20, 10, 1], [50, 0, 20, 1], [-50, -60, 0, 1], [0, 50, 40, 1]])
    wanted = points @ straight.T[:, :3] @ turn.T
    assert np.abs(points @ found.T[:, :3] - wanted).max() < 0.5  # mm
