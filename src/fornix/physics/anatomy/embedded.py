"""The embedded anatomy: MNI152 tissue maps that nilearn packages, and the atlas' bundles in them."""

from __future__ import annotations

from functools import lru_cache, partial

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial import cKDTree

from fornix.core.errors import FornixError
from fornix.physics.anatomy.atlas import course_of, curves
from fornix.physics.anatomy.model import (
    Anatomy,
    Array,
    Bundle,
    Endings,
    Streamlines,
    kept_inside,
)

#: Candidates closer than this are one population.
MERGE_DEGREES = 25.0
#: Populations below this share of the neural tissue are left out.
SMALLEST_SHARE = 0.08
WHITE_S0, GREY_S0, WATER_S0 = 1000.0, 1200.0, 2300.0


def embedded(voxel_size: float = 2.5, seed: int = 0, variation: float = 1.0) -> Anatomy:
    """A whole brain in MNI152 space that needs no file beyond what nilearn ships.

    White matter is crossed by 45 bundles (atlas.py), with fibres running to the cortex between them.
    Tissue maps: ICBM 2009a (Fonov et al., NeuroImage 2011).

    Args:
        voxel_size: Edge length in mm, 1.5 to 10.
        seed: Of the smooth variation of microstructure over the brain.
        variation: How much of it; 0 is none.
    """
    if not 1.5 <= voxel_size <= 10:
        raise FornixError(f"voxel_size must lie between 1.5 and 10 mm, not {voxel_size}")
    wm, gm, csf, mask, affine = _tissue_maps(float(voxel_size))
    inside = (wm > 0.05) & mask
    mu, share, odi, ndi = _populations(wm, gm, mask, inside, affine)
    rng = np.random.default_rng([seed, 11])
    waves = [variation * _wave(mask.shape, voxel_size, rng) for _ in range(5)]
    neural = np.maximum(wm + gm, 1e-3)
    white = np.clip(wm / neural, 0, 1)
    density = white * (ndi + 0.04 * waves[0]) + (1 - white) * (0.38 + 0.03 * waves[1])
    density = np.clip(density, 0.1, 0.9)
    d_par = np.clip(1.7 + 0.08 * waves[2], 1.2, 2.3)
    d_perp = d_par * (1 - density) * np.clip(1 + 0.08 * waves[3], 0.5, 1.5)
    grey_odi = 0.55
    odi = (
        white[..., None] * odi * (1 + 0.2 * waves[4])[..., None] + (1 - white[..., None]) * grey_odi
    )
    fwf = np.clip(csf + 0.03 * white, 0, 1)
    s0 = WHITE_S0 * wm + GREY_S0 * gm + WATER_S0 * csf
    bundles = {
        name: Bundle(
            name,
            partial(_bundle_volume, name, affine, mask),
            partial(_lines, name),
            partial(_ends, name, affine, mask),
        )
        for name in curves()
    }

    kept = partial(kept_inside, mask=mask)

    return Anatomy(
        affine=affine,
        mask=mask,
        wm=kept(wm),
        gm=kept(gm),
        csf=kept(csf),
        mu=kept(mu),
        fraction=kept(share),
        odi=kept(np.clip(odi, 0.01, 0.99)),
        ndi=kept(density),
        fwf=kept(fwf),
        d_par=kept(d_par),
        d_perp=kept(d_perp),
        s0=kept(s0),
        lesions=np.zeros(mask.shape, np.uint8),
        bundles=bundles,
        reference=WHITE_S0,
    )


