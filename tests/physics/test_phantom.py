"""The whole phantom: shape, truth, noise level, seeds, and that importing it is cheap."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import torch

from fornix.core.design import quadratic_form
from fornix.core.errors import FornixError
from fornix.physics import Anatomy, Noise, anatomy, simulate, truth, voxels


@pytest.fixture(scope="module")
def clean_head(head: Anatomy):  # type: ignore[no-untyped-def]
    return simulate(head, protocol="demo", snr=float("inf"), lesions=2, threads=1)


def test_a_clean_phantom_is_its_own_truth(clean_head) -> None:  # type: ignore[no-untyped-def]
    p = clean_head
    assert p.dwi.mask is None and p.dwi.stem == "sub-phantom" and p.dwi.data.dtype == np.float32
    np.testing.assert_array_equal(p.dwi.data, p.clean)
    assert not p.dwi.data[~p.mask].any() and (p.dwi.data[p.mask] > 0).all()
    b0 = p.dwi.mean_b0()
    np.testing.assert_allclose(b0[p.mask], p.truth["dti_s0"].data[p.mask], rtol=1e-5)
    white = (p.anatomy.wm > 0.9) & (p.anatomy.lesions == 0)
    assert 0.35 < p.truth["fa"].data[white].mean() < 0.65
    assert 0.55e-3 < p.truth["md"].data[white].mean() < 0.9e-3
    assert 0.8 < p.truth["mk"].data[white].mean() < 1.5
    ill = p.anatomy.lesions == 1
    assert p.truth["ndi"].data[ill].mean() < p.truth["ndi"].data[white].mean() - 0.1


def test_a_plain_fit_finds_the_truth(clean_head) -> None:  # type: ignore[no-untyped-def]
    """Weighted least squares of the b=1000 shell against the truth's dense protocol."""
    p = clean_head
    low = p.dwi.gradients.bvals < 1500
    g = p.dwi.gradients.subset(low)
    design = np.hstack([np.ones((len(g), 1)), -g.b[:, None] * quadratic_form(g.directions)])
    fit = truth.log_fit(torch.tensor(p.clean[p.mask][:, low]).double(), design)
    found = truth.tensor_metrics(fit[:, 1:])
    error = np.abs(found["fa"].numpy() - p.truth["fa"].data[p.mask])
    assert error.mean() < 5e-3 and error.max() < 0.05


def test_the_noise_is_as_asked(head: Anatomy) -> None:
    p = simulate(head, protocol="dti12", snr=20, noise=None, seed=1)
    outside = p.dwi.data[~p.mask]
    assert (outside**2).mean() == pytest.approx(2 * 50.0**2, rel=0.01)
    np.testing.assert_allclose(p.sigma, 50)
    model = Noise(snr=20, coils=4, variation=0.3)
    q = simulate(head, protocol="dti6", noise=model, seed=1)
    outside = (q.dwi.data[~q.mask] / q.sigma[~q.mask][:, None]) ** 2
    assert outside.mean() == pytest.approx(8, rel=0.01)
    np.testing.assert_array_equal(p.clean[..., 0], q.clean[..., 0])


def test_the_seed_alone_decides() -> None:
    head = anatomy.embedded(voxel_size=8.0)
    options = {"snr": 25, "artefacts": "severe", "seed": 3}
    one = simulate(head, protocol="dti6", threads=1, **options)
    two = simulate(head, protocol="dti6", threads=2, **options)
    np.testing.assert_array_equal(one.dwi.data, two.dwi.data)
    for name in ("fa", "mk", "fod"):
        np.testing.assert_array_equal(one.truth[name].data, two.truth[name].data)
    other = simulate(head, protocol="dti6", **{**options, "seed": 4})
    assert (one.dwi.data != other.dwi.data).mean() > 0.5
    kept = one.artefact_truth
    assert kept is not None and kept.moves and kept.field_map.any() and kept.eddy.any()
    # The table given is the scanner's, not the one that the turned head felt.
    assert one.dwi.gradients == other.dwi.gradients


def test_moving_heads_feel_turned_gradients(head: Anatomy) -> None:
    from fornix.physics import Artefacts

    p = simulate(head, protocol="dti6", snr=float("inf"), artefacts=Artefacts(motion_degrees=10.0))
    kept = p.artefact_truth
    volume = int(np.abs(kept.motion).sum(1).argmax())
    middle = np.rint(np.argwhere(p.mask).mean(0)).astype(int)
    around = tuple(slice(m - 3, m + 4) for m in middle)
    from fornix.physics import signal

    right = signal(p.tissue, kept.head_gradients(p.dwi.gradients))[:, volume].numpy()
    volumes = np.zeros(p.mask.shape, np.float32)
    volumes[p.mask] = right
    points, rate = kept.head_coordinates(volume)
    from scipy.ndimage import map_coordinates

    expected = map_coordinates(volumes, points.transpose(3, 0, 1, 2), order=1) * rate
    found = p.dwi.data[..., volume]
    wrong = map_coordinates(p.clean[..., volume], points.transpose(3, 0, 1, 2), order=1)
    near = np.abs(found - expected)[around].mean()
    assert near < np.abs(found - wrong)[around].mean()


def test_loose_voxels() -> None:
    p = voxels(50, "ukb", snr=30, seed=2)
    assert p.dwi.data.shape == (50, 1, 1, 105) and p.truth["fod"].data.shape == (50, 1, 1, 45)
    assert 0 < (p.dwi.data - p.clean).std() < 60
    again = voxels(50, "ukb", snr=30, seed=2)
    np.testing.assert_array_equal(p.dwi.data, again.dwi.data)
    mine = voxels(50, "dti30", snr=float("inf"), tissue=p.tissue)
    np.testing.assert_array_equal(mine.truth["fa"].data, p.truth["fa"].data)
    with pytest.raises(FornixError, match="50"):
        voxels(7, tissue=p.tissue)


def test_unknown_names_are_told() -> None:
    with pytest.raises(FornixError, match="embedded"):
        simulate("brainless")
    with pytest.raises(FornixError, match="bench96"):
        simulate(protocol="none")
    with pytest.raises(FornixError, match="typical"):
        simulate(artefacts="terrible")


def test_importing_is_cheap() -> None:
    heavy = "('nilearn', 'dipy', 'nibabel', 'numba')"
    code = f"import sys, fornix.physics; print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
