"""Noise, mask, denoising, corrections and the gradient check against known truth."""

from __future__ import annotations

import numpy as np
import pytest

from fornix.core.compute import use_threads
from fornix.core.dwi import DWI
from fornix.core.errors import FornixError
from fornix.core.gradients import Gradients, fsl_to_world
from fornix.estimators.mask import MASK_METHODS, brain_mask
from fornix.estimators.microstructure import microstructure
from fornix.physics import Phantom, simulate
from fornix.preprocess import correct, denoise, estimate_noise, snr
from fornix.preprocess.geometry.correction import correct_geometry
from fornix.preprocess.gradient_check import check_gradients
from fornix.testing.properties import assert_gradient_order_free


def dice(a: np.ndarray, b: np.ndarray) -> float:
    return float(2 * (a & b).sum() / (a.sum() + b.sum()))


@pytest.mark.parametrize("method", ["residual", "spatial"])
def test_noise_level_within_a_tenth(phantom: Phantom, method):
    dwi = phantom.dwi.with_(mask=phantom.mask)
    found = estimate_noise(dwi, method=method).sigma[phantom.mask]
    true = np.broadcast_to(phantom.sigma, dwi.grid)[phantom.mask]
    assert np.median(found / true) == pytest.approx(1, abs=0.1 if method == "residual" else 0.25)


def test_noise_free_data_is_said(phantom: Phantom):
    clean = phantom.dwi.with_(data=np.full_like(phantom.dwi.data, 5.0))
    with pytest.raises(FornixError, match="--sigma"):
        estimate_noise(clean)


def test_snr_needs_a_noise_level(phantom: Phantom):
    with pytest.raises(FornixError, match="estimate_noise first"):
        snr(phantom.dwi)


def test_mask_dice(phantom: Phantom):
    ours = dice(brain_mask(phantom.dwi).mask, phantom.mask)
    assert ours > 0.97
    assert ours > dice(brain_mask(phantom.dwi, method="median_otsu").mask, phantom.mask)


@pytest.mark.parametrize("method", [m for m in MASK_METHODS if m != "median_otsu"])
@pytest.mark.parametrize("shape", [(1, 1, 1), (6, 5, 1)])
def test_masks_of_tiny_scans(phantom: Phantom, method, shape):
    centre = tuple(np.argwhere(phantom.mask).mean(0).astype(int))
    window = tuple(slice(c, c + n) for c, n in zip(centre, shape))
    tiny = DWI(phantom.dwi.data[window], phantom.dwi.gradients, phantom.dwi.affine)
    assert brain_mask(tiny, method=method).mask.shape == shape


def test_mppca_gets_nearer_to_the_clean_signal(head: DWI, phantom: Phantom):
    clean = denoise(head, method="mppca")
    inside = phantom.mask
    before = np.sqrt(((head.data - phantom.clean)[inside] ** 2).mean())
    after = np.sqrt(((clean.data - phantom.clean)[inside] ** 2).mean())
    assert after < 0.75 * before
    ratio = np.median(clean.sigma[inside] / np.broadcast_to(phantom.sigma, head.grid)[inside])
    assert ratio == pytest.approx(1, abs=0.15)


def test_mppca_agrees_with_dipys(phantom: Phantom):
    corner = np.argwhere(phantom.mask).mean(0).astype(int) - 5
    window = tuple(slice(c, c + 10) for c in corner)
    part = phantom.dwi.with_(data=np.ascontiguousarray(phantom.dwi.data[window]))
    truth = phantom.clean[window]
    ours, theirs = denoise(part, method="mppca"), denoise(part, method="mppca-dipy")
    inner = (slice(2, 8),) * 3

    def error(made: DWI) -> float:
        return float(np.sqrt(((made.data - truth)[inner] ** 2).mean()))

    assert error(ours) < 1.1 * error(theirs)


@pytest.mark.parametrize("method", ["mppca", "patch2self"])
def test_denoising_is_the_same_for_any_threads(head: DWI, method):
    with use_threads(2):
        two = denoise(head, method=method).data
    with use_threads(1):
        one = denoise(head, method=method).data
    np.testing.assert_allclose(one, two, atol=1e-3 * float(np.median(head.sigma)))


def test_denoising_too_few_volumes(head: DWI):
    with pytest.raises(FornixError, match="10 volumes"):
        denoise(head.subset(range(8)), method="patch2self")
    with pytest.raises(FornixError, match="5 volumes"):
        denoise(head.subset(range(4)), method="mppca")
    with pytest.raises(FornixError, match="choose one of"):
        denoise(head, method="magic")


