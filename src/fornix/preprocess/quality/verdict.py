"""Accept, look or reject, with the reasons."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Limit:
    """One measure's limits.

    Attributes:
        measure: Its name in the summary.
        look: From here on a person should look at the scan.
        reject: From here on results are not worth having.
        text: What is said, with `{value}`.
    """

    measure: str
    look: float
    reject: float
    text: str

    def score(self, value: float) -> float:
        """0 is perfect, 1 at `look`, 2 at `reject`, on a logarithmic scale."""
        if not np.isfinite(value):
            return 0.0
        rising = self.reject > self.look
        share = np.log(max(value, 1e-6) / self.look) / np.log(self.reject / self.look)
        if not rising and value <= 0:
            return 3.0
        return float(np.clip(1 + share, 0, 3))


#: In the order in which reasons are told.
LIMITS = (
    Limit("qc_outliers_tot", 3.0, 15.0, "{value:.1f}% of the slices lost or gained signal"),
    Limit("spikes_tot", 1.0, 10.0, "{value:.1f}% of the slices hold a spike in k-space"),
    Limit(
        "volumes_lost", 5.0, 35.0, "{value:.0f}% of the volumes lost signal in most of their slices"
    ),
    Limit("fd_mean", 1.0, 4.0, "the head moved by {value:.1f} mm from volume to volume (mean)"),
    Limit("snr_b0", 10.0, 4.0, "the b0s' signal is {value:.1f} times the noise"),
    Limit("gsr", 0.05, 0.2, "a ghost of {value:.0%} of the brain's signal"),
)


@dataclass(frozen=True)
class Verdict:
    """What to do with a scan.

    Attributes:
        word: `accept`, `look` or `reject`.
        score: The worst measure's: below 1 accept, from 2 on reject.
        reasons: One line each, worst first; empty for a scan that is accepted.
    """

    word: str
    score: float
    reasons: tuple[str, ...]


def verdict_of(
    summary: Mapping[str, object], wrong: Sequence[str] = (), doubts: Sequence[str] = ()
) -> Verdict:
    """The verdict on a summary of measures.

    Args:
        summary: Measures by name; those that are missing or not finite say nothing.
        wrong: What makes results wrong whatever the measures say, such as a wrong gradient table.
        doubts: What someone should look at.
    """
    found = []
    for limit in LIMITS:
        value = summary.get(limit.measure)
        if isinstance(value, (int, float)):
            found.append((limit.score(value), limit.text.format(value=value)))
    found += [(2.0, text) for text in wrong] + [(1.0, text) for text in doubts]
    found.sort(key=lambda pair: -pair[0])
    worst = found[0][0] if found else 0.0
    word = "accept" if worst < 1 else "look" if worst < 2 else "reject"
    return Verdict(word, round(worst, 3), tuple(text for score, text in found if score >= 1))
