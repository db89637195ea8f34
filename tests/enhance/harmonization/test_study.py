"""A study as files: fitted, kept in one file, applied, told on a page; what is wrong is one line."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from fornix.analysis.profile_tables import read_measurements
from fornix.cli.app import app
from fornix.core.errors import FornixError
from fornix.enhance.harmonization.effects import heads_table
from fornix.enhance.harmonization.harmonize import apply_harmonization, fit_harmonization
from fornix.enhance.harmonization.model_file import load_harmonization, save_harmonization
from fornix.enhance.harmonization.outputs import save_harmonized
from fornix.io.nifti import write_image
from helpers.studies import made

pytestmark = pytest.mark.filterwarnings("ignore::fornix.core.errors.FornixWarning")


def edited(study_table: Path, /, **columns: object) -> Path:
    """The study's table with some columns replaced, under another name."""
    table = pd.read_csv(study_table, sep="\t", dtype={"participant_id": str}).assign(**columns)
    out = study_table.with_name("edited.tsv")
    table.to_csv(out, sep="\t", index=False, na_rep="n/a")
    return out


def files(folder: Path) -> set[str]:
    return {p.name for p in folder.rglob("*")}


def run(*words: object):
    return CliRunner().invoke(app, ["harmonize", *map(str, words)])


def test_the_whole_path_from_the_command_line(study, tmp_path: Path) -> None:
    table = study(maps=("dti_fa", "dti_md"))
    done = run("fit", table, "-o", tmp_path / "m", "--smooth", "age", "--on", "means")
    assert done.exit_code == 0, done.exception
    assert "kept: age, group" in done.output.replace("\n", " ")
    page = (tmp_path / "m_harmonize.html").read_text()
    assert "What was kept" in page and "dti_md" in page
    done = run("apply", tmp_path / "m.safetensors", table, "-o", tmp_path / "out")
    assert done.exit_code == 0, done.exception
    written = sorted((tmp_path / "out").glob("*_tracts.tsv"))
    assert len(written) == 48 and (tmp_path / "out" / "harmonize.html").exists()
    back = read_measurements(written, "dti_fa")
    model, found = fit_harmonization(table, level="means", smooth=["age"])
    assert np.allclose(back.values, found.after.maps["dti_fa"].values, rtol=1e-5)
    side = json.loads(written[0].with_suffix(".json").read_text())
    assert side["Harmonization"].startswith("combat:") and side["Site"] == "s0"
    assert load_harmonization(tmp_path / "m.safetensors").maps["dti_fa"].combat.sites == model.sites


def test_a_model_comes_back_from_its_file_as_it_was(study, tmp_path: Path) -> None:
    table = study()
    model, found = fit_harmonization(table, level="means", smooth=["age"])
    back = load_harmonization(save_harmonization(model, tmp_path / "m"))
    again = apply_harmonization(back, table)
    assert np.array_equal(again.after.maps["dti_fa"].values, found.after.maps["dti_fa"].values)
    assert back.covariates == model.covariates and back.about["Scans"] == 48
    ratio = again.after.maps["dti_fa"].std / found.before.maps["dti_fa"].std
    assert np.allclose(
        ratio, 1 / np.sqrt(model.maps["dti_fa"].combat.delta[np.repeat(range(4), 12)])
    )


def test_the_order_of_rows_makes_no_difference(study) -> None:
    table = study()
    frame = pd.read_csv(table, sep="\t", dtype=str)
    order = np.random.default_rng(0).permutation(len(frame))
    shuffled = table.with_name("shuffled.tsv")
    frame.iloc[order].to_csv(shuffled, sep="\t", index=False)
    one, two = (
        fit_harmonization(t, level="means")[1].after.maps["dti_fa"] for t in (table, shuffled)
    )
    assert [one.subjects[i] for i in order] == list(two.subjects)
    assert np.allclose(one.values[order], two.values)


