"""Training the policy: `fornix train policy --anatomy FOLDER`.

Subjects are deformed from the bundles of FOLDER and scanned. The policy first follows their true
streamlines with noise, then tracks in each scan itself, learns what was right there (DAgger, Ross et al.,
AISTATS 2011), and so ROUNDS times. Scans, data and the network of each round are kept in the work folder:
a run that was stopped goes on where it was.
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
from fornix.training.data.policy_dataset import PolicyDataset, concatenated, reference_states
from fornix.training.data.tracking_phantoms import TrackingPhantom, tracking_phantoms
from fornix.training.model_card import write_card
from fornix.training.policy_card import blocks_of_card

ABOUT = "where a streamline goes next, where it ends, and whether it is likely to be true"
TRAINING = (
    ScanSpec(100, "dti32", 20, "mild"), ScanSpec(100, "bench96", 16),
    ScanSpec(101, "dti30", 30, fod="msmt"), ScanSpec(101, "dti64", 18, "mild"),
    ScanSpec(102, "dti32", 14), ScanSpec(102, "bench96", 24, "mild", "msmt"),
    ScanSpec(103, "dti32", 24, "mild"), ScanSpec(103, "bench96", 20),
)  # fmt: skip
#: A subject never trained on.
VALIDATION = (ScanSpec(150, "dti32", 20, "mild"),)
#: States on true streamlines of each scan; seeds tracked in each, and states of each of them.
STATES, SEEDS, EACH = 200_000, 8_000, 10
ROUNDS, EPOCHS, BATCH, RATE, DECAY = 2, 8, 2048, 2e-3, 1e-4
#: Concentration of the direction's label over the turns.
_KAPPA = 100.0
#: How the shipped policy uses its logits (limits.Policy), and how while it learns. Chosen by hand on a
#: subject of neither training nor benchmark (seed 160), where giving up sooner along the way gave more
#: valid streamlines at the same F1, until few were left.
PARAMS = {
    "sharpness": 1.0, "end_logit": 0.5, "min_true_logit": -0.7, "min_true_logit_at_end": -0.5,
}  # fmt: skip
EXPLORING = {**PARAMS, "min_true_logit": -5.0, "min_true_logit_at_end": -99.0}


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
    """Train on phantoms made from bundles and save the weights with a card.

    Args:
        bundles: Folder for `from_bundles`.
        work: Folder of what is kept between runs.
        folder: For the weights.
        training: Scans that are learned from.
        validation: Scans of a subject never trained on.
        states: On true streamlines of each scan.
        seeds: Tracked in each scan and round.
        rounds: Of tracking by itself.
        epochs: Through the data in the last round, and half as many before.
        voxel_size: mm.
        threads: Threads in use; as they are if not given.
        seed: Of all random numbers.
        tell: Called with lines of progress.

    Returns:
        The path of the weights.
    """
    place = output_folder(Path(work) / NAME)
    passes = EPOCHS if epochs is None else epochs
    start = time.perf_counter()
    network: PolicyNetwork | None = None
    log: list[dict[str, float]] = []
    datasets: tuple[list[PolicyDataset], list[PolicyDataset]] = ([], [])
    with use_threads(threads):
        for number in range(rounds + 1):
            for kept, specs in zip(datasets, (training, validation)):
                for spec, phantom in tracking_phantoms(
                    bundles, specs, place / "phantoms", voxel_size=voxel_size, tell=tell
                ):
                    path = place / f"{spec.label}_{number}.npz"
                    if not path.exists():
                        tell(f"round {number}: states of {spec.label}")
                        rng = np.random.default_rng([spec.seed, number, len(spec.protocol), seed])
                        data = _dataset(phantom(), network, states, seeds, spec.seed + number, rng)
                        with atomic(path) as temporary:
                            np.savez(temporary, **vars(data))
                    with np.load(path) as stored:
                        kept.append(PolicyDataset(**stored))
            held_out = datasets[1][-len(validation) :]
            most = passes if number == rounds else max(1, passes // 2)
            network, rows = _round(
                datasets[0], held_out, place / f"network_{number}.pt", most, seed + number, tell
            )
            log += [{"round": number, **row} for row in rows]
    assert network is not None
    recipe: dict[str, Any] = {
        "name": NAME, "kind": KIND, "about": ABOUT, "width": WIDTH, "rounds": rounds, "epochs": passes,
        "batch": BATCH, "rate": RATE, "decay": DECAY, "seed": seed, "states": states, "seeds": seeds,
        "training": [asdict(s) for s in training], "validation": [asdict(s) for s in validation],
    }  # fmt: skip
    about = {"recipe": recipe, "fornix": __version__, "steps": len(log), "params": PARAMS}
    path = weights.save(NAME, {"net": dict(network.state_dict())}, about, folder)
    count = sum(len(each) for each in datasets[0])
    minutes = (time.perf_counter() - start) / 60
    write_card(path, ABOUT, network, blocks_of_card(len(training), count, log, minutes))
    return path


def _dataset(
    phantom: TrackingPhantom,
    network: PolicyNetwork | None,
    states: int,
    seeds: int,
    seed: int,
    rng: np.random.Generator,
) -> PolicyDataset:
    """What there is to learn in a scan: on true streamlines, or on the network's own."""
    if network is None:
        return phantom.dataset(reference_states(phantom.reference, states, rng=rng))
    policy = Policy(network.mlp_weights(), **EXPLORING)
    return phantom.dataset(phantom.own_states(policy, seeds=seeds, seed=seed, each=EACH, rng=rng))


