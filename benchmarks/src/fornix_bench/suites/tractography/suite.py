"""`fornix bench tractography`: how right streamlines are, before and after filtering, beside peers.

Phantoms whose heads no network was trained on. Every tracker gets the same scan, mask, tissue, seeds and
lengths and keeps streamlines that end in grey matter; all tractograms are then filtered alike and
scored with Tractometer's measures (`fornix.score`). A peer's cutoff is tuned on the very scans that are
scored, by the mean F1, which favours it.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fornix.core.errors import FornixError
from fornix.core.tractogram import Tractogram
from fornix.estimators.fod import fod
from fornix.physics import from_bundles
from fornix.tractography.filtering.filter import THRESHOLDS, chosen, score_streamlines
from fornix.tractography.scoring.score import INVALID, VALID, Score, score
from fornix.tractography.track import TRACK_METHODS, track
from fornix.training.data.filter_phantoms import PhantomScan, ScanSpec, make_phantom_scan
from fornix.training.tasks.plausibility import auc
from fornix_bench.peers.microstructure import PeerMissing
from fornix_bench.peers.tractography import CUTOFFS, mrtrix_fod, mrtrix_track
from fornix_bench.suites.speed import _writable
from fornix_bench.table import Row, environment, markdown, write_csv, write_page

#: Heads of the benchmark: seeds that neither training nor its validation used.
SCENES = (ScanSpec(900, "dti32", 20, "mild"), ScanSpec(901, "bench96", 20, "mild"))
COUNT, QUICK_COUNT = 4_000, 300
OURS = ("learned", "probabilistic", "deterministic", "ptt")
DIPYS = tuple(n for n in TRACK_METHODS.having("peer") if n != "deterministic-dipy")
#: How streamlines are kept, beside all of them: by thresholds, and the same number of all trackers.
BEST_HALF = "best half"
FILTERS = (*THRESHOLDS, BEST_HALF)
LABELS = {
    "none": "all streamlines", "weight": "kept by weight", "plausibility": "kept by plausibility",
    BEST_HALF: "the most plausible half",
}  # fmt: skip
MEASURES = ("VS", "IS", "NC", "VB", "IB", "OL", "OR", "F1")


def run_tractography(
    out: str | Path = "docs/benchmarks",
    threads: int = 2,
    quick: bool = False,
    seed: int = 0,
    bundles: str | Path | None = None,
) -> list[Row]:
    """Track, filter and score; write tractography.csv, .md and plots into `out`.

    bundles: folder for `from_bundles`; None takes anatomy/bundles72 of FORNIX_TEST_DATA or
    ../shared/data. quick: one scan, few streamlines, large voxels. Returns the rows of the table.

    Raises FornixError where the bundles are not there.
    """
    folder = _writable(out)
    data = Path(os.environ.get("FORNIX_TEST_DATA", "../shared/data"))
    source = data / "anatomy" / "bundles72" if bundles is None else Path(bundles)
    if not source.is_dir():
        raise FornixError(
            f"there are no bundles at {source}; set FORNIX_TEST_DATA or give a folder"
        )
    specs: Sequence[ScanSpec] = SCENES[:1] if quick else SCENES
    count = QUICK_COUNT if quick else COUNT
    rows: list[Row] = []
    skipped: list[str] = []
    curves: dict[str, list[tuple[NDArray[np.float32], NDArray[np.bool_]]]] = {}
    for spec in specs:
        subject = from_bundles(source, seed=spec.seed, voxel_size=4.0 if quick else 2.5)
        phantom = make_phantom_scan(subject, spec, threads=threads)
        name = f"{spec.protocol}, SNR {spec.snr:g}, {spec.artefacts} artefacts"
        for tracker, cutoff, made, seconds in _tracked(phantom, count, seed, threads, skipped):
            about: Row = {"scan": name, "tracker": tracker, "cutoff": cutoff}
            found, scores, true = _rows(phantom, made, about, threads)
            rows += [{**row, "seconds": seconds} for row in found]
            curves.setdefault(tracker, []).append((scores, true))
    write_csv(folder / "tractography.csv", rows)
    shown = best_cutoff(rows)
    _figure(folder / "tractography.png", shown)
    _page(folder, shown, rows, curves, environment(threads, seed), skipped, count)
    return rows


def _tracked(
    phantom: PhantomScan, count: int, seed: int, threads: int, skipped: list[str]
) -> Iterator[tuple[str, float | None, Tractogram, float]]:
    """Tracker, its cutoff, streamlines and seconds; those that cannot run are noted in `skipped`."""
    deconvolved = fod(phantom.dwi, method="msmt", tensor=phantom.maps, threads=threads)
    for method in (*OURS, *DIPYS):
        maps = deconvolved if method in DIPYS else phantom.maps
        run = partial(
            track, phantom.dwi, maps, method=method, count=count, tissue=phantom.tissue, seed=seed,
            threads=threads,
        )  # fmt: skip
        peer = TRACK_METHODS[method].peer
        label = f"{peer or 'Fornix'} {method.removesuffix('-dipy')}"
        yield (label, None, *_timed(run))
    with tempfile.TemporaryDirectory() as temporary:
        place = Path(temporary)
        try:
            mrtrix_fod(phantom, place, threads)
        except PeerMissing as missing:
            skipped.append(str(missing))
            return
        for cutoff in CUTOFFS:
            try:
                made, seconds = _timed(
                    partial(mrtrix_track, phantom, place, cutoff, count, seed, threads)
                )
            except PeerMissing as missing:
                skipped.append(str(missing))
                continue
            label = "MRtrix3 iFOD2" + (", default cutoff" if cutoff is None else ", tuned cutoff")
            yield label, cutoff, made, seconds


def _timed(run: Callable[[], Tractogram]) -> tuple[Tractogram, float]:
    began = time.perf_counter()
    made = run()
    return made, time.perf_counter() - began


def _rows(
    phantom: PhantomScan, made: Tractogram, about: Row, threads: int
) -> tuple[list[Row], NDArray[np.float32], NDArray[np.bool_]]:
    """One row for all streamlines and one for each filter; each one's plausibility, and the truth."""
    judged = score_streamlines(
        made, phantom.dwi, phantom.maps, tissue=phantom.tissue, threads=threads
    )
    before = score(made, phantom.truth, threads=threads)
    true = before.kinds == VALID
    rows = [{**about, "filter": "none", **_measures(before)}]
    for by in FILTERS:
        half = by == BEST_HALF
        scores = judged.per_streamline["plausibility" if half else by]
        kept = np.zeros(len(scores), bool)
        if half:
            kept[chosen(scores, "plausibility", keep=0.5)] = True
        else:
            kept = scores > THRESHOLDS[by]
        after: Row = {}
        if kept.any():
            after = _measures(score(judged.subset(kept), phantom.truth, threads=threads))
        rows.append({**about, "filter": by, **after, **removed(kept, before.kinds, scores)})
    return rows, judged.per_streamline["plausibility"], true


