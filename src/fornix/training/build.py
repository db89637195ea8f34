"""From a recipe to weights that ship: train, calibrate, save with a card."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import torch
from torch import nn

from fornix.core.compute import pick_device
from fornix.core.errors import FornixError
from fornix.core.version import __version__
from fornix.nets import weights
from fornix.nets.build import build_network
from fornix.nets.features import Features
from fornix.nets.fod_net import FodNet
from fornix.nets.microstructure_net import MicrostructureNet
from fornix.training.calibrate import calibrate, held_out_stream
from fornix.training.calibrate_fod import calibrate_fod
from fornix.training.data.fod_voxels import FodVoxels
from fornix.training.model_card import write_card
from fornix.training.recipes import Recipe, recipe
from fornix.training.tasks.fod import FodTask
from fornix.training.tasks.fod_spatial import FodSpatialTask
from fornix.training.tasks.microstructure import SpatialTask, task_of
from fornix.training.trainer import Trained, train

LIMITS = """\
* Trained on simulation only: sticks and zeppelins of up to three dispersed populations, free water and
  a restricted isotropic part, 0 <= b <= 4000 s/mm² mostly, SNR 6 to 150, noise Rician or from a few
  coils, shared by neighbours or not, noise level reported wrong by some 20%.
* Tissue unlike that (exchange, large restricted parts, strong artefacts) is scored by the `ood` map; it
  is not always caught.
* Where measurements are few, estimates lean to what the training tissue makes likely: the standard
  deviation says how much was known.
* Not a medical device.
"""
LIMITS_FOD = """\
* Trained on simulation only: sticks and zeppelins of up to three dispersed populations, free water and
  a dot, 0 <= b <= 4000 s/mm² mostly, SNR as in the recipe, noise Rician or from a few coils.
* The FOD is a mean over what could be: where measurements cannot part two fibres it shows one broad
  lobe between them, and a small amplitude says that a fibre is unsure, not only that it is small.
  Peaks come from the field, the log-odds that a fibre lies near, not from the FOD.
* Tissue unlike the training is not detected by this network; the `ood` map of `fornix microstructure`
  scores it.
