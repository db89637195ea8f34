"""Trains the tract network, and measures on heads left out what is usual of each tract."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from fornix.nets import weights
from fornix.tracts.evidence import left_of
from fornix.tracts.network import NAME, TractModel, TractNet, Usual, groups_of
from fornix.training.model_card import write_card
from fornix.training.tract_card import blocks_of_card
from fornix.training.tract_examples import WHOLE, Example, Head, gather

Array = NDArray[np.float32]
Tell = Callable[[str], None]

#: Heads, steps and voxels a step of what ships.
HEADS, STEPS, BATCH = 24, 3000, 8192
_RATE, _DECAY = 4e-3, 1e-3
#: Share of a batch whose tract is not told.
_UNTOLD = 0.25
#: Parts that the heads are divided into for what is measured on heads left out.
_FOLDS = 4
_LEVELS = np.arange(0.15, 0.71, 0.025)
ABOUT = "probability of each tract in each voxel, from tissue and fibres along the tract"


def train_tracts(
    anatomy: Path,
    work: Path,
    out: Path,
    *,
    heads: int = HEADS,
    steps: int = STEPS,
    seed: int = 0,
    tell: Tell = lambda line: None,
) -> Path:
    """Simulate heads, train, calibrate and write weights and card.

    Args:
        anatomy: See `from_subject`.
        work: Folder for the heads' examples, which are kept and used again.
        out: Folder of the weights.
        heads: Random heads, each with a random protocol.
        steps: Of BATCH voxels each.
        seed: Of all chance.
        tell: Told how far it is.
    """
    start = time.time()
    found = gather(
        anatomy, heads, work / NAME, seed, lambda done, all_: tell(f"head {done} of {all_}")
    )
    model, log = fitted(found, steps, seed, tell)
    recipe: dict[str, Any] = {
        "name": NAME, "about": ABOUT, "heads": heads, "steps": steps, "batch": BATCH, "rate": _RATE,
        "seed": seed,
    }  # fmt: skip
    path = weights.save(
        NAME, groups_of(model),
        {"recipe": recipe, "steps": steps, "earlier": [], "tracts": list(model.number)}, out,
    )  # fmt: skip
    write_card(path, ABOUT, model.net, blocks_of_card(recipe, log, (time.time() - start) / 60))
    return path


def fitted(
    heads: Sequence[Head], steps: int, seed: int = 0, tell: Tell = lambda line: None
) -> tuple[TractModel, list[dict[str, float]]]:
    """The model of examples, and a row for each fold; thresholds and errors come from heads left out."""
    names = list(heads[0])
    held: list[dict[str, Array]] = [{} for _ in heads]
    log = []
    folds = min(_FOLDS, len(heads))
    for fold in range(folds):
        left = [i for i in range(len(heads)) if i % folds == fold]
        rest = [h for i, h in enumerate(heads) if i not in left]
        net, loss = trained(rest or list(heads), names, steps, seed + fold)
        for i in left:
            held[i] = {n: probability(net, heads[i][n], k + 1) for k, n in enumerate(names)}
        row = {"fold": float(fold), "loss": loss, "loss, held out": _loss(heads, held, left)}
        log.append(row)
        tell(", ".join(f"{k} {v:.4g}" for k, v in row.items()))
    net, loss = trained(heads, names, steps, seed)
    tell(f"all heads: loss {loss:.4g}")
    usual = {n: usual_of([h[n] for h in heads], [h[n] for h in held]) for n in names}
    return TractModel(net, usual), log


def usual_of(examples: Sequence[Example], told: Sequence[Array]) -> Usual:
    """What is usual of a tract, from its examples and their probabilities by networks that left them out."""
    ratio = [np.log(max(p.sum(), 1.0) / max(e.volume, 1)) for p, e in zip(told, examples)]
    whole = [i for i, e in enumerate(examples) if e.left > WHOLE]
    support = [examples[i].support for i in whole]
    left = np.stack([left_of(examples[i].along, examples[i].share, told[i]) for i in whole])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # stations that no head has: NaN
        middle, spread = np.nanmean(left, 0), np.nanstd(left, 0)
    return Usual(
        best_threshold(told, examples),
        best_threshold([e.share for e in examples], examples),
        float(np.sqrt(np.mean(np.square(ratio)))),
        float(np.mean(support)),
        float(np.std(support)),
        middle.astype(np.float32),
        spread.astype(np.float32),
    )


def trained(
    heads: Sequence[Head], names: Sequence[str], steps: int, seed: int
) -> tuple[TractNet, float]:
    """The network after `steps`, and its mean loss over the last tenth of them."""
    ones = [(k + 1, h[n]) for h in heads for k, n in enumerate(names)]
    x = torch.from_numpy(np.concatenate([e.features for _, e in ones]))
    y = torch.from_numpy(np.concatenate([e.inside for _, e in ones])).float()
    counts = torch.tensor([len(e.share) for _, e in ones])
    tract = torch.repeat_interleave(torch.tensor([k for k, _ in ones]), counts)
    starts = torch.cat([torch.zeros(1, dtype=torch.long), counts.cumsum(0)[:-1]])
    chance = torch.Generator().manual_seed(seed)
    torch.manual_seed(seed)
    net = TractNet(len(names))
    some = x[torch.randint(len(x), (200_000,), generator=chance)].float()
    net.middle.copy_(some.mean(0))
    net.size.copy_(some.std(0).clamp_min(1e-3))
    optimizer = torch.optim.AdamW(net.parameters(), lr=_RATE, weight_decay=_DECAY)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, _RATE, total_steps=steps)
    # Between a tract a draw and a voxel a draw: small tracts are not drowned by large ones.
    often = counts.double().sqrt()
    last: list[float] = []
    for step in range(steps):
        one = torch.multinomial(often, BATCH, replacement=True, generator=chance)
        at = starts[one] + (torch.rand(BATCH, generator=chance) * counts[one]).long()
        told = tract[at] * (torch.rand(BATCH, generator=chance) > _UNTOLD)
        loss = F.binary_cross_entropy_with_logits(net(x[at].float(), told), y[at])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        if step >= 0.9 * steps:
            last.append(float(loss.detach()))
    return net.eval().requires_grad_(False), float(np.mean(last))


def probability(net: TractNet, one: Example, number: int) -> Array:
    """(n,) of each voxel of an example."""
    odds = net.of_one(torch.from_numpy(one.features.astype(np.float32)), number)
    return np.asarray(torch.sigmoid(odds).numpy())


def best_threshold(told: Sequence[Array], examples: Sequence[Example]) -> float:
    """The level of most Dice, as a mean over heads."""

    def dice(level: float) -> float:
        scores = []
        for p, e in zip(told, examples):
            chosen = p > level
            scores.append(2 * (chosen & e.inside).sum() / max(chosen.sum() + e.volume, 1))
        return float(np.mean(scores))

    return float(_LEVELS[int(np.argmax([dice(v) for v in _LEVELS]))])


def _loss(heads: Sequence[Head], held: Sequence[dict[str, Array]], left: Sequence[int]) -> float:
    losses = []
    for i in left:
        for name, one in heads[i].items():
            p = held[i][name].clip(1e-6, 1 - 1e-6)
            if len(p):
                losses.append(float(-np.log(np.where(one.inside, p, 1 - p)).mean()))
    return float(np.mean(losses))
