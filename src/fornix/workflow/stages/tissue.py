"""Stages that map tissue: microstructure and fibre orientations."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from fornix.core.dwi import DWI
from fornix.core.maps import Maps
from fornix.estimators.fod import FOD_METHODS, fod
from fornix.estimators.microstructure import microstructure
from fornix.estimators.microstructure_methods import MICROSTRUCTURE_METHODS
from fornix.io import derivative, load_maps, save_maps
from fornix.workflow.job import Job
from fornix.workflow.options import Options
from fornix.workflow.state import State


def microstructure_stage(
    job: Job,
    state: State,
    models: Sequence[str] | str,
    method: str,
    options: Options,
    undenoised: Callable[[], DWI] | None = None,
) -> None:
    """STEM_model-…_param-…_dwimap with standard deviations, and STEM_desc-trust_mask.

    Args:
        job: Where it is written.
        state: The scan; gains the maps.
        models: As in `microstructure`.
        method: As in `microstructure`.
        options: Of the run.
        undenoised: Gives the scan without denoising, for methods that judge the noise themselves: denoised
            signals would make a network surer than it can be.
    """
    tables = MICROSTRUCTURE_METHODS.values()
    use_raw = undenoised is not None and any(
        table.named(method).raw_noise for table in tables if method in ("auto", *table)
    )

    def compute(progress: Any) -> Maps:
        dwi = undenoised() if use_raw and undenoised is not None else state.dwi
        return microstructure(
            dwi,
            models=models,
            method=method,
            threads=options.threads,
            device=options.device,
            max_memory=options.max_memory,
            seed=options.seed,
            progress=progress,
            quantiles=options.quantiles,
            adapt=options.adapt,
            reference_b=options.reference_b,
        )

    def summary(maps: Maps) -> str:
        found = sorted({m.model for m in maps.values()} - {""})
        fa = maps["dti_fa"].data[state.dwi.brain()] if "dti_fa" in maps else np.zeros(1)
        trusted = 100.0 if maps.trust is None else 100 * maps.trust[state.dwi.brain()].mean()
        return f"{', '.join(found)}; median FA {np.median(fa):.2f}; {trusted:.0f}% trusted"

    state.maps = job.step(
        "microstructure",
        {
            "models": models,
            "method": method,
            "quantiles": options.quantiles,
            "adapt": options.adapt,
            "reference_b": options.reference_b,
            "seed": options.seed if options.adapt else None,
            "denoised": not use_raw,
        },
        compute,
        lambda maps, provenance: save_maps(maps, job.out, job.stem, provenance),
        lambda: _with_model(load_maps(job.out, job.stem), True),
        summary,
        lambda maps: maps.notes,
    )


def fod_stage(
    job: Job,
    state: State,
    method: str,
    options: Options,
    undenoised: Callable[[], DWI] | None = None,
) -> None:
    """STEM_param-fod_dwimap, STEM_param-peaks_dwimap and tissue fractions.

    Args:
        job: Where it is written.
        state: The scan; gains the maps.
        method: As in `fod`.
        options: Of the run.
        undenoised: As for `microstructure_stage`.
    """
    entry = FOD_METHODS.named(method)
    use_raw = entry.raw_noise and undenoised is not None

    def save(maps: Maps, provenance: dict[str, Any]) -> list[Path]:
        basis = {"Basis": "MRtrix3, real even spherical harmonics, world axes"}
        return save_maps(Maps(maps.maps), job.out, job.stem, {**provenance, **basis})

    def summary(maps: Maps) -> str:
        count = (
            np.linalg.norm(maps["peaks"].data.reshape(*state.dwi.grid, -1, 3), axis=-1) > 0
        ).sum(-1)
        inside = state.dwi.brain() & (count > 0)
        return (
            f"{maps['fod'].method}, {maps['fod'].data.shape[3]} coefficients, "
            f"{100 * (count[inside] > 1).sum() / max(inside.sum(), 1):.0f}% of fibre voxels cross"
        )

    tensor = state.maps if "dti_v1" in state.maps else None
    # Not by default: halves of real scans agree slightly less with it (docs/benchmarks/orientation.md).
    adapt = options.adapt and entry.adapts and method != "auto"
    found = job.step(
        "fod",
        {
            "method": method,
            "adapt": adapt,
            "seed": options.seed if adapt else None,
            "min_peak_prob": options.min_peak_prob,
            "denoised": not use_raw,
        },
        lambda progress: fod(
            undenoised() if use_raw and undenoised is not None else state.dwi,
            method=method,
            tensor=tensor,
            threads=options.threads,
            device=options.device,
            adapt=adapt,
            seed=options.seed,
            min_peak_prob=options.min_peak_prob,
        ),
        save,
        lambda: _with_model(load_maps(job.out, job.stem), False),
        summary,
        lambda maps: maps.notes,
    )
    state.maps = state.maps.merged(found)


def orientation_stages(
    job: Job, state: State, options: Options, tensor_needed: bool = True
) -> None:
    """Orientations that are in the folder and were made from this scan, or else tensor and orientations anew.

    Args:
        job: Where they are, or are written.
        state: The scan; gains the maps.
        options: Of the run.
        tensor_needed: Whether dti_md is made where it is missing.
    """
    known = job.out / derivative(job.stem, "dwimap", param="fod")
    if not job.made_here(known):
        microstructure_stage(job, state, ("dti",), "auto", options)
        fod_stage(job, state, "auto", options)
        return
    found = load_maps(job.out, job.stem, ("dti_fa", "dti_md", "fod"))
    job.show.begin("orientations")
    job.show.end("orientations", 0.0, f"found in {job.out}, by {found['fod'].method}", True)
    job.go_on_from(known)
    if tensor_needed and "dti_md" not in found:
        microstructure_stage(job, state, ("dti",), "auto", options)
    state.maps = state.maps.merged(found)


def _with_model(maps: Maps, wanted: bool) -> Maps:
    """Maps of tissue models (True) or of orientations (False), which have no model."""
    chosen = {n: m for n, m in maps.maps.items() if bool(m.model) == wanted}
    chosen.pop("noise", None)
    return Maps(chosen, maps.trust, maps.notes) if wanted else Maps(chosen)


def fibres_possible(dwi: DWI) -> bool:
    """Six directions or more: enough for orientations."""
    return int((~dwi.gradients.b0_mask).sum()) >= 6
