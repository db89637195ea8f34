"""What the card of the tract network's weights says."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from fornix.training.model_card import log_table, on_cpu

LIMITS = """\
* All heads are deformed, aged, lesioned copies of one person, with cavities and masses in part of them: what
  real people's tracts differ by beyond that, it has not seen.
* It weighs what the atlas holds possible: a tract pushed out of its usual place by more than the
  registration follows is not found there.
* Beyond a cavity a tract's fibres were left as they were: real ones degenerate.
* Tracts that it was not trained on (those of the atlas hcp1065) are judged by what all tracts share, with the
  atlas having three quarters of the say: there it is no better than the atlas, but claims no cavities.
* Not a medical device."""


def blocks_of_card(
    recipe: Mapping[str, Any], log: Sequence[Mapping[str, float]], minutes: float
) -> list[str]:
    """The card's blocks, from the command that made it to its limits.

    Args:
        recipe: Heads, steps, seed.
        log: Losses by fold.
        minutes: That the last run took.
    """
    return [
        "## Made by",
        f"    fornix train {recipe['name']} --anatomy ANATOMY",
        f"where ANATOMY holds the 72 bundles; {recipe['steps']:,} steps in all, {on_cpu(minutes)}.",
        "## Data",
        f"Simulated only: {recipe['heads']} heads, deformed, aged and lesioned at random, a third of them "
        "with a cavity, a quarter with a mass that pushes, replaces or infiltrates; each scanned with a "
        "usual or a random protocol at an SNR of 12 to 35 and registered to the template. The person's "
        "72 bundles are those of one adult in tractseg_edu (Wasserthal; Apache-2.0), as in the atlas "
        "tracts72.",
        "## Recipe",
        f"```json\n{json.dumps(dict(recipe), indent=2)}\n```",
        "## Training log",
        "Cross entropy per voxel, nats. Each fold's heads are left out of its training; thresholds and "
        "errors of volume come from them, and the network that ships learned from all heads.",
        log_table(log),
        "Figures on other heads: docs/benchmarks/segmentation.md.",
        "## Limits",
        LIMITS,
    ]
