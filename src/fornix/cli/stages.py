"""The stages alone: each command loads a scan, does one stage and writes what `run` would write."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fornix.cli import options as o
from fornix.cli.show import Shown, console
from fornix.core.errors import FornixError

if TYPE_CHECKING:
    from fornix.workflow.job import Job
    from fornix.workflow.stages import State


def denoise_command(
    path: o.Input,
    out: o.Out,
    method: Annotated[str, o.method_option("denoise")] = "mppca",
    bval: o.Bval = None,
    bvec: o.Bvec = None,
    grad: o.Grad = None,
    mask: o.Mask = None,
    sigma: o.NoiseLevel = None,
    exclude: o.Exclude = "",
    threads: o.Threads = None,
    device: o.Device = "auto",
    max_memory: o.MaxMemory = None,
) -> None:
    """Denoise the volumes; writes STEM_desc-preproc_dwi and the noise level.

    [bold]Example[/]

      fornix denoise dwi.nii.gz -o out --method mppca
    """
    from fornix.workflow import stages as p

    with _job(path, out, bval, bvec, grad, mask, sigma, exclude, max_memory) as (job, state):
        p.preprocess_stage(
            job, state, method, (), p.Options(threads=threads, device=device), "denoise"
        )


def mask_command(
    path: o.Input,
    out: o.Out,
    method: Annotated[str, o.method_option("mask")] = "shells",
    bval: o.Bval = None,
    bvec: o.Bvec = None,
    grad: o.Grad = None,
    mask: Annotated[
        Path | None, typer.Option("--mask", help="Take this mask: checked, written under its name.")
    ] = None,
    exclude: o.Exclude = "",
    max_memory: o.MaxMemory = None,
) -> None:
    """Find the brain; writes STEM_desc-brain_mask.

    [bold]Example[/]

      fornix mask dwi.nii.gz -o out
    """
    from fornix.io import load
    from fornix.workflow import stages as p

    scan = load(
        path, bval=bval, bvec=bvec, grad=grad, exclude=o.volumes(exclude), max_memory=max_memory
    )
    show = Shown()
    try:
        job = p.open_job(out, path, scan, show, mask, o.volumes(exclude))
        p.mask_stage(job, p.State(scan), method, given=mask)
    finally:
        show.close()
    _finished(job)


def correct_command(
    path: o.Input,
    out: o.Out,
    method: Annotated[
        str, o.method_option("correct", what="Corrections in order, by comma")
    ] = "gibbs,affine,bias",
    bval: o.Bval = None,
    bvec: o.Bvec = None,
    grad: o.Grad = None,
    mask: o.Mask = None,
    sigma: o.NoiseLevel = None,
    exclude: o.Exclude = "",
    threads: o.Threads = None,
    max_memory: o.MaxMemory = None,
) -> None:
    """Gibbs ringing, head motion and eddy currents (gradients turned along), bias field.

    [bold]Examples[/]

      fornix correct dwi.nii.gz -o out
      fornix correct dwi.nii.gz -o out --method rigid
    """
    from fornix.preprocess import CORRECT_METHODS
    from fornix.workflow import stages as p

    words = tuple(method.split(","))
    for word in words:
        CORRECT_METHODS[word]
    with _job(path, out, bval, bvec, grad, mask, sigma, exclude, max_memory) as (job, state):
        p.preprocess_stage(job, state, "", words, p.Options(threads=threads), "correct")


def microstructure_command(
    path: o.Input,
    out: o.Out,
    models: Annotated[
        str, typer.Option("--models", help="auto, or some of dti,dki,noddi.")
    ] = "auto",
    method: Annotated[str, o.method_option("dti", "dki", "noddi")] = "auto",
    quantiles: o.Quantiles = "",
    adapt: o.Adapt = False,
    reference_b: o.ReferenceB = None,
    bval: o.Bval = None,
    bvec: o.Bvec = None,
    grad: o.Grad = None,
    mask: o.Mask = None,
    sigma: o.NoiseLevel = None,
    exclude: o.Exclude = "",
    seed: o.Seed = 0,
    threads: o.Threads = None,
    device: o.Device = "auto",
    max_memory: o.MaxMemory = None,
) -> None:
    """Tensor, kurtosis and NODDI maps, each with its standard deviation, and the trust mask.

    [bold]Examples[/]

      fornix microstructure dwi.nii.gz -o out --quantiles 0.05,0.95
      fornix microstructure dwi.nii.gz --models dti,dki,noddi --method wls --mask mask.nii.gz -o out
    """
    from fornix.workflow import stages as p

    with _job(path, out, bval, bvec, grad, mask, sigma, exclude, max_memory) as (job, state):
        chosen = models if models == "auto" else tuple(models.split(","))
        settings = p.Options(
            quantiles=o.levels(quantiles), adapt=adapt, reference_b=reference_b, seed=seed,
            threads=threads, device=device, max_memory=max_memory,
        )  # fmt: skip
        p.microstructure_stage(job, state, chosen, method, settings)


def fod_command(
    path: o.Input,
    out: o.Out,
    method: Annotated[str, o.method_option("fod")] = "auto",
    adapt: o.Adapt = False,
    min_peak_prob: o.MinPeakProb = None,
    bval: o.Bval = None,
    bvec: o.Bvec = None,
    grad: o.Grad = None,
    mask: o.Mask = None,
    sigma: o.NoiseLevel = None,
    exclude: o.Exclude = "",
    seed: o.Seed = 0,
    threads: o.Threads = None,
    device: o.Device = "auto",
    max_memory: o.MaxMemory = None,
) -> None:
    """Fibre orientation distributions, tissue shares and peaks.

    [bold]Examples[/]

      fornix fod dwi.nii.gz -o out --method csd
      fornix fod dwi.nii.gz -o out --method learned --adapt
      fornix fod dwi.nii.gz -o out --min-peak-prob 0.5
    """
    from fornix.estimators.fod import FOD_METHODS
    from fornix.workflow import stages as p

    if adapt and method == "auto":
        method = FOD_METHODS.default
    if adapt:
        FOD_METHODS.check(method, "adapts", "--adapt")
    if min_peak_prob is not None:
        FOD_METHODS.check(method, "peak_probabilities", "--min-peak-prob")
    with _job(path, out, bval, bvec, grad, mask, sigma, exclude, max_memory) as (job, state):
        options = p.Options(
            adapt=adapt, min_peak_prob=min_peak_prob, seed=seed, threads=threads, device=device
        )
        p.fod_stage(job, state, method, options)


def report_command(
    path: o.Input,
    out: Annotated[
        Path, typer.Option("-o", "--out", help="Folder that holds the results.", show_default=False)
    ],
    bval: o.Bval = None,
    bvec: o.Bvec = None,
    grad: o.Grad = None,
    mask: o.Mask = None,
    sigma: o.NoiseLevel = None,
    exclude: o.Exclude = "",
    truth: Annotated[
        Path | None, typer.Option("--truth", help="Folder of true maps to stand beside.")
    ] = None,
    max_memory: o.MaxMemory = None,
) -> None:
    """Write the report again from the results that are in OUT.

    [bold]Example[/]

      fornix report dwi.nii.gz -o out
    """
    from fornix.io import derivative, load_maps, load_tractogram
    from fornix.workflow import stages as p

    with _job(path, out, bval, bvec, grad, mask, sigma, exclude, max_memory) as (job, state):
        state.maps = load_maps(job.out, job.stem)
        if not state.maps:
            raise FornixError(
                f"{out} holds no maps of {job.stem}; run `fornix microstructure` first"
            )
        reference = job.out / derivative(job.stem, "dwimap", model="dti", param="fa")
        for extension in ("trx", "tck", "trk"):
            found = job.out / f"{job.stem}_tractogram.{extension}"
            if found.exists():
                state.tractogram = load_tractogram(found, reference=reference)
        p.check_stage(job, state)
        p.report_stage(job, state, truth)


@contextmanager
def _job(
    path: Path,
    out: Path,
    bval: Path | None,
    bvec: Path | None,
    grad: Path | None,
    mask: Path | None,
    sigma: float | None,
    exclude: str,
    max_memory: str | None = None,
) -> Iterator[tuple[Job, State]]:
    """A scan with mask and noise level, given, found in OUT or estimated; closes with a last line."""
    from fornix.io import derivative, load, read_mask, read_volume
    from fornix.workflow import stages as p

    skipped = o.volumes(exclude)
    scan = load(path, bval=bval, bvec=bvec, grad=grad, exclude=skipped, max_memory=max_memory)
    p.Options(sigma=sigma)  # says what is wrong with it
    show = Shown()
    try:
        job = p.open_job(out, path, scan, show, mask, skipped)
        state = p.State(scan)
        known_mask = job.out / derivative(job.stem, "mask", desc="brain")
        if mask is None and job.made_here(known_mask):
            state.dwi = scan.with_(mask=read_mask(known_mask, scan))
            job.go_on_from(known_mask)
        else:
            p.mask_stage(job, state, given=mask)
        known_noise = job.out / derivative(job.stem, "dwimap", param="noise")
        if sigma is None and job.made_here(known_noise):
            state.dwi = state.dwi.with_(sigma=read_volume(known_noise)[0])
            job.go_on_from(known_noise)
        else:
            p.noise_stage(job, state, sigma=sigma)
        yield job, state
    finally:
        show.close()
    _finished(job)


def _finished(job: Job) -> None:
    console.print(f"done: results are in {job.out}", markup=False)
