"""What is written of motion, eddy currents and the field, beside the corrected scan."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fornix.core.dwi import DWI
from fornix.io import derivative, read_sidecar, read_volume, write_sidecar
from fornix.io.files import atomic
from fornix.io.nifti import write_image
from fornix.preprocess.acquisition import Acquisition
from fornix.preprocess.geometry._sampling import spline
from fornix.preprocess.geometry.correction import Corrected
from fornix.preprocess.geometry.field import FieldEstimate
from fornix.preprocess.geometry.transform import Geometry
from fornix.preprocess.phase_encoding import phase_encoding_of

#: ITK's world runs to the left and to the back.
_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])


def itk_transforms(poses: NDArray[np.float64]) -> str:
    """Poses (N, 4, 4) in RAS mm as the text of an ITK transform file.

    Given to a resampler with the volume as moving image, each brings its volume to the head at rest.
    """
    lines = ["#Insight Transform File V1.0"]
    for number, pose in enumerate(poses):
        matrix = _LPS @ pose @ _LPS
        values = [*matrix[:3, :3].ravel(), *matrix[:3, 3]]
        lines += [
            f"#Transform {number}", "Transform: AffineTransform_double_3_3",
            "Parameters: " + " ".join(f"{v + 0.0:.15g}" for v in values), "FixedParameters: 0 0 0", "",
        ]  # fmt: skip
    return "\n".join(lines)


def save_geometry(
    found: Corrected, folder: Path, stem: str, provenance: dict[str, Any]
) -> list[Path]:
    """Write the confounds table and the poses, and the field with what shows it.

    Returns:
        The files.
    """
    written = []
    table = found.confounds()
    if table:
        path = folder / derivative(stem, "timeseries", desc="confounds", extension=".tsv")
        rows = ["\t".join(table), *("\t".join(map(str, row)) for row in zip(*table.values()))]
        with atomic(path) as temporary:
            temporary.write_text("\n".join(rows) + "\n")
        assert found.aligned is not None
        geometry = found.aligned.geometry
        about: dict[str, Any] = {
            "Description": "Pose of the head, eddy-current field and lost slices of each volume",
            "Columns": {
                "trans_*": "mm along world axes, of the grid's centre, from the head at rest (first b0)",
                "rot_*": "radians about world axes through the centre of the grid, R = Rz Ry Rx",
                "framewise_displacement": "mm, sum of the changes since the volume before, turns at 50 mm",
                "eddy_*": "Hz, coefficients of polynomials of world coordinates from the centre over 100 mm",
                "outlier_slices": "slices that were replaced by their prediction",
            },
            "CentreMm": geometry.centre.round(4).tolist(),
            "Poses": geometry.poses.tolist(),
            "EddyHz": geometry.eddy.tolist(),
            "LostSlices": np.argwhere(found.aligned.lost).tolist(),
            **provenance,
        }
        if geometry.encoding is not None:
            about |= {
                "PhaseEncodingDirection": str(geometry.encoding),
                "TotalReadoutTime": geometry.encoding.readout_time,
            }
        write_sidecar(path, about)
        written.append(path)
        path = folder / f"{stem}_from-orig_to-dwiref_mode-image_desc-hmc_xfm.txt"
        with atomic(path) as temporary:
            temporary.write_text(itk_transforms(geometry.poses))
        text = "ITK affine transforms, one a volume, from the head at rest (first b0) to the volume, LPS"
        write_sidecar(path, {"Description": text, **provenance})
        written.append(path)
    if found.field is not None:
        written += save_field(found.field, found.dwi.affine, folder, stem, provenance)
    return written


def save_field(
    field: FieldEstimate,
    affine: NDArray[np.float64],
    folder: Path,
    stem: str,
    provenance: dict[str, Any],
) -> list[Path]:
    """Write the field, the b0 unwarped, and what it was compared with: the other b0 unwarped, or the T1.

    Returns:
        The files.
    """
    from_t1 = field.source == "T1"
    how = "estimated from a T1" if from_t1 else "from a reversed pair"
    parts = [
        (derivative(stem, "fieldmap"), field.hz, "Hz", f"susceptibility field of the head at rest, {how}"),
        (derivative(stem, "b0", desc="unwarped"), field.first, "as the scan", f"first b0, unwarped, {how}"),
        (f"{stem}_space-dwi_T1w.nii.gz", field.second, "1", "the T1 on the scan's grid, brightest 1")
        if from_t1
        else (
            derivative(f"{stem}_dir-reversed", "b0", desc="unwarped"),
            field.second, "as the scan", "b0 of the reversed scan, unwarped, in the first scan's pose",
        ),
    ]  # fmt: skip
    about = {
        "FieldSource": "T1, an estimate" if from_t1 else "reversed pair",
        "CorrelationMeasured": round(field.before, 4),
        "CorrelationCorrected": round(field.after, 4),
        **provenance,
    }
    written = []
    for name, data, units, text in parts:
        path = write_image(folder / name, np.asarray(data, np.float32), affine)
        write_sidecar(path, {"Units": units, "Description": text, **about})
        written.append(path)
    return written


def load_geometry(
    folder: Path, stem: str, dwi: DWI, acquisition: Acquisition, key: str
) -> tuple[Geometry, NDArray[np.bool_] | None] | None:
    """What `save_geometry` wrote, to the last digit; None where nothing was found.

    Args:
        folder: With the files.
        stem: What their names begin with.
        dwi: The raw scan.
        acquisition: Of the scan.
        key: Of the step that wrote them; what another step or run left is not read.

    Returns:
        Geometry of the volumes, and (N, slices) which were lost.
    """
    count = len(dwi.gradients)
    field_path = folder / derivative(stem, "fieldmap")
    table_path = folder / derivative(stem, "timeseries", desc="confounds", extension=".tsv")
    field = None
    if acquisition.tells_field and _made_by(field_path, key):
        field = spline(np.asarray(read_volume(field_path)[0], np.float32))
    if not _made_by(table_path, key):
        if field is None:
            return None
        encoding = acquisition.encoding
        return Geometry.at_rest(dwi.affine, dwi.grid, count, encoding, field), None
    about = read_sidecar(table_path)
    encoding = phase_encoding_of(about) if "PhaseEncodingDirection" in about else None
    poses, eddy = np.array(about["Poses"]), np.array(about["EddyHz"])
    lost = np.zeros((count, dwi.grid[acquisition.slice_axis]), bool)
    for volume, number in about["LostSlices"]:
        lost[volume, number] = True
    return Geometry(dwi.affine, dwi.grid, poses, encoding, eddy, field), lost


def _made_by(path: Path, key: str) -> bool:
    return path.exists() and read_sidecar(path).get("StepKey") == key
