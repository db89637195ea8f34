"""The brain mask by network and threshold together."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy import ndimage

from fornix.core.errors import FornixWarning
from fornix.estimators.mask import brain_mask
from fornix.nets import weights
from fornix.nets.network_mask import network_mask
from fornix.nets.tissue_classes import CLASSES, TissueSegmentation
from fornix.nets.tissue_segmentation import NAME
from fornix.physics import Phantom, simulate
from fornix.preprocess.mask import shells


@pytest.fixture(scope="module")
def head() -> Phantom:
    return simulate(protocol="dti12", snr=20, voxel_size=3.0, artefacts="none", seed=31, threads=1)


def said(phantom: Phantom, brain: np.ndarray) -> TissueSegmentation:
    """A network that is sure of a brain: white inside, fluid in its outermost voxel."""
    p = np.zeros((*brain.shape, len(CLASSES)), np.float32)
    inner = ndimage.binary_erosion(brain)
    p[inner, CLASSES.index("white")] = 1
    p[brain & ~inner, CLASSES.index("csf")] = 1
    p[~brain, 0] = 1
    return TissueSegmentation(p, np.zeros(brain.shape, np.float32), brain)


def dice(a: np.ndarray, b: np.ndarray) -> float:
    return 2 * (a & b).sum() / (a.sum() + b.sum())


@pytest.mark.skipif(not weights.available(NAME), reason="no weights of it ship")
def test_it_finds_the_brain_of_a_phantom(head):
    assert dice(brain_mask(head.dwi, method="network").mask, head.mask) > 0.98


def test_scalp_that_the_network_takes_for_fluid_is_left_out(head):
    """A strip of one voxel beside the brain, and one that touches it."""
    apart = ndimage.binary_dilation(head.mask, iterations=4)
    apart &= ~ndimage.binary_dilation(head.mask, iterations=3)
    found = said(head, head.mask)
    found.probabilities[apart] = 0
    found.probabilities[apart, CLASSES.index("csf")] = 1
    made = network_mask(head.dwi, found)
    assert not made[apart].any()
    assert dice(made, head.mask) > 0.98


def test_dark_brainstem_is_kept(head):
    """Where the signal is low the threshold sees no brain, the network does."""
    low = head.mask.copy()
    low[:, :, np.argwhere(head.mask)[:, 2].min() + 6 :] = False
    assert low.sum() > 100
    data = np.where(low[..., None], 0.05 * head.dwi.data, head.dwi.data)
    dark = replace(head.dwi, data=data)
    assert shells(dark)[low].mean() < 0.5
    found = said(head, head.mask)
    found.probabilities[low] = 0
    found.probabilities[low, CLASSES.index("brainstem")] = 1
    assert network_mask(dark, found)[low].mean() > 0.9


def test_an_unsure_network_is_not_believed_and_it_is_told(head):
    found = replace(said(head, head.mask), notes=("the tissue network is unsure about this scan",))
    with pytest.warns(FornixWarning, match=r"that of shells: the tissue network is unsure"):
        made = network_mask(head.dwi, found)
    np.testing.assert_array_equal(made, shells(head.dwi))
