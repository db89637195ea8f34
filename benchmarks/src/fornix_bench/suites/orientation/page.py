"""The page and the plot of `fornix bench orientation`."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from fornix_bench.table import Row, environment, markdown, show, write_page

OURS = ("learned", "voxelwise")
_BEST = (
    "method", "threshold", "sum", "missed", "spurious", "right_count", "spurious_gm", "spurious_csf",
    "voxels_per_s",
)  # fmt: skip
_ANGLES = (
    "method", "error_1", "error_30_45", "error_45_60", "error_60_90", "error_45_90",
    "resolved_30_45", "resolved_45_60", "resolved_60_90", "in_cone",
)  # fmt: skip
_ISBI = ("protocol", "method", "threshold", "sum", "missed", "spurious", "right_count", "error")
_REAL = (
    "method", "angular_correlation", "correlation_median", "peaks_wm", "spurious_gm", "spurious_csf",
    "voxels",
)  # fmt: skip
_ABOUT = {
    "voxels": "## Single voxels\n\nOne fibre (25%), two at 20 to 90° (42%), three (8%), grey matter (15%), "
    "and water (10%), Rician noise of SNR 20, all of other parameters than the networks were trained on. "
    "A tenth of the training's scans are of named schemes, turned at random, and those here at b=1000 "
    "and ukb are among them; 60 at b=2500 is not.",
    "bundles": "## A head of bundles\n\nA slab of a head whose fibres are 72 bundles "
    "(`physics.from_bundles`), "
    "deformed and thinned by a seed that training never used, Rician noise of SNR 20; white matter of "
    "one to three fibres of at least a tenth of the voxel and ODI 0.45 at most, grey matter and water. "
    "The networks' heads are varied from the same subject, other deformations and no bundles. `learned` "
    "reads neighbours; its speed is that of the whole slab.",
    "isbi2012": "## The isbi2012 phantom\n\nEvery direction count and noise there, b=2000, one to four "
    "fibres per voxel. Responses from the phantom itself. `error`: mean "
    "angle of all matched peaks.",
    "real": "## Real scans\n\n`angular_correlation`: mean over white matter of the angular correlation of "
    "the two "
    "FODs without order 0; `peaks_wm`, `spurious_gm`, `spurious_csf`: peaks per voxel shown by the first "
    "at the thresholds of `fornix fod` in refined white matter, typical grey matter and free water "
    "(Dhollander et al., 2016). A smooth FOD agrees with another more easily.",
}


def write(folder: Path, rows: list[Row], voxels: int, threads: int, seed: int) -> Path:
    """orientation.md and orientation.png."""
    _plot(folder / "orientation.png", [r for r in rows if r["part"] in ("voxels", "bundles")])
    blocks = [
        environment(threads, seed),
        f"Made by `fornix bench orientation`; {voxels:,} voxels per simulated protocol. Deconvolutions "
        "share their responses, taken from the scan, and are of order 8: beyond what 12 or 6 directions "
        "support, but it scores better there than order 4. MRtrix3 is timed with reading and writing. "
        "Its msmt_csd is too slow to be run here; `python -m fornix_bench.suites.orientation.classical` "
        "compares our `msmt` with it. RUMBA is DIPY's, without total variation, its response the median "
        "tensor of the 300 voxels of highest FA, its peaks those of DIPY's own search on its 724 axes.",
        "## At a glance",
        "A network against the best deconvolution, each at the threshold where its sum of missed and "
        "spurious peaks is least. `resolved` at the network's threshold of the same spurious rate as "
        "that peer or less. Ratios below 1 are the network's.",
        markdown(glance(rows)),
        "![missed against spurious peaks](orientation.png)",
    ]
    for part, about in _ABOUT.items():
        here = [r for r in rows if r["part"] == part]
        if here:
            blocks += [about, *_tables(part, here)]
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


def _tables(part: str, rows: list[Row]) -> list[str]:
    if part == "isbi2012":
        return [markdown([r for r in rows if r["section"] == "best"], _ISBI)]
    kind, columns = ("real", [_REAL]) if part == "real" else ("best", [_BEST, _ANGLES])
    made = []
    for protocol in dict.fromkeys(r["protocol"] for r in rows):
        here = [r for r in rows if r["protocol"] == protocol and r["section"] == kind]
        made += [f"### {protocol}", *(markdown(here, names) for names in columns)]
    return made


def glance(rows: list[Row]) -> list[Row]:
    """One line per part, protocol and network: the network over the best peer."""
    made = []
    for part, protocol in dict.fromkeys((r["part"], r["protocol"]) for r in rows):
        here = [r for r in rows if r["part"] == part and r["protocol"] == protocol]
        best = [r for r in here if r["section"] == "best"]
        peers = [r for r in best if r["method"] not in OURS]
        if not peers:
            continue
        peer = min(peers, key=lambda r: float(r["sum"]))
        for ours in (r for r in best if r["method"] in OURS):
            curve = [r for r in here if r["section"] == "curve" and r["method"] == ours["method"]]
            # Where no threshold is as strict, the strictest.
            alike = [r for r in curve if r["spurious"] <= peer["spurious"]] or curve[:1]
            resolved = max(float(r["resolved_30_45"]) for r in alike)
            made.append({
                "part": part,
                "protocol": protocol,
                "method": ours["method"],
                "best peer": peer["method"],
                "missed + spurious": f"{show(ours['sum'])} / {show(peer['sum'])}",
                "ratio": float(ours["sum"]) / float(peer["sum"]),
                "error 45-90°": f"{show(ours['error_45_90'])} / {show(peer['error_45_90'])}",
                "error ratio": float(ours["error_45_90"]) / float(peer["error_45_90"]),
                "30-45° resolved": f"{show(resolved)} / {show(peer['resolved_30_45'])}",
                "right count": f"{show(ours['right_count'])} / {show(peer['right_count'])}",
            })  # fmt: skip
    return made


def _plot(path: Path, rows: list[Row]) -> None:
    from matplotlib.figure import Figure

    curve = [r for r in rows if r["section"] == "curve"]
    parts = list(dict.fromkeys(r["part"] for r in curve))
    protocols = list(dict.fromkeys(r["protocol"] for r in curve))
    size = (3.2 * len(protocols), 3.2 * len(parts))
    figure = Figure(figsize=size, layout="constrained")
    axes = np.array(figure.subplots(len(parts), len(protocols), sharey=True, squeeze=False))
    methods = [*OURS, *sorted({str(r["method"]) for r in curve} - set(OURS))]
    colours = {method: f"C{k}" for k, method in enumerate(methods)}
    for row, part in zip(axes, parts):
        for ax, protocol in zip(row, protocols):
            here = [r for r in curve if r["part"] == part and r["protocol"] == protocol]
            for method in dict.fromkeys(r["method"] for r in here):
                points = sorted((r["spurious"], r["missed"]) for r in here if r["method"] == method)
                # The lower envelope: what the best choice of thresholds gives.
                x, y = np.array(points).T
                style = {"lw": 2.2 if method in OURS else 1.0, "color": colours[method]}
                ax.step(x, np.minimum.accumulate(y), where="post", label=method, **style)
            ax.set(title=f"{part}: {protocol}", xlabel="spurious per voxel", xlim=(0, 1.2))
        row[0].set_ylabel("missed per voxel")
    axes[-1, 0].legend(fontsize=7)
    figure.savefig(path, dpi=90)
