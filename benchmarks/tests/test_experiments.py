"""Every experiment runs small, writes its files, and says what its numbers say."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import ndimage
from typer.testing import CliRunner

from fornix.cli.app import app
from fornix.core.errors import FornixError
from fornix.physics.protocol import scheme
from fornix.training.data.tissue import prior_voxels, with_truth
from fornix_bench.experiments import EXPERIMENTS, context, losses, mlp_dti6, ood, ood_real
from fornix_bench.experiments.heads import sharpness
from fornix_bench.experiments.streams import turned_voxels
from fornix_bench.suites.microstructure import estimates


def assert_written(folder: Path, name: str, rows: list[dict], figures: tuple[str, ...]) -> str:
    with (folder / f"{name}.csv").open() as file:
        assert len(list(csv.DictReader(file))) == len(rows) > 0
    page = (folder / f"{name}.md").read_text()
    for part in ("**Question.**", "**Setting.**", "## What is seen", f"fornix experiment {name}"):
        assert part in page
    for figure in figures:
        assert f"{name}_{figure}.png" in page
        assert (folder / f"{name}_{figure}.png").stat().st_size > 5000
    assert "nan" not in page.split("## What is seen")[1].split("\n![")[0]
    return page


def silent(line: str) -> None:
    """Tell nobody."""


def test_mlp_dti6(tmp_path: Path) -> None:
    rows = EXPERIMENTS["mlp-dti6"](tmp_path, threads=1, quick=True, tell=silent)
    page = assert_written(tmp_path, "mlp-dti6", rows, ("fa", "maps"))
    assert "averaged tensor" in page and "--quick" in page
    fa = {r["method"]: r for r in rows if (r["region"], r["param"]) == ("white", "fa")}
    assert set(fa) == set(mlp_dti6.METHODS) and fa["WLS 30"]["rmse"] < fa["WLS 6"]["rmse"]


def test_context(tmp_path: Path) -> None:
    rows = EXPERIMENTS["context"](tmp_path, threads=1, quick=True, tell=silent)
    assert_written(tmp_path, "context", rows, ("errors", "lesion"))
    assert {r["method"] for r in rows} == set(context.METHODS)
    assert {r["region"] for r in rows} == {"white", "lesion", "border"}
    kept = [r["sharpness"] for r in rows if r["region"] == "border"]
    assert len(kept) == 8 and all(0 < k < 1.5 for k in kept)


def test_losses(tmp_path: Path) -> None:
    rows = EXPERIMENTS["losses"](tmp_path, threads=1, quick=True, tell=silent)
    page = assert_written(tmp_path, "losses", rows, ("errors",))
    names = {v.name for v in losses.VARIANTS} | set(losses.CLASSICAL)
    assert {r["method"] for r in rows} == names
    assert "Without labels" in page


def test_same_seed_same_rows(tmp_path: Path) -> None:
    some = tuple(v for v in losses.VARIANTS if v.loss in ("l2", "rician, held out"))[:1]
    size = replace(losses.QUICK, steps=3, variants=(*some, losses.VARIANTS[-1]))
    first, second = (losses.run_losses(tmp_path / k, 1, size=size, tell=silent) for k in ("a", "b"))
    assert first == second


@pytest.fixture
def weights() -> str:
    """A learned method that runs; without one the test is skipped."""
    if not estimates.learned():
        pytest.skip("no weights ship")
    return estimates.learned()[0]


def test_calibration(tmp_path: Path, weights: str) -> None:
    rows = EXPERIMENTS["calibration"](tmp_path, threads=1, quick=True, tell=silent)
    assert_written(tmp_path, "calibration", rows, ("coverage", "where", "sparsification"))
    assert all(r["50%"] <= r["80%"] <= r["95%"] <= r["99%"] for r in rows)
    assert {r["param"] for r in rows} >= {"fa", "md", "mk"}


def test_ood(tmp_path: Path, weights: str) -> None:
    rows = ood.run_ood(tmp_path, 1, size=replace(ood.QUICK, real=0), tell=silent)
    assert_written(tmp_path, "ood", rows, ("scores", "errors"))
    found = {r["kind"]: r["auroc"] for r in rows if r["section"] == "kind" and "auroc" in r}
    assert set(found) >= {"lesions (of the first)", "noise told half", "spikes", "oblate tensor"}
    assert all(0 <= v <= 1 for v in found.values())
    assert found["spikes"] > 0.9  # how good the shipped weights are is the page's to say


@pytest.mark.real
def test_ood_of_a_real_scan(shared_data: Path, weights: str) -> None:
    path = shared_data / "dwi" / "canon-galan_b1500x12_dir-AP" / "dwi.nii.gz"
    rows, picture = ood_real.score_scan(path, weights, slices=2)
    assert rows[0]["vendor"] == "canon" and 0 <= rows[0]["above 3"] <= rows[0]["above 2"] < 0.5
    assert rows[0]["unseen"] > 0 and np.isfinite(rows[0]["spearman"])
    assert picture is not None and picture.fa.max() <= 1


@pytest.mark.parametrize("name", ["ood", "calibration"])
def test_without_weights_it_says_what_to_do(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(estimates, "why_not", lambda method: "there are no weights")
    with pytest.raises(FornixError, match="fornix train voxelwise"):
        EXPERIMENTS[name](tmp_path, quick=True)
    assert not list(tmp_path.iterdir())


def test_command_refuses_unknown_names(tmp_path: Path) -> None:
    found = CliRunner().invoke(app, ["experiment", "mlp", "-o", str(tmp_path)])
    assert isinstance(found.exception, FornixError)
    assert "choose one of: mlp-dti6, context, losses, ood, calibration" in str(found.exception)


def test_voxels_are_turned_with_their_truth() -> None:
    voxels = prior_voxels(20, 3)
    turn = torch.linalg.qr(torch.randn((20, 3, 3), generator=torch.Generator().manual_seed(1)))[0]
    turn = turn * torch.linalg.det(turn)[:, None, None]
    made = turned_voxels(voxels, turn)
    again = with_truth(made.tissue)
    torch.testing.assert_close(made.tensor, again.tensor, atol=2e-3, rtol=0)
    torch.testing.assert_close(made.metrics[:, :4], again.metrics[:, :4], atol=2e-3, rtol=0)


def test_sharpness_is_the_share_of_contrast_that_is_left() -> None:
    core = np.zeros((16, 16, 16), bool)
    core[5:11, 5:11, 5:11] = True
    beside = ndimage.binary_dilation(core) & ~core
    true = np.where(core, 0.3, 0.6)
    noisy = true + 0.05 * np.random.default_rng(0).standard_normal(true.shape)
    assert sharpness(true, true, core, beside) == pytest.approx(1)
    assert sharpness(0.5 * true, true, core, beside) == pytest.approx(0.5)
    assert sharpness(noisy, true, core, beside) == pytest.approx(1, abs=0.05)
    assert sharpness(ndimage.uniform_filter(true, 3), true, core, beside) < 0.5


def test_held_out_volumes_are_not_seen() -> None:
    from fornix.training.data.voxels import NoiseRange, PriorBalancer, observed
    from fornix_bench.experiments.losses_networks import _split

    rng = np.random.default_rng(0)
    voxels = prior_voxels(30, 1)
    balance = PriorBalancer(voxels.metrics)
    batch = observed(voxels, scheme("dti30"), NoiseRange(), balance, rng, torch.Generator())
    shares = []
    for _ in range(8):
        encoder, seen, (rest, measured, sigma) = _split(batch, rng)
        assert len(encoder.gradients) + len(rest) == 33 and not rest.b0_mask.any()
        cosine = np.abs(encoder.gradients.directions @ rest.directions.T)
        assert cosine.max() < 0.999 and measured.shape == (30, len(rest))
        torch.testing.assert_close(sigma, seen.sigma)
        shares.append(len(rest))
    assert min(shares) >= 1 and len(set(shares)) > 3
