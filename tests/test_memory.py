"""One process over many subjects: memory must not grow with their number."""

from __future__ import annotations

import gc

import numpy as np
import psutil

from fornix.core.dwi import DWI
from fornix.microstructure import microstructure
from fornix.orientation import fod
from fornix.tracking import track


def test_no_leak_over_many_subjects(head: DWI):
    process = psutil.Process()

    def subject(seed: int) -> float:
        noisy = head.data + np.random.default_rng(seed).normal(0, 5, head.data.shape)
        dwi = head.with_(data=np.abs(noisy).astype(np.float32))
        maps = microstructure(dwi, models=("dti", "dki"))
        maps = maps.merged(fod(dwi, tensor=maps))
        track(dwi, maps, count=200, seed=seed)
        del dwi, maps, noisy
        gc.collect()
        return process.memory_info().rss / 1024**2

    used = [subject(seed) for seed in range(7)]
    assert used[6] - used[2] < 40, used
