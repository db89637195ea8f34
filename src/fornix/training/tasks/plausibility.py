"""Training the plausibility network again from nothing: `fornix train plausibility --anatomy FOLDER`.

FOLDER holds bundles as `physics.from_bundles` takes them. Heads are deformed from it, scanned, tracked
and scored; what the network sees of each streamline is kept in the work folder, so that a run that was
stopped goes on where it was.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from fornix.core.compute import use_threads
from fornix.core.tractogram import Tractogram
from fornix.core.version import __version__
from fornix.io.files import atomic, output_folder
from fornix.nets import weights
from fornix.tractography.filtering.features import Features
from fornix.tractography.filtering.filter import observe
from fornix.tractography.filtering.network import KIND, NAME, WIDTH, Plausibility, judge
from fornix.training.data.filter_phantoms import (
    COUNT,
    TRACKERS,
    TRAINING,
    VALIDATION,
    Lines,
    ScanSpec,
    tracked,
)
from fornix.training.model_card import log_table, on_cpu, write_card

EPOCHS, BATCH, RATE, DECAY = 12, 1024, 5e-3, 1e-3
ABOUT = "which streamlines of a tractogram are plausible"
#: Rounds without a better validation loss after which training ends.
_PATIENCE = 5
#: Streamlines in the smallest tractogram that is learned from.
_FEWEST = 500

Labelled = tuple[Features, NDArray[np.bool_]]


def make(
    bundles: str | Path,
    work: str | Path = "runs",
    folder: Path = weights.FOLDER,
    *,
    training: Sequence[ScanSpec] = TRAINING,
    validation: Sequence[ScanSpec] = VALIDATION,
    count: int = COUNT,
    epochs: int = EPOCHS,
    threads: int | None = None,
    seed: int = 0,
    tell: Callable[[str], None] = print,
) -> Path:
    """Make the streamlines, train on them and save the weights with a card.

    bundles: folder for `from_bundles`. work: of what is kept between runs. folder: for the weights.
    Returns the path of the weights.
    """
    began = time.perf_counter()
    place = output_folder(Path(work) / NAME)
    known = _collected(bundles, training, place, count, threads, tell)
    held = _collected(bundles, validation, place, count, threads, tell)
    with use_threads(threads):
        network, log = fit_network(known, held, epochs=epochs, seed=seed, tell=tell)
    recipe: dict[str, Any] = {
        "name": NAME, "kind": KIND, "about": ABOUT, "width": WIDTH, "epochs": epochs,
        "batch": BATCH, "rate": RATE, "decay": DECAY, "seed": seed, "count": count,
        "trackers": list(TRACKERS), "training": [asdict(s) for s in training],
        "validation": [asdict(s) for s in validation],
    }  # fmt: skip
    about = {"recipe": recipe, "fornix": __version__, "steps": len(log)}
    path = weights.save(NAME, {"net": dict(network.state_dict())}, about, folder)
    minutes = (time.perf_counter() - began) / 60
    _card(path, network, known, held, log, minutes)
    return path


def fit_network(
    known: Labelled,
    held: Labelled,
    *,
    epochs: int = EPOCHS,
    seed: int = 0,
    tell: Callable[[str], None] = print,
) -> tuple[Plausibility, list[dict[str, float]]]:
    """The network of the round with the least loss on the held-out head, and the log by round."""
    with torch.random.fork_rng(devices=[]):  # the caller's chance is not touched
        torch.manual_seed(seed)
        return _fitted(known, held, epochs, tell)


def _fitted(
    known: Labelled, held: Labelled, epochs: int, tell: Callable[[str], None]
) -> tuple[Plausibility, list[dict[str, float]]]:
    network = Plausibility()
    network.standardise(known[0])
    along, whole = torch.as_tensor(known[0].along), torch.as_tensor(known[0].whole)
    true = torch.as_tensor(known[1], dtype=torch.float32)
    optimiser = torch.optim.AdamW(network.parameters(), lr=RATE, weight_decay=DECAY)
    steps = epochs * (len(true) // BATCH + 1)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, RATE, total_steps=steps)
    log: list[dict[str, float]] = []
    best, best_loss, waited = network.state_dict(), float("inf"), 0
    for epoch in range(epochs):
        network.train()
        total = 0.0
        for chosen in torch.randperm(len(true)).split(BATCH):
            loss = nn.functional.binary_cross_entropy_with_logits(
                network(along[chosen], whole[chosen]), true[chosen]
            )
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            schedule.step()
            total += float(loss.detach()) * len(chosen)
        network.eval()
        scores = judge(held[0], network)
        row = {
            "round": epoch + 1,
            "loss": total / len(true),
            "held_out_loss": cross_entropy(scores, held[1]),
            "held_out_auc": auc(scores, held[1]),
        }
        log.append(row)
        tell(", ".join(f"{k} {v:.4g}" for k, v in row.items()))
        if row["held_out_loss"] < best_loss:
            best_loss, waited = row["held_out_loss"], 0
            best = {k: v.clone() for k, v in network.state_dict().items()}
        else:
            waited += 1
            if waited >= _PATIENCE:
                break
    network.load_state_dict(best)
    return network.eval(), log


def cross_entropy(scores: NDArray[np.floating], true: NDArray[np.bool_]) -> float:
    """Mean cross entropy of probabilities (S,), nats."""
    p = np.clip(np.where(true, scores, 1 - scores), 1e-6, 1)
    return float(-np.log(p).mean())


def auc(scores: NDArray[np.floating], true: NDArray[np.bool_]) -> float:
    """The chance that a true one scores above a false one; equal scores count half."""
    from scipy.stats import rankdata

    positive = int(true.sum())
    negative = len(true) - positive
    if not positive or not negative:
        return float("nan")
    ranks = rankdata(scores)
    return float((ranks[true].sum() - positive * (positive + 1) / 2) / (positive * negative))


def _collected(
    bundles: str | Path,
    settings: Sequence[ScanSpec],
    place: Path,
    count: int,
    threads: int | None,
    tell: Callable[[str], None],
) -> Labelled:
    """Features and truth of all streamlines of these scans, from the work folder where they are there."""
    parts: list[Labelled] = []
    for setting in settings:
        path = place / f"{setting.word}_{count}.npz"
        if not path.exists():
            tell(f"tracking head {setting.seed}, {setting.protocol}, SNR {setting.snr:g}")
            lines = list(tracked(bundles, [setting], count=count, threads=threads))
            made = [_seen(each, threads) for each in samples(lines, count, setting.seed)]
            seen, true = _joined(made)
            with atomic(path) as temporary:
                np.savez(temporary, along=seen.along, whole=seen.whole, true=true)
        with np.load(path) as kept:
            parts.append((Features(kept["along"], kept["whole"]), kept["true"]))
    return _joined(parts)


def samples(made: Sequence[Lines], count: int, seed: int) -> Iterator[tuple[Lines, int]]:
    """Tractograms of other sizes, and how many streamlines of each to learn from.

    Each tractogram whole, a small random part of each, and all trackers' together: how far the nearest
    streamline is and how much fibre each must explain depend on how many there are.
    """
    rng = np.random.default_rng([seed, 7])
    for each in made:
        yield each, count
        size = int(np.exp(rng.uniform(np.log(min(_FEWEST, count)), np.log(count))))
        yield (
            _part(each, rng.choice(len(each.true), min(size, len(each.true)), replace=False)),
            count,
        )
    yield _together(made), count


def _part(lines: Lines, index: NDArray[np.int64]) -> Lines:
    return Lines(lines.scene, lines.tractogram.subset(index), lines.true[index])


def _together(made: Sequence[Lines]) -> Lines:
    """All streamlines of several tractograms of one scene, mixed."""
    first = made[0].tractogram
    lengths = np.concatenate([np.diff(m.tractogram.offsets) for m in made])
    whole = Tractogram(
        np.concatenate([m.tractogram.points for m in made]),
        np.concatenate([[0], np.cumsum(lengths)]),
        first.affine,
        first.grid,
    )
    joined = Lines(made[0].scene, whole, np.concatenate([m.true for m in made]))
    return _part(joined, np.random.default_rng(0).permutation(len(joined.true)))


def _seen(sample: tuple[Lines, int], threads: int | None) -> Labelled:
    """What the network sees of the first streamlines of a sample, among all of it."""
    (lines, most), scene = sample, sample[0].scene
    seen, _ = observe(lines.tractogram, scene.dwi, scene.maps, tissue=scene.tissue, threads=threads)
    return Features(seen.along[:most], seen.whole[:most]), lines.true[:most]


def _joined(parts: Sequence[Labelled]) -> Labelled:
    seen = Features(
        np.concatenate([f.along for f, _ in parts]), np.concatenate([f.whole for f, _ in parts])
    )
    return seen, np.concatenate([t for _, t in parts])


def _card(
    path: Path,
    network: nn.Module,
    known: Labelled,
    held: Labelled,
    log: list[dict[str, float]],
    minutes: float,
) -> None:
    scores = judge(held[0], network)
    rows = [
        f"| {t:g} | {100 * (scores[~held[1]] <= t).mean():.1f} | {100 * (scores[held[1]] > t).mean():.1f} |"
        for t in (0.3, 0.5, 0.7)
    ]
    heads = {s["seed"] for s in weights.load(NAME, path.parent).about["recipe"]["training"]}
    blocks = [
        "## Made by",
        f"    fornix train {NAME} --anatomy ANATOMY",
        f"where ANATOMY holds the 72 bundles; seed 0, {len(log)} rounds, {on_cpu(minutes)}.",
        "## Data",
        f"Simulated only: {len(known[1]):,} streamlines ({100 * known[1].mean():.0f}% of them true) of "
        f"{len(heads)} heads made from deformed and thinned bundles, scanned with several protocols, "
        "noise and mild artefacts, orientations by the network and by deconvolution, tracked by "
        f"{', '.join(TRACKERS)}, in tractograms of "
        f"{_FEWEST} to {COUNT * len(TRACKERS):,} streamlines. True is what Tractometer calls valid.",
        "## On a head never trained on",
        "| threshold | false removed, % | true kept, % |\n|---|---|---|\n" + "\n".join(rows),
        "More on other heads: docs/benchmarks/tractography.md.",
        "## Training log",
        log_table(log),
        "## Limits",
        "* All heads are deformed from the bundles of one atlas: true means a connection of that atlas. "
        "Short association fibres, which the atlas lacks, are judged as if they were false.\n"
        "* The training streamlines end in grey matter; others are judged poorly.\n"
        "* The more streamlines a tractogram has, the better they are judged: below some thousand, few "
        "neighbours tell of a bundle.\n"
        "* It removes some true streamlines too, as the table says. Keep the tractogram that was "
        "filtered.\n"
        "* Not a medical device.",
    ]
    write_card(path, ABOUT, network, blocks)
