"""What takes tracts away or pushes them aside: cavities after surgery, and masses."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from fornix.core.errors import FornixError
from fornix.physics.anatomy.embedded import WATER_S0
from fornix.physics.anatomy.model import (
    CAVITY,
    MASS,
    Anatomy,
    Array,
    Bundle,
    Endings,
    Streamlines,
)
from fornix.physics.anatomy.variation import displaced, smooth_field

#: How far the push of a mass reaches, in its radii.
_REACH = 0.8


@dataclass(frozen=True)
class Site:
    """Where something is.

    Attributes:
        centre: World mm.
        radius: mm.
    """

    centre: tuple[float, float, float]
    radius: float


def random_site(anatomy: Anatomy, seed: int, low: float = 8.0, high: float = 18.0) -> Site:
    """A place in deep white matter and a radius, mm."""
    rng = np.random.default_rng([seed, 41])
    deep = np.argwhere((anatomy.wm > 0.85) & anatomy.mask)
    if not len(deep):
        raise FornixError("this anatomy has no white matter to put anything into")
    at = anatomy.affine[:3, :3] @ deep[rng.integers(len(deep))] + anatomy.affine[:3, 3]
    return Site((float(at[0]), float(at[1]), float(at[2])), float(rng.uniform(low, high)))


def with_cavity(anatomy: Anatomy, site: Site, seed: int = 0) -> Anatomy:
    """Replace all tissue of an uneven ball by fluid, as surgery leaves it; its bundles end there.

    Args:
        anatomy: The head.
        site: Of the cavity.
        seed: Of its surface.
    """
    gone = _ball(anatomy, site, seed) & anatomy.mask
    changes = {
        "wm": _set(anatomy.wm, gone, 0), "gm": _set(anatomy.gm, gone, 0), "csf": _set(anatomy.csf, gone, 1),
        "fwf": _set(anatomy.fwf, gone, 1), "ndi": _set(anatomy.ndi, gone, 0),
        "s0": _set(anatomy.s0, gone, WATER_S0),
    }  # fmt: skip
    labels = np.where(gone, CAVITY, anatomy.lesions).astype(np.uint8)
    return _without(anatomy, gone).with_(**changes, lesions=labels)


def with_mass(
    anatomy: Anatomy, site: Site, *, push: float = 0.7, infiltrating: bool = False, seed: int = 0
) -> Anatomy:
    """Grow a mass: tissue is pushed away from it, and what it replaces or infiltrates is changed.

    Tissue at a distance r of the centre comes from r - push R exp(-(r - R) / 0.8 R), for a radius R: the
    further away, the less it moves.

    Args:
        anatomy: The head.
        site: Of the mass.
        push: Share of the radius by which its rim was pushed outwards, 0 (all replaced) to 0.9 (all pushed).
        infiltrating: Fibres inside stay, with half of their neurites and more water; otherwise they are gone.
        seed: Of its surface.

    Raises:
        FornixError: No such push.
    """
    if not 0 <= push <= 0.9:
        raise FornixError(f"push is a share of the radius from 0 to 0.9, not {push}")
    moved = displaced(anatomy, _pushed(anatomy, site, push)) if push else anatomy
    inside = _ball(moved, site, seed) & moved.mask
    keep = 0.5 if infiltrating else 0.25
    changes = {
        "wm": _set(moved.wm, inside, 0.7), "gm": _set(moved.gm, inside, 0.3),
        "csf": _set(moved.csf, inside, 0),
        "fwf": np.where(inside, np.maximum(moved.fwf, 0.25), moved.fwf).astype(np.float32),
        "ndi": np.where(inside, keep * np.maximum(moved.ndi, 0.4), moved.ndi).astype(np.float32),
        "s0": np.where(inside, 1500.0, moved.s0).astype(np.float32),
    }  # fmt: skip
    if not infiltrating:
        changes["odi"] = np.where(inside[..., None], 0.95, moved.odi).astype(np.float32)
    labels = np.where(inside, MASS, moved.lesions).astype(np.uint8)
    return (moved if infiltrating else _without(moved, inside)).with_(**changes, lesions=labels)


def _pushed(anatomy: Anatomy, site: Site, push: float) -> NDArray[np.float64]:
    """(3, X, Y, Z) mm: where tissue comes from, minus where it is."""
    away = _away(anatomy, site)
    distance = np.maximum(np.linalg.norm(away, axis=0), 1e-6)
    return np.asarray(-away / distance * pushed_from(distance, site.radius, push))


def pushed_from(distance: NDArray[np.float64], radius: float, push: float) -> NDArray[np.float64]:
    """How much nearer to the centre tissue was that is now at a distance from it, mm."""
    fade = np.exp(-np.maximum(distance - radius, 0) / (_REACH * radius))
    # Inside, the push shrinks to nothing at the centre, so that space does not tear.
    return np.asarray(push * radius * fade * np.minimum(distance / radius, 1.0))


def _away(anatomy: Anatomy, site: Site) -> NDArray[np.float64]:
    index = np.stack(np.meshgrid(*[np.arange(n) for n in anatomy.grid], indexing="ij"))
    at = np.einsum("ij,j...->i...", anatomy.affine[:3, :3], index)
    middle = np.asarray(site.centre) - anatomy.affine[:3, 3]
    return np.asarray(at - middle.reshape(3, 1, 1, 1))


def _ball(anatomy: Anatomy, site: Site, seed: int) -> NDArray[np.bool_]:
    rng = np.random.default_rng([seed, 42])
    distance = np.linalg.norm(_away(anatomy, site), axis=0) / site.radius
    return np.asarray(distance + 0.12 * smooth_field(anatomy, rng, 10.0) < 1)


def _set(values: Array, where: NDArray[np.bool_], value: float) -> Array:
    return np.where(where, value, values).astype(np.float32)


def _without(anatomy: Anatomy, gone: NDArray[np.bool_]) -> Anatomy:
    """The head with its bundles cut where tissue is gone."""
    return anatomy.with_(
        bundles={
            name: Bundle(
                name,
                partial(_volume_left, bundle, gone),
                partial(_lines_left, bundle, gone, anatomy.affine),
                partial(_ends_left, bundle, gone),
            )
            for name, bundle in anatomy.bundles.items()
        }
    )


def _volume_left(bundle: Bundle, gone: NDArray[np.bool_]) -> tuple[NDArray[np.bool_], Array]:
    left = bundle.mask & ~gone
    return left, bundle.orientation * left[..., None]


def _ends_left(bundle: Bundle, gone: NDArray[np.bool_]) -> Endings:
    one, two = bundle.endings
    return one & ~gone, two & ~gone


def _lines_left(
    bundle: Bundle, gone: NDArray[np.bool_], affine: NDArray[np.float64]
) -> Streamlines:
    """Those that pass none of the lost tissue."""
    inverse = np.linalg.inv(affine)
    left = []
    for line in bundle.streamlines:
        voxel = np.rint(line @ inverse[:3, :3].T + inverse[:3, 3]).astype(int)
        voxel = voxel.clip(0, np.array(gone.shape) - 1)
        if not gone[tuple(voxel.T)].any():
            left.append(line)
    return left
