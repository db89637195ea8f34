"""What cannot become a template is refused before any work is done."""

from __future__ import annotations

import shutil
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from typer.testing import CliRunner

from fornix.cli.app import app
from fornix.core.errors import FornixError
from fornix.register import study_template
from fornix.register.study_template import Round
from fornix.register.template import load_template, mni_template
from fornix.workflow import study_template as workflow
from fornix.workflow.registration import _fixed
from fornix.workflow.study_template import make_template


@pytest.fixture
def scans(tmp_path: Path) -> list[Path]:
    paths = [tmp_path / f"sub-{i}_dwi.nii.gz" for i in (1, 2)]
    for i, path in enumerate(paths):
        nib.save(nib.Nifti1Image(np.full((4, 4, 4, 2), i, np.float32), np.eye(4)), path)
    return paths


def test_one_scan_and_one_twice_are_refused(scans: list[Path], tmp_path: Path) -> None:
    copy = tmp_path / "copy_dwi.nii.gz"
    shutil.copy(scans[0], copy)
    with pytest.raises(FornixError, match="is among the scans twice"):
        make_template([*scans, copy], tmp_path / "out")
    with pytest.raises(FornixError, match="two scans or more"):
        make_template(scans[:1], tmp_path / "out")
    with pytest.raises(FornixError, match="--rounds must be 1 or more"):
        make_template(scans, tmp_path / "out", rounds=0)
    assert not (tmp_path / "out").exists()


def test_the_template_written_is_what_register_reads(
    scans: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mean = mni_template().features()
    rounds = [Round(mean, (), d) for d in (0.4, 0.2)]
    monkeypatch.setattr(workflow, "_head", lambda path, limit: mean)
    monkeypatch.setattr(workflow, "study_template", lambda heads, **options: rounds)
    words = ["template", *map(str, scans), "-o", str(tmp_path / "out")]
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 0, done.exception
    assert "0.400, 0.200" in done.output
    again, name = _fixed(str(tmp_path / "out" / "template.npz"))
    assert name == "template"
    there = mean.brain > 0.5
    assert float((again.shape - mean.shape)[:, there].abs().max()) < 0.03
    stored = load_template(tmp_path / "out" / "template.npz")
    fa = nib.load(tmp_path / "out" / "template_model-dti_param-fa_dwimap.nii.gz")
    assert np.allclose(fa.get_fdata(), stored.fa, atol=0.01)
    assert CliRunner().invoke(app, words).output.count("reused") == 1


def test_as_template_keeps_the_tensors() -> None:
    mean = mni_template().features()
    again = study_template.as_template(mean).features()
    there = mean.brain > 0.5
    assert float((again.shape - mean.shape)[:, there].abs().max()) < 1e-4
