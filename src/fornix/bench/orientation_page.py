"""The page and the plot of `fornix bench orientation`."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from fornix.bench.table import Row, environment, markdown, show, write_page

_BEST = (
    "method", "threshold", "sum", "missed", "spurious", "right_count", "spurious_gm", "spurious_csf",
    "voxels_per_s",
)  # fmt: skip
_ANGLES = (
    "method", "error_1", "error_30_45", "error_45_60", "error_60_90", "error_45_90",
    "resolved_30_45", "resolved_45_60", "resolved_60_90", "in_cone",
)  # fmt: skip


def write(folder: Path, rows: list[Row], voxels: int, threads: int, seed: int) -> Path:
    """orientation.md and orientation.png."""
    _plot(folder / "orientation.png", rows)
    best = [r for r in rows if r["section"] == "best"]
    blocks = [
        environment(threads, seed),
        f"Made by `fornix bench orientation`: {voxels:,} simulated voxels per protocol, Rician noise "
        "of SNR 20: one fibre (25%), two at 20 to 90° (42%), three (8%), grey matter (15%) and water "
        "(10%), all of other parameters than the networks were trained on. Deconvolutions share their "
        "responses, taken from the scan; MRtrix3 is timed with reading and writing. A tenth of the "
        "training's scans are of named schemes, turned at random, and those here at b=1000 and ukb are "
        "among them; 60 at b=2500 is not.",
        "## At a glance",
        "The network against the best deconvolution, each at the threshold where its sum of missed and "
        "spurious peaks is least. `resolved` at the network's threshold of the same spurious rate as "
        "that peer or less. Ratios below 1 are the network's; `auto` stays with deconvolution.",
        markdown(glance(rows)),
        "![missed against spurious peaks](orientation.png)",
    ]
    for protocol in dict.fromkeys(r["protocol"] for r in best):
        here = [r for r in best if r["protocol"] == protocol]
        blocks += [f"## {protocol}", markdown(here, _BEST), markdown(here, _ANGLES)]
    blocks += [
        "`missed`, `spurious`: peaks per voxel of white matter (matched within 45°); `right_count`: "
        "share of white-matter voxels with the right number; `spurious_gm`, `spurious_csf`: peaks per "
        "voxel of grey matter and water, where there is no fibre, at the same threshold. `error_…`: "
        "mean angle of matched peaks in degrees, of one fibre and of two at 30 to 45° and so on. "
        "`resolved_…`: share of crossings of two with both axes found within 20°. `in_cone`: share of "
        "true axes (within 25°) in the 95% cone.",
    ]
    skipped = [r for r in rows if r["section"] == "skipped"]
    blocks += [f"Skipped: {r['protocol']}, {r['method']}: {r['why']}" for r in skipped]
    return write_page(folder / "orientation.md", "Fibre orientations", blocks)


def glance(rows: list[Row]) -> list[Row]:
    """One line per protocol: the network over the best peer."""
    made = []
    for protocol in dict.fromkeys(r["protocol"] for r in rows):
        here = [r for r in rows if r["protocol"] == protocol]
        best = [r for r in here if r["section"] == "best"]
        ours = next(r for r in best if r["method"] == "learned")
        peer = min((r for r in best if r["method"] != "learned"), key=lambda r: float(r["sum"]))
        curve = [r for r in here if r["section"] == "curve" and r["method"] == "learned"]
        # Where no threshold is as strict, the strictest.
        alike = [r for r in curve if r["spurious"] <= peer["spurious"]] or curve[:1]
        resolved = max(float(r["resolved_30_45"]) for r in alike)
        made.append({
            "protocol": protocol,
            "best peer": peer["method"],
            "missed + spurious": f"{show(ours['sum'])} / {show(peer['sum'])}",
            "ratio": float(ours["sum"]) / float(peer["sum"]),
            "error 45-90°": f"{show(ours['error_45_90'])} / {show(peer['error_45_90'])}",
            "error ratio": float(ours["error_45_90"]) / float(peer["error_45_90"]),
            "30-45° resolved": f"{show(resolved)} / {show(peer['resolved_30_45'])}",
        })  # fmt: skip
    return made


def _plot(path: Path, rows: list[Row]) -> None:
    from matplotlib.figure import Figure

    curve = [r for r in rows if r["section"] == "curve"]
    protocols = list(dict.fromkeys(r["protocol"] for r in curve))
    figure = Figure(figsize=(3.4 * len(protocols), 3.4), layout="constrained")
    axes = np.atleast_1d(figure.subplots(1, len(protocols), sharey=True))
    for ax, protocol in zip(axes, protocols):
        here = [r for r in curve if r["protocol"] == protocol]
        for method in dict.fromkeys(r["method"] for r in here):
            points = sorted((r["spurious"], r["missed"]) for r in here if r["method"] == method)
            # The lower envelope: what the best choice of thresholds gives.
            x, y = np.array(points).T
            y = np.minimum.accumulate(y)
            ax.step(x, y, where="post", lw=2.2 if method == "learned" else 1.0, label=method)
        ax.set(title=protocol, xlabel="spurious per voxel", xlim=(0, 1.2))
    axes[0].set_ylabel("missed per voxel")
    axes[0].legend(fontsize=7)
    figure.savefig(path, dpi=110)
