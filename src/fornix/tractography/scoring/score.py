"""How right a tractogram is: Tractometer's measures against bundles that are known.

The measures are those of Côté et al. (MedIA 2013) and of the ISMRM 2015 challenge (Maier-Hein et al.,
Nature Communications 2017), streamlines assigned by end regions as in its later scoring (Renauld et
al., Scientific Reports 2023).
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from fornix.core.compute import available_threads, use_threads
from fornix.core.errors import FornixError, tell
from fornix.core.tractogram import Tractogram
from fornix.io import load_tractogram
from fornix.io.tractograms import read_streamlines
from fornix.tractography.scoring._kernels import assign_streamlines, mark_voxels, to_voxels
from fornix.tractography.scoring.truth import BundleTruth, read_truth

#: What a streamline is, in `Score.kinds`.
VALID, INVALID, NO_CONNECTION = 0, 1, 2
_BLOCK = 50_000


@dataclass(frozen=True)
class BundleScore:
    """One bundle.

    Attributes:
        name: Of the bundle.
        streamlines: How many valid ones it has.
        overlap: OL of its voxels, 0 to 1.
        overreach: OR, 0 to 1.
        f1: F1 (Dice), 0 to 1.
    """

    name: str
    streamlines: int
    overlap: float
    overreach: float
    f1: float


@dataclass(frozen=True, eq=False)
class Score:
    """Tractometer's measures of a tractogram.

    Attributes:
        count: Streamlines.
        valid: VS, % of them; VS, IS and NC sum to 100.
        invalid: IS, %.
        no_connection: NC, %.
        wrong_path: % that join the right ends but leave the bundle (part of IS).
        valid_bundles: VB, how many of `bundles` have a valid streamline.
        invalid_bundles: IB, how many pairs of end regions of no common bundle are joined by an invalid
            one.
        overlap: OL, mean over all bundles, those with no streamline as 0; so are the next two.
        overreach: OR.
        f1: F1.
        bundles: Of each bundle.
        kinds: (S,) VALID, INVALID or NO_CONNECTION of each streamline.
        margin: mm, of the definition.
        end_margin: mm, of the definition.
    """

    count: int
    valid: float
    invalid: float
    no_connection: float
    wrong_path: float
    valid_bundles: int
    invalid_bundles: int
    overlap: float
    overreach: float
    f1: float
    bundles: tuple[BundleScore, ...]
    kinds: NDArray[np.uint8]
    margin: float
    end_margin: float

    def as_dict(self) -> dict[str, Any]:
        """For JSON: everything but `kinds`, under the measures' usual names."""
        return {
            "Streamlines": self.count,
            "VS": self.valid,
            "IS": self.invalid,
            "NC": self.no_connection,
            "WrongPath": self.wrong_path,
            "VB": self.valid_bundles,
            "IB": self.invalid_bundles,
            "OL": self.overlap,
            "OR": self.overreach,
            "F1": self.f1,
            "MarginMm": self.margin,
            "EndMarginMm": self.end_margin,
            "Bundles": [asdict(b) for b in self.bundles],
        }

    def __str__(self) -> str:
        """A table to read."""
        width = max(6, *(len(b.name) for b in self.bundles))
        lines = [
            f"{self.count:,} streamlines: VS {self.valid:.1f}%, IS {self.invalid:.1f}% (of which wrong "
            f"path {self.wrong_path:.1f}%), NC {self.no_connection:.1f}%",
            f"VB {self.valid_bundles} of {len(self.bundles)}, IB {self.invalid_bundles}; mean OL "
            f"{self.overlap:.3f}, OR {self.overreach:.3f}, F1 {self.f1:.3f}",
            f"{'bundle':<{width}}  streamlines     OL     OR     F1",
        ]
        for b in self.bundles:
            lines.append(
                f"{b.name:<{width}}  {b.streamlines:>11,}  {b.overlap:.3f}  {b.overreach:.3f}  {b.f1:.3f}"
            )
        return "\n".join(lines)


