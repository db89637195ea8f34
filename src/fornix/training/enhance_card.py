"""What the card of the enhancement network's weights says."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from fornix.training.model_card import write_card
from fornix.training.recipes import Recipe
from fornix.training.trainer import Trained

#: What the recipe does not say of the weights that ship.
HISTORY = """\
In that run measured voxels were mixed without deconvolution or denoising; what it learned of a voxel's
features was kept, and the part that gives weights began anew."""

SUBJECT = """\
heads made of the 72 bundles of one adult in tractseg_edu (Wasserthal; Apache-2.0), and the built-in head
(ICBM 2009 maps as nilearn packages them, BSD-3-Clause)"""
BUILT_IN = "variations of the built-in head (ICBM 2009 maps as nilearn packages them, BSD-3-Clause)"

DATA = """\
deformed, sharpened, aged and lesioned at random. Pieces are measured in voxels 1 to 3 times as large along
each axis, with slice profiles, truncated k-space, partial Fourier and Rician noise of an SNR of 8 to 80, with
one or two shells of 6 to 30 directions at b = 700 to 3400; they are denoised and deconvolved as scans are."""

LIMITS = """\
* It learned from simulated heads in voxels of 1.25 mm (1.5 mm the built-in one): detail below that it has
  not seen, and small voxels much below 1 mm are beyond it.
* All but one of the heads are deformed, aged, lesioned copies of one person's fibres, in tissue maps that
  were interpolated and sharpened: folds of a real cortex are sharper and more varied.
* Outside of the brain there was nothing in training: at the brain's border it is less sure than it says.
* Motion, distortion, ringing that was removed and interpolation by the scanner change a voxel's profile; it
  knows slices, truncated k-space, boxes and partial Fourier.
* Not a medical device."""


@dataclass(frozen=True)
class HeldOut:
    """Errors on heads never trained on, over the signal of white matter at b = 0.

    Attributes:
        kind: `b0` or `weighted`.
        error: Root mean square.
        without: That of deconvolution without the network.
        scale: Factor of the network's standard deviation that the calibration found.
        inside: Shares of errors within the 50, 80, 90 and 95% intervals.
    """

    kind: str
    error: float
    without: float
    scale: float
    inside: list[float]


def write_enhance_card(
    path: Path, made: Recipe, trained: Trained, earlier: Sequence[str], log: Path, rows: Sequence[HeldOut],
    heads: int, subject: bool,
) -> None:  # fmt: skip
    """Write the card beside the weights at `path`; earlier: runs that these went on from."""
    lines = log.read_text().splitlines()
    step = max(1, (len(lines) - 1) // 8)
    shown = [*lines[step:-1:step], lines[-1]]
    table = "\n".join(
        f"| {r.kind} | {r.error:.4f} | {r.without:.4f} | {r.scale:.2f} | "
        + " | ".join(f"{100 * v:.1f}%" for v in r.inside)
        + " |"
        for r in rows
    )
    source = f"{heads - 1} {SUBJECT}" if subject else f"{heads} {BUILT_IN}"
    command = f"fornix train {path.stem}{' --anatomy ANATOMY' if subject else ''}"
    command += f" --steps {made.steps} --finetune" if earlier else ""
    total = trained.steps + sum(int(r.partition(" ")[0].replace(",", "")) for r in earlier)
    blocks = [
        "## Made by",
        f"    {command}",
        *([f"On from {', '.join(earlier)}. {HISTORY}"] if earlier else []),
        f"{total:,} steps in all, {trained.steps:,} in the last run, of one piece of a head each; "
        f"{trained.seconds / 60:.0f} minutes on {trained.device} (one thread trains, one simulates); written "
        f"{time.strftime('%Y-%m-%d')}.",
        "## Data",
        f"Simulated only: {source};\n{DATA}",
        "## Recipe",
        f"```json\n{json.dumps(asdict(made), indent=2)}\n```",
        "## Training log",
        f"| {lines[0].replace(',', ' | ')} |\n|{'---|' * len(lines[0].split(','))}\n"
        + "\n".join(f"| {line.replace(',', ' | ')} |" for line in shown),
        "## On heads never trained on",
        "Root mean square error over white matter at b = 0, that of deconvolution without the network, what "
        "the standard deviation is multiplied by, and how many errors its intervals hold (those heads set "
        "the factor).",
        "| volumes | error | without | factor | 50% | 80% | 90% | 95% |\n|---|---|---|---|---|---|---|---|\n"
        + table,
        "Figures on other heads and another simulator: docs/benchmarks/enhance.md.",
        "## Limits",
        LIMITS,
    ]
    write_card(path, made.about, trained.model, blocks)
