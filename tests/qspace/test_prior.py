"""The prior that ships: the same numbers on every machine, and those that its recipe gives."""

from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import pytest

from fornix.qspace.prior import default_prior, made_prior

_PRINT = """
import numpy as np
from fornix import DWI, microstructure
from fornix.physics import random_tissue, signal
from fornix.physics.protocol import scheme
gradients = scheme("dti20")
clean = 1000 * signal(random_tissue(216, 1), gradients).numpy()
noisy = np.abs(clean + 40 * np.random.default_rng(0).standard_normal(clean.shape))
grid = noisy.astype(np.float32).reshape(6, 6, 6, -1)
dwi = DWI(grid, gradients, np.diag([2.0, 2, 2, 1]), mask=np.ones((6, 6, 6), bool), sigma=40.0)
print(*microstructure(dwi, method="voxelwise")["dti_fa"].data.ravel()[::9])
"""


def test_it_is_what_its_recipe_gives():
    shipped, again = default_prior(), made_prior()
    np.testing.assert_allclose(shipped.b, again.b)
    np.testing.assert_allclose(shipped.mean, again.mean, atol=1e-6)
    for ours, theirs in zip(shipped.factors, again.factors, strict=True):
        sign = np.sign((ours * theirs).sum(1))
        np.testing.assert_allclose(ours * sign[:, None], theirs, atol=2e-4 * np.abs(theirs).max())


@pytest.mark.slow
def test_results_do_not_depend_on_threads_or_the_processors_kernels():
    """Eigenvectors' signs did: they changed with the number of threads and OpenBLAS's kernels, and the
    networks then read features of the other sign."""

    def values(threads: str, kernels: str) -> np.ndarray:
        environment = {**os.environ, "OMP_NUM_THREADS": threads}
        environment.pop("OPENBLAS_CORETYPE", None)
        if kernels:
            environment["OPENBLAS_CORETYPE"] = kernels
        done = subprocess.run(
            [sys.executable, "-c", _PRINT],
            env=environment,
            capture_output=True,
            text=True,
            check=True,
        )
        return np.array(done.stdout.split(), dtype=float)

    one = values("1", "")
    for threads, kernels in (("3", ""), ("4", ""), ("1", "Nehalem")):
        np.testing.assert_allclose(values(threads, kernels), one, atol=2e-4)
