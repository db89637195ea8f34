"""Training the policy: `fornix train policy --anatomy FOLDER`.

Heads are deformed from the bundles of FOLDER and scanned. The policy first follows their true streamlines
with noise, then tracks each head itself, is told what was right, and learns from all of it; so ROUNDS
times. Scans, lessons and the network of each round are kept in the work folder: a run that was stopped
goes on where it was.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from fornix.core.compute import use_threads
from fornix.core.version import __version__
from fornix.io.files import atomic, output_folder
from fornix.nets import weights
from fornix.tractography.learned._policy_kernels import END, TRUE, TURNS
from fornix.tractography.learned.limits import Policy
from fornix.tractography.learned.policy import KIND, NAME, WIDTH, PolicyNetwork
from fornix.training.data.filter_phantoms import ScanSpec
from fornix.training.data.policy_dataset import PolicyDataset, concatenated, on_true
from fornix.training.data.tracking_phantoms import TrackingPhantom, heads
from fornix.training.model_card import write_card
from fornix.training.policy_card import blocks_of_card

ABOUT = "where a streamline goes next, where it ends, and whether it is likely to be true"
TRAINING = (
    ScanSpec(100, "dti32", 20, "mild"), ScanSpec(100, "bench96", 16),
    ScanSpec(101, "dti30", 30, fod="msmt"), ScanSpec(101, "dti64", 18, "mild"),
    ScanSpec(102, "dti32", 14), ScanSpec(102, "bench96", 24, "mild", "msmt"),
    ScanSpec(103, "dti32", 24, "mild"), ScanSpec(103, "bench96", 20),
)  # fmt: skip
#: A head never trained on.
VALIDATION = (ScanSpec(150, "dti32", 20, "mild"),)
#: States on true streamlines of each scan; seeds tracked in each, and states of each of them.
STATES, SEEDS, EACH = 200_000, 8_000, 10
ROUNDS, EPOCHS, BATCH, RATE, DECAY = 2, 8, 2048, 2e-3, 1e-4
#: Concentration of the direction's label over the turns.
_KAPPA = 100.0
#: How the shipped policy tracks (policy.Policy), and how it tracks while it learns. Chosen by
#: hand on a head of neither training nor benchmark (seed 160), where giving up sooner along the way gave
#: more valid streamlines at the same F1, until few were left.
HABITS = {"sharpness": 1.0, "end": 0.5, "along": -0.7, "whole": -0.5}
EXPLORING = {"sharpness": 1.0, "end": 0.5, "along": -5.0, "whole": -99.0}


def make(
    bundles: str | Path,
    work: str | Path = "runs",
    folder: Path = weights.FOLDER,
    *,
    training: Sequence[ScanSpec] = TRAINING,
    validation: Sequence[ScanSpec] = VALIDATION,
    states: int = STATES,
    seeds: int = SEEDS,
    rounds: int = ROUNDS,
    epochs: int | None = None,
    voxel_size: float = 2.5,
    threads: int | None = None,
    seed: int = 0,
    tell: Callable[[str], None] = print,
) -> Path:
    """Train on heads made from bundles and save the weights with a card; returns their path.

    bundles: folder for `from_bundles`. work: of what is kept between runs. folder: for the weights.
    states, seeds: of each scan. rounds: of tracking by itself. epochs: through the
    lessons in the last round, and half as many before.
    """
    place = output_folder(Path(work) / NAME)
    passes = EPOCHS if epochs is None else epochs
    began = time.perf_counter()
    network: PolicyNetwork | None = None
    log: list[dict[str, float]] = []
    lessons: list[list[PolicyDataset]] = [[], []]
    with use_threads(threads):
        for turn in range(rounds + 1):
            for kind, settings in enumerate((training, validation)):
                for setting, head in heads(bundles, settings, place / "heads", voxel_size, tell):
                    path = place / f"{setting.word}_{turn}.npz"
                    if not path.exists():
                        tell(f"round {turn}: lessons of {setting.word}")
                        rng = np.random.default_rng(
                            [setting.seed, turn, len(setting.protocol), seed]
                        )
                        made = _lessons(head(), network, states, seeds, setting.seed + turn, rng)
                        with atomic(path) as temporary:
                            np.savez(temporary, **vars(made))
                    with np.load(path) as kept:
                        lessons[kind].append(PolicyDataset(**kept))
            last = lessons[1][-len(validation) :]
            most = passes if turn == rounds else max(1, passes // 2)
            network, rows = _round(
                lessons[0], last, place / f"network_{turn}.pt", most, seed + turn, tell
            )
            log += [{"round": turn, **row} for row in rows]
    assert network is not None
    recipe: dict[str, Any] = {
        "name": NAME, "kind": KIND, "about": ABOUT, "width": WIDTH, "rounds": rounds, "epochs": passes,
        "batch": BATCH, "rate": RATE, "decay": DECAY, "seed": seed, "states": states, "seeds": seeds,
        "training": [asdict(s) for s in training], "validation": [asdict(s) for s in validation],
    }  # fmt: skip
    about = {"recipe": recipe, "fornix": __version__, "steps": len(log), "habits": HABITS}
    path = weights.save(NAME, {"net": dict(network.state_dict())}, about, folder)
    count = sum(len(each) for each in lessons[0])
    minutes = (time.perf_counter() - began) / 60
    write_card(path, ABOUT, network, blocks_of_card(len(training), count, log, minutes))
    return path


def _lessons(
    head: TrackingPhantom,
    network: PolicyNetwork | None,
    states: int,
    seeds: int,
    seed: int,
    rng: np.random.Generator,
) -> PolicyDataset:
    """What there is to learn in a scan: of true streamlines, or of the network's own."""
    if network is None:
        return head.seen(on_true(head.courses, states, rng))
    exploring = Policy(network.layers(), **EXPLORING)
    return head.seen(head.own(exploring, seeds, seed, EACH, rng))