def score(
    tractogram: Tractogram | str | Path,
    truth: BundleTruth | str | Path,
    *,
    margin: float = 5.0,
    end_margin: float = 2.5,
    reference: str | Path | None = None,
    threads: int | None = None,
) -> Score:
    """Score a tractogram against known bundles.

    Definitions, all on the truth's grid, streamlines followed at a quarter of a voxel:

    * A streamline is *valid* (VS) if one of its ends lies in the begin region and the other in the end
      region of the same bundle, and it never leaves that bundle's widened mask. It counts for every
      bundle of which this is true (bundles may be nested, as the callosum and its parts).
    * It is *invalid* (IS) if both ends lie in end regions and it is not valid: they are of no common
      bundle, both of one side, or it left the bundle (`wrong_path`).
    * It is a *no-connection* (NC) if an end lies in no end region, or outside the volume.
    * VB is the number of bundles with at least one valid streamline. IB is the number of pairs of end
      regions joined by at least one streamline that is invalid other than by a wrong path; an end that
      lies in several regions counts for the smallest of them.
    * For each bundle, with *visited* the voxels its valid streamlines pass through:
      OL = |visited ∩ truth| / |truth|, OR = |visited outside truth| / |visited|,
      F1 = 2 |visited ∩ truth| / (|visited| + |truth|). A bundle with no streamline has
      OL = OR = F1 = 0.

    Args:
        tractogram: In world mm, or a trx, tck or trk file.
        truth: The bundles, or the folder that holds them.
        margin: mm by which a bundle's mask is widened before a streamline counts as having left it.
        end_margin: mm by which end regions are widened (trackers end a little short of or past them).
        reference: Image that the streamlines were tracked on; for trk files of old writers, which do not
            say where they lie.
        threads: Threads in use; all cores if not given.

    Raises:
        FornixError: The tractogram is empty, a margin is impossible, or all streamlines lie outside
            the truth's volume.
    """
    if not isinstance(truth, BundleTruth):
        truth = read_truth(truth)
    lines = _streamlines(tractogram, truth, reference)
    if not len(lines):
        raise FornixError("the tractogram holds no streamline: there is nothing to score")
    if margin < 0 or end_margin < 0:
        raise FornixError("the margins must be 0 mm or more")
    count = len(truth.names)
    wide = widened(np.concatenate([truth.begins, truth.ends]), truth, margin=end_margin)
    regions, begins, ends = _bits(wide), _bits(wide[:count]), _bits(wide[count:])
    inside = _bits(widened(truth.masks, truth, margin=margin))
    order = np.argsort(np.r_[truth.begins.sum((1, 2, 3)), truth.ends.sum((1, 2, 3))], kind="stable")
    workers = available_threads() if threads is None else threads
    inverse = np.linalg.inv(truth.affine)
    visited = np.zeros((workers, *begins.shape), np.uint64)
    kinds = np.empty(len(lines), np.uint8)
    wrong = np.zeros(len(lines), bool)
    per_bundle = np.zeros(count, np.int64)
    joined: set[tuple[int, int]] = set()
    off_grid = 0
    with use_threads(workers):
        for part, points, offsets in lines.blocks(_BLOCK):
            voxel = to_voxels(points, inverse)
            member, kind, path, tips = assign_streamlines(
                voxel, offsets, begins, ends, regions, inside, np.asarray(truth.grid), order
            )
            kinds[part], wrong[part] = kind, path
            off_grid += int((tips[:, 2] > 0).sum())
            mark_voxels(voxel, offsets, member, np.asarray(truth.grid), visited)
            per_bundle += _unpacked(member, count).sum(0)
            false = (kind == INVALID) & ~path
            pairs = np.sort(tips[false, :2], axis=1)
            joined |= {(int(a), int(b)) for a, b in np.unique(pairs, axis=0)}
    if off_grid == len(lines):
        raise FornixError(
            "all streamlines lie outside the truth's volume: the tractogram is of another head or space"
        )
    if off_grid:
        tell(f"{off_grid} of {len(lines)} streamlines leave the truth's volume")
    voxels = np.bitwise_or.reduce(visited, axis=0)
    each = [_bundle(truth, i, _bit(voxels, i), int(per_bundle[i])) for i in range(count)]
    share = 100 * np.bincount(kinds, minlength=3) / len(lines)
    return Score(
        count=len(lines),
        valid=float(share[VALID]),
        invalid=float(share[INVALID]),
        no_connection=float(share[NO_CONNECTION]),
        wrong_path=float(100 * wrong.mean()),
        valid_bundles=int((per_bundle > 0).sum()),
        invalid_bundles=len(joined),
        overlap=float(np.mean([b.overlap for b in each])),
        overreach=float(np.mean([b.overreach for b in each])),
        f1=float(np.mean([b.f1 for b in each])),
        bundles=tuple(each),
        kinds=kinds,
        margin=margin,
        end_margin=end_margin,
    )


