"""Commands of the head's place in MNI space, its tracts, and what is measured along them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from fornix.cli import options as o
from fornix.cli.scan_options import ScanOptions, reads_scan
from fornix.core.errors import FornixError

TractMethod = Annotated[
    str,
    typer.Option(
        "--method", help="network: atlas, tissue and fibres weighed; atlas: the atlas as it is."
    ),
]
Atlases = Annotated[str, typer.Option("--atlas", help="tracts72, hcp1065 or both, by comma.")]


@reads_scan("sigma")
def register_command(
    path: o.Input,
    fixed: Annotated[
        str,
        typer.Argument(
            help="mni, another diffusion scan, or a T1 of the same head.", show_default=False
        ),
    ],
    out: o.Out,
    kind: Annotated[
        str,
        typer.Option(
            "--kind", help="rigid, similarity, affine or deformable; with a T1 always rigid."
        ),
    ] = "deformable",
    *,
    scan: ScanOptions,
) -> None:
    """Register a scan to the MNI template or to another scan, on tissues and fibres.

    Writes warps both ways, STEM_from-…_to-…_mode-image_xfm (ITK) and …_desc-mrtrix_xfm, and the scan's FA on
    the other's grid, to look at. With a T1 of the same head (in either order): from-T1w_to-dwi and back, and
    STEM_space-dwi_T1w.

    [bold]Examples[/]

      fornix register sub-01_dwi.nii.gz mni -o out
      fornix register ses-2_dwi.nii.gz ses-1_dwi.nii.gz -o out --kind rigid
      fornix register sub-01_dwi.nii.gz sub-01_T1w.nii.gz -o out
    """
    from fornix.workflow.registration import register_scan
    from fornix.workflow.structural import register_t1, scan_and_structural

    path, t1 = scan_and_structural(path, fixed)
    with scan.job(path, out) as (job, state):
        if t1 is None:
            register_scan(job, state, fixed, kind, scan.mask, scan.threads)
        else:
            register_t1(job, state, t1, scan.mask)


@reads_scan("sigma")
def tracts_command(
    path: o.Input,
    out: o.Out,
    method: TractMethod = "network",
    atlas: Atlases = "tracts72",
    streamlines: Annotated[
        int,
        typer.Option(
            "--streamlines",
            help="Streamlines to track in each tract, 500 show all of it; 0: none.",
            min=0,
        ),
    ] = 0,
    *,
    scan: ScanOptions,
) -> None:
    """Tracts without tractography: probabilities, ends, directions, volumes; why one is missing.

    Writes STEM_desc-tracts_probseg and its table STEM_desc-tracts_dseg.tsv, STEM_desc-endings_probseg,
    STEM_desc-tracts_tom, STEM_desc-tracts_along, and the warps to and from MNI space. With --streamlines each
    tract is tracked inside of its map, from end to end: STEM_desc-tracts_tractogram.trx with a group a tract,
    and STEM_desc-tracking_streamlines.tsv. Orientations in OUT of the same scan are reused.

    [bold]Examples[/]

      fornix tracts dwi.nii.gz -o out
      fornix tracts dwi.nii.gz -o out --streamlines 500
    """
    from fornix.workflow import stages as p

    settings = p.Options(
        seed=scan.seed, threads=scan.threads, device=scan.device, max_memory=scan.max_memory
    )
    with scan.prepared(path, out, checked=False) as (job, state):
        scan_key = job.key
        head, warp = p.register_stage(job, state, settings)
        tracts = p.tracts_stage(job, state.dwi, head, warp, method, _atlases(atlas))
        if streamlines:
            tracts_key, job.key = job.key, scan_key
            p.orientation_stages(job, state, settings, tensor_needed=False)
            p.tract_streamlines_stage(job, state, tracts, tracts_key, streamlines, settings)


@reads_scan()
def profile_command(
    path: o.Input,
    out: o.Out,
    nodes: Annotated[int, typer.Option("--nodes", help="Nodes along each tract.", min=2)] = 100,
    tractogram: Annotated[
        Path | None,
        typer.Option(
            "--tractogram",
            help="Along these streamlines (trx, tck, trk; of any tracker) instead of the tracts' voxels.",
        ),
    ] = None,
    *,
    scan: ScanOptions,
) -> None:
    """Maps along tracts, with standard deviations: STEM_desc-profiles_tracts.tsv.

    Takes maps and tracts that are in OUT, and makes those that are missing. With a tractogram its streamlines
    are given to tracts first, unless its groups are named as the tracts are.

    [bold]Examples[/]

      fornix profile dwi.nii.gz -o out
      fornix profile dwi.nii.gz -o out --tractogram out/dwi_tractogram.trx
    """
    from fornix.io import load_maps
    from fornix.tracts.files import load_tracts
    from fornix.workflow import stages as p

    with scan.prepared(path, out, checked=False) as (job, state):
        options = p.Options(seed=scan.seed, threads=scan.threads)
        state.maps = load_maps(job.out, job.stem)
        if not state.maps:
            p.microstructure_stage(job, state, "auto", "auto", options)
        try:
            tracts = load_tracts(job.out, job.stem)
        except FornixError:
            head, warp = p.register_stage(job, state, options)
            tracts = p.tracts_stage(job, state.dwi, head, warp, "network", ("tracts72",))
        p.profile_stage(job, tracts, state, options, nodes, tractogram)


def warp_command(
    source: Annotated[
        Path, typer.Argument(help="Image or tractogram to bring over.", show_default=False)
    ],
    warp: Annotated[
        Path,
        typer.Argument(
            help="Warp of fornix register: from-A_to-B for images of A (for streamlines: from-B_to-A).",
            show_default=False,
        ),
    ],
    out: Annotated[Path, typer.Option("-o", "--out", help="File to write.", show_default=False)],
    kind: Annotated[
        str, typer.Option("--kind", help="scalar, labels, tensor, peaks, fod or streamlines.")
    ] = "scalar",
    modulate: Annotated[
        bool, typer.Option("--modulate", help="Keep sums over regions (scalar) or bundles (fod).")
    ] = False,
) -> None:
    """Bring a map, label image, tensor, peaks, FOD or tractogram over to another head.

    [bold]Examples[/]

      fornix warp fa.nii.gz dwi_from-dwi_to-mni_mode-image_xfm.nii.gz -o fa_mni.nii.gz
      fornix warp labels.nii.gz dwi_from-mni_to-dwi_mode-image_xfm.nii.gz -o own.nii.gz --kind labels
      fornix warp lines.trx dwi_from-mni_to-dwi_mode-image_xfm.nii.gz -o mni.trx --kind streamlines
    """
    from fornix.workflow.registration import warp_file

    warp_file(source, warp, out, kind, modulate)


def label_command(
    tractogram: Annotated[
        Path,
        typer.Argument(help="Tractogram (trx, tck, trk) of the same head.", show_default=False),
    ],
    tracts: Annotated[
        Path, typer.Option("--tracts", help="Folder that fornix tracts wrote.", show_default=False)
    ],
    out: Annotated[
        Path,
        typer.Option(
            "-o",
            "--out",
            help="Folder for one tractogram a tract and their table.",
            show_default=False,
        ),
    ],
    threshold: Annotated[
        float, typer.Option("--threshold", help="Score from which a streamline belongs to a tract.")
    ] = 0.4,
    extension: Annotated[str, typer.Option("--format", help="trx, tck or trk.")] = "tck",
) -> None:
    """Which tract each streamline of a tractogram belongs to, whoever tracked it.

    Writes one file a tract and a table: streamlines, mean length, mean score of each, and those of no tract.

    [bold]Example[/]

      fornix label out/sub-01_tractogram.trx --tracts out -o bundles
    """
    from fornix.workflow.labelling import label_file

    o.check_tractogram(extension)
    typer.echo(label_file(tractogram, tracts, out, threshold, extension))


def _atlases(text: str) -> tuple[str, ...]:
    return tuple(word.strip() for word in text.split(",") if word.strip())
