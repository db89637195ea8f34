"""`fornix bench side`: whether swapped sides are noticed, on real scans as they are and mirrored.

Every scan is read as its header says, and with the header's left and right exchanged, gradients along; masks,
tissues and tensors are made anew. Simulated heads are of one person, and tell what noise does.
"""

from __future__ import annotations

import os
import warnings
from pathlib import Path

import numpy as np
from scipy import special

from fornix.core.compute import use_threads
from fornix.core.dwi import DWI
from fornix.core.gradients import Gradients
from fornix.estimators.mask import brain_mask
from fornix.io import load
from fornix.physics.anatomy.subject import from_subject
from fornix.physics.anatomy.variation import vary
from fornix.physics.phantom import simulate
from fornix.register.scan_features import scan_features
from fornix.register.side import SWAPPED, asymmetry_match
from fornix_bench.table import Row, environment, markdown, write_csv, write_page

#: Scans by head; those of one scanner are taken to be of one person.
SCANS = (
    ("prisma", "siemens-prisma_b2000x20_run-1"), ("prisma", "siemens-prisma_b2000x20_run-2"),
    ("galan, Canon", "canon-galan_b1500x12_dir-PA"), ("galan, Canon", "canon-galan_b1500x12_tilt-all20"),
    ("galan, Toshiba", "toshiba-galan_b1500x12"), ("galan, Toshiba", "toshiba-galan_b1500x12_tilt-all20"),
    ("xa30", "siemens-xa30_b2500x20_dir-PA"), ("xa30", "siemens-xa30_b2500x20_dir-AP"),
    ("umr770", "uih-umr770_b930x16_dir-PA"), ("umr770", "uih-umr770_b930x16_dir-AP"),
    ("achieva", "philips-achieva_b1000x32"), ("elition", "philips-elition_b1000x16"),
)  # fmt: skip
#: Simulated heads and their protocols.
SIMULATED = ((511, "dti6"), (512, "dti6"), (513, "dti12"))


def run_side(
    out: str | Path = "docs/benchmarks", threads: int = 2, quick: bool = False, seed: int = 0
) -> list[Row]:
    """Write side.csv and side.md; quick: one scan."""
    folder = Path(out)
    folder.mkdir(parents=True, exist_ok=True)
    data = Path(os.environ.get("FORNIX_TEST_DATA", "../shared/data"))
    rows: list[Row] = []
    with use_threads(threads), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for head, name in SCANS[:1] if quick else SCANS:
            rows.append(_row(head, name, load(data / "dwi" / name / "dwi.nii.gz")))
        if not quick:
            base = from_subject(data / "anatomy")
            for number, protocol in SIMULATED:
                made = simulate(vary(base, number + seed), protocol, snr=20.0, seed=number + seed)
                rows.append(_row("simulated", f"{number}, {protocol}", made.dwi))
    write_csv(folder / "side.csv", rows)
    write_page(folder / "side.md", "Left and right", _blocks(rows, threads, seed))
    return rows


def _row(head: str, name: str, scan: DWI) -> Row:
    row: Row = {"head": head, "scan": name}
    for word, one in (("as it is", scan), ("swapped", swapped(scan))):
        found = asymmetry_match(scan_features(brain_mask(one)))
        row[word] = float("nan") if found is None else found
    return row


def swapped(scan: DWI) -> DWI:
    """The scan as a header with left and right exchanged would have it, the gradients along."""
    affine = scan.affine.copy()
    affine[0] *= -1
    table = scan.gradients
    across = table.directions * np.array([-1.0, 1, 1])
    return scan.with_(affine=affine, gradients=Gradients(table.bvals, across, table.b0_threshold))


def _blocks(rows: list[Row], threads: int, seed: int) -> list[str]:
    real = [r for r in rows if r["head"] != "simulated"]
    # One scan a head: the first.
    heads = list({r["head"]: r for r in reversed(real)}.values())
    told = [
        f"{environment(threads, seed)}.",
        "Made by `fornix bench side`.",
        "How like the template's a scan's asymmetry is (the sum of two correlations), read as its header "
        f"says and with left and right exchanged. A warning is given below {SWAPPED:g}.",
        markdown([_rates("all real scans", real), _rates("one scan a head", heads)]),
        "AUC: how often a scan as it is has more than a swapped one. `normal, %`: the same of a normal "
        "distribution with the scans' mean and spread, a swapped scan taken as the negative of one. The "
        "limit was chosen on these scans, which are of seven heads at most.",
        markdown(rows),
    ]
    return told


def _rates(name: str, rows: list[Row]) -> Row:
    plain, turned = (np.array([r[w] for r in rows], float) for w in ("as it is", "swapped"))
    plain, turned = (v[np.isfinite(v)] for v in (plain, turned))
    both = np.concatenate([plain, -turned])
    limit = (SWAPPED - both.mean()) / max(both.std(ddof=1), 1e-9)
    up = (-SWAPPED - both.mean()) / max(both.std(ddof=1), 1e-9)
    return {
        "scans": f"{name} ({len(plain)})",
        "AUC": float((plain[:, None] > turned[None]).mean()),
        "noticed, %": 100 * float((turned < SWAPPED).mean()),
        "false alarms, %": 100 * float((plain < SWAPPED).mean()),
        "noticed, normal, %": 100 * (1 - _normal(up)),
        "false alarms, normal, %": 100 * _normal(limit),
    }


def _normal(z: float) -> float:
    """Share of a standard normal below z."""
    return float(special.ndtr(z))
