"""Poses are written as other tools read them."""

from __future__ import annotations

import numpy as np

from fornix.physics import simulate
from fornix.physics.protocol import shells
from fornix.physics.scanner import Artefacts
from fornix.preprocess.acquisition import Acquisition
from fornix.preprocess.geometry.correction import correct_geometry
from fornix.preprocess.geometry.resampling import resample
from fornix.preprocess.geometry.transform import small_pose
from fornix.workflow.stages.geometry_files import itk_transforms, load_geometry, save_geometry


def read_itk(text: str) -> np.ndarray:
    """As ITK has it: x' = M (x - c) + c + t in LPS; back to RAS."""
    turn = np.diag([-1.0, -1.0, 1.0])
    made = []
    for block in text.split("#Transform ")[1:]:
        lines = dict(line.split(": ") for line in block.splitlines()[1:] if line)
        values = np.array(lines["Parameters"].split(), float)
        centre = np.array(lines["FixedParameters"].split(), float)
        matrix = values[:9].reshape(3, 3)
        pose = np.eye(4)
        pose[:3, :3] = turn @ matrix @ turn
        pose[:3, 3] = turn @ (values[9:] + centre - matrix @ centre)
        made.append(pose)
    return np.stack(made)


def test_itk_transforms_come_back_as_the_poses():
    rng = np.random.default_rng(0)
    moves = rng.normal(0, [3, 3, 3, 0.1, 0.1, 0.1], (5, 6))
    poses = np.stack([small_pose(m, np.array([5.0, -20.0, 40.0])) for m in moves])
    text = itk_transforms(poses)
    assert text.startswith("#Insight Transform File V1.0\n#Transform 0\n")
    np.testing.assert_allclose(read_itk(text), poses, atol=1e-12)


def test_geometry_comes_back_to_the_last_digit(tmp_path):
    made = simulate(
        protocol=shells(1, (1000, 7)), snr=20, voxel_size=5.0, seed=2, threads=1,
        artefacts=Artefacts(motion_mm=1, motion_degrees=1, eddy=5, dropout=0.05),
    )  # fmt: skip
    dwi = made.dwi.with_(mask=made.mask)
    known = Acquisition.of(dwi, direction="j-", readout_time=0.04)
    found = correct_geometry(dwi, known)
    save_geometry(found, tmp_path, "x", {"StepKey": "a"})
    assert load_geometry(tmp_path, "x", dwi, known, "b") is None, "another run left it"
    again = load_geometry(tmp_path, "x", dwi, known, "a")
    assert again is not None and found.aligned is not None
    geometry, lost = again
    np.testing.assert_array_equal(geometry.poses, found.aligned.geometry.poses)
    np.testing.assert_array_equal(geometry.eddy, found.aligned.geometry.eddy)
    np.testing.assert_array_equal(lost, found.aligned.lost)
    assert str(geometry.encoding) == "j-"
    resampled = resample(dwi, geometry, lost, slice_axis=known.slice_axis)
    np.testing.assert_array_equal(np.asarray(resampled.data), np.asarray(found.dwi.data))


def test_nothing_written_is_nothing_known(tmp_path):
    made = simulate(protocol=shells(1, (1000, 7)), snr=20, voxel_size=6.0, threads=1)
    assert load_geometry(tmp_path, "x", made.dwi, Acquisition.of(made.dwi), "a") is None
