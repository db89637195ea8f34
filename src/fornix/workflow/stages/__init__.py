"""The stages of the main job: each does one thing to a scan, writes it and can be reused.

`pipeline.run` calls them in order; the command line's single-stage commands call the same functions.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fornix.core.public import on_first_use

_PUBLIC = {
    "Options": "fornix.workflow.options",
    "PREPROCESS": "fornix.workflow.options",
    "State": "fornix.workflow.state",
    "acquisition_of": "fornix.workflow.stages.acquisition",
    "check_stage": "fornix.workflow.stages.scan",
    "enhance_stage": "fornix.workflow.stages.enhancement",
    "fibre_stages": "fornix.workflow.stages.streamlines",
    "fibres_possible": "fornix.workflow.stages.tissue",
    "field_possible": "fornix.workflow.stages.field",
    "field_stage": "fornix.workflow.stages.field",
    "fod_stage": "fornix.workflow.stages.tissue",
    "input_record": "fornix.workflow.state",
    "mask_stage": "fornix.workflow.stages.scan",
    "microstructure_stage": "fornix.workflow.stages.tissue",
    "noise_stage": "fornix.workflow.stages.scan",
    "open_job": "fornix.workflow.state",
    "orientation_stages": "fornix.workflow.stages.tissue",
    "preprocess_stage": "fornix.workflow.stages.preprocess",
    "profile_stage": "fornix.workflow.stages.tracts",
    "quality_stage": "fornix.workflow.stages.quality",
    "register_stage": "fornix.workflow.stages.tracts",
    "report_stage": "fornix.workflow.stages.reporting",
    "segmentation_stage": "fornix.workflow.stages.segmentation",
    "sha256_of_table": "fornix.workflow.state",
    "track_stage": "fornix.workflow.stages.streamlines",
    "tract_stages": "fornix.workflow.stages.tracts",
    "tract_streamlines_stage": "fornix.workflow.stages.tract_streamlines",
    "tracts_stage": "fornix.workflow.stages.tracts",
    "undenoised": "fornix.workflow.stages.preprocess",
    "volumes_stage": "fornix.workflow.stages.scan",
}

__all__ = [
    "PREPROCESS",
    "Options",
    "State",
    "acquisition_of",
    "check_stage",
    "enhance_stage",
    "fibre_stages",
    "fibres_possible",
    "field_possible",
    "field_stage",
    "fod_stage",
    "input_record",
    "mask_stage",
    "microstructure_stage",
    "noise_stage",
    "open_job",
    "orientation_stages",
    "preprocess_stage",
    "profile_stage",
    "quality_stage",
    "register_stage",
    "report_stage",
    "segmentation_stage",
    "sha256_of_table",
    "track_stage",
    "tract_stages",
    "tract_streamlines_stage",
    "tracts_stage",
    "undenoised",
    "volumes_stage",
]

if TYPE_CHECKING:
    from fornix.workflow.options import PREPROCESS, Options
    from fornix.workflow.stages.acquisition import acquisition_of
    from fornix.workflow.stages.enhancement import enhance_stage
    from fornix.workflow.stages.field import field_possible, field_stage
    from fornix.workflow.stages.preprocess import preprocess_stage, undenoised
    from fornix.workflow.stages.quality import quality_stage
    from fornix.workflow.stages.reporting import report_stage
    from fornix.workflow.stages.scan import (
        check_stage,
        mask_stage,
        noise_stage,
        volumes_stage,
    )
    from fornix.workflow.stages.segmentation import segmentation_stage
    from fornix.workflow.stages.streamlines import fibre_stages, track_stage
    from fornix.workflow.stages.tissue import (
        fibres_possible,
        fod_stage,
        microstructure_stage,
        orientation_stages,
    )
    from fornix.workflow.stages.tract_streamlines import tract_streamlines_stage
    from fornix.workflow.stages.tracts import (
        profile_stage,
        register_stage,
        tract_stages,
        tracts_stage,
    )
    from fornix.workflow.state import State, input_record, open_job, sha256_of_table

__getattr__, __dir__ = on_first_use("fornix.workflow.stages", _PUBLIC)
