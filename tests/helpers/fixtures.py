"""Fixtures for all tests: the real scans, a small simulated head, and a guard against leaked state."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from fornix.core.dwi import DWI
from fornix.nets.encoding import EncodedVoxels, ProtocolEncoder
from fornix.physics import Phantom, simulate
from fornix.physics.protocol import scheme
from helpers.streams import seen_through

REPOSITORY = Path(__file__).parents[2]


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real scans; a test that needs it is skipped without, or fails in CI."""
    folder = Path(os.environ.get("FORNIX_TEST_DATA", REPOSITORY.parent / "shared" / "data"))
    if not (folder / "dwi").is_dir():
        if os.environ.get("FORNIX_REQUIRE_DATA"):
            pytest.fail(f"real scans are required but not at {folder}; set FORNIX_TEST_DATA")
        pytest.skip(f"no real scans at {folder}; set FORNIX_TEST_DATA")
    return folder


@pytest.fixture(scope="session")
def phantom() -> Phantom:
    """A whole head at 5 mm, multi-shell, SNR 30."""
    return simulate(protocol="demo", snr=30, voxel_size=5.0, seed=3, threads=1)


@pytest.fixture
def head(phantom: Phantom) -> DWI:
    """The phantom's scan with its true mask and noise level."""
    return phantom.dwi.with_(mask=phantom.mask, sigma=phantom.sigma)


@pytest.fixture(scope="session", autouse=True)
def numba_is_awake() -> None:
    """numba's first parallel loop sets OpenMP's threads once, for torch too: not a test's doing."""
    from numba import njit, prange

    @njit(parallel=True)
    def loop(n: int) -> int:
        total = 0
        for i in prange(n):
            total += i
        return total

    before = torch.get_num_threads()
    loop(10)
    torch.set_num_threads(before)


@pytest.fixture(autouse=True)
def no_leaked_state() -> Iterator[None]:
    """A test that changes a global setting and leaves it so fails."""

    def state() -> dict[str, object]:
        return {
            "torch threads": torch.get_num_threads(),
            "torch dtype": torch.get_default_dtype(),
            "working folder": os.getcwd(),
            "environment": {k: v for k, v in os.environ.items() if k.startswith("FORNIX")},
            "numpy errors": np.geterr(),
            "showwarning": warnings.showwarning.__module__,
        }

    before = state()
    yield
    after = state()
    changed = [k for k in before if before[k] != after[k]]
    assert not changed, f"global state leaked: {changed}"


@pytest.fixture(params=["dti6", "dti30", "bench96"])
def sight(request: pytest.FixtureRequest) -> tuple[ProtocolEncoder, EncodedVoxels, np.ndarray]:
    """Random tissue as one protocol sees it."""
    return seen_through(scheme(request.param))


@pytest.fixture(autouse=True)
def one_seed() -> None:
    """torch's own chance is the same in every test."""
    torch.manual_seed(0)
