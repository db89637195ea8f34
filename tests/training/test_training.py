"""A tiny training run from nothing to weights that load; and what happens when things go wrong."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import lru_cache
from itertools import pairwise

import numpy as np
import pytest
import torch

from fornix.core.errors import FornixError
from fornix.nets import weights
from fornix.nets.build import build_network
from fornix.physics import anatomy
from fornix.physics.anatomy import Anatomy
from fornix.physics.protocol import scheme
from fornix.training.build import make
from fornix.training.data import patches, subjects
from fornix.training.data import voxels as stream
from fornix.training.data.farm import Farm
from fornix.training.data.patches import PatchStream
from fornix.training.data.subjects import random_subject
from fornix.training.data.tissue import (
    CALIBRATION_SHIFT,
    TRAIN_SHIFT,
    SubjectShift,
    jitter_voxel_parameters,
    join,
    prior_voxels,
    shift_subject_parameters,
)
from fornix.training.data.voxels import (
    Conditions,
    NoiseRange,
    PriorBalancer,
    VoxelStream,
    noisy,
    observed,
    training_protocol,
)
from fornix.training.recipes import RECIPES, recipe


@pytest.fixture(autouse=True)
def coarse(monkeypatch):
    """A head of large voxels, made once."""
    head = small_head()
    for place in (stream, patches):
        monkeypatch.setattr(place, "source_anatomy", lambda folder, seed: head)


@lru_cache(maxsize=1)
def small_head() -> Anatomy:
    return anatomy.embedded(8.0, 1)


@pytest.fixture
def tiny(monkeypatch):
    """Recipes that train in a second."""
    small = {
        "voxelwise": replace(RECIPES["voxelwise"], width=16, depth=1, batch=256, bank=1600, steps=4),
        "context": replace(RECIPES["context"], batch=1, bank=1, steps=2),
        "spatial": replace(
            RECIPES["spatial"], width=16, depth=1, batch=1, bank=1, steps=2
        ),
    }  # fmt: skip
    for name, made in small.items():
        monkeypatch.setitem(RECIPES, name, made)


def test_every_recipe_ends_in_weights_that_load(tiny, tmp_path):
    folder = tmp_path / "weights"
    for name in ("voxelwise", "context", "spatial"):
        path = make(name, tmp_path / "work", folder=folder, protocols=2, tell=lambda line: None)
        assert path.exists()
        card = path.with_suffix(".md").read_text()
        assert f"fornix train {name}" in card and "## Limits" in card
        loaded = weights.load(name, folder)
        assert build_network(loaded).training is False
        assert (tmp_path / "work" / name / "log.png").exists()
    assert weights.verify(folder) == {"voxelwise": "", "context": "", "spatial": ""}


def test_training_goes_on_where_it_was_killed(tiny, tmp_path):
    told: list[str] = []
    arguments = {"folder": tmp_path / "w", "protocols": 1}
    make("voxelwise", tmp_path / "work", steps=2, tell=told.append, **arguments)
    make("voxelwise", tmp_path / "work", steps=4, tell=told.append, **arguments)
    assert any("from step 2 of 4" in line for line in told)


def test_a_checkpoint_of_another_network_is_refused(tiny, tmp_path, monkeypatch):
    make("voxelwise", tmp_path, folder=tmp_path / "w", protocols=1, tell=lambda line: None)
    monkeypatch.setitem(RECIPES, "voxelwise", replace(RECIPES["voxelwise"], width=24, steps=6))
    with pytest.raises(FornixError, match="another network"):
        make("voxelwise", tmp_path, folder=tmp_path / "w", tell=lambda line: None)


def test_unknown_recipes_and_missing_anatomy_are_told(tmp_path):
    with pytest.raises(FornixError, match="choose one of: voxelwise"):
        recipe("nothing")
    with pytest.raises(FornixError, match="not a folder"):
        make("voxelwise", tmp_path, anatomy=tmp_path / "none", tell=lambda line: None)


@pytest.fixture
def kept(tmp_path):
    weights.save("voxelwise", {"net": {"a": torch.ones(3)}}, {"recipe": {}}, tmp_path)
    return tmp_path


def test_damaged_weights_are_refused(kept):
    path = kept / "voxelwise.safetensors"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(bytes(data))
    with pytest.raises(FornixError, match="do not match their hash"):
        weights.load("voxelwise", kept)
    assert "hash" in weights.verify(kept)["voxelwise"]


def test_missing_and_unknown_weights_are_told(kept):
    with pytest.raises(FornixError, match="there are no weights 'other'"):
        weights.load("other", kept)
    (kept / "voxelwise.safetensors").unlink()
    weights.load.cache_clear()
    with pytest.raises(FornixError, match="are missing"):
        weights.load("voxelwise", kept)


def test_weights_of_another_version_are_refused(kept, monkeypatch):
    monkeypatch.setattr(weights, "FORMAT", weights.FORMAT + 1)
    weights.load.cache_clear()
    with pytest.raises(FornixError, match="install matching versions"):
        weights.load("voxelwise", kept)


def test_a_pickle_is_never_read(kept):
    path = kept / "voxelwise.safetensors"
    torch.save({"net/a": torch.ones(3)}, path)
    known = json.loads((kept / "manifest.json").read_text())
    known["voxelwise"] = weights.sha256(path)
    (kept / "manifest.json").write_text(json.dumps(known))
    weights.load.cache_clear()
    with pytest.raises(FornixError, match="cannot be read"):
        weights.load("voxelwise", kept)


def test_training_protocols_are_many_and_usable():
    rng = np.random.default_rng(0)
    made = [training_protocol(rng) for _ in range(60)]
    counts = [int((~g.b0_mask).sum()) for g in made]
    assert min(counts) <= 8 and max(counts) > 60
    assert len({len(g.shells) for g in made}) > 1


def test_noise_is_as_told_on_average():
    rng = np.random.default_rng(0)
    clean = torch.full((4000, 20), 2.0)
    white = (0.0, 0.0, 0.0)
    scan = Conditions(40.0, 1, 1.0, white, white)
    draw = torch.Generator().manual_seed(0)
    signals, told = noisy(clean, NoiseRange(artefacts=0.0), scan, rng, draw)
    assert abs((signals - 2).std() / told.mean() - 1) < 0.1


def test_truth_belongs_to_the_voxels_it_stands_with():
    """Signals of a batch, fitted without noise, give the truth that the batch holds."""
    voxels = prior_voxels(300, 3)
    noise = NoiseRange(snr=(1e6, 1.1e6), sigma_error=0.0, artefacts=0.0)
    batch = observed(
        voxels,
        scheme("dti64"),
        noise,
        PriorBalancer(voxels.metrics),
        np.random.default_rng(0),
        torch.Generator().manual_seed(0),
    )
    error = (batch.seen.fit[:, 0] - batch.voxels.metrics[:, 0]).abs()
    assert error.median() < 0.01


def test_patches_hold_their_own_voxels():
    made = PatchStream(None, heads=1, edge=8, seed=1, device="cpu").batch(2)
    assert len(made.place) == len(made.batch.voxels) == len(made.clean)
    around = made.neighbourhood()
    assert int(around.inside.sum()) == len(made.place)
    error = (made.batch.seen.projected - made.clean).square().mean(1).sqrt()
    ratio = error / made.batch.seen.sigma
    assert 0.3 < float(ratio.median()) < 3


def test_noise_of_patches_is_shared_as_the_scan_has_it():
    rng, draw = np.random.default_rng(0), torch.Generator().manual_seed(0)
    place = torch.ones((1, 14, 14, 14), dtype=torch.bool).nonzero()
    true = (0.6, 0.3, 0.0)
    scan = Conditions(20.0, 1, 1.0, true, true)
    clean = torch.full((len(place), 40), 5.0)
    noise = NoiseRange(artefacts=0.0)
    made, _ = patches.noisy_patches(clean, place, 1, (14, 14, 14), noise, scan, rng, draw)
    left = (made - made.mean()).view(14, 14, 14, 40)
    for axis, expected in enumerate(true):
        one, two = left.narrow(axis, 0, 13), left.narrow(axis, 1, 13)
        assert float((one * two).mean() / left.square().mean()) == pytest.approx(expected, abs=0.05)


def test_processes_make_what_one_makes():
    """In the order of their seeds, whoever makes them."""
    alone, ahead = Farm(stream.protocol_lot, 3), Farm(stream.protocol_lot, 3, workers=1)
    for _ in range(2):
        one, two = alone.next(), ahead.next()
        assert [len(g) for g in one] == [len(g) for g in two]
        assert all((a.directions == b.directions).all() for a, b in zip(one, two, strict=True))
    ahead.close()


def test_axes_of_smoothed_heads_turn_slowly():
    """Smoothing brings axes of neighbours nearer to each other and stays near the head's own."""
    head = small_head()
    made = subjects._smoothed_axes(head, 1.0)
    inside = head.mask & np.roll(head.mask, 1, 0) & (head.fraction[..., 0] > 0.8)

    def alike(mu):
        return np.abs((mu[..., 0, :] * np.roll(mu, 1, 0)[..., 0, :]).sum(-1))[inside].mean()

    assert alike(made) >= alike(head.mu)
    assert np.abs((made * head.mu).sum(-1))[inside][:, 0].mean() > 0.9
    np.testing.assert_allclose(np.linalg.norm(made[head.mask], axis=-1), 1, atol=1e-5)


