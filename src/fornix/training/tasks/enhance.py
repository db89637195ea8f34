"""Training the enhancement network: heads in small voxels, measured in larger ones."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
from torch import nn

from fornix.core.version import __version__
from fornix.nets import weights
from fornix.nets.enhancement_net import EnhancementNet, error_std
from fornix.physics.anatomy import Anatomy
from fornix.training.data.fine_heads import FINE, fine_head, store_head
from fornix.training.data.fine_stream import FineStream, Piece
from fornix.training.enhance_card import HeldOut, write_enhance_card
from fornix.training.recipes import Recipe, recipe
from fornix.training.tasks.microstructure import Parts
from fornix.training.tasks.tissue import run_of
from fornix.training.trainer import train

NAME = "enhance"
#: Heads that are learned from, and the seeds of those that are not: of the calibration.
HEADS, _HELD_OUT_SEEDS, _HELD_OUT_PIECES = 5, (901, 902), 150

#: Errors well below this count by their square, larger ones by their size; over the scan's scale.
_SOFT = 0.03
#: Weights: of the contrast between directions beside the signal, and of the error's spread.
_CONTRAST, _LIKELIHOOD = 1.0, 0.003


class EnhanceTask:
    """Signals of small voxels, their contrast between directions, and how wrong they are."""

    def __init__(self, recipe: Recipe, heads: Sequence[Path | Anatomy]) -> None:
        self.recipe, self.heads = recipe, heads

    def model(self) -> nn.Module:
        return EnhancementNet(self.recipe.width, self.recipe.depth)

    def stream(self, seed: int, device: torch.device) -> FineStream:
        return FineStream(self.heads, self.recipe.bank, seed)

    def prepare(self, stream: FineStream) -> tuple[Piece, ...]:
        return tuple(stream.sample() for _ in range(self.recipe.batch))

    def loss(self, model: nn.Module, made: tuple[Piece, ...]) -> tuple[torch.Tensor, Parts]:
        found = [piece_loss(model, piece) for piece in made]
        total = torch.stack([f[0] for f in found]).mean()
        return total, {k: sum(f[1][k] for f in found) / len(found) for k in found[0][1]}


def piece_loss(model: nn.Module, piece: Piece) -> tuple[torch.Tensor, Parts]:
    """Loss of one piece, its errors, and how many of them the 90% interval holds."""
    mixed = model(piece.channels, piece.facts, piece.voxels, piece.place, piece.step, piece.shells)
    total = piece.facts.new_zeros(())
    parts = {"b0": 0.0, "weighted": 0.0, "z": 0.0}
    weighted = [b for b in piece.shells if b > 0]
    for (weight, spread), b, base, values, truth in zip(
        mixed, piece.shells, piece.base, piece.values, piece.truth, strict=True
    ):
        error = base + torch.einsum("nk,nkv->nv", weight, values) - truth
        soft = _soft(error) / (1 if b == 0 else 0.5)
        if b > 0 and error.shape[1] > 1:
            soft = soft + _CONTRAST * _soft(error - error.mean(1, keepdim=True))
        std = error_std(spread, values, piece.sigma)
        z = error.detach() / std
        likelihood = (0.5 * z.square().clamp(max=50) + std.log()).mean()
        total = total + soft.mean() / (1 if b == 0 else len(weighted)) + _LIKELIHOOD * likelihood
        kind = "b0" if b == 0 else "weighted"
        parts[kind] += float(error.detach().square().mean().sqrt()) / (
            1 if b == 0 else len(weighted)
        )
        parts["z"] += float((z.abs() < 1.645).float().mean()) / len(piece.shells)
    return total, parts


def _soft(error: torch.Tensor) -> torch.Tensor:
    return (error.square() + _SOFT**2).sqrt() - _SOFT


def make(
    work: Path,
    anatomy: str | Path | None,
    steps: int | None = None,
    device: str = "auto",
    folder: Path = weights.FOLDER,
    *,
    heads: int = HEADS,
    voxel_size: float = FINE,
    pieces: int = _HELD_OUT_PIECES,
    finetune: bool = False,
    batch: int | None = None,
    tell: Callable[[str], None] = print,
) -> Path:
    """Train the enhancement network from nothing (or on from its checkpoint), calibrate, and save it.

    Args:
        work: Folder for heads, checkpoint, log and plot.
        anatomy: Folder of a subject with its bundles; None is the built-in head alone.
        steps: Instead of the recipe's.
        device: `auto`, `cpu` or `cuda`.
        folder: Of the weights.
        heads: How many are made; with an anatomy the last of them is the built-in one.
        voxel_size: Of the heads, mm.
        pieces: Of held-out heads, for the calibration.
        finetune: Begin with the weights in `folder`, as far as they fit.
        batch: Pieces of a step instead of the recipe's.
        tell: Is given each line of progress.

    Returns:
        The path of the weights; a card stands beside it.
    """
    wanted = recipe(NAME).changed(steps, batch)
    where = Path(work) / NAME
    made = _heads(where / "heads", anatomy, range(1, heads + 1), voxel_size, tell)
    held = _heads(where / "heads", anatomy, _HELD_OUT_SEEDS[: max(1, heads // 2)], voxel_size, tell)
    before = weights.load(NAME, folder) if finetune else None
    begin = None if before is None else {k: v.float() for k, v in before.groups["net"].items()}
    trained = train(wanted, EnhanceTask(wanted, made), where, device, 1, tell, begin=begin)
    rows, scale = held_out(trained.model, held, pieces)
    earlier = [] if before is None else [*before.about.get("earlier", []), run_of(before)]
    net = {k: v.half() for k, v in trained.model.state_dict().items()}
    about = {
        "recipe": asdict(wanted), "fornix": __version__, "steps": trained.steps, "earlier": earlier,
    }  # fmt: skip
    groups = {"net": net, "calibration": {"scale": torch.tensor(scale)}}
    path = weights.save(NAME, groups, about, folder)
    write_enhance_card(
        path, wanted, trained, earlier, where / "log.csv", rows, heads, anatomy is not None
    )
    return path


def _heads(
    folder: Path, anatomy: str | Path | None, seeds: Sequence[int], voxel_size: float,
    tell: Callable[[str], None],
) -> list[Path]:  # fmt: skip
    """Files of heads of these seeds; made where they are missing."""
    folder.mkdir(parents=True, exist_ok=True)
    made = []
    for seed in seeds:
        # One of the heads is of another make, with other fibres and softer tissue.
        other = anatomy is None or (seed == seeds[-1] and seed < 900 and len(seeds) > 1)
        path = folder / f"{'built-in' if other else 'subject'}-{seed}.npz"
        if not path.exists():
            tell(f"head {seed}")
            lesions = None if seed < 900 else 6
            store_head(
                fine_head(None if other else anatomy, seed, voxel_size=voxel_size, lesions=lesions),
                path,
            )
        made.append(path)
    return made


@torch.no_grad()
def held_out(
    model: nn.Module, heads: Sequence[Path], pieces: int, seed: int = 7
) -> tuple[list[HeldOut], list[float]]:
    """Errors on heads never trained on, beside deconvolution alone, and what their spread is scaled by.

    Returns:
        A row for b0s and one for weighted volumes; factors of the standard deviation for each, with which
        nine tenths of the errors lie within 1.645 of it.
    """
    stream = FineStream(heads, 1, seed)
    error: dict[bool, list[np.ndarray]] = {True: [], False: []}
    for number in range(pieces):
        if number and number % max(1, pieces // len(heads)) == 0:
            stream.renew()
        one = stream.new()
        found = model(one.channels, one.facts, one.voxels, one.place, one.step, one.shells)
        for (weight, spread), b, base, values, truth in zip(
            found, one.shells, one.base, one.values, one.truth
        ):
            wrong = base + torch.einsum("nk,nkv->nv", weight, values) - truth
            std = error_std(spread, values, one.sigma)
            error[b == 0].append(torch.stack([wrong, base - truth, std]).flatten(1).numpy())
    rows, scales = [], []
    for b0 in (True, False):
        wrong, without, std = np.concatenate(error[b0], 1)
        scale = float(np.quantile(np.abs(wrong / std), 0.9) / 1.645)
        scales.append(scale)
        inside = [
            float((np.abs(wrong) < z * scale * std).mean()) for z in (0.674, 1.282, 1.645, 1.96)
        ]
        rows.append(
            HeldOut(
                "b0" if b0 else "weighted", float(np.sqrt((wrong**2).mean())),
                float(np.sqrt((without**2).mean())), scale, inside,
            )
        )  # fmt: skip
    return rows, scales
