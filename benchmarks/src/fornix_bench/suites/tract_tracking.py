"""Section `tracking` of `fornix bench segmentation`: tracts tracked one by one or all at once.

The same maps of the same tracts serve all: `fornix tracts --streamlines` tracks inside of them, the rivals'
50,000 streamlines of the whole brain (`fornix track`, MRtrix3's iFOD2) are labelled by them (`fornix label`).
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy import ndimage

from fornix.core.compute import available_threads
from fornix.core.grid import flat_voxels
from fornix.core.tractogram import Tractogram
from fornix.estimators.fod import fod
from fornix.estimators.mask import brain_mask
from fornix.estimators.microstructure import microstructure
from fornix.physics.anatomy.model import Anatomy, Bundle
from fornix.physics.anatomy.subject import from_subject
from fornix.physics.anatomy.variation import vary
from fornix.physics.phantom import simulate
from fornix.preprocess import estimate_noise
from fornix.register.register import register
from fornix.register.scan_features import scan_features
from fornix.register.template import mni_template
from fornix.tractography.scan_tissue import scan_tissue
from fornix.tractography.scoring.truth import BundleTruth
from fornix.tractography.track import track
from fornix.tracts.label import label_streamlines, resampled
from fornix.tracts.segment import TractMaps, segment_tracts
from fornix.tracts.tracking import track_tracts
from fornix.training.data.filter_phantoms import PhantomScan
from fornix_bench.peers.microstructure import PeerMissing
from fornix_bench.peers.tractography import mrtrix_fod, mrtrix_track
from fornix_bench.table import Row

WORDS = """## Streamlines of tracts

71 tracts tracked one by one (`fornix tracts --streamlines`), beside 50,000 streamlines of the whole brain
that `fornix label` gives to the same tracts. A streamline is valid where its ends lie in the true end regions
and 90% of its course in the true mask, each a voxel wider. OL, OR: share of the true mask that a tract's
streamlines pass through, and of their voxels that lie outside of it. All are means over tracts, those without
any streamline as 0. `tracts` have a streamline, the poorest has `fewest`; `good` is the share of tracts with
valid >= 0.8, OL >= 0.7 and OR <= 0.3. Seconds of tracking on all cores of a shared machine, without the FOD
(MRtrix3: with its FOD; on the first head alone). The heads are deformed copies of the person whom the
atlas is of."""

#: Heads of the section by their number, with protocol and SNR.
SCANS = ((501, "dti30", 20.0), (502, "ukb", 20.0))
#: Streamlines of each tract, and of the whole brain.
COUNTS, QUICK_COUNTS = (200, 500), (50,)
WHOLE, QUICK_WHOLE = 50_000, 3_000
#: Seconds after which tckgen is given up.
_PATIENCE = 1500
#: Share of a valid streamline's course that lies in the true mask, a voxel wider.
_COURSE = 0.9
_POINTS = 60


@dataclass(frozen=True)
class TractScore:
    """One tract's streamlines against its truth; valid, overlap and overreach are shares."""

    count: int
    valid: float
    overlap: float
    overreach: float


def tract_score(lines: Tractogram, bundle: Bundle) -> TractScore:
    """Valid: both ends in the true end regions and most of the course in the true mask, each a voxel wider.

    Overlap and overreach are of the voxels that all of them pass through; without any, all are 0.
    """
    if not len(lines):
        return TractScore(0, 0.0, 0.0, 0.0)
    points, _ = resampled(lines, _POINTS)
    voxel, inside = flat_voxels(points.reshape(-1, 3), lines.affine, lines.grid)
    wide = ndimage.binary_dilation(bundle.mask).ravel()
    begin, end = (ndimage.binary_dilation(e).ravel() for e in bundle.endings)
    course = (wide[voxel] & inside).reshape(points.shape[:2]).mean(1) >= _COURSE
    first, last = voxel.reshape(points.shape[:2])[:, [0, -1]].T
    ended = (begin[first] & end[last]) | (end[first] & begin[last])
    flat, there = flat_voxels(lines.points, lines.affine, lines.grid)
    visited = np.zeros(bundle.mask.size, bool)
    visited[flat[there]] = True
    true = bundle.mask.ravel()
    return TractScore(
        len(lines),
        float((course & ended).mean()),
        float((visited & true).sum() / max(true.sum(), 1)),
        float((visited & ~true).sum() / max(visited.sum(), 1)),
    )


