"""The card of the policy's weights."""

from __future__ import annotations

import time
from pathlib import Path

from torch import nn

from fornix.io.files import atomic
from fornix.learn import weights

LIMITS = """\
* All heads are deformed from the bundles of one atlas: it tracks what such bundles look like. Short
  association fibres, which the atlas lacks, are mostly given up.
* It has seen the FOD of `fornix.fod` by deconvolution, voxels of 2.5 mm and steps of 1 mm.
* How likely a streamline is to be true was learned where 72 bundles are all there is: on a real scan it
  ranks streamlines, and is no probability.
* Not a medical device."""


def write_card(
    path: Path,
    about: str,
    network: nn.Module,
    scans: int,
    states: int,
    log: list[dict[str, float]],
    minutes: float,
) -> None:
    """Write NAME.md beside the weights at `path`. minutes: that the last run took."""
    count = sum(p.numel() for p in network.parameters())
    table = "\n".join(f"| {' | '.join(f'{v:.4g}' for v in row.values())} |" for row in log)
    lines = [
        f"# Weights `{path.stem}`",
        f"{about[0].upper()}{about[1:]}. {count:,} parameters, {path.stat().st_size / 1e6:.2f} MB, "
        f"sha256 `{weights.manifest(path.parent)[path.stem]}`.",
        "## Made by",
        f"    fornix train {path.stem} --anatomy ANATOMY",
        f"where ANATOMY holds the 72 bundles; seed 0, {minutes:.0f} minutes on CPU in the last run; written "
        f"{time.strftime('%Y-%m-%d')}.",
        "## Data",
        f"Simulated only: {states:,} states on streamlines of {scans} scans of heads made from deformed and "
        "thinned bundles: true streamlines followed with noise, and the policy's own, with the way that "
        "the true streamlines near by go as the answer.",
        "## Training log",
        "Cross entropies in nats: of the turn, of an end, of being true. Held out: a head never trained on.",
        f"| {' | '.join(log[0])} |\n|{'---|' * len(log[0])}\n{table}",
        "Figures on other heads: docs/benchmarks/tractography.md.",
        "## Limits",
        LIMITS,
    ]
    with atomic(path.with_suffix(".md")) as temporary:
        temporary.write_text("\n\n".join(lines) + "\n")
