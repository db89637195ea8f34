"""Heads in small voxels, from which larger ones are measured: what the enhancement network learns from."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fornix.io.files import atomic
from fornix.physics.anatomy import Anatomy, aged, embedded, perturb, with_lesions
from fornix.physics.anatomy.embedded import GREY_S0, WATER_S0, WHITE_S0
from fornix.physics.anatomy.model import VOLUMES
from fornix.physics.bundles import from_bundles

#: Edge of the small voxels, mm; of the built-in head, whose maps hold no more.
FINE, EMBEDDED = 1.25, 1.5
#: Tracts whose places are kept with a head.
THIN = ("FX_left", "FX_right", "CA")


def fine_head(
    folder: str | Path | None, seed: int, *, voxel_size: float = FINE, lesions: int | None = None
) -> Anatomy:
    """A head in small voxels, varied at random in shape, edges, microstructure, age and lesions.

    Args:
        folder: Of a subject with its bundles (`from_subject`); None is the built-in head.
        seed: Of all chance.
        voxel_size: mm.
        lesions: How many; None is 0 to 8.
    """
    rng = np.random.default_rng([seed, 51])
    if folder is None:
        head = embedded(max(voxel_size, EMBEDDED), seed)
    else:
        head = from_bundles(folder, seed=seed, voxel_size=voxel_size, amplitude=rng.uniform(2, 4))
        head = perturb(head, seed, amount=rng.uniform(0.5, 1.5))
    head = sharpened(head, rng.uniform(1.5, 4.0))
    head = aged(head, rng.uniform(0, 0.6))
    count = int(rng.integers(0, 9)) if lesions is None else lesions
    return with_lesions(head, count, seed) if count else head


def sharpened(head: Anatomy, power: float) -> Anatomy:
    """The head with its shares of white, grey and water raised to a power: maps made by averaging or
    interpolation have softer edges than tissue.

    Args:
        head: Whose fibres stay as they are.
        power: 1 changes nothing.
    """
    shares = np.stack([head.wm, head.gm, head.csf], -1).astype(np.float64).clip(0) ** power
    shares /= np.maximum(shares.sum(-1, keepdims=True), 1e-6)
    shares *= head.mask[..., None]
    before = WHITE_S0 * head.wm + GREY_S0 * head.gm + WATER_S0 * head.csf
    after = shares @ np.array([WHITE_S0, GREY_S0, WATER_S0])
    white = shares[..., 0] / np.maximum(shares[..., 0] + shares[..., 1], 1e-3)
    was = head.wm / np.maximum(head.wm + head.gm, 1e-3)
    # Grey matter's neurites are fewer and dispersed: what the voxel holds moves with its shares.
    ndi = np.clip(head.ndi + 0.2 * (white - was), 0.1, 0.95) * head.mask
    odi = np.clip(head.odi + 0.35 * (was - white)[..., None], 0.02, 0.95) * head.mask[..., None]
    parts = (*np.moveaxis(shares, -1, 0), ndi, odi, head.d_par * (1 - ndi),
             np.clip(shares[..., 2] + 0.03 * shares[..., 0], 0, 1),
             head.s0 * after / np.maximum(before, 1e-3))  # fmt: skip
    names = ("wm", "gm", "csf", "ndi", "odi", "d_perp", "fwf", "s0")
    return head.with_(**{n: np.asarray(v, np.float32) for n, v in zip(names, parts)})


def store_head(head: Anatomy, path: Path) -> None:
    """Write a head, cropped to its mask, with the places of `THIN`."""
    box = tuple(slice(a.min(), a.max() + 1) for a in np.nonzero(head.mask))
    affine = head.affine.copy()
    affine[:3, 3] += affine[:3, :3] @ [s.start for s in box]
    values = {n: getattr(head, n)[box].astype(np.float16) for n in VOLUMES}
    thin = {n: head.bundles[n].mask[box] for n in THIN if n in head.bundles}
    with atomic(path) as temporary, temporary.open("wb") as file:
        arrays = {"affine": affine, "mask": head.mask[box], "lesions": head.lesions[box]}
        np.savez(file, allow_pickle=False, **arrays, **values, **thin)


def read_head(path: Path) -> tuple[Anatomy, dict[str, NDArray[np.bool_]]]:
    """A head that `store_head` wrote, without bundles, and the places of `THIN` that it has."""
    with np.load(path) as held:
        known = {f.name for f in fields(Anatomy)}
        values = {
            n: v.astype(np.float32) if v.dtype == np.float16 else v
            for n, v in held.items()
            if n in known
        }
        thin = {n: held[n] for n in THIN if n in held}
    share = values["fraction"]
    values["fraction"] = share / np.maximum(share.sum(-1, keepdims=True), 1e-6)
    length = np.linalg.norm(values["mu"], axis=-1, keepdims=True)
    values["mu"] = np.where(length > 1e-3, values["mu"] / np.maximum(length, 1e-3), [0.0, 0.0, 1.0])
    values["mu"] = values["mu"].astype(np.float32)
    return Anatomy(**values), thin
