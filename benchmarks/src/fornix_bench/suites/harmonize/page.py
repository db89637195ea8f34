"""The page of `fornix bench harmonize`: what was simulated, and its tables."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

from fornix_bench.suites.harmonize.cohort import AFFECTED
from fornix_bench.suites.harmonize.goals import goals
from fornix_bench.suites.harmonize.scanners import SLAB, TRACTS
from fornix_bench.suites.harmonize.travelling import HEADS
from fornix_bench.table import environment, markdown, read_csv, write_page

#: People of each site, cohorts of each kind, and scans of a new site.
EACH, COHORTS, NEW = 30, 100, 10

SLICES, HEAD_COUNT, TRACT_COUNT = SLAB.stop - SLAB.start, len(HEADS), len(TRACTS)
NAMED, FEWER = ", ".join(AFFECTED), COHORTS // 4

WORDS: dict[str, str] = {
    "maps": f"""## What sites do, by learned and classical maps

{HEAD_COUNT} simulated heads are scanned twice at each of eight sites: the same tissue, a slab of
{SLICES} slices of 2.5 mm, true masks of {TRACT_COUNT} tracts, white matter only. Sites differ by
protocol (S1 and S8 share one), true over written b (0.95 to 1.05), gradient non-linearity (up to 6% at
80 mm), noise (SNR 15 to 30), coils (1 to 8, added as squares), acquired share of k-space (0.8 to 1),
partial Fourier (0.75 to 1), a reconstruction filter and how heads lie. Registration is without error,
heads have no lesions. Coefficient of variation of a tract's mean: between sites (one scan each), and
between two scans at one site; root mean square over heads and tracts. `shift of sites` is the part that
all heads share, `head and site` what differs between heads, which no shift takes out. `fod_peak` is the
height of the largest lobe (classical: `csd`, whose scale is the scan's own).""",
    "cohort": f"""## A study of 240 people

Whole images of 240 heads were not simulated: tract means are drawn. {EACH} people at each site, age 20
to 80, patients whose value is 3% off in {NAMED}; mean age and share of patients differ between sites
(30 to 65 years, 30 to 70%). Site shifts, interactions and noise are those measured above on learned
maps; people differ by 3% as a whole and 3% in each tract, and by age along a curve. {COHORTS} cohorts.
`between sites`, `repeated`: on scans of half of the travelling heads, which are in no fit. `could be`:
what head-and-site and noise alone give. `kept of 3%`: mean estimate over its true size; `error of
effect`: its root mean square error, in percent of the value; `found` and `false`: share of affected and
other tracts with p < 0.05 (least squares with age and its square). Travelling heads are of the other
half, two scans at each site.""",
    "power": """## 30 patients and 30 controls

Over eight sites, as many patients as controls at each, harmonized by themselves or by a model of the
240 (`frozen`), beside as many people of the first site alone. p < 0.05, tract by tract. A standard
error of `found` is about 0.025, of `false` 0.01.""",
    "none": """## Sites that measure alike

Root mean square change of values, beside the error of a site's mean.""",
    "new": f"""## A new site

What is left of the shift of a site on travelling heads, each site in turn: in the fit with its {EACH}
scans, or estimated from {NEW} of them by a model that has not seen it. Root mean square over sites,
tracts and {FEWER} cohorts; heads of half.""",
    "patients": """## People who are unlike and whom nobody named

At three sites each person has a chance of a fifth to be 15% off in all tracts.""",
    "signal": """## Signals instead of values

The travelling heads' scans themselves, before maps: `one scan`: the noise floor brought to that of one
channel, told by each scan alone (`fornix harmonize scan`); `rish`: linear RISH of the encoder's
features, to S6, fitted to one half of the heads and tried on the other, place by place without
registration (heads are deformed by 1.5 to 5 mm), scales smooth over 8 mm; `published`: linear RISH per
shell, which needs one protocol, S8 made like S1, without smoothing. Coefficient of variation between
sites.""",
    "pairs": """## Two real scans of one head

Repeated (siemens), or with slices tilted by 20 degrees (canon, toshiba), as if first and second scans
were of two sites: shifts told by the two other heads (`--travelling fit`). Root mean square difference
of tract means, learned maps. Where a tilted and a repeated pair teach, they agree on no shift beyond
chance and the third is left alone. Two tilted pairs teach one that the repeated pair has not, and it
comes further apart: what is called a site has to be one. Three heads are few.""",
    "subsets": """## Parts of a real scan

A multi-shell crop cut into protocols of two shells each (700 and 1200, 1200 and 2800, 700 and 2800
s/mm²; kurtosis and NODDI: the latter two) with all b0s: coefficient of variation between the parts, of
the crop's mean and voxel by voxel (noise included). All voxels of the crop.""",
}


def write(folder: Path, threads: int, seed: int) -> None:
    """Write harmonize.md from the tables that are there."""
    blocks = [f"{environment(threads, seed)}.", "Made by `fornix bench harmonize`."]
    if find_spec("neuroHarmonize") is None:
        blocks.append("neuroHarmonize is not installed, and is left out of what is made now.")
    asked = goals(folder)
    if asked:
        blocks += ["## What was asked, and what is reached", markdown(asked)]
    for name, words in WORDS.items():
        path = folder / f"harmonize_{name}.csv"
        if path.exists():
            blocks += [words, markdown(read_csv(path))]
    write_page(folder / "harmonize.md", "Harmonization of sites", blocks)
