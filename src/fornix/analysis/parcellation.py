"""A parcellation: regions of the brain as whole numbers in an image of any grid."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import KDTree

from fornix.core.errors import FornixError, tell
from fornix.io.files import input_file
from fornix.io.nifti import read_volume


@dataclass(frozen=True, eq=False)
class Parcellation:
    """Regions as numbers.

    Attributes:
        labels: (X, Y, Z) int64; 0 is no region.
        affine: (4, 4) voxel to world (RAS+) mm.
        names: Of the regions, by number, as far as they are known.
    """

    labels: NDArray[np.int64]
    affine: NDArray[np.float64]
    names: Mapping[int, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.labels.ndim != 3:
            raise FornixError(
                f"a label image has 3 dimensions, this one {self.labels.ndim}; give one volume"
            )
        if not np.issubdtype(self.labels.dtype, np.integer):
            raise FornixError(f"labels must be whole numbers, these are {self.labels.dtype}")
        if not (self.labels > 0).any():
            raise FornixError("the label image holds no label above 0; give a parcellation")

    @cached_property
    def nodes(self) -> NDArray[np.int64]:
        """(K,) the numbers that occur, ascending; numbers that are skipped are no nodes."""
        found = np.unique(self.labels)
        return found[found > 0]

    def volumes(self) -> NDArray[np.float64]:
        """(K,) mm³ of each node."""
        counts = np.unique(self.labels[self.labels > 0], return_counts=True)[1]
        return counts * abs(np.linalg.det(self.affine[:3, :3]))

    @cached_property
    def _centres(self) -> tuple[KDTree, NDArray[np.int64]]:
        """The centres of labelled voxels in world mm, and the place in `nodes` of each."""
        voxels = np.argwhere(self.labels > 0)
        centres = voxels @ self.affine[:3, :3].T + self.affine[:3, 3]
        place = np.searchsorted(self.nodes, self.labels[tuple(voxels.T)])
        return KDTree(centres), place

    def nearest(
        self, points: NDArray[np.floating], radius: float
    ) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """The node of the labelled voxel whose centre is nearest, exact in mm on any grid.

        This is MRtrix3's radial search (Smith et al., NeuroImage 2015), as a tree of voxel centres.

        Args:
            points: (P, 3) world mm.
            radius: mm; centres so far away or further do not count.

        Returns:
            Place of the node in `nodes`, -1 where none is near, (P,); and the distance in mm, (P,),
            infinite where none is near.
        """
        tree, place = self._centres
        distance, found = tree.query(
            np.asarray(points, np.float64), distance_upper_bound=max(radius, 1e-9)
        )
        node = np.full(len(distance), -1)
        near = np.isfinite(distance)
        node[near] = place[found[near]]
        return node, distance


def load_parcellation(path: str | Path, table: str | Path | None = None) -> Parcellation:
    """Read a label image, and the names of its regions.

    Args:
        path: NIfTI, one volume of whole numbers.
        table: Rows of index and name: a TSV with these columns, or a look-up table of words parted by
            blanks (FreeSurfer, MRtrix3) whose first two columns they are.
    """
    data, affine = read_volume(path, "label image")
    data = data[..., 0] if data.ndim == 4 and data.shape[3] == 1 else data
    name = Path(path).name
    if not np.isfinite(data).all() or (data != np.rint(data)).any():
        raise FornixError(
            f"{name}: labels must be whole numbers, and {int((data != np.rint(data)).sum()):,} voxels are "
            "not; was it resampled by other than nearest neighbours?"
        )
    if (data < 0).any():
        raise FornixError(f"{name}: labels must not be negative; repair the image")
    try:
        made = Parcellation(data.astype(np.int64), affine, {} if table is None else _names(table))
    except FornixError as error:
        raise FornixError(f"{name}: {error}") from None
    missing = int(made.nodes[-1]) - len(made.nodes)
    if missing:
        tell(
            f"{name}: {missing} of the numbers 1 to {made.nodes[-1]} are not in the image; matrices have a "
            f"row for each of the {len(made.nodes)} that are, the node table says which"
        )
    return made


def _names(path: str | Path) -> dict[int, str]:
    out: dict[int, str] = {}
    lines = input_file(path, "table of names").read_text(encoding="utf-8-sig").splitlines()
    head = lines[0].lower().split("\t") if lines else []
    tabbed = "index" in head and "name" in head
    columns = (head.index("index"), head.index("name")) if tabbed else (0, 1)
    for line in lines[1:] if tabbed else lines:
        words = line.split("\t") if tabbed else line.split("#")[0].split()
        if len(words) <= max(columns):
            continue
        try:
            out[int(words[columns[0]])] = words[columns[1]]
        except ValueError:
            continue
    if not out:
        raise FornixError(f"{path} holds no rows of index and name; give a TSV with these columns")
    return out
