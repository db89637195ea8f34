"""A scan registered to another head, and files carried over: what `fornix register` and `warp` do."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np

from fornix.core.errors import FornixError, tell
from fornix.estimators.mask import brain_mask
from fornix.io import load, load_tractogram, save_tractogram, stem_of, write_sidecar
from fornix.io.nifti import read_volume, write_image
from fornix.register.apply import (
    warp_fod,
    warp_image,
    warp_peaks,
    warp_streamlines,
    warp_tensor,
)
from fornix.register.features import Features
from fornix.register.files import load_point_map, save_warp
from fornix.register.grids import Lattice
from fornix.register.register import register
from fornix.register.scan_features import scan_features
from fornix.register.side import with_side_doubt
from fornix.register.template import load_template, mni_template
from fornix.register.warp import Warp
from fornix.workflow.job import Job
from fornix.workflow.stages import mask_stage
from fornix.workflow.state import State

#: What `warp_file` can carry, and the numbers that a voxel of each has.
CARRIED = ("scalar", "labels", "tensor", "peaks", "fod", "streamlines")


def register_scan(
    job: Job, state: State, fixed: str, kind: str, mask: Path | None, threads: int | None
) -> None:
    """Register a scan to `mni` or to another scan, and write the warps and its FA on the other's grid.

    Args:
        job: Of the moving scan.
        state: The moving scan.
        fixed: `mni` or the path of a scan.
        kind: See `register`.
        mask: Brain mask of the moving scan; estimated if absent.
        threads: Of torch.
    """
    mask_stage(job, state, given=mask)
    moving = scan_features(state.dwi)
    target, name = _fixed(fixed)
    names = ("dwi", name)

    def compute(progress: Any) -> Warp | None:
        warp = register(moving, target, kind=kind, threads=threads, progress=progress)
        if fixed == "mni":
            warp = with_side_doubt(warp, moving)
        for note in warp.notes:
            tell(note)
        return warp

    def save(warp: Warp, provenance: dict[str, Any]) -> list[Path]:
        written = save_warp(warp, job.out, job.stem, names, {"Kind": kind, **provenance})
        shape = np.moveaxis(moving.shape.numpy(), 0, -1)
        fa = np.sqrt((shape[..., :3] ** 2).sum(-1) + 2 * (shape[..., 3:] ** 2).sum(-1))
        path = job.out / f"{job.stem}_space-{name}_model-dti_param-fa_dwimap.nii.gz"
        image = warp_image(fa.astype(np.float32), moving.lattice, target.lattice, warp.to_moving)
        write_image(path, image, target.lattice.affine)
        write_sidecar(
            path, {"Description": f"FA on the grid of {name}", "Units": "1", **provenance}
        )
        return [*written, path]

    def summary(warp: Warp | None) -> str:
        if warp is None:
            return "reused"
        change = warp.volume_change()
        return f"{kind}, volumes change by {float(change.min()):.2f} to {float(change.max()):.2f}"

    job.step(
        "register",
        {"onto": fixed, "kind": kind},
        compute,
        lambda warp, provenance: [] if warp is None else save(warp, provenance),
        lambda: None,
        summary,
        lambda warp: () if warp is None else warp.notes,
    )


def _fixed(fixed: str) -> tuple[Features, str]:
    if fixed == "mni":
        return mni_template().features(), "mni"
    if not Path(fixed).exists():
        raise FornixError(
            f"there is no file {fixed}; give a diffusion scan, a T1, a template of fornix template, or mni"
        )
    if Path(fixed).suffix == ".npz":
        return load_template(Path(fixed)).features(), "template"
    scan = load(fixed)
    name = re.sub(r"[^A-Za-z0-9]", "", stem_of(fixed))
    # Both ways need names of their own: a scan called dwi.nii.gz must not be called as the moving one is.
    return scan_features(brain_mask(scan)), "fixed" if name in ("", "dwi", "mni") else name


def warp_file(
    source: Path, warp: Path, out: Path, kind: str = "scalar", modulate: bool = False
) -> Path:
    """Carry a file over by a warp.

    Args:
        source: An image on the head that the warp comes from, or a tractogram of the head it goes to.
        warp: From `save_warp`.
        out: What is written.
        kind: One of CARRIED.
        modulate: See `warp_image` and `warp_fod`.

    Raises:
        FornixError: Kind and file do not go together; the file is of another head.
    """
    if kind not in CARRIED:
        raise FornixError(f"--kind {kind!r} is unknown; choose one of: {', '.join(CARRIED)}")
    point_map, target = load_point_map(warp)
    if kind == "streamlines":
        lines = load_tractogram(source)
        moved = warp_streamlines(lines, target, point_map)
        save_tractogram(moved, out)
        return out
    values, affine = read_volume(source)
    own = Lattice(np.asarray(affine, np.float64), values.shape[:3])
    _check(values.shape, kind, source)
    if kind in ("scalar", "labels"):
        made = warp_image(
            values, own, target, point_map, nearest=kind == "labels", modulate=modulate
        )
    elif kind == "tensor":
        made = warp_tensor(values, own, target, point_map)
    elif kind == "peaks":
        made = warp_peaks(values, own, target, point_map)
    else:
        made = warp_fod(values, own, target, point_map, modulate=modulate)
    if not np.any(made):
        raise FornixError(
            f"nothing of {source.name} comes to lie on the other head: was the warp made from this one?"
        )
    return write_image(out, made, target.affine)


def _check(shape: tuple[int, ...], kind: str, source: Path) -> None:
    count = shape[3] if len(shape) == 4 else 1
    wanted = {
        "tensor": (count == 6, "6 volumes"), "peaks": (count % 3 == 0, "3 volumes a peak"),
        "fod": (count in (6, 15, 28, 45, 66, 91), "6, 15, 28, 45 … volumes of harmonics"),
    }  # fmt: skip
    good, words = wanted.get(kind, (True, ""))
    if not good:
        raise FornixError(f"{source.name} has {count} volumes; an image of {kind} has {words}")
