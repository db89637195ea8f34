"""Who owns a file in a folder: temporaries of live processes, inputs, names of every kind."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fornix.core.errors import FornixError
from fornix.core.maps import Map, Maps
from fornix.io import load_maps, save_maps, write_json
from fornix.io.files import atomic, output_folder, protected

AFFINE = np.diag([2.0, 2.0, 2.0, 1.0])


def test_what_a_live_process_writes_is_not_cleared(tmp_path: Path):
    with atomic(tmp_path / "a.json") as temporary:
        temporary.write_text("{}")
        # Another process starts in the same folder.
        words = "import sys; from fornix.io.files import output_folder; output_folder(sys.argv[1])"
        subprocess.run([sys.executable, "-c", words, str(tmp_path)], check=True)
        output_folder(tmp_path)
        assert temporary.exists()
    assert (tmp_path / "a.json").exists()


def test_what_a_dead_process_left_is_cleared(tmp_path: Path):
    words = (
        "import os, sys; from fornix.io.files import atomic\n"
        "with atomic(sys.argv[1]) as t:\n    t.write_text('x'); os._exit(1)"
    )
    subprocess.run([sys.executable, "-c", words, str(tmp_path / "a.json")], check=False)
    assert list(tmp_path.iterdir())
    output_folder(tmp_path)
    assert not list(tmp_path.iterdir())


def test_what_another_machine_writes_is_cleared_when_it_is_old(tmp_path: Path):
    other = tmp_path / ".fornix-tmp-77@elsewhere-ab12cd-a.nii.gz"
    other.write_text("x")
    output_folder(tmp_path)
    assert other.exists()
    os.utime(other, (0, 0))
    output_folder(tmp_path)
    assert not other.exists()


@pytest.mark.parametrize("way", ["itself", "link", "relative"])
def test_an_input_is_never_written_over(tmp_path: Path, monkeypatch, way):
    scan = tmp_path / "scan.json"
    scan.write_text("mine")
    target = scan
    if way == "link":
        target = tmp_path / "other.json"
        target.hardlink_to(scan)
    elif way == "relative":
        monkeypatch.chdir(tmp_path)
        target = Path("scan.json")
    with protected(scan, None, tmp_path / "not there"):
        with pytest.raises(FornixError, match="is the input and would be written over"):
            write_json(target, {})
        write_json(tmp_path / "another.json", {})
    assert scan.read_text() == "mine"
    write_json(scan, {})  # afterwards it is a file like any other


NAMES = st.text(
    st.characters(blacklist_characters="/\0\n\r", blacklist_categories=("Cs", "Cc")),
    min_size=1,
    max_size=24,
).filter(lambda s: s.strip(".") and len(s.encode()) < 80)


@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(stem=NAMES, other=NAMES)
def test_maps_of_one_scan_are_never_another_s(tmp_path_factory, stem, other):
    """Any two names, one the beginning of the other as well."""
    folder = tmp_path_factory.mktemp("out")
    names = {stem: 0.25, f"{stem}_{other}": 0.5, f"{stem}_ses-2": 0.75}
    for name, value in names.items():
        made = Map(
            "dti", "fa", np.full((2, 2, 2), value, np.float32), AFFINE, units="1", method="wls"
        )
        save_maps(Maps({"dti_fa": made}), folder, name)
    for name, value in names.items():
        found = load_maps(folder, name)
        assert list(found) == ["dti_fa"] and np.all(found["dti_fa"].data == value)
