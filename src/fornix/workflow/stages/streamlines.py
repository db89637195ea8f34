"""Stages that follow fibres."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from fornix.core.dwi import DWI
from fornix.core.errors import FornixError, tell
from fornix.core.tractogram import Tractogram
from fornix.io import derivative, load_tractogram, save_tractogram, write_sidecar
from fornix.nets import weights
from fornix.nets.tissue_segmentation import NAME as TISSUE
from fornix.tractography.scan_tissue import scan_tissue
from fornix.tractography.track import TRACK_METHODS, track
from fornix.workflow.job import Job
from fornix.workflow.options import Options
from fornix.workflow.stages.tissue import fod_stage
from fornix.workflow.state import State
from fornix.workflow.track_options import TrackOptions


def track_stage(
    job: Job,
    state: State,
    method: str,
    count: int,
    options: Options,
    track_options: TrackOptions | None = None,
) -> None:
    """Track, and write STEM_tractogram.{trx,tck,trk}; a trx file grows on disk and not in memory.

    Args:
        job: Where it is written.
        state: The scan with its maps; gains the tractogram.
        method: An entry of TRACK_METHODS.
        count: Streamlines to keep.
        options: Of the run.
        track_options: Of the tracking; by default those of `track`.
    """
    chosen = TrackOptions() if track_options is None else track_options
    entry = TRACK_METHODS.named(method)
    method, by_network = entry.name, chosen.tissue is None and not entry.own_tissue
    notes: list[str] = []
    streamed = options.tractogram_format == "trx"
    path = job.out / f"{job.stem}_tractogram.{options.tractogram_format}"

    def compute(progress: Any) -> Tractogram:
        asked = chosen.arguments(state.dwi)
        if by_network:
            asked["tissue"] = scan_tissue(state.dwi, state.maps, state.segmentation)
            notes.extend(asked["tissue"].notes)
        return track(
            state.dwi,
            state.maps,
            method=method,
            count=count,
            seed=options.seed,
            threads=options.threads,
            progress=progress,
            out=path if streamed else None,
            **asked,
        )

    def save(tractogram: Tractogram, provenance: dict[str, Any]) -> list[Path]:
        if not streamed:
            save_tractogram(tractogram, path)
        write_sidecar(
            path, {"Units": "mm", "Method": method, "Count": len(tractogram), **provenance}
        )
        return [path]

    def summary(tractogram: Tractogram) -> str:
        return f"{len(tractogram):,} streamlines, mean length {tractogram.lengths().mean():.0f} mm"

    # A tck file carries no grid: the mask, which every job has written, is on the scan's.
    on = "brain" if state.measured is None else "enhanced"  # the grid that was tracked on
    reference = job.out / derivative(job.stem, "mask", desc=on)
    state.tractogram = job.step(
        "track",
        {
            "method": method,
            "count": count,
            "seed": options.seed,
            "format": options.tractogram_format,
            **({"tissue": _tissue_label()} if by_network else {}),
            **chosen.record(),
        },
        compute,
        save,
        lambda: load_tractogram(path, reference=reference, mapped=streamed),
        summary,
        lambda tractogram: notes,
    )


def _tissue_label() -> str:
    return weights.load(TISSUE).label if weights.available(TISSUE) else "tensor"


def fibre_stages(
    job: Job, state: State, options: Options, undenoised: Callable[[], DWI] | None = None
) -> None:
    """Orientations and streamlines.

    Where a scan gives no fibres (a crop, one voxel, no white matter), the reason is told and stands on top
    of the report; the maps made before are not lost.

    Args:
        job: Where it is written.
        state: The scan; gains maps and tractogram.
        options: Of the run.
        undenoised: As for `microstructure_stage`.
    """
    try:
        fod_stage(job, state, options.fod_method, options, undenoised)
        if options.streamlines:
            track_stage(job, state, options.track_method, options.streamlines, options)
    except FornixError as error:
        job.record.warn("fibres", [tell(f"no fibres: {error}")])