def _measures(found: Score) -> Row:
    values = found.as_dict()
    return {"streamlines": found.count, **{name: values[name] for name in MEASURES}}


def removed(kept: NDArray[np.bool_], kinds: NDArray[np.uint8], scores: NDArray[np.floating]) -> Row:
    """% of false (invalid and no-connection), of invalid, and of true streamlines that are removed."""
    true, invalid = kinds == VALID, kinds == INVALID

    def lost(which: NDArray[np.bool_]) -> float | None:
        return float(100 * (~kept[which]).mean()) if which.any() else None

    return {
        "false_removed": lost(~true),
        "invalid_removed": lost(invalid),
        "true_removed": lost(true),
        "auc": auc(scores, true),
    }


def best_cutoff(rows: Sequence[Row]) -> list[Row]:
    """The rows without those of tuned cutoffs that are not the best of their scan, by F1 unfiltered."""
    kept = []
    for row in rows:
        rivals = [
            r for r in rows
            if r["scan"] == row["scan"] and r["tracker"] == row["tracker"] and r["filter"] == "none"
        ]  # fmt: skip
        best = max(rivals, key=lambda r: r["F1"])
        if row["cutoff"] == best["cutoff"]:
            kept.append(row)
    return kept


def against_peers(rows: Sequence[Row]) -> list[Row]:
    """For each filter, the learned tracker of one scan against the best peer of each measure."""
    made: list[Row] = []
    for kind in dict.fromkeys(r["filter"] for r in rows):
        here = [r for r in rows if r["filter"] == kind and "VS" in r]
        mine = [r for r in here if r["tracker"] == "Fornix learned"]
        peers = [r for r in here if not r["tracker"].startswith("Fornix")]
        if not mine or not peers:
            continue
        most = {m: max(r[m] for r in peers) for m in ("VS", "F1")}
        fewest = min(r["IB"] for r in peers)
        made.append(
            {
                "filter": kind,
                "VS": mine[0]["VS"],
                "VS_more": mine[0]["VS"] - most["VS"],
                "F1": mine[0]["F1"],
                "F1_more": mine[0]["F1"] - most["F1"],
                "IB": mine[0]["IB"],
                "IB_share": mine[0]["IB"] / max(fewest, 1),
            }
        )
    return made


