"""What voxels' errors have in common is told apart from what each has alone."""

from __future__ import annotations

import numpy as np
import pytest

from fornix.uncertainty.conformal import COUNT, Calibration
from fornix.uncertainty.shared_error import SharedError

SCANS, VOXELS = 400, 300


def errors(
    shared: float, own: float, scans: int, seed: int = 0
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Errors (n, 1) of scans' voxels, their stratum and scan."""
    rng = np.random.default_rng(seed)
    error = shared * rng.standard_normal((scans, 1)) + own * rng.standard_normal((scans, VOXELS))
    scan = np.repeat(np.arange(scans), VOXELS)
    return error.reshape(-1, 1), np.full(len(scan), 7), scan


@pytest.mark.parametrize(("shared", "own"), [(0.0, 1.0), (1.0, 0.0), (0.6, 0.8), (0.1, 1.0)])
def test_the_share_is_what_was_put_in(shared, own):
    found = SharedError.fit(*errors(shared, own, SCANS)).of(np.array([7]))
    assert found[0] == pytest.approx(shared / np.hypot(shared, own), abs=0.06)


def test_few_voxels_a_scan_are_no_shared_error():
    rng = np.random.default_rng(0)
    error = rng.standard_normal((4000, 1))
    found = SharedError.fit(error, np.full(4000, 7), np.repeat(np.arange(1000), 4))
    assert found.of(np.array([7]))[0] < 0.15


def test_it_comes_back_from_its_tensors():
    made = SharedError.fit(*errors(0.6, 0.8, 40))
    again = SharedError.from_state(made.state())
    np.testing.assert_array_equal(again.table, made.table)
    assert made.table.shape[0] == COUNT


def test_intervals_of_strata_of_few_scans_hold_for_new_scans():
    """Six scans that share their errors are no six hundred voxels: like strata help."""
    rng = np.random.default_rng(1)
    held = {"leaning": [], "alone": []}
    for _ in range(40):
        parts = []
        for stratum, scans in ((7, 6), (6, 60), (8, 60)):
            error, _, scan = errors(0.8, 0.6, scans, int(rng.integers(1 << 30)))
            parts.append((error, np.full(len(error), stratum), scan + 1000 * stratum))
        error, stratum, scan = (np.concatenate(v) for v in zip(*parts, strict=True))
        zero, one = np.zeros_like(error), np.ones_like(error)
        new, at, _ = errors(0.8, 0.6, 60, int(rng.integers(1 << 30)))
        for name, of in (("leaning", scan), ("alone", None)):
            made = Calibration.fit(zero, one, error, stratum, of)
            low, high = made.quantiles(np.zeros_like(new), np.ones_like(new), at, (0.05, 0.95))
            held[name].append(((new >= low) & (new <= high)).mean())
    off = {name: np.abs(np.array(v) - 0.9).mean() for name, v in held.items()}
    assert off["leaning"] < 0.6 * off["alone"]
    assert abs(np.mean(held["leaning"]) - 0.9) < 0.02
