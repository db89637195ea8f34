"""Phantoms whose streamlines are known to be true or false: what plausibility is learned from.

A scene is a head made from deformed bundles, its scan, the maps that a user would have of it, and the
bundles as the truth.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fornix.core.dwi import DWI
from fornix.core.maps import Maps
from fornix.core.tractogram import Tractogram
from fornix.physics import Anatomy, from_bundles, simulate
from fornix.tractography.scoring.score import VALID, score
from fornix.tractography.scoring.truth import BundleTruth
from fornix.tractography.tissue_fractions import TissueFractions, tissue_fractions
from fornix.tractography.track import track


@dataclass(frozen=True)
class ScanSpec:
    """One scan of one head: seed of the head, protocol, signal-to-noise ratio at b = 0, artefacts, and
    the method of its FOD (an entry of FOD_METHODS, or auto).
    """

    seed: int
    protocol: str
    snr: float
    artefacts: str = "none"
    fod: str = "auto"

    @property
    def word(self) -> str:
        """For the names of files."""
        return f"{self.seed}_{self.protocol}_{self.snr:g}_{self.artefacts}_{self.fod}"


#: Heads and scans that the shipped network saw; the benchmark's heads have other seeds.
TRAINING = (
    ScanSpec(100, "dti32", 20), ScanSpec(100, "bench96", 16),
    ScanSpec(101, "dti30", 30, "mild", "msmt"), ScanSpec(101, "dti64", 18),
)  # fmt: skip
#: A head never trained on, by whose loss the best round is chosen.
VALIDATION = (ScanSpec(150, "dti32", 20, "mild"), ScanSpec(150, "bench96", 20))
#: Trackers whose streamlines are judged, and how many of each per scan.
TRACKERS = ("learned", "probabilistic", "ptt", "deterministic")
COUNT = 12_000


@dataclass(frozen=True, eq=False)
class PhantomScan:
    """A scan with the maps made from it and the bundles that are true.

    dwi: with mask and noise level. maps: dti_*, fod, peaks.
    tissue: from the scan alone. truth: bundles.
    """

    dwi: DWI
    maps: Maps
    tissue: TissueFractions
    truth: BundleTruth


@dataclass(frozen=True, eq=False)
class Lines:
    """A tractogram of a scene; true: (S,) bool, whether each streamline is valid."""

    scene: PhantomScan
    tractogram: Tractogram
    true: NDArray[np.bool_]


def make_scene(head: Anatomy, setting: ScanSpec, threads: int | None = None) -> PhantomScan:
    """Scan a head made by `physics.from_bundles` and fit the tensor and the FOD.

    The mask and the noise level are the true ones: their estimates are measured elsewhere.
    """
    from fornix.estimators.fod import fod
    from fornix.estimators.microstructure import microstructure

    made = simulate(
        head, protocol=setting.protocol, snr=setting.snr, artefacts=setting.artefacts, seed=setting.seed,
        threads=threads,
    )  # fmt: skip
    dwi = made.dwi.with_(mask=made.mask, sigma=made.sigma)
    maps = microstructure(dwi, models=("dti",), method="wls", threads=threads)
    maps = maps.merged(fod(dwi, method=setting.fod, tensor=maps, threads=threads))
    return PhantomScan(
        dwi, maps, tissue_fractions(dwi, maps), BundleTruth.of(head.bundles, head.affine)
    )


def labelled(scene: PhantomScan, made: Tractogram, threads: int | None = None) -> Lines:
    """Which streamlines are true: valid by the definition of `score`."""
    return Lines(scene, made, score(made, scene.truth, threads=threads).kinds == VALID)


def tracked(
    bundles: str | Path,
    settings: Sequence[ScanSpec],
    *,
    count: int = COUNT,
    voxel_size: float = 2.5,
    threads: int | None = None,
) -> Iterator[Lines]:
    """Tractograms of several scans by every one of TRACKERS, each with what is true.

    Settings of the same seed that follow one another share their head.
    """
    head: tuple[int, Anatomy] | None = None
    for setting in settings:
        if head is None or head[0] != setting.seed:
            head = (setting.seed, from_bundles(bundles, seed=setting.seed, voxel_size=voxel_size))
        scene = make_scene(head[1], setting, threads)
        for method in TRACKERS:
            made = track(
                scene.dwi, scene.maps, method=method, count=count, tissue=scene.tissue,
                seed=setting.seed, threads=threads,
            )  # fmt: skip
            yield labelled(scene, made, threads)
