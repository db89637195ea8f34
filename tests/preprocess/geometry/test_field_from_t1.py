"""The field estimated from a T1: against the truth, and what is refused."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy import ndimage

from fornix.core.errors import FornixError
from fornix.physics import Phantom, simulate
from fornix.physics.anatomy import Anatomy
from fornix.physics.protocol import shells
from fornix.physics.scanner import Artefacts
from fornix.preprocess.acquisition import T1, Acquisition
from fornix.preprocess.geometry.field_source import find_field
from fornix.preprocess.geometry.transform import small_pose
from fornix.preprocess.phase_encoding import PhaseEncoding

READOUT = 0.05


def t1_of(head: Anatomy, move: tuple[float, ...], size: float = 2.0) -> T1:
    """Tissue in T1's contrast with skull, coil shading and noise, on a grid and at a pose of its own."""
    rng = np.random.default_rng(0)
    grid = tuple(int(n / size) for n in (190, 230, 190))
    affine = np.diag([-size, size, size, 1.0])
    middle = head.affine[:3, :3] @ ((np.array(head.grid) - 1) / 2) + head.affine[:3, 3]
    affine[:3, 3] = middle - affine[:3, :3] @ ((np.array(grid) - 1) / 2)
    matrix = np.linalg.inv(head.affine) @ np.linalg.inv(small_pose(np.array(move), middle)) @ affine

    def put(data: np.ndarray) -> np.ndarray:
        return ndimage.affine_transform(
            np.asarray(data, np.float32), matrix[:3, :3], matrix[:3, 3], output_shape=grid, order=1
        )

    image = put(head.wm) + 0.65 * put(head.gm) + 0.2 * put(head.csf)
    away = ndimage.distance_transform_edt(put(head.mask) < 0.5) * size
    image += 0.9 * ((away > 7) & (away < 11))
    across = np.indices(grid) / np.array(grid).reshape(3, 1, 1, 1) - 0.5
    image *= 1 + 0.3 * across[0] - 0.2 * across[1] + 0.2 * across[2]
    image += 0.02 * rng.standard_normal(grid)
    return T1(np.abs(image).astype(np.float32), affine, "sub-1_T1w.nii.gz")


@pytest.fixture(scope="module")
def scanned() -> Phantom:
    return simulate(
        protocol=shells(1, (1000, 6)), snr=25, seed=8, voxel_size=4.0, threads=1,
        artefacts=Artefacts(field=60, phase_encoding="j", readout_time=READOUT),
    )  # fmt: skip


@pytest.fixture(scope="module")
def t1(scanned: Phantom) -> T1:
    assert scanned.anatomy is not None
    return t1_of(scanned.anatomy, (3, -4, 5, 0.05, -0.04, 0.06))


def acquired(t1: T1 | None, **more: object) -> Acquisition:
    encoding = PhaseEncoding(1, 1, READOUT)
    return replace(Acquisition(encoding, t1=t1), **more)


def test_residual_displacement(scanned, t1):
    """Goal: 0.5 mm in the median; a constant cannot be told from a shift of the T1."""
    dwi = scanned.dwi.with_(mask=scanned.mask)
    field, encoding, notes = find_field(dwi, acquired(t1))
    mm = encoding.readout_time * float(dwi.voxel_size[1])
    truth = scanned.artefact_truth.field_map[scanned.mask] * mm
    error = field.hz[scanned.mask] * mm - truth

    def spread(values: np.ndarray) -> float:
        return float(np.median(np.abs(values - np.median(values))))

    assert spread(error) < 0.5
    assert spread(error) < 0.6 * spread(truth)
    large = np.abs(truth - np.median(truth)) > 4
    assert large.sum() > 50
    error -= np.median(error)
    assert np.median(np.abs(error[large])) < 0.75 * np.median(np.abs(truth[large]))
    assert field.after > field.before + 0.1
    assert field.source == "T1"
    assert "estimate from sub-1_T1w.nii.gz" in notes[-1]


def test_a_t1_that_does_not_show_the_head_is_refused(scanned, t1):
    dwi = scanned.dwi.with_(mask=scanned.mask)
    noise = np.random.default_rng(0).gamma(2, 1, t1.data.shape).astype(np.float32)
    with pytest.raises(FornixError, match="no T1 of this head"):
        find_field(dwi, acquired(replace(t1, data=noise)))
    cut = np.array(t1.data)
    cut[:, : cut.shape[1] // 2] = 0
    with pytest.raises(FornixError, match=r"shows only \d+% of the brain|no T1 of this head"):
        find_field(dwi, acquired(replace(t1, data=cut)))


def test_what_is_missing_is_said(scanned, t1):
    dwi = scanned.dwi.with_(mask=scanned.mask)
    with pytest.raises(FornixError, match=r"--reversed.*--t1"):
        find_field(dwi, acquired(None))
    with pytest.raises(FornixError, match="give --phase-encoding"):
        find_field(dwi, acquired(t1, encoding=None))
