"""Many subjects from one anatomy: shape, microstructure, age, lesions."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from fornix.core.errors import FornixError
from fornix.physics.anatomy.model import (
    LESION,
    OEDEMA,
    Anatomy,
    Array,
    Bundle,
    Endings,
    Streamlines,
)

Field = NDArray[np.float64]
#: A deformation is scaled down until no derivative of the displacement exceeds this: no folding.
STEEPEST = 0.45


def vary(anatomy: Anatomy, seed: int, *, lesions: int | None = None) -> Anatomy:
    """Another subject: deformed, perturbed, of random age, with 0 to 5 lesions (or as many as given)."""
    rng = np.random.default_rng([seed, 31])
    made = deform(anatomy, seed, amplitude=rng.uniform(1.5, 5.0))
    made = perturb(made, seed, amount=rng.uniform(0.5, 1.5))
    made = aged(made, amount=rng.uniform(0.0, 0.8))
    count = int(rng.integers(0, 6)) if lesions is None else lesions
    return with_lesions(made, count, seed) if count else made


def deform(
    anatomy: Anatomy, seed: int, amplitude: float = 4.0, smoothness: float = 30.0
) -> Anatomy:
    """Shape the head by a random smooth invertible deformation.

    Args:
        anatomy: The head.
        seed: Of all chance.
        amplitude: Root-mean-square displacement in mm (less where that would fold space)
        smoothness: Size of its features, mm. Fibre axes are carried along by the local Jacobian, so
            they stay tangent to the bundles' streamlines, which are carried along too.
    """
    rng = np.random.default_rng([seed, 32])
    return displaced(anatomy, _displacement(anatomy, rng, amplitude, smoothness))


def displaced(anatomy: Anatomy, pull: Field) -> Anatomy:
    """Move a head's tissue, its fibres and its bundles.

    Args:
        anatomy: The head.
        pull: (3, X, Y, Z) mm in world axes: where each voxel's tissue comes from, minus where it is.
            Nothing may fold: see STEEPEST.
    """
    inverse = np.linalg.inv(anatomy.affine[:3, :3])
    index = np.stack(np.meshgrid(*[np.arange(n) for n in anatomy.grid], indexing="ij"))
    source = index + np.einsum("ij,j...->i...", inverse, pull)
    # d(source)/d(target) in world axes; its inverse carries directions forward.
    slope = np.stack([np.stack(np.gradient(component), -1) for component in pull], -2)
    pullback = np.eye(3) + slope @ inverse
    forward = np.linalg.inv(pullback)

    mask = _sampled(anatomy.mask.astype(np.float32), source) > 0.5
    changes: dict[str, Any] = {"mask": mask}
    weight = np.maximum(_sampled(anatomy.mask.astype(np.float32), source), 1e-3)
    for name in ("wm", "gm", "csf", "ndi", "fwf", "d_par", "d_perp", "s0"):
        changes[name] = _sampled(getattr(anatomy, name), source) / weight * mask
    # Populations are not ordered alike in neighbouring voxels: they cannot be averaged.
    nearest = tuple(
        np.clip(np.rint(source[a]).astype(int), 0, anatomy.grid[a] - 1) for a in range(3)
    )
    filled = _filled(anatomy)
    for name in ("fraction", "odi"):
        changes[name] = filled[name][nearest] * mask[..., None]
    turned = np.einsum("...ij,...pj->...pi", forward, filled["mu"][nearest])
    turned /= np.maximum(np.linalg.norm(turned, axis=-1, keepdims=True), 1e-9)
    changes["mu"] = turned.astype(np.float32) * mask[..., None, None]
    changes["lesions"] = np.where(mask, anatomy.lesions[nearest], 0).astype(np.uint8)
    changes["bundles"] = {
        name: Bundle(
            name,
            partial(_bundle_pulled, bundle, nearest, forward, mask),
            partial(_lines_pushed, bundle, pull, anatomy.affine),
            partial(_ends_pulled, bundle, nearest, mask),
        )
        for name, bundle in anatomy.bundles.items()
    }
    return anatomy.with_(**changes)


def perturb(anatomy: Anatomy, seed: int, amount: float = 1.0) -> Anatomy:
    """Smooth variation of microstructure over the brain; amount 1 is some 5 to 10% (one sd)."""
    rng = np.random.default_rng([seed, 33])

    def factor(relative: float) -> Field:
        wave = smooth_field(anatomy, rng, 25.0)
        return np.exp(amount * relative * (wave + 0.5 * rng.standard_normal()))

    ndi = np.clip(anatomy.ndi * factor(0.06), 0.0, 0.95)
    d_par = np.clip(anatomy.d_par * factor(0.05), 0.0, 2.6)
    odi = np.clip(anatomy.odi * factor(0.15)[..., None], 0.0, 0.99)
    share = anatomy.fraction * np.exp(
        amount * 0.2 * np.stack([smooth_field(anatomy, rng, 25.0) for _ in range(3)], -1)
    )
    share /= np.maximum(share.sum(-1, keepdims=True), 1e-9)
    return anatomy.with_(
        ndi=_f32(ndi),
        d_par=_f32(d_par),
        d_perp=_f32(np.clip(anatomy.d_perp * factor(0.08), 0.0, d_par)),
        odi=_f32(odi),
        fraction=_f32(np.where(anatomy.mask[..., None], share, 0)),
        fwf=_f32(np.clip(anatomy.fwf * factor(0.1), 0, 1)),
    )


def aged(anatomy: Anatomy, amount: float) -> Anatomy:
    """Atrophy: water spreads from where there is some, tissue thins; amount 0 to 1.

    Free water in white matter rises and neurite density falls as in healthy ageing (Beck et al.,
    NeuroImage 2021).
    """
    if not 0 <= amount <= 1:
        raise FornixError(f"the amount of ageing lies in [0, 1], not {amount}")
    near = ndimage.gaussian_filter(anatomy.csf, 1.2)
    csf = np.clip(anatomy.csf + amount * near * (1 - anatomy.csf), 0, 1) * anatomy.mask
    left = (1 - csf) / np.maximum(1 - anatomy.csf, 1e-6)
    wm, gm = anatomy.wm * left, anatomy.gm * left
    fwf = np.clip(anatomy.fwf + (csf - anatomy.csf) + 0.05 * amount * wm, 0, 1)
    s0 = anatomy.s0 + (csf - anatomy.csf) * 1300.0
    return anatomy.with_(
        csf=_f32(csf),
        wm=_f32(wm),
        gm=_f32(gm),
        fwf=_f32(fwf),
        ndi=_f32(anatomy.ndi * (1 - 0.1 * amount)),
        s0=_f32(s0),
    )


def with_lesions(anatomy: Anatomy, count: int, seed: int = 0) -> Anatomy:
    """Put `count` lesions into white matter, every second one with oedema around it.

    Lesions have sharp, uneven edges, fewer neurites, higher d_perp and more signal; oedema fades out
    and raises free water. Labels are in `lesions` (LESION, OEDEMA where water rose by over 0.05).
    """
    if count < 0:
        raise FornixError(f"the number of lesions must be 0 or more, not {count}")
    rng = np.random.default_rng([seed, 34])
    deep = np.argwhere((anatomy.wm > 0.85) & anatomy.mask)
    if not len(deep):
        raise FornixError("this anatomy has no white matter to put a lesion into")
    size = np.linalg.norm(anatomy.affine[:3, :3], axis=0)
    index = np.stack(np.meshgrid(*[np.arange(n) for n in anatomy.grid], indexing="ij"), -1)
    ndi, d_perp, s0 = (getattr(anatomy, n).astype(np.float64) for n in ("ndi", "d_perp", "s0"))
    fwf, labels = anatomy.fwf.astype(np.float64), anatomy.lesions.copy()
    white = (anatomy.wm > 0.4) & anatomy.mask
    for number in range(count):
        centre = deep[rng.integers(len(deep))]
        radii = rng.uniform(3.0, 9.0) * rng.uniform(0.7, 1.4, 3)
        rough = 0.2 * smooth_field(anatomy, rng, 8.0)
        distance = np.sqrt((((index - centre) * size / radii) ** 2).sum(-1)) + rough
        core = (distance < 1) & white
        if number % 2:
            rise = rng.uniform(0.25, 0.5) * np.exp(-(np.clip(distance - 1, 0, None) ** 2) / 0.5)
            rise = np.where(anatomy.mask & ~core, rise * anatomy.wm * (1 - fwf), 0)
            fwf, s0 = fwf + rise, s0 + 900.0 * rise
            labels[(rise > 0.05) & (labels == 0)] = OEDEMA
        ndi[core] *= rng.uniform(0.35, 0.75)
        d_perp[core] = np.minimum(d_perp[core] * rng.uniform(1.3, 2.0), 0.95 * anatomy.d_par[core])
        s0[core] *= rng.uniform(1.1, 1.5)
        labels[core] = LESION
    return anatomy.with_(
        ndi=_f32(ndi), d_perp=_f32(d_perp), s0=_f32(s0), fwf=_f32(np.clip(fwf, 0, 1)),
        lesions=labels,
    )  # fmt: skip


def smooth_field(anatomy: Anatomy, rng: np.random.Generator, size_mm: float) -> Field:
    """A smooth random field of mean 0 and standard deviation 1 with features of this size."""
    voxel = np.linalg.norm(anatomy.affine[:3, :3], axis=0)
    field = ndimage.gaussian_filter(
        rng.standard_normal(anatomy.grid), size_mm / 2.355 / voxel, mode="wrap"
    )
    return (field - field.mean()) / max(field.std(), 1e-12)


def _displacement(
    anatomy: Anatomy, rng: np.random.Generator, amplitude: float, smoothness: float
) -> Field:
    """(3, X, Y, Z) mm in world axes: where each voxel's tissue comes from, minus where it is."""
    field = (
        amplitude
        / np.sqrt(3)
        * np.stack([smooth_field(anatomy, rng, smoothness) for _ in range(3)])
    )
    voxel = np.linalg.norm(anatomy.affine[:3, :3], axis=0).reshape(3, 1, 1, 1)
    steepest = max(
        float(np.abs(np.stack(np.gradient(component)) / voxel).sum(0).max()) for component in field
    )
    return field * min(1.0, STEEPEST / max(steepest, 1e-9))


