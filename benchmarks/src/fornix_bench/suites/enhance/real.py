"""Real scans: voxels averaged and brought back, against what was measured."""

from __future__ import annotations

import time

import numpy as np

from fornix.core.dwi import DWI
from fornix.enhance.deconvolution import deconvolved
from fornix.enhance.noise import denoised_with_level
from fornix.enhance.space import sharpen
from fornix.estimators.mask import brain_mask
from fornix.io import load
from fornix.physics.point_spread import Grid, Measurement
from fornix.preprocess import estimate_noise
from fornix_bench.peers.upsampling import cubic, lanczos
from fornix_bench.suites.enhance.space import STRENGTHS, data
from fornix_bench.table import Row

#: Scans, and by what their voxels are made larger along each axis.
SCANS = (
    ("philips-achieva_b1000x32", (2, 2, 1)), ("philips-elition_b1000x16", (2, 2, 2)),
    ("siemens-prisma_b2000x20_run-1", (1, 1, 2)),
)  # fmt: skip
_EDGE = 48


def real(quick: bool, seed: int) -> list[Row]:
    """RMSE against the measured voxels over the b0's median, by method."""
    rows: list[Row] = []
    for name, factor in SCANS[:1] if quick else SCANS:
        dwi = _even(estimate_noise(brain_mask(load(data() / "dwi" / name / "dwi.nii.gz"))))
        rows += _scored(name, dwi, np.array(factor, float), quick)
    return rows


def _even(dwi: DWI) -> DWI:
    """The middle of the head, with an even number of voxels along each axis."""
    centre = np.argwhere(dwi.brain()).mean(0).astype(int)
    box = []
    for c, n in zip(centre, dwi.grid):
        edge = min(_EDGE, n - n % 2)
        low = int(np.clip(c - edge // 2, 0, n - edge))
        box.append(slice(low, low + edge))
    part = tuple(box)
    affine = dwi.affine.copy()
    affine[:3, 3] += affine[:3, :3] @ [b.start for b in box]
    return dwi.with_(
        data=np.ascontiguousarray(dwi.data[part]), mask=dwi.brain()[part],
        sigma=np.asarray(dwi.sigma)[part], affine=affine,
    )  # fmt: skip


def _scored(name: str, dwi: DWI, factor: np.ndarray, quick: bool) -> list[Row]:
    fine = Grid(dwi.grid, dwi.affine)
    coarse = fine.finer(fine.voxel_size * factor)
    operator = Measurement.of(coarse, fine, ("sinc", "sinc", "slice"))
    image = operator.measured(np.asarray(dwi.data)).clip(0)
    mask = operator.measured(dwi.brain().astype(np.float32)) > 0.5
    # Voxels averaged: their noise is less, by the weights' length.
    shrink = np.prod([np.sqrt((a.multiply(a)).sum(1).mean()) for a in operator.axes])
    sigma = operator.measured(np.asarray(dwi.sigma, np.float32)) * np.float32(shrink)
    large = DWI(image, dwi.gradients, coarse.affine, mask=mask, sigma=np.maximum(sigma, 1e-6))
    b0 = dwi.gradients.b0_mask
    reference = float(np.median(dwi.mean_b0()[dwi.brain()]))
    inside = np.zeros(dwi.grid, bool)
    part = (slice(4, -4), slice(4, -4), slice(4, -4))
    inside[part] = dwi.brain()[part]
    floor = float(np.sqrt((np.asarray(dwi.sigma)[inside] ** 2).mean())) / reference
    measured, unit = np.asarray(dwi.data), np.float32(reference)
    found = {}
    start = time.perf_counter()
    found["cubic"] = cubic(image, coarse, fine)
    found["Lanczos"] = lanczos(image, coarse, fine)
    clean, _ = denoised_with_level(large)
    found["cubic of the denoised"] = cubic(clean, coarse, fine)
    tries = [
        deconvolved((image / unit).astype(np.float32), operator, found["cubic"] / unit, s) * unit
        for s in (STRENGTHS[1:2] if quick else STRENGTHS[:3])
    ]
    errors = [float(((t - measured)[inside][:, ~b0] ** 2).mean()) for t in tries]
    found["deconvolution"] = tries[int(np.argmin(errors))]
    start = time.perf_counter()
    made = sharpen(large, fine.voxel_size)
    seconds = time.perf_counter() - start
    found["Fornix"] = np.asarray(made.dwi.data)
    there = inside & made.dwi.brain()
    rows: list[Row] = []
    for method, values in found.items():
        wrong = (values - measured)[there] / reference
        weighted = float(np.sqrt((wrong[:, ~b0] ** 2).mean()))
        rows.append(
            {
                "scan": name, "factor": " x ".join(f"{f:g}" for f in factor), "method": method,
                "b0": float(np.sqrt((wrong[:, b0] ** 2).mean())), "weighted": weighted, "noise": floor,
                **({"seconds": seconds} if method == "Fornix" else {}),
            }
        )  # fmt: skip
    return rows