def test_a_fit_on_controls_needs_no_group_of_the_others(study) -> None:
    table = study()
    model, found = fit_harmonization(table, level="means", fit_on="control")
    assert [c.name for c in model.covariates] == ["age"]
    assert set(found.table.frame["group"]) == {"control"}
    every = apply_harmonization(model, table)
    assert len(every.table) == 48


def test_a_new_site_is_estimated_and_too_few_scans_are_refused(study, tmp_path: Path) -> None:
    table = study()
    frame = pd.read_csv(table, sep="\t", dtype=str)
    old = table.with_name("old.tsv")
    frame[frame["site"] != "s3"].to_csv(old, sep="\t", index=False)
    model, _ = fit_harmonization(old, level="means")
    found = apply_harmonization(model, table)
    assert found.new_sites == ("s3",) and any("s3 is new" in n for n in found.notes)
    few = table.with_name("few.tsv")
    frame[frame["site"] == "s3"].iloc[:2].to_csv(few, sep="\t", index=False)
    with pytest.raises(FornixError, match=r"does not know the site s3, and 2 scans are too few"):
        apply_harmonization(model, few)


def test_warnings_say_what_is_doubtful(study, recwarn) -> None:
    table = study(made(each=6, columns=4))
    sites = pd.read_csv(table, sep="\t")["site"]
    people = [f"p{i}" for i in range(len(sites))]
    people[:6] = ["same"] * 6
    old = edited(
        table, participant_id=people, session_id=range(len(sites)),
        age=np.where(sites == "s1", 70, 30) + np.arange(len(sites)) % 5,
    )  # fmt: skip
    _, found = fit_harmonization(old, level="means")
    text = "\n".join(found.notes)
    assert (
        "fewer than 10" in text
        and "of one person (same)" in text
        and "age and site go together" in text
    )
    model, _ = fit_harmonization(table, level="means")
    beyond = apply_harmonization(model, edited(table, age=np.linspace(20, 99, len(sites))))
    assert any("beyond the" in n and "of the fit" in n for n in beyond.notes)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda t: {"site": ["x"] * len(t)}, "one site"),
        (lambda t: {"site": ["x", *t["site"][1:]]}, "line 2 .*one scan"),
        (lambda t: {"site": [None, *t["site"][1:]]}, "line 2: no site"),
        (lambda t: {"age": [-4.0, *t["age"][1:]]}, "line 2 .*an age is 0 or more"),
        (lambda t: {"age": [*t["age"][:-1], None]}, "line 49 .*no value of age"),
        (lambda t: {"path": ["gone.tsv", *t["path"][1:]]}, "line 2: .*gone.tsv does not exist"),
        (lambda t: {"group": np.where(t["site"] < "s2", "a", "b")}, "group and site cannot be told apart"),
        (lambda t: {"path": [t["path"][1], *t["path"][1:]],
                    "participant_id": [t["participant_id"][1], *t["participant_id"][1:]]}, "line 3: .*twice"),
    ],
)  # fmt: skip
def test_bad_tables_are_one_line_and_nothing_is_written(
    study, tmp_path: Path, change, said: str
) -> None:
    table = study()
    frame = pd.read_csv(table, sep="\t", dtype={"participant_id": str})
    bad = edited(table, **change(frame))
    before = files(tmp_path)
    done = run("fit", bad, "-o", tmp_path / "model")
    assert done.exit_code == 1 and isinstance(done.exception, FornixError)
    assert "\n" not in str(done.exception)
    with pytest.raises(FornixError, match=said):
        raise done.exception
    assert files(tmp_path) == before


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--map", "dki_mk"], "no map dki_mk; it holds: dti_fa"),
        (["--covariates", "weight"], "no column weight"),
        (["--group", "weight"], "no column weight"),
        (["--fit-on", "martian"], "no row has group martian"),
        (["--smooth", "group"], "no column of numbers"),
        (["--reference", "s9"], "no scan is of the reference s9"),
        (["--shrinkage", "much"], "no shrinkage"),
        (["--travelling", "fit"], "heads that were at several sites"),
        (["--travelling", "yes"], "check or fit"),
        (["--on", "brain"], "--on brain is unknown"),
        (["--on", "parcels"], "give --parcels"),
        (["--on", "voxels"], "neither a folder of maps nor a NIfTI"),
    ],
)
def test_impossible_requests_are_one_line(
    study, tmp_path: Path, options: list[str], said: str
) -> None:
    words = ["fit", study(), "-o", tmp_path / "model", *options]
    done = run(*words, *([] if "--on" in options else ["--on", "means"]))
    assert done.exit_code == 1 and said in str(done.exception)
    assert not (tmp_path / "model.safetensors").exists()


