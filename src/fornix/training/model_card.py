"""The card of a file of weights: what it is for, how it was made, what it cannot do."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from torch import nn

from fornix.io.files import atomic
from fornix.nets import weights


def write_card(path: Path, about: str, network: nn.Module, blocks: Sequence[str]) -> None:
    """Write NAME.md beside the weights at `path`: what they are, then the blocks given, in Markdown."""
    count = sum(p.numel() for p in network.parameters())
    head = (
        f"# Weights `{path.stem}`",
        f"{about[0].upper()}{about[1:]}. {count:,} parameters, {path.stat().st_size / 1e6:.2f} MB, "
        f"sha256 `{weights.manifest(path.parent)[path.stem]}`.",
    )
    with atomic(path.with_suffix(".md")) as temporary:
        temporary.write_text("\n\n".join((*head, *blocks)) + "\n")


def log_table(log: Sequence[Mapping[str, float]]) -> str:
    """The rows of a training log as a Markdown table."""
    rows = "\n".join(f"| {' | '.join(f'{v:.4g}' for v in row.values())} |" for row in log)
    return f"| {' | '.join(log[0])} |\n|{'---|' * len(log[0])}\n{rows}"


def on_cpu(minutes: float) -> str:
    """How long the last run took, and when it was."""
    return f"{minutes:.0f} minutes on CPU in the last run; written {time.strftime('%Y-%m-%d')}"
