"""What lies around bundles: a plain head made from them alone, and an anatomy on another grid."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from fornix.core.errors import FornixError
from fornix.physics.anatomy.model import Anatomy, Streamlines, kept_inside

WHITE_S0, GREY_S0, WATER_S0 = 1000.0, 1200.0, 2300.0
#: Thickness of grey matter about the bundles' ends, and of the head about the bundles, mm.
_CORTEX, _RIM = 5.0, 8.0


def shell(lines: Mapping[str, Streamlines], voxel_size: float) -> Anatomy:
    """A head for bundles that come without one.

    White matter is what the bundles fill (holes closed), grey matter a shell of 5 mm about their ends,
    water the rest of a rim of 8 mm. World axes, voxels of `voxel_size` mm, no bundles in it yet.
    """
    points = np.concatenate([p for made in lines.values() for p in made]).astype(np.float64)
    ends = np.array([p[i] for made in lines.values() for p in made for i in (0, -1)], np.float64)
    low = points.min(0) - 2 * _RIM
    extent = points.max(0) + 2 * _RIM - low
    shape = np.maximum(np.ceil(extent / voxel_size).astype(int), 3)
    if shape.prod() > 5e7:
        raise FornixError(
            f"the bundles span {extent.max():.0f} mm, a grid of {shape.tolist()} voxels; streamlines "
            "must be in world mm; or give a larger --voxel-size"
        )
    grid = (int(shape[0]), int(shape[1]), int(shape[2]))
    affine = np.diag([voxel_size, voxel_size, voxel_size, 1.0])
    affine[:3, 3] = low + voxel_size / 2

    def marked(where: NDArray[np.float64]) -> NDArray[np.bool_]:
        out = np.zeros(grid, bool)
        out[tuple(np.rint((where - affine[:3, 3]) / voxel_size).astype(int).T)] = True
        return out

    reach = max(1, round(3.0 / voxel_size))
    core = ndimage.binary_closing(marked(points), iterations=reach)
    core = ndimage.binary_fill_holes(core)
    from_ends = ndimage.distance_transform_edt(~marked(ends)) * voxel_size
    outside = ndimage.distance_transform_edt(~core) * voxel_size
    mask = ndimage.binary_fill_holes(outside <= _RIM)
    # The cortex begins half a voxel inside the last points, so that fibres end in it.
    cortex = (from_ends <= _CORTEX) & (~core | (from_ends <= 0.6 * voxel_size))
    wm = ndimage.gaussian_filter((core & ~cortex).astype(np.float32), 0.5) * mask
    gm = np.minimum(ndimage.gaussian_filter(cortex.astype(np.float32), 0.5), 1 - wm) * mask
    csf = np.clip(1 - wm - gm, 0, 1) * mask
    white = wm / np.maximum(wm + gm, 1e-3)
    ndi = white * 0.62 + (1 - white) * 0.38
    d_par = np.full(grid, 1.7)
    mu = np.zeros((*grid, 3, 3))
    mu[..., 2] = 1

    kept = partial(kept_inside, mask=mask)

    return Anatomy(
        affine=affine,
        mask=mask,
        wm=kept(wm),
        gm=kept(gm),
        csf=kept(csf),
        mu=kept(mu),
        fraction=kept(np.broadcast_to([1.0, 0.0, 0.0], (*grid, 3))),
        odi=kept(np.full((*grid, 3), 0.55)),
        ndi=kept(ndi),
        fwf=kept(np.clip(csf + 0.03 * white, 0, 1)),
        d_par=kept(d_par),
        d_perp=kept(d_par * (1 - ndi)),
        s0=kept(WHITE_S0 * wm + GREY_S0 * gm + WATER_S0 * csf),
        lesions=np.zeros(grid, np.uint8),
        reference=WHITE_S0,
    )


def regrid(anatomy: Anatomy, voxel_size: float) -> Anatomy:
    """The same head in voxels of another size, same axes and extent; without its bundles.

    Scalars are interpolated within the mask, fibre populations taken from the nearest voxel.
    """
    edges = np.linalg.norm(anatomy.affine[:3, :3], axis=0)
    factor = voxel_size / edges
    shape = np.maximum(np.ceil(np.array(anatomy.grid) / factor).astype(int), 1)
    affine = anatomy.affine.copy()
    affine[:3, :3] *= factor
    affine[:3, 3] += anatomy.affine[:3, :3] @ ((factor - 1) / 2)
    index = [(np.arange(n) + 0.5) * f - 0.5 for n, f in zip(shape, factor)]
    source = np.stack(np.meshgrid(*index, indexing="ij"))
    # Larger voxels average what they hold, so that thin structures do not fall between them.
    blur = 0.42 * np.sqrt(np.maximum(factor**2 - 1, 0))

    def sampled(values: NDArray) -> NDArray[np.float64]:
        smooth = ndimage.gaussian_filter(values.astype(np.float64), blur)
        return np.asarray(ndimage.map_coordinates(smooth, source, order=1, mode="constant"))

    weight = sampled(anatomy.mask)
    mask = weight > 0.5
    safe = np.maximum(weight, 1e-3)
    nearest = tuple(
        np.clip(np.rint(source[a]).astype(int), 0, anatomy.grid[a] - 1) for a in range(3)
    )
    around = ndimage.distance_transform_edt(
        ~anatomy.mask, return_distances=False, return_indices=True
    )
    filled = tuple(a[nearest] for a in around)
    scalars = {
        name: (sampled(getattr(anatomy, name)) / safe * mask).astype(np.float32)
        for name in ("wm", "gm", "csf", "ndi", "fwf", "d_par", "d_perp", "s0")
    }
    vectors = {
        name: getattr(anatomy, name)[filled] * mask.reshape(*mask.shape, *([1] * tail))
        for name, tail in (("mu", 2), ("fraction", 1), ("odi", 1))
    }
    return anatomy.with_(
        affine=affine,
        mask=mask,
        lesions=np.where(mask, anatomy.lesions[nearest], 0).astype(np.uint8),
        bundles={},
        **scalars,
        **vectors,
    )
