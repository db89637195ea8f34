"""A T1 of the same head registered to a scan: what `fornix register` does with one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from fornix.core.errors import FornixError
from fornix.io import write_sidecar
from fornix.io.nifti import open_image, write_image
from fornix.register.apply import warp_image
from fornix.register.files import save_warp
from fornix.register.grids import Lattice
from fornix.register.scan_features import scan_features
from fornix.register.structural import Structural, register_structural
from fornix.register.warp import Warp
from fornix.workflow.job import Job
from fornix.workflow.stages import mask_stage
from fornix.workflow.stages.acquisition import read_t1
from fornix.workflow.state import State

#: Names of the two images in the warps' files.
NAMES = ("T1w", "dwi")


def is_structural(path: str | Path) -> bool:
    """True where a file holds one image, not a series."""
    if not Path(path).exists() or Path(path).suffix == ".npz":
        return False
    shape = open_image(path)[0].shape
    return len(shape) == 3 or (len(shape) == 4 and shape[3] == 1)


def scan_and_structural(one: Path, two: str) -> tuple[Path, Path | None]:
    """Of two files in either order: the scan, and the T1 where one of them is one.

    Raises:
        FornixError: Both are single images.
    """
    first, second = is_structural(one), two != "mni" and is_structural(two)
    if first and (second or two == "mni"):
        raise FornixError(
            f"{one} is a single image; give a diffusion scan, with a T1 of the same head or another scan"
        )
    if first:
        return Path(two), one
    return one, Path(two) if second else None


def register_t1(job: Job, state: State, path: Path, mask: Path | None) -> None:
    """Write the warps between a T1 and a scan, and the T1 on the scan's grid.

    Args:
        job: Of the scan.
        state: The scan.
        path: The T1.
        mask: Brain mask of the scan; estimated if absent.
    """
    t1 = read_t1(path)
    own = Structural(t1.data, Lattice(t1.affine, t1.data.shape))
    mask_stage(job, state, given=mask)
    head = scan_features(state.dwi)

    def save(warp: Warp, provenance: dict[str, Any]) -> list[Path]:
        about = {"Kind": "rigid", **provenance}
        written = save_warp(warp, job.out, job.stem, NAMES, about)
        image = job.out / f"{job.stem}_space-dwi_T1w.nii.gz"
        carried = warp_image(t1.data, own.lattice, head.lattice, warp.to_moving)
        write_image(image, carried, head.lattice.affine)
        write_sidecar(image, {"Description": "the T1 on the scan's grid", "Units": "1", **about})
        return [*written, image]

    def summary(warp: Warp | None) -> str:
        if warp is None:
            return "reused"
        turn = (np.trace(warp.matrix[:3, :3]) - 1) / 2
        middle = np.array(head.lattice.shape) / 2
        here = head.lattice.affine[:3, :3] @ middle + head.lattice.affine[:3, 3]
        moved = np.linalg.norm(warp.matrix[:3, :3] @ here + warp.matrix[:3, 3] - here)
        degrees = np.degrees(np.arccos(np.clip(turn, -1, 1)))
        return f"the T1 is turned by {degrees:.1f} degrees and moved by {moved:.1f} mm"

    job.step(
        "register",
        {"onto": path.name, "kind": "rigid"},
        lambda progress: register_structural(own, head, state.dwi.mean_b0(), progress=progress),
        lambda warp, provenance: [] if warp is None else save(warp, provenance),
        lambda: None,
        summary,
    )
