"""`fornix bench enhance`: other gradients and smaller voxels.

Sections:
* angle: unseen measurements of real scans, against spherical harmonics, SHORE, MAP-MRI, a Gaussian process.
* space: small voxels on heads of the own simulator, against interpolation and deconvolution.
* second: the same on the head of `trxscan`, on which nothing was tuned.
* thin: orientations in the fornix and the anterior commissure.
* real: a real scan's voxels averaged in the plane and brought back.
* next: orientations from the scan as it is and from the enhanced one.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from fornix_bench.sections import run_sections
from fornix_bench.suites.enhance import page
from fornix_bench.suites.enhance.angle import angle
from fornix_bench.suites.enhance.next_step import next_step
from fornix_bench.suites.enhance.real import real
from fornix_bench.suites.enhance.space import second, space, thin
from fornix_bench.table import Row

SECTIONS = {
    "angle": angle, "space": space, "second": second, "thin": thin, "real": real, "next": next_step,
}  # fmt: skip


def run_enhance(
    out: str | Path = "docs/benchmarks", threads: int = 2, quick: bool = False, seed: int = 0,
    sections: Sequence[str] = (),
) -> list[Row]:  # fmt: skip
    """Write enhance_….csv of each section and enhance.md; quick: one case of each.

    Anatomy and scans are read from FORNIX_TEST_DATA or ../shared/data.
    """
    rows = run_sections("enhance", SECTIONS, out, threads, quick, seed, sections)
    page.write(Path(out), threads, seed)
    return rows
