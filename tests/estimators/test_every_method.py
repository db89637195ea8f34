"""What must be true of every method of every stage: the tests read the registry, not a list."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import numpy as np
import pytest

import fornix
from fornix.core.dwi import DWI
from fornix.core.errors import FornixError
from fornix.core.maps import Maps
from fornix.core.methods import Method
from fornix.estimators.registry import ALL
from fornix.nets import weights
from fornix.physics.protocol import scheme
from fornix.testing import assert_gradient_order_free, assert_invariant

MODELS = ("dti", "dki", "noddi")


def methods(*stages: str, **wanted: bool) -> Iterator[object]:
    for stage in stages:
        for name, entry in ALL[stage].items():
            if all(bool(getattr(entry, key)) == value for key, value in wanted.items()):
                yield pytest.param(stage, entry, id=f"{stage}-{name}")


@pytest.fixture(scope="module")
def slab(phantom) -> DWI:
    """A few slices through the middle of a head."""
    middle = phantom.dwi.grid[2] // 2
    cut = (slice(None), slice(None), slice(middle - 2, middle + 2))
    affine = phantom.dwi.affine.copy()
    affine[:3, 3] += affine[:3, 2] * (middle - 2)
    return phantom.dwi.with_(
        data=phantom.dwi.data[cut], affine=affine, mask=phantom.mask[cut], sigma=phantom.sigma[cut]
    )


@pytest.fixture(scope="module")
def block(phantom) -> DWI:
    """A block of a head with a third of the volumes: the peers' corrections are slow."""
    x, y, z = (n // 2 for n in phantom.dwi.grid)
    cut = (slice(x - 8, x + 8), slice(y - 8, y + 8), slice(z - 4, z + 4))
    part = phantom.dwi.with_(
        data=phantom.dwi.data[cut], mask=phantom.mask[cut], sigma=phantom.sigma[cut]
    )
    return part.subset(np.arange(0, len(part.gradients), 3))


def estimate(dwi: DWI, stage: str, entry: Method) -> Maps:
    if stage in MODELS:
        return fornix.microstructure(dwi, models=(stage,), method=entry.name)
    return fornix.fod(dwi, method=entry.name)


@pytest.mark.parametrize(("stage", "entry"), methods(*ALL))
def test_it_says_what_it_is(stage, entry):
    assert entry.summary and ALL[stage][entry.name] is entry
    assert entry.name in ALL[stage].help()
    if entry.network:
        assert weights.available(entry.weights)
    assert (entry.peer == "DIPY") == ("DIPY" in entry.summary)


@pytest.mark.parametrize(("stage", "entry"), methods("denoise", "mask", "noise", "correct"))
def test_preprocessing_gives_a_scan_on_the_same_grid(stage, entry, block):
    before = np.array(block.data)
    run = {
        "denoise": lambda: fornix.denoise(block, method=entry.name),
        "mask": lambda: fornix.brain_mask(block, method=entry.name),
        "noise": lambda: fornix.estimate_noise(block, method=entry.name),
        "correct": lambda: fornix.correct(block, methods=(entry.name,)),
    }
    made = run[stage]()
    assert made.grid == block.grid and np.isfinite(np.asarray(made.data)).all()
    np.testing.assert_array_equal(block.data, before)


@pytest.mark.parametrize(("stage", "entry"), methods(*MODELS, "fod"))
def test_maps_are_finite_and_zero_outside(stage, entry, slab):
    maps = estimate(slab, stage, entry)
    for name, one in maps.items():
        assert one.data.shape[:3] == slab.grid and np.isfinite(one.data).all(), name
        assert not one.data[~slab.brain()].any(), name
        assert one.std is None or (np.isfinite(one.std).all() and (one.std >= 0).all()), name
        assert one.method.startswith(entry.name) and one.description, name


@pytest.mark.parametrize(("stage", "entry"), methods(*MODELS, "fod", peer=False))
def test_the_order_of_volumes_does_not_matter(stage, entry, slab):
    small = slab.with_(mask=slab.brain() & (np.indices(slab.grid)[2] == 2))
    first = {"dti": "dti_fa", "dki": "dki_mk", "noddi": "noddi_fwf", "fod": "fod"}[stage]
    # Iterations and peak searches end a little elsewhere; an order that mattered would show at 0.01.
    tolerance = 2e-3 if not entry.network else 5e-4
    assert_gradient_order_free(
        lambda dwi: estimate(dwi, stage, entry)[first].data, small, atol=tolerance
    )


@pytest.mark.parametrize(("stage", "entry"), methods("dti", "dki"))
def test_scalars_do_not_turn_with_the_head(stage, entry, slab):
    small = slab.with_(mask=slab.brain() & (np.indices(slab.grid)[2] == 2))
    first = {"dti": "dti_md", "dki": "dki_mk"}[stage]
    scale = 1e-6 if stage == "dti" else 5e-3
    if (
        entry.name == "constrained"
    ):  # its constraints hold on a set of directions that does not turn
        scale = 2e-2
    assert_invariant(lambda dwi: estimate(dwi, stage, entry)[first].data, small, atol=scale)


@pytest.mark.parametrize(("stage", "entry"), methods(*MODELS, "fod"))
def test_options_that_it_cannot_serve_are_refused_by_name(stage, entry, slab):
    asked = {"adapts": {"adapt": True}}
    if stage in MODELS:
        asked |= {"quantiles": {"quantiles": (0.5,)}}
    if stage == "dti":
        asked |= {"reference_b": {"reference_b": 2000.0}}
    if stage == "fod":
        asked |= {"peak_probabilities": {"min_peak_prob": 0.5}}
    for capability, options in asked.items():
        if getattr(entry, capability):
            continue
        if stage == "fod":
            run = partial(fornix.fod, slab)
        else:
            run = partial(fornix.microstructure, slab, models=(stage,))
        with pytest.raises(FornixError, match=r"leave --.* out, or take one of: "):
            run(method=entry.name, **options)


@pytest.mark.parametrize(("stage", "entry"), methods("predict"))
def test_predictions_stand_on_the_grid(stage, entry, slab):
    small = slab.with_(mask=slab.brain() & (np.indices(slab.grid)[2] == 2))
    table = scheme("dti6")
    predicted, spread = fornix.predict(small, table, method=entry.name)
    assert predicted.data.shape == (*slab.grid, len(table)) and spread.std is not None
    assert np.isfinite(predicted.data).all() and (spread.std >= 0).all()


@pytest.mark.slow
@pytest.mark.parametrize(("stage", "entry"), methods("track"))
def test_streamlines_are_kept_by_their_seed(stage, entry, phantom):
    dwi = phantom.dwi.with_(mask=phantom.mask, sigma=phantom.sigma)
    maps = phantom.truth
    one, two = (
        fornix.track(dwi, maps, method=entry.name, count=30, seed=4, min_length=10, threads=1)
        for _ in range(2)
    )
    assert len(one) > 0
    np.testing.assert_array_equal(one.points, two.points)
