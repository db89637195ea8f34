"""What changed in a tract between two sessions: values, the change, how sure it is.

Both sessions lie on one grid with one set of tracts. A mean over voxels is linear in the map, so the change
of a tract is the mean of the maps' difference: whatever the tract's place does to both alike leaves it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray

from fornix.core.maps import Map
from fornix.register.grids import Lattice, inside, sample
from fornix.register.warp import PointMap
from fornix.tracts.profile import NODES, Profile, tract_profiles
from fornix.tracts.segment import TractMaps

Array = NDArray[np.float64]

#: Standard deviations on each side of a 90% interval.
SIDE = 1.645
#: What the volume of a tract is called among the maps.
VOLUME = "volume_ml"
#: Relative standard deviation of a change between scans of one head, beyond what the maps' own errors tell
#: (coil, shim, distortion, drift, partial volume): the least, the most in one position, and the most with
#: slices and gradients turned by 20 degrees against the head. From repeated scans (`fornix bench
#: longitudinal`); the most keeps a change of all tracts at once from being taken for chance.
REPEATABILITY = {"dti_fa": (0.007, 0.02, 0.07), VOLUME: (0.005, 0.01, 0.02)}
_OTHER = (0.005, 0.015, 0.065)
_TURN = 20.0


@dataclass(frozen=True, eq=False)
class Change:
    """One map along, or over, one tract in two sessions.

    Attributes:
        tract: Its name.
        map: The map's name, for example `dti_fa`, or VOLUME.
        first: (nodes,) values of the first session, NaN where the tract is not there.
        second: (nodes,) of the second.
        std: (nodes,) standard deviation of the change's error.
        reason: Why values are missing; empty where none are.
        later: Number of the second session, from 0; the first is 0.
    """

    tract: str
    map: str
    first: Array
    second: Array
    std: Array
    reason: str = ""
    later: int = 1

    @property
    def change(self) -> Array:
        """(nodes,) second less first."""
        return self.second - self.first

    @property
    def low(self) -> Array:
        """(nodes,) lower end of the change's 90% interval."""
        return self.change - SIDE * self.std

    @property
    def high(self) -> Array:
        """(nodes,) upper end."""
        return self.change + SIDE * self.std

    @property
    def percent(self) -> Array:
        """(nodes,) the change in percent of both sessions' mean, NaN where that is 0."""
        mean = (self.first + self.second) / 2
        return 100 * self.change / np.where(mean == 0, np.nan, mean)


def carried_map(
    m: Map, brain: NDArray[np.bool_], source: Lattice, onto: Lattice, point_map: PointMap
) -> Map:
    """A scalar map on the grid where sessions meet; NaN where its scan shows no brain.

    Args:
        m: On the scan's grid.
        brain: (X, Y, Z) of the scan.
        source: The scan's grid.
        onto: The common grid.
        point_map: From the common grid's world points to the scan's.

    Returns:
        The map; its standard deviation is per voxel of the common grid, as if voxels were independent.
    """
    known = brain & np.isfinite(m.data) & (m.data != 0)
    stack = [known, np.where(known, m.data, 0)]
    if m.std is not None:
        stack.append(np.where(known & np.isfinite(m.std), m.std, 0))
    there = point_map(onto.points())
    images = torch.from_numpy(np.stack(stack).astype(np.float32))
    found = (sample(images, source, there) * inside(source, there)).numpy()
    share = found[0]
    missing = share < 0.5
    share = np.where(missing, 1, share)
    data = np.where(missing, np.nan, found[1] / share)
    std = None
    if m.std is not None:
        # Voxels of a finer grid share one voxel's noise.
        copies = max(float(np.prod(source.spacing) / np.prod(onto.spacing)), 1.0)
        std = np.where(missing, np.nan, found[2] / share * np.sqrt(copies)).astype(np.float32)
    return replace(m, data=data.astype(np.float32), affine=onto.affine, std=std, quantiles=None)


@dataclass(frozen=True, eq=False)
class Followed:
    """Sessions along one set of tracts.

    Attributes:
        profiles: Of each session.
        changes: From the first session to each later one.
    """

    profiles: tuple[list[Profile], ...]
    changes: list[Change]


