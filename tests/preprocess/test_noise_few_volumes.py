"""The noise level where measurements are few: what is told is near what was added, and to what all tell."""

from __future__ import annotations

import numpy as np
import pytest

from fornix.core.dwi import DWI
from fornix.core.errors import FornixError, FornixWarning
from fornix.estimators.microstructure import microstructure
from fornix.physics import Noise, simulate
from fornix.physics.anatomy import Anatomy, embedded
from fornix.physics.protocol import shells
from fornix.preprocess import estimate_noise
from fornix.preprocess.noise import components, noise_doubt


@pytest.fixture(scope="module")
def tissue() -> Anatomy:
    return embedded(3.0, 7)


def scan_of(tissue: Anatomy, directions: int, smoothing: float) -> tuple[DWI, np.ndarray]:
    noise = Noise(snr=20.0, smoothing=smoothing)
    made = simulate(tissue, shells(1, (1000.0, directions)), noise=noise, seed=directions)
    return made.dwi.with_(mask=tissue.mask, sigma=None), np.broadcast_to(made.sigma, tissue.grid)


@pytest.mark.parametrize("smoothing", [0.0, 0.8])
@pytest.mark.parametrize("directions", [3, 4, 6, 7, 8, 9, 12])
def test_level_is_near_what_was_added(tissue, directions, smoothing):
    dwi, true = scan_of(tissue, directions, smoothing)
    found = estimate_noise(dwi).sigma
    assert np.median(found[tissue.mask] / true[tissue.mask]) == pytest.approx(1, abs=0.25)


def test_it_does_not_depend_on_the_axes_and_volumes_order(tissue):
    dwi, _ = scan_of(tissue, 6, 0.0)
    found = components(dwi)
    order = [3, 0, 6, 5, 1, 4, 2]
    np.testing.assert_allclose(components(dwi.subset(order)), found, rtol=1e-5)


def test_too_few_volumes_and_thin_grids(tissue):
    for directions in (1, 2):
        few, _ = scan_of(tissue, directions, 0.0)
        with pytest.raises(FornixError, match="3 weighted volumes"):
            components(few)
        assert np.isfinite(estimate_noise(few).sigma).all()
    dwi, _ = scan_of(tissue, 6, 0.0)
    middle = dwi.grid[2] // 2
    for part in (slice(middle, middle + 1), slice(middle, middle + 2), slice(middle, middle + 4)):
        thin = DWI(dwi.data[:, :, part], dwi.gradients, dwi.affine, mask=tissue.mask[:, :, part])
        assert np.isfinite(estimate_noise(thin).sigma).all()


@pytest.mark.parametrize("directions", [6, 9, 12, 30])
def test_a_given_level_that_is_far_off_is_doubted(tissue, directions):
    dwi, true = scan_of(tissue, directions, 0.0)
    inside, level = np.flatnonzero(tissue.mask), float(np.median(true[tissue.mask]))
    for factor in (0.5, 1.0, 2.0):
        assert noise_doubt(dwi, factor * level, inside) == ""
    for factor in (0.1, 10.0):
        line = noise_doubt(dwi, factor * level, inside)
        told = float(line.split(" is ")[1].split(" times")[0])
        assert told == pytest.approx(factor, rel=0.25) and "--sigma" in line
        with pytest.warns(FornixWarning, match="leave --sigma out"):
            maps = microstructure(dwi, models=("dti",), method="wls", sigma=factor * level)
        assert np.isfinite(maps["dti_fa"].data).all()


def test_volumes_of_no_numbers_are_named(tissue):
    for directions in (6, 12):
        dwi, _ = scan_of(tissue, directions, 0.0)
        data = np.array(dwi.data)
        data[..., 4] = np.nan
        with pytest.raises(FornixError, match=r"volumes 4 hold .* --exclude 4"):
            estimate_noise(dwi.with_(data=data))


@pytest.mark.parametrize("each", [3, 4, 5, 6, 7])
def test_small_shells_do_not_take_anisotropy_for_noise(tissue, each):
    made = simulate(
        tissue, shells(1, (700.0, each), (1500.0, each), (2500.0, each)), noise=Noise(snr=30.0), seed=each
    )  # fmt: skip
    found = estimate_noise(made.dwi.with_(mask=tissue.mask, sigma=None)).sigma
    true = np.broadcast_to(made.sigma, tissue.grid)
    assert np.median(found[tissue.mask] / true[tissue.mask]) == pytest.approx(1, abs=0.25)
