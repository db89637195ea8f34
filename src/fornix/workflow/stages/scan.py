"""Stages that look at the raw scan: mask, noise level, checks."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np

from fornix.core.dwi import DWI
from fornix.core.errors import tell
from fornix.estimators.mask import brain_mask
from fornix.io import derivative, read_mask, read_volume, save_mask, write_sidecar
from fornix.io.nifti import write_image
from fornix.preprocess import estimate_noise, snr
from fornix.preprocess.noise import noise_doubt
from fornix.preprocess.volume_check import check_volumes
from fornix.workflow.job import Job
from fornix.workflow.qc_record import StepRecord
from fornix.workflow.scan_facts import describe
from fornix.workflow.state import State


def mask_stage(
    job: Job,
    state: State,
    method: str = "shells",
    given: str | Path | None = None,
    desc: str = "brain",
) -> None:
    """STEM_desc-brain_mask: estimated, or the given one, checked to lie on the scan.

    Args:
        job: The scan's job.
        state: Its scan gets the mask.
        method: An entry of MASK_METHODS.
        given: A mask, in place of one that is estimated.
        desc: Part of the file's name; `raw` where the scan is going to be undistorted, and the brain with it.
    """
    path = job.out / derivative(job.stem, "mask", desc=desc)

    def save(dwi: DWI, provenance: dict[str, Any]) -> list[Path]:
        how = method if given is None else "given"
        about = {"Method": how, **provenance}
        if (
            given is not None and path.exists() and path.samefile(given)
        ):  # corrected by hand in its place
            write_sidecar(path, {"Type": "Brain", "Units": "1", **about})
            return [path]
        return [save_mask(dwi.brain(), dwi.affine, path, about)]

    before = set(state.dwi.notes)

    def new_notes(dwi: DWI) -> list[str]:
        return [n for n in dwi.notes if n not in before]

    def litres(dwi: DWI) -> str:
        volume = dwi.brain().sum() * abs(np.linalg.det(dwi.affine[:3, :3])) / 1e6
        return f"{int(dwi.brain().sum()):,} voxels, {volume:.2f} litres"

    state.dwi = job.step(
        "mask",
        {"method": method},
        lambda progress: (
            brain_mask(state.dwi, method=method)
            if given is None
            else state.dwi.with_(mask=read_mask(given, state.dwi))
        ),
        save,
        lambda: state.dwi.with_(mask=read_mask(path, state.dwi)),
        litres,
        new_notes,
    )


def noise_stage(job: Job, state: State, method: str = "auto", sigma: float | None = None) -> None:
    """STEM_param-noise_dwimap: the noise level of the raw scan, estimated or as given."""
    path = job.out / derivative(job.stem, "dwimap", param="noise")

    def save(dwi: DWI, provenance: dict[str, Any]) -> list[Path]:
        write_image(path, np.broadcast_to(np.asarray(dwi.sigma), dwi.grid), dwi.affine)
        write_sidecar(
            path,
            {
                "Units": "as the scan",
                "Parameter": "noise",
                "Method": method,
                "Description": "noise standard deviation of the complex channels, raw scan",
                **provenance,
            },
        )
        return [path]

    state.dwi = job.step(
        "noise",
        {"method": method, "sigma": sigma},
        lambda progress: _noise(state.dwi, method, sigma),
        save,
        lambda: state.dwi.with_(sigma=read_volume(path)[0]),
        lambda dwi: f"median SNR of the b0 {np.median(snr(dwi)[dwi.brain()]):.1f}",
    )
    if sigma is not None:
        doubt = noise_doubt(state.dwi, sigma, np.flatnonzero(state.dwi.brain()))
        job.record.warn("noise", [tell(doubt)] if doubt else [])


def _noise(dwi: DWI, method: str, sigma: float | None) -> DWI:
    if sigma is None:
        return estimate_noise(dwi, method=method)
    return dwi.with_(sigma=np.full(dwi.grid, sigma, dtype=np.float32))


def check_stage(job: Job, state: State) -> None:
    """Facts of the raw scan: protocol, gradient check and odd volumes, into STEM_qc.json."""
    progress, start = job.show.begin("check"), time.perf_counter()
    facts = describe(state.dwi)
    notes = list(facts.notes)
    for finding in facts.findings:
        tell(finding.text)
    weighted = np.flatnonzero(~state.dwi.gradients.b0_mask)
    job.record.steps["check"] = StepRecord(
        seconds=round(time.perf_counter() - start, 2),
        warnings=list(dict.fromkeys(notes)),
        facts={
            "Scan": facts.as_dict(),
            "Findings": [f.text for f in facts.findings],
        },
    )
    progress(1, 1)
    check = facts.gradient_check
    verdict = "not checked" if check is None else check.verdict
    fits = {"wrong": f"WRONG, try {check.best}" if check else "", "open": "cannot be told"}.get(
        verdict, verdict
    )
    text = f"{state.dwi.gradients}; gradient table {fits}"
    if not len(weighted):
        text += "; no diffusion weighting"
    job.record.steps["check"].summary = text
    job.write_record()
    job.show.end("check", time.perf_counter() - start, text, False)


def volumes_stage(job: Job, state: State) -> None:
    """Says which volumes are not what their labels say, into STEM_qc.json; for commands of one step."""
    job.record.warn("volumes", [tell(f.text) for f in check_volumes(state.dwi)])
