"""The tools we are measured against, each as a function from signals to maps.

Every function takes signals (voxels, N) and gradients and returns `Estimates` in the units of
`fornix.models.base` (diffusivities in µm²/ms). A tool that is not installed raises
`PeerMissing`, whose message the tables print.
"""

from __future__ import annotations

import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import nibabel as nib
import numpy as np
from numpy.typing import NDArray

from fornix.core.gradients import Gradients


class PeerMissing(RuntimeError):
    """A peer is not installed; the message says how to get it."""


@dataclass(frozen=True, eq=False)
class Estimates:
    """values: maps (voxels, …) by parameter. seconds: of the fit and its metrics alone."""

    values: dict[str, NDArray]
    seconds: float


Peer = Callable[[NDArray, Gradients, float, int], Estimates]


def versions() -> dict[str, str]:
    """Version of each peer, or 'not installed'."""
    found = {"dipy": _package("dipy"), "amico": _package("dmri-amico"), "mrtrix3": "not installed"}
    if shutil.which("dwi2tensor"):
        told = subprocess.run(["dwi2tensor", "-version"], capture_output=True, text=True).stdout
        found["mrtrix3"] = told.split("==")[1].split()[1] if told.count("==") > 1 else "installed"
    return found


def _package(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"


def _table(gradients: Gradients) -> object:
    try:
        from dipy.core.gradients import gradient_table
    except ImportError:
        raise PeerMissing("DIPY is not installed: pip install dipy") from None
    return gradient_table(gradients.bvals, bvecs=gradients.directions, b0_threshold=50)


def dipy_tensor(method: str) -> Peer:
    """DIPY's TensorModel with WLS, NLLS or RESTORE; RESTORE is told the noise level."""

    def run(signals: NDArray, gradients: Gradients, sigma: float, threads: int) -> Estimates:
        table = _table(gradients)
        from dipy.reconst.dti import TensorModel

        more = {"sigma": sigma} if method == "RESTORE" else {}
        began = time.perf_counter()
        fit = TensorModel(table, fit_method=method, **more).fit(signals)
        values = {
            "fa": fit.fa, "md": 1000 * fit.md, "ad": 1000 * fit.ad, "rd": 1000 * fit.rd,
            "v1": fit.directions[:, 0],
        }  # fmt: skip
        return Estimates(values, time.perf_counter() - began)

    return run


def dipy_force(library: int) -> Peer:
    """DIPY's FORCE (Shah et al., 2025): the best match among `library` simulated voxels.

    Its library is made for the protocol on every call, which is not timed.
    """

    def run(signals: NDArray, gradients: Gradients, sigma: float, threads: int) -> Estimates:
        table = _table(gradients)
        try:
            from dipy.reconst.force import FORCEModel, generate_force_simulations
        except ImportError:
            raise PeerMissing("this DIPY has no FORCE: pip install 'dipy>=1.12'") from None
        made = generate_force_simulations(table, num_simulations=library, verbose=False)
        began = time.perf_counter()
        fit = FORCEModel(table, simulations=made).fit(np.asarray(signals, dtype=np.float64))
        values = {"fa": np.asarray(fit.fa), "md": 1000 * np.asarray(fit.md)}
        return Estimates(values, time.perf_counter() - began)

    return run


def dipy_kurtosis(signals: NDArray, gradients: Gradients, sigma: float, threads: int) -> Estimates:
    """DIPY's DiffusionKurtosisModel, WLS, with MK, AK, RK and KFA."""
    table = _table(gradients)
    from dipy.reconst.dki import DiffusionKurtosisModel

    began = time.perf_counter()
    fit = DiffusionKurtosisModel(table, fit_method="WLS").fit(signals)
    values = {"mk": fit.mk(), "ak": fit.ak(), "rk": fit.rk(), "kfa": fit.kfa}
    return Estimates(values, time.perf_counter() - began)


def mrtrix_tensor(signals: NDArray, gradients: Gradients, sigma: float, threads: int) -> Estimates:
    """MRtrix3's dwi2tensor (its default iterated weighting) and tensor2metric, with file access."""
    if shutil.which("dwi2tensor") is None:
        raise PeerMissing("MRtrix3 is not installed: apt install mrtrix3")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        grid = as_grid(signals)
        nib.save(nib.Nifti1Image(grid, np.diag([2.0, 2.0, 2.5, 1.0])), folder / "dwi.nii")
        np.savetxt(folder / "grad.txt", gradients.to_mrtrix())
        more = ["-quiet", "-nthreads", str(threads)]
        maps = {"fa": "-fa", "md": "-adc", "ad": "-ad", "rd": "-rd", "v1": "-vector"}
        metric = ["tensor2metric", *more, str(folder / "dt.nii"), "-modulate", "none"]
        for param, flag in maps.items():
            metric += [flag, str(folder / f"{param}.nii")]
        began = time.perf_counter()
        subprocess.run(
            ["dwi2tensor", *more, "-grad", str(folder / "grad.txt"), str(folder / "dwi.nii"),
             str(folder / "dt.nii")], check=True,
        )  # fmt: skip
        subprocess.run(metric, check=True)
        seconds = time.perf_counter() - began
        values = {}
        for param in maps:
            found = np.asarray(nib.load(folder / f"{param}.nii").dataobj)
            flat = found.reshape(-1, *found.shape[3:])[: len(signals)]
            values[param] = 1000 * flat if param in ("md", "ad", "rd") else flat
    return Estimates(values, seconds)


def amico_noddi(signals: NDArray, gradients: Gradients, sigma: float, threads: int) -> Estimates:
    """AMICO's NODDI with its defaults; the time is that of its fit, without making the kernels."""
    try:
        import amico
    except ImportError:
        raise PeerMissing("AMICO is not installed: pip install dmri-amico") from None
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        grid = as_grid(signals)
        nib.save(nib.Nifti1Image(grid, np.diag([2.0, 2.0, 2.5, 1.0])), folder / "dwi.nii")
        b = np.where(gradients.b0_mask, 0.0, gradients.bvals)
        rows = np.column_stack([gradients.directions, b])
        np.savetxt(folder / "dwi.scheme", rows, header="VERSION: BVECTOR", comments="")
        amico.set_verbose(0)
        amico.lut.precompute_rotation_matrices(12, 500)  # what its fit needs on disk; not timed
        job = amico.Evaluation(str(folder), ".")
        job.load_data("dwi.nii", "dwi.scheme", b0_thr=0)
        job.set_model("NODDI")
        job.set_config("nthreads", threads)
        job.generate_kernels(regenerate=True)
        job.load_kernels()
        began = time.perf_counter()
        job.fit()
        seconds = time.perf_counter() - began
        maps = job.RESULTS["MAPs"].reshape(-1, 3)[: len(signals)]
        axes = job.RESULTS["DIRs"].reshape(-1, 3)[: len(signals)]
    values = {"ndi": maps[:, 0], "odi": maps[:, 1], "fwf": maps[:, 2], "direction": axes}
    return Estimates(values, seconds)


def as_grid(signals: NDArray) -> NDArray[np.float32]:
    """(voxels, N) as a volume (X, Y, 1, N) float32, the last row filled up by repetition."""
    count, volumes = signals.shape
    width = min(count, 512)
    rows = -(-count // width)
    padded = signals[np.minimum(np.arange(rows * width), count - 1)]
    return np.asarray(padded.reshape(rows, width, 1, volumes), dtype=np.float32)
