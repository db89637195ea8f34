"""Harmonized values as files that other commands read: tables along tracts, maps in template space."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from fornix.analysis.result_tables import write_table
from fornix.core.maps import UNITS
from fornix.enhance.harmonization.harmonize import Harmonized
from fornix.enhance.harmonization.rish_study import harmonized_scan, log_scales
from fornix.enhance.harmonization.values import SIGNAL
from fornix.io import save_scan
from fornix.io.files import output_folder
from fornix.io.names import derivative
from fornix.io.nifti import write_image
from fornix.io.sidecar import write_sidecar


def save_harmonized(found: Harmonized, out: str | Path, about: Mapping[str, Any]) -> list[Path]:
    """Write every row's harmonized values.

    Tables: `sub-…_desc-means_tracts.tsv` (or profiles, parcels) with a column subjectID, as `fornix compare`
    reads them. Voxels: `sub-…_space-template_model-…_param-…_dwimap.nii.gz`, 0 where there is no value.
    Signals: `sub-…_desc-harmonized_dwi.nii.gz` with its table, on the scan's own grid.

    Args:
        found: From `apply_harmonization` or `fit_harmonization`.
        out: Folder.
        about: More of what the sidecars say.
    """
    folder = output_folder(out)
    fields = {
        "Harmonization": found.model.label,
        "SitesEstimatedHere": list(found.new_sites),
        "HarmonizedTo": found.model.about.get("ReferenceSite") or "the mean of the model's scans",
        **about,
    }
    if found.after.level == SIGNAL:
        return _scans(found, folder, fields)
    if found.after.level == "voxels":
        return _images(found, folder, fields)
    return [_table(found, row, name, folder, fields) for row, name in enumerate(found.table.names)]


def _table(found: Harmonized, row: int, name: str, folder: Path, fields: Mapping[str, Any]) -> Path:
    parts = []
    for which, made in found.after.maps.items():
        known = np.isfinite(made.values[row])
        part = pd.DataFrame(
            {
                "subjectID": found.table.heads[row], "sessionID": found.table.frame["session_id"][row],
                "tractID": made.tracts, "nodeID": made.nodes, "map": which, "value": made.values[row],
            }
        )  # fmt: skip
        if made.std is not None:
            part["std"] = made.std[row]
        parts.append(part[known])
    table = pd.concat(parts, ignore_index=True)
    if (table["sessionID"] == "").all():
        table = table.drop(columns="sessionID")
    path = folder / f"{name}_desc-{found.after.level}_tracts.tsv"
    return write_table(
        path, table, {**fields, "Source": found.table.paths[row], "Site": found.table.sites[row]}
    )


def _scans(found: Harmonized, folder: Path, fields: Mapping[str, Any]) -> list[Path]:
    lattice = found.after.lattice
    assert lattice is not None
    written = []
    scales = {site: log_scales(found.model, site) for site in set(found.table.sites)}
    for row, name in enumerate(found.table.names):
        site, path = found.table.sites[row], found.table.paths[row]
        made = harmonized_scan(path, found.table.where(row), scales[site], lattice)
        out = save_scan(made, folder / derivative(name, "dwi", desc="harmonized"))
        write_sidecar(out, {"Source": path, "Site": site, **fields})
        written.append(out)
    return written


def _images(found: Harmonized, folder: Path, fields: Mapping[str, Any]) -> list[Path]:
    lattice = found.after.lattice
    assert lattice is not None
    written = []
    for row, name in enumerate(found.table.names):
        for which, made in found.after.maps.items():
            values = np.zeros(int(np.prod(lattice.shape)), np.float32)
            values[made.nodes] = np.nan_to_num(made.values[row])
            model, _, param = which.rpartition("_")
            path = folder / derivative(f"{name}_space-template", "dwimap", model=model, param=param)
            written.append(write_image(path, values.reshape(lattice.shape), lattice.affine))
            write_sidecar(
                path,
                {"Model": model, "Parameter": param, "Units": UNITS.get(param, "1"),
                 "Source": found.table.paths[row], "Site": found.table.sites[row], **fields},
            )  # fmt: skip
    return written
