"""An average head as maps in MNI space, from which random heads are deformed.

White and grey matter and the inside of the skull are ICBM152's maps that nilearn packages (Fonov et al.,
NeuroImage 2011); thalamus, striatum, pallidum and brainstem are regions of the DKT parcellation (Klein and
Tourville, Frontiers in Neuroscience 2012) as neuroparc distributes it; the cerebellum is what no other region
claims: a watershed on the tissue between seeds.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage

from fornix.core.errors import FornixError
from fornix.io.nifti import read_volume

Array = NDArray[np.float32]
Mask = NDArray[np.bool_]

#: Maps of a template by their place in `HeadTemplate.maps`.
WHITE, GREY, SKULL_DISTANCE, THALAMUS, STRIATUM, PALLIDUM, CEREBELLUM, BRAINSTEM, FA = range(9)

#: Numbers of the DKT parcellation, right and left.
_THALAMUS, _PALLIDUM, _STEM = (35, 76), (38, 79), (83,)
_STRIATUM = (36, 37, 77, 78, 80)
_CORTEX = (*range(1, 35), 39, *range(40, 76), 81, 82)
#: mm around the brain that the maps reach, and the largest distance told.
_MARGIN = 8
#: Seeds of the cerebellum: centres and radii, mm (MNI).
_SEEDS = (((27, -62, -38), (15, 15, 9)), ((-27, -62, -38), (15, 15, 9)), ((0, -64, -28), (5, 9, 7)))


@dataclass(frozen=True, eq=False)
class HeadTemplate:
    """Maps of an average head at 1 mm, axes RAS.

    Attributes:
        maps: (9, X, Y, Z): share of white and of grey matter; distance to the inside of the skull in mm,
            positive inside; thalamus, striatum, pallidum, cerebellum and brainstem (0 to 1, tissue and the
            water beside it); FA.
        fields: (2, 3, X, Y, Z) unit steps into the lateral ventricles, and out of the brain, strongest at
            their walls: along them a head's ventricles and sulci widen. Every second mm.
        origin: World mm (MNI) of the first voxel, (3,).
    """

    maps: torch.Tensor
    fields: torch.Tensor
    origin: NDArray[np.float64]

    def region_maps(self, affine: NDArray[np.float64], grid: tuple[int, ...]) -> Array:
        """All maps at the voxel centres of a grid in MNI space, (9, X, Y, Z); for phantoms' truths."""
        places = np.stack(np.meshgrid(*[np.arange(n) for n in grid], indexing="ij"))
        world = np.einsum("ij,jxyz->ixyz", affine[:3, :3], places) + affine[:3, 3, None, None, None]
        at = world - self.origin[:, None, None, None]
        # As a phantom's voxels do, a mean over the voxel.
        size = 0.42 * np.linalg.norm(affine[:3, :3], axis=0)
        return np.stack(
            [
                ndimage.map_coordinates(ndimage.gaussian_filter(m, size), at, order=1, mode="nearest")
                for m in self.maps.numpy()
            ]
        )  # fmt: skip


@lru_cache(maxsize=1)
def head_template(atlas: Path) -> HeadTemplate:
    """The template; half a minute, then kept.

    Args:
        atlas: Folder that holds `DKT_parcels_1mm.nii.gz` and `FA_template.nii.gz`.

    Raises:
        FornixError: Where a file is missing.
    """
    from nilearn import datasets

    white_image = datasets.load_mni152_wm_template(resolution=1)
    affine = np.asarray(white_image.affine, np.float64)
    white = np.asarray(white_image.dataobj, np.float32)
    grey = np.asarray(datasets.load_mni152_gm_template(resolution=1).dataobj, np.float32)
    brain = np.asarray(datasets.load_mni152_brain_mask(resolution=1).dataobj) > 0
    there = np.argwhere(brain)
    low = np.maximum(there.min(0) - _MARGIN, 0)
    high = np.minimum(there.max(0) + _MARGIN + 1, brain.shape)
    # The midplane stays in the middle, so that mirroring is a flip.
    middle = round(float(-affine[0, 3]))
    reach = max(middle - low[0], high[0] - 1 - middle)
    low[0], high[0] = middle - reach, middle + reach + 1
    box = tuple(slice(a, b) for a, b in zip(low, high))
    white, grey, brain = white[box], grey[box], brain[box]
    origin = affine[:3, 3] + low
    parcels = _on_grid(atlas / "DKT_parcels_1mm.nii.gz", origin, brain.shape, 0)
    fa = _on_grid(atlas / "FA_template.nii.gz", origin, brain.shape, 1)
    brain = _filled(brain | (white + grey > 0.3))
    total = np.maximum(white + grey, 1)
    white, grey = white / total * brain, grey / total * brain
    water = np.clip(1 - white - grey, 0, 1) * brain
    labels = np.rint(parcels).astype(np.int16)
    deep = _deep(labels, grey)
    stem = _symmetric(np.isin(labels, _STEM))
    ventricles = _ventricles(water, origin)
    white, grey = _without_rim(white, grey, ventricles, np.isin(labels, _CORTEX), deep.sum(0))
    cerebellum, stem = _behind(white + grey, labels, deep.sum(0) > 0.5, stem, origin)
    distance = ndimage.distance_transform_edt(brain) - ndimage.distance_transform_edt(~brain)
    maps = [white, grey, distance, *deep, cerebellum, stem, np.clip(fa, 0, 1) * brain]
    fields = np.stack([_steps(ventricles, 5.0), -_steps(brain, 4.0)])
    return HeadTemplate(
        torch.from_numpy(np.stack(maps).astype(np.float32)), torch.from_numpy(fields), origin
    )


