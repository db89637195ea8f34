"""A `trxscan` head is what it says: frames, noise-free signals, noise and truth, on a tiny phantom."""

from __future__ import annotations

from dataclasses import replace

import nibabel as nib
import numpy as np
import pytest

from fornix.core.errors import FornixError
from fornix.physics.protocol import scheme, shells
from fornix_bench.judge.phantom import MOVING, Head, HeadConfig, of_scene
from fornix_bench.judge.population import TrxscanPopulation, of_head
from fornix_bench.judge.scan import Faults, scan_head
from fornix_bench.suites.microstructure.estimates import PARAMS, estimate

ts = pytest.importorskip(
    "trxscan", reason="the second simulator, `pip install trxscan`, is not here"
)

#: Neither is its own mirror image in any axis or pair of axes, nor the other's.
LEFT, RIGHT = np.array([1.0, 2.0, 0.7]), np.array([1.5, -1.0, 1.0])


def _unit(v: np.ndarray) -> np.ndarray:
    return v / np.linalg.norm(v)


def _head(config: HeadConfig, densest: bool = False) -> Head:
    """A block of white matter, straight fibres in its left and others in its right, both in the middle."""
    grid, affine = (44, 44, 18), np.diag([1.25, 1.25, 1.25, 1.0])
    affine[:3, 3] = (-27, -27, -11)
    tissue = np.zeros((*grid, 3), np.float32)
    tissue[4:40, 4:40, 1:17] = (0.85, 0.1, 0.05)
    rng = np.random.default_rng(0)
    lines = []
    for axis, low, high in ((LEFT, -25, 7), (RIGHT, -7, 25)):
        for centre in rng.uniform((-25, -25, -14), (25, 25, 14), (6000, 3)):
            points = centre + np.arange(-6, 6.1, 1.0)[:, None] * _unit(axis)
            points = points[(points[:, 0] > low) & (points[:, 0] < high)]
            if len(points) > 2:
                lines.append(points)
    offsets = np.r_[0, np.cumsum([len(x) for x in lines])]
    images = [nib.Nifti1Image(tissue[..., k], affine) for k in range(3)]
    field = nib.Nifti1Image(np.full(grid, 60.0, np.float32), affine)
    anatomy = ts.Phantom.from_files(
        wm=images[0], gm=images[1], csf=images[2], fieldmap=field,
        streamlines=ts.Streamlines(np.concatenate(lines), offsets),
    )  # fmt: skip
    protocol = ts.Protocol.DEFAULT.replace(
        pad=(1, 2, 1), te_ms=90.0, readout_ms=30.0, kappa=config.dispersion,
        signal_scale=1000 * np.exp(90 / ts.Tissue.ADULT.t2_fiber),
    )  # fmt: skip
    scene = anatomy.grid(protocol)
    if densest:
        protocol = protocol.replace(
            tissue=ts.Tissue.ADULT.replace(intra_frac=0.75, extra_frac=0.25)
        )
        scene = scene.with_myelin(np.full(scene.sim_dims, 0.4, np.float32))
    return of_scene(scene, protocol, config)


@pytest.fixture(scope="module")
def head() -> Head:
    return _head(HeadConfig(), densest=True)


@pytest.fixture(scope="module")
def population(head: Head) -> TrxscanPopulation:
    return of_head(head)


def _inner(head: Head) -> np.ndarray:
    """Voxels two or more away from the block's edge, (n,)."""
    from scipy.ndimage import binary_erosion

    return binary_erosion(head.mask, iterations=2)[head.mask]


def test_truth_is_trxscans_own_signal(head: Head) -> None:
    gradients = shells(1, (1000, 6), (2000, 6))
    table = (gradients.bvals, np.array(gradients.directions))
    parts = head.scene.simulate(
        table, head.protocol, ts.Artifacts(), kspace=False, clean_b0=False
    ).compartments
    x, y, z = head.scene.dims
    whole = sum(
        w * np.reshape(image, (z, y, 2, x, 2, -1)).mean((2, 4))
        for w, image in zip(head.weights, parts.images())
    )
    own = np.transpose(whole, (2, 1, 0, 3))[head.mask]
    np.testing.assert_allclose(head.clean(gradients), own, rtol=2e-4, atol=0.02)


def test_readout_keeps_the_truth_where_tissue_is_even(head: Head) -> None:
    gradients, inner = scheme("dti12"), _inner(head)
    clean, seen = head.clean(gradients), scan_head(head, gradients, snr=1e6).dwi.signals()
    apart = (seen / seen[:, :1] - clean / clean[:, :1])[inner]
    assert np.abs(apart).mean() < 0.03
    assert np.median(seen[inner, 0] / clean[inner, 0]) == pytest.approx(1, abs=0.05)
    true, found = (
        (s[:, :1] * np.argwhere(head.mask)).sum(0) / s[:, 0].sum() for s in (clean, seen)
    )
    np.testing.assert_allclose(found, true, atol=0.05)  # no shift by a part of a voxel


