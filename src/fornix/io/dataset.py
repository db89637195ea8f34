"""The file that makes a folder of results a BIDS derivative dataset."""

from __future__ import annotations

from pathlib import Path

from fornix.core.version import __version__
from fornix.io.sidecar import write_json


def describe_dataset(folder: str | Path) -> Path:
    """Write `dataset_description.json` where there is none; return its path.

    Args:
        folder: Of the whole dataset, above the subjects' folders.
    """
    path = Path(folder) / "dataset_description.json"
    if not path.exists():
        write_json(
            path,
            {
                "Name": "Fornix: maps, fibre orientations and tractograms from diffusion MRI",
                "BIDSVersion": "1.10.0",
                "DatasetType": "derivative",
                "GeneratedBy": [{"Name": "fornix", "Version": __version__}],
            },
        )
    return path
