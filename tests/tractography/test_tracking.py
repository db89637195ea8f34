"""Tracking on constructed fields and on the phantom."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.ndimage import map_coordinates

from fornix.core.dwi import DWI
from fornix.core.errors import FornixError, FornixWarning
from fornix.core.maps import Map, Maps
from fornix.estimators.fod import fod
from fornix.estimators.microstructure import microstructure
from fornix.numerics import harmonics
from fornix.physics import Phantom
from fornix.tractography import engine
from fornix.tractography.criteria import TrackingCriteria
from fornix.tractography.engine import track_engine
from fornix.tractography.scan_tissue import scan_tissue
from fornix.tractography.tissue_fractions import TissueFractions, tissue_fractions
from fornix.tractography.track import track

OBLIQUE = np.array([[-1.8, 0.3, 0, 20], [0.3, 1.8, 0.2, -10], [0, -0.2, 2.0, 5], [0, 0, 0, 1]])


def corridor(direction: np.ndarray, affine: np.ndarray, grid=(24, 9, 9)):
    """White matter along the first axis, grey matter at its ends, one fibre direction everywhere."""
    wm, gm = np.zeros(grid, np.float32), np.zeros(grid, np.float32)
    wm[3:-3, 2:-2, 2:-2] = 1
    gm[:3] = gm[-3:] = 1
    lobes = harmonics.project(8, lambda u: np.exp(25 * ((u @ direction) ** 2 - 1)))
    coefficients = np.broadcast_to(lobes.astype(np.float32), (*grid, 45)).copy()
    return coefficients, TissueFractions(wm, gm, np.zeros(grid, np.float32))


@pytest.mark.parametrize("algorithm", ["deterministic", "probabilistic", "ptt"])
@pytest.mark.parametrize("affine", [np.diag([2.0, 2, 2, 1]), np.diag([-2.0, 2, 2, 1]), OBLIQUE])
def test_straight_fibres_on_any_grid(algorithm, affine):
    """The field points along the first voxel axis in world space: streamlines must follow it."""
    axis = affine[:3, 0] / np.linalg.norm(affine[:3, 0])
    coefficients, tissue = corridor(axis, affine)
    made = track_engine(
        coefficients, affine, tissue, tissue.wm > 0.5,
        TrackingCriteria(step=0.8, angle=15 if algorithm == "ptt" else 30, min_length=10, max_length=100),
        algorithm=algorithm, count=200, seed=1, threads=1,
    )  # fmt: skip
    assert len(made) == 200
    span = np.array([line[-1] - line[0] for line in made])
    length = np.linalg.norm(span, axis=1)
    cosine = np.abs(span @ axis) / length
    assert np.degrees(np.arccos(cosine.clip(0, 1))).max() < (
        3 if algorithm == "deterministic" else 15
    )
    assert np.median(length) > 0.8 * 18 * np.linalg.norm(affine[:3, 0])
    assert not made.outside().any()


@pytest.fixture(scope="module")
def fields(phantom: Phantom) -> tuple[DWI, Maps]:
    dwi = phantom.dwi.with_(mask=phantom.mask, sigma=phantom.sigma)
    maps = microstructure(dwi, models=("dti",), method="wls")
    return dwi, maps.merged(fod(dwi, method="csd", tensor=maps))


def test_tissue_from_diffusion_alone(phantom: Phantom, fields):
    tissue = tissue_fractions(*fields)
    total = tissue.wm + tissue.gm + tissue.csf
    assert total[phantom.mask].min() > 0.9 and total.max() < 1.05
    assert tissue.wm[phantom.mask & (phantom.truth["dti_fa"].data > 0.45)].mean() > 0.8
    assert tissue.csf[phantom.mask & (phantom.truth["noddi_fwf"].data > 0.95)].mean() > 0.7


@pytest.mark.parametrize(
    "method", ["probabilistic", "deterministic", "ptt", "learned", "learned-best"]
)
def test_streamlines_of_a_phantom(fields, method):
    made = track(*fields, method=method, count=500, seed=3)
    assert len(made) == 500
    lengths = made.lengths()
    assert lengths.min() >= 19 and lengths.max() <= 251
    assert not made.outside().any()


@pytest.mark.parametrize("method", ["probabilistic", "ptt", "learned"])
@pytest.mark.parametrize("seeding", ["voxel", "interface", "dynamic"])
def test_same_seed_same_streamlines_for_any_threads(fields, method, seeding):
    options = {"count": 300, "seeding": seeding}
    one = track(*fields, method=method, seed=5, threads=1, **options)
    two = track(*fields, method=method, seed=5, threads=2, **options)
    other = track(*fields, method=method, seed=6, threads=1, **options)
    np.testing.assert_array_equal(one.points, two.points)
    np.testing.assert_array_equal(one.offsets, two.offsets)
    assert one.points.shape != other.points.shape or not np.array_equal(one.points, other.points)


@pytest.mark.parametrize("method", ["deterministic", "deterministic-dipy"])
def test_streamlines_end_in_grey_matter(fields, method):
    """DIPY's tracker as ours: both ends lie where grey matter is, the middle mostly where it is not."""
    made = track(*fields, method=method, count=200, seed=1)
    assert len(made) == 200
    tissue, inverse = scan_tissue(*fields), np.linalg.inv(made.affine)

    def gm_at(points: np.ndarray) -> np.ndarray:
        voxels = points @ inverse[:3, :3].T + inverse[:3, 3]
        return map_coordinates(tissue.gm, voxels.T, order=1)

    ends = np.concatenate([[line[0], line[-1]] for line in made])
    assert (gm_at(ends) > 0.2).mean() > 0.95
    assert np.median(gm_at(np.array([line[len(line) // 2] for line in made]))) < 0.25


@pytest.mark.filterwarnings("ignore:The legacy descoteaux07")
def test_dipys_ptt_turns_as_little_as_ours(fields):
    """Its curvature is per voxel: the angle that is asked for must not be multiplied by the voxel's edge."""
    made = track(*fields, method="ptt-dipy", count=40, seed=1, angle=15)
    turns = []
    for line in made:
        step = np.diff(line.astype(float), axis=0)
        step /= np.linalg.norm(step, axis=1, keepdims=True)
        turns.append(np.degrees(np.arccos((step[1:] * step[:-1]).sum(1).clip(-1, 1))))
    assert 2 < np.percentile(np.concatenate(turns), 95) < 16


def test_rejections_are_counted(fields):
    dwi, maps = fields
    with pytest.raises(
        FornixError, match=r"no streamline was accepted of \d+ seeds: .*\d+ too short"
    ):
        track(dwi, maps, count=10, min_length=240, max_length=250, angle=5)


def test_a_shortfall_is_reported(fields, monkeypatch):
    """Tracking stops where too few seeds are accepted, and says how many streamlines there are."""
    monkeypatch.setattr(engine, "_ENOUGH_SEEDS", 2000)
    monkeypatch.setattr(engine, "_MIN_RATE", 1.0)
    with pytest.warns(FornixWarning, match=r"\d+ streamlines of the 2500 asked for") as record:
        made = track(*fields, count=2500)
    assert 0 < len(made) < 2000
    assert str(record[0].message).startswith(f"{len(made)} streamlines")


def test_bad_seeds(fields):
    dwi, maps = fields
    with pytest.raises(FornixError, match="another grid"):
        track(dwi, maps, seeds=np.ones((2, 2, 2), bool))
    with pytest.raises(FornixError, match="empty"):
        track(dwi, maps, seeds=np.zeros(dwi.grid, bool))
    outside = ~dwi.brain()
    with pytest.raises(FornixError, match="outside the brain mask"):
        track(dwi, maps, seeds=outside)
    with pytest.raises(FornixError, match="choose one of"):
        track(dwi, maps, method="magic")
    with pytest.raises(FornixError, match="no seeding 'magic'"):
        track(dwi, maps, seeding="magic")


def test_isotropic_field_ends_in_an_error_not_a_crash(fields):
    dwi, maps = fields
    flat = np.zeros_like(maps["fod"].data)
    empty = Maps({**maps.maps, "fod": Map("", "fod", flat, dwi.affine)})
    with pytest.raises(FornixError, match="no voxel to seed from"):
        track(dwi, empty, count=5)
