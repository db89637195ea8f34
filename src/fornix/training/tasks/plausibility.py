"""Training the plausibility network again from nothing: `fornix train plausibility --anatomy FOLDER`.

FOLDER holds bundles as `physics.from_bundles` takes them. Subjects are deformed from them, scanned,
tracked and scored; the features of each streamline are kept in the work folder, so that a run that was
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
    LabelledTractogram,
    ScanSpec,
    labelled_tractograms,
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

    Args:
        bundles: Folder for `from_bundles`.
        work: Folder of what is kept between runs.
        folder: For the weights.
        training: Scans that are learned from.
        validation: Scans of a subject never trained on.
        count: Streamlines of each tracker and scan.
        epochs: Most rounds through the data.
        threads: Threads in use; all cores if not given.
        seed: Of all random numbers.
        tell: Called with lines of progress.

    Returns:
        The path of the weights.
    """
    start = time.perf_counter()
    place = output_folder(Path(work) / NAME)
    learned = _collected(bundles, training, place, count, threads, tell)
    held_out = _collected(bundles, validation, place, count, threads, tell)
    with use_threads(threads):
        network, log = fit_network(learned, held_out, epochs=epochs, seed=seed, tell=tell)
    recipe: dict[str, Any] = {
        "name": NAME, "kind": KIND, "about": ABOUT, "width": WIDTH, "epochs": epochs,
        "batch": BATCH, "rate": RATE, "decay": DECAY, "seed": seed, "count": count,
        "trackers": list(TRACKERS), "training": [asdict(s) for s in training],
        "validation": [asdict(s) for s in validation],
    }  # fmt: skip
    about = {"recipe": recipe, "fornix": __version__, "steps": len(log)}
    path = weights.save(NAME, {"net": dict(network.state_dict())}, about, folder)
    minutes = (time.perf_counter() - start) / 60
    _card(path, network, learned, held_out, log, minutes)
    return path


def fit_network(
    training: Labelled,
    held_out: Labelled,
    *,
    epochs: int = EPOCHS,
    seed: int = 0,
    tell: Callable[[str], None] = print,
) -> tuple[Plausibility, list[dict[str, float]]]:
    """Train a network from nothing.

    Args:
        training: Features of S streamlines and which are true, (S,) bool.
        held_out: The same of a subject never trained on.
        epochs: Most rounds through the data.
        seed: Of all random numbers.
        tell: Called with a line for each round.

    Returns:
        The network of the round with the least loss on the held-out subject, and the log by round.
    """
    with torch.random.fork_rng(devices=[]):  # the caller's random numbers are not touched
        torch.manual_seed(seed)
        return _fitted(training, held_out, epochs, tell)


