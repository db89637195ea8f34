"""Shared by the physics tests: one torch thread, since the blocks are small and cores are shared."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from fornix.core.compute import use_threads
from fornix.physics import Tissue, anatomy, random_tissue

SHARED = Path(os.environ.get("FORNIX_TEST_DATA", Path(__file__).parents[3] / "shared" / "data"))


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    with use_threads(1):
        yield


@pytest.fixture(scope="session")
def head() -> anatomy.Anatomy:
    """The embedded anatomy, coarse."""
    return anatomy.embedded(voxel_size=4.0, seed=1)


@pytest.fixture(scope="session")
def mixed() -> Tissue:
    """Forty voxels of the broad prior in float64."""
    return random_tissue(40, seed=5, dtype=torch.float64)


@pytest.fixture(scope="session")
def subject_folder() -> Path:
    folder = SHARED / "anatomy"
    if not folder.exists():
        pytest.skip(f"no real anatomy at {folder}; set FORNIX_TEST_DATA")
    return folder