def tract_changes(
    tracts: TractMaps,
    sessions: Sequence[Mapping[str, Map]],
    *,
    nodes: int = NODES,
    seed: int = 0,
    alike: Sequence[bool] | None = None,
    turns: Sequence[float] | None = None,
) -> Followed:
    """The change of every map along every tract, against the first session.

    Args:
        tracts: Of all sessions together.
        sessions: Scalar maps of each by name on the tracts' grid, from `carried_map`; maps that one lacks
            are left out.
        nodes: From the tract's beginning to its end; 1 is the mean over the tract.
        seed: Of the draws by which a tract's place is varied.
        alike: Whether each session's protocol is the first's: what a network errs in all voxels is then the
            same in both. All are, if absent.
        turns: Degrees by which each scan's slices are turned against the first's; 0 if absent.
    """
    names = [n for n in sessions[0] if all(n in s for s in sessions)]
    maps = _common([{n: s[n] for n in names if s[n].data.ndim == 3} for s in sessions])
    profiles = tuple(tract_profiles(tracts, m, nodes=nodes, seed=seed) for m in maps)
    changes = []
    for k in range(1, len(maps)):
        same = alike is None or alike[k]
        apart = {n: _difference(maps[0][n], maps[k][n], same) for n in maps[0]}
        between = tract_profiles(tracts, apart, nodes=nodes, seed=seed)
        changes += [
            Change(a.tract, a.map, a.value, b.value, d.std, a.reason, k)
            for a, b, d in zip(profiles[0], profiles[k], between)
        ]
    return Followed(profiles, _widened(changes, turns or [0.0] * len(sessions)))


def volume_changes(
    first: TractMaps, second: TractMaps, later: int = 1, turn: float = 0.0
) -> list[Change]:
    """The change of every tract's volume, ml.

    Args:
        first: Tracts of the first session, on the grid of both.
        second: Of the second.
        later: Number of the second session.
        turn: Degrees by which its slices are turned against the first's.
    """
    made = []
    for name, one in first.found.items():
        two = second.found[name]
        reason = one.reason or two.reason
        gone = "absent" in (one.state, two.state)
        a, b = (np.array([np.nan if gone else f.volume]) for f in (one, two))
        made.append(Change(name, VOLUME, a, b, np.where(gone, np.nan, np.zeros(1)), reason, later))
    return _widened(made, [0.0] * later + [turn])


def repeatability(changes: Sequence[Change], turn: float = 0.0) -> float:
    """Relative standard deviation of one map's changes that the maps' errors do not explain.

    Told by these two scans themselves: by the middle one of all tracts' changes, most of which are chance,
    within the limits of REPEATABILITY.

    Args:
        changes: Of one map, all tracts.
        turn: Degrees by which the second scan's slices are turned against the first's.
    """
    least, still, turned = REPEATABILITY.get(changes[0].map, _OTHER)
    most = still + (turned - still) * min(turn / _TURN, 1.0)
    first, second, std = (
        np.concatenate([getattr(c, name) for c in changes]) for name in ("first", "second", "std")
    )
    mean = np.abs(first + second) / 2
    good = np.isfinite(mean) & (mean > 0) & np.isfinite(std)
    if not good.any():
        return most
    change = np.abs(second - first)[good] / mean[good]
    explained = np.median(std[good] / mean[good])
    # The middle of |x| of a normal x is 0.6745 of its standard deviation.
    left = (np.median(change) / 0.6745) ** 2 - explained**2
    return float(np.clip(np.sqrt(max(left, 0.0)), least, most))


def _widened(changes: Sequence[Change], turns: Sequence[float]) -> list[Change]:
    """Changes whose standard deviations hold the repeatability of their map between these two scans."""
    made = []
    groups: dict[tuple[str, int], list[Change]] = {}
    for c in changes:
        groups.setdefault((c.map, c.later), []).append(c)
    spread = {key: repeatability(group, turns[key[1]]) for key, group in groups.items()}
    for c in changes:
        more = spread[c.map, c.later] * np.abs(c.first + c.second) / 2
        made.append(replace(c, std=np.hypot(c.std, more)))
    return made


def _common(sessions: Sequence[Mapping[str, Map]]) -> list[dict[str, Map]]:
    """Maps where all sessions have values."""
    made: list[dict[str, Map]] = [{} for _ in sessions]
    for name in sessions[0]:
        lost = np.isnan(np.sum([s[name].data for s in sessions], 0))
        for out, s in zip(made, sessions):
            out[name] = replace(s[name], data=np.where(lost, np.float32(np.nan), s[name].data))
    return made


def _difference(a: Map, b: Map, alike: bool) -> Map:
    std = None
    if a.std is not None and b.std is not None:
        std = np.hypot(_own(a), _own(b))
    one, two = (float(m.details.get("SharedStd", 0.0)) for m in (a, b))
    left = 0.0 if alike else float(np.hypot(one, two))
    return replace(a, data=b.data - a.data, std=std, details={"SharedStd": left})


def _own(m: Map) -> NDArray[np.float32]:
    """The part of a map's standard deviation that its voxels do not share."""
    assert m.std is not None
    share = float(m.details.get("SharedShare", 0.0))
    return np.asarray(m.std * np.sqrt(max(1 - share**2, 0.0)), np.float32)
