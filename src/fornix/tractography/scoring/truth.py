"""What a tractogram is scored against: bundles with their masks and two end regions, in a folder.

    FOLDER/bundles.json            names, and the files of each bundle
    FOLDER/bundles/NAME.trx        its streamlines
    FOLDER/bundles/NAME_{mask,begin,end}.nii.gz

A bundle may have only streamlines (its mask is then the voxels they pass through), or only a mask.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from fornix.core.errors import FornixError
from fornix.core.methods import Deferred
from fornix.core.tractogram import Tractogram
from fornix.io import read_json, read_volume, save_tractogram, write_image, write_json
from fornix.io.files import output_folder
from fornix.io.tractograms import read_streamlines

if TYPE_CHECKING:
    from fornix.physics.anatomy import Bundle

# Loads torch, a second of start-up, when it is used.
visits = Deferred("fornix.physics.bundle_maps:visits")

INDEX = "bundles.json"


@dataclass(frozen=True, eq=False)
class BundleTruth:
    """Bundles on one grid.

    Attributes:
        names: (B,).
        masks: (B, X, Y, Z) where each bundle runs.
        begins: (B, X, Y, Z) one end region.
        ends: (B, X, Y, Z) the other.
        affine: (4, 4) voxel to world (RAS+, mm).

    Raises:
        FornixError: Shapes disagree, or a bundle has no mask or end region.
    """

    names: tuple[str, ...]
    masks: NDArray[np.bool_]
    begins: NDArray[np.bool_]
    ends: NDArray[np.bool_]
    affine: NDArray[np.float64]

    def __post_init__(self) -> None:
        shape = self.masks.shape
        if len(shape) != 4 or shape[0] != len(self.names) or not self.names:
            raise FornixError(
                f"the truth's masks must be (bundles, X, Y, Z) of {len(self.names)} bundles, got {shape}"
            )
        for what, regions in (("mask", self.masks), ("begin", self.begins), ("end", self.ends)):
            if regions.shape != shape:
                raise FornixError(
                    f"the truth's {what} regions have shape {regions.shape}, not {shape}"
                )
            empty = np.flatnonzero(~regions.reshape(len(regions), -1).any(1))
            if len(empty):
                raise FornixError(f"bundle {self.names[empty[0]]}: its {what} region is empty")

    @property
    def grid(self) -> tuple[int, int, int]:
        """(X, Y, Z)."""
        x, y, z = self.masks.shape[1:]
        return x, y, z

    @classmethod
    def of(cls, bundles: Mapping[str, Bundle], affine: NDArray[np.float64]) -> BundleTruth:
        """The truth of a phantom.

        Args:
            bundles: By name, as `physics.bundles.from_bundles` makes them.
            affine: (4, 4) of their grid.

        Raises:
            FornixError: There are none.
        """
        if not bundles:
            raise FornixError("this anatomy has no bundles; make it with from_bundles")
        return cls(
            tuple(bundles),
            np.stack([b.mask for b in bundles.values()]),
            np.stack([b.endings[0] for b in bundles.values()]),
            np.stack([b.endings[1] for b in bundles.values()]),
            np.asarray(affine, dtype=np.float64),
        )


def write_truth(
    bundles: Mapping[str, Bundle], affine: NDArray[np.float64], folder: str | Path
) -> Path:
    """Write a phantom's bundles as a truth folder.

    Args:
        bundles: By name, as `physics.bundles.from_bundles` makes them.
        affine: (4, 4) of their grid.
        folder: Made where it is missing.

    Returns:
        The path of its index.
    """
    truth = BundleTruth.of(bundles, affine)
    root = output_folder(folder)
    inside = output_folder(root / "bundles")
    entries = []
    for i, (name, bundle) in enumerate(bundles.items()):
        regions = {"mask": truth.masks[i], "begin": truth.begins[i], "end": truth.ends[i]}
        entry: dict[str, str | int] = {"Name": name, "Count": len(bundle.streamlines)}
        for what, region in regions.items():
            path = write_image(inside / f"{name}_{what}.nii.gz", region, truth.affine)
            entry[what.capitalize()] = f"bundles/{path.name}"
        lines = Tractogram.from_list(bundle.streamlines, truth.affine, truth.grid)
        save_tractogram(lines, inside / f"{name}.trx")
        entry["Streamlines"] = f"bundles/{name}.trx"
        entries.append(entry)
    return write_json(
        root / INDEX, {"Space": "world (RAS+) mm", "Affine": truth.affine, "Bundles": entries}
    )


def read_truth(folder: str | Path) -> BundleTruth:
    """Read a truth folder, or `fornix simulate`'s output folder that holds one in truth/.

    Raises:
        FornixError: There is no index, or a file is missing or on another grid.
    """
    root = Path(folder)
    if root.is_file():
        raise FornixError(f"the truth {root} is a file; give the folder that holds {INDEX}")
    if not (root / INDEX).exists() and (root / "truth" / INDEX).exists():
        root = root / "truth"
    if not (root / INDEX).exists():
        raise FornixError(
            f"{root} holds no {INDEX}; give the truth folder of `fornix simulate --bundles`"
        )
    entries = _entries(root)
    first = _region(root, entries[0], "Begin", None)
    regions = [
        tuple(_region(root, e, w, first)[0] for w in ("Mask", "Begin", "End")) for e in entries
    ]
    masks, begins, ends = (np.stack(each) for each in zip(*regions))
    return BundleTruth(tuple(str(e["Name"]) for e in entries), masks, begins, ends, first[1])


def _entries(root: Path) -> list[dict[str, str]]:
    entries = read_json(root / INDEX).get("Bundles")
    if not isinstance(entries, list) or not entries:
        raise FornixError(f'{root / INDEX} lists no bundle under "Bundles"')
    for entry in entries:
        if not isinstance(entry, dict) or not {"Name", "Begin", "End"} <= set(entry):
            raise FornixError(
                f"{root / INDEX}: every bundle needs Name, Begin, End, and Mask or Streamlines; one is "
                f"{json.dumps(entry)[:80]}"
            )
    return entries


def _region(
    root: Path,
    entry: Mapping[str, str],
    what: str,
    first: tuple[NDArray[np.bool_], NDArray[np.float64]] | None,
) -> tuple[NDArray[np.bool_], NDArray[np.float64]]:
    if what == "Mask" and "Mask" not in entry:
        if "Streamlines" not in entry or first is None:
            raise FornixError(f"bundle {entry['Name']}: neither Mask nor Streamlines is given")
        points, offsets = read_streamlines(root / entry["Streamlines"])
        shape = first[0].shape
        mask = np.zeros(shape, bool)
        mask.ravel()[visits(points, offsets, first[1], (shape[0], shape[1], shape[2])).voxels] = (
            True
        )
        return mask, first[1]
    values, affine = read_volume(root / entry[what], f"{what.lower()} region of {entry['Name']}")
    if first is not None and (
        values.shape != first[0].shape or not np.allclose(affine, first[1], atol=1e-3)
    ):
        raise FornixError(
            f"{entry[what]} is on another grid {values.shape} than the rest of the truth "
            f"{first[0].shape}"
        )
    return np.asarray(values > 0.5), np.asarray(affine, dtype=np.float64)
