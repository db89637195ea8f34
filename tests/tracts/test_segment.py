"""Tracts of heads whose place in MNI space is known."""

from __future__ import annotations

import tracemalloc
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from fornix.core.dwi import DWI
from fornix.core.errors import FornixError
from fornix.core.gradients import Gradients
from fornix.core.maps import Map
from fornix.register.features import Features
from fornix.register.grids import Lattice, inside, sample
from fornix.register.template import mni_template
from fornix.register.warp import Warp
from fornix.tracts.files import load_profiles, load_tracts, save_profiles, save_tracts
from fornix.tracts.profile import tract_profiles
from fornix.tracts.segment import TractMaps, segment_tracts, tract_names

#: A grid of 3 mm around the brain, stored front to back.
AFFINE = np.array([[-3.0, 0, 0, 78], [0, -3, 0, 80], [0, 0, 3, -70], [0, 0, 0, 1]])
GRID = (52, 66, 50)
FEW = ("CST_left", "AF_right", "CC_2", "FX_left", "UF_left")


def scan_of_template(
    affine: np.ndarray = AFFINE, grid: tuple[int, int, int] = GRID
) -> tuple[DWI, Features, Warp]:
    """The template as if it were a scan: its features on a grid, and the map of no change."""
    template = mni_template().features()
    lattice = Lattice(affine, grid)
    points = lattice.points()
    images = torch.cat([template.tissue, template.left[None], template.shape])
    found = sample(images, template.lattice, points) * inside(template.lattice, points)
    head = Features(lattice, found[:6], found[6], found[7:])
    gradients = (
        Gradients.from_arrays([0.0], [[0.0, 0, 0]])
        if hasattr(Gradients, "from_arrays")
        else Gradients(np.array([0.0]), np.zeros((1, 3)))
    )
    mask = (head.brain > 0.5).numpy()
    dwi = DWI(np.ones((*grid, 1), np.float32), gradients, affine, mask=mask)
    return dwi, head, Warp(np.eye(4), template.lattice, lattice)


@pytest.fixture(scope="module")
def whole() -> TractMaps:
    dwi, head, warp = scan_of_template()
    return segment_tracts(dwi, head, warp, names=FEW)


def test_the_template_has_its_tracts_on_their_sides(whole: TractMaps) -> None:
    assert [f.state for f in whole.found.values()] == ["whole"] * len(FEW)
    x = whole.lattice.points()[..., 0].numpy()
    for name, side in (("CST_left", -1), ("UF_left", -1), ("AF_right", 1)):
        p = whole.image(name)
        assert side * float((p * x).sum() / p.sum()) > 10
    middle = whole.image("CC_2")
    assert abs(float((middle * x).sum() / middle.sum())) < 4


def test_storage_order_does_not_matter(whole: TractMaps) -> None:
    other = np.diag([3.0, 3, 3, 1])
    other[:3, 3] = [78 - 3 * 51, 80 - 3 * 65, -70]
    dwi, head, warp = scan_of_template(other)
    found = segment_tracts(dwi, head, warp, names=FEW)
    for name in FEW:
        assert np.allclose(found.image(name)[::-1, ::-1], whole.image(name), atol=2e-3)


def test_what_is_not_scanned_is_cut_or_absent_with_its_reason() -> None:
    affine = AFFINE.copy()
    affine[2, 3] = 20  # nothing below z = 20 mm
    dwi, head, warp = scan_of_template(affine, (52, 66, 20))
    found = segment_tracts(dwi, head, warp, names=FEW).found
    assert found["FX_left"].state == "absent"
    assert "outside of what was scanned" in found["FX_left"].reason
    assert len(found["FX_left"].mask) == 0
    assert found["CST_left"].state == "cut"
    assert "was scanned" in found["CST_left"].reason
    assert found["CST_left"].visible < 0.9


def test_fibres_that_run_elsewhere_make_a_tract_absent() -> None:
    dwi, head, warp = scan_of_template()
    across = torch.zeros_like(head.shape)
    across[0], across[1], across[2] = 2 / 3, -1 / 3, -1 / 3  # all fibres run left to right
    size = 0.6 / across[:, 0, 0, 0].square().sum().sqrt()
    found = segment_tracts(
        dwi, replace(head, shape=across * size), warp, names=("CST_left", "CC_2")
    ).found
    assert found["CST_left"].state == "absent"
    assert "fibres do not run along it" in found["CST_left"].reason