def _sampled(values: Array, source: Field) -> Array:
    return ndimage.map_coordinates(values, source, order=1, mode="constant").astype(np.float32)


def _filled(anatomy: Anatomy) -> dict[str, Array]:
    """Axes, fractions and dispersion with the nearest tissue outside the mask, where there is none."""
    where = ndimage.distance_transform_edt(
        ~anatomy.mask, return_distances=False, return_indices=True
    )
    return {name: getattr(anatomy, name)[tuple(where)] for name in ("mu", "fraction", "odi")}


def _bundle_pulled(
    bundle: Bundle, nearest: tuple[NDArray[np.int64], ...], forward: Field, mask: NDArray[np.bool_]
) -> tuple[NDArray[np.bool_], Array]:
    inside = bundle.mask[nearest] & mask
    # A bundle fills a small part of the head: only that is turned.
    source = tuple(axis[inside] for axis in nearest)
    turned = np.einsum("nij,nj->ni", forward[inside], bundle.orientation[source])
    turned /= np.maximum(np.linalg.norm(turned, axis=-1, keepdims=True), 1e-9)
    axes = np.zeros((*inside.shape, 3), np.float32)
    axes[inside] = turned
    return inside, axes


def _ends_pulled(
    bundle: Bundle, nearest: tuple[NDArray[np.int64], ...], mask: NDArray[np.bool_]
) -> Endings:
    one, two = bundle.endings
    return one[nearest] & mask, two[nearest] & mask


def _lines_pushed(bundle: Bundle, pull: Field, affine: NDArray[np.float64]) -> Streamlines:
    """Streamlines carried forward: y with y + pull(y) = x, by fixed-point iteration."""
    inverse = np.linalg.inv(affine)

    def at(points: NDArray[np.float64]) -> NDArray[np.float64]:
        voxel = (points @ inverse[:3, :3].T + inverse[:3, 3]).T
        return np.stack(
            [ndimage.map_coordinates(c, voxel, order=1, mode="nearest") for c in pull], -1
        )

    if not bundle.streamlines:
        return []
    still = np.concatenate(bundle.streamlines).astype(np.float64)
    moved = still
    for _ in range(12):
        moved = still - at(moved)
    ends = np.cumsum([len(line) for line in bundle.streamlines])[:-1]
    return np.split(moved.astype(np.float32), ends)


def _f32(values: NDArray[np.floating]) -> Array:
    return np.asarray(values, dtype=np.float32)
