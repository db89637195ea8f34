"""What a comparison of a scan's volumes with each other found."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class VolumeFinding:
    """What is odd about some volumes.

    Attributes:
        volumes: Their numbers in the file.
        kind: `no-head`, `b0-level`, `b0-contrast`, `level`, `course`, `no-direction`, `step`, `drift` or
            `moved`.
        text: One line that says what and what helps.
    """

    volumes: tuple[int, ...]
    kind: str
    text: str


def percent(share: float) -> str:
    """`12% darker`, of a share of -0.12."""
    return f"{abs(100 * share):.0f}% {'brighter' if share > 0 else 'darker'}"
