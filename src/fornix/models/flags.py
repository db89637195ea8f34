"""What became of a voxel: the bits of `Fit.flags`, and how they are told to the user."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

BAD_DATA = 1  # NaN or inf among the signals
EMPTY = 2  # no positive signal at all
NON_PHYSICAL = 4  # the unconstrained solution lies outside the physical range
NOT_CONVERGED = 8  # iterations ended before the estimate settled; it is given all the same
SINGULAR = 16  # this voxel's signals do not determine the parameters; nothing is given
TOO_FEW = 32  # fewer positive signals than parameters; fitted with the others raised a little
OUT_OF_DISTRIBUTION = (
    64  # unlike anything the network was trained on; told by `estimators.ood_note`
)

#: Share of the voxels of good scans that meet with something.
_USUAL = 5e-4

MEANING = {
    BAD_DATA: "hold NaN or inf and were left out (0 in the maps)",
    EMPTY: "hold no positive signal and were left out (0 in the maps)",
    NON_PHYSICAL: "have an unconstrained solution outside the physical range; not trusted",
    NOT_CONVERGED: "did not settle; not trusted",
    SINGULAR: "do not determine the parameters and were left out (0 in the maps)",
    TOO_FEW: "have fewer positive signals than the model has parameters; not trusted",
}


def notes(model: str, flags: NDArray[np.uint8], std_missing: bool = False) -> list[str]:
    """One line per thing that happened to more voxels of a fit than is usual, the most frequent first.

    The trust mask holds them all; a handful of a hundred thousand is not worth a user's look.
    """
    counts = {bit: int(((flags & bit) > 0).sum()) for bit in MEANING}
    lines = [
        f"{model}: {count} of {len(flags)} voxels {MEANING[bit]}"
        for bit, count in sorted(counts.items(), key=lambda item: -item[1])
        if count > (0 if bit & (BAD_DATA | EMPTY) else _USUAL * len(flags))
    ]
    if std_missing:
        lines.append(
            f"{model}: no standard deviations: this protocol leaves no residuals to tell the noise "
            "from; give sigma"
        )
    return lines


def merged(lines: list[str], models: list[str]) -> list[str]:
    """Lines of `notes` that say the same of several models as one, in the order of the first."""
    found: dict[str, list[str]] = {}
    for line in lines:
        model, _, text = line.partition(": ")
        found.setdefault(text if model in models else line, []).append(model)
    return [
        f"{', '.join(dict.fromkeys(of))}: {text}" if of[0] in models else text
        for text, of in found.items()
    ]
