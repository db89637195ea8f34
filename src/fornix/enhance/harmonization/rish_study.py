"""Rotation-invariant features of a study's scans in template space, and its scans with them made alike."""

from __future__ import annotations

import warnings
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from fornix.analysis.measurements import Measurements
from fornix.core.dwi import DWI
from fornix.core.errors import FornixError, FornixWarning
from fornix.core.gradients import Gradients
from fornix.enhance.harmonization.model import Harmonization
from fornix.enhance.harmonization.rish import (
    Feature,
    energies,
    feature_name,
    features_of,
    rescaled,
    told_by,
)
from fornix.enhance.harmonization.table import ScanTable
from fornix.enhance.harmonization.template_maps import of_folder
from fornix.io import derivative, load, read_fsl, read_mask
from fornix.preprocess import estimate_noise
from fornix.register.apply import warp_image
from fornix.register.files import load_point_map, warp_name
from fornix.register.grids import Lattice, blurred

Array = NDArray[np.float32]

#: mm: scales are smooth, and a fine grid would hold noise.
SPACING = 4.0
#: Full width at half maximum in mm by which scales are smoothed.
_SMOOTH = 8.0
#: A place is taken where so large a share of the scans has it.
_SHARE = 0.6
_INSIDE = 0.5


def read_scan(path: Path, where: str) -> DWI:
    """The corrected scan of a folder of `fornix run`, with mask and noise level.

    Args:
        path: The folder.
        where: The row, for messages.
    """
    if not path.is_dir():
        raise FornixError(
            f"{where}: {path.name} is no folder; --method rish works on folders that fornix run wrote"
        )
    stem, _ = of_folder(path, where)
    scan = path / derivative(stem, "dwi", desc="preproc")
    mask = path / derivative(stem, "mask", desc="brain")
    for needed in (scan, mask):
        if not needed.exists():
            raise FornixError(f"{where}: {needed} does not exist; fornix run writes it")
    with warnings.catch_warnings():
        # What is odd about the scan was said when it was made.
        warnings.simplefilter("ignore", FornixWarning)
        dwi = load(scan)
        return estimate_noise(dwi.with_(mask=read_mask(mask, dwi)))


def richest_site(table: ScanTable) -> str:
    """The site whose protocol has the most shells, and of those the most volumes.

    Args:
        table: Of the study; rows are folders of `fornix run`.
    """
    best = max(
        range(len(table)),
        key=lambda i: (len(_protocol(table, i).shells), len(_protocol(table, i)), table.sites[i]),
    )
    return table.sites[best]


def study_features(table: ScanTable) -> tuple[Feature, ...]:
    """Every order at every shell of the study."""
    return features_of([_protocol(table, i) for i in range(len(table))])


def _protocol(table: ScanTable, row: int) -> Gradients:
    stem, _ = of_folder(table.paths[row], table.where(row))
    path = table.paths[row] / derivative(stem, "dwi", desc="preproc", extension="")
    # Directions are not looked at: any affine will do.
    return read_fsl(
        path.with_name(path.name + ".bval"), path.with_name(path.name + ".bvec"), np.eye(4)
    )


def read_features(
    table: ScanTable, features: Sequence[Feature], reference: str, known: Collection[str] = (),
    wanted: Lattice | None = None,
) -> tuple[dict[str, Measurements], Lattice]:  # fmt: skip
    """Log energies of all rows on one coarse grid of the template; NaN where a protocol does not tell.

    Args:
        table: Of the study; rows are folders of `fornix run`.
        features: Orders and b-values.
        reference: Site whose scans are asked for all of them, by the encoder between its shells.
        known: Sites whose own shells are among the features; others are asked between theirs too. All if
            empty.
        wanted: The grid that rows must lie on.
    """
    rows: list[dict[str, Array]] = []
    lattice = wanted
    for row, path in enumerate(table.paths):
        where = table.where(row)
        dwi = read_scan(path, where)
        _, warp = of_folder(path, where)
        point_map, fine = load_point_map(warp)
        coarse = fine.with_spacing(SPACING)
        if lattice is not None and (
            coarse.shape != lattice.shape
            or not np.allclose(coarse.affine, lattice.affine, atol=1e-3)
        ):
            raise FornixError(
                f"{where}: its template's grid is not that of the others; bring all scans to one template "
                "(fornix register)"
            )
        lattice = lattice or coarse
        own = Lattice(dwi.affine, dwi.grid)
        share = warp_image(dwi.brain().astype(np.float32), own, lattice, point_map)
        made = {}
        site = table.sites[row]
        between = site == reference or bool(known and site not in known)
        for feature, energy in energies(dwi, told_by(dwi.gradients, features, between)).items():
            carried = warp_image(np.nan_to_num(energy), own, lattice, point_map)
            there = (share > _INSIDE) & (carried > 0)
            made[feature_name(feature)] = np.where(
                there,
                np.log(
                    carried / np.maximum(share, _INSIDE), where=there, out=np.zeros_like(carried)
                ),
                np.nan,
            )
        rows.append(made)
    assert lattice is not None
    return {n: _stacked(table, n, rows) for n in dict.fromkeys(n for r in rows for n in r)}, lattice


