"""What the card of the policy's weights says."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from fornix.tractography.learned.policy import NAME
from fornix.training.model_card import log_table, on_cpu

LIMITS = """\
* All subjects are deformed from the bundles of one atlas: it tracks what such bundles look like. Short
  association fibres, which the atlas lacks, are mostly given up.
* It was trained on the FOD of the orientation network (six scans) and of deconvolution (two), voxels of
  2.5 mm and steps of 1 mm.
* How likely a streamline is to be true was learned where 72 bundles are all there is: on a real scan it
  ranks streamlines, and is no probability.
* Not a medical device."""


def blocks_of_card(
    scans: int, states: int, log: Sequence[Mapping[str, float]], minutes: float
) -> list[str]:
    """The card's blocks, from the command that made it to its limits.

    Args:
        scans: That it was trained on.
        states: That it was trained on.
        log: Losses by epoch.
        minutes: That the last run took.
    """
    return [
        "## Made by",
        f"    fornix train {NAME} --anatomy ANATOMY",
        f"where ANATOMY holds the 72 bundles; seed 0, {on_cpu(minutes)}.",
        "## Data",
        f"Simulated only: {states:,} states on streamlines of {scans} scans of subjects made from deformed "
        "and thinned bundles: true streamlines followed with noise, and the policy's own, with the way that "
        "the true streamlines near by go as the answer.",
        "## Training log",
        "Cross entropies in nats: of the turn, of an end, of being true. Held out: a subject never trained "
        "on.",
        log_table(log),
        "Figures on other subjects: docs/benchmarks/tractography.md.",
        "## Limits",
        LIMITS,
    ]
