"""An anatomy from a real subject: bedpostx fibres and TractSeg's 72 bundles."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fornix.core.errors import FornixError
from fornix.core.gradients import fsl_to_world
from fornix.physics.anatomy.model import (
    Anatomy,
    Array,
    Bundle,
    Endings,
    Streamlines,
    kept_inside,
)

WHITE_S0 = 1000.0
#: bedpostx's diffusivity, µm²/ms, of tissue and of water as it fits them.
_TISSUE_D, _WATER_D = 1.6, 2.8


def from_subject(folder: str | Path) -> Anatomy:
    """A realistic head from a folder laid out like `shared/data/anatomy`.

    Tissue classes and microstructure are set from bedpostx's ball-and-stick fit: sum of stick
    fractions and diffusivity tell white matter, grey matter and water apart. bedpostx's dyads are in
    FSL's voxel axes, as bvecs are, and are turned to world axes. Bundles are read when asked for.

    Args:
        folder: Holds bedpostx/ (dyads1-3, mean_f1-3samples, dyads1-3_dispersion, mean_dsamples,
            mean_S0samples), nodif_brain_mask.nii.gz and, if there, bundles72/ (TOM_trackings/*.trk,
            TOM/, bundle_segmentations/, endings_segmentations/).

    Raises:
        FornixError: Where a file is missing or on another grid.
    """
    root = Path(folder)
    first, affine = _volume(root / "bedpostx" / "dyads1.nii.gz")
    grid = first.shape[:3]

    def read(name: str) -> Array:
        values, other = _volume(root / "bedpostx" / f"{name}.nii.gz")
        if values.shape[:3] != grid or not np.allclose(other, affine, atol=1e-3):
            raise FornixError(f"{name} is on another grid than dyads1; resample it first")
        return np.nan_to_num(values)

    mask = _volume(root / "nodif_brain_mask.nii.gz")[0] > 0
    dyads = np.stack([read(f"dyads{i}") for i in (1, 2, 3)], -2)
    mu = unit(dyads @ fsl_to_world(affine).T)
    sticks = np.stack([read(f"mean_f{i}samples") for i in (1, 2, 3)], -1)
    spread = np.stack([read(f"dyads{i}_dispersion") for i in (1, 2, 3)], -1)
    diffusivity = 1000 * read("mean_dsamples")
    s0 = read("mean_S0samples")

    total = sticks.sum(-1)
    csf = np.clip((diffusivity - _TISSUE_D) / (_WATER_D - _TISSUE_D), 0, 1)
    wm = (1 - csf) * np.clip((total - 0.12) / 0.33, 0, 1)
    gm = 1 - csf - wm
    share = np.where(sticks > 0.05, sticks, 0)
    share[..., 0] = np.maximum(share[..., 0], 1e-3)
    share = share / share.sum(-1, keepdims=True)
    white = wm / np.maximum(wm + gm, 1e-3)
    # bedpostx's dispersion also holds its uncertainty, which is large where f is small.
    odi = np.clip(0.04 + 0.4 * spread, 0.03, 0.4)
    odi = white[..., None] * odi + (1 - white[..., None]) * 0.55
    ndi = white * np.clip(0.42 + 0.40 * total, 0.3, 0.8) + (1 - white) * 0.38
    d_par = np.clip(1.7 + 0.4 * (diffusivity - 1.4), 1.4, 2.1)
    typical = np.median(s0[mask & (wm > 0.8)])
    s0 = np.clip(s0 * WHITE_S0 / typical, 0.2 * WHITE_S0, 4 * WHITE_S0)

    kept = partial(kept_inside, mask=mask)

    return Anatomy(
        affine=affine,
        mask=mask,
        wm=kept(wm),
        gm=kept(gm),
        csf=kept(csf),
        mu=kept(mu),
        fraction=kept(share),
        odi=kept(odi),
        ndi=kept(ndi),
        fwf=kept(np.clip(csf + 0.03 * white, 0, 1)),
        d_par=kept(d_par),
        d_perp=kept(d_par * (1 - ndi)),
        s0=kept(s0),
        lesions=np.zeros(grid, np.uint8),
        bundles=_bundles(root / "bundles72"),
        reference=WHITE_S0,
    )


def unit(vectors: NDArray[np.floating]) -> NDArray[np.floating]:
    """Vectors (..., 3) at length 1; zero vectors become z."""
    length = np.linalg.norm(vectors, axis=-1, keepdims=True)
    return np.where(length > 1e-6, vectors / np.maximum(length, 1e-6), [0.0, 0.0, 1.0])


def _volume(path: Path) -> tuple[Array, NDArray[np.float64]]:
    import nibabel as nib

    if not path.exists():
        raise FornixError(f"the anatomy lacks {path}; give the folder that holds bedpostx/")
    image = nib.load(path)
    return np.asarray(image.dataobj, dtype=np.float32), np.asarray(image.affine, dtype=np.float64)


def _bundles(root: Path) -> dict[str, Bundle]:
    names = sorted(p.stem for p in (root / "TOM_trackings").glob("*.trk"))
    return {
        name: Bundle(
            name,
            partial(_truth, root, name),
            partial(_lines, root, name),
            partial(_ends, root, name),
        )
        for name in names
    }


def _truth(root: Path, name: str) -> tuple[NDArray[np.bool_], Array]:
    mask = _volume(root / "bundle_segmentations" / f"{name}.nii.gz")[0] > 0
    # TractSeg's orientation maps are in world axes already, unlike bedpostx's dyads.
    orientation = _volume(root / "TOM" / f"{name}.nii.gz")[0]
    known = np.linalg.norm(orientation, axis=-1, keepdims=True) > 1e-6
    return mask, np.where(known & mask[..., None], unit(orientation), 0).astype(np.float32)


def _lines(root: Path, name: str) -> Streamlines:
    import nibabel as nib

    loaded = nib.streamlines.load(root / "TOM_trackings" / f"{name}.trk")
    shift = np.zeros(3, np.float32)
    header = np.asarray(loaded.header["voxel_to_rasmm"])
    if not header[:3, 3].any():
        # TractSeg keeps no grid in the header: its mm are counted from voxel centres, and reading takes
        # them for corners. Half a voxel back puts 98% of the points into the bundle's own mask.
        shift = (np.diag(header)[:3] / 2).astype(np.float32)
    return [np.asarray(s, dtype=np.float32) + shift for s in loaded.streamlines]


def _ends(root: Path, name: str) -> Endings:
    one, two = (
        _volume(root / "endings_segmentations" / f"{name}_{side}.nii.gz")[0] > 0 for side in "be"
    )
    return one, two
