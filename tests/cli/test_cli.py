"""The command line as a user meets it: help, exit codes, one-line errors, stopping and going on."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

COMMANDS = [
    "run", "info", "denoise", "mask", "correct", "microstructure", "fod", "track", "predict", "enhance",
    "report", "simulate", "bench", "cite", "qc", "register", "warp", "tracts", "profile", "label",
]  # fmt: skip


def fornix(*words: str | Path, **more) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "COLUMNS": "200", "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        [sys.executable, "-m", "fornix", *map(str, words)],
        capture_output=True, text=True, env=environment, **more,
    )  # fmt: skip


@pytest.fixture(scope="module")
def scan(tmp_path_factory) -> Path:
    """A small simulated head, as `fornix simulate` writes it."""
    folder = tmp_path_factory.mktemp("scan")
    done = fornix(
        "simulate", "-o", folder, "--protocol", "dti15", "--voxel-size", "6", "--snr", "40"
    )
    assert done.returncode == 0, done.stderr
    return folder / "sub-phantom_dwi.nii.gz"


@pytest.fixture(scope="module")
def finished(scan: Path, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("out")
    done = fornix("run", scan, "-o", out, "--streamlines", "300", "--truth", scan.parent / "truth")
    assert done.returncode == 0, done.stderr + done.stdout
    assert re.search(r"\ndone in \d+ s: open .*sub-phantom_report.html$", done.stdout.strip())
    return out


@pytest.mark.parametrize("command", COMMANDS)
def test_help_teaches(command):
    done = fornix(command, "--help")
    assert done.returncode == 0
    assert f"fornix {command}" in done.stdout
    assert "Example" in done.stdout


def test_all_commands_are_listed():
    done = fornix("--help")
    assert all(re.search(rf"\b{c}\b", done.stdout) for c in COMMANDS)
    assert re.match(r"\d+\.\d+\.\d+", fornix("--version").stdout)


def test_import_is_fast():
    code = "import time; t = time.perf_counter(); import fornix; print(time.perf_counter() - t)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert float(done.stdout) < 1


def test_run_writes_what_the_design_names(finished: Path):
    names = {p.name for p in finished.iterdir()}
    stem = "sub-phantom"
    expected = {f"{stem}_desc-brain_mask.nii.gz", f"{stem}_desc-preproc_dwi.nii.gz"}
    for param in ("fa", "md", "ad", "rd", "tensor", "v1", "s0"):
        expected.add(f"{stem}_model-dti_param-{param}_dwimap.nii.gz")
        if param != "v1":
            expected.add(f"{stem}_model-dti_param-{param}_desc-std_dwimap.nii.gz")
    expected |= {f"{stem}_param-fod_dwimap.nii.gz", f"{stem}_param-peaks_dwimap.nii.gz"}
    expected |= {f"{stem}_desc-trust_mask.nii.gz", f"{stem}_tractogram.trx"}
    expected |= {f"{stem}_qc.json", f"{stem}_report.html"}
    assert expected <= names
    for image in [n for n in names if n.endswith(".nii.gz")]:
        side = json.loads((finished / image.replace(".nii.gz", ".json")).read_text())
        assert {"FornixVersion", "Command", "Sha256", "StepKey", "Inputs"} <= set(side), image
    qc = json.loads((finished / f"{stem}_qc.json").read_text())
    assert qc["Scan"]["GradientCheck"]["Fits"] is True
    assert not [n for n in names if n.startswith(".")]


def test_outputs_lie_on_the_input_grid(scan: Path, finished: Path):
    image = nib.load(scan)
    for path in finished.glob("*.nii.gz"):
        if "_to-mni_" in path.name:  # lies on the grid of the template, as warps onto it do
            continue
        made = nib.load(path)
        assert made.shape[:3] == image.shape[:3]
        np.testing.assert_allclose(made.affine, image.affine, atol=1e-5)


def test_second_run_reuses_and_a_harmed_file_is_made_again(scan: Path, finished: Path):
    words = ("run", scan, "-o", finished, "--streamlines", "300")
    again = fornix(*words)
    assert again.stdout.count("reused") == 11, again.stdout
    fa = finished / "sub-phantom_model-dti_param-fa_dwimap.nii.gz"
    before = nib.load(fa).get_fdata()
    fa.write_bytes(b"harmed")
    repaired = fornix(*words)
    assert "✓ microstructure" in repaired.stdout and repaired.stdout.count("reused") == 10
    np.testing.assert_array_equal(nib.load(fa).get_fdata(), before)
    other = fornix(*words, "--seed", "1")
    assert re.search(r"track +[\d.]+ s", other.stdout), "another seed must track anew"


def test_a_killed_run_goes_on(scan: Path, tmp_path):
    words = ["run", str(scan), "-o", str(tmp_path), "--streamlines", "200"]
    started = subprocess.Popen(
        [sys.executable, "-m", "fornix", *words],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    for _ in range(600):
        if list(tmp_path.glob("*noise_dwimap.json")):
            break
        time.sleep(0.1)
    started.send_signal(signal.SIGKILL)
    started.wait()
    for image in tmp_path.glob("*.nii.gz"):
        if not image.name.startswith("."):
            nib.load(image).get_fdata()
    done = fornix(*words)
    assert done.returncode == 0 and "reused" in done.stdout
    assert not list(tmp_path.glob(".fornix-tmp*"))


@pytest.mark.parametrize(
    ("words", "made"),
    [
        (["mask"], "sub-phantom_desc-brain_mask.nii.gz"),
        (["denoise", "--threads", "1", "--device", "cpu"], "sub-phantom_desc-preproc_dwi.nii.gz"),
        (["correct", "--method", "bias", "--threads", "1"], "sub-phantom_desc-preproc_dwi.bvec"),
        (["microstructure", "--method", "ols"], "sub-phantom_model-dti_param-fa_dwimap.nii.gz"),
        (["fod", "--method", "csd", "--threads", "1"], "sub-phantom_param-peaks_dwimap.nii.gz"),
        (["track", "--streamlines", "9", "--tractogram", "tck", "--seed", "1"], "sub-phantom_tractogram.tck"),
    ],
)  # fmt: skip
def test_each_stage_alone(scan: Path, tmp_path, words, made):
    done = fornix(words[0], scan, "-o", tmp_path, *words[1:])
    assert done.returncode == 0, done.stderr + done.stdout
    assert (tmp_path / made).exists()
    assert done.stdout.strip().splitlines()[-1].startswith("done")


def test_predict_at_other_gradients(scan: Path, tmp_path):
    from fornix.io import load, write_mrtrix
    from fornix.physics import scheme

    target = scheme("dti6")
    write_mrtrix(target, tmp_path / "new.b")
    done = fornix("predict", scan, "--grad", tmp_path / "new.b", "-o", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    made = load(tmp_path / "out" / "sub-phantom_desc-predicted_dwi.nii.gz")
    np.testing.assert_allclose(made.gradients.directions, target.directions, atol=1e-5)
    assert made.grid == load(scan).grid and made.data.max() > 0
    std = nib.load(tmp_path / "out" / "sub-phantom_desc-predictedstd_dwi.nii.gz").get_fdata()
    assert std.shape == made.data.shape and (std >= 0).all()
    missing = fornix("predict", scan, "-o", tmp_path / "out")
    assert missing.returncode == 1 and "say where to predict" in missing.stderr


def test_enhance_to_other_gradients(scan: Path, tmp_path):
    from fornix.io import load
    from fornix.physics import scheme

    done = fornix("enhance", scan, "--to", "dti6", "--method", "encoder", "-o", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    made = load(tmp_path / "out" / "sub-phantom_desc-enhanced_dwi.nii.gz")
    np.testing.assert_allclose(made.gradients.directions, scheme("dti6").directions, atol=1e-5)
    std = nib.load(tmp_path / "out" / "sub-phantom_desc-enhancedstd_dwi.nii.gz").get_fdata()
    assert std.shape == made.data.shape and (std >= 0).all()


def test_enhance_to_smaller_voxels_is_reused_and_read_by_later_steps(scan: Path, tmp_path):
    from fornix.io import load, read_sidecar

    words = ("enhance", scan, "--voxel-size", "6,6,3", "-o", tmp_path)
    assert fornix(*words).returncode == 0
    image = tmp_path / "sub-phantom_desc-enhanced_dwi.nii.gz"
    before, made = image.stat().st_mtime_ns, load(image)
    np.testing.assert_allclose(made.voxel_size, (6, 6, 3), atol=1e-5)
    side = read_sidecar(image)
    assert "enhance:" in side["Method"] and side["ResidualAfter"] < 2
    assert fornix(*words).returncode == 0 and image.stat().st_mtime_ns == before
    mask = tmp_path / "sub-phantom_desc-enhanced_mask.nii.gz"
    later = fornix("fod", image, "--mask", mask, "--method", "csd", "-o", tmp_path / "later")
    assert later.returncode == 0, later.stderr


def test_enhance_says_what_is_wrong_and_writes_nothing(scan: Path, tmp_path):
    for words, text in (
        ((), "say what to enhance"), (("--to", "nonsense"), "no file and no scheme"),
        (("--voxel-size", "7"), "larger than the measured"), (("--voxel-size", "1"), "less than a third"),
    ):  # fmt: skip
        done = fornix("enhance", scan, *words, "-o", tmp_path / "out")
        assert done.returncode == 1 and text in done.stderr, done.stderr
        assert len(done.stderr.strip().splitlines()) == 1
    assert not list(tmp_path.glob("out/*enhanced*"))
    volume = nib.load(scan)
    nib.save(
        nib.Nifti1Image(np.asarray(volume.dataobj)[..., 0], volume.affine), tmp_path / "3d.nii.gz"
    )
    flat = fornix("enhance", tmp_path / "3d.nii.gz", "--voxel-size", "3", "-o", tmp_path / "out")
    assert flat.returncode == 1 and len(flat.stderr.strip().splitlines()) == 1


def test_report_alone(scan: Path, finished: Path):
    (finished / "sub-phantom_report.html").unlink()
    assert fornix("report", scan, "-o", finished).returncode == 0
    assert (finished / "sub-phantom_report.html").exists()


@pytest.mark.parametrize(
    "command", ["denoise", "mask", "correct", "microstructure", "fod", "track"]
)
def test_method_help_lists_the_table(command):
    done = fornix(command, "--method", "help")
    assert done.returncode == 0 and "(default)" in done.stdout


def test_protocol_help_lists_the_schemes():
    done = fornix("simulate", "--protocol", "help")
    assert done.returncode == 0 and "60 at b=3000" in done.stdout


def test_track_takes_the_orientations_in_the_folder(scan: Path, tmp_path):
    assert fornix("fod", scan, "-o", tmp_path, "--method", "csd").returncode == 0
    assert fornix("microstructure", scan, "-o", tmp_path).returncode == 0
    before = (tmp_path / "sub-phantom_param-fod_dwimap.nii.gz").read_bytes()
    done = fornix("track", scan, "-o", tmp_path, "--streamlines", "50")
    assert done.returncode == 0 and "by csd" in done.stdout, done.stdout + done.stderr
    assert (tmp_path / "sub-phantom_param-fod_dwimap.nii.gz").read_bytes() == before
    steps = json.loads((tmp_path / "sub-phantom_qc.json").read_text())["Steps"]
    assert {"mask", "noise", "fod", "microstructure", "track"} <= set(steps)


def test_track_takes_a_fod_of_another_tool(scan: Path, tmp_path):
    assert fornix("fod", scan, "-o", tmp_path / "a", "--method", "csd").returncode == 0
    made = tmp_path / "a" / "sub-phantom_param-fod_dwimap.nii.gz"
    given = ("--fod", made, "--streamlines", "50")
    done = fornix("track", scan, "-o", tmp_path / "b", *given)
    assert done.returncode == 0 and "50 streamlines" in done.stdout, done.stdout + done.stderr
    image = nib.load(made)
    nib.Nifti1Image(image.get_fdata()[..., :-1].astype("f4"), image.affine).to_filename(
        tmp_path / "short.nii.gz"
    )
    given = ("--fod", tmp_path / "short.nii.gz")
    done = fornix("track", scan, "-o", tmp_path / "c", *given)
    assert done.returncode == 1 and "coefficients" in done.stdout + done.stderr


def test_info_tells_and_checks(scan: Path):
    done = fornix("info", scan)
    assert done.returncode == 0
    assert "15 directions" in done.stdout and "fits the data" in done.stdout
    assert re.search(r"noddi +no:", done.stdout)
    facts = json.loads(fornix("info", scan, "--json").stdout)
    assert facts["CanEstimate"]["dti"] == ""


def test_info_names_the_fix_of_a_wrong_table(scan: Path, tmp_path):
    bvecs = np.loadtxt(scan.with_name("sub-phantom_dwi.bvec"))
    bvecs[1] *= -1
    np.savetxt(tmp_path / "wrong.bvec", bvecs)
    bval = scan.with_name("sub-phantom_dwi.bval")
    done = fornix("info", scan, "--bval", bval, "--bvec", tmp_path / "wrong.bvec")
    assert "y negated" in done.stdout and "not changed here" in done.stdout


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["run", "nowhere.nii.gz", "-o", "out"], 1, "does not exist"),
        (["run", "SCAN", "-o", "SCAN"], 1, "is a file; give a folder"),
        (["run", "SCAN", "-o", "out", "--models", "noddi"], 1, "NODDI needs"),
        (["run", "SCAN", "-o", "out", "--models", "x"], 1, "x"),
        (["run", "SCAN", "-o", "out", "--preprocess", "some"], 1, "choose one of"),
        (["run", "SCAN", "-o", "out", "--track-method", "some"], 1, "choose one of"),
        (["run", "SCAN", "-o", "out", "--exclude", "500"], 1, "names volume 500"),
        (["run", "SCAN", "-o", "out", "--device", "abacus"], 1, "unknown device"),
        (["mask", "SCAN", "-o", "out", "--method", "magic"], 1, "choose one of"),
        (["microstructure", "SCAN", "-o", "out", "--sigma", "0"], 1, "above 0"),
        (["track", "SCAN", "-o", "out", "--tractogram", "vtk"], 2, "trx, tck or trk"),
        (["run", "SCAN"], 2, "Missing option"),
        (["run", "SCAN", "-o", "out", "--exclude", "x"], 2, "not a list"),
        (["nonsense"], 2, "No such command"),
        (["bench", "nonsense"], 1, "choose one of"),
        (["simulate", "-o", "out", "--protocol", "nonsense"], 1, "nonsense"),
    ],
)
def test_errors_are_one_line_with_the_right_exit_code(scan: Path, tmp_path, words, code, message):
    done = fornix(*[scan if w == "SCAN" else w for w in words], cwd=tmp_path)
    assert done.returncode == code, done.stderr
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    if code == 1:
        assert len(done.stderr.strip().splitlines()) == 1


def test_debug_shows_the_traceback(tmp_path):
    done = fornix("--debug", "info", "nowhere.nii.gz", cwd=tmp_path)
    assert "Traceback" in done.stderr
