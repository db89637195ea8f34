"""`fornix bench mosaics`: maps of real scans, the networks' beside the fits', to be looked at."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from fornix.core.compute import use_threads
from fornix.core.dwi import DWI
from fornix.core.errors import FornixError
from fornix.core.maps import Maps
from fornix.estimators.mask import brain_mask
from fornix.estimators.microstructure import microstructure
from fornix.io import load
from fornix.preprocess import estimate_noise
from fornix_bench.table import Row, environment, markdown, write_page

#: Scans that are shown, and why.
SCANS = {
    "philips-achieva_b1000x32": "32 directions at b = 1000",
    "siemens-prisma_b2000x20_run-1": "20 directions at b = 2000",
    "multishell_crop": "a crop with several shells",
    "dsi203_slab": "diffusion spectrum imaging, a slab",
}
#: Map, colour range in file units, of the standard deviation's range the share.
SHOWN = {
    "dti_fa": (0.0, 0.9), "dti_md": (0.0, 2e-3), "dki_mk": (0.0, 1.8),
    "noddi_ndi": (0.0, 1.0), "noddi_odi": (0.0, 1.0), "noddi_fwf": (0.0, 1.0),
}  # fmt: skip
_METHODS = ("classical", "voxelwise", "learned")


def run_mosaics(
    out: str | Path = "docs/benchmarks", threads: int = 2, quick: bool = False, seed: int = 0
) -> list[Row]:
    """Write mosaics.md and a figure per scan into `out`; quick: the first scan only.

    Scans are read from FORNIX_TEST_DATA or ../shared/data. Returns the median of every map.
    """
    data = Path(os.environ.get("FORNIX_TEST_DATA", "../shared/data")) / "dwi"
    found = {name: about for name, about in SCANS.items() if (data / name).is_dir()}
    if not found:
        raise FornixError(f"no real scans under {data}; set FORNIX_TEST_DATA to their folder")
    folder = Path(out)
    folder.mkdir(parents=True, exist_ok=True)
    rows: list[Row] = []
    blocks = [
        "The same slice of real scans by the classical fits and by the networks, each with its standard "
        "deviation on the same scale (a quarter of the map's). Red, green, blue: left-right, "
        "front-back, up-down. There is no truth here: look for what is missing, blurred or invented.",
        environment(threads, seed) + ".",
        "Made by `fornix bench mosaics`.",
    ]
    with use_threads(threads):
        for name, about in list(found.items())[: 1 if quick else None]:
            scan = load(data / name / "dwi.nii.gz")
            dwi = estimate_noise(brain_mask(scan) if scan.grid[2] > 20 else scan)
            rows += _figure(folder / f"mosaic_{name}.png", name, dwi)
            blocks += [f"## {name}: {about}", f"![Maps of {name}](mosaic_{name}.png)"]
    blocks += ["## Medians inside the brain", markdown(rows)]
    write_page(folder / "mosaics.md", "Maps to look at", blocks)
    return rows


def _figure(path: Path, name: str, dwi: DWI) -> list[Row]:
    gives = [m for m, why in dwi.gradients.facts.why_not().items() if not why]
    made = {method: microstructure(dwi, models=gives, method=method) for method in _METHODS}
    shown = [k for k in SHOWN if k.split("_")[0] in gives]
    axis = int(np.argmin(dwi.grid))  # across the thinnest side: slabs are cut in any direction
    others = tuple(a for a in range(3) if a != axis)
    where = int(dwi.brain().sum(axis=others).argmax())
    columns = 1 + 2 * len(shown)
    figure = Figure(figsize=(1.6 * columns, 1.75 * len(_METHODS)), facecolor="black")
    grid = figure.subplots(
        len(_METHODS), columns, squeeze=False,
        gridspec_kw={"wspace": 0.02, "hspace": 0.02, "left": 0.03, "right": 1, "top": 0.93, "bottom": 0},
    )  # fmt: skip
    for row, (method, maps) in zip(grid, made.items(), strict=True):
        _show(row[0], np.take(_colour(maps), where, axis), None)
        row[0].text(-0.08, 0.5, method, color="white", rotation=90, va="center", ha="center",
                    transform=row[0].transAxes, fontsize=9)  # fmt: skip
        for k, key in enumerate(shown):
            low, high = SHOWN[key]
            _show(row[1 + 2 * k], np.take(maps[key].data, where, axis), (low, high))
            std = maps[key].std
            assert std is not None
            _show(row[2 + 2 * k], np.take(std, where, axis), (0, high / 4))
    titles = ["colour FA"] + [t for k in shown for t in (k.split("_")[1].upper(), "std")]
    for ax, title in zip(grid[0], titles, strict=True):
        ax.set_title(title, color="white", fontsize=9)
    figure.savefig(path, dpi=110, facecolor="black")
    inside = dwi.brain()
    return [
        {
            "scan": name, "method": method,
            **{k: float(np.median(maps[k].data[inside])) for k in shown},
            "trusted": float(maps.trust[inside].mean()) if maps.trust is not None else 1.0,
        }
        for method, maps in made.items()
    ]  # fmt: skip


def _colour(maps: Maps) -> NDArray[np.float32]:
    """(X, Y, Z, 3) direction in red, green, blue, as bright as FA."""
    return np.clip(np.abs(maps["dti_v1"].data) * maps["dti_fa"].data[..., None] * 1.2, 0, 1)


def _show(ax: Any, plane: Any, limits: tuple[float, float] | None) -> None:
    turned = np.rot90(plane)
    if limits is None:
        ax.imshow(turned)
    else:
        ax.imshow(turned, cmap="gray", vmin=limits[0], vmax=limits[1])
    ax.set_axis_off()