def tracking(quick: bool, seed: int) -> list[Row]:
    """Rows of every head and method; anatomy is read from FORNIX_TEST_DATA or ../shared/data."""
    base = from_subject(Path(os.environ.get("FORNIX_TEST_DATA", "../shared/data")) / "anatomy")
    rows: list[Row] = []
    for i, (number, protocol, snr) in enumerate(SCANS[:1] if quick else SCANS):
        head = vary(base, number + seed)
        scan = scan_of(head, protocol, snr, number + seed)
        seen = scan_features(scan.dwi)
        found = segment_tracts(scan.dwi, seen, register(seen, mni_template().features()))
        whole = whole_brain(scan, QUICK_WHOLE if quick else WHOLE, seed, peer=i == 0)
        about: Row = {"head": number, "protocol": protocol}
        counts = QUICK_COUNTS if quick else COUNTS
        rows += tracking_rows(scan, found, head, whole, about, counts=counts, seed=seed)
    return rows


def scan_of(head: Anatomy, protocol: str, snr: float, seed: int) -> PhantomScan:
    """A scan of a head, with mask, tensor, FOD and tissue as the commands estimate them."""
    dwi = estimate_noise(brain_mask(simulate(head, protocol, snr=snr, seed=seed).dwi))
    maps = microstructure(dwi, models=("dti",))
    maps = maps.merged(fod(dwi, tensor=maps))
    return PhantomScan(dwi, maps, scan_tissue(dwi, maps), BundleTruth.of(head.bundles, head.affine))


def tracking_rows(
    scan: PhantomScan,
    tracts: TractMaps,
    head: Anatomy,
    whole: Sequence[tuple[str, Tractogram, float]],
    about: Row,
    *,
    counts: Sequence[int] = COUNTS,
    seed: int = 0,
) -> list[Row]:
    """One row a method.

    Args:
        scan: From `scan_of`.
        tracts: From `segment_tracts`.
        head: The truth.
        whole: From `whole_brain`.
        about: Columns that stand before.
        counts: Streamlines of each tract.
        seed: Of all random numbers.
    """
    rows: list[Row] = []
    fods, brain = scan.maps["fod"].data, scan.dwi.brain()
    for count in counts:
        start = time.perf_counter()
        made = track_tracts(fods, tracts, brain, count=count, seed=seed).tractogram
        seconds = time.perf_counter() - start
        lines = {n: made.subset(made.groups.get(n, np.zeros(0, int))) for n in tracts.found}
        rows.append(_row(about, f"fornix tracts, {count} each", lines, head, seconds))
    for name, streamlines, seconds in whole:
        labels = label_streamlines(streamlines, tracts)
        lines = {n: streamlines.subset(labels.of(n)) for n in labels.names}
        rows.append(_row(about, f"{name} and fornix label", lines, head, seconds))
    return rows


def whole_brain(
    scan: PhantomScan, count: int, seed: int, peer: bool
) -> list[tuple[str, Tractogram, float]]:
    """Name, tractogram and seconds of the rivals; MRtrix3 takes minutes and runs where `peer` says so."""
    start = time.perf_counter()
    ours = track(scan.dwi, scan.maps, count=count, tissue=scan.tissue, seed=seed)
    made = [("fornix track", ours, time.perf_counter() - start)]
    if peer:
        start = time.perf_counter()
        try:
            theirs = _ifod2(scan, count, seed)
            made.append(("MRtrix3 iFOD2", theirs, time.perf_counter() - start))
        except PeerMissing:
            pass
    return made


def _ifod2(scan: PhantomScan, count: int, seed: int) -> Tractogram:
    threads = available_threads()
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        mrtrix_fod(scan, place, threads)
        return mrtrix_track(scan, place, None, count, seed, threads, patience=_PATIENCE)


def _row(
    about: Row, method: str, lines: Mapping[str, Tractogram], head: Anatomy, seconds: float
) -> Row:
    # The callosum's parts are tracts of their own; a whole-brain tractogram is labelled by these.
    scores = {n: tract_score(one, head.bundles[n]) for n, one in lines.items() if n != "CC"}
    missing = [n for n in head.bundles if n not in scores and n != "CC"]
    each = [*scores.values(), *[TractScore(0, 0.0, 0.0, 0.0)] * len(missing)]
    overlap = np.array([s.overlap for s in each])
    return {
        **about, "method": method, "streamlines": sum(s.count for s in each),
        "tracts": sum(s.count > 0 for s in each), "fewest": min(s.count for s in each),
        "valid": float(np.mean([s.valid for s in each])), "OL": float(overlap.mean()),
        "OL, worst tenth": float(np.quantile(overlap, 0.1)),
        "OR": float(np.mean([s.overreach for s in each])),
        "good": float(
            np.mean([s.valid >= 0.8 and s.overlap >= 0.7 and s.overreach <= 0.3 for s in each])
        ),
        "seconds": seconds,
    }  # fmt: skip
