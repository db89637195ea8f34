"""The record of a job: warnings belong to the step that raised them, and survive."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from fornix.io import write_json, write_sidecar
from fornix.workflow.job import Job, Silent
from fornix.workflow.qc_record import QcRecord

INPUTS = {"Scan": "x_dwi.nii.gz", "ScanSha256": "0"}


def do(folder: Path, name: str, warnings: list[str], options: dict[str, Any] | None = None) -> Job:
    """One command that does one step, as a process of its own would."""
    job = Job(folder, "x", INPUTS, Silent())

    def save(result: int, provenance: dict[str, Any]) -> list[Path]:
        path = write_json(folder / f"{name}.txt", {"value": result})
        write_sidecar(path, provenance)
        return [path]

    job.step(name, options or {}, lambda progress: 1, save, lambda: 1, str, lambda result: warnings)
    return job


def warnings_of(folder: Path) -> list[str]:
    return list(json.loads((folder / "x_qc.json").read_text())["Warnings"])


def test_a_later_command_keeps_what_an_earlier_one_warned_of(tmp_path):
    do(tmp_path, "mask", ["the mask is large"])
    do(tmp_path, "fod", ["few directions"])
    assert warnings_of(tmp_path) == ["the mask is large", "few directions"]


def test_a_step_that_is_reused_keeps_its_warnings(tmp_path):
    do(tmp_path, "fod", ["few directions"])
    do(tmp_path, "fod", ["never computed again, never warned again"])
    assert warnings_of(tmp_path) == ["few directions"]


def test_a_step_that_is_done_again_replaces_its_own(tmp_path):
    do(tmp_path, "mask", ["the mask is large"])
    do(tmp_path, "fod", ["few directions"])
    do(tmp_path, "mask", [], {"method": "another"})
    assert warnings_of(tmp_path) == ["few directions"]


def test_another_scan_starts_a_new_record(tmp_path):
    do(tmp_path, "mask", ["the mask is large"])
    assert QcRecord.read(tmp_path / "x_qc.json", {**INPUTS, "ScanSha256": "1"}).warnings == []
    assert QcRecord.read(tmp_path / "x_qc.json", INPUTS).warnings == ["the mask is large"]


@pytest.mark.parametrize("lines", [["a", "a"], ["a", "b", "a"]])
def test_each_warning_stands_once(tmp_path, lines):
    do(tmp_path, "mask", lines)
    assert warnings_of(tmp_path) == sorted(set(lines))
