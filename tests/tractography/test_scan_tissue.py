"""Tissue for tracking by the network and the tensor together, and when the tensor stands alone."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy import ndimage

from fornix.core.dwi import DWI
from fornix.core.errors import FornixWarning
from fornix.core.maps import Maps
from fornix.estimators.microstructure import microstructure
from fornix.nets.tissue_classes import CLASSES, TissueSegmentation
from fornix.physics import Phantom
from fornix.tractography import scan_tissue as module
from fornix.tractography.scan_tissue import scan_tissue
from fornix.tractography.tissue_fractions import tissue_fractions


@pytest.fixture(scope="module")
def fields(phantom: Phantom) -> tuple[DWI, Maps]:
    dwi = phantom.dwi.with_(mask=phantom.mask, sigma=phantom.sigma)
    return dwi, microstructure(dwi, models=("dti",), method="wls")


@pytest.fixture(scope="module")
def seen(phantom: Phantom) -> TissueSegmentation:
    """What a network that makes no mistake would say."""
    anatomy = phantom.anatomy
    assert anatomy is not None
    probabilities = np.zeros((*phantom.mask.shape, len(CLASSES)), np.float32)
    for name, data in (
        ("white", anatomy.wm),
        ("cortical grey", anatomy.gm),
        ("csf", anatomy.csf),
    ):
        probabilities[..., CLASSES.index(name)] = np.where(phantom.mask, data, 0)
    probabilities[..., 0] = (1 - probabilities[..., 1:].sum(-1)).clip(0, 1)
    return TissueSegmentation(probabilities, np.zeros(phantom.mask.shape), phantom.mask)


def test_fractions_fill_the_brain_and_nothing_else(fields, seen):
    tissue = scan_tissue(*fields, seen)
    total = tissue.wm + tissue.gm + tissue.csf
    brain = fields[0].brain()
    np.testing.assert_allclose(total[brain], 1, atol=0.05)
    assert not total[~brain].any() and not tissue.notes


def test_the_network_adds_white_matter_and_fluid_to_the_tensors(phantom, fields, seen):
    anatomy = phantom.anatomy
    alone, both = tissue_fractions(*fields), scan_tissue(*fields, seen)
    crossing = phantom.mask & (anatomy.wm > 0.9) & (alone.wm < 0.3)
    assert crossing.sum() > 20
    assert both.wm[crossing].mean() > alone.wm[crossing].mean() + 0.15
    fluid = phantom.mask & (anatomy.csf > 0.9)
    assert both.csf[fluid].mean() > alone.csf[fluid].mean()


def test_anisotropy_at_the_brains_edge_is_not_white_matter(fields, seen):
    """Misaligned volumes make a bright rim of FA; the network does not see white matter in it."""
    dwi, maps = fields
    brain = dwi.brain()
    deep = ndimage.distance_transform_edt(np.pad(brain, 1), sampling=dwi.voxel_size)
    rim = brain & (deep[1:-1, 1:-1, 1:-1] < 6) & (seen["cortical grey"] > 0.8)
    assert rim.sum() > 20
    fa = np.where(rim, 0.5, maps["dti_fa"].data).astype(np.float32)
    rimmed = Maps({**maps.maps, "dti_fa": replace(maps["dti_fa"], data=fa)})
    assert scan_tissue(dwi, rimmed, seen).wm[rim].mean() < 0.3


def test_a_network_that_sees_white_matter_in_isotropic_tissue_is_not_believed(fields, seen):
    dwi, maps = fields
    fa = np.where(dwi.brain(), 0.4, 0).astype(np.float32)
    flat = Maps({**maps.maps, "dti_fa": replace(maps["dti_fa"], data=fa)})
    with pytest.warns(FornixWarning, match="FA in the network's white matter is 1.00 times"):
        scan_tissue(dwi, flat, seen)


@pytest.mark.parametrize("what", ["unsure", "elsewhere", "no weights"])
def test_where_the_network_is_of_no_use_the_tensor_decides_and_it_is_told(
    fields, seen, what, monkeypatch
):
    given: TissueSegmentation | None = seen
    if what == "unsure":
        given, words = replace(seen, notes=("the tissue network is unsure",)), "is unsure"
    elif what == "elsewhere":
        away = np.zeros_like(seen.probabilities)
        away[..., 0] = 1
        given, words = replace(seen, probabilities=away), "takes only 0% of the mask for brain"
    else:
        monkeypatch.setattr(module.weights, "available", lambda name: False)
        given, words = None, "not installed"
    with pytest.warns(FornixWarning, match=words):
        found = scan_tissue(*fields, given)
    assert words in found.notes[0]
    np.testing.assert_array_equal(found.wm, tissue_fractions(*fields).wm)
