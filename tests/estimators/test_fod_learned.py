"""The learned orientations of a whole scan: right, turning with it, sure where they may be."""

from __future__ import annotations

import numpy as np
import pytest

from fornix.core.dwi import DWI
from fornix.core.errors import FornixError
from fornix.core.maps import Maps
from fornix.estimators.fod import FOD_METHODS, fod
from fornix.estimators.fod_learned import MIN_PEAK_PROB
from fornix.models.fod_check import check_fod
from fornix.models.peak_matching import match
from fornix.physics import Phantom, simulate
from fornix.pipeline import Options
from fornix.testing.properties import assert_gradient_order_free, assert_rotates
from fornix.uncertainty.peaks import NEAR


@pytest.fixture(scope="module", params=["learned", "voxelwise"])
def method(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def found(phantom: Phantom, method: str) -> Maps:
    dwi = phantom.dwi.with_(mask=phantom.mask, sigma=phantom.sigma)
    return fod(dwi, method=method, peaks=4)


def test_first_peak_follows_the_true_fibre(phantom: Phantom, found: Maps) -> None:
    coherent = phantom.mask & (phantom.truth["dti_fa"].data > 0.45)
    ours = found["peaks"].data[..., :3][coherent]
    true = phantom.truth["peaks"].data[..., :3][coherent]
    length = np.linalg.norm(ours, axis=-1) * np.linalg.norm(true, axis=-1)
    cosine = np.abs((ours * true).sum(-1)) / np.maximum(length, 1e-9)
    assert len(cosine) > 300
    assert np.median(np.degrees(np.arccos(np.clip(cosine, 0, 1)))) < 5
    assert check_fod(found["fod"].data) == 8


def test_tissue_fractions(phantom: Phantom, found: Maps) -> None:
    inside = phantom.mask
    total = found["wm"].data + found["gm"].data + found["csf"].data
    np.testing.assert_allclose(total[inside], 1, atol=1e-4)
    water = phantom.truth["noddi_fwf"].data
    assert np.abs(found["csf"].data - water)[inside].mean() < 0.12
    assert found["csf"].data[inside & (water > 0.9)].mean() > 0.75


def test_probabilities_and_cones_hold_on_a_head(phantom: Phantom, method: str) -> None:
    """Of peaks called fibres with probability p about a share p are; cones hold their fibres."""
    dwi = phantom.dwi.with_(mask=phantom.mask, sigma=phantom.sigma)
    maps = FOD_METHODS[method].run(dwi, 4, min_peak_prob=0.0)
    inside = phantom.mask
    vectors = maps["peaks"].data[inside].reshape(-1, 4, 3)
    probability, cone = maps["peakprob"].data[inside], maps["peakcone"].data[inside]
    tissue = phantom.tissue
    share = (tissue.fraction * tissue.neural[:, None]).numpy()
    real = (share >= 0.1) & (tissue.odi.numpy() <= 0.45)
    angle, partner = match(vectors, tissue.mu.numpy(), real, NEAR)
    right = np.zeros(probability.shape, dtype=bool)
    rows, which = np.nonzero(partner >= 0)
    right[rows, partner[rows, which]] = True
    there = probability > 0
    # A head unlike the training's in detail: sure peaks are mostly fibres, doubted ones mostly not.
    assert right[there & (probability > 0.9)].mean() > 0.8
    assert right[there & (probability < 0.1)].mean() < 0.2
    inside_cone = angle[rows, which] <= cone[rows, partner[rows, which]]
    assert 0.88 < inside_cone.mean() <= 1


def test_only_confident_peaks_are_shown(found: Maps, head: DWI) -> None:
    length = np.linalg.norm(found["peaks"].data.reshape(*head.grid, 4, 3), axis=-1)
    probability = found["peakprob"].data
    np.testing.assert_array_equal(length > 0, probability > 0)
    assert probability[probability > 0].min() >= MIN_PEAK_PROB
    assert bool((np.diff(probability, axis=-1) <= 0).all())
    assert found["peakcone"].units == "degrees" and bool((found["fodstd"].data >= 0).all())


def test_the_threshold_is_a_choice(head: DWI) -> None:
    small = head.with_(mask=head.brain() & (np.indices(head.grid)[2] == head.grid[2] // 2))
    few, many = (fod(small, method="learned", min_peak_prob=p) for p in (0.8, 0.05))
    shown = few["peakprob"].data > 0
    assert few["peakprob"].data[shown].min() >= 0.8
    assert 0 < shown.sum() < (many["peakprob"].data > 0).sum()
    np.testing.assert_array_equal(few["fod"].data, many["fod"].data)
    with pytest.raises(FornixError, match="leave --min-peak-prob out"):
        fod(small, method="csd", min_peak_prob=0.5)
    with pytest.raises(FornixError, match="leave --min-peak-prob out"):
        Options(min_peak_prob=0.5, fod_method="csd")


def test_symmetries(head: DWI, method: str) -> None:
    small = head.with_(mask=head.brain() & (np.indices(head.grid)[2] == head.grid[2] // 2))
    assert_rotates(lambda d: fod(d, method=method)["fod"].data, small, "harmonics", atol=1e-4)
    assert_gradient_order_free(lambda d: fod(d, method=method)["fod"].data, small, atol=1e-4)


def test_six_directions_are_enough() -> None:
    phantom = simulate(protocol="dti6", snr=30, voxel_size=6.0, seed=5, threads=1)
    maps = fod(phantom.dwi.with_(mask=phantom.mask, sigma=phantom.sigma), method="learned")
    coherent = phantom.mask & (phantom.truth["dti_fa"].data > 0.5)
    ours, true = (m["peaks"].data[..., :3][coherent] for m in (maps, phantom.truth))
    length = np.linalg.norm(ours, axis=-1) * np.linalg.norm(true, axis=-1)
    cosine = np.abs((ours * true).sum(-1)) / np.maximum(length, 1e-9)
    assert np.median(np.degrees(np.arccos(np.clip(cosine, 0, 1)))) < 10


def test_bad_voxels_are_told_and_do_not_spread(head: DWI) -> None:
    mask = head.brain() & (np.indices(head.grid)[2] == head.grid[2] // 2)
    bad = tuple(np.argwhere(mask)[3])
    data = head.data.copy()
    data[bad] = np.nan
    broken = fod(head.with_(data=data, mask=mask), method="learned")
    assert broken.trust is not None and not broken.trust[bad]
    assert bool((broken["fod"].data[bad] == 0).all()) and np.isfinite(broken["fod"].data).all()
    assert broken.trust.sum() == mask.sum() - 1


def test_adaptation_is_kept_only_where_it_helps(head: DWI) -> None:
    small = head.with_(mask=head.brain() & (np.indices(head.grid)[2] == head.grid[2] // 2))
    plain, adapted = (fod(small, method="voxelwise", adapt=a) for a in (False, True))
    note = adapted.notes[-1]
    assert "unseen volumes" in note
    moved = float(np.abs(plain["fod"].data - adapted["fod"].data).max())
    assert (moved > 0) == note.endswith("kept") and moved < 0.5
    with pytest.raises(FornixError, match="leave --adapt out"):
        fod(small, method="csd", adapt=True)


def test_few_volumes_are_not_hidden() -> None:
    phantom = simulate(protocol="dti6", snr=30, voxel_size=8.0, seed=5, threads=1)
    dwi = phantom.dwi.with_(mask=phantom.mask, sigma=phantom.sigma)
    assert "not adapted" in fod(dwi, method="voxelwise", adapt=True).notes[-1]


def test_bad_input(head: DWI) -> None:
    with pytest.raises(FornixError, match="order 8"):
        fod(head, method="learned", lmax=6)
    with pytest.raises(FornixError, match="1 to 4 peaks"):
        fod(head, method="learned", peaks=5)
    with pytest.raises(FornixError, match=r"lie in \[0, 1\]"):
        fod(head, min_peak_prob=2.0)
    with pytest.raises(FornixError, match="noise level"):
        fod(head.with_(sigma=np.zeros(head.grid, np.float32)), method="learned")
    with pytest.raises(FornixError, match="usable signals"):
        fod(head.with_(data=np.full_like(head.data, np.nan)), method="learned")
