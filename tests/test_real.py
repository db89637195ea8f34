"""Every real scan, from the folder in FORNIX_TEST_DATA or ../shared/data."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import time
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from scipy import ndimage

from fornix.estimators.mask import brain_mask
from fornix.estimators.microstructure import microstructure
from fornix.io import load
from fornix.workflow.scan_facts import describe

pytestmark = [
    pytest.mark.real,
    pytest.mark.filterwarnings("ignore::fornix.core.errors.FornixWarning"),
]

SCANS = [
    "canon-galan_b1500x12_dir-AP", "canon-galan_b1500x12_dir-PA", "canon-galan_b1500x12_tilt-all20",
    "dsi203_slab", "multishell_crop", "philips-achieva_b1000x32", "philips-elition_b1000x16",
    "siemens-prisma_b2000x20_run-1", "siemens-prisma_b2000x20_run-2", "siemens-xa30_b2500x20_dir-AP",
    "siemens-xa30_b2500x20_dir-PA", "toshiba-galan_b1500x12", "toshiba-galan_b1500x12_tilt-all20",
    "uih-umr770_b930x16_dir-AP", "uih-umr770_b930x16_dir-PA",
]  # fmt: skip

# The one table that does not fit its data: its third row has the wrong sign (the same file fits the
# reversed-phase scan of the same head).
WRONG = {"canon-galan_b1500x12_dir-AP": "z negated"}


def path_of(shared_data: Path, name: str) -> Path:
    return shared_data / "dwi" / name / "dwi.nii.gz"


def test_no_scan_is_missing(shared_data: Path):
    assert {p.name for p in (shared_data / "dwi").iterdir()} == set(SCANS)


@pytest.mark.parametrize("name", SCANS)
def test_info_and_tensor_of_every_scan(shared_data: Path, name: str):
    dwi = load(path_of(shared_data, name))
    facts = describe(dwi)
    assert facts.possible["dti"] == ""
    assert 3 < facts.snr_b0 < 200
    check = facts.gradient_check
    assert check is not None
    assert check.best == WRONG.get(name, "as given"), str(check)
    assert check.right == (name not in WRONG)
    maps = microstructure(brain_mask(dwi), models=("dti",), method="voxelwise")
    fa, md = maps["fa"].data, maps["md"].data
    assert np.isfinite(fa).all() and fa.min() >= 0 and fa.max() <= 1
    assert md.min() >= 0
    inside = brain_mask(dwi).mask & maps.trust
    assert 0.4e-3 < np.median(md[inside]) < 1.2e-3
    assert 0.08 < np.median(fa[inside]) < 0.45


def tensor_of(shared_data: Path, name: str):
    dwi = brain_mask(load(path_of(shared_data, name)))
    return dwi, microstructure(dwi, models=("dti",), method="classical", dti_bmax=None, std=False)


def resampled(data: np.ndarray, source: np.ndarray, target: np.ndarray, grid) -> np.ndarray:
    """Volumes (…, C) on another grid by the headers alone, linear."""
    matrix = np.linalg.inv(source) @ target
    parts = [
        ndimage.affine_transform(
            data[..., c], matrix[:3, :3], matrix[:3, 3], output_shape=grid, order=1
        )
        for c in range(data.shape[-1])
    ]
    return np.stack(parts, -1)


def test_mirrored_storage_of_one_head_agrees_no_less_than_dipys_fit(shared_data: Path):
    """Siemens Prisma run 1 and 2, PSL and PSR: colour FA correlates in world space, and on the same
    voxels no less than that of DIPY's WLS with world gradients."""
    from dipy.reconst.dti import TensorModel

    from fornix.core.dipy_bridge import gradient_table

    scans = [tensor_of(shared_data, f"siemens-prisma_b2000x20_run-{run}") for run in (1, 2)]
    (one, m1), (two, m2) = scans
    assert nib.aff2axcodes(one.affine) != nib.aff2axcodes(two.affine)
    fa2 = resampled(m2["fa"].data[..., None], two.affine, one.affine, one.grid)[..., 0]
    both = (m1["fa"].data > 0.2) & (fa2 > 0.2)

    def agreement(colour: list[np.ndarray]) -> np.ndarray:
        moved = resampled(colour[1], two.affine, one.affine, one.grid)
        return np.array(
            [np.corrcoef(colour[0][both][:, c], moved[both][:, c])[0, 1] for c in range(3)]
        )

    ours = agreement([np.abs(m["v1"].data) * m["fa"].data[..., None] for m in (m1, m2)])
    theirs = []
    for dwi, _ in scans:
        fit = TensorModel(gradient_table(dwi.gradients), fit_method="WLS").fit(
            dwi.data, mask=dwi.mask
        )
        theirs.append(np.abs(fit.evecs[..., :, 0]) * np.nan_to_num(fit.fa)[..., None])
    dipys = agreement(theirs)
    print("colour FA correlations", ours.round(3), "DIPY", dipys.round(3))
    assert (ours > 0.7).all()
    assert (ours >= dipys - 0.002).all(), (ours, dipys)


