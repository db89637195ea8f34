"""Maps of scans at the voxels of a template, or over its parcels."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fornix.analysis.measurements import Measurements
from fornix.core.errors import FornixError
from fornix.core.maps import Maps
from fornix.enhance.harmonization.table import ScanTable
from fornix.io import load_maps
from fornix.io.names import derivative
from fornix.io.nifti import EXTENSIONS, read_volume
from fornix.io.sidecar import read_sidecar
from fornix.register.apply import warp_image
from fornix.register.files import load_point_map
from fornix.register.grids import Lattice

Array = NDArray[np.float32]

#: Parameters that are numbers without a direction and mean the same in every scan.
PARAMS = ("fa", "md", "ad", "rd", "mk", "ak", "rk", "kfa", "ndi", "odi", "fwf")
#: A voxel is taken where so large a share of the scans has it.
_SHARE = 0.6
#: Share of a voxel that must be brain.
_INSIDE = 0.5
_WARP = "_from-dwi_to-*_mode-image_xfm.nii.gz"


def is_image(path: Path) -> bool:
    """Whether it is a NIfTI file by its name."""
    return path.name.endswith(EXTENSIONS)


def read(
    table: ScanTable, names: Sequence[str], parcels: Path | None, wanted: Lattice | None
) -> tuple[dict[str, Measurements], Lattice]:
    """Maps of all rows on one grid.

    Args:
        table: Of the study; a row is a folder of `fornix run` (maps and a warp), or an image.
        names: Maps to take; all that every row has if none is named.
        parcels: Labels on that grid; absent: voxels.
        wanted: The grid that rows must lie on.
    """
    every: list[dict[str, Array]] = []
    lattice = wanted
    for row, path in enumerate(table.paths):
        made, own = _of_row(path, names, table.where(row))
        if lattice is not None and not _same(own, lattice):
            raise FornixError(
                f"{table.where(row)}: its template's grid {own.shape} is not that of the others "
                f"{lattice.shape}; "
                "bring all scans to one template (fornix register)"
            )
        lattice = lattice or own
        for name, values in made.items():
            if not np.isfinite(values).any():
                raise FornixError(
                    f"{table.where(row)}: the map {name} has no value that is a number"
                )
        every.append(made)
    assert lattice is not None
    shared = [n for n in every[0] if all(n in e for e in every)]
    if not shared:
        raise FornixError(f"no map is in all rows of {table.source.name}; name one with --map")
    labels = None if parcels is None else _labels(parcels, lattice)
    return {
        n: _measurements(table, n, np.stack([e[n] for e in every]), labels) for n in shared
    }, lattice


def of_folder(path: Path, where: str) -> tuple[str, Path]:
    """Name of the scan and its warp to the template.

    Args:
        path: A folder of `fornix run`.
        where: The row, for messages.
    """
    warps = [w for w in sorted(path.glob(f"*{_WARP}")) if "_to-orig" not in w.name]
    if len(warps) != 1:
        raise FornixError(
            f"{where}: {path} holds {len(warps)} warps to a template "
            "(…_from-dwi_to-mni_mode-image_xfm), one is "
            "needed; fornix run and fornix register write it"
        )
    return warps[0].name.split("_from-dwi_to-")[0], warps[0]


def _of_row(path: Path, names: Sequence[str], where: str) -> tuple[dict[str, Array], Lattice]:
    if not path.is_dir():
        if not is_image(path):
            raise FornixError(f"{where}: {path.name} is neither a folder of maps nor a NIfTI image")
        values, affine = read_volume(path)
        if values.ndim != 3:
            raise FornixError(
                f"{where}: {path.name} has shape {values.shape}; a map has 3 dimensions"
            )
        made = {_name_of(path): np.where(values == 0, np.nan, values).astype(np.float32)}
        return made, Lattice(np.asarray(affine, np.float64), values.shape)
    stem, warp = of_folder(path, where)
    point_map, lattice = load_point_map(warp)
    maps = load_maps(path, stem)
    chosen = list(names) or [n for n, m in maps.items() if m.param in PARAMS and m.data.ndim == 3]
    lacking = [n for n in chosen if n not in maps.maps]
    if lacking:
        raise FornixError(f"{where}: {path} holds no map {lacking[0]}; it holds: {', '.join(maps)}")
    if not chosen:
        raise FornixError(
            f"{where}: {path} holds no maps; fornix run and fornix microstructure write them"
        )
    own = Lattice(maps[chosen[0]].affine, maps[chosen[0]].data.shape[:3])
    mask = _mask(path, stem, maps, chosen[0])
    share = warp_image(mask, own, lattice, point_map)
    out = {}
    for name in chosen:
        values = np.nan_to_num(maps[name].data) * (mask > 0)
        carried = warp_image(values, own, lattice, point_map)
        out[name] = np.where(share > _INSIDE, carried / np.maximum(share, _INSIDE), np.nan).astype(
            np.float32
        )
    return out, lattice


def _mask(path: Path, stem: str, maps: Maps, name: str) -> Array:
    """Where there is a value: the brain, less what is no number or exactly 0."""
    there = np.isfinite(maps[name].data) & (maps[name].data != 0)
    brain = path / derivative(stem, "mask", desc="brain")
    if brain.exists():
        there &= read_volume(brain)[0] > 0.5
    return there.astype(np.float32)


def _name_of(path: Path) -> str:
    side = read_sidecar(path)
    if "Parameter" in side:
        return (
            f"{side['Model']}_{side['Parameter']}" if side.get("Model") else str(side["Parameter"])
        )
    parts = dict(p.split("-", 1) for p in path.name.split("_") if "-" in p)
    if "param" in parts:
        return f"{parts['model']}_{parts['param']}" if "model" in parts else parts["param"]
    return "image"


def _same(a: Lattice, b: Lattice) -> bool:
    return a.shape == b.shape and bool(np.allclose(a.affine, b.affine, atol=1e-3))


def _labels(path: Path, lattice: Lattice) -> NDArray[np.int64]:
    values, affine = read_volume(path, "label image")
    own = Lattice(np.asarray(affine, np.float64), values.shape[:3])
    there = lattice.points().numpy() @ np.linalg.inv(own.affine)[:3, :3].T
    voxel = np.rint(there + np.linalg.inv(own.affine)[:3, 3]).astype(int)
    inside = ((voxel >= 0) & (voxel < np.array(own.shape))).all(-1)
    voxel[~inside] = 0
    labels = np.where(inside, values[tuple(np.moveaxis(voxel, -1, 0))], 0)
    if not labels.any():
        raise FornixError(
            f"{path} has no label where the template's brain is; is it in the same space?"
        )
    return np.rint(labels).astype(np.int64)


def _measurements(
    table: ScanTable, name: str, values: Array, labels: NDArray[np.int64] | None
) -> Measurements:
    flat = values.reshape(len(values), -1)
    if labels is None:
        there = np.flatnonzero(np.isfinite(flat).mean(0) >= _SHARE)
        if not len(there):
            raise FornixError(
                f"no voxel of {name} is in {_SHARE:.0%} of the scans; do they overlap?"
            )
        return Measurements(
            tuple(table.heads),
            ("voxels",) * len(there),
            there,
            flat[:, there].astype(float),
            map=name,
        )
    index = labels.reshape(-1)
    known = np.isfinite(flat)
    numbers = np.unique(index[index > 0])
    means = np.full((len(flat), len(numbers)), np.nan)
    for i, number in enumerate(numbers):
        mine = index == number
        n = known[:, mine].sum(1)
        total = np.where(known[:, mine], flat[:, mine], 0).sum(1)
        means[:, i] = np.where(n > 0, total / np.maximum(n, 1), np.nan)
    return Measurements(
        tuple(table.heads), tuple(f"label-{n}" for n in numbers), np.zeros(len(numbers), np.int64), means,
        map=name,
    )  # fmt: skip
