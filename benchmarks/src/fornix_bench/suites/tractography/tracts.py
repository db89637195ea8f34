"""`fornix bench tracts`: a real scan's tractogram and its large tracts, to be looked at.

`fornix run --track-method learned` on a scan of 32 directions. The tractogram is laid over the atlas of 72
bundles by an affine (DIPY's streamline registration), and a streamline belongs to a tract where it runs
from one of its end regions to the other and stays inside it, all with wide margins.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from fornix.core.errors import FornixError
from fornix.core.tractogram import Tractogram
from fornix.physics import from_bundles
from fornix.pipeline import run
from fornix.report.lines import ABOVE, BEHIND, LEFT, View, draw_lines
from fornix.tractography.scoring.score import VALID, score
from fornix.tractography.scoring.truth import BundleTruth
from fornix.workflow.stages import Options
from fornix_bench.table import Row, environment, markdown, write_csv, write_page

SCAN = "philips-achieva_b1000x32"
#: Tract, its bundles in the atlas, and the side from which it is seen best.
TRACTS: dict[str, tuple[tuple[str, ...], View]] = {
    "corpus callosum": (("CC",), ABOVE),
    "corticospinal": (("CST_left", "CST_right"), BEHIND),
    "cingulum": (("CG_left", "CG_right"), LEFT),
    "arcuate": (("AF_left", "AF_right"), LEFT),
}
#: mm by which a tract's mask and its end regions are widened: one affine fits no two heads closely.
MARGIN, END_MARGIN = 8.0, 10.0
#: Streamlines that are registered, and drawn of a tract and of the whole.
_REGISTERED, _DRAWN, _WHOLE = 4_000, 1_500, 15_000
COUNT, QUICK_COUNT = 100_000, 5_000


def run_tracts(
    out: str | Path = "docs/benchmarks", threads: int = 2, quick: bool = False, seed: int = 0
) -> list[Row]:
    """Write tracts.csv, .md and .png into `out`; quick: fewer streamlines.

    Scan and atlas are read from FORNIX_TEST_DATA or ../shared/data. Returns the number of streamlines of
    every tract. Raises FornixError where the data are not there.
    """
    data = Path(os.environ.get("FORNIX_TEST_DATA", "../shared/data"))
    atlas = data / "anatomy" / "bundles72"
    if not atlas.is_dir() or not (data / "dwi" / SCAN).is_dir():
        raise FornixError(f"no scan {SCAN} or no bundles under {data}; set FORNIX_TEST_DATA")
    folder = Path(out)
    folder.mkdir(parents=True, exist_ok=True)
    count = QUICK_COUNT if quick else COUNT
    with tempfile.TemporaryDirectory() as work:
        options = Options(streamlines=count, track_method="learned", threads=threads, seed=seed)
        made = run(data / "dwi" / SCAN / "dwi.nii.gz", work, options)
        if made.tractogram is None:
            raise FornixError(f"{SCAN} gave no tractogram")
        lines = Tractogram(
            np.array(made.tractogram.points), np.array(made.tractogram.offsets),
            made.tractogram.affine, made.tractogram.grid,
        )  # fmt: skip
    whole = from_bundles(atlas, thin=(1, 1), amplitude=0, voxel_size=2.5)
    truth = BundleTruth.of(whole.bundles, whole.affine)
    model = [line for b in whole.bundles.values() for line in b.streamlines[::20]]
    there = in_atlas(lines, model, truth, seed)
    members = {
        name: np.unique(np.concatenate([_members(there, truth, b) for b in bundles]))
        for name, (bundles, _) in TRACTS.items()
    }
    rows: list[Row] = [
        {"tract": name, "streamlines": len(found), "of": len(lines)}
        for name, found in members.items()
    ]
    write_csv(folder / "tracts.csv", rows)
    _figure(folder / "tracts.png", lines, members, seed)
    blocks = [
        f"`fornix run --track-method learned` on a real scan, {SCAN}: {len(lines):,} streamlines. "
        f"{environment(threads, seed)}.",
        "Made by `fornix bench tracts`. Streamlines of a tract run from one of its end regions to the "
        f"other, {END_MARGIN:g} mm wide of it at most, and stay within {MARGIN:g} mm of its mask in the "
        "atlas, over which the tractogram was laid by an affine. This shows that the tracts are there; "
        "it is no segmentation and no measure of how right they are.",
        "![The tractogram and four large tracts](tracts.png)",
        markdown(rows),
    ]
    write_page(folder / "tracts.md", "Tracts of a real scan", blocks)
    return rows


def in_atlas(lines: Tractogram, model: list[NDArray], truth: BundleTruth, seed: int) -> Tractogram:
    """The streamlines in the atlas's world, by an affine; model: streamlines of the atlas."""
    from dipy.align.streamlinear import whole_brain_slr
    from dipy.tracking.streamline import Streamlines

    rng = np.random.default_rng(seed)
    some = rng.permutation(len(lines))[:_REGISTERED]
    other = rng.permutation(len(model))[:_REGISTERED]
    _, found, _, _ = whole_brain_slr(
        Streamlines(np.asarray(model[i], np.float32) for i in other),
        Streamlines(np.asarray(lines[int(i)], np.float32) for i in some),
        x0="affine", rng=rng, rm_small_clusters=5, verbose=False,
    )  # fmt: skip
    points = lines.points @ found[:3, :3].T + found[:3, 3]
    return Tractogram(points.astype(np.float32), lines.offsets, truth.affine, truth.grid)


def _members(there: Tractogram, truth: BundleTruth, name: str) -> NDArray[np.int64]:
    i = truth.names.index(name)
    one = BundleTruth(
        (name,),
        truth.masks[i : i + 1],
        truth.begins[i : i + 1],
        truth.ends[i : i + 1],
        truth.affine,
    )
    kinds = score(there, one, margin=MARGIN, end_margin=END_MARGIN).kinds
    return np.flatnonzero(kinds == VALID)


def _figure(
    path: Path, lines: Tractogram, members: dict[str, NDArray[np.int64]], seed: int
) -> None:
    rng = np.random.default_rng(seed)
    made = Figure(figsize=(13, 8.6), facecolor="black", layout="constrained")
    grid = made.subplots(2, 3).ravel()
    for ax, view in zip(grid, (ABOVE, LEFT)):
        some = rng.permutation(len(lines))[:_WHOLE]
        draw_lines(ax, lines, some, view, 0.25)
        ax.set_title(f"{len(some):,} of {len(lines):,}, {view.name}", color="white", fontsize=9)
    for ax, (name, found) in zip(grid[2:], members.items()):
        view = TRACTS[name][1]
        draw_lines(ax, lines, rng.permutation(found)[:_DRAWN], view, 0.5)
        ax.set_title(f"{name}, {len(found):,}, {view.name}", color="white", fontsize=9)
    made.savefig(path, dpi=110)
