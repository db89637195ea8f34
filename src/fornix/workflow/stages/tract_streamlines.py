"""The stage that tracks each tract by itself."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fornix.tracts.segment import TractMaps
from fornix.tracts.tracking import TractTractogram, track_tracts
from fornix.tracts.tractogram_files import load_tract_tractogram, save_tract_tractogram
from fornix.workflow.job import Job
from fornix.workflow.options import Options
from fornix.workflow.state import State


def tract_streamlines_stage(
    job: Job, state: State, tracts: TractMaps, tracts_key: str, count: int, options: Options
) -> TractTractogram:
    """STEM_desc-tracts_tractogram.trx, a group a tract, and STEM_desc-tracking_streamlines.tsv.

    Args:
        job: Where they are written; its key is the orientations'.
        state: The scan with its FOD.
        tracts: From `tracts_stage`.
        tracts_key: The job's key after it.
        count: Streamlines of each tract.
        options: Of the run.
    """

    def save(made: TractTractogram, provenance: dict[str, Any]) -> list[Path]:
        return save_tract_tractogram(made, job.out, job.stem, provenance)

    def summary(made: TractTractogram) -> str:
        full = sum(one.count == count for one in made.tracts)
        return f"{len(made.tractogram):,} streamlines, {full} of {len(made.tracts)} tracts have {count:,}"

    return job.step(
        "tract streamlines",
        {"count": count, "seed": options.seed, "tracts": tracts_key},
        lambda progress: track_tracts(
            state.maps["fod"].data, tracts, state.dwi.brain(), count=count, seed=options.seed,
            threads=options.threads, progress=progress,
        ),
        save,
        lambda: load_tract_tractogram(job.out, job.stem),
        summary,
        lambda made: few(made, count),
    )  # fmt: skip


def few(made: TractTractogram, count: int) -> list[str]:
    """Notes on tracts that are there and have no streamline or less than half of those asked for."""
    short = [one.name for one in made.tracts if one.seeds and one.count < count / 2]
    if not short:
        return []
    more = " …" if len(short) > 6 else ""
    return [
        f"{len(short)} tracts have less than half of the {count:,} streamlines: "
        f"{', '.join(short[:6])}{more}; the table of streamlines says why"
    ]
