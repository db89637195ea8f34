"""Fits the coefficients of `tracts.evidence` on simulated heads whose tracts are known."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fornix.core.gradients import Gradients
from fornix.estimators.mask import brain_mask
from fornix.physics.anatomy.model import Anatomy
from fornix.physics.anatomy.subject import from_subject
from fornix.physics.anatomy.variation import vary
from fornix.physics.phantom import simulate
from fornix.physics.protocol import random_protocol, scheme
from fornix.register.features import Features, scan_features
from fornix.register.register import register
from fornix.register.template import mni_template
from fornix.tracts.atlas import ATLASES, TractSet, load_atlas
from fornix.tracts.carry import carry
from fornix.tracts.evidence import PATH, EvidenceModel, evidence, save_model, support_of

Array = NDArray[np.float64]

#: Weight of the shared coefficients in a tract's own, in voxels.
_PRIOR = 200.0
_ROUNDS = 10


@dataclass(frozen=True, eq=False)
class Example:
    """One tract in one head: features (n, F), whether each voxel is the tract's, its volume in voxels."""

    features: Array
    inside: NDArray[np.bool_]
    volume: int
    support: float


def fit_evidence(
    anatomy: Path,
    *,
    heads: int = 8,
    seed: int = 0,
    out: Path = PATH,
    progress: Callable[[int, int], None] | None = None,
) -> Path:
    """Fit and write the coefficients.

    Args:
        anatomy: See `from_subject`.
        heads: Random heads, each with a random protocol.
        seed: Of heads, protocols and noise.
        out: The file.
        progress: Told heads done and all.
    """
    base = from_subject(anatomy)
    found: list[dict[str, Example]] = []
    for i in range(heads):
        found.append(examples(base, 1000 * seed + 100 + i))
        if progress is not None:
            progress(i + 1, heads)
    return save_model(fitted(found), out)


def protocol_of(seed: int) -> Gradients:
    """A usual protocol or a random one."""
    rng = np.random.default_rng([seed, 77])
    if rng.random() < 0.6:
        return scheme(str(rng.choice(["dti6", "dti12", "dti30", "dti32", "ukb", "demo"])))
    return random_protocol(rng)


def examples(base: Anatomy, seed: int) -> dict[str, Example]:
    """All tracts of a random head, as a scan of it shows them."""
    head = vary(base, seed)
    snr = float(np.random.default_rng([seed, 78]).uniform(12, 35))
    dwi = brain_mask(simulate(head, protocol_of(seed), snr=snr, seed=seed).dwi)
    seen = scan_features(dwi)
    warp = register(seen, mni_template().features())
    tracts = carry(
        load_atlas(ATLASES["tracts72"]), seen.lattice, dwi.brain(), warp.to_fixed, warp.to_moving
    )
    return examples_of(head, tracts, seen)


def examples_of(head: Anatomy, tracts: TractSet, seen: Features) -> dict[str, Example]:
    """Features and truth of carried tracts."""
    made = {}
    for name, tract in tracts.tracts.items():
        truth = head.bundles[name].mask.reshape(-1)
        made[name] = Example(
            evidence(seen, tract).astype(np.float64), truth[tract.voxels], int(truth.sum()),
            support_of(seen, tract),
        )  # fmt: skip
    return made


def fitted(heads: Sequence[dict[str, Example]]) -> EvidenceModel:
    """The model of examples; thresholds and errors come from heads left out one at a time."""
    names = list(heads[0])
    shared = _logistic([h[n] for h in heads for n in names])
    own, threshold, error, support, spread = {}, {}, {}, {}, {}
    for name in names:
        mine = [h[name] for h in heads]
        own[name] = _logistic(mine, shared)
        held = [
            _sigmoid(one.features @ _logistic([m for m in mine if m is not one], shared))
            for one in mine
        ]
        threshold[name] = _best_threshold(held, mine)
        ratio = [np.log(max(p.sum(), 1.0) / max(m.volume, 1)) for p, m in zip(held, mine)]
        error[name] = float(np.sqrt(np.mean(np.square(ratio))))
        values = [m.support for m in mine]
        support[name], spread[name] = float(np.mean(values)), float(np.std(values, ddof=1))
    return EvidenceModel(shared, own, threshold, error, support, spread)


def _sigmoid(odds: Array) -> Array:
    return np.asarray(1 / (1 + np.exp(-np.clip(odds, -30, 30))))


def _logistic(examples: Sequence[Example], prior: Array | None = None) -> Array:
    """Coefficients by Newton's method; near to the prior where examples are few."""
    x = np.concatenate([e.features for e in examples])
    y = np.concatenate([e.inside for e in examples]).astype(np.float64)
    middle = np.zeros(x.shape[1]) if prior is None else prior
    stiff = 1e-2 if prior is None else _PRIOR * 0.02
    found = middle.copy()
    for _ in range(_ROUNDS):
        p = _sigmoid(x @ found)
        hessian = (x * (p * (1 - p))[:, None]).T @ x + stiff * np.eye(len(found))
        found = found + np.linalg.solve(hessian, x.T @ (y - p) - stiff * (found - middle))
    return found


def _best_threshold(held: Sequence[Array], examples: Sequence[Example]) -> float:
    def dice(level: float) -> float:
        scores = []
        for p, e in zip(held, examples):
            chosen = p > level
            scores.append(2 * (chosen & e.inside).sum() / max(chosen.sum() + e.volume, 1))
        return float(np.mean(scores))

    levels = np.arange(0.3, 0.61, 0.05)
    return float(levels[int(np.argmax([dice(v) for v in levels]))])
