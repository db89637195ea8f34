"""What flows from stage to stage of one scan, and what a job's record says of where it came from."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from fornix.core.dwi import DWI
from fornix.core.maps import Maps
from fornix.core.tractogram import Tractogram
from fornix.io.files import sha256


@dataclass
class State:
    """What flows from stage to stage of one scan."""

    dwi: DWI
    maps: Maps = field(default_factory=Maps)
    tractogram: Tractogram | None = None


def input_record(
    path: str | Path, scan: DWI, mask: str | Path | None = None, exclude: Sequence[int] = ()
) -> dict[str, Any]:
    """What the job was made from: names and hashes. Any change of it makes every step anew."""
    return {
        "Scan": Path(path).name,
        "ScanSha256": sha256(path),
        "Gradients": sha256_of_table(scan),
        "B0Threshold": scan.gradients.b0_threshold,
        "Excluded": sorted(exclude),
        "MaskSha256": None if mask is None else sha256(mask),
    }


def sha256_of_table(scan: DWI) -> str:
    """Hash of b-values and world directions, rounded to what a text file keeps."""
    table = scan.gradients.to_mrtrix().round(6) + 0.0
    return hashlib.sha256(np.ascontiguousarray(table).tobytes()).hexdigest()
