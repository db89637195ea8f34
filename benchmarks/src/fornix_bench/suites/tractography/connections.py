"""`fornix bench connectome`: bundles and connections of whole-brain tractograms against the truth.

A phantom of another simulator and of an atlas never trained on, the same number of streamlines of every
tracker. The regions are clusters of the true ends; a connection's true weight is the cross-section of its
fibres.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fornix.analysis.connectome import RADIUS, connectome
from fornix.analysis.parcellation import Parcellation
from fornix.core.compute import use_threads
from fornix.core.dwi import DWI
from fornix.core.errors import FornixError
from fornix.core.maps import Maps
from fornix.core.tractogram import Tractogram
from fornix.estimators.fod import fod
from fornix.estimators.microstructure import microstructure
from fornix.io.tractograms import read_streamlines
from fornix.physics import from_bundles
from fornix.physics.protocol import scheme
from fornix.tractography.filtering.filter import score_streamlines
from fornix.tractography.scan_tissue import scan_tissue
from fornix.tractography.scoring.score import score
from fornix.tractography.track import track
from fornix.training.data.filter_phantoms import PhantomScan, ScanSpec, make_phantom_scan
from fornix_bench.judge.bundles import bundle_truth
from fornix_bench.judge.phantom import HeadConfig, build_head
from fornix_bench.judge.scan import scan_head
from fornix_bench.metrics.connections import (
    connectome_score,
    cross_sections,
    regions_of_ends,
    true_edges,
    upper,
)
from fornix_bench.peers.microstructure import PeerMissing
from fornix_bench.peers.tractography import mrtrix_connectome, mrtrix_fod, mrtrix_track
from fornix_bench.suites.tractography.suite import MEASURES
from fornix_bench.table import Row, environment, markdown, write_csv, write_page

Array = NDArray[np.float64]

SPEC, POPULATION = ScanSpec(900, "dti32", 20, "mild"), ("dti30", 20.0, 0)
COUNT, QUICK_COUNT = 50_000, 1_000
REGIONS, QUICK_REGIONS = 100, 20
#: Name, method and seeding of our trackers.
_TRACKERS = (
    ("fornix track", "probabilistic", "dynamic"),
    ("fornix track --seeding voxel", "probabilistic", "voxel"),
    ("fornix track --method learned", "learned", "dynamic"),
)
#: Seconds after which tckgen is given up.
_PATIENCE = 2400


@dataclass(frozen=True, eq=False)
class Scene:
    """A phantom's scan and its true fibres.

    Attributes:
        name: Of the scan.
        scan: With maps, tissue and bundles.
        fibres: The true streamlines.
        filled: (X, Y, Z) share of each voxel that they fill.
    """

    name: str
    scan: PhantomScan
    fibres: Tractogram
    filled: NDArray[np.floating]


def run_connectome(
    out: str | Path = "docs/benchmarks", threads: int = 2, quick: bool = False, seed: int = 0
) -> list[Row]:
    """Write connectome.csv, connectome_bundles.csv and connectome.md.

    quick: one coarse head, few streamlines. Bundles are read from FORNIX_TEST_DATA or ../shared/data.
    """
    folder = Path(out)
    folder.mkdir(parents=True, exist_ok=True)
    data = Path(os.environ.get("FORNIX_TEST_DATA", "../shared/data"))
    if not (data / "anatomy" / "bundles72").is_dir():
        raise FornixError(f"there are no bundles under {data}; set FORNIX_TEST_DATA")
    sizes = (QUICK_COUNT, QUICK_REGIONS) if quick else (COUNT, REGIONS)
    with use_threads(threads):
        scene = small_phantom(data) if quick else phantom(data)
        bundles, edges = rows_of(scene, *sizes, seed, threads)
    write_csv(folder / "connectome_bundles.csv", bundles)
    write_csv(folder / "connectome.csv", edges)
    _page(folder, bundles, edges, environment(threads, seed))
    return edges


def phantom(data: Path) -> Scene:
    """106 bundles of a population by trxscan, of which nothing was learned."""
    protocol, snr, number = POPULATION
    head = build_head(HeadConfig(seed=number), data)
    scanned = scan_head(head, scheme(protocol), snr, seed=number)
    dwi = scanned.dwi.with_(sigma=scanned.sigma)
    maps = _maps(dwi)
    scan = PhantomScan(dwi, maps, scan_tissue(dwi, maps), bundle_truth(head, data))
    filled = np.zeros(head.mask.shape)
    filled[head.mask] = head.fractions[:, 0] - head.loose
    fibres = _curated(data / "atlas" / "adult1065" / "bundles", scan)
    return Scene(f"106 bundles (trxscan), {protocol}", scan, fibres, filled)


def small_phantom(data: Path) -> Scene:
    """72 bundles on large voxels by our simulator, for a quick run."""
    subject = from_bundles(data / "anatomy" / "bundles72", seed=SPEC.seed, voxel_size=4.0)
    made = make_phantom_scan(subject, SPEC)
    # The callosum's parts are bundles of their own.
    lines = [s for n, b in subject.bundles.items() if n != "CC" for s in b.streamlines]
    fibres = Tractogram.from_list(lines, subject.affine, subject.grid)
    return Scene(f"72 bundles, {SPEC.protocol}", made, fibres, subject.wm)


def _maps(dwi: DWI) -> Maps:
    maps = microstructure(dwi, models=("dti",), method="wls")
    return maps.merged(fod(dwi, tensor=maps))


def _curated(folder: Path, scan: PhantomScan) -> Tractogram:
    lines = []
    for path in sorted(folder.glob("*.tck")):
        points, offsets = read_streamlines(path)
        lines += [points[a:b] for a, b in pairwise(offsets) if b - a > 1]
    return Tractogram.from_list(lines, scan.dwi.affine, scan.dwi.grid)


def rows_of(
    scene: Scene, count: int, regions: int, seed: int, threads: int
) -> tuple[list[Row], list[Row]]:
    """Rows of bundles and rows of connections, of every tracker."""
    scan = scene.scan
    parcels = regions_of_ends(scene.fibres, scan.dwi.brain(), regions, seed)
    areas = cross_sections(scene.fibres, scene.filled)
    true, counts = true_edges(scene.fibres, areas, parcels, RADIUS)
    bundles: list[Row] = []
    edges: list[Row] = []
    for name, lines, weighted, seconds in tractograms(scan, parcels, count, seed, threads):
        about: Row = {"scan": scene.name, "tracker": name, "streamlines": len(lines)}
        values = score(lines, scan.truth, threads=threads).as_dict()
        bundles.append({**about, **{m: values[m] for m in MEASURES}, "seconds": seconds})
        for by, weights in weighted.items():
            found = connectome_score(weights, true, counts)
            edges.append(
                {
                    **about, "weights": by, "true edges": int(counts.sum()), "found": found.found,
                    "r": found.r, "r_all": found.r_all, "false edges": found.false_edges,
                    "false weight": found.false_share,
                }
            )  # fmt: skip
    return bundles, edges


def tractograms(
    scan: PhantomScan, regions: Parcellation, count: int, seed: int, threads: int
) -> Iterator[tuple[str, Tractogram, dict[str, Array], float]]:
    """Name, streamlines, edges by kind of weight, seconds; MRtrix3 only where it is installed."""
    for name, method, seeding in _TRACKERS:
        start = time.perf_counter()
        lines = track(
            scan.dwi, scan.maps, method=method, count=count, tissue=scan.tissue, seeding=seeding,
            seed=seed, threads=threads,
        )  # fmt: skip
        seconds = time.perf_counter() - start
        yield name, lines, weights_of(scan, lines, regions, threads), seconds
    with tempfile.TemporaryDirectory() as temporary:
        place = Path(temporary)
        try:
            start = time.perf_counter()
            mrtrix_fod(scan, place, threads)
            lines = mrtrix_track(scan, place, None, count, seed, threads, patience=_PATIENCE)
            seconds = time.perf_counter() - start
            found = mrtrix_connectome(place, regions.labels, regions.affine, threads)
        except PeerMissing:
            return
        yield "MRtrix3 iFOD2", lines, {k: upper(m) for k, m in found.items()}, seconds


def weights_of(
    scan: PhantomScan, lines: Tractogram, regions: Parcellation, threads: int
) -> dict[str, Array]:
    """Edges by counts, by the fit's weights, and by those of plausible streamlines alone."""
    scored = score_streamlines(lines, scan.dwi, scan.maps, tissue=scan.tissue, threads=threads)
    weight = scored.per_streamline["weight"]
    plausible = scored.per_streamline["plausibility"] > 0.5
    kinds: dict[str, NDArray[np.floating]] = {
        "count": np.ones(len(lines)), "fornix filter, weight": weight,
        "count of the plausible": plausible.astype(np.float64),
        "weight of the plausible": weight * plausible,
    }  # fmt: skip
    return {
        kind: upper(connectome(lines, regions, weights=w).matrices["sum"].value)
        for kind, w in kinds.items()
    }


def _page(folder: Path, bundles: list[Row], edges: list[Row], machine: str) -> None:
    blocks = [
        f"{machine}.",
        "Made by `fornix bench connectome`: the same number of streamlines of every tracker, both ends in "
        "grey matter, defaults otherwise; the same mask, tissue and lengths for all. MRtrix3 tracks its own "
        "FOD. The phantom is of 106 bundles of a population atlas, by trxscan; nothing was learned on them.",
        "## Connections",
        f"Regions are {REGIONS} clusters of the true ends. The true weight of a connection is the "
        "cross-section of its fibres (each voxel's fibre volume shared out among the true streamlines by "
        "length); true edges are the strongest that hold 99% of it. `found`: share of them with a "
        "streamline; `r`: correlation of the logarithms of weights over those found, `r_all`: over all of "
        "them, with half of the least weight for those not found. False edges join regions between which no "
        "true fibre runs; `false weight` is their share of all weight. SIFT2: `tcksift2`, defaults; "
        "`fornix filter`: the fit's cross-section, and the network's plausibility above 0.5.",
        markdown(edges),
        "## Bundles",
        "Measures as in [Tractography](tractography.md).",
        markdown(bundles),
    ]
    write_page(folder / "connectome.md", "Connectomes against the truth", blocks)
