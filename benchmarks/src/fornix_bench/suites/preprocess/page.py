"""`fornix bench preprocess`: each step of preprocessing against truth and peers, section by section."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path

from fornix.core.compute import use_threads
from fornix.core.errors import FornixError
from fornix_bench.suites.preprocess import (
    denoise,
    from_t1,
    geometry,
    gibbs,
    quality,
    real,
    tissue,
    together,
)
from fornix_bench.table import Row, environment, markdown, read_csv, write_csv, write_page

_TEXTS = {
    "tissue": "## Brain and tissues\n\nDice against the truth of simulated heads (goals: brain 0.98, tissues "
    "0.85, deep grey matter 0.8), which have nothing around the brain. `left`: share of voxels on the right "
    "side. Real scans, with all methods' outlines: magenta network, red `network` of the masks, cyan "
    "`shells`, green median_otsu, yellow dwi2mask:\n\n![tissues of the real scans](tissue.webp)",
    "quality": "## Quality\n\nSlices with at least 5% of the largest slice's brain. `found at 1% false`: at "
    "the score that one good slice in a hundred passes (goal: 0.95); `found`, `false`: as reported. Spikes "
    "in weighted volumes. `auc`: of the verdict's score (goal: 0.95).",
    "gibbs": "## Gibbs ringing\n\nRMSE in the brain, per cent of white matter's b0; seconds for one scan.",
    "denoise": "## Denoising\n\nRMSE to the clean signal over the noise level; shift of the mean; "
    "correlation of residuals with edges on real scans.",
    "geometry": "## Motion, eddy currents, lost slices\n\n`before`, `pose`: mean distance of poses from the "
    "truth over a ball of 50 mm, mm (goal: 0.15); `shift` mm, `turn` degrees (0.15 each); `measured`: mean "
    "distance in the brain between where signal was measured and where it is sought, eddy currents included.",
    "together": "## All together\n\nA head with every artefact and its reversed partner, SNR 20, learned "
    "maps of the denoised scan against the truth of the head at rest: RMSE of FA and MD (µm²/ms) in the "
    "brain, mean angle of v1 and of FOD peaks in white matter, degrees. `ratio`: over noise alone (goal: "
    "1.3).",
    "real": "## Real scans, raw and corrected\n\n`flagged`: share of the brain out of the networks' "
    "distribution; `excess`: error of measurements that were left out over their floor, over S0, from 12 "
    "directions (without denoising, so that the noise is as it was); `cv`: of FA in white matter between two "
    "scans of one head; `fa`: mean difference of FA in the brain between both directions of a reversed pair "
    "(goal: half), `r`: correlation of their b0s. [Pictures](preprocess-scans.md).",
    "from_t1": "## Susceptibility field from a T1 alone\n\nThe T1 is made of the simulator's tissue and "
    "moved. `displaced`: from the median, before correction; a constant displacement cannot be told from a "
    "shift of the T1 and does not count (goal: median error 0.5 mm). Real pairs: the corrected b0 with its "
    "contrast turned over stands in for a T1, the pair's field for the truth; how stiff the field is was "
    "chosen on these and on own heads. Where displacements are small, little or nothing is gained. A T1 of "
    "another head is not told from the head's own: with one deformed by 5 mm the correlation rose as well.",
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
    data = Path(os.environ.get("FORNIX_TEST_DATA", "../shared/data"))
    scan = data / "dwi/philips-elition_b1000x16/dwi.nii.gz"
    make: dict[str, Callable[[], list[Row]]] = {
        "tissue": lambda: _tissue(folder, threads, quick),
        "gibbs": lambda: gibbs.rows(scan, threads, quick, seed),
        "denoise": lambda: denoise.rows([scan], threads, quick, seed),
        "geometry": lambda: geometry.rows(threads, quick, seed),
        "quality": lambda: quality.rows(threads, quick, seed),
        "together": lambda: together.rows(threads, quick, seed),
        "real": lambda: real.rows(data, None if quick else folder / "preprocess", quick),
        "from_t1": lambda: from_t1.rows(threads, quick),
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
    write_pages(folder, threads, seed)
    return made


def _tissue(folder: Path, threads: int, quick: bool) -> list[Row]:
    if not quick:
        tissue.montage(folder / "tissue.webp", threads)
    return tissue.rows(threads, quick)


def write_pages(folder: Path, threads: int, seed: int) -> None:
    """preprocess.md and preprocess-scans.md from the tables and pictures that are there."""
    blocks = [f"{environment(threads, seed)}.", "Made by `fornix bench preprocess`."]
    for name, text in _TEXTS.items():
        path = folder / f"preprocess_{name}.csv"
        if path.exists():
            rows = read_csv(path)
            blocks += [text, markdown(rows, list(dict.fromkeys(k for row in rows for k in row)))]
    shown = sorted(p.name for p in (folder / "preprocess").glob("*.webp"))
    if shown:
        text = (
            "Each real scan with the mask's outline, raw and as `fornix run` corrects it (with its "
        )
        text += "reversed partner where there is one). Made by `fornix bench preprocess --section real`."
        drawn = [f"## {Path(n).stem}\n\n![{Path(n).stem}](preprocess/{n})" for n in shown]
        write_page(
            folder / "preprocess-scans.md", "Scans before and after preprocessing", [text, *drawn]
        )
    write_page(folder / "preprocess.md", "Preprocessing", blocks)
