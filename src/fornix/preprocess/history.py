"""What was done to a scan before it came here, as its sidecar tells."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any


def done_twice(meta: Mapping[str, Any], denoiser: str, corrections: Sequence[str]) -> list[str]:
    """What would be done again and what that costs, one line each.

    Keys read: Denoise and Corrections of our own sidecars, ImageType of the scanner's (MOCO: motion was
    corrected on the scanner).

    Args:
        meta: The scan's sidecar.
        denoiser: What it is to be denoised with; empty for none.
        corrections: What it is to be corrected for.
    """
    found = []
    before = " ".join(str(meta.get("Denoise") or "").split())
    if denoiser and before:
        found.append(
            f"the sidecar says that this scan was denoised before ({before}): what is left of its noise is "
            "no longer independent from voxel to voxel; give the raw scan, or leave this step out"
        )
    listed = meta.get("Corrections") or []
    again = [str(c) for c in listed if str(c) in corrections] if isinstance(listed, list) else []
    if again:
        found.append(
            f"the sidecar says that this scan was corrected before ({', '.join(again)}): it is interpolated "
            "and blurred once more; give the raw scan, or leave this step out"
        )
    kinds = meta.get("ImageType") or []
    motion = {"motion", "eddy"} & set(corrections)
    if motion and isinstance(kinds, list) and "MOCO" in [str(k).upper() for k in kinds]:
        found.append(
            "the sidecar says that the scanner corrected motion (ImageType MOCO): its gradients were not "
            "turned along, and ringing and noise were interpolated; give the scan as measured if there is one"
        )
    return found