def test_values_that_are_no_numbers_are_named_with_their_row(study) -> None:
    table = study()
    first = table.parent / "sub-004_desc-means_tracts.tsv"
    pd.read_csv(first, sep="\t").assign(value=np.nan).to_csv(
        first, sep="\t", index=False, na_rep="n/a"
    )
    with pytest.raises(FornixError, match=r"line 6 \(004, s0\): the map dti_fa has no value"):
        fit_harmonization(table, level="means")


def test_a_model_says_which_maps_it_does_not_know(study, tmp_path: Path) -> None:
    model, _ = fit_harmonization(study(name="a"), level="means")
    with pytest.raises(FornixError, match=r"does not know the maps of study.tsv \(dki_mk\)"):
        apply_harmonization(model, study(name="b", maps=("dki_mk",)))
    both = apply_harmonization(model, study(name="c", maps=("dki_mk", "dti_fa")))
    assert list(both.after.maps) == ["dti_fa"]
    assert any("does not know dki_mk" in n for n in both.notes)
    other = study(name="d")
    for path in other.parent.glob("*_tracts.tsv"):
        table = pd.read_csv(path, sep="\t")
        table.assign(tractID=table["tractID"] + "x").to_csv(path, sep="\t", index=False)
    with pytest.raises(FornixError, match="none of the columns of dti_fa"):
        apply_harmonization(model, other)
    frame = pd.read_csv(study(name="e"), sep="\t", dtype={"participant_id": str})
    with pytest.raises(FornixError, match="group has the value 'martian'"):
        apply_harmonization(
            model, edited(tmp_path / "e" / "study.tsv", group=["martian", *frame["group"][1:]])
        )
    frame.drop(columns="age").to_csv(tmp_path / "e" / "study.tsv", sep="\t", index=False)
    with pytest.raises(FornixError, match="no column age"):
        apply_harmonization(model, tmp_path / "e" / "study.tsv")


def test_damaged_model_files_are_one_line(study, tmp_path: Path) -> None:
    model, _ = fit_harmonization(study(), level="means")
    path = save_harmonization(model, tmp_path / "m")
    whole = path.read_bytes()
    bad = tmp_path / "bad.safetensors"
    rng = np.random.default_rng(0)
    places = [*rng.integers(0, len(whole), 25), len(whole) - 1]
    for place in places:
        bad.write_bytes(whole[:place] + bytes([whole[place] ^ 0x55]) + whole[place + 1 :])
        with pytest.raises(FornixError, match=r"bad\.safetensors") as told:
            load_harmonization(bad)
        assert "\n" not in str(told.value)
    for part in (b"", whole[:100], whole[:-50], b"hello"):
        bad.write_bytes(part)
        with pytest.raises(FornixError, match=r"bad\.safetensors"):
            load_harmonization(bad)
    with pytest.raises(FornixError, match="does not exist"):
        load_harmonization(tmp_path / "none.safetensors")