def _fitted(
    training: Labelled, held_out: Labelled, epochs: int, tell: Callable[[str], None]
) -> tuple[Plausibility, list[dict[str, float]]]:
    features, is_true = training
    network = Plausibility()
    network.standardise(features)
    along, whole = torch.as_tensor(features.along), torch.as_tensor(features.whole)
    true = torch.as_tensor(is_true, dtype=torch.float32)
    optimiser = torch.optim.AdamW(network.parameters(), lr=RATE, weight_decay=DECAY)
    steps = epochs * (len(true) // BATCH + 1)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, RATE, total_steps=steps)
    log: list[dict[str, float]] = []
    best, best_loss, waited = network.state_dict(), float("inf"), 0
    for epoch in range(epochs):
        network.train()
        total = 0.0
        for batch in torch.randperm(len(true)).split(BATCH):
            loss = nn.functional.binary_cross_entropy_with_logits(
                network(along[batch], whole[batch]), true[batch]
            )
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            schedule.step()
            total += float(loss.detach()) * len(batch)
        network.eval()
        scores = judge(held_out[0], network=network)
        row = {
            "round": epoch + 1,
            "loss": total / len(true),
            "held_out_loss": cross_entropy(scores, held_out[1]),
            "held_out_auc": auc(scores, held_out[1]),
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
    """Mean cross entropy, nats.

    Args:
        scores: (S,) probabilities of being true.
        true: (S,) which are.
    """
    p = np.clip(np.where(true, scores, 1 - scores), 1e-6, 1)
    return float(-np.log(p).mean())


def auc(scores: NDArray[np.floating], true: NDArray[np.bool_]) -> float:
    """Area under the ROC curve: the chance that a true one scores above a false one.

    Equal scores count half; NaN where all are true or none.

    Args:
        scores: (S,).
        true: (S,) which are true.
    """
    from scipy.stats import rankdata

    positive = int(true.sum())
    negative = len(true) - positive
    if not positive or not negative:
        return float("nan")
    ranks = rankdata(scores)
    return float((ranks[true].sum() - positive * (positive + 1) / 2) / (positive * negative))


def _collected(
    bundles: str | Path,
    specs: Sequence[ScanSpec],
    place: Path,
    count: int,
    threads: int | None,
    tell: Callable[[str], None],
) -> Labelled:
    """Features and truth of all streamlines of these scans, from the work folder where they are there."""
    parts: list[Labelled] = []
    for spec in specs:
        path = place / f"{spec.label}_{count}.npz"
        if not path.exists():
            tell(f"tracking in subject {spec.seed}, {spec.protocol}, SNR {spec.snr:g}")
            lines = list(labelled_tractograms(bundles, [spec], count=count, threads=threads))
            observed = [
                _observed(sample, most, threads)
                for sample, most in samples(lines, count, spec.seed)
            ]
            features, true = _joined(observed)
            with atomic(path) as temporary:
                np.savez(temporary, along=features.along, whole=features.whole, true=true)
        with np.load(path) as stored:
            parts.append((Features(stored["along"], stored["whole"]), stored["true"]))
    return _joined(parts)


def samples(
    tractograms: Sequence[LabelledTractogram], count: int, seed: int
) -> Iterator[tuple[LabelledTractogram, int]]:
    """Tractograms of other sizes, and how many streamlines of each to learn from.

    Each tractogram whole, a small random part of each, and all trackers' together: how far the nearest
    streamline is and how much fibre each must explain depend on how many there are.
    """
    rng = np.random.default_rng([seed, 7])
    for each in tractograms:
        yield each, count
        size = int(np.exp(rng.uniform(np.log(min(_FEWEST, count)), np.log(count))))
        index = rng.choice(len(each.true), min(size, len(each.true)), replace=False)
        yield _subset(each, index), count
    yield _together(tractograms), count


def _subset(lines: LabelledTractogram, index: NDArray[np.int64]) -> LabelledTractogram:
    return LabelledTractogram(lines.scan, lines.tractogram.subset(index), lines.true[index])


def _together(tractograms: Sequence[LabelledTractogram]) -> LabelledTractogram:
    """All streamlines of several tractograms of one scan, mixed."""
    first = tractograms[0].tractogram
    lengths = np.concatenate([np.diff(t.tractogram.offsets) for t in tractograms])
    whole = Tractogram(
        np.concatenate([t.tractogram.points for t in tractograms]),
        np.concatenate([[0], np.cumsum(lengths)]),
        first.affine,
        first.grid,
    )
    true = np.concatenate([t.true for t in tractograms])
    joined = LabelledTractogram(tractograms[0].scan, whole, true)
    return _subset(joined, np.random.default_rng(0).permutation(len(true)))


def _observed(lines: LabelledTractogram, most: int, threads: int | None) -> Labelled:
    """Features of the first streamlines of a sample, among all of it."""
    scan = lines.scan
    features, _ = observe(
        lines.tractogram, scan.dwi, scan.maps, tissue=scan.tissue, threads=threads
    )
    return Features(features.along[:most], features.whole[:most]), lines.true[:most]


def _joined(parts: Sequence[Labelled]) -> Labelled:
    features = Features(
        np.concatenate([f.along for f, _ in parts]), np.concatenate([f.whole for f, _ in parts])
    )
    return features, np.concatenate([t for _, t in parts])


def _card(
    path: Path,
    network: nn.Module,
    training: Labelled,
    held_out: Labelled,
    log: list[dict[str, float]],
    minutes: float,
) -> None:
    true = held_out[1]
    scores = judge(held_out[0], network=network)
    rows = [
        f"| {t:g} | {100 * (scores[~true] <= t).mean():.1f} | {100 * (scores[true] > t).mean():.1f} |"
        for t in (0.3, 0.5, 0.7)
    ]
    recipe = weights.load(NAME, path.parent).about["recipe"]
    subjects = {spec["seed"] for spec in recipe["training"]}
    blocks = [
        "## Made by",
        f"    fornix train {NAME} --anatomy ANATOMY",
        f"where ANATOMY holds the 72 bundles; seed 0, {len(log)} rounds, {on_cpu(minutes)}.",
        "## Data",
        f"Simulated only: {len(training[1]):,} streamlines ({100 * training[1].mean():.0f}% of them "
        f"true) of {len(subjects)} subjects made from deformed and thinned bundles, scanned with several "
        "protocols, noise and mild artefacts, orientations by the network and by deconvolution, tracked by "
        f"{', '.join(TRACKERS)}, in tractograms of "
        f"{_FEWEST} to {COUNT * len(TRACKERS):,} streamlines. True is what Tractometer calls valid.",
        "## On a subject never trained on",
        "| threshold | false removed, % | true kept, % |\n|---|---|---|\n" + "\n".join(rows),
        "More on other subjects: docs/benchmarks/tractography.md.",
        "## Training log",
        log_table(log),
        "## Limits",
        "* All subjects are deformed from the bundles of one atlas: true means a connection of that atlas. "
        "Short association fibres, which the atlas lacks, are judged as if they were false.\n"
        "* The training streamlines end in grey matter; others are judged poorly.\n"
        "* The more streamlines a tractogram has, the better they are judged: below some thousand, few "
        "neighbours tell of a bundle.\n"
        "* It removes some true streamlines too, as the table says. Keep the tractogram that was "
        "filtered.\n"
        "* Not a medical device.",
    ]
    write_card(path, ABOUT, network, blocks)
