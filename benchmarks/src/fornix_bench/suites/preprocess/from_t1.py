"""The field estimated from a T1 alone, against the truth of two simulators.

The T1 is made of the simulator's tissue, with skull, coil shading and noise, on a grid and at a pose of its
own. A constant displacement cannot be told from a shift of the T1, so it does not count.
"""

from __future__ import annotations

import os
import time
import warnings
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from fornix.core.dwi import DWI
from fornix.core.errors import FornixError
from fornix.estimators.mask import brain_mask
from fornix.io import load
from fornix.physics import simulate
from fornix.physics.protocol import shells
from fornix.physics.scanner import Artefacts
from fornix.preprocess.acquisition import T1, Acquisition
from fornix.preprocess.geometry.field_source import find_field
from fornix.preprocess.geometry.transform import small_pose
from fornix.preprocess.phase_encoding import PhaseEncoding
from fornix_bench.judge.phantom import HeadConfig, build_head, off_resonance
from fornix_bench.judge.scan import Faults, scan_head
from fornix_bench.table import Row

Array = NDArray[np.float64]

#: Own heads: seed, voxel mm, largest field in Hz, SNR.
HEADS = ((5, 2.5, 80.0, 20.0), (8, 3.0, 70.0, 25.0))
#: Real pairs, the first of which gets a stand-in for a T1.
PAIRS = (
    ("uih-umr770_b930x16_dir-AP", "uih-umr770_b930x16_dir-PA"),
    ("siemens-xa30_b2500x20_dir-PA", "siemens-xa30_b2500x20_dir-AP"),
)
READOUT = 0.05
#: mm and radians by which the T1 is moved.
MOVE = np.array([3.0, -4.0, 5.0, 0.05, -0.04, 0.06])
#: Brightness of white and grey matter, water and scalp; noise.
CONTRAST, SCALP, NOISE = (1.0, 0.65, 0.2), 0.9, 0.02


def synthetic_t1(fractions: NDArray, affine: Array, size: float = 1.5, seed: int = 0) -> T1:
    """A T1 of shares of white, grey, water (3, X, Y, Z), moved by MOVE."""
    rng = np.random.default_rng(seed)
    x, y, z = (int(n / size) for n in (190, 230, 190))
    own = np.diag([-size, size, size, 1.0])
    middle = affine[:3, :3] @ ((np.array(fractions.shape[1:]) - 1) / 2) + affine[:3, 3]
    own[:3, 3] = middle - own[:3, :3] @ ((np.array([x, y, z]) - 1) / 2)
    matrix = np.linalg.inv(affine) @ np.linalg.inv(small_pose(MOVE, middle)) @ own
    shares = [
        ndimage.affine_transform(
            f.astype(np.float32), matrix[:3, :3], matrix[:3, 3], output_shape=(x, y, z), order=1
        )
        for f in fractions
    ]
    image = sum(c * s for c, s in zip(CONTRAST, shares))
    away = ndimage.distance_transform_edt(sum(shares) < 0.5) * size
    image = image + SCALP * ((away > 7) & (away < 11))
    across = [np.linspace(-0.5, 0.5, n) for n in (x, y, z)]
    shade = 1 + 0.3 * across[0][:, None, None] - 0.2 * across[1][:, None] + 0.2 * across[2]
    image = image * shade + NOISE * rng.standard_normal((x, y, z))
    return T1(np.abs(image).astype(np.float32), own)


def rows(threads: int = 2, quick: bool = False) -> list[Row]:
    """One row a head: displacement and error in mm, median and 95%, without a constant."""
    made: list[Row] = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for seed, size, hz, snr in HEADS[:1] if quick else HEADS:
            phantom = simulate(
                protocol=shells(1, (1000, 6)), snr=snr, seed=seed, threads=threads,
                voxel_size=5.0 if quick else size,
                artefacts=Artefacts(field=hz, phase_encoding="j", readout_time=READOUT),
            )  # fmt: skip
            head, truth = phantom.anatomy, phantom.artefact_truth
            assert head is not None and truth is not None
            t1 = synthetic_t1(np.stack([head.wm, head.gm, head.csf]), head.affine, seed=seed)
            encoding = PhaseEncoding(1, 1, READOUT)
            about = f"own, T1 alone, {size:g} mm, up to {hz:g} Hz"
            made.append(_row(about, phantom.dwi, t1, encoding, truth.field_map, phantom.mask))
        if not quick:
            made += [*_judged(), *_real()]
    return made


def _judged() -> list[Row]:
    config = HeadConfig(voxel_size=3.0)
    try:
        head = build_head(config)
    except FornixError:
        return []
    scan = scan_head(head, shells(1, (1000, 6)), 20.0, faults=Faults(field=True))
    shares = np.zeros((3, *head.mask.shape))
    shares[:, head.mask] = head.fractions.T
    coarse = off_resonance(np.random.default_rng([config.seed, 71]))
    to = np.linalg.inv(coarse.affine) @ head.affine
    field = ndimage.affine_transform(
        np.asarray(coarse.dataobj), to[:3, :3], to[:3, 3], output_shape=head.mask.shape, order=1
    )
    encoding = Acquisition.of(scan.dwi).encoding
    assert encoding is not None
    t1 = synthetic_t1(shares, head.affine)
    return [_row("trxscan, T1 alone, 3 mm", scan.dwi, t1, encoding, field, head.mask)]


def _real() -> list[Row]:
    """A pair's corrected b0, its contrast turned over, stands in for the T1; its field for the truth."""
    folder, made = Path(os.environ.get("FORNIX_TEST_DATA", "../shared/data")) / "dwi", []
    for name, other in PAIRS:
        dwi = brain_mask(load(folder / name / "dwi.nii.gz"))
        pair = Acquisition.of(dwi, load(folder / other / "dwi.nii.gz"))
        field, encoding, _ = find_field(dwi, pair)
        bright = field.first / np.median(field.first[dwi.brain()])
        t1 = T1((np.exp(-bright) * (bright > 0.08)).astype(np.float32), dwi.affine)
        made.append(_row(f"{name}, stand-in for a T1", dwi, t1, encoding, field.hz, dwi.brain()))
    return made


def _row(
    about: str, dwi: DWI, t1: T1, encoding: PhaseEncoding, hz: NDArray, brain: NDArray[np.bool_]
) -> Row:
    dwi = brain_mask(dwi.with_(mask=None))
    start = time.perf_counter()
    found, _, _ = find_field(dwi, Acquisition(encoding, t1=t1))
    seconds = time.perf_counter() - start
    mm = encoding.readout_time * float(dwi.voxel_size[encoding.axis])
    true, error = hz[brain] * mm, (found.hz - hz)[brain] * mm
    away, error = np.abs(true - np.median(true)), np.abs(error - np.median(error))
    return {
        "scan": about, "displaced mm": float(np.median(away)),
        "95% displaced mm": float(np.percentile(away, 95)), "median error mm": float(np.median(error)),
        "95% error mm": float(np.percentile(error, 95)), "r before": found.before,
        "r after": found.after, "seconds": seconds,
    }  # fmt: skip
