"""The stage that brings a scan to other gradients or smaller voxels."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from fornix.core.dwi import DWI
from fornix.core.gradients import Gradients
from fornix.enhance.result import Enhanced
from fornix.enhance.scan import enhance_scan
from fornix.io import (
    derivative,
    load,
    read_mask,
    read_volume,
    save_mask,
    save_scan,
    write_image,
    write_sidecar,
)
from fornix.io.files import refuse_input
from fornix.workflow.job import Job
from fornix.workflow.options import Options
from fornix.workflow.state import State


def enhance_stage(
    job: Job,
    state: State,
    to: Gradients | None,
    voxel_size: Sequence[float] | None,
    options: Options,
    *,
    method: str = "auto",
    adapt: bool | None = None,
    source: Callable[[], DWI] | None = None,
    step: str = "enhance",
    desc: str = "enhanced",
) -> None:
    """STEM_desc-enhanced_dwi with its table, its standard deviation, and in smaller voxels mask and noise.

    Args:
        job: Where it is written.
        state: Its scan becomes the enhanced one.
        to: Gradients; None leaves them.
        voxel_size: mm, one or three; None leaves the voxels.
        options: Threads and device.
        method: Of the prediction at other gradients.
        adapt: Of the same.
        source: Gives the state's scan as it is without denoising, where it was denoised.
        step: Name in the record.
        desc: Part of the files' names.
    """

    def named(kind: str, more: str = "") -> Path:
        return job.out / derivative(job.stem, kind, desc=f"{desc}{more}")

    image, mask = named("dwi"), named("mask")
    noise = job.out / derivative(job.stem, "dwimap", param="noise", desc=desc)
    refuse_input(image)
    scan = state.dwi

    def save(made: Enhanced, provenance: dict[str, Any]) -> list[Path]:
        about = {
            **made.dwi.meta, "Units": "as the scan", "Method": made.method, **made.details, **provenance,
        }  # fmt: skip
        save_scan(made.dwi, image)
        write_sidecar(image, {**about, "Description": _words(to, voxel_size)})
        spread = named("dwi", "std")
        write_image(spread, made.std, made.dwi.affine)
        write_sidecar(
            spread,
            {
                **about,
                "Description": "standard deviation of each value against the signal without noise",
            },
        )
        written = [image, spread]
        if voxel_size is not None:
            written.append(save_mask(made.dwi.brain(), made.dwi.affine, mask, provenance))
            level = np.broadcast_to(np.asarray(made.dwi.sigma, np.float32), made.dwi.grid)
            written.append(write_image(noise, level, made.dwi.affine))
            about = {"Units": "as the scan", "Parameter": "noise", **provenance}
            write_sidecar(noise, {**about, "Description": "noise of a volume as it came through"})
        return written

    def reload() -> Enhanced:
        again = load(image, b0_threshold=scan.gradients.b0_threshold, max_memory=options.max_memory)
        again = again.with_(stem=scan.stem, meta=scan.meta, notes=scan.notes)
        if voxel_size is None:
            again = again.with_(mask=scan.mask)
        else:
            again = again.with_(mask=read_mask(mask, again), sigma=read_volume(noise)[0])
        return Enhanced(again, np.zeros((1, 1, 1, 1), np.float32), "")

    made = job.step(
        step,
        {
            "gradients": None if to is None else to.to_mrtrix().round(6).tolist(),
            "voxel_size": None if voxel_size is None else [float(v) for v in voxel_size],
            "method": method,
            "adapt": adapt,
        },
        lambda progress: enhance_scan(
            scan if source is None else source(), to=to, voxel_size=voxel_size, method=method, adapt=adapt,
            denoised=None if source is None else scan, threads=options.threads,
            device=options.device, progress=progress,
        ),
        save,
        reload,
        lambda made: _summary(made, voxel_size),
    )  # fmt: skip
    if voxel_size is not None:
        state.measured = scan
    state.dwi = made.dwi


def _summary(made: Enhanced, voxel_size: Sequence[float] | None) -> str:
    text = str(made.dwi.gradients)
    if voxel_size is None:
        return text
    size = " x ".join(f"{v:.3g}" for v in made.dwi.voxel_size)
    left = made.details.get("ResidualAfter")
    held = "" if left is None else f"; measured voxels are given back to {left:.2f} of their noise"
    return f"{text}; voxels of {size} mm{held}"


def _words(to: Gradients | None, voxel_size: Sequence[float] | None) -> str:
    parts = [
        *(["predicted at other gradients"] if to is not None else []),
        *(["mixed into smaller voxels"] if voxel_size is not None else []),
    ]
    return f"the scan, {' and '.join(parts)}"