def _stacked(table: ScanTable, name: str, rows: list[dict[str, Array]]) -> Measurements:
    empty = np.full(next(iter(rows[0].values())).shape, np.nan, np.float32)
    flat = np.stack([r.get(name, empty).reshape(-1) for r in rows]).astype(float)
    # Of the scans whose protocol tells this feature at all.
    able = np.array([name in r for r in rows])
    there = np.flatnonzero(np.isfinite(flat[able]).mean(0) >= _SHARE)
    if not len(there):
        raise FornixError(f"no place of {name} is in {_SHARE:.0%} of the scans; do they overlap?")
    return Measurements(
        tuple(table.heads), ("voxels",) * len(there), there, flat[:, there], map=name
    )


def feature_of(name: str) -> Feature:
    """Order and b of a feature's name."""
    order, b = name.removeprefix("rish_l").split("b")
    return int(order), int(b)


def log_scales(model: Harmonization, site: str) -> dict[Feature, Array]:
    """Log factors of a site's signal on the model's grid, smooth, 0 where nothing is known.

    Args:
        model: Of features.
        site: A site that it knows.
    """
    assert model.lattice is not None
    out = {}
    for name, one in model.maps.items():
        combat = one.combat
        # Energies go with the square of the signal.
        shift = -0.5 * combat.sigma * combat.gamma[combat.sites.index(site)]
        if not shift.any():  # the site's protocol has no such shell, or it is the reference
            continue
        grid = np.zeros(int(np.prod(model.lattice.shape)), np.float32)
        there = np.zeros_like(grid)
        grid[one.nodes], there[one.nodes] = shift, 1
        out[feature_of(name)] = smoothed(
            grid.reshape(model.lattice.shape), there.reshape(model.lattice.shape), model.lattice
        )
    return out


def smoothed(values: Array, there: Array, lattice: Lattice) -> Array:
    """Values smoothed among the places that have one; beyond them they fade out.

    Args:
        values: (X, Y, Z), 0 where there is none.
        there: (X, Y, Z) 1 where there is one.
        lattice: Their grid.
    """
    sigma = _SMOOTH / 2.3548 / lattice.spacing
    both = blurred(torch.from_numpy(np.stack([values * there, there])), sigma).numpy()
    # Half a place's worth of neighbours is enough to be believed whole.
    return np.asarray(both[0] / np.maximum(both[1], 0.25), np.float32)


def harmonized_scan(
    path: Path, where: str, scales: Mapping[Feature, Array], lattice: Lattice
) -> DWI:
    """The scan of a row with its signal scaled.

    Args:
        path: A folder of `fornix run`.
        where: The row, for messages.
        scales: Of its site, from `log_scales`.
        lattice: Their grid.
    """
    dwi = read_scan(path, where)
    stem, warp = of_folder(path, where)
    template = warp.name.split("_to-")[1].split("_")[0]
    back = path / warp_name(stem, template, "dwi")
    if not back.exists():
        raise FornixError(f"{where}: {back} does not exist; fornix register writes it")
    point_map, _ = load_point_map(back)
    own = Lattice(dwi.affine, dwi.grid)
    carried = {f: warp_image(v, lattice, own, point_map) for f, v in scales.items()}
    return rescaled(dwi, carried)