def test_noise_does_not_depend_on_volume_order(head: DWI):
    assert_gradient_order_free(
        lambda dwi: estimate_noise(dwi.with_(sigma=None)).sigma,
        head,
        atol=1e-3 * float(np.median(head.sigma)),
    )


def test_motion_is_found_and_gradients_turn_with_the_head():
    """One volume turned by a known rotation comes back, and its gradient with it."""
    from scipy import ndimage
    from scipy.spatial.transform import Rotation

    made = simulate(protocol="dti6", snr=60, voxel_size=5.0, seed=2, threads=1)
    dwi = made.dwi.with_(mask=made.mask)
    turn = Rotation.from_euler("z", 6, degrees=True).as_matrix()
    centre = np.array(dwi.grid) / 2
    world = np.eye(4)
    world[:3, :3] = turn
    middle = dwi.affine[:3, :3] @ centre + dwi.affine[:3, 3]
    world[:3, 3] = middle - turn @ middle
    # The head at x moves to world @ x: the moved volume at y shows what was at world^-1 y.
    to_voxel = np.linalg.inv(dwi.affine) @ np.linalg.inv(world) @ dwi.affine
    data = np.array(dwi.data)
    volume = 3
    data[..., volume] = ndimage.affine_transform(
        data[..., volume], to_voxel[:3, :3], to_voxel[:3, 3], order=3
    )
    fixed = correct_geometry(dwi.with_(data=data), eddy=False)
    assert fixed.aligned is not None
    geometry, fixed = fixed.aligned.geometry, fixed.dwi
    angle = np.degrees(np.linalg.norm(geometry.angles, axis=1))
    assert angle[volume] == pytest.approx(6, abs=1.0)
    assert np.delete(angle, volume).max() < 1.0
    expected = turn.T @ dwi.gradients.directions[volume]
    assert abs(fixed.gradients.directions[volume] @ expected) > np.cos(np.radians(1.2))
    inside = made.mask
    before = np.abs(data[inside, volume] - dwi.data[inside, volume]).mean()
    after = np.abs(fixed.data[inside, volume] - dwi.data[inside, volume]).mean()
    assert after < 0.6 * before


def test_bias_field_is_flattened(head: DWI, phantom: Phantom):
    x = np.linspace(-1, 1, head.grid[0])[:, None, None]
    field = np.broadcast_to(np.exp(0.4 * x), head.grid)
    shaded = head.with_(data=head.data * field[..., None].astype(np.float32))
    fixed = correct(shaded, methods=["bias"])
    left = fixed.data[phantom.mask, 0] / head.data[phantom.mask, 0]
    before = shaded.data[phantom.mask, 0] / head.data[phantom.mask, 0]
    assert np.std(np.log(left)) < 0.6 * np.std(np.log(before))


def test_gibbs_keeps_grid_and_level(head: DWI):
    few = head.subset(range(3))
    fixed = correct(few, methods=["gibbs"])
    assert fixed.data.shape == few.data.shape
    assert np.isfinite(fixed.data).all()
    inside = head.brain()
    assert np.median(fixed.data[inside] / few.data[inside]) == pytest.approx(1, abs=0.02)
    with pytest.raises(FornixError, match="choose one of"):
        correct(few, methods=["gibs"])


CHANGES = {
    "as given": np.eye(3),
    "x negated": np.diag([-1.0, 1, 1]),
    "y negated": np.diag([1.0, -1, 1]),
    "z negated": np.diag([1.0, 1, -1]),
    "swapped": np.eye(3)[[1, 0, 2]],
}


@pytest.mark.parametrize("change", list(CHANGES))
def test_wrong_gradient_tables_are_found(phantom: Phantom, change):
    dwi = phantom.dwi.with_(mask=phantom.mask)
    to_world = fsl_to_world(dwi.affine)
    wrong = dwi.gradients.directions @ (to_world @ CHANGES[change] @ to_world.T).T
    dwi = dwi.with_(gradients=Gradients(dwi.gradients.bvals, wrong))
    tensor = microstructure(dwi, models=("dti",))
    check = check_gradients(tensor["v1"].data, tensor["fa"].data * phantom.mask, dwi.affine)
    assert check.right == (change == "as given"), str(check)
    if change == "swapped":
        assert "yxz" in check.best
    else:
        assert check.best == change
