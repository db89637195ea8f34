"""Tables of many subjects, and the command on them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from fornix.analysis.matching import matched
from fornix.analysis.profile_tables import read_measurements, read_participants
from fornix.cli.app import app
from fornix.core.errors import FornixError, FornixWarning


def write(made, table: pd.DataFrame, folder: Path) -> list[Path]:
    paths = []
    for i, name in enumerate(made.subjects):
        path = folder / f"sub-{name}_desc-profiles_tracts.tsv"
        pd.DataFrame(
            {"tractID": made.tracts, "nodeID": made.nodes, "map": "fa", "value": made.values[i],
             "std": made.std[i]}
        ).to_csv(path, sep="\t", index=False)  # fmt: skip
        paths.append(path)
    table.to_csv(folder / "participants.tsv", sep="\t", index=False)
    return paths


def test_profiles_come_back_whole_with_the_reason_of_what_is_missing(small_cohort, tmp_path: Path):
    made, table = small_cohort(each=3)
    paths = write(made, table, tmp_path)
    first = pd.read_csv(paths[0], sep="\t")
    first = first[first["tractID"] != "t1"].assign(reason=None)
    first.loc[len(first)] = ["t1", np.nan, np.nan, np.nan, np.nan, "cut"]
    first.to_csv(paths[0], sep="\t", index=False, na_rep="n/a")
    with pytest.warns(FornixWarning, match="1 tracts are missing .* t1 in 1"):
        back = read_measurements(paths)
    assert back.subjects == made.subjects and back.tracts == made.tracts
    assert np.isnan(back.values[0, 20:40]).all() and back.reasons == {("00", "t1"): "cut"}
    assert np.allclose(back.values[1:], made.values[1:]) and np.allclose(back.std[1:], made.std[1:])


def test_other_forms(small_cohort, tmp_path: Path):
    made, _ = small_cohort(each=3)
    rows = [
        (t, n, s, made.values[i, v], 2 * made.values[i, v])
        for i, s in enumerate(made.subjects)
        for v, (t, n) in enumerate(zip(made.tracts, made.nodes))
    ]
    columns = ["tractID", "nodeID", "subjectID", "fa", "md"]
    pd.DataFrame(rows, columns=columns).to_csv(tmp_path / "afq.csv")
    assert np.allclose(read_measurements([tmp_path / "afq.csv"], "md").values, 2 * made.values)
    with pytest.raises(FornixError, match="hold the maps fa, md; choose"):
        read_measurements([tmp_path / "afq.csv"])
    scalars = pd.DataFrame({"subjectID": made.subjects, "CST": range(6), "AF": range(6, 12)})
    scalars.to_csv(tmp_path / "means.tsv", sep="\t", index=False)
    means = read_measurements([tmp_path / "means.tsv"])
    assert set(means.tracts) == {"CST", "AF"} and means.values.shape == (6, 2)
    for i in range(2):
        matrix = np.array([[9.0, i + 1, 0], [i + 1, 9, np.nan], [0, np.nan, 9]])
        text = "\n".join("\t".join("n/a" if v != v else str(v) for v in row) for row in matrix)
        (tmp_path / f"sub-0{i}_desc-count_relmat.tsv").write_text(text)
    edges = read_measurements(sorted(tmp_path.glob("*_relmat.tsv")))
    assert edges.tracts == ("1-2",) and edges.map == "count" and edges.values.tolist() == [[1], [2]]


def test_uneven_nodes_and_doubles_are_one_line(small_cohort, tmp_path: Path):
    made, table = small_cohort(each=3)
    paths = write(made, table, tmp_path)
    pd.read_csv(paths[0], sep="\t").iloc[::2].to_csv(paths[0], sep="\t", index=False)
    with pytest.raises(FornixError, match="different numbers of nodes in t0"):
        read_measurements(paths)
    with pytest.raises(FornixError, match="twice"):
        read_measurements([paths[1], paths[1]])
    with pytest.raises(FornixError, match="its columns are"):
        read_measurements([tmp_path / "participants.tsv"][:0] or [_odd(tmp_path)])


def _odd(folder: Path) -> Path:
    path = folder / "odd.tsv"
    path.write_text("x\ty\n1\t2\n")
    return path


def test_people_without_tables_are_said_and_strangers_refused(small_cohort, tmp_path: Path):
    made, table = small_cohort(each=3)
    write(made, table.iloc[1:], tmp_path)
    people = read_participants(tmp_path / "participants.tsv")
    with pytest.warns(FornixWarning, match="1 subjects are not in the design .* 00"):
        kept, rows = matched(made, people)
    assert len(kept.subjects) == len(rows) == 5 and list(rows["participant_id"]) == list(
        kept.subjects
    )
    with pytest.raises(FornixError, match="same names"):
        matched(made, people.assign(participant_id="x" + people["participant_id"]))


def test_the_command_writes_tables_and_a_page(small_cohort, tmp_path: Path):
    made, table = small_cohort(each=12, effect=9.0)
    paths = [str(p) for p in write(made, table, tmp_path)]
    words = [
        "compare",
        *paths,
        "--design",
        str(tmp_path / "participants.tsv"),
        "-o",
        str(tmp_path / "out"),
    ]
    done = CliRunner().invoke(
        app,
        [*words, "--group", "group", "--permutations", "200", "--power", "30"],
        catch_exceptions=False,
    )
    assert done.exit_code == 0 and "1 of 4 tracts differ with group[T.b]" in done.output
    summary = pd.read_csv(tmp_path / "out" / "group_desc-summary_tracts.tsv", sep="\t")
    assert summary.loc[summary["tractID"] == "t0", "p_fwe"].item() <= 0.05
    effects = pd.read_csv(tmp_path / "out" / "group_desc-effects_tracts.tsv", sep="\t")
    assert len(effects) == 80 and {"p_tfce", "p_mass", "p_max", "q_fdr", "low", "high"} <= set(
        effects
    )
    page = (tmp_path / "out" / "group_compare.html").read_text()
    assert "t0: higher by" in page and page.count("<figure") == 4
    done = CliRunner().invoke(
        app, [*words, "--person", "sub-03", "--formula", "age"], catch_exceptions=False
    )
    assert done.exit_code == 0, done.output
    alone = pd.read_csv(tmp_path / "out" / "sub-03_desc-normative_tracts.tsv", sep="\t")
    assert alone["z"].notna().all()
    bad = CliRunner().invoke(app, words)
    assert bad.exit_code == 1 and "nothing to compare" in str(bad.exception)