def _streamlines(
    tractogram: Tractogram | str | Path, truth: BundleTruth, reference: str | Path | None
) -> Tractogram:
    if isinstance(tractogram, Tractogram):
        return tractogram
    if Path(tractogram).suffix == ".trx":
        return load_tractogram(tractogram, mapped=True)
    points, offsets = read_streamlines(tractogram, reference)
    return Tractogram(points, offsets, truth.affine, truth.grid)


def widened(regions: NDArray[np.bool_], truth: BundleTruth, *, margin: float) -> NDArray[np.bool_]:
    """Every region (regions, X, Y, Z) with all voxels whose centre is within `margin` mm of its own."""
    if not margin:
        return regions
    edges = np.linalg.norm(truth.affine[:3, :3], axis=0)
    reach = np.floor(margin / edges + 1e-6).astype(int)
    axes = np.meshgrid(*[np.arange(-r, r + 1) for r in reach], indexing="ij")
    ball = sum((a * e) ** 2 for a, e in zip(axes, edges)) <= margin**2 + 1e-6
    out = np.empty_like(regions)
    for i, region in enumerate(regions):
        box = tuple(
            slice(max(0, along.min() - r), along.max() + r + 1)
            for along, r in zip(np.nonzero(region), reach)
        )
        out[i] = False
        out[i][box] = ndimage.binary_dilation(region[box], ball)
    return out


def _bits(regions: NDArray[np.bool_]) -> NDArray[np.uint64]:
    """(voxels, words): bit r % 64 of word r // 64 says that a voxel lies in region r."""
    flat = regions.reshape(len(regions), -1)
    out = np.zeros((flat.shape[1], -(-len(flat) // 64)), np.uint64)
    for i, region in enumerate(flat):
        out[region, i // 64] |= np.uint64(1) << np.uint64(i % 64)
    return out


def _bit(words: NDArray[np.uint64], i: int) -> NDArray[np.bool_]:
    return (words[:, i // 64] >> np.uint64(i % 64)) & np.uint64(1) > 0


def _unpacked(words: NDArray[np.uint64], count: int) -> NDArray[np.bool_]:
    return np.stack([_bit(words, i) for i in range(count)], 1)


def _bundle(truth: BundleTruth, i: int, visited: NDArray[np.bool_], count: int) -> BundleScore:
    real = truth.masks[i].ravel()
    both, voxels = int((visited & real).sum()), int(visited.sum())
    if not voxels:
        return BundleScore(truth.names[i], count, 0.0, 0.0, 0.0)
    return BundleScore(
        truth.names[i],
        count,
        both / int(real.sum()),
        (voxels - both) / voxels,
        2 * both / (voxels + int(real.sum())),
    )
