"""Memory must not grow with the number of subjects of a process, nor with that of a scan's volumes."""

from __future__ import annotations

import ctypes
import json
import os
import subprocess
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from fornix.core.gradients import Gradients
from fornix.io import write_fsl, write_image
from fornix.numerics.directions import spread

# What the allocator has given out and not had back: the size of the process would show what it
# keeps for later too, which goes up and down by tens of megabytes.
SUBJECTS = """
import ctypes, gc, json
import numpy as np
import fornix

class Allocated(ctypes.Structure):
    '''What the allocator of the C library holds, the fields of its mallinfo2.'''

    _fields_ = [
        (name, ctypes.c_size_t)
        for name in "arena ordblks smblks hblks hblkhd usmblks fsmblks uordblks fordblks keepcost".split()
    ]

allocated = ctypes.CDLL(None).mallinfo2
allocated.restype = Allocated

phantom = fornix.simulate(protocol="demo", snr=30, voxel_size=6.0, seed=1)
scan = phantom.dwi.with_(mask=phantom.mask, sigma=phantom.sigma)

def subject(seed):
    noisy = scan.data + np.random.default_rng(seed).normal(0, 5, scan.data.shape)
    dwi = scan.with_(data=np.abs(noisy).astype(np.float32))
    maps = fornix.microstructure(dwi, models=("dti", "dki"))
    maps = maps.merged(fornix.fod(dwi, tensor=maps))
    fornix.track(dwi, maps, count=200, seed=seed)
    del dwi, maps, noisy
    gc.collect()
    found = allocated()
    return (found.uordblks + found.hblkhd) / 1024**2

print(json.dumps([subject(seed) for seed in range(5)]))
"""


@pytest.mark.skipif(
    not hasattr(ctypes.CDLL(None), "mallinfo2"),
    reason="what is allocated is asked of glibc's mallinfo2",
)
def test_no_leak_over_many_subjects():
    made = subprocess.run(
        [sys.executable, "-c", SUBJECTS], capture_output=True, text=True, check=True,
        env=os.environ | {"PYTHONMALLOC": "malloc"},
    )  # fmt: skip
    used = json.loads(made.stdout.splitlines()[-1])
    # One subject's scan takes over 5 MB; the first subject compiles and loads what stays.
    assert used[-1] - used[1] < 1, used


# The signal of a fixed number of voxels in ever more volumes, most of it background.
VOLUMES = """
import sys
import numpy as np
import fornix

dwi = fornix.load(sys.argv[1], max_memory="64M", mask=sys.argv[2])
dwi = fornix.estimate_noise(dwi)
maps = fornix.microstructure(dwi, models=("dti",), method="wls", max_memory="64M")
maps = maps.merged(fornix.microstructure(dwi, models=("dti",), method="voxelwise", max_memory="64M"))
clean = fornix.denoise(dwi)
fornix.save_scan(clean, sys.argv[1].replace("dwi", "clean_dwi"))
assert not isinstance(clean.data, np.ndarray)
fornix.fod(dwi, method="csd", tensor=maps)
fornix.describe(dwi, maps)
# getrusage counts the parent's memory, from before this program was loaded.
peak = [line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM")]
print(int(peak[0]) / 1024)
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="peak memory is read from /proc")
def test_memory_does_not_grow_with_the_number_of_volumes(tmp_path: Path):
    """Of a scan that stays on disk, less than half of what more volumes take is ever in memory."""
    grid = (96, 64, 40)
    mask = np.zeros(grid, bool)
    mask[40:54, 30:44, 12:28] = True
    used, sizes = [], []
    for volumes in (40, 400):
        folder = tmp_path / str(volumes)
        folder.mkdir()
        rng = np.random.default_rng(0)
        b = np.where(np.arange(volumes) % 10 == 0, 0.0, 1000.0)
        directions = spread(volumes - volumes // 10)
        every = np.zeros((volumes, 3))
        every[b > 0] = directions
        signal = 1000 * np.exp(-b / 1000 * (0.5 + 1.2 * every[:, 0] ** 2))
        data = np.empty((*grid, volumes), np.int16)
        for v in range(volumes):
            data[..., v] = np.where(mask, signal[v], 100) + rng.normal(0, 20, grid)
        image = nib.Nifti1Image(data, np.diag([2.0, 2, 2, 1]))
        nib.save(image, folder / "dwi.nii")
        write_fsl(Gradients(b, every), image.affine, folder / "dwi.bval", folder / "dwi.bvec")
        write_image(folder / "mask.nii.gz", mask, image.affine)
        made = subprocess.run(
            [sys.executable, "-c", VOLUMES, folder / "dwi.nii", folder / "mask.nii.gz"],
            capture_output=True, text=True, check=True,
        )  # fmt: skip
        used.append(float(made.stdout.splitlines()[-1]))
        sizes.append(data.size * 4 / 2**20)
    assert used[1] - used[0] < (sizes[1] - sizes[0]) / 2, (used, sizes)
