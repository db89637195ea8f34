"""File names after BIDS derivatives (BEP016)."""

from __future__ import annotations

from pathlib import Path

from fornix.io.nifti import EXTENSIONS


def stem_of(path: str | Path) -> str:
    """The name without extension, `_dwi` and `_desc-…`: what every output's name starts with."""
    name = Path(path).name
    for extension in EXTENSIONS:
        name = name.removesuffix(extension)
    name = name.removesuffix("_dwi")
    parts = [part for part in name.split("_") if not part.startswith("desc-")]
    return "_".join(parts) or name


def derivative(
    stem: str,
    suffix: str,
    *,
    model: str = "",
    param: str = "",
    desc: str = "",
    extension: str = ".nii.gz",
) -> str:
    """`STEM[_model-…][_param-…][_desc-…]_SUFFIX.ext`, for example `…_model-dti_param-fa_dwimap.nii.gz`."""
    entities = [("model", model), ("param", param), ("desc", desc)]
    middle = "".join(f"_{key}-{value}" for key, value in entities if value)
    return f"{stem}{middle}_{suffix}{extension}"


def sidecar_path(path: str | Path) -> Path:
    """The JSON file beside an output."""
    path = Path(path)
    for extension in (*EXTENSIONS, path.suffix):
        if extension and path.name.endswith(extension):
            return path.with_name(path.name.removesuffix(extension) + ".json")
    return path.with_name(path.name + ".json")