def _on_grid(path: Path, origin: NDArray[np.float64], grid: tuple[int, ...], order: int) -> Array:
    if not path.exists():
        raise FornixError(f"{path} is missing; give the folder of the MNI atlas with --anatomy")
    volume, affine = read_volume(path)
    to_voxel = np.linalg.inv(affine)
    matrix, offset = to_voxel[:3, :3], to_voxel[:3, :3] @ origin + to_voxel[:3, 3]
    found = ndimage.affine_transform(
        np.asarray(volume, np.float32), matrix, offset, output_shape=grid, order=order
    )
    return np.asarray(found, np.float32)


def _filled(brain: Mask) -> Mask:
    return np.asarray(ndimage.binary_fill_holes(ndimage.binary_closing(brain, iterations=2)))


def _symmetric(mask: Mask) -> Array:
    """0 to 1 with soft edges, the mean of both sides."""
    soft = ndimage.gaussian_filter(mask.astype(np.float32), 0.8)
    return np.asarray(0.5 * (soft + soft[::-1]))


def _deep(parcels: NDArray[np.int16], grey: Array) -> Array:
    """Thalamus, striatum, pallidum, (3, …): the parcels, grown over the grey matter that is theirs."""
    cortex = ndimage.distance_transform_edt(~np.isin(parcels, _CORTEX))
    made = [np.isin(parcels, n) for n in (_THALAMUS, _STRIATUM, _PALLIDUM)]
    away = np.stack([ndimage.distance_transform_edt(~m) for m in made])
    nearest = away.min(0)
    own = (grey > 0.4) & (nearest < 3) & (nearest < cortex)
    return np.stack([_symmetric(m | (own & (a == nearest))) for m, a in zip(made, away)])


def _ventricles(water: Array, origin: NDArray[np.float64]) -> Mask:
    """The lateral and third ventricles: the water that is joined to the middle of the head."""
    labels, _ = ndimage.label(water > 0.5)
    x, y, z = (np.arange(n) + o for n, o in zip(water.shape, origin))
    box = (np.abs(x) < 45)[:, None, None] & ((y > -60) & (y < 42))[:, None] & ((z > -8) & (z < 30))
    # Cut off from the cisterns by the box, the largest part in it is the ventricles.
    labels, _ = ndimage.label((water > 0.5) & box)
    sizes = np.bincount(labels.ravel())
    sizes[0] = 0
    for part in np.argsort(sizes)[::-1][:8]:
        if np.abs(np.argwhere(labels == part).mean(0)[1] + origin[1]) < 40:
            return np.asarray(labels == part)
    return np.asarray(labels == sizes.argmax())


def _without_rim(
    white: Array, grey: Array, ventricles: Mask, cortex: Mask, deep: Array
) -> tuple[Array, Array]:
    """White and grey matter without the grey rim of ventricles, which is white matter beside water."""
    rim = (ndimage.distance_transform_edt(~ventricles) < 6) & (deep < 0.3)
    rim &= ndimage.distance_transform_edt(~cortex) > 5
    moved = 0.7 * grey * ndimage.gaussian_filter(rim.astype(np.float32), 0.7)
    return white + moved, grey - moved


def _behind(
    tissue: Array, parcels: NDArray[np.int16], deep: Mask, stem: Array, origin: NDArray[np.float64]
) -> tuple[Array, Array]:
    """Cerebellum and brainstem, to 1 with soft edges, water between their folds included."""
    x, y, z = np.meshgrid(*[np.arange(n) + o for n, o in zip(tissue.shape, origin)], indexing="ij")
    markers = np.zeros(tissue.shape, np.int16)
    markers[np.isin(parcels, _CORTEX) | deep | ((tissue > 0.7) & (z > 12))] = 1
    markers[(stem > 0.5)] = 3
    markers[((z > -10) & (y > -35)) & (tissue > 0.5) & (markers == 0)] = 1
    for centre, radii in _SEEDS:
        away = sum(((a - c) / r) ** 2 for a, c, r in zip((x, y, z), centre, radii))
        markers[(np.asarray(away) < 1) & (stem < 0.5)] = 2
    # Water and tentorium are walls: basins meet where tissue is thinnest.
    height = np.clip(255 * (1 - ndimage.gaussian_filter(tissue, 0.7)), 0, 255).astype(np.uint8)
    basins = ndimage.watershed_ift(height, markers)
    cerebellum = (basins == 2) & (z < 10) & (y < -25)
    stem_part = basins == 3
    stem_part &= ndimage.distance_transform_edt(stem < 0.5) < 4
    return _symmetric(cerebellum), _symmetric(stem_part)


def _steps(mask: Mask, width: float) -> Array:
    """Gradient of the blurred mask, (3, …) every second mm, 1 where it is steepest."""
    soft = ndimage.gaussian_filter(mask.astype(np.float32), width)[::2, ::2, ::2]
    slope = np.stack(np.gradient(soft))
    return np.asarray(slope / np.percentile(np.linalg.norm(slope, axis=0), 99.9), np.float32)
