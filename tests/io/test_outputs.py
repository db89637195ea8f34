"""Names, sidecars, maps and tractograms; what we write, nibabel, DIPY and MRtrix3 read."""

from __future__ import annotations

import shutil
import subprocess

import nibabel as nib
import numpy as np
import pytest

from fornix.core.errors import FornixError
from fornix.core.maps import Map, Maps
from fornix.core.tractogram import Tractogram
from fornix.io import (
    derivative,
    load_maps,
    load_tractogram,
    read_sidecar,
    save_maps,
    save_tractogram,
    sidecar_path,
    stem_of,
    write_image,
)

AFFINE = np.array([[-2.0, 0.1, 0, 30], [0.1, 2, 0, -20], [0, 0, 2.5, -10], [0, 0, 0, 1]])
GRID = (20, 21, 12)


@pytest.mark.parametrize(
    ("name", "stem"),
    [
        ("sub-01_ses-2_dwi.nii.gz", "sub-01_ses-2"),
        ("sub-01_desc-preproc_dwi.nii.gz", "sub-01"),
        ("dwi.nii.gz", "dwi"),
        ("a/b/scan.nii", "scan"),
    ],
)
def test_stems(name, stem):
    assert stem_of(name) == stem


def test_names_follow_bep016():
    made = derivative("sub-01", "dwimap", model="dti", param="fa", desc="std")
    assert made == "sub-01_model-dti_param-fa_desc-std_dwimap.nii.gz"
    assert sidecar_path(made).name == "sub-01_model-dti_param-fa_desc-std_dwimap.json"


def test_maps_round_trip_with_sidecars(tmp_path):
    fa = np.random.default_rng(0).random(GRID, np.float32)
    maps = Maps(
        {
            "dti_fa": Map("dti", "fa", fa, AFFINE, fa / 10, method="wls", description="FA"),
            "fod": Map("", "fod", np.ones((*GRID, 15), np.float32), AFFINE),
        },
        trust=fa > 0.2,
    )
    save_maps(maps, tmp_path, "s", {"StepKey": "k"})
    again = load_maps(tmp_path, "s")
    assert set(again) == {"dti_fa", "fod"}
    np.testing.assert_array_equal(again["fa"].data, fa)
    np.testing.assert_array_equal(again["fa"].std, maps["fa"].std)
    np.testing.assert_array_equal(again.trust, maps.trust)
    side = read_sidecar(tmp_path / "s_model-dti_param-fa_dwimap.nii.gz")
    for field in ("Units", "Method", "FornixVersion", "Command", "Sha256", "StepKey"):
        assert side[field]
    assert nib.load(tmp_path / "s_model-dti_param-fa_dwimap.nii.gz").get_data_dtype() == np.float32


def lines() -> Tractogram:
    rng = np.random.default_rng(1)
    made = [
        nib.affines.apply_affine(AFFINE, rng.uniform(0, 10, (n, 3))).astype(np.float32)
        for n in (3, 40, 7)
    ]
    tractogram = Tractogram.from_list(made, AFFINE, GRID)
    return Tractogram(
        tractogram.points, tractogram.offsets, AFFINE, GRID, {"score": np.array([1.0, 2, 3])}
    )


@pytest.mark.parametrize("extension", ["trx", "trk", "tck"])
def test_tractograms_round_trip(tmp_path, extension):
    made, path = lines(), tmp_path / f"x.{extension}"
    save_tractogram(made, path)
    reference = write_image(tmp_path / "ref.nii.gz", np.zeros(GRID), AFFINE)
    again = load_tractogram(path, reference=reference)
    np.testing.assert_allclose(again.points, made.points, atol=1e-4)
    np.testing.assert_array_equal(again.offsets, made.offsets)
    assert again.grid == GRID
    np.testing.assert_allclose(again.affine, AFFINE, atol=1e-4)
    if extension != "tck":
        np.testing.assert_array_equal(again.per_streamline["score"], [1, 2, 3])


