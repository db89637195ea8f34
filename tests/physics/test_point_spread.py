"""From small voxels to measured ones: adjoints, means and places in the world."""

from __future__ import annotations

import numpy as np
import pytest

from fornix.core.errors import FornixError
from fornix.physics.point_spread import (
    PROFILES,
    Grid,
    Measurement,
    along,
    axis_operator,
    centres,
    interpolator,
)


def oblique(size=(2.0, 2.0, 3.0)) -> np.ndarray:
    a, b = np.radians(20), np.radians(-15)
    one = [[np.cos(a), -np.sin(a), 0], [np.sin(a), np.cos(a), 0], [0, 0, 1]]
    two = [[1, 0, 0], [0, np.cos(b), -np.sin(b)], [0, np.sin(b), np.cos(b)]]
    affine = np.eye(4)
    affine[:3, :3] = np.array(one) @ np.array(two) @ np.diag([-1, 1, 1]) * np.array(size)
    affine[:3, 3] = (31.0, -12.0, 7.5)
    return affine


def grids(size=1.25) -> tuple[Grid, Grid]:
    coarse = Grid((9, 11, 7), oblique())
    return coarse, coarse.finer(np.full(3, size))


@pytest.mark.parametrize("profile", PROFILES)
@pytest.mark.parametrize("share", [1.0, 0.75])
def test_the_adjoint_is_the_transpose(profile, share):
    coarse, fine = grids()
    operator = Measurement.of(coarse, fine, (profile,) * 3, (1.0, share, 1.0))
    rng = np.random.default_rng(0)
    x = rng.standard_normal((*fine.shape, 2)).astype(np.float32)
    y = rng.standard_normal((*coarse.shape, 2)).astype(np.float32)
    one, two = np.vdot(operator.measured(x), y), np.vdot(x, operator.adjoint(y))
    assert one == pytest.approx(two, rel=1e-3, abs=1e-2)


@pytest.mark.parametrize("profile", PROFILES)
@pytest.mark.parametrize("step", [0.34, 0.5, 0.61, 0.8])
def test_a_constant_is_measured_as_it_is(profile, step):
    operator = axis_operator(20, round(20 / step), step, profile)
    np.testing.assert_allclose(operator @ np.ones(operator.shape[1]), 1, atol=1e-5)


@pytest.mark.parametrize("profile", PROFILES)
def test_an_axis_that_stays_is_left_alone(profile):
    operator = axis_operator(12, 12, 1.0, profile)
    np.testing.assert_array_equal(operator.toarray(), np.eye(12))


def test_a_slope_is_measured_at_the_middles_of_voxels():
    operator = axis_operator(20, 48, 20 / 48, "slice")
    at = centres(20, 48, 20 / 48)
    np.testing.assert_allclose((operator @ at)[2:-2], np.arange(20)[2:-2], atol=0.02)


def test_partial_fourier_blurs():
    full, part = (axis_operator(32, 64, 0.5, "sinc", share) for share in (1.0, 0.7))
    point = np.zeros(64)
    point[32] = 1
    assert (part @ point).max() < 0.9 * (full @ point).max()


@pytest.mark.parametrize("size", [0.9, 1.25, 1.6])
def test_the_field_of_view_and_places_in_the_world_are_kept(size):
    coarse = Grid((9, 11, 7), oblique())
    fine = coarse.finer(np.full(3, size))
    np.testing.assert_allclose(fine.voxel_size, size, rtol=1e-9)
    for grid_a, grid_b in ((coarse, fine), (fine, coarse)):
        middle = [
            g.affine[:3, :3] @ ((np.array(g.shape) - 1) / 2) + g.affine[:3, 3]
            for g in (grid_a, grid_b)
        ]
        np.testing.assert_allclose(*middle, atol=1e-9)
    whole = [np.array(g.shape) * g.voxel_size for g in (coarse, fine)]
    assert (np.abs(whole[0] - whole[1]) <= size / 2 + 1e-9).all()
    # A linear image of the world is measured, and interpolated, as that same image.
    slope = np.array([0.3, -0.2, 0.5])

    def image(grid: Grid) -> np.ndarray:
        index = np.stack(np.meshgrid(*[np.arange(n) for n in grid.shape], indexing="ij"), -1)
        return (index @ grid.affine[:3, :3].T + grid.affine[:3, 3]) @ slope

    # A voxel step changes it by 0.6 or more: a shift by half a voxel would show.
    operator = Measurement.of(coarse, fine, ("box", "slice", "box"))
    inner = (slice(1, -1),) * 3
    np.testing.assert_allclose(
        operator.measured(image(fine))[inner], image(coarse)[inner], atol=0.15
    )
    step = fine.voxel_size / coarse.voxel_size
    linear = tuple(
        interpolator(centres(n, m, s), n) for n, m, s in zip(coarse.shape, fine.shape, step)
    )
    inner = (slice(2, -2),) * 3
    np.testing.assert_allclose(along(linear, image(coarse))[inner], image(fine)[inner], atol=1e-3)


def test_what_cannot_be_is_said():
    with pytest.raises(FornixError, match="no profile"):
        axis_operator(4, 8, 0.5, "gauss")
    with pytest.raises(FornixError, match="partial Fourier"):
        axis_operator(4, 8, 0.5, "sinc", 0.4)
    coarse, fine = grids()
    with pytest.raises(FornixError, match="along axis 0"):
        Measurement.of(coarse, fine, ("box",) * 3).measured(np.zeros(coarse.shape))