def _round(
    known: Sequence[PolicyDataset],
    held: Sequence[PolicyDataset],
    path: Path,
    epochs: int,
    seed: int,
    tell: Callable[[str], None],
) -> tuple[PolicyNetwork, list[dict[str, float]]]:
    """The network of a round and its log, from the work folder where they are there."""
    if path.exists():
        kept = torch.load(path, weights_only=True)
        network = PolicyNetwork()
        network.load_state_dict(kept["net"])
        return network.eval(), kept["log"]
    with torch.random.fork_rng(devices=[]):  # the caller's chance is not touched
        torch.manual_seed(seed)
        network, log = fit_policy(concatenated(known), concatenated(held), epochs, tell)
    with atomic(path) as temporary:
        torch.save({"net": network.state_dict(), "log": log}, temporary)
    return network, log


def fit_policy(
    known: PolicyDataset,
    held: PolicyDataset,
    epochs: int = EPOCHS,
    tell: Callable[[str], None] = print,
) -> tuple[PolicyNetwork, list[dict[str, float]]]:
    """A network trained from nothing, and its losses by epoch; random numbers are torch's own."""
    network = PolicyNetwork()
    tensors = _tensors(known)
    network.standardise(tensors[0][:: max(1, len(known) // 200_000)].float())
    optimiser = torch.optim.AdamW(network.parameters(), lr=RATE, weight_decay=DECAY)
    size = min(BATCH, len(known))
    steps = epochs * (len(known) // size)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, RATE, total_steps=steps + 1, pct_start=0.1
    )
    log = []
    for _ in range(epochs):
        order = torch.randperm(len(known))[: len(known) // size * size]
        total = torch.zeros(3)
        for chosen in order.split(size):
            parts = losses(network, *(t[chosen].float() for t in tensors))
            optimiser.zero_grad()
            (parts[0] + parts[1] + 0.5 * parts[2]).backward()
            optimiser.step()
            schedule.step()
            total += parts.detach()
        row = _told(total / (len(order) // size), "") | _told(_held_out(network, held), "held_out_")
        tell(", ".join(f"{k} {v:.4g}" for k, v in row.items()))
        log.append(row)
    return network.eval(), log


def losses(
    network: nn.Module,
    seen: torch.Tensor,
    turn: torch.Tensor,
    end: torch.Tensor,
    true: torch.Tensor,
    known: torch.Tensor,
) -> torch.Tensor:
    """(3,) mean cross entropies, nats: of the turn, the end, and being true, where each is known."""
    out = network(seen)
    turns = torch.as_tensor(TURNS)
    wanted = torch.softmax(_KAPPA * (turn @ turns.T), 1)
    entropy = nn.functional.binary_cross_entropy_with_logits
    each = torch.stack(
        [
            -(wanted * torch.log_softmax(out[:, : len(turns)], 1)).sum(1),
            entropy(out[:, END], end, reduction="none"),
            entropy(out[:, TRUE], true, reduction="none"),
        ],
        1,
    )
    return (each * known).sum(0) / known.sum(0).clamp(min=1)


def _tensors(lessons: PolicyDataset) -> list[torch.Tensor]:
    fields: list[NDArray] = [getattr(lessons, f) for f in ("seen", "turn", "end", "true", "known")]
    return [torch.as_tensor(f) for f in fields]


def _held_out(network: nn.Module, held: PolicyDataset) -> torch.Tensor:
    with torch.inference_mode():
        return losses(network, *(t.float() for t in _tensors(held)))


def _told(values: torch.Tensor, before: str) -> dict[str, float]:
    return dict(zip((f"{before}turn", f"{before}end", f"{before}true"), values.tolist()))
