"""Gradient tables as editors, scanners and converters write them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fornix.core.errors import FornixError
from fornix.io import read_fsl, read_mrtrix
from fornix.numerics.directions import spread

AFFINE = np.diag([-2.0, 2.0, 2.0, 1.0])
BVALS = np.r_[0, 0, np.full(12, 1000.0)]
BVECS = np.r_[np.zeros((2, 3)), spread(12)].T


@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    encoding=st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "latin-1"]),
    between=st.sampled_from([" ", "\t", ", ", ";", "   "]),
    end=st.sampled_from(["\n", "\r\n", "\r", ""]),
    columns=st.booleans(),
    remark=st.booleans(),
)
def test_any_text_file(tmp_path: Path, encoding, between, end, columns, remark):
    def write(name: str, rows: np.ndarray) -> Path:
        lines = [between.join(f"{v:.9g}" for v in row) for row in rows]
        text = (end or "\n").join((["# made by hand"] if remark else []) + lines) + end
        path = tmp_path / name
        path.write_bytes(text.encode(encoding))
        return path

    rows = BVECS.T if columns else BVECS
    made = read_fsl(write("a.bval", BVALS[None]), write("a.bvec", rows), AFFINE)
    np.testing.assert_allclose(made.bvals, BVALS)
    np.testing.assert_allclose(np.linalg.norm(made.directions[2:], axis=1), 1)
    table = np.column_stack([BVECS.T, BVALS])
    assert np.array_equal(read_mrtrix(write("a.b", table)).bvals, BVALS)


@settings(
    max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    where=st.lists(st.integers(0, 13), min_size=1, max_size=5, unique=True),
    harm=st.sampled_from(["nan vector", "zero vector", "negative b", "nan b", "infinite b"]),
)
def test_a_volume_left_out_may_have_any_entry(tmp_path: Path, where, harm):
    bvals, bvecs = BVALS.copy(), BVECS.copy()
    bvals[where] = {"negative b": -1, "nan b": np.nan, "infinite b": np.inf}.get(harm, 1000.0)
    bvecs[:, where] = np.nan if harm == "nan vector" else 0.0
    np.savetxt(tmp_path / "a.bval", bvals[None])
    np.savetxt(tmp_path / "a.bvec", bvecs)
    pair = tmp_path / "a.bval", tmp_path / "a.bvec"
    with pytest.raises(FornixError) as caught:
        read_fsl(*pair, AFFINE)
    message = str(caught.value)
    assert "\n" not in message and f"volume {min(where)}" in message
    made = read_fsl(*pair, AFFINE, exclude=where)
    assert made.numbers.tolist() == [v for v in range(14) if v not in where]
    # What the message names is what helps.
    advised = message.rsplit("--exclude ", 1)[1].split()[0].rstrip(");,")
    assert sorted(map(int, advised.split(","))) == sorted(where)


def test_numbers_of_volumes_are_those_of_the_file(tmp_path: Path):
    bvals, bvecs = BVALS.copy(), BVECS.copy()
    bvals[9] = -1
    np.savetxt(tmp_path / "a.bval", bvals[None])
    np.savetxt(tmp_path / "a.bvec", bvecs)
    with pytest.raises(FornixError, match="volume 9 "):
        read_fsl(tmp_path / "a.bval", tmp_path / "a.bvec", AFFINE, exclude=[2, 3])


@pytest.mark.parametrize(
    ("scale", "words"), [(1e-3, "multiply by 1000"), (1e6, "beyond what a scanner reaches")]
)
def test_other_units_are_one_line(tmp_path: Path, scale, words):
    np.savetxt(tmp_path / "a.bval", BVALS[None] * scale)
    np.savetxt(tmp_path / "a.bvec", BVECS)
    np.savetxt(tmp_path / "a.b", np.column_stack([BVECS.T, BVALS * scale]))
    with pytest.raises(FornixError, match=words):
        read_fsl(tmp_path / "a.bval", tmp_path / "a.bvec", AFFINE)
    with pytest.raises(FornixError, match=words):
        read_mrtrix(tmp_path / "a.b")


def test_b_values_in_the_lengths_of_vectors(tmp_path: Path):
    levels = np.tile([1000.0, 2000.0, 3000.0], 4)
    vectors = spread(12) * np.sqrt(levels / 3000)[:, None]
    np.savetxt(tmp_path / "a.bval", np.r_[0, 0, np.full(12, 3000.0)][None])
    np.savetxt(tmp_path / "a.bvec", np.r_[np.zeros((2, 3)), vectors].T)
    made = read_fsl(tmp_path / "a.bval", tmp_path / "a.bvec", AFFINE)
    np.testing.assert_allclose(made.bvals[2:], levels, rtol=1e-4)
    np.testing.assert_allclose(np.linalg.norm(made.directions[2:], axis=1), 1)
    assert any("lengths of the b-vectors" in note for note in made.notes)


def test_b0s_in_a_coded_table(tmp_path: Path):
    """All volumes have the largest b, the b0s a vector of no length."""
    vectors = spread(12) * np.sqrt(np.tile([1 / 3, 2 / 3, 1.0], 4))[:, None]
    np.savetxt(tmp_path / "a.bval", np.full(14, 3000.0)[None])
    np.savetxt(tmp_path / "a.bvec", np.r_[np.zeros((2, 3)), vectors].T)
    made = read_fsl(tmp_path / "a.bval", tmp_path / "a.bvec", AFFINE)
    assert made.b0_mask.tolist() == [True, True] + [False] * 12
    assert [s.b for s in made.shells] == pytest.approx([1000, 2000, 3000], rel=1e-3)


def test_advice_that_would_make_everything_a_b0_is_not_given(tmp_path: Path):
    np.savetxt(tmp_path / "a.bval", np.full(14, 1000.0)[None])
    np.savetxt(tmp_path / "a.bvec", BVECS)
    with pytest.raises(FornixError, match="write 0 for it in the table"):
        read_fsl(tmp_path / "a.bval", tmp_path / "a.bvec", AFFINE)


@pytest.mark.parametrize("text", ["", "\n\n", "a b c", "1 2\n3", "\x00\x01", "# only a remark"])
def test_what_is_no_table_is_one_line(tmp_path: Path, text):
    (tmp_path / "a.bval").write_text(text)
    np.savetxt(tmp_path / "a.bvec", BVECS)
    with pytest.raises(FornixError) as caught:
        read_fsl(tmp_path / "a.bval", tmp_path / "a.bvec", AFFINE)
    assert "\n" not in str(caught.value)
