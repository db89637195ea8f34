"""Responses: of signals with a known response, and of the phantom."""

from __future__ import annotations

import numpy as np
import pytest

from fornix.core.dwi import DWI
from fornix.core.errors import FornixError
from fornix.estimators.microstructure import microstructure
from fornix.models.deconvolution.response import estimate_responses
from fornix.models.deconvolution.single_fibre import single_fibre_voxels
from fornix.numerics import harmonics
from fornix.numerics.directions import spread
from fornix.numerics.zonal import convolution, fit_zonal
from fornix.physics import Phantom

TRUE = np.array([0.5, -0.5, 0.18, -0.03, 0.004])


def axes(count: int, seed: int = 0) -> np.ndarray:
    out = np.random.default_rng(seed).standard_normal((count, 3))
    return out / np.linalg.norm(out, axis=1, keepdims=True)


def test_convolution_of_one_fibre_is_its_response():
    directions, fibre = spread(60), axes(1)
    one = harmonics.evaluate(8, fibre)[0]
    cosine = directions @ fibre[0]
    expected = np.polynomial.legendre.legval(cosine, np.insert(TRUE, range(1, 5), 0))
    np.testing.assert_allclose(convolution(directions, TRUE, 8) @ one, expected, atol=1e-12)


def test_a_response_is_recovered_and_stays_physical_in_noise():
    directions, fibres = spread(30), axes(200)
    clean = harmonics.evaluate(8, fibres) @ convolution(directions, TRUE, 8).T
    found = fit_zonal(clean.astype(np.float32), directions, fibres, 8)
    np.testing.assert_allclose(found, TRUE, atol=1e-4)
    noisy = clean[:5] + 0.3 * np.random.default_rng(1).standard_normal((5, 30))
    found = fit_zonal(noisy.astype(np.float32), directions, fibres[:5], 8)
    cosine = np.cos(np.linspace(0, np.pi / 2, 91))
    shape = np.polynomial.legendre.legval(cosine, np.insert(found, range(1, 5), 0))
    assert shape.min() > -1e-9 and (np.diff(shape) > -1e-9).all()


def test_straight_fibres_are_chosen_among_crossings():
    directions, first, second = spread(40), axes(400), axes(400, seed=1)
    design = convolution(directions, TRUE, 8)
    straight = harmonics.evaluate(8, first) @ design.T
    crossing = 0.5 * straight + 0.5 * harmonics.evaluate(8, second) @ design.T
    signals = np.concatenate([straight[:100], crossing[100:]])
    signals += 0.01 * np.random.default_rng(2).standard_normal(signals.shape)
    chosen, found = single_fibre_voxels(signals.astype(np.float32), directions, 8, 60)
    assert (chosen < 100).mean() > 0.95
    cosine = np.abs((found * first[chosen]).sum(1))
    assert np.median(np.degrees(np.arccos(np.clip(cosine, 0, 1)))) < 2


def test_tissues_of_the_phantom(phantom: Phantom, head: DWI):
    tensor = microstructure(head, models=("dti",), method="wls")
    found = estimate_responses(head, tensor["fa"].data, tensor["md"].data)
    water = head.brain() & (phantom.truth["noddi_fwf"].data > 0.95)
    assert found.csf[0] == pytest.approx(head.data[water][:, found.volumes[0]].mean(), rel=0.1)
    assert found.csf[1] < 0.12 * found.csf[0]  # voxels of 5 mm hold some tissue
    assert found.csf[-1] < found.gm[-1]
    assert (np.diff(found.gm) < 0).all() and (np.diff(found.wm[:, 0]) < 0).all()
    with pytest.raises(FornixError, match="no voxel looks like white matter"):
        estimate_responses(head, np.zeros(head.grid), tensor["md"].data)