@lru_cache(maxsize=2)
def _tissue_maps(
    voxel_size: float,
) -> tuple[Array, Array, Array, NDArray[np.bool_], NDArray[np.float64]]:
    """White, grey, CSF fractions, brain mask and affine at this voxel size."""
    from nilearn import datasets

    fine = 1
    images = [
        load(resolution=fine)
        for load in (
            datasets.load_mni152_wm_template,
            datasets.load_mni152_gm_template,
            datasets.load_mni152_template,
        )
    ]
    source = images[0].affine
    white, grey, t1 = (np.asarray(i.dataobj, dtype=np.float32) for i in images)
    brain = ndimage.binary_fill_holes(ndimage.binary_closing(t1 > 0.08, iterations=3))
    brain |= (white + grey) > 0.3
    # The cistern above the sella is open below: holes are filled slice by slice as well.
    for level in range(brain.shape[2]):
        brain[:, :, level] = ndimage.binary_fill_holes(brain[:, :, level])
    corner = source[:3, 3]
    extent = np.array(white.shape)
    grid = tuple(int(np.ceil(n * fine / voxel_size)) for n in extent)
    affine = np.diag([voxel_size, voxel_size, voxel_size, 1.0])
    affine[:3, 3] = corner + (voxel_size - fine) / 2

    def averaged(values: Array) -> Array:
        blurred = ndimage.gaussian_filter(values, 0.42 * voxel_size / fine)
        step = voxel_size / fine
        offset = (step - 1) / 2
        return ndimage.affine_transform(
            blurred, np.full(3, step), np.full(3, offset), output_shape=grid, order=1
        )

    wm, gm = averaged(white), averaged(grey)
    mask = averaged(brain.astype(np.float32)) > 0.5
    total = np.maximum(wm + gm, 1.0)
    wm, gm = np.clip(wm / total, 0, 1) * mask, np.clip(gm / total, 0, 1) * mask
    csf = np.clip(1 - wm - gm, 0, 1) * mask
    return wm, gm, csf, mask, affine