def test_streams_repeat_with_their_seed():
    one, two = (VoxelStream(None, 800, seed=5, device="cpu") for _ in range(2))
    torch.testing.assert_close(one.batch(50).seen.projected, two.batch(50).seen.projected)
    one.renew()
    assert not torch.equal(one.batch(50).seen.projected, two.batch(50).seen.projected)


def test_balanced_weights_make_the_prior_flat():
    voxels = prior_voxels(6000, 4)
    balance = PriorBalancer(voxels.metrics)
    fa = voxels.metrics[:, 0]
    sample_weight = balance(voxels.metrics)[:, 0]
    assert abs(float(sample_weight.mean()) - 1) < 0.02
    low, high = float(fa.quantile(0.1)), float(fa.quantile(0.9))
    edges = torch.linspace(low, high, 7)
    held = torch.stack([sample_weight[(fa >= a) & (fa < b)].sum() for a, b in pairwise(edges)])
    plain = torch.stack([((fa >= a) & (fa < b)).sum() for a, b in pairwise(edges)])
    assert held.std() / held.mean() < 0.3 * plain.float().std() / plain.float().mean()


def test_a_batch_goes_on_from_given_weights(tiny, tmp_path):
    """`--on`: begins with the weights there are, and the card says so."""
    folder = tmp_path / "weights"
    make("voxelwise", tmp_path / "a", folder=folder, protocols=2, tell=lambda line: None)
    first = weights.load("voxelwise", folder)
    told: list[str] = []
    path = make(
        "voxelwise", tmp_path / "b", folder=folder, protocols=2, finetune=True, tell=told.append
    )
    assert first.label in path.with_suffix(".md").read_text()
    assert not any("begun anew" in line for line in told)


