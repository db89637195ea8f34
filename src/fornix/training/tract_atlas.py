"""The tract atlases that ship, made from one head's 72 bundles and from curated streamlines of 1,065 adults.

A tract of one head is carried to MNI space by the registration that scans go through, mirrored onto its
partner of the other side (so that each has two examples), and blurred by what registration leaves.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage

from fornix.core.grid import flat_voxels
from fornix.estimators.mask import brain_mask
from fornix.physics.anatomy.model import Streamlines
from fornix.physics.anatomy.subject import from_subject
from fornix.physics.phantom import simulate
from fornix.register.apply import warp_image
from fornix.register.grids import Lattice
from fornix.register.register import register
from fornix.register.scan_features import scan_features
from fornix.register.template import mni_template
from fornix.tracts.atlas import ATLASES, Tract, TractSet, save_atlas
from fornix.training.further_tracts import further_tract

Array = NDArray[np.float32]

#: mm over which a tract is blurred: what registration leaves of differences.
_BLUR = 2.0
#: mm around streamlines that count as the tract, and around their ends as its ends.
_REACH, _END = 2.0, 4.0
#: Shares below it are left out.
_LEAST = 0.08


def build_tracts72(anatomy: Path, out: Path = ATLASES["tracts72"]) -> Path:
    """The 72 bundles of a folder like `shared/data/anatomy`, in MNI space.

    Args:
        anatomy: See `from_subject`.
        out: The file.
    """
    head = from_subject(anatomy)
    scan = brain_mask(simulate(head, "dti64", snr=40.0, seed=0).dwi)
    template = mni_template()
    warp = register(scan_features(scan), template.features())
    lines = {}
    for name, bundle in head.bundles.items():
        lines[name] = _carried(
            _oriented(bundle.streamlines, bundle.endings[0], head.affine), warp.to_fixed
        )
    masks = {name: (bundle.mask, *bundle.endings) for name, bundle in head.bundles.items()}
    own = Lattice(head.affine, head.grid)
    grid = Lattice(template.affine, template.shape)
    images = {
        name: np.stack(
            [warp_image(m.astype(np.float32), own, grid, warp.to_moving) for m in masks[name]]
        )
        for name in masks
    }
    tracts = {}
    for name in head.bundles:
        partner = _partner(name, head.bundles)
        other = images[partner][:, ::-1]
        mirrored = [line * np.array([-1, 1, 1], np.float32) for line in lines[partner]]
        # Across the midline a tract runs the other way once mirrored, and the two sides of a pair need not
        # begin at the same end.
        if runs_back(images[name][1:], other[1:]):
            other, mirrored = other[[0, 2, 1]], [line[::-1] for line in mirrored]
        tracts[name] = _tract(name, 0.5 * (images[name] + other), [*lines[name], *mirrored], grid)
    about = "72 bundles of one adult (tractseg_edu, Apache-2.0), both sides' mean, in MNI space"
    return save_atlas(TractSet(grid, tracts, about), out)


def build_hcp1065(atlas: Path, out: Path = ATLASES["hcp1065"]) -> Path:
    """The bundles of a folder like `shared/data/atlas/adult1065/bundles` that the 72 lack.

    Args:
        atlas: Holds `bundles/*.tck`, MNI mm.
        out: The file.
    """
    import nibabel as nib

    template = mni_template()
    grid = Lattice(template.affine, template.shape)
    tracts = {}
    for path in sorted((atlas / "bundles").glob("*.tck")):
        name = further_tract(path.stem)
        if name is None:
            continue
        raw = [np.asarray(s, np.float32) for s in nib.streamlines.load(path).streamlines]
        lines = _aligned(raw)
        images = np.stack(
            [
                _tube(np.concatenate(lines), grid, _REACH),
                _tube(np.stack([line[0] for line in lines]), grid, _END),
                _tube(np.stack([line[-1] for line in lines]), grid, _END),
            ]
        )
        images[1:] *= images[0]
        tracts[name] = _tract(name, images, lines, grid)
    about = (
        "HCP1065 tractography atlas (Yeh, Nature Communications 2022; CC BY-SA 4.0), in MNI space"
    )
    return save_atlas(TractSet(grid, tracts, about), out)


def runs_back(ends: Array, others: Array) -> bool:
    """Whether another example of a tract begins where this one ends.

    Args:
        ends: (2, X, Y, Z) where it begins and ends, in [0, 1].
        others: The same of the other example.
    """
    soft, far = (ndimage.gaussian_filter(e, (0, *[_END / 2] * 3)) for e in (ends, others))
    return float((soft * far[::-1]).sum()) > float((soft * far).sum())


def _tract(name: str, images: Array, lines: Streamlines, grid: Lattice) -> Tract:
    """A tract from mask, beginning and end (3, X, Y, Z) on the grid, and oriented streamlines."""
    soft = ndimage.gaussian_filter(images, (0, *(_BLUR / grid.spacing)))
    voxels = np.flatnonzero(soft[0] > _LEAST)
    direction, along = _course(lines, grid)
    share = soft[0].reshape(-1)[voxels]
    return Tract(
        name,
        voxels,
        np.asarray(share.clip(0, 1), np.float32),
        np.asarray(soft[1:].reshape(2, -1)[:, voxels].T.clip(0, 1), np.float32),
        direction[voxels],
        along[voxels],
    )


def _course(lines: Streamlines, grid: Lattice) -> tuple[Array, Array]:
    """Mean direction (N, 3) and place along (N,) of oriented streamlines; beyond them as in the nearest."""
    count = int(np.prod(grid.shape))
    turned, along, weight = np.zeros((count, 3)), np.zeros(count), np.zeros(count)
    for line in lines:
        steps = np.linalg.norm(np.diff(line, axis=0), axis=1)
        if len(line) < 2 or steps.sum() < 1e-3:
            continue
        tangent = np.gradient(line, axis=0)
        tangent /= np.maximum(np.linalg.norm(tangent, axis=1, keepdims=True), 1e-9)
        place = np.r_[0, np.cumsum(steps)] / steps.sum()
        index, inside = flat_voxels(line, grid.affine, grid.shape)
        np.add.at(turned, index[inside], tangent[inside])
        np.add.at(along, index[inside], place[inside])
        np.add.at(weight, index[inside], 1)
    there = (weight > 0).reshape(grid.shape)
    nearest = ndimage.distance_transform_edt(~there, return_distances=False, return_indices=True)
    flat = np.ravel_multi_index(tuple(nearest), grid.shape).reshape(-1)
    mean = (along / np.maximum(weight, 1))[flat]
    axis = turned[flat]
    axis /= np.maximum(np.linalg.norm(axis, axis=1, keepdims=True), 1e-9)
    return axis.astype(np.float32), mean.astype(np.float32)


def _tube(points: Array, grid: Lattice, reach: float) -> Array:
    """1 within so many mm of points, 0 farther than a voxel beyond."""
    index, inside = flat_voxels(points, grid.affine, grid.shape)
    there = np.zeros(grid.shape, bool)
    there.reshape(-1)[index[inside]] = True
    away = ndimage.distance_transform_edt(~there, sampling=grid.spacing)
    return np.asarray(np.clip((reach - away) / grid.spacing.mean() + 0.5, 0, 1), np.float32)


def _oriented(
    lines: Streamlines, beginning: NDArray[np.bool_], affine: NDArray[np.float64]
) -> Streamlines:
    """Streamlines that begin in one end region."""
    away = (
        ndimage.distance_transform_edt(~beginning) if beginning.any() else np.zeros(beginning.shape)
    )

    def far(point: Array) -> float:
        index, inside = flat_voxels(point[None], affine, beginning.shape)
        return float(away.reshape(-1)[index[0]]) if inside[0] else np.inf

    return [line if far(line[0]) <= far(line[-1]) else line[::-1] for line in lines]


def _aligned(lines: Streamlines) -> Streamlines:
    """Streamlines that all begin at the same end, by the longest one."""
    lead = max(lines, key=len)
    first, last = lead[0], lead[-1]

    def cost(line: Array) -> float:
        return float(np.linalg.norm(line[0] - first) + np.linalg.norm(line[-1] - last))

    return [line if cost(line) <= cost(line[::-1]) else line[::-1] for line in lines]


def _carried(lines: Streamlines, point_map: Callable[[torch.Tensor], torch.Tensor]) -> Streamlines:
    if not lines:
        return []
    ends = np.cumsum([len(line) for line in lines])[:-1]
    moved = point_map(torch.from_numpy(np.concatenate(lines).astype(np.float32))).numpy()
    return np.split(moved, ends)


def _partner(name: str, names: object) -> str:
    """The tract of the other side, or the tract itself."""
    for one, other in (("_left", "_right"), ("_right", "_left")):
        if name.endswith(one):
            return name.removesuffix(one) + other
    return name
