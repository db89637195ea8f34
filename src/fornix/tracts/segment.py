"""The stage: from a scan to its tracts, without tractography."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray

from fornix.core.dwi import DWI
from fornix.core.errors import FornixError
from fornix.register.features import Features
from fornix.register.grids import Lattice, inside, sample
from fornix.register.warp import HeadMap
from fornix.tracts.atlas import ATLASES, Tract, TractSet, load_atlas
from fornix.tracts.carry import carry
from fornix.tracts.displacement import displacements
from fornix.tracts.evidence import (
    STATIONS,
    Surroundings,
    course_of,
    evidence,
    left_of,
    station_of,
    support_of,
    surroundings,
)
from fornix.tracts.gap import find_gap
from fornix.tracts.methods import TRACT_METHODS
from fornix.tracts.network import TractModel, Usual, load_model

Array = NDArray[np.float32]

#: Share of the atlas above which a voxel counts as a tract's with the atlas alone, for tracts without a
#: threshold of their own.
_ATLAS_LEVEL = 0.4
#: Share of a tract's usual place that must have been scanned for it to be called whole, and to be there.
_WHOLE, _SOME = 0.9, 0.25
#: Probability of being present under which a tract is called absent.
_ABSENT = 0.5
#: Deviations below the usual support at which a tract is as likely absent as present.
_WEAK = 4.0
#: mm from which a tract is called displaced; 14 scans of healthy heads stay under 7.5.
DISPLACED = 8.0
#: Relative error of the volume of a tract that the network was not trained on.
_VOLUME_ERROR = 0.25
#: Least deviation as a share of the usual support: real scans of healthy heads show down to 0.58 of it.
_SPREAD = 0.12


@dataclass(frozen=True, eq=False)
class FoundTract:
    """A tract in a scan.

    Attributes:
        tract: Where it may lie on the scan's grid, from `carry`.
        probability: (n,) of each of its voxels.
        threshold: Probability above which a voxel counts as the tract's.
        presence: Probability that the tract is there at all.
        visible: Share of its usual place that was scanned.
        volume: ml, the sum of probabilities.
        volume_std: ml.
        reason: Why it is cut or absent; empty where it is whole.
        displacement: mm by which it lies elsewhere than its mirror image, where that is most; see
            `displacements`.
    """

    tract: Tract
    probability: Array
    threshold: float
    presence: float
    visible: float
    volume: float
    volume_std: float
    reason: str = ""
    displacement: float = 0.0

    @property
    def state(self) -> str:
        """`whole`, `cut` or `absent`."""
        if self.presence < _ABSENT:
            return "absent"
        return "cut" if self.reason else "whole"

    @property
    def mask(self) -> NDArray[np.int64]:
        """Flat indices of the voxels that count as the tract's; none where it is absent."""
        if self.state == "absent":
            return np.zeros(0, np.int64)
        return np.asarray(self.tract.voxels[self.probability > self.threshold])


@dataclass(frozen=True, eq=False)
class TractMaps:
    """All tracts of a scan.

    Attributes:
        lattice: The scan's grid.
        found: By name.
        method: How they were found.
        notes: What is to be looked at, a line each.
    """

    lattice: Lattice
    found: dict[str, FoundTract]
    method: str
    notes: tuple[str, ...] = ()

    def image(self, name: str) -> Array:
        """(X, Y, Z) probability of a tract; all 0 where it is absent."""
        one = self.found[name]
        out = np.zeros(int(np.prod(self.lattice.shape)), np.float32)
        if one.state != "absent":
            out[one.tract.voxels] = one.probability
        return out.reshape(self.lattice.shape)