def _populations(
    wm: Array,
    gm: Array,
    mask: NDArray[np.bool_],
    inside: NDArray[np.bool_],
    affine: NDArray[np.float64],
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Axes, shares and dispersion of up to three populations, and neurite density, on the grid."""
    grid = mask.shape
    centres = _world(np.argwhere(inside), affine)
    names = list(curves())
    # One more candidate: fibres to the cortex, which give every voxel an orientation.
    weight = np.zeros((len(centres), len(names) + 1))
    axis = np.zeros((len(centres), len(names) + 1, 3))
    for i, name in enumerate(names):
        weight[:, i], axis[:, i] = _density(name, centres)
    radial = _radial(wm, gm, mask, affine)
    weight[:, -1] = 0.18
    axis[:, -1] = radial[inside]
    odi = np.array([course_of(n).odi for n in names] + [0.22])
    ndi = np.array([course_of(n).ndi for n in names] + [0.55])
    chosen, share, spread, density = _largest(weight, axis, odi, ndi)
    mu_map = np.zeros((*grid, 3, 3))
    mu_map[..., :, :] = radial[..., None, :]
    share_map = np.zeros((*grid, 3))
    share_map[..., 0] = 1
    odi_map, ndi_map = np.full((*grid, 3), 0.4), np.full(grid, 0.5)
    mu_map[inside], share_map[inside] = chosen, share
    odi_map[inside], ndi_map[inside] = spread, density
    return mu_map, share_map, odi_map, ndi_map


def _density(
    name: str, points: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(weight (n,), axis (n, 3)) of a bundle at points in mm: Gaussian about its nearest curves."""
    course = course_of(name)
    positions, tangents = _samples(name)
    weight, axis = np.zeros(len(points)), np.zeros((len(points), 3))
    axis[:, 2] = 1
    tree = cKDTree(positions)
    found = tree.query(points, k=8, distance_upper_bound=3 * course.radius)
    distance, index = np.asarray(found[0]), np.asarray(found[1])
    near = np.isfinite(distance[:, 0])
    if not near.any():
        return weight, axis
    distance, index = distance[near], np.minimum(index[near], len(positions) - 1)
    pull = np.where(np.isfinite(distance), np.exp(-0.5 * (distance / course.radius) ** 2), 0)
    lines = tangents[index]
    moment = np.einsum("nk,nki,nkj->nij", pull, lines, lines)
    axis[near] = np.linalg.eigh(moment)[1][:, :, -1]
    weight[near] = course.strength * pull[:, 0]
    return weight, axis


@lru_cache(maxsize=128)
def _samples(name: str) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    lines = curves()[name]
    tangents = [np.gradient(c, axis=0) for c in lines]
    tangent = np.concatenate(tangents).astype(np.float64)
    return np.concatenate(lines).astype(np.float64), tangent / np.linalg.norm(
        tangent, axis=1, keepdims=True
    )


def _largest(
    weight: NDArray[np.float64],
    axis: NDArray[np.float64],
    odi: NDArray[np.float64],
    ndi: NDArray[np.float64],
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """The three strongest candidates per voxel, near-parallel ones merged into the strongest."""
    left = weight.copy()
    rows = np.arange(len(left))
    threshold = np.cos(np.radians(MERGE_DEGREES))
    axes, shares, spreads, densities = [], [], [], []
    for _ in range(3):
        best = left.argmax(1)
        lead = axis[rows, best]
        cosine = np.einsum("nki,ni->nk", axis, lead)
        member = (np.abs(cosine) > threshold) * left
        total = member.sum(1)
        safe = np.maximum(total, 1e-12)
        mean = np.einsum("nk,nki->ni", member * np.sign(cosine), axis)
        length = np.linalg.norm(mean, axis=1, keepdims=True)
        axes.append(np.where(length > 1e-9, mean / np.maximum(length, 1e-9), lead))
        shares.append(total)
        # Merged bundles that differ in direction make a more dispersed population.
        turning = 1 - length[:, 0] / safe
        spreads.append(member @ odi / safe + np.where(total > 0, 2 * turning, 0))
        densities.append(member @ ndi)
        left = np.where(member > 0, 0, left)
    share = np.stack(shares, 1)
    share /= share.sum(1, keepdims=True)
    share[share < SMALLEST_SHARE] = 0
    share /= share.sum(1, keepdims=True)
    spread = np.where(share > 0, np.clip(np.stack(spreads, 1), 0.02, 0.6), 0.5)
    density = np.sum(densities, 0) / np.maximum(np.sum(shares, 0), 1e-12)
    return np.stack(axes, 1), share, spread, density


def _radial(
    wm: Array, gm: Array, mask: NDArray[np.bool_], affine: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Unit axes to the cortex, (X, Y, Z, 3): down the smoothed white-matter map."""
    size = affine[0, 0]
    fine = ndimage.gaussian_filter(wm + 0.3 * gm, 3.0 / size)
    broad = ndimage.gaussian_filter(wm + 0.3 * gm, 8.0 / size)
    slope = np.stack(np.gradient(fine + broad), -1)
    slope = slope + 1e-6 * np.array([1.0, 1.0, 3.0])
    return slope / np.linalg.norm(slope, axis=-1, keepdims=True)


def _wave(grid: tuple[int, ...], size: float, rng: np.random.Generator) -> NDArray[np.float64]:
    """A smooth random field of standard deviation 1 with features of some 15 mm."""
    field = ndimage.gaussian_filter(rng.standard_normal(grid), 15.0 / 2.355 / size, mode="wrap")
    return field / field.std()


def _bundle_volume(
    name: str, affine: NDArray[np.float64], mask: NDArray[np.bool_]
) -> tuple[NDArray[np.bool_], Array]:
    voxels = np.argwhere(mask)
    weight, axis = _density(name, _world(voxels, affine))
    course = course_of(name)
    inside = weight > course.strength * np.exp(-0.5)  # within one radius
    found = np.zeros(mask.shape, bool)
    orientation = np.zeros((*mask.shape, 3), np.float32)
    found[tuple(voxels[inside].T)] = True
    orientation[tuple(voxels[inside].T)] = axis[inside]
    return found, orientation


def _lines(name: str) -> Streamlines:
    return list(curves()[name])


def _ends(name: str, affine: NDArray[np.float64], mask: NDArray[np.bool_]) -> Endings:
    """Voxels within one radius (and half a voxel) of where the curves begin, and end."""
    voxels = np.argwhere(mask)
    centres = _world(voxels, affine)
    reach = course_of(name).radius + affine[0, 0] / 2
    made = []
    for which in (0, -1):
        tips = np.array([c[which] for c in curves()[name]])
        near = cKDTree(tips).query(centres, distance_upper_bound=reach)[0] <= reach
        region = np.zeros(mask.shape, bool)
        region[tuple(voxels[near].T)] = True
        made.append(region)
    return made[0], made[1]


def _world(voxels: NDArray[np.int64], affine: NDArray[np.float64]) -> NDArray[np.float64]:
    return voxels @ affine[:3, :3].T + affine[:3, 3]