def test_tempered_tissue_is_possible_and_spread():
    head = random_subject(small_head(), 2)
    tissue = head.voxels.tissue
    made = jitter_voxel_parameters(tissue, 0).check()
    assert made.ndi.std() > tissue.ndi.std()
    both = join([head.voxels, prior_voxels(50, 1)])
    assert len(both) == len(head.voxels) + 50


def test_weights_are_calibrated_anew_without_training(tiny, tmp_path):
    folder = tmp_path / "w"
    make("voxelwise", tmp_path / "a", folder=folder, protocols=2)
    before = weights.load("voxelwise", folder)
    make("voxelwise", tmp_path / "b", folder=folder, protocols=3, steps=0, finetune=True)
    after = weights.load("voxelwise", folder)
    for name, value in before.groups["net"].items():
        assert torch.equal(value, after.groups["net"][name])
    table = after.groups["conformal"]["table"]
    assert not torch.equal(before.groups["conformal"]["table"], table)
    with pytest.raises(FornixError, match="no steps"):
        make("voxelwise", tmp_path / "c", folder=folder, protocols=2, steps=0)


def test_calibration_meets_heads_that_differ_more():
    tissue = small_head().tissue()

    def widths(shift: SubjectShift) -> float:
        made = [
            shift_subject_parameters(tissue, np.random.default_rng(k), shift) for k in range(40)
        ]
        return float(np.std([float(t.d_par.mean()) for t in made]))

    assert widths(CALIBRATION_SHIFT) > 1.3 * widths(TRAIN_SHIFT)