@pytest.mark.parametrize("extension", ["trx", "trk", "tck"])
def test_dipy_reads_our_tractograms(tmp_path, extension):
    from dipy.io.streamline import load_tractogram

    made, path = lines(), tmp_path / f"x.{extension}"
    save_tractogram(made, path)
    reference = write_image(tmp_path / "ref.nii.gz", np.zeros(GRID), AFFINE)
    theirs = load_tractogram(str(path), str(reference), bbox_valid_check=False)
    theirs.to_rasmm()
    np.testing.assert_allclose(np.concatenate(list(theirs.streamlines)), made.points, atol=1e-3)


def test_mrtrix_reads_our_tck(tmp_path):
    if not shutil.which("tckstats"):
        pytest.skip("mrtrix3 is not installed")
    made = lines()
    save_tractogram(made, tmp_path / "x.tck")
    out = subprocess.run(
        ["tckstats", "x.tck", "-output", "mean", "-quiet"],
        cwd=tmp_path, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert float(out.stdout) == pytest.approx(made.lengths().mean(), rel=1e-4)


def test_bad_tractograms(tmp_path):
    with pytest.raises(FornixError, match=r"one of \.trx"):
        save_tractogram(lines(), tmp_path / "x.vtk")
    save_tractogram(lines(), tmp_path / "x.tck")
    with pytest.raises(FornixError, match="carries no grid"):
        load_tractogram(tmp_path / "x.tck")
    (tmp_path / "bad.trk").write_bytes(b"nothing")
    with pytest.raises(FornixError, match="not a readable tractogram"):
        load_tractogram(tmp_path / "bad.trk")
    save_tractogram(lines(), tmp_path / "x.trk")
    other = write_image(tmp_path / "ref.nii.gz", np.zeros((5, 5, 5)), AFFINE)
    with pytest.raises(FornixError, match="another grid"):
        load_tractogram(tmp_path / "x.trk", reference=other)


def test_empty_tractogram_round_trips(tmp_path):
    empty = Tractogram.from_list([], AFFINE, GRID)
    for extension in ("trk", "trx"):
        save_tractogram(empty, tmp_path / f"e.{extension}")
        assert len(load_tractogram(tmp_path / f"e.{extension}")) == 0


def test_mrtrix_reads_our_tensor_and_fod(tmp_path, head):
    """tensor2metric gives our FA from our tensor file, sh2peaks our first peak from our FOD file."""
    if not shutil.which("tensor2metric"):
        pytest.skip("mrtrix3 is not installed")
    from fornix.estimators.fod import fod
    from fornix.estimators.microstructure import microstructure

    maps = microstructure(head, models=("dti",), method="wls")
    maps = maps.merged(fod(head, tensor=maps))
    save_maps(maps, tmp_path, "s")
    tensor = "s_model-dti_param-tensor_dwimap.nii.gz"
    for words in (
        ["tensor2metric", tensor, "-fa", "fa.nii", "-vector", "v1.nii", "-modulate", "none"],
        ["sh2peaks", "s_param-fod_dwimap.nii.gz", "peaks.nii", "-num", "1"],
    ):
        subprocess.run([*words, "-quiet"], cwd=tmp_path, check=True)
    clear = head.brain() & (maps["dti_fa"].data > 0.4) & maps.trust
    fa = nib.load(tmp_path / "fa.nii").get_fdata()[clear]
    np.testing.assert_allclose(fa, maps["dti_fa"].data[clear], atol=1e-3)

    def agreement(theirs, ours):
        norm = np.linalg.norm(theirs, axis=-1) * np.linalg.norm(ours, axis=-1)
        return np.abs((theirs * ours).sum(-1)) / norm

    v1 = nib.load(tmp_path / "v1.nii").get_fdata().reshape(*head.grid, 3)[clear]
    assert agreement(v1, maps["dti_v1"].data[clear]).min() > 0.999
    peak = nib.load(tmp_path / "peaks.nii").get_fdata()[clear]
    assert np.median(agreement(peak, maps["peaks"].data[clear][:, :3])) > 0.9998
