"""The real scans: every tensor map is sane, repeated and tilted scans agree, peers agree."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from scipy.ndimage import affine_transform

from fornix.core.dwi import DWI
from fornix.core.gradients import Gradients
from fornix.estimators.microstructure import microstructure

classical = partial(microstructure, method="classical")
pytestmark = pytest.mark.real

SCANS = (
    "philips-achieva_b1000x32", "philips-elition_b1000x16", "siemens-prisma_b2000x20_run-1",
    "siemens-prisma_b2000x20_run-2", "siemens-xa30_b2500x20_dir-PA", "canon-galan_b1500x12_dir-PA",
    "canon-galan_b1500x12_tilt-all20", "toshiba-galan_b1500x12",
    "toshiba-galan_b1500x12_tilt-all20", "uih-umr770_b930x16_dir-PA", "multishell_crop",
    "dsi203_slab",
)  # fmt: skip


def load(folder: Path) -> DWI:
    image = nib.load(next(folder.glob("*.nii.gz")))
    table = Gradients.from_fsl(
        np.loadtxt(next(folder.glob("*.bval"))),
        np.loadtxt(next(folder.glob("*.bvec"))),
        image.affine,
    )
    data = np.asarray(image.dataobj, dtype=np.float32)
    dwi = DWI(data, table, image.affine)
    low = dwi.mean_b0()
    return dwi.with_(mask=low > 0.3 * np.percentile(low, 98))


@pytest.mark.parametrize("name", SCANS)
def test_tensor_of_every_scan(shared_data: Path, name: str):
    dwi = load(shared_data / "dwi" / name)
    maps = classical(dwi, models="auto" if name == "multishell_crop" else "dti")
    inside = dwi.mask
    for item in maps.values():
        assert np.isfinite(item.data).all() and (item.data[~inside] == 0).all()
        assert item.std is None or np.isfinite(item.std).all()
    assert 0.1 < np.median(maps["fa"].data[inside]) < 0.5
    assert 0.4e-3 < np.median(maps["md"].data[inside]) < 1.4e-3
    assert maps.trust[inside].mean() > 0.75, maps.notes
    if name == "multishell_crop":
        assert set(maps) >= {"dti_fa", "dki_mk", "noddi_ndi"}
        assert 0.4 < np.median(maps["mk"].data[inside]) < 1.3
        assert maps["mk"].data[inside].min() > 0


def to_grid(values: np.ndarray, source: np.ndarray, target: np.ndarray, shape: tuple) -> np.ndarray:
    """Linear resampling of (X, Y, Z) by the headers alone."""
    matrix = np.linalg.inv(source) @ target
    return affine_transform(values, matrix[:3, :3], matrix[:3, 3], output_shape=shape, order=1)


def test_mirrored_repeats_agree_in_world_space(shared_data: Path):
    """One head scanned twice and stored in mirrored axes: colour FA correlates as DIPY's does."""
    one, two = (load(shared_data / "dwi" / f"siemens-prisma_b2000x20_run-{k}") for k in (1, 2))
    maps = [classical(s, std=False) for s in (one, two)]
    colour = [np.abs(m["v1"].data) * m["fa"].data[..., None] for m in maps]
    fa = maps[0]["fa"].data
    moved_fa = to_grid(maps[1]["fa"].data, two.affine, one.affine, one.grid)
    both = (fa > 0.2) & (moved_fa > 0.2) & one.mask
    for axis, least in zip(range(3), (0.76, 0.80, 0.82)):
        moved = to_grid(colour[1][..., axis], two.affine, one.affine, one.grid)
        r = np.corrcoef(colour[0][..., axis][both], moved[both])[0, 1]
        assert r >= least, f"component {axis}: {r:.3f}"


@pytest.mark.parametrize("scanner", ["canon-galan_b1500x12", "toshiba-galan_b1500x12"])
def test_tilted_agrees_with_straight(shared_data: Path, scanner: str):
    """Slices tilted by 20° about every axis: the directions agree in world space."""
    straight = load(shared_data / "dwi" / (scanner + ("_dir-PA" if "canon" in scanner else "")))
    tilted = load(shared_data / "dwi" / f"{scanner}_tilt-all20")
    maps = [classical(s, std=False) for s in (straight, tilted)]
    tensor = np.stack(
        [
            to_grid(maps[1]["tensor"].data[..., k], tilted.affine, straight.affine, straight.grid)
            for k in range(6)
        ],
        axis=-1,
    )
    fa = to_grid(maps[1]["fa"].data, tilted.affine, straight.affine, straight.grid)
    clear = (maps[0]["fa"].data > 0.4) & (fa > 0.4) & straight.mask
    xx, yy, zz, xy, xz, yz = np.moveaxis(tensor[clear], -1, 0)
    matrices = np.stack([xx, xy, xz, xy, yy, yz, xz, yz, zz], -1).reshape(-1, 3, 3)
    axes = np.linalg.eigh(matrices.astype(np.float64))[1][..., 2]
    cosine = np.abs((axes * maps[0]["v1"].data[clear]).sum(-1))
    assert np.degrees(np.arccos(np.median(np.clip(cosine, 0, 1)))) < 20


def test_multishell_against_peers(shared_data: Path):
    """Tensor and kurtosis of a real scan agree with DIPY where the fit is good."""
    from dipy.core.gradients import gradient_table
    from dipy.reconst.dki import DiffusionKurtosisModel
    from dipy.reconst.dti import TensorModel

    dwi = load(shared_data / "dwi" / "multishell_crop")
    g = dwi.gradients
    table = gradient_table(g.bvals, bvecs=g.directions, b0_threshold=50)
    maps = microstructure(dwi, models=("dti", "dki"), method="wls", dti_bmax=None)
    signals = dwi.signals().astype(np.float64)
    good = maps.trust[dwi.mask] & (signals.min(1) > 0)
    fit = TensorModel(table, fit_method="WLS").fit(signals[good])
    np.testing.assert_allclose(maps["md"].data[dwi.mask][good], fit.md, rtol=2e-4)
    np.testing.assert_allclose(maps["fa"].data[dwi.mask][good], fit.fa, rtol=2e-4, atol=1e-4)
    peer = DiffusionKurtosisModel(table, fit_method="WLS").fit(signals[good])
    for name, theirs in (("mk", peer.mk()), ("ak", peer.ak()), ("rk", peer.rk())):
        assert np.percentile(np.abs(maps[name].data[dwi.mask][good] - theirs), 97) < 1e-2, name
