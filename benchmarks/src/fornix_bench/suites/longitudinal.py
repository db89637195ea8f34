"""`fornix bench longitudinal`: changes between sessions that are none, and changes that are known.

Sections:
* repeated: two real scans of one head: every change is an error. Beside it the same maps on tracts that each
  scan was given of its own, as two runs of `fornix tracts` give them.
* known: one simulated head in two poses and noises, with the neurite density of one tract lowered in the
  second: whether the change is found there, and nothing elsewhere.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from fornix.core.maps import Map
from fornix.estimators.mask import brain_mask
from fornix.io import load, load_maps, save_scan, stem_of
from fornix.physics.anatomy.model import Anatomy
from fornix.physics.anatomy.subject import from_subject
from fornix.physics.anatomy.variation import vary
from fornix.physics.phantom import simulate
from fornix.register.register import register
from fornix.register.scan_features import scan_features
from fornix.register.template import mni_template
from fornix.tracts.change import SIDE, VOLUME
from fornix.tracts.profile import tract_profiles
from fornix.tracts.segment import TractMaps, segment_tracts
from fornix.workflow.longitudinal import follow
from fornix.workflow.options import Options
from fornix.workflow.stages.tracts import PROFILED
from fornix_bench.sections import run_sections
from fornix_bench.suites.segmentation import HEADS, PAIRS
from fornix_bench.table import Row, environment, markdown, read_csv, write_page

#: Tracts that change, and by what their neurite density is multiplied.
CHANGED = (("CST_left", 0.9), ("AF_right", 0.9), ("CG_left", 0.95))
#: Degrees and mm between the two poses of a simulated head.
_TURN, _SHIFT = 6.0, 8.0
#: Share of a tract's weight inside the changed one from which it counts as changed too.
_TOUCHED = 0.02


def run_longitudinal(
    out: str | Path = "docs/benchmarks", threads: int = 2, quick: bool = False, seed: int = 0,
    sections: Sequence[str] = (),
) -> list[Row]:  # fmt: skip
    """Write longitudinal_….csv of each section and longitudinal.md; quick: one pair, one head.

    Anatomy and scans are read from FORNIX_TEST_DATA or ../shared/data.
    """
    rows = run_sections("longitudinal", SECTIONS, out, threads, quick, seed, sections)
    _page(Path(out), threads, seed)
    return rows


def _data() -> Path:
    return Path(os.environ.get("FORNIX_TEST_DATA", "../shared/data"))


def repeated(quick: bool, seed: int) -> list[Row]:
    """Coverage of zero and size of the changes, by pair and map, on common and on separate tracts."""
    rows: list[Row] = []
    for pair in PAIRS[:1] if quick else PAIRS:
        paths = [_data() / "dwi" / name / "dwi.nii.gz" for name in pair]
        with tempfile.TemporaryDirectory() as temporary:
            start = time.perf_counter()
            table = follow(paths, temporary, Options(models=("dti",), seed=seed))
            seconds = time.perf_counter() - start
            changes = pd.read_csv(table, sep="\t", na_values=["n/a"])
            along = pd.read_csv(
                table.with_name(table.name.replace("change", "changeprofiles")),
                sep="\t", na_values=["n/a"],
            )  # fmt: skip
            alone = _separate(paths, Path(temporary), seed)
        for name, group in changes.groupby("map", sort=False):
            known = group.dropna(subset=["change", "std"])
            nodes = along[along["map"] == name].dropna(subset=["change", "std"])
            rows.append(
                {
                    "scan": pair[0], "other": pair[1], "map": name,
                    "tracts hold 0": _holds(known),
                    "left by right": _held_by_other_side(known),
                    "nodes hold 0": _holds(nodes) if len(nodes) else float("nan"),
                    "cv": _cv(known["first"], known["second"]),
                    "cv apart": _cv(*alone[name]) if name in alone else float("nan"),
                    "change, %": float(known["percent"].median()),
                    "std, %": float((100 * known["std"] / _mean(known)).median()),
                    "seconds": seconds,
                }
            )  # fmt: skip
    return rows


def _mean(table: pd.DataFrame) -> pd.Series:
    return (table["first"] + table["second"]).abs() / 2


def _holds(table: pd.DataFrame) -> float:
    return float(((table["low"] <= 0) & (table["high"] >= 0)).mean())


def _held_by_other_side(table: pd.DataFrame) -> float:
    """Share of left tracts that hold 0 where the spread comes from the right ones alone, and back.

    The interval's own spread is told by all tracts together; this one by tracts that it is not used for.
    """
    mean = _mean(table)
    relative = (table["change"].abs() / mean).to_numpy()
    left, right = (table["tractID"].str.endswith(s).to_numpy() for s in ("_left", "_right"))
    held: list[NDArray[np.bool_]] = []
    for mine, other in ((left, right), (right, left)):
        held.append(relative[mine] < SIDE * np.median(relative[other]) / 0.6745)
    return float(np.concatenate(held).mean())


def _cv(first: Sequence[float] | pd.Series, second: Sequence[float] | pd.Series) -> float:
    """Median over tracts of the coefficient of variation of two scans."""
    both = np.stack([np.asarray(first, float), np.asarray(second, float)])
    both = both[:, np.isfinite(both).all(0)]
    return float(np.median(np.abs(both[1] - both[0]) / np.sqrt(2) / np.abs(both.mean(0))))


def _separate(
    paths: Sequence[Path], folder: Path, seed: int
) -> dict[str, tuple[list[float], list[float]]]:
    """Means over tracts of each scan registered and segmented by itself, from the maps that are there."""
    found: list[dict[str, dict[str, float]]] = []
    for i, path in enumerate(paths):
        dwi = brain_mask(load(path))
        head = scan_features(dwi)
        tracts = segment_tracts(dwi, head, register(head, mni_template().features()))
        read = load_maps(folder / f"session{i + 1}", stem_of(path))
        maps = {n: read[n] for n in PROFILED if n in read.maps}
        found.append(_means(tracts, maps, seed))
    names = {n: [t for t in found[0][n] if t in found[1][n]] for n in found[0]}
    return {
        n: ([found[0][n][t] for t in kept], [found[1][n][t] for t in kept])
        for n, kept in names.items()
    }


def _means(tracts: TractMaps, maps: Mapping[str, Map], seed: int) -> dict[str, dict[str, float]]:
    out: dict[str, dict[str, float]] = {VOLUME: {}}
    for p in tract_profiles(tracts, maps, nodes=1, seed=seed):
        if np.isfinite(p.value[0]):
            out.setdefault(p.map, {})[p.tract] = float(p.value[0])
    for name, f in tracts.found.items():
        if f.state != "absent":
            out[VOLUME][name] = f.volume
    return out


def known(quick: bool, seed: int) -> list[Row]:
    """Estimate, truth and rank of a known change; coverage and false alarms of all other tracts."""
    base = from_subject(_data() / "anatomy")
    rows: list[Row] = []
    for number, (tract, factor) in zip(HEADS, CHANGED[:1] if quick else CHANGED):
        head = vary(base, number + seed)
        later = _moved(_thinned(head, tract, factor), number + seed)
        scans = [
            simulate(a, "dti30", snr=20.0, seed=number + seed + i)
            for i, a in enumerate((head, later))
        ]
        with tempfile.TemporaryDirectory() as temporary:
            paths = [
                save_scan(s.dwi, Path(temporary) / f"ses-{i + 1}_dwi.nii.gz")
                for i, s in enumerate(scans)
            ]
            start = time.perf_counter()
            table = follow(paths, Path(temporary) / "out", Options(models=("dti",), seed=seed))
            seconds = time.perf_counter() - start
            changes = pd.read_csv(table, sep="\t", na_values=["n/a"])
        touched = _touched(head, tract)
        for name in ("dti_fa", "dti_md"):
            maps = [s.truth[name].data for s in scans]
            mask = head.bundles[tract].mask
            true = float((maps[1] - maps[0])[mask].mean() / maps[0][mask].mean())
            mine = changes[changes["map"] == name].dropna(subset=["change", "std"])
            one = mine[mine["tractID"] == tract].iloc[0]
            others = mine[~mine["tractID"].isin(touched)]
            z = (mine["change"] / mine["std"]).abs().to_numpy()
            own = abs(one["change"] / one["std"])
            rows.append(
                {
                    "head": number, "tract": tract, "map": name, "true, %": 100 * true,
                    "found, %": float(one["percent"]),
                    "std, %": float(100 * one["std"] / _mean(mine.loc[[one.name]]).iloc[0]),
                    "found": bool(one["low"] > 0 or one["high"] < 0),
                    "rank of z": int((z > own).sum()) + 1,
                    "others hold 0": _holds(others), "others": len(others), "seconds": seconds,
                }
            )  # fmt: skip
    return rows


def _thinned(head: Anatomy, tract: str, factor: float) -> Anatomy:
    """The head with fewer neurites in one tract; what they leave diffuses across them."""
    mask = head.bundles[tract].mask
    ndi = np.where(mask, head.ndi * factor, head.ndi)
    across = np.where(mask, head.d_perp * (1 - ndi) / np.maximum(1 - head.ndi, 0.05), head.d_perp)
    return head.with_(ndi=ndi.astype(np.float32), d_perp=across.astype(np.float32))


def _moved(head: Anatomy, seed: int) -> Anatomy:
    """The head in another pose, its grid with it; the gradients stay where the scanner has them."""
    rng = np.random.default_rng([seed, 7])
    turn = Rotation.from_rotvec(np.radians(_TURN) * _unit(rng)).as_matrix()
    pose = np.eye(4)
    pose[:3, :3], pose[:3, 3] = turn, _SHIFT * _unit(rng)
    mu = np.einsum("ij,...j->...i", turn, head.mu)
    return head.with_(affine=pose @ head.affine, mu=mu.astype(np.float32))


def _unit(rng: np.random.Generator) -> NDArray[np.float64]:
    v = rng.standard_normal(3)
    return np.asarray(v / np.linalg.norm(v))


def _touched(head: Anatomy, tract: str) -> set[str]:
    """Tracts that share voxels with the changed one."""
    mask = head.bundles[tract].mask
    return {
        name for name, b in head.bundles.items()
        if (b.mask & mask).sum() > _TOUCHED * max(b.mask.sum(), 1)
    }  # fmt: skip


#: By name.
SECTIONS: dict[str, Callable[[bool, int], list[Row]]] = {"repeated": repeated, "known": known}

_WORDS = {
    "repeated": """## Repeated real scans

Two scans of one head, so that every change is an error. `hold 0`: share of the 90% intervals that hold 0; the
spread that they are made of is told by the tracts of the pair itself, within limits that come from these
scans, so `left by right` takes it from the other side of the brain alone, without the maps' own errors. `cv`:
median coefficient of variation over tracts; `apart`: of the same maps on tracts that each scan was given by a
registration of its own. `tilt-all20`: slices turned by 20 degrees. `dir-AP` and `dir-PA` are distorted in
opposite directions and not corrected: what not to compare.""",
    "known": """## A known change

One simulated head twice (30 directions, SNR 20), the second time in another pose and with fewer neurites in
one tract. `true`: change of the true map over the tract's true mask. `others`: tracts that share under 2% of
their voxels with the changed one; their intervals should hold 0.""",
}


def _page(folder: Path, threads: int, seed: int) -> None:
    blocks = [f"{environment(threads, seed)}.", "Made by `fornix bench longitudinal`."]
    for name, words in _WORDS.items():
        path = folder / f"longitudinal_{name}.csv"
        if path.exists():
            blocks += [words, markdown(read_csv(path))]
    write_page(folder / "longitudinal.md", "Changes between sessions", blocks)