def _round(
    training: Sequence[PolicyDataset],
    held_out: Sequence[PolicyDataset],
    path: Path,
    epochs: int,
    seed: int,
    tell: Callable[[str], None],
) -> tuple[PolicyNetwork, list[dict[str, float]]]:
    """The network of a round and its log, from the work folder where they are there."""
    if path.exists():
        stored = torch.load(path, weights_only=True)
        network = PolicyNetwork()
        network.load_state_dict(stored["net"])
        return network.eval(), stored["log"]
    with torch.random.fork_rng(devices=[]):  # the caller's random numbers are not touched
        torch.manual_seed(seed)
        network, log = fit_policy(
            concatenated(training), concatenated(held_out), epochs=epochs, tell=tell
        )
    with atomic(path) as temporary:
        torch.save({"net": network.state_dict(), "log": log}, temporary)
    return network, log


def fit_policy(
    training: PolicyDataset,
    held_out: PolicyDataset,
    *,
    epochs: int = EPOCHS,
    tell: Callable[[str], None] = print,
) -> tuple[PolicyNetwork, list[dict[str, float]]]:
    """Train a network from nothing; random numbers are torch's own.

    Args:
        training: What is learned from.
        held_out: Of a subject never trained on.
        epochs: Through the data.
        tell: Called with a line for each.

    Returns:
        The network, and its losses by epoch.
    """
    network = PolicyNetwork()
    tensors = _tensors(training)
    network.standardise(tensors[0][:: max(1, len(training) // 200_000)].float())
    optimiser = torch.optim.AdamW(network.parameters(), lr=RATE, weight_decay=DECAY)
    size = min(BATCH, len(training))
    steps = epochs * (len(training) // size)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, RATE, total_steps=steps + 1, pct_start=0.1
    )
    log = []
    for _ in range(epochs):
        order = torch.randperm(len(training))[: len(training) // size * size]
        total = torch.zeros(3)
        for batch in order.split(size):
            parts = losses(network, *(t[batch].float() for t in tensors))
            optimiser.zero_grad()
            (parts[0] + parts[1] + 0.5 * parts[2]).backward()
            optimiser.step()
            schedule.step()
            total += parts.detach()
        row = _named(total / (len(order) // size)) | _named(_loss(network, held_out), "held_out_")
        tell(", ".join(f"{k} {v:.4g}" for k, v in row.items()))
        log.append(row)
    return network.eval(), log


def losses(
    network: nn.Module,
    features: torch.Tensor,
    turn: torch.Tensor,
    end: torch.Tensor,
    true: torch.Tensor,
    known: torch.Tensor,
) -> torch.Tensor:
    """Mean cross entropies of the turn, the end, and being true, each where it is known.

    Args:
        network: From features to logits.
        features: (n, FEATURES).
        turn: (n, 3) the right direction in the frame.
        end: (n,) 0 or 1.
        true: (n,) 0 or 1.
        known: (n, 3) which of the three are known, 0 or 1.

    Returns:
        (3,) nats.
    """
    out = network(features)
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


def _tensors(data: PolicyDataset) -> list[torch.Tensor]:
    fields: list[NDArray] = [data.features, data.turn, data.end, data.true, data.known]
    return [torch.as_tensor(f) for f in fields]


def _loss(network: nn.Module, data: PolicyDataset) -> torch.Tensor:
    with torch.inference_mode():
        return losses(network, *(t.float() for t in _tensors(data)))


def _named(values: torch.Tensor, prefix: str = "") -> dict[str, float]:
    return dict(zip((f"{prefix}turn", f"{prefix}end", f"{prefix}true"), values.tolist()))
