"""What the card of the tissue network's weights says."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from fornix.training.model_card import write_card
from fornix.training.recipes import Recipe
from fornix.training.trainer import Trained

DATA = """\
Synthetic only, endless: label maps of an average head, deformed, with ventricles and sulci of any width,
borders redrawn by noise, skull, scalp, eyes and neck around it, EPI distortion; contrasts of tissue as it
is or of any kind, lesions, bias fields, noise, ghosts, ringing, voxels of 1 to 6.5 mm, cut fields of view,
missing channels. No real scan was seen.

White matter, grey matter and brain: ICBM152 (Fonov et al., NeuroImage 2011), the maps that nilearn
packages (BSD-3-Clause). Deep grey matter and brainstem: the DKT parcellation in MNI152 space as neuroparc
distributes it (Apache-2.0). Texture of anisotropy: the FA template of TractSeg (Apache-2.0)."""

#: What the recipe does not say of the weights that ship; empty once they are trained from nothing again.
HISTORY = """\
In the first 1,500 steps two fifths of the scans had any contrast at all, and full resolution was not
normalised; those blocks began anew then. Within the later steps anisotropy became smaller (from 345 on),
boxes larger and the side's weight 0.3 instead of 0.1 (from step 594 on)."""

LIMITS = """\
* All training heads are deformed from one average of adult heads: infants, large resections and animals are
  unlike them. It is told where an image looks like no head at all, and where the header turns the
  head by more than 45 degrees (`fornix.register.upright`).
* On real scans parts of the scalp count as fluid or grey matter: maps are kept inside of the brain mask.
* It sees the head at 2.5 mm: folds thinner than that are shares of a voxel.
* Hippocampus and amygdala count as cortical grey matter, the brainstem ends at the foramen magnum, and water
  inside of the skull is brain.
* Skull, eyes and neck were built from simple shapes.
* Not a medical device."""


@dataclass(frozen=True)
class Score:
    """Of one class on heads never trained on.

    Attributes:
        name: Of the class.
        dice: 0 to 1.
        said: Mean probability where it is the likeliest class.
        true: Its mean share there.
    """

    name: str
    dice: float
    said: float
    true: float


def write_tissue_card(
    path: Path, made: Recipe, trained: Trained, earlier: Sequence[str], log: Path,
    scores: Sequence[Score], keep: float = 0.0,
) -> None:  # fmt: skip
    """Write the card beside the weights at `path`.

    Args:
        path: Of the weights.
        made: Their recipe.
        trained: The last run.
        earlier: Runs that it went on from.
        log: Of the last run.
        scores: On heads never trained on.
        keep: Share of the weights before the last run.
    """
    lines = log.read_text().splitlines()
    step = max(1, (len(lines) - 1) // 8)
    shown = [*lines[step:-1:step], lines[-1]]
    total = trained.steps + sum(int(r.partition(" ")[0].replace(",", "")) for r in earlier)
    more = f" --steps {made.steps} --finetune" if earlier else ""
    more += f" --batch {made.batch}" if made.batch > 1 else ""
    more += f" --keep {keep:g}" if keep else ""
    table = "\n".join(f"| {s.name} | {s.dice:.3f} | {s.said:.3f} | {s.true:.3f} |" for s in scores)
    blocks = [
        "## Made by",
        f"    fornix train {path.stem} --anatomy ../shared/data/atlas/mni{more}",
        *(f"On from {run}." for run in earlier),
        f"{total:,} steps in all, over the runs listed here.",
        f"Seed {made.seed}, {trained.steps:,} steps of {made.batch} scans each, "
        f"{trained.seconds / 60:.0f} minutes on {trained.device}; written {time.strftime('%Y-%m-%d')}.",
        *(
            [
                f"Saved is {1 - keep:.0%} of what this run ended with and {keep:.0%} of what it began with."
            ]
            if keep
            else []
        ),
        *([HISTORY] if earlier else []),
        "## Data",
        DATA,
        "## Recipe",
        f"```json\n{json.dumps(asdict(made), indent=2)}\n```",
        "## Training log",
        f"| {lines[0].replace(',', ' | ')} |\n|{'---|' * len(lines[0].split(','))}\n"
        + "\n".join(f"| {line.replace(',', ' | ')} |" for line in shown),
        "## On synthetic heads never trained on",
        "Dice of the likeliest class (every contrast and artefact of the training, crops too); the "
        "probability that was said where it is the likeliest, and its true share there.",
        "| class | Dice | said | true |\n|---|---|---|---|\n" + table,
        "## Limits",
        LIMITS,
    ]
    write_card(path, made.about, trained.model, blocks)
