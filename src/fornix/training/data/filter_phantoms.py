"""Phantoms whose streamlines are known to be true or false: the training data of plausibility.

A phantom scan is a subject made from deformed bundles, its scan, the maps that a user would have of it,
and the bundles as the truth.
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
from fornix.estimators.fod import fod
from fornix.estimators.microstructure import microstructure
from fornix.physics import Anatomy, from_bundles, simulate
from fornix.tractography.scoring.score import VALID, score
from fornix.tractography.scoring.truth import BundleTruth
from fornix.tractography.tissue_fractions import TissueFractions, tissue_fractions
from fornix.tractography.track import track


@dataclass(frozen=True)
class ScanSpec:
    """One scan of one subject.

    Attributes:
        seed: Of the subject.
        protocol: Name of the acquisition scheme.
        snr: Signal-to-noise ratio at b = 0 in white matter.
        artefacts: `none`, `mild`, `typical` or `severe`.
        fod: Method of its FOD, an entry of FOD_METHODS or `auto`.
    """

    seed: int
    protocol: str
    snr: float
    artefacts: str = "none"
    fod: str = "auto"

    @property
    def label(self) -> str:
        """For the names of files."""
        return f"{self.seed}_{self.protocol}_{self.snr:g}_{self.artefacts}_{self.fod}"


#: Subjects and scans that the shipped network was trained on; the benchmark's have other seeds.
TRAINING = (
    ScanSpec(100, "dti32", 20), ScanSpec(100, "bench96", 16),
    ScanSpec(101, "dti30", 30, "mild", "msmt"), ScanSpec(101, "dti64", 18),
)  # fmt: skip
#: A subject never trained on, by whose loss the best round is chosen.
VALIDATION = (ScanSpec(150, "dti32", 20, "mild"), ScanSpec(150, "bench96", 20))
#: Trackers whose streamlines are judged, and how many of each per scan.
TRACKERS = ("learned", "probabilistic", "ptt", "deterministic")
COUNT = 12_000


@dataclass(frozen=True, eq=False)
class PhantomScan:
    """A scan with the maps made from it and the bundles that are true.

    Attributes:
        dwi: With mask and noise level.
        maps: dti_*, fod, peaks.
        tissue: From the scan alone.
        truth: The subject's bundles.
    """

    dwi: DWI
    maps: Maps
    tissue: TissueFractions
    truth: BundleTruth


@dataclass(frozen=True, eq=False)
class LabelledTractogram:
    """Streamlines of a phantom scan, and which are true.

    Attributes:
        scan: Where they were tracked.
        tractogram: S streamlines.
        true: (S,) bool, whether each is valid.
    """

    scan: PhantomScan
    tractogram: Tractogram
    true: NDArray[np.bool_]


def make_phantom_scan(
    subject: Anatomy, spec: ScanSpec, *, threads: int | None = None
) -> PhantomScan:
    """Scan a subject and fit the tensor and the FOD.

    The mask and the noise level are the true ones: their estimates are measured elsewhere.

    Args:
        subject: Made by `physics.from_bundles`.
        spec: How it is scanned.
        threads: Threads in use; all cores if not given.
    """
    phantom = simulate(
        subject, protocol=spec.protocol, snr=spec.snr, artefacts=spec.artefacts, seed=spec.seed,
        threads=threads,
    )  # fmt: skip
    dwi = phantom.dwi.with_(mask=phantom.mask, sigma=phantom.sigma)
    maps = microstructure(dwi, models=("dti",), method="wls", threads=threads)
    maps = maps.merged(fod(dwi, method=spec.fod, tensor=maps, threads=threads))
    truth = BundleTruth.of(subject.bundles, subject.affine)
    return PhantomScan(dwi, maps, tissue_fractions(dwi, maps), truth)


def label_streamlines(
    scan: PhantomScan, tractogram: Tractogram, *, threads: int | None = None
) -> LabelledTractogram:
    """Which streamlines are true: valid by the definition of `score`."""
    true = score(tractogram, scan.truth, threads=threads).kinds == VALID
    return LabelledTractogram(scan, tractogram, true)


def labelled_tractograms(
    bundles: str | Path,
    specs: Sequence[ScanSpec],
    *,
    count: int = COUNT,
    voxel_size: float = 2.5,
    threads: int | None = None,
) -> Iterator[LabelledTractogram]:
    """Tractograms of several scans by every one of TRACKERS, each with what is true.

    Args:
        bundles: Folder for `from_bundles`.
        specs: The scans; those of the same seed that follow one another share their subject.
        count: Streamlines of each.
        voxel_size: mm.
        threads: Threads in use; all cores if not given.
    """
    subject: tuple[int, Anatomy] | None = None
    for spec in specs:
        if subject is None or subject[0] != spec.seed:
            subject = (spec.seed, from_bundles(bundles, seed=spec.seed, voxel_size=voxel_size))
        scan = make_phantom_scan(subject[1], spec, threads=threads)
        for method in TRACKERS:
            tractogram = track(
                scan.dwi, scan.maps, method=method, count=count, tissue=scan.tissue,
                seed=spec.seed, threads=threads,
            )  # fmt: skip
            yield label_streamlines(scan, tractogram, threads=threads)