def _figure(path: Path, rows: Sequence[Row]) -> None:
    """VS and F1 of every tracker, unfiltered and filtered, one column of plots per scan."""
    from matplotlib.figure import Figure

    scans = list(dict.fromkeys(r["scan"] for r in rows))
    made = Figure(figsize=(6.4 * len(scans), 5.2), layout="constrained")
    grid = made.subplots(2, len(scans), squeeze=False, sharey="row")
    colours = {
        "none": "#9aa7b3",
        "weight": "#d9a441",
        "plausibility": "#2f6f9f",
        BEST_HALF: "#1c3d5a",
    }
    for column, scan in enumerate(scans):
        here = [r for r in rows if r["scan"] == scan]
        trackers = list(dict.fromkeys(r["tracker"] for r in here))
        for line, measure in enumerate(("VS", "F1")):
            ax = grid[line, column]
            for i, (kind, colour) in enumerate(colours.items()):
                of = {r["tracker"]: r.get(measure, 0.0) for r in here if r["filter"] == kind}
                at = np.arange(len(trackers)) + 0.21 * (i - 1.5)
                label = LABELS[kind]
                ax.bar(at, [of.get(t, 0.0) for t in trackers], 0.2, color=colour, label=label)
            ax.set_ylabel("valid streamlines, %" if measure == "VS" else "F1, mean over bundles")
            ax.set_xticks(np.arange(len(trackers)))
            names = [t.replace(" ", "\n").replace(",", "") for t in trackers]
            ax.set_xticklabels(names if line else [""] * len(names), fontsize=6.5)
            for side in ("top", "right"):
                ax.spines[side].set_visible(False)
        grid[0, column].set_title(scan, fontsize=9)
    handles, labels = grid[0, 0].get_legend_handles_labels()
    made.legend(handles, labels, loc="outside lower center", ncols=4, frameon=False, fontsize=8)
    made.savefig(path, dpi=120)


def _page(
    folder: Path,
    shown: Sequence[Row],
    rows: Sequence[Row],
    curves: dict[str, list[tuple[NDArray[np.float32], NDArray[np.bool_]]]],
    machine: str,
    skipped: Sequence[str],
    count: int,
) -> None:
    columns = ("tracker", "cutoff", "filter", "streamlines", *MEASURES)
    lost = ("tracker", "filter", "false_removed", "invalid_removed", "true_removed", "auc")
    blocks = [
        f"Phantoms of 72 bundles, deformed with seeds never trained on; {count:,} streamlines of each "
        f"tracker, both ends in grey matter, but for the learned one, which ends where it sees the "
        f"end of a fibre. {machine}.",
        "Made by `fornix bench tractography`. VS, IS and NC: valid, invalid and unconnected "
        "streamlines, %; VB, IB: valid and invalid bundles; OL, OR, F1: overlap, overreach and Dice, "
        "means over bundles. Filters: `plausibility` above 0.5, `weight` above 0, and the most "
        "plausible half, which keeps as many of every tracker. Definitions: "
        "`fornix.score`, margins 5 and 2.5 mm. Fornix tracks the FOD of its network, DIPY that of "
        "our deconvolution (msmt), MRtrix3 its own. All get the same mask, tissue, seeds and lengths. "
        "MRtrix3's tuned cutoff is the best of "
        f"{', '.join(f'{c:g}' for c in CUTOFFS if c is not None)} by F1 on the very scan.",
        "![Valid streamlines and F1](tractography.png)",
    ]
    blocks += [f"Skipped: {s}" for s in skipped]
    for scan in dict.fromkeys(r["scan"] for r in shown):
        here = [r for r in shown if r["scan"] == scan]
        filtered = [r for r in here if r["filter"] != "none"]
        blocks += [
            f"## {scan}",
            markdown(here, columns),
            *_goals(here),
            "What filtering removes, % of the false, of the invalid alone and of the true streamlines; "
            "auc: the chance that a true streamline scores above a false one.",
            markdown(filtered, lost),
        ]
    blocks += [
        "## Choosing the threshold of plausibility",
        "All scans together: false removed and true kept, %.",
        markdown(_thresholds(curves)),
        "The heads are deformed from the atlas that the training heads came from, with other seeds: a "
        "bundle that the atlas lacks counts as false in both. Filtering a real scan by plausibility, and "
        "the learned tracker, lean to the atlas's connections.",
    ]
    write_page(folder / "tractography.md", "Tractography", blocks)


def _goals(here: Sequence[Row]) -> list[str]:
    found = against_peers(here)
    if not found:
        return []
    return [
        "The learned tracker against the best peer of each measure (goals: VS_more 15, F1_more 0.10, "
        "IB_share 0.5, the share of the fewest invalid bundles of a peer):",
        markdown(found),
    ]


def _thresholds(
    curves: dict[str, list[tuple[NDArray[np.float32], NDArray[np.bool_]]]],
) -> list[Row]:
    found = []
    for tracker, parts in curves.items():
        scores = np.concatenate([s for s, _ in parts])
        true = np.concatenate([t for _, t in parts])
        row: Row = {"tracker": tracker}
        for t in (0.3, 0.5, 0.7, 0.8):
            gone = 100 * float((scores[~true] <= t).mean()) if (~true).any() else float("nan")
            kept = 100 * float((scores[true] > t).mean()) if true.any() else float("nan")
            row[f"> {t:g}"] = f"{gone:.0f} / {kept:.0f}"
        found.append(row)
    return found
