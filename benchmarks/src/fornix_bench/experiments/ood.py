"""`fornix experiment ood`: does the score rise where the error does?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from fornix.core.compute import use_threads
from fornix.physics.protocol import scheme
from fornix_bench.experiments import ood_figures as figures
from fornix_bench.experiments import ood_simulated as simulated
from fornix_bench.experiments.ood_real import Picture, scans, score_scan
from fornix_bench.experiments.page import Page, Table, percent, write
from fornix_bench.experiments.shipped import shipped
from fornix_bench.experiments.training import Tell
from fornix_bench.suites.microstructure.accuracy import two_shells
from fornix_bench.suites.microstructure.populations import Block, anatomical, exchanging
from fornix_bench.table import Row

AUROC_GOAL = 0.9
#: A kind with more than this share outside its 99% interval should be told by the score.
MISSED = 0.1


@dataclass(frozen=True)
class OODConfig:
    """How much is scored. real: scans at most, None is all; slices: of each."""

    block: Block = (32, 36, 14)
    voxel_size: float = 2.5
    snr: float = 20.0
    protocols: tuple[str, ...] = ("30", "6+12")
    real: int | None = None
    slices: int = 10


QUICK = OODConfig(block=(16, 18, 6), voxel_size=5.0, protocols=("30",), real=1, slices=2)


def run_ood(
    out: str | Path = "docs/experiments",
    threads: int = 2,
    quick: bool = False,
    seed: int = 0,
    size: OODConfig | None = None,
    tell: Tell = print,
) -> list[Row]:
    """Score simulated and real voxels by the shipped estimator; ood.csv, .md and ood_*.png.

    Real scans are read from FORNIX_TEST_DATA or ../shared/data, and left out where they are not there.
    Raises FornixError where no weights ship.
    """
    wanted = size or (QUICK if quick else OODConfig())
    method = shipped()[0]
    folder = Path(out)
    folder.mkdir(parents=True, exist_ok=True)
    known = {"30": scheme("dti30"), "6+12": two_shells(6, 12)}
    rows: list[Row] = []
    pictures: list[Picture] = []
    kinds: list[simulated.Group] = []
    with use_threads(threads):
        population = anatomical(wanted.block, 960 + seed, wanted.voxel_size, 10)
        other = exchanging(wanted.block, 961 + seed, wanted.voxel_size)
        for label in wanted.protocols:
            about: Row = {"protocol": label, "method": method}
            found = simulated.groups(population, other, known[label], method, wanted.snr, seed)
            kinds = kinds or found
            rows += simulated.rows_of(found, about) + simulated.binned(found, about)
            rows += [simulated.wrong(found, about, floor) for floor in (False, True)]
        tell(f"simulated: {len(rows)} rows")
        for path in scans()[: wanted.real]:
            made, picture = score_scan(path, method, wanted.slices)
            rows += made
            if picture is not None:
                pictures.append(picture)
            tell(f"{path.parent.name}: {len(made)} rows")
    figures.scores(folder / "ood_scores.png", kinds)
    figures.errors(folder / "ood_errors.png", rows)
    if pictures:
        figures.maps(folder / "ood_maps.png", pictures)
    write(folder, _page(rows, wanted, method, bool(pictures)), threads, seed, quick)
    return rows


def _page(rows: list[Row], wanted: OODConfig, method: str, real: bool) -> Page:
    parts = {s: [r for r in rows if r["section"] == s]
             for s in ("kind", "bin", "error", "real", "real bin")}  # fmt: skip
    setting = (
        f"The shipped estimator `{method}`; its score tells how unusual a voxel is to the training "
        "population, as −log10 p: 2 means one trained voxel in a hundred is as unusual, 3 one in a thousand, "
        "from where on the classical fit stands in. Simulated: population `anatomy` of `fornix bench "
        f"microstructure` (lesions, off the training's tissue model) at SNR {wanted.snr:g} with Rician "
        "noise, then with noise never trained on, a wrong noise level, axons with exchange, artefacts "
        "and tissue that no brain has; protocols of 30 directions at b = 1000 and of 6 + 12 at 1000 and "
        "2000 s/mm². `auroc`: the kind's voxels against the first row's. `outside 99%`: voxels whose FA "
        "or MD lies outside its 99% interval (1% are expected). Real scans: `unseen` is the error of the "
        "directions that were not used when the tensor is estimated from every second one, in units of "
        "the noise (1 is the floor; the kurtosis of b above 1000 raises it everywhere), `unseen_wls` "
        "that of WLS."
    )
    score = ("mean score", "above 2", "above 3")
    errors = ("fa_rmse", "fa_std", "md_rmse", "md_std", "outside 99%")
    tables = [
        Table("Kinds of voxels", parts["kind"], ("protocol", "kind", "n", *score, *errors, "auroc")),
        Table(f"Error by score, kinds with truth but for {simulated.FLOOR}", parts["bin"],
              ("protocol", "score", "n", *errors)),
        Table("Score against error", parts["error"],
              ("protocol", "pool", "n", "outside 99%", "auroc", "spearman with |FA error|")),
    ]  # fmt: skip
    shown = [
        ("ood_scores.png", "Distribution of the score by kind of voxel (box: middle half, line: 5 to "
         "95%)"),
        ("ood_errors.png", "Error by score: simulated FA with its standard deviation, and unseen "
         "measurements of real scans"),
    ]  # fmt: skip
    if real:
        tables.append(Table("Real scans", parts["real"], (
            "scan", "vendor", "volumes", "n", *score, "unseen", "unseen_wls", "spearman")))  # fmt: skip
        tables.append(Table("Real scans, unseen measurements by score", parts["real bin"],
                            ("scan", "score", "n", "unseen", "unseen_wls")))  # fmt: skip
        shown.append(("ood_maps.png", "Real scans: mean b0, FA and score of one slice"))
    return Page(
        "ood", "Does the score rise where the error does?",
        "Lesions, artefacts, other noise, unusual tissue, other vendors: does the out-of-distribution "
        "score tell where estimates go wrong?",
        setting, rows, tables, shown, _seen(parts, real),
    )  # fmt: skip


def _seen(parts: dict[str, list[Row]], real: bool) -> list[str]:
    made = []
    for protocol in dict.fromkeys(r["protocol"] for r in parts["kind"]):
        kinds = [r for r in parts["kind"] if r["protocol"] == protocol]
        ranked = sorted((r for r in kinds if "auroc" in r), key=lambda r: -r["auroc"])
        good = [f"{r['kind']} ({r['auroc']:.2f})" for r in ranked if r["auroc"] >= AUROC_GOAL]
        rest = [f"{r['kind']} ({r['auroc']:.2f})" for r in ranked if r["auroc"] < AUROC_GOAL]
        made.append(
            f"{protocol} directions: told from ordinary voxels with AUROC of at least {AUROC_GOAL:g}: "
            f"{', '.join(good) or 'none'}; below: {', '.join(rest) or 'none'}."
        )
        missed = [
            f"{r['kind']} ({r['outside 99%']:.0%} outside, AUROC {r['auroc']:.2f})"
            for r in ranked if r.get("outside 99%", 0) > MISSED and r["auroc"] < AUROC_GOAL
        ]  # fmt: skip
        made.append(
            f"{protocol} directions: kinds of which over {MISSED:.0%} lie outside their 99% interval and "
            f"that the score does not tell: {', '.join(missed) or 'none'}."
        )
        bins = [r for r in parts["bin"] if r["protocol"] == protocol]
        if len(bins) > 1:
            low, high = bins[0], bins[-1]
            made.append(
                f"{protocol} directions: FA's RMSE is {low['fa_rmse']:.3f} where the score is "
                f"{low['score']} and {high['fa_rmse']:.3f} where it is {high['score']}; "
                f"{low['outside 99%']:.1%} and {high['outside 99%']:.1%} of the voxels lie outside their "
                f"99% interval. {_rising([r['outside 99%'] for r in bins])}"
            )
    for row in parts["error"]:
        made.append(
            f"{row['protocol']} directions, {row['pool']}: voxels outside their 99% interval are told by "
            f"the score with AUROC {row['auroc']:.2f} (goal {AUROC_GOAL:g}); rank correlation with FA error "
            f"{row['spearman with |FA error|']:.2f}."
        )
    if real:
        scored = [r for r in parts["real"] if "unseen" in r]
        high = max(parts["real"], key=lambda r: r["above 3"])
        low = min(parts["real"], key=lambda r: r["above 3"])
        made.append(
            f"Real scans: from {low['above 3']:.1%} ({low['scan']}) to {high['above 3']:.1%} "
            f"({high['scan']}) of the voxels score above 3."
        )
        rising = [r["scan"] for r in scored if r["spearman"] > 0]
        if scored:
            made.append(
                f"In {len(rising)} of {len(scored)} real scans the error of unseen measurements rises with "
                "the score (rank correlation from "
                f"{min(r['spearman'] for r in scored):.2f} to {max(r['spearman'] for r in scored):.2f})."
            )
            better = sum(r["unseen"] <= r["unseen_wls"] for r in scored)
            ratio = sum(r["unseen"] / r["unseen_wls"] for r in scored) / len(scored)
            made.append(
                f"Unseen measurements are predicted at least as well as by WLS in {better} of "
                f"{len(scored)} scans, on average {percent(ratio, 1.0)} WLS's error."
            )
    return made


def _rising(values: Sequence[float]) -> str:
    steps = [b >= a for a, b in pairwise(values)]
    if all(steps):
        return "That share rises from bin to bin."
    return f"That share rises in {sum(steps)} of {len(steps)} steps from bin to bin."
