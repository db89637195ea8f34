"""Tracts and profiles as files: probabilities, endings, directions, places along; tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fornix.core.errors import FornixError
from fornix.io import derivative, write_sidecar
from fornix.io.files import atomic
from fornix.io.nifti import read_volume, write_scaled
from fornix.register.grids import Lattice
from fornix.tracts.atlas import Tract
from fornix.tracts.profile import Profile, length_of
from fornix.tracts.segment import FoundTract, TractMaps

#: Columns of the table of tracts.
_COLUMNS = (
    "index", "name", "state", "presence", "visible", "volume_ml", "volume_std_ml", "length_mm", "threshold",
    "reason",
)  # fmt: skip


def save_tracts(tracts: TractMaps, folder: Path, stem: str, about: Mapping[str, Any]) -> list[Path]:
    """Write what was found; all images hold bytes with a scale, a volume a tract (or two, or three).

    Args:
        tracts: From `segment_tracts`.
        folder: Where to.
        stem: What the files' names begin with.
        about: More of what the sidecars say.
    """
    names = list(tracts.found)
    size = int(np.prod(tracts.lattice.shape))
    images: dict[str, tuple[str, NDArray[Any], float, str]] = {}

    def empty(channels: int, kind: type) -> NDArray[Any]:
        return np.zeros((len(names) * channels, size), kind)

    share, ends = empty(1, np.uint8), empty(2, np.uint8)
    course, along = empty(3, np.int8), empty(1, np.uint8)
    for i, found in enumerate(tracts.found.values()):
        if found.state == "absent":
            continue
        voxels, tract = found.tract.voxels, found.tract
        share[i, voxels] = np.rint(found.probability * 255)
        end = tract.ends * (found.probability / np.maximum(tract.share, 1e-3)).clip(0, 1)[:, None]
        ends[2 * i : 2 * i + 2, voxels] = np.rint(end.clip(0, 1) * 255).T
        inside = found.probability > found.threshold
        course[3 * i : 3 * i + 3, voxels] = np.rint(tract.direction * inside[:, None] * 127).T
        along[i, voxels] = 1 + np.rint(tract.along * 254)
    images["probseg"] = ("tracts", share, 1 / 255, "probability of each tract")
    images["ends"] = ("endings", ends, 1 / 255, "probability of each tract's beginning and end")
    images["tom"] = ("tracts", course, 1 / 127, "direction of each tract, x y z, world axes")
    images["along"] = (
        "tracts", along, 1 / 255, "place along each tract: 1/255 at its beginning, 1 at its end, 0 outside"
    )  # fmt: skip
    written = []
    for key, (desc, values, scale, text) in images.items():
        suffix = "probseg" if key == "ends" else key
        path = folder / derivative(stem, suffix, desc=desc)
        volume = np.moveaxis(values.reshape(-1, *tracts.lattice.shape), 0, -1)
        write_scaled(path, volume, tracts.lattice.affine, scale)
        write_sidecar(path, {"Description": text, "Units": "1", "Tracts": names, **about})
        written.append(path)
    table = folder / derivative(stem, "dseg", desc="tracts", extension=".tsv")
    with atomic(table) as temporary:
        temporary.write_text("\n".join(_rows(tracts)) + "\n")
    write_sidecar(table, {"Description": "what was found of each tract", **about})
    return [*written, table]


def _rows(tracts: TractMaps) -> list[str]:
    rows = ["\t".join(_COLUMNS)]
    for i, (name, f) in enumerate(tracts.found.items()):
        length = 0.0 if f.state == "absent" else length_of(f, tracts.lattice)
        there = f.state != "absent"
        cells = [
            str(i), name, f.state, f"{f.presence:.3f}", f"{f.visible:.3f}",
            f"{f.volume if there else 0:.3f}", f"{f.volume_std if there else 0:.3f}", f"{length:.1f}",
            f"{f.threshold:.2f}", f.reason or "n/a",
        ]  # fmt: skip
        rows.append("\t".join(cells))
    return rows


def load_tracts(folder: Path, stem: str) -> TractMaps:
    """Read what `save_tracts` wrote.

    Raises:
        FornixError: Files are missing, or do not belong together.
    """
    table = folder / derivative(stem, "dseg", desc="tracts", extension=".tsv")
    if not table.exists():
        raise FornixError(f"{table} is missing: make it with fornix tracts, or fornix run")
    lines = [line.split("\t") for line in table.read_text().splitlines()]
    if not lines or tuple(lines[0]) != _COLUMNS:
        raise FornixError(
            f"{table} is not a table of tracts that this version of fornix tracts writes"
        )
    share, affine = read_volume(folder / derivative(stem, "probseg", desc="tracts"))
    ends, _ = read_volume(folder / derivative(stem, "probseg", desc="endings"))
    course, _ = read_volume(folder / derivative(stem, "tom", desc="tracts"))
    along, _ = read_volume(folder / derivative(stem, "along", desc="tracts"))
    count = len(lines) - 1
    if (share.shape[3], ends.shape[3], course.shape[3], along.shape[3]) != (
        count, 2 * count, 3 * count, count,
    ):  # fmt: skip
        raise FornixError(
            f"{table} has {count} tracts, the images beside it others: run fornix tracts again"
        )
    lattice = Lattice(np.asarray(affine, np.float64), share.shape[:3])
    found = {}
    for i, row in enumerate(lines[1:]):
        voxels = np.flatnonzero(along[..., i].reshape(-1) > 0)
        p = share[..., i].reshape(-1)[voxels]
        tract = Tract(
            row[1], voxels, p, ends[..., 2 * i : 2 * i + 2].reshape(-1, 2)[voxels],
            course[..., 3 * i : 3 * i + 3].reshape(-1, 3)[voxels],
            ((along[..., i].reshape(-1)[voxels] * 255 - 1) / 254).clip(0, 1),
        )  # fmt: skip
        found[row[1]] = FoundTract(
            tract, p, float(row[8]), float(row[3]), float(row[4]), float(row[5]), float(row[6]),
            "" if row[9] == "n/a" else row[9],
        )  # fmt: skip
    return TractMaps(lattice, found, "read")


def save_profiles(profiles: Sequence[Profile], path: Path, subject: str = "") -> Path:
    """Write `tractID nodeID map value std reason`, a row a node; `n/a` where there is no value.

    Args:
        profiles: From `tract_profiles`.
        path: The file.
        subject: Stands in a column `subjectID` where given.
    """
    head = ["tractID", "nodeID", "map", "value", "std", "reason"]
    rows = ["\t".join((["subjectID"] if subject else []) + head)]
    for p in profiles:
        before = [subject] if subject else []
        for node, (value, std) in enumerate(zip(p.value, p.std)):
            numbers = [f"{v:.6g}" if np.isfinite(v) else "n/a" for v in (value, std)]
            reason = p.reason if not np.isfinite(value) else ""
            rows.append("\t".join([*before, p.tract, str(node), p.map, *numbers, reason or "n/a"]))
    with atomic(path) as temporary:
        temporary.write_text("\n".join(rows) + "\n")
    return path


def load_profiles(
    path: Path,
) -> dict[str, dict[str, tuple[NDArray[np.float64], NDArray[np.float64]]]]:
    """Values and standard deviations (nodes,) by map and tract, NaN where there is none.

    Raises:
        FornixError: The file is no table of profiles.
    """
    lines = [line.split("\t") for line in path.read_text().splitlines() if line]
    wanted = ("tractID", "nodeID", "map", "value", "std")
    if not lines or any(name not in lines[0] for name in wanted):
        raise FornixError(f"{path} is no table of profiles: it lacks one of {', '.join(wanted)}")
    at = {name: lines[0].index(name) for name in wanted}
    found: dict[str, dict[str, list[tuple[int, float, float]]]] = {}
    for row in lines[1:]:
        value, std = (
            float("nan") if row[at[k]] == "n/a" else float(row[at[k]]) for k in ("value", "std")
        )
        of_map = found.setdefault(row[at["map"]], {})
        of_map.setdefault(row[at["tractID"]], []).append((int(row[at["nodeID"]]), value, std))
    return {
        name: {
            tract: (
                np.array([v for _, v, _ in sorted(rows)]),
                np.array([s for _, _, s in sorted(rows)]),
            )
            for tract, rows in of_map.items()
        }
        for name, of_map in found.items()
    }
