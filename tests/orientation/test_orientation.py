"""Responses, deconvolution and peaks against constructed truth."""

from __future__ import annotations

import numpy as np
import pytest

from fornix.core import harmonics
from fornix.core.dwi import DWI
from fornix.core.errors import FornixError
from fornix.orientation import FOD_METHODS, check_fod, find_peaks, fod
from fornix.physics import Phantom
from fornix.testing import assert_gradient_order_free, assert_invariant, assert_rotates


def bundle(axes: np.ndarray, weights: np.ndarray, lmax: int = 8) -> np.ndarray:
    """Harmonics of narrow symmetric lobes along unit axes: sum of w exp(k (u.a)^2)."""
    return harmonics.project(
        lmax,
        lambda u: sum(w * np.exp(18 * ((u @ a) ** 2 - 1)) for a, w in zip(axes, weights)),
    )


def angle(a: np.ndarray, b: np.ndarray) -> float:
    cosine = abs(a @ b) / np.linalg.norm(a) / np.linalg.norm(b)
    return float(np.degrees(np.arccos(np.clip(cosine, 0, 1))))


def test_single_peaks_are_found_to_half_a_degree():
    rng = np.random.default_rng(0)
    axes = rng.standard_normal((200, 3))
    axes /= np.linalg.norm(axes, axis=1, keepdims=True)
    made = np.stack([bundle(a[None], np.ones(1)) for a in axes]).astype(np.float32)
    found = find_peaks(made, 3)
    errors = [angle(f[0], a) for f, a in zip(found, axes)]
    assert max(errors) < 0.5
    assert not found[:, 1:].any()
    top = np.einsum("nc,nc->n", harmonics.evaluate(8, axes), made)
    np.testing.assert_allclose(np.linalg.norm(found[:, 0], axis=1), top, rtol=0.01)


@pytest.mark.parametrize("between", [60, 75, 90])
def test_crossings_are_found_largest_first(between):
    a = np.array([1.0, 0, 0])
    b = np.array([np.cos(np.radians(between)), np.sin(np.radians(between)), 0])
    found = find_peaks(bundle(np.stack([b, a]), np.array([0.7, 1.0]))[None].astype(np.float32), 3)[
        0
    ]
    assert angle(found[0], a) < 3 and angle(found[1], b) < 5
    assert np.linalg.norm(found[0]) > np.linalg.norm(found[1])
    assert not found[2].any()


def test_nothing_in_an_empty_function():
    assert not find_peaks(np.zeros((3, 45), np.float32)).any()


@pytest.mark.parametrize("method", ["msmt", "csd"])
def test_first_peak_follows_the_true_fibre(phantom: Phantom, head: DWI, method):
    maps = fod(head, method)
    coherent = phantom.mask & (phantom.truth["dti_fa"].data > 0.45)
    ours = maps["peaks"].data[..., :3][coherent]
    true = phantom.truth["peaks"].data[..., :3][coherent]
    cosine = (
        np.abs((ours * true).sum(-1))
        / np.linalg.norm(ours, axis=-1)
        / np.linalg.norm(true, axis=-1)
    )
    assert len(cosine) > 300
    assert np.median(np.degrees(np.arccos(np.clip(cosine, 0, 1)))) < 4
    assert check_fod(maps["fod"].data) == 8


def test_constraint_holds(head: DWI):
    from fornix.core.directions import fibonacci

    made = fod(head, "msmt")["fod"].data[head.brain()]
    amplitude = made @ harmonics.evaluate(8, fibonacci(200)).T
    assert amplitude.min() > -0.1 * np.percentile(amplitude.max(1), 90)


def test_tissue_shares(phantom: Phantom, head: DWI):
    maps = fod(head, "msmt")
    total = maps["wm"].data + maps["gm"].data + maps["csf"].data
    np.testing.assert_allclose(total[head.brain()], 1, atol=1e-4)
    water = phantom.truth["noddi_fwf"].data > 0.9
    assert maps["csf"].data[water & head.brain()].mean() > 0.8
    assert maps["csf"].data[(phantom.truth["dti_fa"].data > 0.5) & head.brain()].mean() < 0.1


def test_ours_agrees_with_dipys_csd(phantom: Phantom, head: DWI):
    keep = head.brain() & (phantom.truth["dti_fa"].data > 0.4)
    keep &= np.random.default_rng(0).random(keep.shape) < 0.1
    from fornix.microstructure import microstructure

    tensor = microstructure(head, ("dti",), "wls")
    from fornix.orientation.csd import csd, csd_dipy
    from fornix.orientation.response import estimate_responses

    responses = estimate_responses(head, tensor["fa"].data, tensor["md"].data)
    part = head.with_(mask=keep)
    ours, theirs = csd(part, responses, 8)["fod"][keep], csd_dipy(part, responses, 8)["fod"][keep]
    a, b = ours[:, 1:], theirs[:, 1:]
    correlation = (a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)
    assert np.median(correlation) > 0.95
    assert np.median(ours[:, 0] / theirs[:, 0]) == pytest.approx(1, abs=0.1)


def test_symmetries(head: DWI):
    small = head.with_(mask=head.brain() & (np.indices(head.grid)[2] == head.grid[2] // 2))
    assert_rotates(lambda d: fod(d, "msmt")["fod"].data, small, "harmonics", atol=0.12)
    assert_invariant(lambda d: fod(d, "msmt")["csf"].data, small, atol=0.02)
    assert_gradient_order_free(lambda d: fod(d, "csd")["fod"].data, small, atol=2e-2)


def test_bad_input(head: DWI):
    few = head.subset([0, *np.flatnonzero(~head.gradients.b0_mask)[:5]])
    with pytest.raises(FornixError, match="6 directions or more"):
        fod(few)
    with pytest.raises(FornixError, match="choose one of"):
        fod(head, "magic")
    with pytest.raises(FornixError, match="coefficients"):
        check_fod(np.ones((2, 2, 2, 7)))
    with pytest.raises(FornixError, match="another basis"):
        check_fod(-np.ones((2, 2, 2, 15)))
    assert list(FOD_METHODS) == ["msmt", "csd", "csd-dipy"]
