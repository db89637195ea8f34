"""Sessions of one person followed: what `fornix longitudinal` does."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fornix.core.dwi import DWI
from fornix.core.errors import FornixError, tell
from fornix.core.maps import Map
from fornix.io import derivative, load, stem_of, write_sidecar
from fornix.io.files import protected, sha256
from fornix.io.nifti import image_files
from fornix.register.features import Features
from fornix.register.files import FileWarp, load_point_map, save_warp, warp_name
from fornix.register.grids import Lattice
from fornix.register.halfway import HALFWAY_KINDS, halfway, turn_between
from fornix.register.mean_head import carried_head, mean_head, reach
from fornix.register.scan_features import scan_features
from fornix.register.warp import HeadMap, Warp
from fornix.report.change_page import write_change_page
from fornix.tracts.change import (
    Change,
    Followed,
    carried_map,
    tract_changes,
    volume_changes,
)
from fornix.tracts.change_files import COLUMNS, save_changes
from fornix.tracts.files import load_tracts, save_session_profiles, save_tracts
from fornix.tracts.profile import NODES
from fornix.tracts.segment import TractMaps, segment_head
from fornix.workflow.job import Job, Show, Silent
from fornix.workflow.options import Options
from fornix.workflow.stages import mask_stage, microstructure_stage, noise_stage
from fornix.workflow.stages.tracts import PROFILED, onto_template
from fornix.workflow.state import State, open_job

#: What the space is called in names of files.
SPACE = "halfway"


@dataclass(frozen=True, eq=False)
class Session:
    """One session with its maps.

    Attributes:
        name: `session1`, `session2`, …, as in names of files.
        dwi: The scan with its mask.
        maps: Scalars by name.
        head: Its features.
    """

    name: str
    dwi: DWI
    maps: Mapping[str, Map]
    head: Features


@dataclass(frozen=True, eq=False)
class Meeting:
    """The half-way space: its grid, each session's map, what is to be looked at."""

    lattice: Lattice
    warps: tuple[HeadMap, ...]
    notes: tuple[str, ...] = ()


def follow(
    paths: Sequence[str | Path],
    out: str | Path,
    options: Options | None = None,
    *,
    kind: str = "rigid",
    nodes: int = NODES,
    show: Show | None = None,
) -> Path:
    """Changes along tracts between sessions of one person.

    Args:
        paths: Scans, the first session first.
        out: Folder for the results.
        options: Models, method, seed, threads and the like.
        kind: Of the registration between sessions, one of HALFWAY_KINDS.
        nodes: Along each tract.
        show: Tells what is done; silent if absent.

    Returns:
        The table of changes over tracts.

    Raises:
        FornixError: Fewer than two sessions, or one scan twice.
    """
    options, show = options or Options(), show or Silent()
    if kind not in HALFWAY_KINDS:
        raise FornixError(f"--kind {kind!r} is unknown; choose one of: {', '.join(HALFWAY_KINDS)}")
    hashes = _hashes(paths)
    with protected(*paths):
        sessions = [_session(path, i, out, options, show) for i, path in enumerate(paths)]
        inputs = {f"Session{i + 1}": sha for i, sha in enumerate(hashes)}
        job = Job(out, common_stem(paths), inputs, show)
        meeting = _halfway_step(job, sessions, kind)
        heads, brain, mean = _met(sessions, meeting)
        warp = onto_template(job, mean, (SPACE, "mni"), options)
        tracts = _tracts_step(job, mean, warp, brain)
        return _change_step(job, sessions, meeting, heads, brain, warp, tracts, options, nodes)


def common_stem(paths: Sequence[str | Path]) -> str:
    """What the names of all sessions begin with, in whole parts; `longitudinal` if nothing."""
    parts = zip(*(stem_of(p).split("_") for p in paths))
    shared = itertools.takewhile(lambda part: len(set(part)) == 1, parts)
    return "_".join(part[0] for part in shared) or "longitudinal"


def _hashes(paths: Sequence[str | Path]) -> list[str]:
    if len(paths) < 2:
        raise FornixError("changes need two sessions or more; give the scans in order of time")
    hashes: list[str] = []
    for path in paths:
        found = sha256(*image_files(path))
        if found in hashes:
            first = paths[hashes.index(found)]
            raise FornixError(f"{path} and {first} hold the same scan; give each session once")
        hashes.append(found)
    return hashes


def _session(
    path: str | Path, number: int, out: str | Path, options: Options, show: Show
) -> Session:
    name = f"session{number + 1}"
    scan = load(path, max_memory=options.max_memory)
    job = open_job(Path(out) / name, path, scan, show)
    state = State(scan)
    mask_stage(job, state)
    noise_stage(job, state)
    microstructure_stage(job, state, options.models, options.method, options)
    maps = {n: state.maps[n] for n in PROFILED if n in state.maps.maps}
    return Session(name, state.dwi, maps, scan_features(state.dwi))


def _halfway_step(job: Job, sessions: Sequence[Session], kind: str) -> Meeting:
    def compute(progress: Any) -> Meeting:
        found = halfway([s.head for s in sessions], kind=kind, progress=progress)
        for note in found.notes:
            tell(note)
        return Meeting(found.lattice, found.warps, found.notes)

    def save(made: Meeting, provenance: dict[str, Any]) -> list[Path]:
        written = []
        for s, warp in zip(sessions, made.warps):
            assert isinstance(warp, Warp)
            about = {"Kind": kind, **provenance}
            written += save_warp(warp, job.out, job.stem, (s.name, SPACE), about)
        return written

    def read() -> Meeting:
        warps: list[HeadMap] = []
        for s in sessions:
            forward, lattice = load_point_map(job.out / warp_name(job.stem, s.name, SPACE))
            backward, _ = load_point_map(job.out / warp_name(job.stem, SPACE, s.name))
            warps.append(FileWarp(forward, backward))
        return Meeting(lattice, tuple(warps))

    return job.step(
        "halfway",
        {"kind": kind},
        compute,
        save,
        read,
        lambda made: f"{len(sessions)} sessions, {kind}, {made.lattice.spacing.mean():.2f} mm",
        lambda made: made.notes,
    )


