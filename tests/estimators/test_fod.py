"""The stage as a whole: fibres, tissue shares, symmetries and what it refuses."""

from __future__ import annotations

import numpy as np
import pytest

from fornix.core.dwi import DWI
from fornix.core.errors import FornixError
from fornix.estimators.fod import fod
from fornix.models.fod_check import check_fod
from fornix.numerics import harmonics
from fornix.physics import Phantom
from fornix.testing.properties import assert_gradient_order_free, assert_invariant, assert_rotates


@pytest.mark.parametrize("method", ["msmt", "csd"])
def test_first_peak_follows_the_true_fibre(phantom: Phantom, head: DWI, method):
    maps = fod(head, method=method)
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
    from fornix.numerics.directions import fibonacci

    made = fod(head, method="msmt")["fod"].data[head.brain()]
    amplitude = made @ harmonics.evaluate(8, fibonacci(200)).T
    assert amplitude.min() > -0.1 * np.percentile(amplitude.max(1), 90)


def test_tissue_shares(phantom: Phantom, head: DWI):
    maps = fod(head, method="msmt")
    total = maps["wm"].data + maps["gm"].data + maps["csf"].data
    np.testing.assert_allclose(total[head.brain()], 1, atol=1e-4)
    water = phantom.truth["noddi_fwf"].data > 0.9
    assert maps["csf"].data[water & head.brain()].mean() > 0.8
    assert maps["csf"].data[(phantom.truth["dti_fa"].data > 0.5) & head.brain()].mean() < 0.1


def test_ours_agrees_with_dipys_csd(phantom: Phantom, head: DWI):
    keep = head.brain() & (phantom.truth["dti_fa"].data > 0.4)
    keep &= np.random.default_rng(0).random(keep.shape) < 0.1
    from fornix.estimators.microstructure import microstructure

    tensor = microstructure(head, models=("dti",), method="wls")
    from fornix.models.deconvolution.csd import csd, csd_dipy
    from fornix.models.deconvolution.response import estimate_responses

    responses = estimate_responses(head, tensor["fa"].data, tensor["md"].data)
    part = head.with_(mask=keep)
    ours, theirs = csd(part, responses, 8)["fod"][keep], csd_dipy(part, responses, 8)["fod"][keep]
    a, b = ours[:, 1:], theirs[:, 1:]
    correlation = (a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)
    assert np.median(correlation) > 0.95
    assert np.median(ours[:, 0] / theirs[:, 0]) == pytest.approx(1, abs=0.1)


def test_symmetries(head: DWI):
    small = head.with_(mask=head.brain() & (np.indices(head.grid)[2] == head.grid[2] // 2))
    assert_rotates(lambda d: fod(d, method="msmt")["fod"].data, small, "harmonics", atol=0.12)
    assert_invariant(lambda d: fod(d, method="msmt")["csf"].data, small, atol=0.02)
    assert_gradient_order_free(lambda d: fod(d, method="csd")["fod"].data, small, atol=2e-2)


def test_bad_input(head: DWI):
    few = head.subset([0, *np.flatnonzero(~head.gradients.b0_mask)[:5]])
    with pytest.raises(FornixError, match="6 directions or more"):
        fod(few)
    with pytest.raises(FornixError, match="choose one of"):
        fod(head, method="magic")