@pytest.mark.parametrize(
    ("straight", "tilted"),
    [
        ("canon-galan_b1500x12_dir-PA", "canon-galan_b1500x12_tilt-all20"),
        ("toshiba-galan_b1500x12", "toshiba-galan_b1500x12_tilt-all20"),
    ],
)
def test_tilted_slices_give_the_same_world_directions(shared_data: Path, straight, tilted):
    """Rigidly aligned by their own FA; a table read in the wrong frame would be off by 20 degrees."""
    (a, ma), (b, mb) = tensor_of(shared_data, straight), tensor_of(shared_data, tilted)
    from dipy.align import affine_registration

    _, world = affine_registration(
        mb["fa"].data.astype(float), ma["fa"].data.astype(float), moving_affine=b.affine,
        static_affine=a.affine, pipeline=["center_of_mass", "rigid"], level_iters=[300, 100],
        sigmas=[2.0, 1.0], factors=[4, 2],
    )  # fmt: skip
    target = world @ a.affine
    turn = world[:3, :3]
    tensor = resampled(
        np.einsum("...i,...j->...ij", mb["v1"].data, mb["v1"].data).reshape(*b.grid, 9),
        b.affine, target, a.grid,
    ).reshape(*a.grid, 3, 3)  # fmt: skip
    # Into the straight scan's frame: a static direction u lies along turn @ u in the tilted scan.
    tensor = turn.T @ tensor @ turn
    fa = resampled(mb["fa"].data[..., None], b.affine, target, a.grid)[..., 0]
    both = (ma["fa"].data > 0.4) & (fa > 0.4) & (ma["fa"].data < 0.95)
    first = np.linalg.eigh(tensor[both])[1][..., -1]
    angle = np.degrees(np.arccos(np.abs((first * ma["v1"].data[both]).sum(-1)).clip(0, 1)))
    print("median angle", np.median(angle))
    assert both.sum() > 500
    assert np.median(angle) < 15


def run_in_a_process(path: Path, out: Path, *words: str) -> tuple[float, float]:
    """Seconds and peak memory (GB) of a whole run."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    start = time.perf_counter()
    environment = {**os.environ, "OMP_NUM_THREADS": "2", "NUMBA_NUM_THREADS": "2"}
    done = subprocess.run(
        [sys.executable, "-m", "fornix", "run", str(path), "-o", str(out), "--threads", "2", *words],
        capture_output=True, text=True, env=environment,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr + done.stdout
    print(done.stdout)
    peak = max(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss, before) / 1024**2
    return time.perf_counter() - start, peak


@pytest.mark.slow
def test_whole_run_on_philips_achieva(shared_data: Path, tmp_path: Path):
    seconds, peak = run_in_a_process(path_of(shared_data, "philips-achieva_b1000x32"), tmp_path)
    print(f"{seconds:.0f} s, {peak:.2f} GB")
    assert seconds < 300 and peak < 4
    from fornix.io import load_tractogram

    made = load_tractogram(tmp_path / "dwi_tractogram.trx")
    assert len(made) >= 100_000
    assert not made.outside().any()


@pytest.mark.parametrize(
    "name", ["canon-galan_b1500x12_tilt-all20", "siemens-prisma_b2000x20_run-1"]
)
def test_whole_run_on_oblique_and_sagittal_scans(shared_data: Path, tmp_path: Path, name: str):
    run_in_a_process(path_of(shared_data, name), tmp_path, "--streamlines", "5000")
    qc = json.loads((tmp_path / "dwi_qc.json").read_text())
    assert qc["Tractogram"]["Count"] == 5000
    image = nib.load(path_of(shared_data, name))
    for made in tmp_path.glob("*_dwimap.nii.gz"):
        np.testing.assert_allclose(nib.load(made).affine, image.affine, atol=1e-3)
