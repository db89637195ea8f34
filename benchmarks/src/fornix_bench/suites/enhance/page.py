"""The page of `fornix bench enhance`."""

from __future__ import annotations

from pathlib import Path

from fornix_bench.table import Row, environment, markdown, read_csv, write_page

_TEXT = {
    "angle": (
        "Other gradients",
        "Real scans, the middle of the brain: some directions are used, the others predicted. RMSE "
        "over S0, of which `floor` is the noise of the measurements themselves (from a tensor fit to "
        "all). `Fornix` is `fornix enhance --to`, a mixture of network, Gaussian process and tensor; "
        "`encoder` the process alone. The Gaussian process of one shell is that of eddy and nifreeze,"
        " written here (nifreeze itself needs other versions). SHORE and MAP-MRI are DIPY's.",
        ("scan", "used", "method", "error", "floor", "seconds"),
    ),
    "space": (
        "Smaller voxels",
        "Heads of the own simulator that were not trained on, in voxels of 1.25 mm, measured in "
        "larger ones with a slice profile along z and truncated k-space in the plane, two b0s and 30 "
        "directions at b = 2000. Errors of signals are root mean squares over white matter's b0; "
        "`contrast`: without the mean over directions; `FA`: of a tensor fit to the signals against "
        "one to the true signals; `FOD`: one less the angular correlation of deconvolution with that "
        "of the true signals; `peaks`: degrees from true fibres, 45 where one is missed; `spurious`: "
        "found ones that are none; `invented`: slopes of the mean error where the truth has hardly "
        "any. The rival, deconvolution with total variation of all volumes together, gets the "
        "strength of four that is best against the truth.",
        ("measured", "SNR", "method", "b0", "weighted", "contrast", "FA", "FA bias", "FOD", "peaks",
         "spurious", "invented", "90% b0", "90% weighted", "std in lesions", "error in lesions", "seconds"),
    ),
    "second": (
        "The second simulator",
        "One case (`--quick`) of the head of `trxscan`, on which nothing was tuned or trained; the "
        "same scores, fibres being those of the true signals' deconvolution.",
        ("measured", "SNR", "method", "b0", "weighted", "contrast", "FA", "FOD", "peaks", "spurious",
         "invented", "90% b0", "90% weighted", "seconds"),
    ),
    "thin": (
        "Thin bundles",
        "Orientations in the fornix (FX) and the anterior commissure (CA), from voxels of 2.5 mm at an "
        "SNR of 20.",
        ("tract", "voxels", "method", "FOD", "peaks", "spurious"),
    ),
    "real": (
        "Real scans",
        "One scan (`--quick`): a part of it, made larger by the same operator and brought back, "
        "against what was measured. RMSE over the b0's median; `noise`: of the measured voxels. The "
        "larger voxels hold part of that very noise, so methods that keep it look better here than "
        "they are, in weighted volumes most.",
        ("scan", "factor", "method", "b0", "weighted", "noise"),
    ),
    "next": (
        "The next step",
        "One case (`--quick`), SNR 20. Orientations in small white voxels by Fornix's voxelwise "
        "network and by deconvolution: those of the measured voxels, "
        "interpolated, and those of the enhanced scan.",
        ("measured", "orientations", "from", "FOD", "peaks", "spurious", "voxels"),
    ),
}  # fmt: skip


#: What the tables of simulated heads say, in words.
_SHORT = """\
Goals were errors of at most 0.75 of interpolation and 0.9 of deconvolution. Signals of weighted volumes and
orientation densities reach them nearly everywhere; FA and the directions of peaks do not: FA is drawn down by
denoising, and detail of fibres below the measured voxel is lost, for interpolation of scans without noise as
well. Most of what is gained is noise taken off before deconvolution: against deconvolution of the scan
denoised alike the errors are about the same, and the network adds 1 to 4%. Intervals of 90% hold 84 to 96%,
not 88 to 92% everywhere. The spread does not rise over simulated lesions, and neither does the error."""


def write(folder: Path, threads: int, seed: int) -> None:
    """Write enhance.md from the sections' tables that are there."""
    blocks = [
        "Made by `fornix bench enhance` (`--section` makes one again).",
        environment(threads, seed) + ".",
    ]
    for name, (title, text, columns) in _TEXT.items():
        path = folder / f"enhance_{name}.csv"
        if not path.exists():
            continue
        rows = read_csv(path)
        blocks += [f"## {title}", text]
        if name in ("space", "second"):
            blocks += [_SHORT, _ratios(rows)] if name == "space" else [_ratios(rows)]
        if name == "angle":
            blocks += _angle(rows)
            continue
        blocks.append(markdown(rows, [c for c in columns if any(c in r for r in rows)]))
    write_page(folder / "enhance.md", "Other gradients and smaller voxels", blocks)


def _ratios(rows: list[Row]) -> str:
    """Fornix's errors over those of each rival, by case."""
    made: list[Row] = []
    cases = list(dict.fromkeys((r["measured"], r["SNR"]) for r in rows))
    for size, snr in cases:
        here = {r["method"]: r for r in rows if (r["measured"], r["SNR"]) == (size, snr)}
        for rival in ("cubic", "Lanczos", "deconvolution", "deconvolution of the denoised"):
            made.append(
                {
                    "measured": size, "SNR": snr, "Fornix over": rival,
                    **{
                        k: here["Fornix"][k] / here[rival][k]
                        for k in ("b0", "weighted", "contrast", "FA", "FOD", "peaks")
                    },
                }
            )  # fmt: skip
    return markdown(made)


def _angle(rows: list[Row]) -> list[str]:
    """A row a scan and subset, a column a method; then the orientations."""
    made: list[Row] = []
    methods = list(dict.fromkeys(r["method"] for r in rows if "error" in r))
    for scan, used in dict.fromkeys((r["scan"], r["used"]) for r in rows if "error" in r):
        here = {
            r["method"]: r for r in rows if (r["scan"], r["used"]) == (scan, used) and "error" in r
        }
        others = [r["error"] for m, r in here.items() if not m.startswith("Fornix")]
        made.append(
            {
                "scan": scan, "used": used, "floor": here["Fornix"]["floor"],
                **{m: here[m]["error"] for m in methods if m in here},
                "Fornix over the best other": here["Fornix"]["error"] / min(others),
            }
        )  # fmt: skip
    blocks = [markdown(made)]
    for row in rows:
        if "FOD 12 enhanced" in row:
            blocks.append(
                f"Angular correlation with the orientations from all directions of {row['scan']}: "
                f"{row['FOD 12 enhanced']:.3f} from 12 directions enhanced to all, "
                f"{row['FOD 12 measured']:.3f} from the 12 as they are, {row['FOD 24 measured']:.3f} from 24 "
                "measured, whose noise is in part that of all."
            )
    return blocks