def test_truth_of_the_image_is_what_a_scan_without_noise_gives(
    population: TrxscanPopulation,
) -> None:
    found = estimate(population.scan(shells(1, (1000, 64)), 1e6), "wls").values
    here = population.regions["white"]
    assert np.abs(found["dti_fa"] - population.truth["dti_fa"])[here].max() < 0.02
    assert np.abs(found["dti_md"] - population.truth["dti_md"])[here].max() < 0.03


@pytest.mark.parametrize("readout", [True, False])
def test_directions_are_the_streamlines_in_world_axes(
    population: TrxscanPopulation, readout: bool
) -> None:
    head = population.head
    assert head is not None and population.fibres is not None
    world = np.argwhere(head.mask) @ head.affine[:3, :3].T + head.affine[:3, 3]
    scan = replace(population, readout=readout).scan(scheme("dti30"), 1e5)
    v1 = estimate(scan, "wls").values["dti_v1"]
    for axis, side in ((LEFT, world[:, 0] < -12), (RIGHT, world[:, 0] > 12)):
        here = side & population.regions["single"] & _inner(head)
        assert here.sum() > 20
        for found in (v1, population.fibres.axes[:, 0], population.truth["dti_v1"]):
            cosine = np.abs(found[here] @ _unit(axis))
            assert np.degrees(np.arccos(np.clip(np.median(cosine), 0, 1))) < 6


def test_both_populations_of_a_crossing_are_found(population: TrxscanPopulation) -> None:
    assert population.fibres is not None
    here = population.regions["crossing"]
    assert here.sum() > 20
    cosines = np.abs(population.fibres.axes[here] @ np.stack([_unit(LEFT), _unit(RIGHT)], 1))
    best = cosines[:, :2].max(1)  # of both directions, the nearer of the two largest
    assert np.degrees(np.arccos(np.median(best, 0))).max() < 8
    assert np.median(population.fibres.shares[here][:, :2].sum(1)) > 0.9


def test_truth_of_the_tissue(population: TrxscanPopulation) -> None:
    head = population.head
    assert head is not None
    assert {f"{m}_{p}" for m in PARAMS for p in PARAMS[m]} <= set(population.truth)
    assert all(np.isfinite(v).all() for v in population.truth.values())
    single = population.regions["single"] & _inner(head)
    truth = {k: np.median(v[single]) for k, v in population.truth.items() if v.ndim == 1}
    assert truth["volume_ndi"] == pytest.approx((0.75 - 0.4 * 0.2) * 0.85 / 0.95, abs=0.005)
    assert truth["volume_fwf"] == pytest.approx(0.05, abs=0.002)
    assert truth["noddi_fwf"] > 2.5 * truth["volume_fwf"]  # water keeps its signal
    kappa = 2 / np.pi * np.arctan(1 / 10)
    assert truth["noddi_odiw"] == pytest.approx(kappa, abs=0.01)  # 321 directions, not all
    assert truth["noddi_odi"] == pytest.approx(kappa, abs=0.02)
    crossing = population.regions["crossing"]
    assert np.median(population.truth["noddi_odi"][crossing]) > 2 * kappa


@pytest.mark.parametrize("readout", [True, False])
def test_noise_has_its_level_and_seed(head: Head, readout: bool) -> None:
    gradients = scheme("dti6")
    scans = [
        scan_head(head, gradients, snr, seed, readout=readout).dwi.data
        for snr, seed in ((20, 1), (20, 1), (20, 2), (1e9, 1))
    ]
    np.testing.assert_array_equal(scans[0], scans[1])
    assert not np.array_equal(scans[0], scans[2])
    noise = (np.asarray(scans[0]) - np.asarray(scans[3]))[head.mask][:, gradients.b0_mask]
    assert noise.std() == pytest.approx(1000 / 20, rel=0.1)


def test_faults_show_and_are_refused_where_they_cannot_be(head: Head) -> None:
    gradients = scheme("dti6")
    with pytest.raises(FornixError, match="readout"):
        scan_head(head, gradients, readout=False, faults=Faults(field=True))
    with pytest.raises(FornixError, match="MOVING"):
        scan_head(head, gradients, faults=Faults(motion=1.0))
    bare = _head(MOVING)
    clean = np.asarray(scan_head(bare, gradients, 1e9).dwi.data)
    for faults in (Faults(motion=3.0), Faults(eddy=0.002), Faults(field=True), Faults(dropout=0.9)):
        made = scan_head(bare, gradients, 1e9, faults=faults)
        assert np.abs(np.asarray(made.dwi.data) - clean)[bare.mask].mean() > 0.5, faults
        assert (made.poses is not None) == bool(faults.motion)
        assert bool(made.dropped) == bool(faults.dropout)
