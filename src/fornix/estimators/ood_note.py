"""Where and why voxels are unlike what a network knows, in one line, where it is more than is expected."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from fornix.core.dwi import DWI
from fornix.uncertainty.ood import EVIDENCE

#: Share of healthy voxels that pass the limits by chance, and the share from which it is worth a line.
EXPECTED, WORTH_A_LINE = 0.004, 0.01
#: What each piece of evidence stands for, in the order of `EVIDENCE`; the single volume is named.
_CAUSES = {
    "distance": "tissue unlike the training's",
    "misfit": "noise, misalignment or artefact in many volumes",
    "worst": "single volumes that disagree with the others",
    "residual": "a signal that no simulated tissue has",
}
#: mean diffusivity of fluid, µm²/ms; voxels of the brain's edge.
_FLUID, _EDGE = 1.5, 2


def ood_note(
    dwi: DWI,
    voxels: NDArray[np.int64],
    flagged: NDArray[np.bool_],
    scores: NDArray[np.float32],
    volumes: NDArray[np.int64],
    md: NDArray[np.float32],
    limits: tuple[float, float, float, float],
) -> str:
    """One line on flagged voxels; empty where there are not more than healthy scans have.

    Args:
        dwi: The scan as the network saw it.
        voxels: (n,) flat indices.
        flagged: (n,) which are out of the distribution.
        scores: (n, 4) by `EVIDENCE`.
        volumes: (n,) the volume that the others predict worst.
        md: (n,) mean diffusivity, µm²/ms.
        limits: Scores of the evidence from which a voxel is flagged.
    """
    share = float(flagged.mean())
    if share < WORTH_A_LINE:
        return ""
    brain = np.zeros(dwi.grid, dtype=bool)
    brain.reshape(-1)[voxels] = True
    # The edge of the image is no edge of the brain.
    inner = ndimage.binary_erosion(brain, iterations=_EDGE, border_value=1).reshape(-1)[voxels]
    fluid = inner & (md > _FLUID)
    regions = (("the brain's edge", ~inner), ("fluid", fluid), ("other tissue", inner & ~fluid))
    where = ", ".join(
        f"{100 * flagged[here].mean():.0f}% of {name}" for name, here in regions if here.any()
    )
    cause = (scores[flagged] - np.asarray(limits)).argmax(1)
    counts = np.bincount(cause, minlength=len(EVIDENCE)) / len(cause)
    parts = [
        f"{_CAUSES[EVIDENCE[k]]} ({100 * counts[k]:.0f}%{_named(dwi, volumes[flagged][cause == k], k)})"
        for k in np.argsort(-counts) if counts[k] >= 0.1
    ]  # fmt: skip
    return (
        f"{100 * share:.1f}% of the voxels are out of the network's distribution ({100 * EXPECTED:.1f}% "
        f"expected) and not trusted: {where}; cause: {', '.join(parts)}"
    )


def _named(dwi: DWI, volumes: NDArray[np.int64], evidence: int) -> str:
    """The volumes that stand out among the single ones."""
    if EVIDENCE[evidence] != "worst" or not len(volumes):
        return ""
    count = np.bincount(volumes, minlength=len(dwi.gradients))
    often = [
        v for v in np.argsort(-count)[:3] if count[v] > max(0.1, 4 / len(count)) * len(volumes)
    ]
    numbers = ", ".join(str(dwi.gradients.numbers[v]) for v in often)
    return f", most in volume {numbers}" if often else ""