def images(folder: Path, cohort, holes: bool = False) -> Path:
    """The cohort's columns as the voxels of small images."""
    folder.mkdir()
    rng = np.random.default_rng(1)
    rows = []
    for i, (site, values) in enumerate(zip(cohort.sites, cohort.values)):
        data = np.zeros((4, 3, 2), np.float32)
        data.ravel()[: len(values)] = values
        if holes:
            data.ravel()[rng.integers(0, len(values), 2)] = [0, np.nan]
        write_image(
            folder / f"{i:02d}_model-dti_param-fa_dwimap.nii.gz", data, np.diag([2, 2, 2, 1.0])
        )
        rows.append(
            {
                "participant_id": f"{i:02d}",
                "site": site,
                "path": f"{i:02d}_model-dti_param-fa_dwimap.nii.gz",
            }
        )
    table = pd.concat([pd.DataFrame(rows), cohort.table], axis=1)
    table.to_csv(folder / "study.csv", index=False)
    return folder / "study.csv"


def test_voxels_with_holes(tmp_path: Path) -> None:
    cohort = made(each=12, columns=20)
    whole = images(tmp_path / "whole", cohort)
    model, found = fit_harmonization(whole)
    assert model.level == "voxels" and found.after.maps["dti_fa"].values.shape == (48, 20)
    table = images(tmp_path / "holes", cohort, holes=True)
    _, some = fit_harmonization(table)
    assert any("are missing, and stay so" in n for n in some.notes)
    a, b = (f.after.maps["dti_fa"].values for f in (found, some))
    assert np.isnan(b).mean() < 0.11 and np.sqrt(np.nanmean((a - b) ** 2)) < 0.15
    written = save_harmonized(some, tmp_path / "out", {})
    assert len([p for p in written if p.name.endswith("_dwimap.nii.gz")]) == 48


def test_maps_of_another_template_are_named_with_their_row(tmp_path: Path) -> None:
    table = images(tmp_path / "a", made(each=4, columns=20))
    path = tmp_path / "a" / "05_model-dti_param-fa_dwimap.nii.gz"
    write_image(path, np.ones((4, 3, 2), np.float32), np.diag([3, 3, 3, 1.0]))
    with pytest.raises(FornixError, match=r"line 7 .*its template's grid"):
        fit_harmonization(table)
    write_image(path, np.full((4, 3, 2), np.nan, np.float32), np.diag([2, 2, 2, 1.0]))
    with pytest.raises(FornixError, match=r"line 7 .*the map dti_fa has no value"):
        fit_harmonization(table)


def test_parcels(tmp_path: Path) -> None:
    cohort = made(each=12, columns=20)
    table = images(tmp_path / "a", cohort)
    labels = np.zeros((4, 3, 2), np.float32)
    labels.ravel()[:20] = np.repeat([1, 2, 5, 7], 5)
    write_image(tmp_path / "labels.nii.gz", labels, np.diag([2, 2, 2, 1.0]))
    _, found = fit_harmonization(table, level="parcels", parcels=tmp_path / "labels.nii.gz")
    before = found.before.maps["dti_fa"]
    assert before.tracts == ("label-1", "label-2", "label-5", "label-7")
    assert np.allclose(before.values, cohort.values.reshape(48, 4, 5).mean(2), atol=1e-5)


def test_travelling_heads_are_reported(study) -> None:
    table = study(made(each=12, columns=6, shift=2))
    people = [f"t{i % 12}" if i % 12 < 3 else f"p{i}" for i in range(48)]
    same = edited(table, participant_id=people)
    for kind in ("check", "fit"):
        _, found = fit_harmonization(same, level="means", travelling=kind)
        told = heads_table(found).iloc[0]
        assert told["heads"] == 3 and told["between sites after"] < told["between sites before"]


def test_a_model_is_not_written_over_the_table(study) -> None:
    table = study()
    other = table.with_name("x.safetensors")
    table.rename(other)
    before = other.read_bytes()
    done = run("fit", other, "-o", other, "--on", "means")
    assert done.exit_code == 1 and "is the input" in str(done.exception)
    assert other.read_bytes() == before