def test_words_that_are_not_known_are_refused() -> None:
    dwi, head, warp = scan_of_template()
    with pytest.raises(FornixError, match="no tract 'CST'; there are: AF_left"):
        segment_tracts(dwi, head, warp, names=("CST",))
    with pytest.raises(FornixError, match="choose one of: network, atlas"):
        segment_tracts(dwi, head, warp, method="magic")
    with pytest.raises(FornixError, match="choose from: tracts72, hcp1065"):
        segment_tracts(dwi, head, warp, atlases=("jhu",))
    assert len(tract_names()) == 72
    assert len(tract_names(("tracts72", "hcp1065"))) > 100


def test_files_give_the_same_tracts_again(whole: TractMaps, tmp_path: Path) -> None:
    save_tracts(whole, tmp_path, "s", {})
    again = load_tracts(tmp_path, "s")
    for name, one in whole.found.items():
        other = again.found[name]
        assert np.abs(again.image(name) - whole.image(name)).max() < 0.003
        assert other.state == one.state
        assert other.volume == pytest.approx(one.volume, abs=0.001)
        assert np.abs(other.tract.along - one.tract.along).max() < 0.003
    (tmp_path / "s_desc-tracts_dseg.tsv").write_text("index\tname\n")
    with pytest.raises(FornixError, match="not a table of tracts"):
        load_tracts(tmp_path, "s")


def test_reading_takes_little_more_than_the_bytes_of_the_files(
    whole: TractMaps, tmp_path: Path
) -> None:
    save_tracts(whole, tmp_path, "s", {})
    tracemalloc.start()
    load_tracts(tmp_path, "s")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    stored = 7 * len(FEW) * int(np.prod(GRID))  # as floats they would be four times as much
    assert peak < 2.5 * stored


def _map(values: np.ndarray, std: float | None = None) -> Map:
    spread = None if std is None else np.full(values.shape, std, np.float32)
    return Map("dti", "fa", values.astype(np.float32), AFFINE, spread)


def test_a_constant_map_gives_a_flat_profile_and_noise_its_error(whole: TractMaps) -> None:
    maps = {"dti_fa": _map(np.full(GRID, 0.5), 0.05)}
    for profile in tract_profiles(whole, maps):
        assert np.allclose(profile.value[5:-5], 0.5, atol=1e-5)
        assert (profile.std[5:-5] > 0.001).all()
        assert (profile.std[5:-5] < 0.06).all()


def test_profiles_follow_a_tract_from_its_beginning_to_its_end(whole: TractMaps) -> None:
    height = whole.lattice.points()[..., 2].numpy()
    across = whole.lattice.points()[..., 0].numpy()
    maps = {"dti_fa": _map(height), "dti_md": _map(across)}
    found = {(p.tract, p.map): p.value for p in tract_profiles(whole, maps)}
    course = found["CST_left", "dti_fa"]
    assert abs(course[95] - course[5]) > 60  # from the brainstem to the crown
    assert (np.diff(course[10:90:10]) * np.sign(course[90] - course[10]) > 0).all()
    callosal = found["CC_2", "dti_md"]
    assert callosal[20] * callosal[80] < 0  # from one side to the other


def test_the_interval_holds_the_truth_under_noise(whole: TractMaps) -> None:
    rng = np.random.default_rng(0)
    truth = 0.4 + 0.1 * np.sin(whole.lattice.points()[..., 1].numpy() / 20)
    true = {(p.tract): p.value for p in tract_profiles(whole, {"m": _map(truth)})}
    held = []
    for _ in range(3):
        noisy = _map(truth + 0.05 * rng.standard_normal(GRID), 0.05)
        for p in tract_profiles(whole, {"m": noisy}):
            held.append((np.abs(p.value - true[p.tract]) < 1.645 * p.std)[5:-5])
    assert np.mean(held) > 0.88


def test_missing_tracts_are_rows_with_their_reason(tmp_path: Path) -> None:
    affine = AFFINE.copy()
    affine[2, 3] = 20
    dwi, head, warp = scan_of_template(affine, (52, 66, 20))
    tracts = segment_tracts(dwi, head, warp, names=FEW)
    fa = Map("dti", "fa", np.full((52, 66, 20), 0.5, np.float32), affine)
    path = save_profiles(tract_profiles(tracts, {"dti_fa": fa}), tmp_path / "p.tsv")
    rows = [line.split("\t") for line in path.read_text().splitlines()]
    assert len(rows) == 1 + 100 * len(FEW)
    gone = [r for r in rows if r[0] == "FX_left"]
    assert all(r[3] == "n/a" and "outside of what was scanned" in r[5] for r in gone)
    read = load_profiles(path)["dti_fa"]
    assert np.isnan(read["FX_left"][0]).all()
    assert np.allclose(read["CC_2"][0][40:60], 0.5, atol=1e-4)
