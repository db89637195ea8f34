"""The stage that finds the susceptibility field alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from fornix.core.compute import use_threads
from fornix.core.errors import FornixError, tell
from fornix.io import derivative, read_volume
from fornix.preprocess.acquisition import Acquisition
from fornix.preprocess.geometry.field import FieldEstimate
from fornix.preprocess.geometry.field_source import find_field
from fornix.workflow.job import Job
from fornix.workflow.stages.geometry_files import save_field
from fornix.workflow.stages.preprocess import acquisition_facts
from fornix.workflow.state import State


def field_possible(acquisition: Acquisition) -> None:
    """Refuse a scan whose field nothing tells.

    Raises:
        FornixError: There is neither a reversed scan nor a T1, or the axis of a T1's registration is unknown.
    """
    if not acquisition.tells_field:
        raise FornixError(
            "nothing tells the susceptibility field: give a scan of the other phase direction (--reversed) "
            "or a T1 (--t1)"
        )
    if acquisition.encoding is None and acquisition.reversed_encoding is None:
        raise FornixError("the phase-encoding axis is not known: give --phase-encoding (i, j or k)")


def field_stage(job: Job, state: State, acquisition: Acquisition) -> None:
    """STEM_fieldmap, and beside it the b0s that show it.

    Args:
        job: Where it is written.
        state: The scan with its mask.
        acquisition: With a reversed scan or a T1.
    """
    path = job.out / derivative(job.stem, "fieldmap")
    notes = list(acquisition.doubts)

    def compute(progress: Any) -> FieldEstimate | None:
        with use_threads(None):
            field, _, more = find_field(state.dwi, acquisition)
        notes.extend(more)
        for note in notes:
            tell(note)
        return field

    def save(field: FieldEstimate | None, provenance: dict[str, Any]) -> list[Path]:
        assert field is not None
        return save_field(field, state.dwi.affine, job.out, job.stem, provenance)

    def summary(field: FieldEstimate | None) -> str:
        hz = read_volume(path)[0] if field is None else field.hz
        low, high = np.percentile(hz[state.dwi.brain()], [1, 99])
        return f"{low:.0f} to {high:.0f} Hz in the brain (1st and 99th percentile)"

    job.step(
        "distortion",
        {"acquisition": acquisition_facts(acquisition)},
        compute,
        save,
        lambda: None,
        summary,
        lambda field: notes,
    )
