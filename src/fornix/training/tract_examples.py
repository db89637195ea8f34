"""Tracts of simulated heads as scans show them, with the truth: what the tract network learns from."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fornix.core.gradients import Gradients
from fornix.estimators.mask import brain_mask
from fornix.io.files import atomic
from fornix.physics.anatomy.model import Anatomy
from fornix.physics.anatomy.pathology import random_site, with_cavity, with_mass
from fornix.physics.anatomy.subject import from_subject
from fornix.physics.anatomy.variation import vary
from fornix.physics.phantom import simulate
from fornix.physics.protocol import random_protocol, scheme
from fornix.register.features import Features
from fornix.register.register import register
from fornix.register.scan_features import scan_features
from fornix.register.template import mni_template
from fornix.tracts.atlas import ATLASES, TractSet, load_atlas
from fornix.tracts.carry import carry
from fornix.tracts.evidence import (
    FEATURES,
    STATIONS,
    course_of,
    evidence,
    station_of,
    support_of,
    surroundings,
)

Array = NDArray[np.float32]

#: Seeds of heads to learn from begin here; benchmarks' heads are numbered from 500.
FIRST = 100
#: Shares of heads with a cavity, and with a mass.
_CAVITY, _MASS = 0.35, 0.25
#: A tract with less of its volume left than this is not whole.
WHOLE = 0.97


@dataclass(frozen=True, eq=False)
class Example:
    """One tract in one head.

    Attributes:
        features: (n, F) of `evidence`, float16.
        share: (n,) of the atlas, as carried.
        inside: (n,) whether each voxel is the tract's.
        volume: Of the true tract, voxels, those out of the atlas's reach included.
        left: Share of its volume that no cavity and no mass took.
        support: Of `support_of`.
        course: (STATIONS, 4) of `course_of`.
        kept: (STATIONS,) share of the true volume that is left at each station; NaN where it has none.
    """

    features: NDArray[np.float16]
    share: Array
    inside: NDArray[np.bool_]
    volume: int
    left: float
    support: float
    course: Array
    kept: Array

    @property
    def along(self) -> Array:
        """(n,) place of each voxel along the tract."""
        return self.features[:, FEATURES.index("place along the tract")].astype(np.float32)


Head = dict[str, Example]


def gather(
    anatomy: Path,
    heads: int,
    work: Path,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> list[Head]:
    """Examples of random heads; those that are in `work` already are read.

    Args:
        anatomy: See `from_subject`.
        heads: How many.
        work: Folder for a file a head.
        seed: Of heads, protocols and noise.
        progress: Told heads done and all.
    """
    base: Anatomy | None = None
    found = []
    for i in range(heads):
        number = 1000 * seed + FIRST + i
        path = work / f"head-{number}.npz"
        if not path.exists():
            base = from_subject(anatomy) if base is None else base
            save_head(examples(base, number), path)
        found.append(load_head(path))
        if progress is not None:
            progress(i + 1, heads)
    return found


def examples(base: Anatomy, seed: int) -> Head:
    """All tracts of a random head, some of them with a cavity or a mass, as a scan of it shows them."""
    healthy, head = random_head(base, seed)
    snr = float(np.random.default_rng([seed, 78]).uniform(12, 35))
    dwi = brain_mask(simulate(head, protocol_of(seed), snr=snr, seed=seed).dwi)
    seen = scan_features(dwi)
    warp = register(seen, mni_template().features())
    tracts = carry(
        load_atlas(ATLASES["tracts72"]), seen.lattice, dwi.brain(), warp.to_fixed, warp.to_moving
    )
    return examples_of(head, tracts, seen, healthy)


def random_head(base: Anatomy, seed: int) -> tuple[Anatomy, Anatomy]:
    """A random head as it was, deformed by what grew in it, and as it is."""
    rng = np.random.default_rng([seed, 79])
    head = vary(base, seed)
    chance = rng.random()
    if chance < _CAVITY:
        return head, with_cavity(head, random_site(head, seed), seed)
    if chance < _CAVITY + _MASS:
        site, infiltrating = random_site(head, seed), bool(rng.random() < 0.5)
        push = float(rng.uniform(0.0, 0.8))
        mass = with_mass(head, site, push=push, infiltrating=infiltrating, seed=seed)
        # Infiltrated, nothing is lost: the same push without loss says what there was.
        return with_mass(head, site, push=push, infiltrating=True, seed=seed), mass
    return head, head


def protocol_of(seed: int) -> Gradients:
    """A usual protocol or a random one."""
    rng = np.random.default_rng([seed, 77])
    if rng.random() < 0.6:
        return scheme(str(rng.choice(["dti6", "dti12", "dti30", "dti32", "ukb", "demo"])))
    return random_protocol(rng)


def examples_of(
    head: Anatomy, tracts: TractSet, seen: Features, healthy: Anatomy | None = None
) -> Head:
    """Features and truth of carried tracts; healthy: the head with nothing taken away."""
    around = surroundings(seen)
    made = {}
    for name, tract in tracts.tracts.items():
        truth = head.bundles[name].mask.reshape(-1)
        before = truth if healthy is None else healthy.bundles[name].mask.reshape(-1)
        station = station_of(tract.along)
        was = np.bincount(station[before[tract.voxels]], minlength=STATIONS)
        now = np.bincount(station[(truth & before)[tract.voxels]], minlength=STATIONS)
        made[name] = Example(
            evidence(around, tract).astype(np.float16), tract.share, truth[tract.voxels],
            int(truth.sum()), float((truth & before).sum() / max(before.sum(), 1)),
            support_of(around, tract), course_of(around, tract).means,
            np.where(was > 0, now / np.maximum(was, 1), np.nan).astype(np.float32),
        )  # fmt: skip
    return made


def save_head(head: Head, path: Path) -> None:
    """Write a head's examples."""
    ones = list(head.values())
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic(path) as temporary, open(temporary, "wb") as file:
        np.savez(
            file, names=np.array(list(head)), counts=np.array([len(e.share) for e in ones]),
            features=np.concatenate([e.features for e in ones]),
            share=np.concatenate([e.share for e in ones]),
            inside=np.concatenate([e.inside for e in ones]),
            volume=np.array([e.volume for e in ones]), left=np.array([e.left for e in ones]),
            support=np.array([e.support for e in ones]), course=np.stack([e.course for e in ones]),
            kept=np.stack([e.kept for e in ones]),
        )  # fmt: skip


def load_head(path: Path) -> Head:
    """Read what `save_head` wrote; of another version's features, it fails."""
    with np.load(path) as stored:
        cuts = np.cumsum(stored["counts"])[:-1]
        features, share, inside = (
            np.split(stored[key], cuts) for key in ("features", "share", "inside")
        )
        if features[0].shape[1] != len(FEATURES):
            raise ValueError(f"{path} holds other features than this version's; delete it")
        one: Sequence = list(zip(stored["volume"], stored["left"], stored["support"]))
        course, kept = stored["course"], stored["kept"]
        return {
            str(name): Example(
                features[i], share[i], inside[i], int(one[i][0]), float(one[i][1]), float(one[i][2]),
                course[i], kept[i],
            )
            for i, name in enumerate(stored["names"])
        }  # fmt: skip
