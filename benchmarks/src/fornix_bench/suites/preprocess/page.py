"""`fornix bench preprocess`: each step of preprocessing against truth and peers, section by section."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path

from fornix.core.compute import use_threads
from fornix.core.errors import FornixError
from fornix_bench.suites.preprocess import denoise, geometry, gibbs
from fornix_bench.table import Row, environment, markdown, read_csv, write_csv, write_page

_TEXTS = {
    "gibbs": "## Gibbs ringing\n\nRMSE in the brain, per cent of white matter's b0; seconds for one scan.",
    "denoise": "## Denoising\n\nRMSE to the clean signal over the noise level; shift of the mean; "
    "correlation of residuals with edges on real scans.",
    "geometry": "## Motion, eddy currents, lost slices\n\n`before`, `pose`: mean distance of poses from the "
    "truth over a ball of 50 mm, mm (goal: 0.15); `shift` mm, `turn` degrees (0.15 each); `measured`: mean "
    "distance in the brain between where signal was measured and where it is sought, eddy currents included.",
    "field": "## Susceptibility field from a reversed pair\n\nGoal: median error 0.5 mm; b0s of real pairs "
    "correlate above 0.97 in the brain.",
}


def run_preprocess(
    out: str | Path = "docs/benchmarks",
    threads: int = 2,
    quick: bool = False,
    seed: int = 0,
    sections: Sequence[str] = (),
) -> list[Row]:
    """Write preprocess_SECTION.csv and preprocess.md into `out`; sections not asked for stay as they are."""
    folder = Path(out)
    folder.mkdir(parents=True, exist_ok=True)
    scan = (
        Path(os.environ.get("FORNIX_TEST_DATA", "../shared/data"))
        / "dwi/philips-elition_b1000x16/dwi.nii.gz"
    )
    make: dict[str, Callable[[], list[Row]]] = {
        "gibbs": lambda: gibbs.rows(scan, threads, quick, seed),
        "denoise": lambda: denoise.rows([scan], threads, quick, seed),
        "geometry": lambda: geometry.rows(threads, quick, seed),
        "field": lambda: geometry.pair_rows(threads, quick, seed),
    }
    for name in sections:
        if name not in make:
            raise FornixError(f"no section {name!r}; choose of: {', '.join(make)}")
    made: list[Row] = []
    with use_threads(threads):
        for name in sections or make:
            rows = make[name]()
            write_csv(folder / f"preprocess_{name}.csv", rows)
            made += rows
    blocks = [f"{environment(threads, seed)}.", "Made by `fornix bench preprocess`."]
    for name, text in _TEXTS.items():
        path = folder / f"preprocess_{name}.csv"
        if path.exists():
            blocks += [text, markdown(read_csv(path))]
    write_page(folder / "preprocess.md", "Preprocessing", blocks)
    return made