* Grey and white matter are told apart as in the anatomy it was trained on.
* Not a medical device.
"""

_SUBJECTS = (
    "subjects simulated from the anatomy (some smoothed, their fibres' axes too, a third with white matter "
    "made of bundles that turn slowly, deformed, perturbed, aged, with lesions, with "
    "parameters that vary in space or are shifted as a whole, a tenth of them with permeable axons)"
)
_DATA = {
    "voxelwise": "each batch is a population of its own, a mix of voxels of one subject with voxels of the "
    f"broad prior of `physics.random_tissue` with restricted parts; {_SUBJECTS}, the parameters of some "
    "voxels jittered",
    "patches": f"patches of {_SUBJECTS}, with blobs of unusual tissue",
    "fod": "each batch is a scan of its own, a mix of coherent crossings at 15 to 90° "
    "(`fod_crossings`, alike within a scan and unlike between scans), of `physics.random_tissue` and "
    f"of a subject's voxels; {_SUBJECTS}",
    "fod-spatial": f"patches of {_SUBJECTS}; in half of the patches the white matter is replaced by bundles "
    "that cross and turn slowly (`fod_coherent`)",
}


def make(
    name: str,
    work: str | Path,
    anatomy: str | Path | None = None,
    steps: int | None = None,
    device: str = "auto",
    devices: int = 1,
    folder: Path = weights.FOLDER,
    protocols: int = 400,
    finetune: bool = False,
    batch: int | None = None,
    tell: Callable[[str], None] = print,
) -> Path:
    """Train the network of a recipe from nothing (or on from its checkpoint) and save its weights.

    Args:
        name: Of the recipe.
        work: Folder for checkpoint, log and plot.
        anatomy: Folder of a subject (see `anatomy.from_subject`); None takes the embedded head.
        steps: Instead of the recipe's; none, with `finetune`, calibrates anew.
        device: `auto`, `cpu` or `cuda`.
        devices: GPUs to use together.
        folder: Of the weights.
        protocols: Of the calibration.
        finetune: Begin with the weights of this name in `folder`; parts of the network that they lack
            begin anew.
        batch: Voxels or patches of a step instead of the recipe's: more on a GPU.
        tell: Is given each line of progress.

    Returns:
        The path of the weights; a card stands beside it.

    Raises:
        FornixError: For unknown recipes, missing anatomy and weights that the recipe needs.
    """
    wanted = recipe(name).changed(steps, batch)
    if wanted.steps < 1 and not finetune:
        raise FornixError(
            "a network cannot be trained in no steps; 0 steps calibrate it anew, with --finetune"
        )
    where = pick_device(device)
    source = None if anatomy is None else Path(anatomy)
    if source is not None and not source.is_dir():
        raise FornixError(f"the anatomy {source} is not a folder")

    def needed(other: str) -> nn.Module:
        return build_network(weights.load(other, folder))

    task = task_of(wanted, source, needed)
    before = weights.load(name, folder) if finetune else None
    begin = None if before is None else before.groups["net"]
    trained = train(wanted, task, Path(work) / name, device, devices, tell, begin=begin)
    groups = {"net": dict(trained.model.state_dict())}
    if isinstance(task, (FodTask, FodSpatialTask)):
        held_out, orientations = held_out_stream(task, wanted.seed, where), trained.model.to(where)
        assert isinstance(orientations, FodNet)

        def draw() -> tuple[FodVoxels, Features]:
            made, features = task.prepare(held_out)  # type: ignore[arg-type]
            return made.voxels, features

        groups |= calibrate_fod(orientations, draw, protocols, tell)
    elif wanted.kind != "context":
        context = task.context if isinstance(task, SpatialTask) else None
        stream = held_out_stream(task, wanted.seed, where)
        fitted = trained.model.to(where)
        assert isinstance(fitted, MicrostructureNet)
        groups |= calibrate(fitted, stream, context, protocols, tell=tell)
    earlier = [] if before is None else [*before.about.get("earlier", []), _run_of(before)]
    about = {
        "recipe": asdict(wanted), "fornix": __version__, "steps": trained.steps, "earlier": earlier,
    }  # fmt: skip
    path = weights.save(name, groups, about, folder)
    command = f"fornix train {name}" + (f" --anatomy {source}" if source else "")
    if steps is not None:
        command += f" --steps {steps}"
    if batch is not None:
        command += f" --batch {batch}"
    if finetune:
        command += " --finetune"
    _card(path, wanted, trained, command, Path(work) / name / "log.csv", earlier)
    return path


def _total(steps: int, earlier: list[str]) -> int:
    """Steps of all runs, the earlier ones as `_run_of` says them."""
    return steps + sum(int(run.partition(" ")[0].replace(",", "")) for run in earlier)


def _run_of(made: weights.Weights) -> str:
    """An earlier run in a word, for the weights that went on from it."""
    return f"{made.about['steps']:,} steps with fornix {made.about['fornix']}, {made.label}"


def _card(
    path: Path, made: Recipe, trained: Trained, command: str, log: Path, earlier: list[str]
) -> None:
    last = log.read_text().splitlines() if made.steps else []
    table = "None: calibrated anew." if not last else (
        f"| {last[0].replace(',', ' | ')} |\n|{'---|' * len(last[0].split(','))}\n"
        + "\n".join(f"| {line.replace(',', ' | ')} |" for line in _some(last[1:]))
    )  # fmt: skip
    rate = f", {_rate(last):,.0f} voxels/s" if last else ""
    blocks = [
        "## Made by",
        f"    {command}",
        *(f"On from {run}." for run in earlier),
        f"{_total(trained.steps, earlier):,} steps in all, over the runs listed here.",
        f"Commit {_commit()} (on top of it), seed {made.seed}, {trained.steps:,} steps, "
        f"{trained.seconds / 60:.0f} minutes on {trained.device} ({torch.get_num_threads()} threads "
        f"for the calibration, two for training){rate}; written "
        f"{time.strftime('%Y-%m-%d')}.",
        "## Data",
        f"Simulated only, endless: {_DATA.get(made.kind, _DATA['patches'])}; random protocols of 7 to 270 "
        "volumes and named schemes; noise as in the recipe. No real scan and no fit of one was a label.",
        "## Recipe",
        f"```json\n{json.dumps(asdict(made), indent=2)}\n```",
        "## Training log",
        table,
        f"Figures on data unlike the training: docs/benchmarks/{_page(made)}.md.",
        "## Limits",
        LIMITS_FOD.strip() if made.kind.startswith("fod") else LIMITS.strip(),
    ]
    write_card(path, made.about, trained.model, blocks)


def _page(made: Recipe) -> str:
    return "orientation" if made.kind.startswith("fod") else "microstructure"


def _rate(log: list[str]) -> float:
    """Voxels per second of the last run that trained, from the log's last row."""
    return float(dict(zip(log[0].split(","), log[-1].split(","), strict=True))["voxels_per_s"])


def _some(lines: list[str], most: int = 8) -> list[str]:
    step = max(1, len(lines) // most)
    return [*lines[step - 1 : -1 : step], lines[-1]]


def _commit() -> str:
    try:
        here = Path(__file__).parent
        done = subprocess.run(
            ["git", "rev-parse", "--short", "HEAD"], cwd=here, capture_output=True, text=True
        )
        return done.stdout.strip() or "unknown"
    except OSError:
        return "unknown"
