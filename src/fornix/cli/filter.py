"""`fornix filter`: the streamlines to believe."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import numpy as np
import typer

from fornix.cli import options as o
from fornix.cli.show import console
from fornix.core.errors import FornixError

if TYPE_CHECKING:
    from fornix.core.dwi import DWI
    from fornix.core.maps import Maps


def filter_command(
    tractogram: Annotated[Path, typer.Argument(help="trx, tck or trk file.", show_default=False)],
    out: Annotated[
        Path | None,
        typer.Option(
            "-o", "--out", help="trx, tck or trk file; STEM_desc-filtered_tractogram if absent."
        ),
    ] = None,
    maps: Annotated[
        Path | None,
        typer.Option(
            "--maps", help="Folder with the scan's FOD and tensor maps; the tractogram's if absent."
        ),
    ] = None,
    by: Annotated[
        str, typer.Option("--by", help="plausibility (a network) or weight (fit to the signal).")
    ] = "plausibility",
    threshold: Annotated[
        float | None,
        typer.Option(
            "--threshold", help="Keep scores above this: 0.5 of plausibility, 0 of weight."
        ),
    ] = None,
    keep: Annotated[
        float | None,
        typer.Option("--keep", help="Keep this share instead, the best, for example 0.5."),
    ] = None,
    score_only: Annotated[
        bool, typer.Option("--score-only", help="Remove nothing; only write the scores.")
    ] = False,
    mask: o.Mask = None,
    tissue: Annotated[
        Path | None, typer.Option("--tissue", help="T1 segmentation, as for `fornix track`.")
    ] = None,
    threads: o.Threads = None,
) -> None:
    """Remove streamlines that are implausible, or that the signal does not ask for.

    Each streamline keeps its scores in the file (trx and trk): plausibility (0 to 1), weight (mm² of
    cross-section that explains the fibre densities best) and support (share of its length along
    fibres that the scan shows).

    [bold]Examples[/]

      fornix filter out/sub-01_tractogram.trx
      fornix filter out/sub-01_tractogram.trx --keep 0.5
      fornix filter out/sub-01_tractogram.trx --by weight -o out/sub-01_fitted.trk
    """
    from fornix.io import load_tractogram, save_tractogram, write_sidecar
    from fornix.io.files import protected
    from fornix.io.sidecar import command_line
    from fornix.io.tractograms import check_extension, needs_reference
    from fornix.tractography.filtering.filter import check_choice, chosen, score_streamlines

    check_choice(by, threshold, keep)
    folder = tractogram.parent if maps is None else maps
    stem, fod = _fod(folder, tractogram)
    path = out or tractogram.with_name(f"{stem}_desc-filtered_tractogram{tractogram.suffix}")
    check_extension(path)
    made = load_tractogram(tractogram, reference=fod if needs_reference(tractogram) else None)
    scan, found = _scan(folder, stem, mask)
    scored = score_streamlines(made, scan, found, tissue=tissue, threads=threads)
    best = np.arange(len(made)) if score_only else chosen(
        scored.per_streamline[by], by, threshold, keep
    )  # fmt: skip
    kept = scored.subset(best)
    with protected(tractogram, mask, tissue):
        save_tractogram(kept, path)
    write_sidecar(
        path,
        {"Units": "mm", "Method": "none" if score_only else by, "Count": len(kept),
         "CountBefore": len(made), "Threshold": threshold, "Keep": keep, "Command": command_line()},
    )  # fmt: skip
    values = scored.per_streamline[by]
    low, middle, high = np.percentile(values, [10, 50, 90])
    console.print(
        f"{by}: 10% {low:.3g}, median {middle:.3g}, 90% {high:.3g}; kept {len(kept):,} of "
        f"{len(made):,} streamlines"
    )
    console.print(f"done: {path}", markup=False)


def _fod(folder: Path, tractogram: Path) -> tuple[str, Path]:
    """The stem of the scan and its FOD image: of the tractogram's name, or the only one there is."""
    end = "_param-fod_dwimap.nii.gz"
    if not folder.is_dir():
        raise FornixError(f"the folder {folder} does not exist; give that of the maps with --maps")
    stems = sorted(p.name.removesuffix(end) for p in folder.iterdir() if p.name.endswith(end))
    if not stems:
        raise FornixError(
            f"{folder} holds no FOD (STEM{end}); make it with `fornix fod`, or give its folder with --maps"
        )
    named = [s for s in stems if tractogram.name.startswith(f"{s}_")]
    if not named and len(stems) > 1:
        raise FornixError(
            f"{folder} holds the FODs of {', '.join(stems)} and {tractogram.name} begins with none of "
            "them; rename it, or give a folder with one FOD with --maps"
        )
    stem = max(named, key=len) if named else stems[0]
    return stem, folder / f"{stem}{end}"


def _scan(folder: Path, stem: str, mask: Path | None) -> tuple[DWI, Maps]:
    """What filtering needs of a scan, its grid and mask, and the maps that were made of it."""
    from fornix.core.dwi import DWI
    from fornix.core.gradients import Gradients
    from fornix.io import derivative, load_maps, read_mask

    found = load_maps(folder, stem)
    image = found["fod"]
    signal = np.ones((*image.data.shape[:3], 1), np.float32)
    scan = DWI(signal, Gradients(np.zeros(1), np.zeros((1, 3))), image.affine, stem=stem)
    path = folder / derivative(stem, "mask", desc="brain") if mask is None else mask
    if mask is None and not path.exists():
        raise FornixError(f"{folder} holds no {path.name}; give the brain mask with --mask")
    return scan.with_(mask=read_mask(path, scan)), found
