"""Motion, eddy currents and field of simulated scans are found, in any storage order, and said."""

from __future__ import annotations

import warnings
from itertools import permutations, product

import numpy as np
import pytest

from fornix.core.errors import FornixError
from fornix.core.series import Series
from fornix.physics import simulate
from fornix.physics.protocol import shells
from fornix.physics.scanner import Artefacts
from fornix.preprocess.acquisition import Acquisition
from fornix.preprocess.geometry.correction import correct_geometry
from fornix.preprocess.geometry.field import estimate_field
from fornix.preprocess.geometry.resampling import resample
from fornix.preprocess.geometry.transform import Geometry, displacement
from fornix.preprocess.phase_encoding import PhaseEncoding

MOVED = Artefacts(eddy=8, motion_mm=1.0, motion_degrees=1.0, dropout=0.02)


@pytest.fixture(scope="module")
def moved():
    return simulate(
        protocol=shells(1, (1000, 16)), snr=25, voxel_size=4.0, artefacts=MOVED, seed=3, threads=1
    )


@pytest.fixture(scope="module")
def unmoved(moved):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return correct_geometry(
            moved.dwi.with_(mask=moved.mask), Acquisition(PhaseEncoding(1, 1, 0.05))
        )


@pytest.fixture(scope="module")
def pair():
    return [
        simulate(
            protocol=shells(1, (1000, 6)), snr=40, voxel_size=4.0, seed=5, threads=1,
            artefacts=Artefacts(field=80, phase_encoding=word),
        )
        for word in ("j", "j-")
    ]  # fmt: skip


def true_geometry(made) -> Geometry:
    truth = made.artefact_truth
    poses = np.tile(np.eye(4), (len(truth.motion), 1, 1))
    poses[:, :3, :3] = truth.rotations
    poses[:, :3, 3] = truth.centre - truth.rotations @ truth.centre + truth.motion[:, :3]
    encoding = PhaseEncoding(1, 1, truth.artefacts.readout_time)
    return Geometry(made.dwi.affine, made.dwi.grid, poses, encoding, truth.eddy)


def errors(found: Geometry, made) -> np.ndarray:
    """(N,) mean distance in the brain, mm, between where signal was measured and where it is sought."""
    true, places = true_geometry(made), np.argwhere(made.mask)[::11]
    out = []
    for v in range(len(true.poses)):
        ends = []
        for g in (found, true):
            at, shift, _ = g.measured(v, places)
            at = at.astype(float)
            at[:, 1] += shift
            ends.append(at)
        out.append(np.linalg.norm((ends[0] - ends[1]) * made.dwi.voxel_size, axis=1).mean())
    return np.array(out)


def test_motion_and_eddy_currents_are_found(moved, unmoved):
    dwi, found = moved.dwi, unmoved.aligned
    encoding = true_geometry(moved).encoding
    rest = Geometry.at_rest(dwi.affine, dwi.grid, len(dwi.gradients), encoding)
    before, after = errors(rest, moved)[1:], errors(found.geometry, moved)[1:]
    assert before.mean() > 1.5
    assert after.mean() < 0.4 and after.max() < 0.8
    lost = np.zeros_like(found.lost)
    for drop in moved.artefact_truth.dropped:
        lost[drop.volume, drop.slice] = True
    assert (found.lost & lost).sum() >= 0.8 * lost.sum()
    assert (found.lost & ~lost).mean() < 0.02


def test_the_corrected_scan_is_nearer_to_the_clean_one(moved, unmoved):
    dwi, made = moved.dwi, unmoved
    clean, inside = moved.clean, moved.mask
    before = np.sqrt(((np.asarray(dwi.data) - clean)[inside] ** 2).mean())
    after = np.sqrt(((np.asarray(made.dwi.data) - clean)[inside] ** 2).mean())
    assert after < 0.6 * before
    # The gradients are turned back by the head's rotation.
    true = moved.artefact_truth.head_gradients(dwi.gradients)
    cosine = np.abs((made.dwi.gradients.directions * true.directions).sum(1))[1:]
    assert np.degrees(np.arccos(cosine.clip(0, 1))).max() < 0.6


def test_the_table_says_what_was_found(moved, unmoved):
    made = unmoved
    table = made.confounds()
    geometry = made.aligned.geometry
    assert {len(column) for column in table.values()} == {len(moved.dwi.gradients)}
    np.testing.assert_allclose(table["rot_x"], geometry.angles[:, 0], atol=1e-5)
    np.testing.assert_allclose(table["trans_y"], geometry.translations[:, 1], atol=1e-5)
    assert table["framewise_displacement"][0] == "n/a"
    assert displacement(geometry.poses[0], np.eye(4), geometry.centre) == pytest.approx(0, abs=1e-9)