def _met(
    sessions: Sequence[Session], meeting: Meeting
) -> tuple[list[Features], NDArray[np.bool_], Features]:
    """Every session's features in the half-way space, the brain that all show, and the mean."""
    heads = [
        carried_head(s.head, meeting.lattice, w.to_moving) for s, w in zip(sessions, meeting.warps)
    ]
    seen = [
        reach(s.head.lattice, meeting.lattice, w.to_moving) for s, w in zip(sessions, meeting.warps)
    ]
    brain = np.stack([h.brain.numpy() for h in heads]).min(0) > 0.5
    return heads, np.asarray(brain), mean_head(heads, seen)


def _tracts_step(job: Job, mean: Features, warp: HeadMap, brain: NDArray[np.bool_]) -> TractMaps:
    return job.step(
        "tracts",
        {"method": "network", "atlases": ["tracts72"]},
        lambda progress: segment_head(mean, warp, brain, progress=progress),
        lambda tracts, provenance: save_tracts(tracts, job.out, job.stem, provenance),
        lambda: load_tracts(job.out, job.stem),
        lambda tracts: f"{len(tracts.found)} tracts, of all sessions together",
        lambda tracts: tracts.notes,
    )


def _change_step(
    job: Job, sessions: Sequence[Session], meeting: Meeting, heads: Sequence[Features],
    brain: NDArray[np.bool_], warp: HeadMap, tracts: TractMaps, options: Options, nodes: int,
) -> Path:  # fmt: skip
    names = [s.name for s in sessions]
    kinds = {
        "change": derivative(job.stem, "tracts", desc="change", extension=".tsv"),
        "along": derivative(job.stem, "tracts", desc="changeprofiles", extension=".tsv"),
        "profiles": derivative(job.stem, "tracts", desc="profiles", extension=".tsv"),
        "means": derivative(job.stem, "tracts", desc="means", extension=".tsv"),
    }
    table, along, profiles, means = (job.out / name for name in kinds.values())
    page = job.out / f"{job.stem}_change.html"

    def compute(progress: Any) -> tuple[Followed, Followed]:
        alike = [same_protocol(sessions[0].dwi, s.dwi) for s in sessions]
        maps = [
            {n: carried_map(m, s.dwi.brain(), s.head.lattice, meeting.lattice, w.to_moving)
             for n, m in s.maps.items()}
            for s, w in zip(sessions, meeting.warps)
        ]  # fmt: skip
        turns = [
            turn_between(
                sessions[0].head.lattice, s.head.lattice, meeting.warps[0].to_moving, w.to_moving
            )
            for s, w in zip(sessions, meeting.warps)
        ]
        nodewise, whole = (
            tract_changes(tracts, maps, nodes=n, seed=options.seed, alike=alike, turns=turns)
            for n in (nodes, 1)
        )
        own = [segment_head(h, warp, brain) for h in heads]
        volumes: list[Change] = []
        for k in range(1, len(own)):
            volumes += volume_changes(own[0], own[k], k, turns[k])
        return nodewise, Followed(whole.profiles, whole.changes + volumes)

    def save(made: tuple[Followed, Followed], provenance: dict[str, Any]) -> list[Path]:
        nodewise, whole = made
        units = {n: m.units for n, m in sessions[0].maps.items()} | {"volume_ml": "ml"}
        save_changes(whole.changes, table, names, along=False)
        save_changes(nodewise.changes, along, names, along=True)
        save_session_profiles(dict(zip(names, nodewise.profiles)), profiles, job.stem)
        save_session_profiles(dict(zip(names, whole.profiles)), means, job.stem)
        for path in (table, along):
            write_sidecar(path, {"Columns": COLUMNS, "Units": units, **provenance})
        for path in (profiles, means):
            write_sidecar(path, {"Description": "maps of each session along tracts of all",
                                 "Units": units, **provenance})  # fmt: skip
        told = [note for step in job.record.steps.values() for note in step.warnings]
        write_change_page(page, whole.changes, names, told)
        write_sidecar(page, {"Description": "what changed, a page", **provenance})
        return [table, along, profiles, means, page]

    empty = Followed((), [])
    job.step(
        "change",
        {"nodes": nodes, "seed": options.seed, "models": options.models, "method": options.method},
        compute,
        save,
        lambda: (empty, empty),
        lambda made: _summary(made[1].changes),
    )
    return table


def same_protocol(one: DWI, two: DWI) -> bool:
    """True where two scans have the same b-values and voxels within what scanners round."""
    a, b = (np.sort(d.gradients.bvals) for d in (one, two))
    if len(a) != len(b) or np.abs(a - b).max() > 60:
        return False
    return bool(np.allclose(np.sort(one.voxel_size), np.sort(two.voxel_size), rtol=0.03))


def _summary(changes: Sequence[Change]) -> str:
    known = [c for c in changes if np.isfinite(c.change).all() and np.isfinite(c.std).all()]
    beyond = sum(bool(c.low[0] > 0 or c.high[0] < 0) for c in known)
    return f"{beyond} of {len(known)} changes beyond their 90% intervals (by chance about a tenth)"
