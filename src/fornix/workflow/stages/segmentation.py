"""The stage that tells tissues and sides of the head apart."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from fornix.core.errors import tell
from fornix.io import derivative, write_sidecar
from fornix.io.files import atomic
from fornix.io.nifti import write_image
from fornix.nets import weights
from fornix.nets.tissue_classes import CLASSES, TissueSegmentation
from fornix.nets.tissue_segmentation import NAME
from fornix.register.upright import upright_segmentation
from fornix.workflow.job import Job
from fornix.workflow.state import State

#: Name in files (BIDS), and what it is, of each class after the background.
LABELS = (
    ("GM", "cortical grey matter, hippocampus and amygdala"), ("SGM", "deep grey matter"),
    ("WM", "white matter"), ("CSF", "cerebrospinal fluid inside of the skull"),
    ("CBM", "cerebellum"), ("BS", "brainstem"),
)  # fmt: skip


def segmentation_stage(job: Job, state: State) -> None:
    """STEM_dseg with its table, and STEM_label-…_probseg: tissues, and the left side of the head.

    Args:
        job: The scan's job.
        state: Its scan as it is fitted, with its mask: outside of it all is 0. Gains the segmentation, unless
            the files are there already.
    """
    dwi = state.dwi
    before = job.key  # no later result depends on it
    dseg = job.out / derivative(job.stem, "dseg")

    def save(found: TissueSegmentation, provenance: dict[str, Any]) -> list[Path]:
        brain = dwi.brain()
        about = {"Method": found.label, **provenance}
        labels = np.where(brain, found.probabilities[..., 1:].argmax(-1) + 1, 0).astype(np.uint8)
        written = [write_image(dseg, labels, dwi.affine)]
        write_sidecar(dseg, {"Description": "likeliest tissue of each voxel", **about})
        maps = [(name, found.probabilities[..., i + 1]) for i, (name, _) in enumerate(LABELS)]
        for name, data in [*maps, ("L", found.left)]:
            path = job.out / f"{job.stem}_label-{name}_probseg.nii.gz"
            write_image(path, np.where(brain, data, 0).astype(np.float32), dwi.affine)
            text = dict(LABELS).get(name, "left hemisphere")
            write_sidecar(path, {"Description": f"probability of {text}", "Units": "1", **about})
            written.append(path)
        table = job.out / derivative(job.stem, "dseg", extension=".tsv")
        rows = [f"{i + 1}\t{name}\t{text}" for i, (name, text) in enumerate(LABELS)]
        with atomic(table) as temporary:
            temporary.write_text("\n".join(["index\tabbreviation\tname", *rows]) + "\n")
        return written

    def summary(found: TissueSegmentation | None) -> str:
        if found is None:
            return "reused"
        litre = float(abs(np.linalg.det(dwi.affine[:3, :3]))) / 1e6
        brain = dwi.brain()
        parts = [
            f"{name} {float(found.probabilities[..., i + 1][brain].sum()) * litre:.2f}"
            for i, (name, _) in enumerate(LABELS)
        ]
        return f"litres: {', '.join(parts)}"

    def compute(progress: Any) -> TissueSegmentation | None:
        found = upright_segmentation(dwi)
        for note in found.notes:
            tell(note)
        return found

    state.segmentation = job.step(
        "tissue",
        {"classes": CLASSES, "weights": weights.load(NAME).label},
        compute,
        lambda found, provenance: [] if found is None else save(found, provenance),
        lambda: None,
        summary,
        lambda found: () if found is None else _notes(found),
    )
    job.key = before


def _notes(found: TissueSegmentation) -> tuple[str, ...]:
    return (*filter(None, [found.turned]), *found.notes)
