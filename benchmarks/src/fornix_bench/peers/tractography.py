"""MRtrix3's own way from a scan to streamlines: responses, deconvolution, tckgen."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fornix.core.tractogram import Tractogram
from fornix.training.data.filter_phantoms import PhantomScan
from fornix_bench.peers.microstructure import PeerMissing

#: Cutoffs that are tried; None is tckgen's default, 0.1 halved under anatomical constraints.
CUTOFFS = (None, 0.03, 0.08)
#: Seeds per streamline asked for, and seconds, after which a cutoff is given up.
_SEEDS, _SECONDS = 20, 150


def mrtrix_fod(scene: PhantomScan, folder: Path, threads: int) -> None:
    """Write dwi.nii, grad.txt, mask, 5tt.nii and fod.nii into the folder.

    Single shell: `dwi2response tournier`, `dwi2fod csd`; more: `dhollander`, `msmt_csd`. All defaults.
    Raises PeerMissing where MRtrix3 is not installed or fails, with what it says.
    """
    from fornix.io import write_image, write_mrtrix

    if shutil.which("tckgen") is None or shutil.which("dwi2response") is None:
        raise PeerMissing("MRtrix3 is not installed: apt install mrtrix3")
    dwi, tissue = scene.dwi, scene.tissue
    five = np.zeros((*dwi.grid, 5), np.float32)
    five[..., 0], five[..., 2], five[..., 3] = tissue.gm, tissue.wm, tissue.csf
    seeds = (tissue.wm > 0.5) & dwi.brain()
    # Deconvolution where streamlines can run: the rest costs time and changes nothing.
    inside = dwi.brain() & (tissue.wm > 0.02)
    for name, data in (
        ("dwi", np.asarray(dwi.data)), ("brain", dwi.brain()), ("inside", inside), ("seeds", seeds),
        ("5tt", five),
    ):  # fmt: skip
        write_image(folder / f"{name}.nii", data, dwi.affine)
    write_mrtrix(dwi.gradients, folder / "grad.txt")
    more = f"-quiet -force -nthreads {threads} -grad grad.txt"
    if len(dwi.gradients.shells) > 1:
        _run(f"dwi2response dhollander {more} -mask brain.nii dwi.nii w.txt g.txt c.txt", folder)
        _run(
            f"dwi2fod msmt_csd {more} -mask inside.nii dwi.nii w.txt fod.nii g.txt g.nii c.txt c.nii",
            folder,
        )
    else:
        _run(f"dwi2response tournier {more} -mask brain.nii dwi.nii w.txt", folder)
        _run(f"dwi2fod csd {more} -mask inside.nii dwi.nii w.txt fod.nii", folder)


def mrtrix_track(
    scene: PhantomScan, folder: Path, cutoff: float | None, count: int, seed: int, threads: int,
    patience: float = _SECONDS,
) -> Tractogram:  # fmt: skip
    """iFOD2 with anatomical constraints and seeds in white matter; cutoff None is the default.

    After `patience` seconds it is given up.
    """
    from fornix.io.tractograms import read_streamlines

    told = "" if cutoff is None else f" -cutoff {cutoff:g}"
    _run(
        f"tckgen fod.nii out.tck -quiet -force -nthreads {threads} -algorithm iFOD2 -act 5tt.nii "
        f"-seed_image seeds.nii -max_attempts_per_seed 50 -select {count} "
        f"-seeds {_SEEDS * count} -minlength 20 -maxlength 250{told}",
        folder,
        seed,
        patience,
    )
    points, offsets = read_streamlines(folder / "out.tck")
    if len(offsets) < 2:
        raise PeerMissing(f"tckgen found no streamline at cutoff {cutoff}")
    return Tractogram(points, offsets, scene.dwi.affine, scene.dwi.grid)


def mrtrix_connectome(
    folder: Path, labels: NDArray[np.int64], affine: NDArray[np.float64], threads: int
) -> dict[str, NDArray[np.float64]]:
    """Matrices (K, K) of counts and of SIFT2's weights of the streamlines that `mrtrix_track` left.

    Args:
        folder: Holds out.tck, fod.nii and 5tt.nii.
        labels: (X, Y, Z), regions numbered from 1 without gaps.
        affine: (4, 4) of the labels.
        threads: Threads in use.
    """
    from fornix.io import write_image

    write_image(folder / "nodes.nii", labels.astype(np.int32), affine)
    more = f"-quiet -force -nthreads {threads}"
    _run(f"tcksift2 out.tck fod.nii sift2.txt -act 5tt.nii {more}", folder)
    matrices = {}
    for name, weights in (("count", ""), ("SIFT2", " -tck_weights_in sift2.txt")):
        _run(f"tck2connectome out.tck nodes.nii edges.csv -symmetric {more}{weights}", folder)
        matrices[name] = np.loadtxt(folder / "edges.csv", delimiter=",", ndmin=2)
    return matrices


def _run(command: str, folder: Path, seed: int = 0, patience: float | None = None) -> None:
    environment = {**os.environ, "MRTRIX_RNG_SEED": str(seed + 1)}
    try:
        done = subprocess.run(
            command.split(), cwd=folder, env=environment, capture_output=True, text=True,
            timeout=patience,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        raise PeerMissing(f"{command} took longer than {patience:g} s") from None
    if done.returncode:
        said = done.stderr.strip().splitlines()[-1:] or [f"exit code {done.returncode}"]
        raise PeerMissing(f"{command.split()[0]}: {said[0]}")
