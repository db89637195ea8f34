"""The fit to the signal against exact lengths and weights, and against scipy's own solver."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import nnls
from scipy.sparse import csr_matrix

from fornix.core.errors import FornixError
from fornix.core.tractogram import Tractogram
from fornix.numerics import harmonics
from fornix.tractography.filtering.fit import fit_weights, lengths_in_fixels, nonnegative
from fornix.tractography.filtering.fixels import Fixels, find_fixels

GRID = (6, 5, 4)
#: Turned axes and a flip: voxel axes are not world axes.
AFFINE = np.array([[0, -2.0, 0, 8], [-2, 0, 0, 10], [0, 0, 2, -3], [0, 0, 0, 1]])


def line(*voxels) -> np.ndarray:
    """World points of a path through voxel coordinates."""
    return np.asarray(voxels, float) @ AFFINE[:3, :3].T + AFFINE[:3, 3]


def crossing() -> Fixels:
    """Every voxel has fibres along the voxel axes i and j, as much along i as twice along j."""
    count = int(np.prod(GRID))
    axes = np.tile((AFFINE[:3, :2] / 2).T, (count, 1))
    density = np.tile([4.0, 2.0], count)
    first = 2 * np.arange(count + 1)
    return Fixels(first, axes, density, density.astype(np.float32), 1.0, AFFINE, GRID)


def flat(i: int, j: int, k: int) -> int:
    return int(np.ravel_multi_index((i, j, k), GRID))


def test_lengths_are_those_of_the_path():
    path = line((1, 2, 1), (4, 2, 1), (4, 4, 1))
    made = Tractogram.from_list([path, path[::-1]], AFFINE, GRID)
    found, lengths = lengths_in_fixels(made, crossing(), threads=1)
    np.testing.assert_allclose(lengths, 10)
    want = np.zeros(2 * int(np.prod(GRID)))
    # Half a voxel in the first and last voxels, 2 mm in the others; both directions at the corner.
    for (i, j), along, mm in [
        ((1, 2), 0, 1), ((2, 2), 0, 2), ((3, 2), 0, 2), ((4, 2), 0, 1), ((4, 2), 1, 1),
        ((4, 3), 1, 2), ((4, 4), 1, 1),
    ]:  # fmt: skip
        want[2 * flat(i, j, 1) + along] = mm
    np.testing.assert_allclose(found.toarray(), [want, want], atol=1e-5)


def test_what_runs_along_no_fixel_counts_nowhere():
    made = Tractogram.from_list([line((1, 1, 0), (1, 1, 3))], AFFINE, GRID)
    fit = fit_weights(made, crossing(), threads=1)
    assert fit.support[0] == 0 and fit.weight[0] == 0 and fit.track.sum() == 0


def test_streamlines_outside_the_grid_are_followed_inside():
    made = Tractogram.from_list([line((-4, 2, 1), (9, 2, 1))], AFFINE, GRID)
    found, lengths = lengths_in_fixels(made, crossing(), threads=1)
    assert lengths[0] == pytest.approx(26)
    assert found.sum() == pytest.approx(12, abs=0.6)


@pytest.mark.parametrize("seed", range(4))
def test_solution_is_that_of_exact_least_squares(seed):
    rng = np.random.default_rng(seed)
    matrix = rng.uniform(0, 3, (30, 50)) * (rng.random((30, 50)) < 0.3)
    density = np.maximum(matrix.T @ np.maximum(rng.standard_normal(30), 0), 0)
    density += rng.uniform(0, 1, 50)
    ridge = 0.01
    norm = np.linalg.norm(matrix, axis=1)
    exact, _ = nnls(
        np.concatenate([matrix.T, np.sqrt(ridge) * np.diag(norm)]),
        np.concatenate([density, np.zeros(30)]),
    )
    found = nonnegative(csr_matrix(matrix.astype(np.float32)), density, ridge=ridge, tolerance=1e-6)
    assert (found >= 0).all() and (exact == 0).any()

    def cost(w):
        return ((matrix.T @ w - density) ** 2).sum() + ridge * ((norm * w) ** 2).sum()

    assert cost(found) == pytest.approx(cost(exact), rel=1e-5)
    np.testing.assert_allclose(found, exact, atol=1e-3 * exact.max())


def test_true_weights_are_found_and_spurious_streamlines_get_none():
    straight = [line((0, j, 1), (5, j, 1)) for j in range(5)]
    off = [line((0, 0, 3), (5, 4, 3))]  # where there is nothing
    fixels = crossing()
    density = np.zeros(len(fixels))
    matrix, _ = lengths_in_fixels(Tractogram.from_list(straight, AFFINE, GRID), fixels, threads=1)
    weights = np.array([3.0, 1.0, 0.5, 2.0, 4.0])
    density += matrix.T @ weights
    there = Fixels(fixels.first, fixels.axes, density, fixels.amplitude, 1.0, AFFINE, GRID)
    fit = fit_weights(Tractogram.from_list(straight + off, AFFINE, GRID), there, threads=1)
    np.testing.assert_allclose(fit.weight, [*weights / 1.01, 0], rtol=5e-3, atol=1e-6)
    assert fit.explained > 0.999


def test_alike_streamlines_share_their_weight():
    path = line((0, 2, 1), (5, 2, 1))
    fit = fit_weights(Tractogram.from_list([path] * 4, AFFINE, GRID), crossing(), threads=1)
    np.testing.assert_allclose(fit.weight, fit.weight[0], rtol=1e-3)
    # 20 mm³ in five voxels' worth of 10 mm: 4 mm³ for every 2 mm of streamline.
    assert fit.weight.sum() == pytest.approx(4 / 2, rel=0.12)


def test_fixels_of_a_crossing_hold_its_densities():
    """Two lobes of 0.6 and 0.3: the integral of each is its share, in any orientation."""
    a, b = np.array([1.0, 0, 0]), np.array([0, 0.8, 0.6])
    sharp = [harmonics.project(8, lambda u, m=m: np.exp(9 * ((u @ m) ** 2 - 1))) for m in (a, b)]
    unit = [s / (s[0] * np.sqrt(4 * np.pi)) for s in sharp]
    fod = np.zeros((*GRID, 45), np.float32)
    fod[2, 2, 2] = 0.6 * unit[0] + 0.3 * unit[1]
    found = find_fixels(fod, AFFINE, np.ones(GRID, bool))
    assert len(found) == 2 and (found.voxel == flat(2, 2, 2)).all()
    np.testing.assert_allclose(np.abs(found.axes), np.abs([a, b]), atol=0.01)
    np.testing.assert_allclose(found.density, [0.6 * 8, 0.3 * 8], rtol=0.04)


def test_an_empty_fod_is_told():
    with pytest.raises(FornixError, match="FOD is empty"):
        find_fixels(np.zeros((*GRID, 45), np.float32), AFFINE, np.ones(GRID, bool))
