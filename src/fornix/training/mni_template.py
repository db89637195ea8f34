"""The template that ships: tissues, FA and fibres of an average head in MNI space.

Tissues are those of the tissue network's training (`head_template`): ICBM152's maps that nilearn packages,
regions of the DKT parcellation. Fibres are the population average of 1,065 adults (three directions with
their anisotropy per voxel; Yeh et al., NeuroImage 2018), FA is TractSeg's template.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fornix.io.nifti import read_volume
from fornix.register.template import PATH, Template, save_template
from fornix.training.data import head_template as t
from fornix.training.data.head_template import head_template

Array = NDArray[np.float32]


def build_template(atlas: Path, out: Path = PATH) -> Path:
    """Make the template of a folder like `shared/data/atlas`, and write it.

    Args:
        atlas: Holds `mni/` (parcellation and FA) and `adult1065/peaks.nii.gz`.
        out: The file.
    """
    peaks, affine = _ras(*read_volume(atlas / "adult1065" / "peaks.nii.gz"))
    grid = peaks.shape[:3]
    maps = head_template(atlas / "mni").region_maps(affine, grid)
    tissue = _tissue(maps)
    x = np.arange(grid[0]) * affine[0, 0] + affine[0, 3]
    left = np.broadcast_to((1 / (1 + np.exp(x / 1.5)))[:, None, None], grid)
    made = Template(
        affine=affine,
        tissue=np.asarray(tissue, np.float32),
        left=np.asarray(left, np.float32),
        fa=np.asarray(maps[t.FA] * (tissue.sum(0) > 0.5), np.float32),
        peaks=np.asarray(
            peaks.reshape(*grid, 3, 3) * (tissue.sum(0) > 0.5)[..., None, None], np.float32
        ),
    )
    return save_template(made, out)


def _ras(values: Array, affine: NDArray[np.float64]) -> tuple[Array, NDArray[np.float64]]:
    """An image of axes LPS, PSR, … with axes RAS; values in world axes stay."""
    import nibabel as nib

    image = nib.as_closest_canonical(nib.Nifti1Image(values, affine))
    return np.asarray(image.dataobj, np.float32), np.asarray(image.affine, np.float64)


def _tissue(maps: Array) -> Array:
    """Classes of `tissue_classes.CLASSES` after the background, (6, X, Y, Z), as the network tells them."""
    white, grey = maps[t.WHITE], maps[t.GREY]
    skull = np.clip(maps[t.SKULL_DISTANCE] / 2 + 0.5, 0, 1)
    solid = np.clip(white + grey, 0, 1)
    skull = np.maximum(skull, solid)
    deep = np.clip(maps[t.THALAMUS : t.PALLIDUM + 1].sum(0), 0, 1)
    behind, stem = np.clip(maps[t.CEREBELLUM], 0, 1), np.clip(maps[t.BRAINSTEM], 0, 1)
    left_over = np.clip(1 - deep - behind - stem, 0, 1)
    made = np.stack(
        [
            grey * left_over,
            deep * solid,
            white * left_over,
            skull - solid,
            behind * solid,
            stem * solid,
        ]
    )
    return np.asarray(made / np.maximum(made.sum(0), 1), np.float32)
