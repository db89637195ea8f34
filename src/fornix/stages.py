"""The stages of the main job: each does one thing to a scan, writes it and can be reused.

`pipeline.run` calls them in order; the command line's single-stage commands call the same functions.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from fornix.core.dwi import DWI
from fornix.core.errors import FornixError, tell
from fornix.core.maps import Maps
from fornix.core.tractogram import Tractogram
from fornix.info import describe
from fornix.io import (
    derivative,
    load,
    load_maps,
    read_mask,
    read_tractogram,
    read_volume,
    save_maps,
    save_mask,
    save_scan,
    write_sidecar,
    write_tractogram,
)
from fornix.io.files import sha256
from fornix.io.nifti import write_image
from fornix.job import Job
from fornix.microstructure import TABLES, microstructure
from fornix.orientation import FOD_METHODS, fod
from fornix.preprocess import (
    MASK_METHODS,
    NOISE_METHODS,
    brain_mask,
    correct,
    denoise,
    estimate_noise,
    outlier_slices,
    slice_scores,
    snr,
)
from fornix.tracking import TRACK_METHODS, track
from fornix.tracking.options import TrackOptions

#: What `--preprocess` does: a denoising method and corrections, in this order.
PREPROCESS = {
    "none": ("", ()),
    "fast": ("mppca", ()),
    "full": ("mppca", ("gibbs", "affine", "bias")),
}


@dataclass(frozen=True)
class Options:
    """What can be asked of a run. Every field is an option of the command line.

    The last three change where and how fast, never the result.
    """

    preprocess: str = "fast"
    noise: str = "auto"
    sigma: float | None = None
    mask_method: str = "shells"
    models: tuple[str, ...] | str = "auto"
    method: str = "auto"
    quantiles: tuple[float, ...] = ()
    adapt: bool = False
    fod_method: str = "auto"
    track_method: str = "probabilistic"
    streamlines: int = 100_000
    tractogram_format: str = "trx"
    seed: int = 0
    threads: int | None = None
    device: str = "auto"
    max_memory: str | None = None

    def __post_init__(self) -> None:
        if self.preprocess not in PREPROCESS:
            raise FornixError(
                f"--preprocess {self.preprocess!r} is unknown; choose one of: {', '.join(PREPROCESS)}"
            )
        _known_words(self)
        if self.sigma is not None and not 0 < self.sigma < float("inf"):
            raise FornixError(
                "--sigma must be above 0; leave it out to have the noise level estimated"
            )
        if self.streamlines < 0:
            raise FornixError(f"--streamlines must be 0 or more, not {self.streamlines}")


@dataclass
class State:
    """What flows from stage to stage of one scan."""

    dwi: DWI
    maps: Maps = field(default_factory=Maps)
    tractogram: Tractogram | None = None


def input_record(
    path: str | Path, scan: DWI, mask: str | Path | None = None, exclude: Sequence[int] = ()
) -> dict[str, Any]:
    """What the job was made from: names and hashes. Any change of it makes every step anew."""
    return {
        "Scan": Path(path).name,
        "ScanSha256": sha256(path),
        "Gradients": sha256_of_table(scan),
        "B0Threshold": scan.gradients.b0_threshold,
        "Excluded": sorted(exclude),
        "MaskSha256": None if mask is None else sha256(mask),
    }


def sha256_of_table(scan: DWI) -> str:
    """Hash of b-values and world directions, rounded to what a text file keeps."""
    table = scan.gradients.to_mrtrix().round(6) + 0.0
    return hashlib.sha256(np.ascontiguousarray(table).tobytes()).hexdigest()


def mask_stage(
    job: Job, state: State, method: str = "shells", given: str | Path | None = None
) -> None:
    """STEM_desc-brain_mask: estimated, or the given one, checked to lie on the scan."""
    path = job.out / derivative(job.stem, "mask", desc="brain")

    def save(dwi: DWI, provenance: dict[str, Any]) -> list[Path]:
        how = method if given is None else "given"
        return [save_mask(dwi.brain(), dwi.affine, path, {"Method": how, **provenance})]

    def litres(dwi: DWI) -> str:
        volume = dwi.brain().sum() * abs(np.linalg.det(dwi.affine[:3, :3])) / 1e6
        return f"{int(dwi.brain().sum()):,} voxels, {volume:.2f} litres"

    state.dwi = job.step(
        "mask",
        {"method": method},
        lambda progress: (
            brain_mask(state.dwi, method)
            if given is None
            else state.dwi.with_(mask=read_mask(given, state.dwi))
        ),
        save,
        lambda: state.dwi.with_(mask=read_mask(path, state.dwi)),
        litres,
    )


def noise_stage(job: Job, state: State, method: str = "auto", sigma: float | None = None) -> None:
    """STEM_param-noise_dwimap: the noise level of the raw scan, estimated or as given."""
    path = job.out / derivative(job.stem, "dwimap", param="noise")

    def save(dwi: DWI, provenance: dict[str, Any]) -> list[Path]:
        write_image(path, np.broadcast_to(np.asarray(dwi.sigma), dwi.grid), dwi.affine)
        write_sidecar(
            path,
            {
                "Units": "as the scan",
                "Parameter": "noise",
                "Method": method,
                "Description": "noise standard deviation of the complex channels, raw scan",
                **provenance,
            },
        )
        return [path]

    state.dwi = job.step(
        "noise",
        {"method": method, "sigma": sigma},
        lambda progress: _noise(state.dwi, method, sigma),
        save,
        lambda: state.dwi.with_(sigma=read_volume(path)[0]),
        lambda dwi: f"median SNR of the b0 {np.median(snr(dwi)[dwi.brain()]):.1f}",
    )


def _noise(dwi: DWI, method: str, sigma: float | None) -> DWI:
    if sigma is None:
        return estimate_noise(dwi, method)
    return dwi.with_(sigma=np.full(dwi.grid, sigma, dtype=np.float32))


def check_stage(job: Job, state: State) -> None:
    """Facts of the raw scan: protocol, gradient check, SNR and slice outliers, into STEM_qc.json."""
    progress, start = job.show.begin("check"), time.perf_counter()
    facts = describe(state.dwi)
    scores = slice_scores(state.dwi)
    outliers = outlier_slices(scores)
    notes = list(facts.notes)
    if outliers:
        share = 100 * len(outliers) / scores.size
        notes.append(f"{len(outliers)} slices ({share:.1f}%) lost signal; see the outlier figure")
    weighted = np.flatnonzero(~state.dwi.gradients.b0_mask)
    brain, sigma = state.dwi.brain(), np.broadcast_to(np.asarray(state.dwi.sigma), state.dwi.grid)
    per_volume = [
        float(np.median(state.dwi.data[..., v][brain] / np.maximum(sigma[brain], 1e-12)))
        for v in range(len(state.dwi.gradients))
    ]
    job.record["Scan"] = facts.as_dict()
    job.record["SnrPerVolume"] = [round(v, 2) for v in per_volume]
    job.record["OutlierScores"] = scores.round(2).tolist()
    job.record["OutlierSlices"] = outliers
    job.record["Warnings"] = notes
    job.write_record()
    progress(1, 1)
    check = facts.gradient_check
    fits = "not checked" if check is None else "fits" if check.right else f"WRONG, try {check.best}"
    text = f"{state.dwi.gradients}; gradient table {fits}; {len(outliers)} outlier slices"
    if not len(weighted):
        text += "; no diffusion weighting"
    job.show.end("check", time.perf_counter() - start, text, False)


def preprocess_stage(
    job: Job,
    state: State,
    denoiser: str,
    corrections: Sequence[str],
    options: Options,
    step: str = "preprocess",
) -> None:
    """STEM_desc-preproc_dwi with its table. The noise level stays that of the raw scan."""
    if not denoiser and not corrections:
        return
    path = job.out / derivative(job.stem, "dwi", desc="preproc")
    if denoiser == "mppca" and not _enough_for_mppca(state.dwi):
        job.record.setdefault("Warnings", []).append(
            f"denoising was left out: {len(state.dwi.gradients)} volumes are too few for MP-PCA"
        )
        denoiser = ""
        if not corrections:
            return

    def compute(progress: Any) -> DWI:
        dwi = state.dwi
        if denoiser:
            dwi = denoise(dwi, denoiser, threads=options.threads, device=options.device)
        dwi = correct(dwi, corrections, threads=options.threads, progress=progress)
        # What is left after denoising is smaller but correlated: the raw level keeps errors honest.
        return dwi if state.dwi.sigma is None else dwi.with_(sigma=state.dwi.sigma)

    def save(dwi: DWI, provenance: dict[str, Any]) -> list[Path]:
        save_scan(dwi, path)
        write_sidecar(
            path,
            {**dwi.meta, "Units": "as the scan", "Denoise": denoiser, **provenance,
             "Corrections": list(corrections)},
        )  # fmt: skip
        return [path]

    def reload() -> DWI:
        again = load(path)
        return again.with_(mask=state.dwi.mask, sigma=state.dwi.sigma, stem=state.dwi.stem)

    def summary(dwi: DWI) -> str:
        return ", ".join([*([denoiser] if denoiser else []), *corrections])

    state.dwi = job.step(
        step,
        {"denoise": denoiser, "corrections": list(corrections)},
        compute,
        save,
        reload,
        summary,
    )


def microstructure_stage(
    job: Job,
    state: State,
    models: Sequence[str] | str,
    method: str,
    options: Options,
    measured: DWI | None = None,
) -> None:
    """STEM_model-…_param-…_dwimap with standard deviations, and STEM_desc-trust_mask.

    measured: the scan before denoising, for methods that judge the noise themselves: denoised
    signals would make a network surer than it can be.
    """
    itself = method in ("auto", "learned", "voxelwise") and measured is not None

    def compute(progress: Any) -> Maps:
        return microstructure(
            measured if itself and measured is not None else state.dwi,
            models=models,
            method=method,
            threads=options.threads,
            device=options.device,
            max_memory=options.max_memory,
            seed=options.seed,
            progress=progress,
            quantiles=options.quantiles,
            adapt=options.adapt,
        )

    def summary(maps: Maps) -> str:
        found = sorted({m.model for m in maps.values()} - {""})
        fa = maps["dti_fa"].data[state.dwi.brain()] if "dti_fa" in maps else np.zeros(1)
        trusted = 100.0 if maps.trust is None else 100 * maps.trust[state.dwi.brain()].mean()
        return f"{', '.join(found)}; median FA {np.median(fa):.2f}; {trusted:.0f}% trusted"

    state.maps = job.step(
        "microstructure",
        {
            "models": models,
            "method": method,
            "seed": options.seed,
            "quantiles": options.quantiles,
            "adapt": options.adapt,
            "denoised": not itself,
        },
        compute,
        lambda maps, provenance: save_maps(maps, job.out, job.stem, provenance),
        lambda: _with_model(load_maps(job.out, job.stem), True),
        summary,
    )
    _note(job, state.maps.notes)


def fod_stage(job: Job, state: State, method: str, options: Options) -> None:
    """STEM_param-fod_dwimap, STEM_param-peaks_dwimap and tissue shares."""

    def save(maps: Maps, provenance: dict[str, Any]) -> list[Path]:
        basis = {"Basis": "MRtrix3, real even spherical harmonics, world axes"}
        return save_maps(Maps(maps.maps), job.out, job.stem, {**provenance, **basis})

    def summary(maps: Maps) -> str:
        count = (
            np.linalg.norm(maps["peaks"].data.reshape(*state.dwi.grid, -1, 3), axis=-1) > 0
        ).sum(-1)
        inside = state.dwi.brain() & (count > 0)
        return (
            f"{maps['fod'].method}, {maps['fod'].data.shape[3]} coefficients, "
            f"{100 * (count[inside] > 1).mean():.0f}% of fibre voxels cross"
        )

    tensor = state.maps if "dti_v1" in state.maps else None
    adapt = options.adapt and method in FOD_METHODS and FOD_METHODS[method].joint
    found = job.step(
        "fod",
        {"method": method, "adapt": adapt},
        lambda progress: fod(
            state.dwi,
            method,
            tensor=tensor,
            threads=options.threads,
            device=options.device,
            adapt=adapt,
        ),
        save,
        lambda: _with_model(load_maps(job.out, job.stem), False),
        summary,
    )
    state.maps = state.maps.merged(found)
    _note(job, found.notes)


def track_stage(
    job: Job,
    state: State,
    method: str,
    count: int,
    options: Options,
    asked: TrackOptions | None = None,
) -> None:
    """STEM_tractogram.{trx,tck,trk}. A trx file grows on disk and is not held in memory."""
    how = TrackOptions() if asked is None else asked
    streamed = options.tractogram_format == "trx"
    path = job.out / f"{job.stem}_tractogram.{options.tractogram_format}"

    def compute(progress: Any) -> Tractogram:
        return track(
            state.dwi,
            state.maps,
            method,
            count=count,
            seed=options.seed,
            threads=options.threads,
            progress=progress,
            out=path if streamed else None,
            **how.arguments(state.dwi),
        )

    def save(tractogram: Tractogram, provenance: dict[str, Any]) -> list[Path]:
        if not streamed:
            write_tractogram(tractogram, path)
        write_sidecar(
            path, {"Units": "mm", "Method": method, "Count": len(tractogram), **provenance}
        )
        return [path]

    def summary(tractogram: Tractogram) -> str:
        return f"{len(tractogram):,} streamlines, mean length {tractogram.lengths().mean():.0f} mm"

    # A tck file carries no grid: that of the mask, which the job wrote or was given, is the scan's.
    reference = job.out / derivative(job.stem, "dwimap", model="dti", param="fa")
    state.tractogram = job.step(
        "track",
        {
            "method": method,
            "count": count,
            "seed": options.seed,
            "format": options.tractogram_format,
            **how.record(),
        },
        compute,
        save,
        lambda: read_tractogram(path, reference=reference, mapped=streamed),
        summary,
    )


def fibre_stages(job: Job, state: State, options: Options) -> None:
    """Orientations and streamlines. Where a scan gives none (a crop, one voxel, no white matter), the
    reason is told and stands on top of the report; the maps made before are not lost."""
    try:
        fod_stage(job, state, options.fod_method, options)
        if options.streamlines:
            track_stage(job, state, options.track_method, options.streamlines, options)
    except FornixError as error:
        _note(job, [tell(f"no fibres: {error}")])


def report_stage(job: Job, state: State, truth: str | Path | None = None) -> Path:
    """STEM_report.html and the last STEM_qc.json."""
    from fornix.report import write_report

    start = time.perf_counter()
    job.show.begin("report")
    if state.tractogram is not None:
        lengths = state.tractogram.lengths()
        job.record["Tractogram"] = {
            "Count": len(state.tractogram),
            "MeanLengthMm": round(float(lengths.mean()), 1),
        }
    job.write_record()
    true_maps = None if truth is None else load_maps(truth, _only_stem(truth))
    page = write_report(
        job.out, job.stem, state.dwi, state.maps, state.tractogram, job.record, truth=true_maps
    )
    job.show.end("report", time.perf_counter() - start, str(page), False)
    return page


def fibres_possible(dwi: DWI) -> bool:
    """Six directions or more: enough for orientations."""
    return int((~dwi.gradients.b0_mask).sum()) >= 6


def _known_words(options: Options) -> None:
    """Refuse an unknown model or method before any work is done."""
    if options.models != "auto":
        for model in options.models:
            if model not in TABLES:
                raise FornixError(
                    f"no model {model!r}; choose some of: {', '.join(TABLES)}, or auto"
                )
    known = {word for table in TABLES.values() for word in table} | {"classical"}
    if options.method != "auto" and options.method not in known:
        raise FornixError(
            f"no model has a method {options.method!r}; choose one of: {', '.join(sorted(known))}"
        )
    for word, table in (
        (options.noise, NOISE_METHODS),
        (options.mask_method, MASK_METHODS),
        (options.fod_method, FOD_METHODS),
        (options.track_method, TRACK_METHODS),
    ):
        if word != "auto":
            table[word]


def _enough_for_mppca(dwi: DWI) -> bool:
    return len(dwi.gradients) >= 5 and int(np.prod(np.minimum(dwi.grid, 5))) >= 8


def _with_model(maps: Maps, wanted: bool) -> Maps:
    """Maps of tissue models (True) or of orientations (False), which have no model."""
    chosen = {n: m for n, m in maps.maps.items() if bool(m.model) == wanted}
    chosen.pop("noise", None)
    return Maps(chosen, maps.trust, maps.notes) if wanted else Maps(chosen)


def _note(job: Job, notes: Sequence[str]) -> None:
    warnings = job.record.setdefault("Warnings", [])
    warnings.extend(n for n in notes if n not in warnings)


def _only_stem(folder: str | Path) -> str:
    found = sorted(Path(folder).glob("*_dwimap.nii.gz"))
    if not found:
        raise FornixError(
            f"{folder} holds no true maps; give the folder that `fornix simulate` wrote"
        )
    return found[0].name.split("_model-")[0].split("_param-")[0]
