"""What flows from stage to stage of one scan, and what a job's record says of where it came from."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fornix.core.dwi import DWI
from fornix.core.errors import FornixError
from fornix.core.maps import Maps
from fornix.core.tractogram import Tractogram
from fornix.io.dataset import describe_dataset
from fornix.io.files import sha256
from fornix.io.names import results_folder
from fornix.io.nifti import image_files
from fornix.io.sidecar import read_sidecar
from fornix.nets.tissue_classes import TissueSegmentation
from fornix.workflow.job import Job, Show
from fornix.workflow.qc_record import StepRecord

if TYPE_CHECKING:
    from fornix.preprocess.geometry.alignment import Aligned


@dataclass
class State:
    """What flows from stage to stage of one scan.

    `aligned` is there where this job registered the volumes, `segmentation` where it asked the network,
    `measured` is the scan before it was brought to smaller voxels.
    """

    dwi: DWI
    aligned: Aligned | None = None
    segmentation: TissueSegmentation | None = None
    measured: DWI | None = None
    maps: Maps = field(default_factory=Maps)
    tractogram: Tractogram | None = None


def input_record(
    path: str | Path, scan: DWI, mask: str | Path | None = None, exclude: Sequence[int] = ()
) -> dict[str, Any]:
    """What the job was made from: names and hashes. Any change of it makes every step anew."""
    return {
        "Scan": Path(path).name,
        "ScanSha256": sha256(*image_files(path)),
        "Gradients": sha256_of_table(scan),
        "B0Threshold": scan.gradients.b0_threshold,
        "Excluded": sorted(exclude),
        "MaskSha256": None if mask is None else sha256(*image_files(mask)),
    }


def _refuse_foreign(folder: Path, stem: str) -> None:
    """An error where the folder holds files under names of results that Fornix did not write.

    Tools that name their results after BIDS as well (`…_desc-brain_mask`) would lose theirs.
    """
    if not folder.is_dir():
        return
    for path in sorted(folder.iterdir()):
        rest = path.name.removeprefix(f"{stem}_")
        if rest == path.name or not rest.endswith((".nii.gz", ".trx", ".tck", ".trk")):
            continue
        if rest.startswith(("model-", "param-", "tractogram.")) or rest in _RESULTS:
            try:
                ours = "FornixVersion" in read_sidecar(path)
            except FornixError:
                ours = False
            if not ours:
                raise FornixError(
                    f"{path} has the name of a result but was not made by Fornix, and would be written "
                    "over; choose another folder with -o"
                )


#: Images with names that other tools use as well, after STEM_.
_RESULTS = ("desc-brain_mask.nii.gz", "desc-preproc_dwi.nii.gz", "desc-predicted_dwi.nii.gz",
            "desc-enhanced_dwi.nii.gz", "desc-enhanced_mask.nii.gz")  # fmt: skip


def sha256_of_table(scan: DWI) -> str:
    """Hash of b-values and world directions, rounded to what a text file keeps."""
    table = scan.gradients.to_mrtrix().round(6) + 0.0
    return hashlib.sha256(np.ascontiguousarray(table).tobytes()).hexdigest()


def open_job(
    out: str | Path,
    path: str | Path,
    scan: DWI,
    show: Show,
    mask: str | Path | None = None,
    exclude: Sequence[int] = (),
) -> Job:
    """The job of a scan below an output folder; in BIDS's folders where the scan lies in a BIDS dataset.

    Args:
        out: The output folder.
        path: Of the scan.
        scan: As it was read.
        show: Tells what the job does.
        mask: A given brain mask.
        exclude: Volumes that were left out.
    """
    folder = results_folder(out, path)
    _refuse_foreign(folder, scan.stem)
    job = Job(folder, scan.stem, input_record(path, scan, mask, exclude), show)
    if folder != Path(out):
        describe_dataset(out)
    job.record.steps["load"] = StepRecord(summary=str(scan.gradients), warnings=list(scan.notes))
    return job
