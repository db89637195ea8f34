"""Orientations of single voxels by others: MRtrix3's deconvolution with the responses that our own methods
use, and DIPY's RUMBA, which has one of its own kind."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
import time
from pathlib import Path

import nibabel as nib
import numpy as np
from numpy.typing import NDArray

from fornix.core.dipy_bridge import gradient_table
from fornix.core.dwi import DWI
from fornix.core.maps import Maps
from fornix.models.deconvolution.response import Responses
from fornix_bench.peers.microstructure import PeerMissing
from fornix_bench.suites.orientation.truth import PEAKS, RELATIVE, SEPARATION, Found


def mrtrix(
    dwi: DWI, responses: Responses, lmax: int, method: str, threads: int
) -> NDArray[np.float32]:
    """FOD (n, coefficients) by `dwi2fod csd` or `dwi2fod msmt_csd`.

    msmt_csd gets grey matter as a third tissue where there are three b-levels, as `msmt` does.
    Raises PeerMissing where MRtrix3 is not installed, or refuses, with what it says.
    """
    if shutil.which("dwi2fod") is None:
        raise PeerMissing("MRtrix3 is not installed: apt install mrtrix3")
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        # MRtrix3 writes responses as coefficients of orthonormal harmonics.
        root = np.sqrt(4 * np.pi)
        zonal = responses.wm * root / np.sqrt(2 * np.arange(0, lmax + 1, 2) + 1)
        nib.save(nib.Nifti1Image(dwi.data, dwi.affine), work / "dwi.nii")
        np.savetxt(work / "grad.txt", dwi.gradients.to_mrtrix())
        np.savetxt(work / "wm.txt", zonal)
        np.savetxt(work / "last.txt", zonal[-1:])
        np.savetxt(work / "gm.txt", responses.gm[:, None] * root)
        np.savetxt(work / "csf.txt", responses.csf[:, None] * root)
        grey = len(responses.levels) >= 3
        if method == "csd":
            tail, order = "last.txt fod.nii", str(lmax)
        else:
            tail = "wm.txt fod.nii csf.txt c.nii" + (" gm.txt g.nii" if grey else "")
            order = f"{lmax},0" + (",0" if grey else "")
        command = (
            f"dwi2fod {method} -quiet -nthreads {threads} -lmax {order} -grad grad.txt dwi.nii"
        )
        done = subprocess.run(f"{command} {tail}".split(), cwd=work, capture_output=True, text=True)
        if done.returncode:
            said = done.stderr.strip().splitlines()
            raise PeerMissing(f"dwi2fod {method}: {said[-1] if said else 'failed'}")
        fod = np.asarray(nib.load(work / "fod.nii").dataobj, dtype=np.float32)
    return np.nan_to_num(fod.reshape(len(dwi.data), -1))


#: Voxels of the highest FA that give RUMBA's response.
_SINGLE = 300


def rumba(dwi: DWI, tensor: Maps) -> Found:
    """Peaks by DIPY's robust and unbiased model-based deconvolution (Canales-Rodriguez et al., PLoS One
    2015), all voxels of the mask at once, without total variation: single voxels have no neighbours.

    tensor: maps of a scan with dti_fa, dti_ad and dti_rd, whose voxels of highest FA give the response.
    """
    from dipy.direction import peak_directions
    from dipy.reconst.rumba import RumbaSDModel

    fa, along, across = (tensor[f"dti_{p}"].data.ravel() for p in ("fa", "ad", "rd"))
    single = np.argsort(fa)[-_SINGLE:]
    one, other = (float(np.median(values[single])) for values in (along, across))
    began = time.perf_counter()
    model = RumbaSDModel(
        gradient_table(dwi.gradients), wm_response=np.array([one, other, other]), voxelwise=False
    )
    mask = dwi.brain()
    odf = model.fit(np.asarray(dwi.data, dtype=np.float64), mask=mask).odf(sphere=model.sphere)[
        mask
    ]
    directions, amplitude = np.zeros((len(odf), PEAKS, 3)), np.zeros((len(odf), PEAKS))
    for voxel, values in enumerate(odf):
        found, height, _ = peak_directions(
            values, model.sphere, relative_peak_threshold=float(RELATIVE[0]),
            min_separation_angle=SEPARATION, is_symmetric=True,
        )  # fmt: skip
        count = min(len(found), PEAKS)
        directions[voxel, :count], amplitude[voxel, :count] = found[:count], height[:count]
    return Found(
        directions.astype(np.float32),
        amplitude.astype(np.float32),
        time.perf_counter() - began,
    )