def segment_tracts(
    dwi: DWI,
    head: Features,
    warp: HeadMap,
    *,
    method: str = "network",
    atlases: Sequence[str] = ("tracts72",),
    names: Sequence[str] = (),
    model: TractModel | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> TractMaps:
    """Find the tracts of a scan that was registered to the template.

    Args:
        dwi: The scan, of which grid and mask are used.
        head: Its features.
        warp: From `register(head, template)`.
        method: `network` weighs the atlas against tissue and fibres of the scan; `atlas` takes it as it is.
        atlases: Names of ATLASES.
        names: Tracts to look for; all if empty.
        model: Another network than the one that ships.
        progress: Told tracts done and all.

    Raises:
        FornixError: No such method, atlas or tract.
    """
    return segment_head(
        head, warp, dwi.brain(), method=method, atlases=atlases, names=names, model=model,
        progress=progress,
    )  # fmt: skip


def segment_head(
    head: Features,
    warp: HeadMap,
    brain: NDArray[np.bool_],
    *,
    method: str = "network",
    atlases: Sequence[str] = ("tracts72",),
    names: Sequence[str] = (),
    model: TractModel | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> TractMaps:
    """As `segment_tracts`, of features alone, as means of several scans have no signals.

    Args:
        head: Its features.
        warp: From `register(head, template)`.
        brain: (X, Y, Z) on the features' grid, where tracts may lie.
        method: See `segment_tracts`.
        atlases: See `segment_tracts`.
        names: See `segment_tracts`.
        model: See `segment_tracts`.
        progress: See `segment_tracts`.

    Raises:
        FornixError: See `segment_tracts`.
    """
    if method not in TRACT_METHODS:
        raise FornixError(
            f"no method {method!r} for tracts; choose one of: {', '.join(TRACT_METHODS)}"
        )
    known = _known(atlases)
    chosen = _chosen(known, names)
    weighing = load_model() if model is None else model
    around = surroundings(head)
    carried = carry(
        TractSet(known.lattice, {n: known.tracts[n] for n in chosen}, known.about),
        head.lattice, brain, warp.to_fixed, warp.to_moving,
    )  # fmt: skip
    seen = _seen(known, chosen, head, brain, warp)
    moved = displacements(known, chosen, warp)
    millilitre = float(np.prod(head.lattice.spacing)) / 1000
    found = {}
    for i, name in enumerate(chosen):
        tract = carried.tracts[name]
        if method == "atlas":
            own = weighing.usual.get(name)
            probability, level = tract.share, own.atlas_threshold if own else _ATLAS_LEVEL
        else:
            probability = weighing.probability(name, evidence(around, tract))
            level = weighing.threshold_of(name)
        judged = _judged(tract, probability, level, seen[name], around, weighing, millilitre)
        # Where nothing was scanned the registration only guesses.
        found[name] = (
            replace(judged, displacement=moved[name].distance) if seen[name] > _WHOLE else judged
        )
        if progress is not None:
            progress(i + 1, len(chosen))
    return TractMaps(head.lattice, found, method, _notes(found))


def tract_names(atlases: Sequence[str] = ("tracts72",)) -> list[str]:
    """Names of the tracts of some atlases."""
    return list(_known(atlases).tracts)


def _known(atlases: Sequence[str]) -> TractSet:
    if not atlases or any(a not in ATLASES for a in atlases):
        raise FornixError(
            f"no tract atlas {', '.join(map(repr, atlases)) or 'given'}; choose from: {', '.join(ATLASES)}"
        )
    loaded = [load_atlas(ATLASES[a]) for a in atlases]
    tracts = {name: tract for one in reversed(loaded) for name, tract in one.tracts.items()}
    ordered = {name: tracts[name] for one in loaded for name in one.tracts}
    return TractSet(loaded[0].lattice, ordered, "; ".join(one.about for one in loaded))


def _chosen(known: TractSet, names: Sequence[str]) -> list[str]:
    missing = [n for n in names if n not in known.tracts]
    if missing:
        raise FornixError(f"no tract {missing[0]!r}; there are: {', '.join(known.tracts)}")
    return list(names) or list(known.tracts)


def _seen(
    known: TractSet, names: Sequence[str], head: Features, brain: NDArray[np.bool_], warp: HeadMap
) -> dict[str, float]:
    """Share of each tract's usual place that lies in the scan's brain."""
    there = torch.from_numpy(brain.astype(np.float32))[None]
    points = known.lattice.points().reshape(-1, 3)
    out = {}
    for name in names:
        tract = known.tracts[name]
        core = tract.share > 0.3
        if not core.any():
            core = tract.share > 0
        at = warp.to_moving(points[torch.from_numpy(tract.voxels[core])])
        scanned = sample(there, head.lattice, at)[0] * inside(head.lattice, at)
        weight = tract.share[core]
        out[name] = float((scanned.numpy() * weight).sum() / weight.sum())
    return out


def _judged(
    tract: Tract,
    probability: Array,
    level: float,
    visible: float,
    around: Surroundings,
    model: TractModel,
    millilitre: float,
) -> FoundTract:
    volume = float(probability.sum()) * millilitre
    usual = model.usual.get(tract.name)
    error = usual.volume_error if usual else _VOLUME_ERROR
    presence, reason = 1.0, ""
    if len(tract.voxels) == 0 or visible < _SOME:
        presence = 0.0 if len(tract.voxels) == 0 else visible / (2 * _SOME)
        reason = f"outside of what was scanned: {100 * visible:.0f}% of its usual place is in the brain mask"
    elif usual is not None:
        # Fibres that do not run along it: how far below what heads with the tract show.
        support = support_of(around, tract)
        spread = max(usual.support_spread, _SPREAD * usual.support)
        weak = (usual.support - support) / spread
        presence = float(1 / (1 + np.exp(np.clip(weak - _WEAK, -30, 30))))
        if presence < _ABSENT:
            reason = (
                f"fibres do not run along it: {support:.2f} where heads with the tract have "
                f"{usual.support:.2f}"
            )
        else:
            reason = _gap(tract, probability, usual, around, millilitre)
    if not reason and visible < _WHOLE:
        reason = f"cut off: {100 * visible:.0f}% of its usual place was scanned"
    return FoundTract(
        tract,
        probability,
        level,
        presence,
        visible,
        volume,
        volume * error,
        reason,
    )


def _gap(
    tract: Tract, probability: Array, usual: Usual, around: Surroundings, millilitre: float
) -> str:
    left = left_of(tract.along, tract.share, probability)
    expected = millilitre * np.bincount(station_of(tract.along), tract.share, STATIONS)
    fluid = course_of(around, tract).means[:, -1]
    gap = find_gap(left, usual.left, usual.left_spread, expected.astype(np.float32), fluid)
    return "" if gap is None else str(gap)


def _notes(found: dict[str, FoundTract]) -> tuple[str, ...]:
    notes = []
    for state in ("absent", "cut"):
        names = [n for n, f in found.items() if f.state == state]
        if names:
            more = " …" if len(names) > 6 else ""
            notes.append(
                f"{len(names)} of {len(found)} tracts are {state}: {', '.join(names[:6])}{more}"
            )
    pushed = [
        f"{n} ({f.displacement:.0f} mm)" for n, f in found.items() if f.displacement > DISPLACED
    ]
    if pushed:
        more = " …" if len(pushed) > 6 else ""
        notes.append(
            f"{len(pushed)} of {len(found)} tracts lie over {DISPLACED:.0f} mm from where the other side's "
            f"do: {', '.join(pushed[:6])}{more}: pushed aside? look at the pictures"
        )
    astray = sum("do not run" in f.reason for f in found.values())
    if astray > len(found) / 3:
        notes.append(
            f"along {astray} of {len(found)} tracts fibres do not run as they should: is the gradient table "
            "right? fornix info checks it"
        )
    return tuple(notes)
