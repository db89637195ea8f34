"""Loading and saving a diffusion scan: image, gradient table, mask and sidecar together."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fornix.core.compute import parse_memory
from fornix.core.dwi import DWI, check_mask
from fornix.core.errors import FornixError, tell
from fornix.core.gradients import B0_THRESHOLD, Gradients
from fornix.io.names import sidecar_path, stem_of
from fornix.io.nifti import EXTENSIONS, open_series, read_volume, write_image
from fornix.io.sidecar import read_sidecar
from fornix.io.tables import read_fsl, read_mrtrix, write_fsl
from fornix.io.volumes import IN_MEMORY, read_volumes


def load(
    path: str | Path,
    *,
    bval: str | Path | None = None,
    bvec: str | Path | None = None,
    grad: str | Path | None = None,
    mask: str | Path | None = None,
    b0_threshold: float = B0_THRESHOLD,
    exclude: Sequence[int] = (),
    max_memory: str | int | None = None,
) -> DWI:
    """Load a diffusion scan of any protocol and storage order.

    Args:
        path: NIfTI, 4-D. The gradient table is found by name (`x.nii.gz` with `x.bval` and `x.bvec`),
            or given: bval and bvec (FSL), or grad (MRtrix, four columns).
        bval: b-values (FSL), if not beside the scan.
        bvec: b-vectors (FSL), if not beside the scan.
        grad: MRtrix gradient table, in place of `bval` and `bvec`.
        mask: An image on the same grid.
        b0_threshold: s/mm²; a volume is a b0 if b <= this.
        exclude: Volumes to leave out.
        max_memory: For example `2G`; a scan that takes more than an eighth of it, or than 1 GiB, stays
            on disk, in a scratch file, and is read block by block (`core.series.Series`).

    Returns:
        A DWI whose `notes` say what was changed or looks wrong (also given as warnings).

    Raises:
        FornixError: With one line that says what is wrong, where, and what to do.

    Examples:
        >>> import fornix
        >>> dwi = fornix.load("dwi.nii.gz")                      # doctest: +SKIP
        >>> print(dwi.gradients)                                 # doctest: +SKIP
        1 b0, 32 at b=1000
    """
    image, notes = open_series(path)
    skipped = sorted({int(v) for v in exclude})
    gradients = _gradients(path, bval, bvec, grad, image.affine, b0_threshold, skipped)
    if image.shape[3] != len(gradients) + len(skipped):
        raise FornixError(
            f"{path} has {image.shape[3]} volumes but its table has {len(gradients) + len(skipped)} "
            "b-values; the files do not belong together, or a volume was added or cut"
        )
    notes += gradients.notes
    if skipped:
        notes.append(f"volumes {skipped} were left out as asked")
    most = IN_MEMORY if max_memory is None else parse_memory(max_memory) // 8
    data, more = read_volumes(image, path, gradients.numbers.tolist(), min(most, IN_MEMORY))
    notes += more
    if not gradients.b0_mask.any():
        lowest = gradients.bvals[gradients.bvals < gradients.bvals.min() + 50]
        help_ = (
            f"; if those are meant as b0s, give --b0-threshold {np.ceil(lowest.max()):g}"
            if lowest.max() <= 200 else ""
        )  # fmt: skip
        notes.append(
            f"no b0 (the lowest b is {gradients.bvals.min():g}); S0 is extrapolated, masks are poorer{help_}"
        )
    try:
        meta = read_sidecar(path)
    except FornixError as error:  # nothing in it is needed
        meta = {}
        notes.append(f"the sidecar was left out: {error}")
    dwi = DWI(
        data,
        gradients,
        image.affine,
        stem=stem_of(path),
        meta=meta,
        notes=tuple(tell(note) for note in notes),
    )
    return dwi if mask is None else dwi.with_(mask=read_mask(mask, dwi))


def gradients_of(path: str | Path, b0_threshold: float = B0_THRESHOLD) -> Gradients:
    """The gradients of a scan in world axes, from the table beside it; its volumes are not read."""
    return _gradients(path, None, None, None, open_series(path)[0].affine, b0_threshold, [])


def read_mask(path: str | Path, dwi: DWI) -> NDArray[np.bool_]:
    """A mask image, checked to lie on the scan's grid and affine."""
    data, affine = read_volume(path, "mask")
    found = check_mask(data, dwi.grid)
    if not np.allclose(affine, dwi.affine, atol=0.05 * float(dwi.voxel_size.min())):
        raise FornixError(
            f"the mask {path} has the scan's size but another affine: it lies elsewhere in the "
            "world; resample it to the scan"
        )
    return found


def save_scan(dwi: DWI, path: str | Path) -> Path:
    """Write a scan with its FSL table beside it."""
    path = Path(path)
    base = sidecar_path(path)
    write_fsl(dwi.gradients, dwi.affine, base.with_suffix(".bval"), base.with_suffix(".bvec"))
    return write_image(path, dwi.data, dwi.affine)


def _gradients(
    path: str | Path,
    bval: str | Path | None,
    bvec: str | Path | None,
    grad: str | Path | None,
    affine: NDArray[Any],
    threshold: float,
    exclude: Sequence[int],
) -> Gradients:
    if grad is not None:
        return read_mrtrix(grad, threshold, exclude)
    bval = bval or _beside(path, (".bval", ".bvals"), "b-values", "--bval")
    bvec = bvec or _beside(path, (".bvec", ".bvecs"), "b-vectors", "--bvec")
    return read_fsl(bval, bvec, affine, threshold, exclude)


def _beside(path: str | Path, suffixes: tuple[str, ...], what: str, option: str) -> Path:
    path = Path(path)
    name = path.name
    for extension in EXTENSIONS:
        name = name.removesuffix(extension)
    tried = [path.with_name(name + s) for s in suffixes]
    tried += [path.with_name(s.removeprefix(".")) for s in suffixes]
    for candidate in tried:
        if candidate.is_file():
            return candidate
    names = ", ".join(t.name for t in tried)
    raise FornixError(f"no {what} beside {path} (looked for {names}); name the file with {option}")