def test_nothing_moves_where_nothing_moved(moved):
    dwi = moved.dwi.with_(mask=moved.mask)
    rest = Geometry.at_rest(dwi.affine, dwi.grid, len(dwi.gradients))
    np.testing.assert_array_equal(resample(dwi, rest).data, dwi.data)


def reordered(image: np.ndarray, order: tuple[int, ...], flips: tuple[bool, ...]) -> np.ndarray:
    out = np.transpose(image, order)
    return np.flip(out, [a for a in range(3) if flips[a]])


def test_the_field_is_the_same_in_all_48_storage_orders(pair):
    one, other = pair
    box = (slice(8, 42), slice(8, 50), slice(14, 30))
    first, second, mask = (v[box] for v in (one.dwi.mean_b0(), other.dwi.mean_b0(), one.mask))
    levels = ((10.0, 5, 0.5), (5.0, 5, 0.1))
    reference = estimate_field(
        first, second, mask, one.dwi.affine, PhaseEncoding(1, 1, 0.05), levels=levels
    ).hz
    truth = one.artefact_truth.field_map[box]
    assert np.median(np.abs(reference - truth)[mask]) * 0.05 * 4 < 0.35
    orders = list(product(permutations(range(3)), product((False, True), repeat=3)))
    for order, flips in orders:
        affine = np.eye(4)
        affine[:3, :3] = one.dwi.affine[:3, :3][:, order] * np.where(flips, -1, 1)
        axis = order.index(1)
        encoding = PhaseEncoding(axis, -1 if flips[axis] else 1, 0.05)
        found = estimate_field(
            reordered(first, order, flips), reordered(second, order, flips),
            reordered(mask, order, flips), affine, encoding, levels=levels,
        )  # fmt: skip
        inside = reordered(mask, order, flips)
        wanted = reordered(reference, order, flips)[inside]
        assert np.abs(found.hz[inside] - wanted).max() < 0.5, (order, flips)


def test_a_pair_is_unwarped(pair):
    one, other = (p.dwi for p in pair)
    made = correct_geometry(
        one.with_(mask=pair[0].mask),
        Acquisition(PhaseEncoding(1, 1, 0.05), other, PhaseEncoding(1, -1, 0.05)),
    )
    assert made.field.before < 0.8 < 0.98 < made.field.after
    error = np.abs(made.field.hz - pair[0].artefact_truth.field_map)[pair[0].mask] * 0.05 * 4
    assert np.median(error) < 0.3
    clean = pair[0].clean[..., 0]
    inside = pair[0].mask
    before = np.abs(one.mean_b0() - clean)[inside].mean()
    assert np.abs(made.dwi.mean_b0() - clean)[inside].mean() < 0.5 * before


def test_pairs_that_are_none_are_refused(pair):
    one, other = (p.dwi for p in pair)
    one = one.with_(mask=pair[0].mask)
    j, back, i = PhaseEncoding(1), PhaseEncoding(1, -1), PhaseEncoding(0)
    with pytest.raises(FornixError, match="must be the other way"):
        correct_geometry(one, Acquisition(j, other, j))
    with pytest.raises(FornixError, match="no reversed pair"):
        correct_geometry(one, Acquisition(j, other, i))
    with pytest.raises(FornixError, match="--phase-encoding"):
        correct_geometry(one, Acquisition(None, other, None))
    rng = np.random.default_rng(1)
    noise = other.with_(data=rng.uniform(0, 1000, other.data.shape).astype(np.float32))
    with pytest.raises(FornixError, match="not a reversed pair"):
        correct_geometry(one, Acquisition(j, noise, back))


def test_what_cannot_be_registered_is_said(moved):
    dwi = moved.dwi.with_(mask=moved.mask)
    thin = dwi.with_(data=np.asarray(dwi.data)[:, :, 20:23], mask=moved.mask[:, :, 20:23])
    with pytest.warns(UserWarning, match="too thin"):
        made = correct_geometry(thin, Acquisition(PhaseEncoding(1)))
    np.testing.assert_array_equal(made.dwi.data, thin.data)
    with pytest.warns(UserWarning, match="--phase-encoding"):
        correct_geometry(thin, Acquisition())


def test_a_scan_on_disk_is_corrected_the_same(moved, unmoved):
    data = Series(moved.dwi.data.shape)
    for v in range(data.shape[3]):
        data.put_volume(v, moved.dwi.volume(v))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        made = correct_geometry(
            moved.dwi.with_(mask=moved.mask, data=data), Acquisition(PhaseEncoding(1, 1, 0.05))
        )
    assert isinstance(made.dwi.data, Series)
    np.testing.assert_allclose(np.asarray(made.dwi.data), unmoved.dwi.data, atol=1e-2)
