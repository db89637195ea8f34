"""Tracts and profiles as files: probabilities, endings, directions, places along; tables."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fornix.core.errors import FornixError
from fornix.io import derivative, write_sidecar
from fornix.io.files import atomic
from fornix.io.nifti import Stored, read_stored, write_scaled
from fornix.register.grids import Lattice
from fornix.tracts.atlas import Tract
from fornix.tracts.profile import Profile, length_of
from fornix.tracts.segment import FoundTract, TractMaps

Array = NDArray[np.floating]

#: Columns of the table of tracts.
_COLUMNS = (
    "index", "name", "state", "presence", "visible", "volume_ml", "volume_std_ml", "length_mm", "threshold",
    "reason", "displacement_mm",
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
    written = []
    # One image after another: of a fine grid each takes a tenth to a third of a gigabyte.
    for suffix, desc, channels, kind, scale, values_of, text in _IMAGES:
        size = int(np.prod(tracts.lattice.shape))
        values: NDArray[Any] = np.zeros((len(names) * channels, size), kind)
        for i, found in enumerate(tracts.found.values()):
            if found.state != "absent":
                block = slice(channels * i, channels * (i + 1))
                values[block, found.tract.voxels] = np.rint(values_of(found) / scale).T
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


def _share(found: FoundTract) -> Array:
    return found.probability[:, None]


def _ends(found: FoundTract) -> Array:
    lowered = (found.probability / np.maximum(found.tract.share, 1e-3)).clip(0, 1)
    return (found.tract.ends * lowered[:, None]).clip(0, 1)


def _course(found: FoundTract) -> Array:
    return found.tract.direction * (found.probability > found.threshold)[:, None]


def _along(found: FoundTract) -> Array:
    return (1 + found.tract.along[:, None] * 254) / 255


#: Suffix, desc, volumes of a tract, stored as, scale, values (n, volumes) of a tract, description.
_IMAGES: tuple[tuple[str, str, int, type, float, Callable[[FoundTract], Array], str], ...] = (
    ("probseg", "tracts", 1, np.uint8, 1 / 255, _share, "probability of each tract"),
    ("probseg", "endings", 2, np.uint8, 1 / 255, _ends, "probability of each tract's beginning and end"),
    ("tom", "tracts", 3, np.int8, 1 / 127, _course, "direction of each tract, x y z, world axes"),
    (
        "along", "tracts", 1, np.uint8, 1 / 255, _along,
        "place along each tract: 1/255 at its beginning, 1 at its end, 0 outside",
    ),
)  # fmt: skip


def _rows(tracts: TractMaps) -> list[str]:
    rows = ["\t".join(_COLUMNS)]
    for i, (name, f) in enumerate(tracts.found.items()):
        length = 0.0 if f.state == "absent" else length_of(f, tracts.lattice)
        there = f.state != "absent"
        cells = [
            str(i), name, f.state, f"{f.presence:.3f}", f"{f.visible:.3f}",
            f"{f.volume if there else 0:.3f}", f"{f.volume_std if there else 0:.3f}", f"{length:.1f}",
            f"{f.threshold:.2f}", f.reason or "n/a", f"{f.displacement:.1f}",
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
    count = len(lines) - 1
    stored: list[Stored] = []
    for suffix, desc, channels, *_ in _IMAGES:
        image = read_stored(folder / derivative(stem, suffix, desc=desc))
        if (
            image.raw.ndim != 4
            or image.raw.shape[3] != channels * count
            or (stored and image.raw.shape[:3] != stored[0].raw.shape[:3])
        ):
            raise FornixError(
                f"{table} has {count} tracts, the images beside it others: run fornix tracts again"
            )
        stored.append(image)
    share, ends, course, along = stored
    lattice = Lattice(np.asarray(share.affine, np.float64), share.raw.shape[:3])
    found = {}
    for i, row in enumerate(lines[1:]):
        voxels = np.flatnonzero(along.raw[..., i])
        p = share.at(voxels, i)
        tract = Tract(
            row[1], voxels, p, ends.at(voxels, slice(2 * i, 2 * i + 2)),
            course.at(voxels, slice(3 * i, 3 * i + 3)),
            ((along.at(voxels, i) * 255 - 1) / 254).clip(0, 1),
        )  # fmt: skip
        found[row[1]] = FoundTract(
            tract, p, float(row[8]), float(row[3]), float(row[4]), float(row[5]), float(row[6]),
            "" if row[9] == "n/a" else row[9], float(row[10]),
        )  # fmt: skip
    return TractMaps(lattice, found, "read")


def save_profiles(profiles: Sequence[Profile], path: Path, subject: str = "") -> Path:
    """Write `tractID nodeID map value std reason`, a row a node; `n/a` where there is no value.

    Args:
        profiles: From `tract_profiles`.
        path: The file.
        subject: Stands in a column `subjectID` where given.
    """
    before = {"subjectID": subject} if subject else {}
    return _write_profiles([(before, profiles)], path)


def save_session_profiles(
    sessions: Mapping[str, Sequence[Profile]], path: Path, subject: str
) -> Path:
    """The same for several sessions of one person: columns `subjectID sessionID` come first.

    Args:
        sessions: Profiles by the session's name.
        path: The file.
        subject: Name of the person.
    """
    blocks = [({"subjectID": subject, "sessionID": name}, p) for name, p in sessions.items()]
    return _write_profiles(blocks, path)


def _write_profiles(
    blocks: Sequence[tuple[Mapping[str, str], Sequence[Profile]]], path: Path
) -> Path:
    rows = ["\t".join([*blocks[0][0], "tractID", "nodeID", "map", "value", "std", "reason"])]
    for before, profiles in blocks:
        for p in profiles:
            for node, (value, std) in enumerate(zip(p.value, p.std)):
                numbers = [written_number(v) for v in (value, std)]
                reason = p.reason if not np.isfinite(value) else ""
                cells = [*before.values(), p.tract, str(node), p.map, *numbers, reason or "n/a"]
                rows.append("\t".join(cells))
    with atomic(path) as temporary:
        temporary.write_text("\n".join(rows) + "\n")
    return path


def written_number(value: float) -> str:
    """A number as tables hold it; `n/a` where there is none."""
    return f"{value:.6g}" if np.isfinite(value) else "n/a"


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
