"""One process over many subjects: memory must not grow with their number."""

from __future__ import annotations

import json
import subprocess
import sys

# In a process of its own: the heap of one that ran other tests settles at arbitrary moments.
SUBJECTS = """
import gc, json
import numpy as np, psutil
import fornix

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
    return psutil.Process().memory_info().rss / 1024**2

print(json.dumps([subject(seed) for seed in range(7)]))
"""


def test_no_leak_over_many_subjects():
    made = subprocess.run(
        [sys.executable, "-c", SUBJECTS], capture_output=True, text=True, check=True
    )
    used = json.loads(made.stdout.splitlines()[-1])
    assert used[6] - used[2] < 40, used
