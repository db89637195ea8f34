"""File names after BIDS derivatives (BEP016)."""

from __future__ import annotations

import re
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


def results_folder(out: str | Path, scan: str | Path) -> Path:
    """Where the results of a scan go below an output folder.

    A scan inside a BIDS dataset (`…/sub-01/ses-2/dwi/sub-01_ses-2_…_dwi.nii.gz`) gets the same folders in the
    output, as BIDS derivatives have them; any other scan's results lie in the output folder itself.

    Args:
        out: The output folder.
        scan: Path of the scan.
    """
    path = Path(scan).absolute()
    folders: list[str] = []
    here = path.parent
    if here.name == "dwi":
        folders, here = ["dwi"], here.parent
        if re.fullmatch(r"ses-[A-Za-z0-9]+", here.name):
            folders, here = [here.name, *folders], here.parent
        if re.fullmatch(r"sub-[A-Za-z0-9]+", here.name) and path.name.startswith(f"{here.name}_"):
            return Path(out, here.name, *folders)
    return Path(out)


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
