"""Poses are written as other tools read them."""

from __future__ import annotations

import numpy as np

from fornix.preprocess.geometry.transform import small_pose
from fornix.workflow.stages.geometry_files import itk_transforms


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
