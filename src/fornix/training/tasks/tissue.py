"""Training the tissue segmentation on synthetic heads alone."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import nn

from fornix.core.compute import pick_device
from fornix.core.errors import FornixError
from fornix.core.version import __version__
from fornix.nets import weights
from fornix.nets.tissue_classes import CLASSES
from fornix.nets.tissue_net import TissueNet
from fornix.training.data.farm import simulators
from fornix.training.data.head_images import HeadSample
from fornix.training.data.head_stream import HeadStream
from fornix.training.recipes import Recipe, recipe
from fornix.training.tasks.microstructure import Parts
from fornix.training.tissue_card import Score, write_tissue_card
from fornix.training.trainer import train

NAME = "tissue"
_LEFT = len(CLASSES)
#: Scans of heads never trained on, from which the card's figures are.
_HELD_OUT, _HELD_OUT_SEED = 24, 900_000


@dataclass(frozen=True, eq=False)
class HeadBatch:
    """Some scans, as the trainer counts them.

    Attributes:
        samples: The scans and their truth, of any sizes.
    """

    samples: tuple[HeadSample, ...]

    @property
    def batch(self) -> HeadBatch:
        """Itself."""
        return self

    @property
    def voxels(self) -> range:
        """The voxels of all scans, as something that has their number."""
        return range(sum(s.left.numel() for s in self.samples))


class TissueTask:
    """A U-Net on whole heads: cross-entropy and soft Dice of soft labels."""

    def __init__(self, recipe: Recipe, anatomy: Path | None) -> None:
        if anatomy is None:
            raise FornixError("the tissue network needs --anatomy, the folder of the MNI atlas")
        self.recipe, self.anatomy = recipe, anatomy

    def model(self) -> nn.Module:
        return TissueNet(self.recipe.width, self.recipe.depth)

    def stream(self, seed: int, device: torch.device) -> HeadStream:
        return HeadStream(self.anatomy, self.recipe.bank, seed, device, simulators(device))

    def prepare(self, stream: HeadStream) -> HeadBatch:
        return HeadBatch(tuple(stream.sample() for _ in range(self.recipe.batch)))

    def loss(self, model: nn.Module, made: HeadBatch) -> tuple[torch.Tensor, Parts]:
        found = []
        for sample in made.samples:
            with torch.autocast(sample.seen.device.type, torch.bfloat16):
                odds = model(sample.seen[None])[0]
            found.append(segmentation_loss(odds.float(), sample.target, sample.left))
        total = torch.stack([f[0] for f in found]).mean()
        return total, {k: sum(f[1][k] for f in found) / len(found) for k in found[0][1]}


def segmentation_loss(
    odds: torch.Tensor, target: torch.Tensor, left: torch.Tensor
) -> tuple[torch.Tensor, Parts]:
    """Cross-entropy and soft Dice of the classes, cross-entropy of the side inside of the brain.

    Args:
        odds: (8, X, Y, Z) of the network.
        target: (7, X, Y, Z) shares; all zero where nothing is asked.
        left: (X, Y, Z) 0 to 1.
    """
    asked = target.sum(0)
    count = asked.sum().clamp(min=1)
    log = F.log_softmax(odds[:_LEFT], 0)
    entropy = -(target * log).sum() / count
    found = log.exp() * asked
    overlap = 2 * (found * target).sum((1, 2, 3))
    size = found.square().sum((1, 2, 3)) + target.square().sum((1, 2, 3))
    there = target.sum((1, 2, 3)) > 20
    dice = (overlap + 1) / (size + 1)
    missed = 1 - (dice[there].mean() if bool(there.any()) else dice.mean())
    brain = 1 - target[0] * asked
    brain = brain * asked
    side = F.binary_cross_entropy_with_logits(odds[_LEFT], left, reduction="none")
    side = (side * brain).sum() / brain.sum().clamp(min=1)
    total = entropy + 0.5 * missed + 0.3 * side
    parts = {"entropy": entropy, "missed": missed, "side": side}
    return total, {k: float(v.detach()) for k, v in parts.items()}


def make(
    work: str | Path,
    anatomy: str | Path | None,
    steps: int | None = None,
    device: str = "auto",
    devices: int = 1,
    folder: Path = weights.FOLDER,
    finetune: bool = False,
    batch: int | None = None,
    keep: float = 0.0,
    tell: Callable[[str], None] = print,
) -> Path:
    """Train the tissue network from nothing (or on from its checkpoint) and save its weights.

    Args:
        work: Folder for checkpoint, log and plot.
        anatomy: Folder of the MNI atlas, see `head_template`.
        steps: Instead of the recipe's.
        device: `auto`, `cpu` or `cuda`.
        devices: GPUs to use together.
        folder: Of the weights.
        finetune: Begin with the weights in `folder`.
        batch: Scans of a step instead of the recipe's: more on a GPU.
        keep: Share of the weights begun with in those that are saved, see `mixed`.
        tell: Is given each line of progress.

    Returns:
        The path of the weights; a card stands beside it.
    """
    wanted = recipe(NAME).changed(steps, batch)
    task = TissueTask(wanted, None if anatomy is None else Path(anatomy))
    before = weights.load(NAME, folder) if finetune else None
    begin = None if before is None else {k: v.float() for k, v in before.groups["net"].items()}
    trained = train(wanted, task, Path(work) / NAME, device, devices, tell, begin=begin)
    if begin is not None and keep:
        trained.model.load_state_dict(mixed(begin, trained.model.state_dict(), keep))
    # Half precision is far finer than what the network can tell, and half the size.
    net = {k: v.half() for k, v in trained.model.state_dict().items()}
    earlier = [] if before is None else [*before.about.get("earlier", []), run_of(before)]
    about = {
        "recipe": asdict(wanted), "fornix": __version__, "steps": trained.steps, "earlier": earlier,
    }  # fmt: skip
    path = weights.save(NAME, {"net": net}, about, folder)
    scores = held_out_scores(trained.model, task, pick_device(device))
    write_tissue_card(path, wanted, trained, earlier, Path(work) / NAME / "log.csv", scores, keep)
    return path


def mixed(
    before: Mapping[str, torch.Tensor], after: Mapping[str, torch.Tensor], keep: float
) -> dict[str, torch.Tensor]:
    """Weights between those before and after a run: what was learned, with less of what only fits the run.

    On data unlike the training the mean of both does better than either (Wortsman et al., CVPR 2022).

    Args:
        before: By name.
        after: By the same names.
        keep: Share of the former, 0 to 1.
    """
    return {
        k: torch.lerp(after[k].float(), before[k].float().to(after[k].device), keep) for k in after
    }


def run_of(made: weights.Weights) -> str:
    """An earlier run in a word, for the weights that went on from it."""
    return f"{made.about['steps']:,} steps with fornix {made.about['fornix']}, {made.label}"


def held_out_scores(
    model: nn.Module, task: TissueTask, device: torch.device, count: int = _HELD_OUT
) -> list[Score]:
    """Dice of each class, and how often what was said with some probability was true, on new heads."""
    stream = HeadStream(task.anatomy, 2, _HELD_OUT_SEED, device)
    both, either = torch.zeros(len(CLASSES)), torch.zeros(len(CLASSES))
    said, true, count_of = (torch.zeros(len(CLASSES)) for _ in range(3))
    model = model.to(device).eval()
    for number in range(count):
        if number % 3 == 0:
            stream.renew()
        sample = stream.sample()
        with torch.no_grad():
            found = torch.softmax(model(sample.seen[None])[0, :_LEFT], 0)
        asked = sample.target.sum(0) > 0.5
        best, truth = found.argmax(0)[asked], sample.target.argmax(0)[asked]
        for i in range(len(CLASSES)):
            here, there = best == i, truth == i
            both[i] += (here & there).sum().cpu()
            either[i] += (here.sum() + there.sum()).cpu()
            sure = found[i][asked][here]
            said[i] += sure.sum().cpu()
            count_of[i] += len(sure)
            true[i] += sample.target[i][asked][here].sum().cpu()
    dice, many = 2 * both / either.clamp(min=1), count_of.clamp(min=1)
    return [
        Score(name, float(dice[i]), float(said[i] / many[i]), float(true[i] / many[i]))
        for i, name in enumerate(CLASSES)
    ]
