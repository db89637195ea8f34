"""Writing what the stages return under the names of `names.py`, each with its sidecar."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fornix.core.maps import Map, Maps
from fornix.io.files import output_folder
from fornix.io.names import derivative
from fornix.io.nifti import read_volume, write_image
from fornix.io.sidecar import read_sidecar, write_sidecar

#: Fields of a sidecar that come back as a map's `details`.
_DETAILS = (
    "ReferenceBValue", "BValues", "SharedShare", "SharedStd", "FitShare", "NetworkMedian", "FitMedian"
)  # fmt: skip


def save_maps(
    maps: Maps, folder: str | Path, stem: str, provenance: Mapping[str, Any] | None = None
) -> list[Path]:
    """Write every map, its standard deviation, its quantiles (desc-q025 is the 2.5% one) and the trust
    mask; returns the image paths.
    """
    folder, written = output_folder(folder), []
    for made in maps.values():
        fields = {
            "Units": made.units,
            "Model": made.model,
            "Parameter": made.param,
            "Method": made.method,
            "Description": made.description,
            "Reference": made.reference,
            **made.details,
            **(provenance or {}),
        }
        path = folder / derivative(stem, "dwimap", model=made.model, param=made.param)
        written.append(write_image(path, made.data, made.affine))
        write_sidecar(path, fields)
        if made.std is not None:
            path = folder / derivative(
                stem, "dwimap", model=made.model, param=made.param, desc="std"
            )
            written.append(write_image(path, made.std, made.affine))
            write_sidecar(
                path, {**fields, "Description": f"Standard deviation of: {made.description}"}
            )
        for level, values in (made.quantiles or {}).items():
            label = f"q{round(1000 * level):03d}"
            path = folder / derivative(
                stem, "dwimap", model=made.model, param=made.param, desc=label
            )
            written.append(write_image(path, values, made.affine))
            write_sidecar(
                path, {**fields, "Description": f"{100 * level:g}% quantile of: {made.description}"}
            )
    if maps.trust is not None and maps:
        affine = next(iter(maps.values())).affine
        path = folder / derivative(stem, "mask", desc="trust")
        written.append(write_image(path, maps.trust, affine))
        fields = {"Description": "1 where every estimated map can be trusted", "Notes": maps.notes}
        write_sidecar(path, {**fields, **(provenance or {})})
    return written


def save_mask(
    mask: NDArray[np.bool_],
    affine: NDArray[Any],
    path: str | Path,
    provenance: Mapping[str, Any] | None = None,
) -> Path:
    """Write a mask and its sidecar."""
    write_image(path, mask, affine)
    write_sidecar(path, {"Type": "Brain", "Units": "1", **(provenance or {})})
    return Path(path)


def load_maps(folder: str | Path, stem: str, names: Collection[str] | None = None) -> Maps:
    """Read back the maps that `save_maps` wrote for this stem.

    Args:
        folder: Where they are.
        stem: The scan's name, as `load` and `stem_of` give it.
        names: Which maps (`dti_fa`, `fod`, …); all if absent.
    """
    folder, maps = Path(folder), {}
    for path in sorted(folder.glob("*_dwimap.nii.gz")):
        # The rest of the name is compared, not its beginning: sub-01_ses-2 begins with sub-01 too.
        rest = path.name.removeprefix(f"{stem}_")
        if rest == path.name or not rest.startswith(("model-", "param-")) or "_desc-" in rest:
            continue
        side = read_sidecar(path)
        if "Parameter" not in side:
            continue
        model, param = side.get("Model", ""), side["Parameter"]
        if names is not None and (f"{model}_{param}" if model else param) not in names:
            continue
        data, affine = read_volume(path)
        beside = folder / derivative(stem, "dwimap", model=model, param=param, desc="std")
        std = read_volume(beside)[0] if beside.exists() else None
        made = Map(
            model, param, data, affine, std,
            units=side.get("Units", ""),
            method=side.get("Method", ""),
            description=side.get("Description", ""),
            reference=side.get("Reference", ""),
            details={k: side[k] for k in _DETAILS if k in side},
        )  # fmt: skip
        maps[made.name] = made
    trust = folder / derivative(stem, "mask", desc="trust")
    if not trust.exists():
        return Maps(maps)
    return Maps(maps, read_volume(trust)[0] > 0.5, tuple(read_sidecar(trust).get("Notes", ())))
