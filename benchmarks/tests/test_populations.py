"""The test populations are physical, have finite truths and the noise that they say."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from fornix.physics import random_tissue, signal, truth
from fornix.physics.protocol import scheme
from fornix_bench.suites.microstructure.estimates import PARAMS, estimate
from fornix_bench.suites.microstructure.exchange import Exchanging, karger
from fornix_bench.suites.microstructure.populations import (
    TestPopulation,
    _fitted,
    anatomical,
    exchanging,
    single_voxels,
)
from fornix_bench.suites.microstructure.uncertainty import with_artefacts

BLOCK = (10, 12, 6)


@pytest.fixture(scope="module")
def populations() -> dict[str, TestPopulation]:
    made = [anatomical(BLOCK, 900, 5.0, 4), exchanging(BLOCK, 901, 5.0), single_voxels(50)]
    return {f.name: f for f in made}


@pytest.mark.parametrize("name", ["anatomy", "exchange", "random"])
def test_truth_is_finite_and_physical(populations: dict[str, TestPopulation], name: str) -> None:
    population = populations[name]
    assert name == "exchange" or {f"{m}_{p}" for m in PARAMS for p in PARAMS[m]} <= set(
        population.truth
    )
    for key, values in population.truth.items():
        assert len(values) == len(population)
        assert np.isfinite(values).all(), key
    assert population.truth["dti_fa"].min() >= 0 and population.truth["dti_fa"].max() <= 1
    assert population.truth["dti_md"].min() > 0.2 and population.truth["dti_md"].max() < 3.1
    clean = population.clean(scheme("dti12")).numpy()
    assert (clean > 0).all()
    assert (clean[:, 1:] <= clean[:, :1] * (1 + 1e-5)).all()
    assert all(inside.shape == (len(population),) for inside in population.regions.values())


def test_anatomy_leaves_the_training_family(populations: dict[str, TestPopulation]) -> None:
    assert family_has_dots(populations["anatomy"])
    assert populations["anatomy"].regions["lesion"].sum() >= 20
    assert populations["anatomy"].region == "white"


def family_has_dots(population: TestPopulation) -> bool:
    """A still part: what is left at a b at which nothing else is."""
    from fornix.core.gradients import Gradients

    axes = np.vstack([np.zeros(3), np.eye(3)])
    strong = population.clean(Gradients([0.0, *[20_000.0] * 3], axes)).numpy()
    floor = strong[:, 1:].min(1) / strong[:, 0]
    return bool((floor > 0.02).any() and (floor < 0.02).any())


def test_noise_level_is_the_one_told() -> None:
    """Correlated coils add up; what a scan calls sigma is what its bright voxels show."""
    population = anatomical(BLOCK, 900, 5.0, 0)
    gradients = scheme("dti12")
    clean = population.clean(gradients).numpy()
    bright = clean[:, 0] > 900
    apart = []
    for seed in range(20):
        scan = population.scan(gradients, 60.0, seed)
        noisy = scan.dwi.signals()[bright, 0]
        apart.append((noisy - clean[bright, 0]) / scan.sigma[population.mask][bright])
    assert np.std(apart) == pytest.approx(1, abs=0.06)


def test_loose_voxels_have_no_neighbours(populations: dict[str, TestPopulation]) -> None:
    place = np.flatnonzero(populations["random"].mask)
    assert (np.diff(place) > 3).all()


def test_exchange_without_exchange_and_width_is_the_tissue_model() -> None:
    tissue = random_tissue(20, 5).to(dtype=torch.float64)
    none = torch.zeros(20)
    gradients = scheme("bench96")
    made = Exchanging(tissue, none, none).signal(gradients)
    np.testing.assert_allclose(made, signal(tissue, gradients), atol=2e-4)


def test_karger_between_its_limits() -> None:
    share, inside, around = (torch.tensor(v, dtype=torch.float64) for v in (0.6, 0.1, 1.2))
    slow = share * torch.exp(-2 * inside) + (1 - share) * torch.exp(-2 * around)
    fast = torch.exp(-2 * (share * inside + (1 - share) * around))
    rates = torch.tensor([0.0, 0.5, 2.0, 1e4], dtype=torch.float64)
    made = karger(2.0, inside, around, share, rates)
    assert made[0] == pytest.approx(float(slow), rel=1e-9)
    assert made[-1] == pytest.approx(float(fast), rel=1e-3)
    assert (torch.diff(made) < 0).all()
    generator = torch.diag(2.0 * torch.stack([inside, around])) + 0.5 * torch.tensor(
        [[0.4, -0.6], [-0.4, 0.6]], dtype=torch.float64
    )
    exact = (torch.matrix_exp(-generator) @ torch.stack([share, 1 - share])).sum()
    assert made[1] == pytest.approx(float(exact), rel=1e-9)


def test_fitted_truth_is_the_physics_one() -> None:
    tissue = random_tissue(30, 6).to(dtype=torch.float64)
    ours, theirs = _fitted(lambda g: signal(tissue, g)), truth.fitted(tissue)
    for name in ("dti_fa", "dti_md", "dki_mk", "dki_ak", "dki_rk"):
        np.testing.assert_allclose(ours[name], theirs[name], rtol=1e-6, atol=1e-8)


def test_spoilt_voxels_are_told_and_the_others_left_alone(
    populations: dict[str, TestPopulation],
) -> None:
    population, gradients = populations["anatomy"], scheme("dti12")
    scan, kinds, true = with_artefacts(population, gradients, 20.0, 3)
    plain = population.scan(gradients, 20.0, 3)
    touched = np.logical_or.reduce(list(kinds.values()))
    changed = (scan.dwi.signals() != plain.dwi.signals()).any(1)
    np.testing.assert_array_equal(changed, touched)
    assert sum(int(k.sum()) for k in kinds.values()) == touched.sum()
    assert all(k.any() for k in kinds.values())
    assert np.isnan(true["dti_fa"][kinds["oblate tensor"]]).all()


def test_estimates_come_in_the_units_of_the_truth(populations: dict[str, TestPopulation]) -> None:
    population = populations["anatomy"]
    scan = population.scan(scheme("bench96"), 1000.0, 0)
    found = estimate(scan, "classical", ("dti", "dki", "noddi"))
    for name in ("dti_fa", "dti_md", "dki_mk", "noddi_fwf"):
        apart = found.values[name] - population.truth[name]
        assert np.median(np.abs(apart)) < 0.05, name
    low, high = found.interval("dti_md", 0.9)
    np.testing.assert_allclose((high - low) / found.std["dti_md"], 2 * 1.6449, rtol=1e-3)
