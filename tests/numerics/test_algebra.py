"""The compiled logarithm and exponential are exact, whichever function was compiled first."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

CODE = """
import numpy as np
{first}
from fornix.numerics import algebra as a
rng = np.random.default_rng(0)
x, out, scratch = rng.uniform(1e-3, 1e5, 96), np.empty(96), np.empty(96)
a.log_array(x, out, scratch)
np.testing.assert_allclose(out, np.log(x), atol=1e-12)
v = rng.uniform(-30, 30, 96)
w = v.copy()
a.exp_array(w, scratch)
np.testing.assert_allclose(w, np.exp(v), rtol=1e-12)
"""
CALLER = """
from fornix.numerics.algebra import compiled, exp_array
@compiled
def caller(x, scratch):
    exp_array(x, scratch)
caller(np.zeros(4), np.empty(4))
"""


@pytest.mark.parametrize("first", ["", CALLER], ids=["alone", "after a fast-math caller"])
def test_logarithm_and_exponential_in_a_fresh_cache(tmp_path, first: str):
    """numba lets unset options of a callee follow its first caller; ours must not."""
    code = tmp_path / "check.py"
    code.write_text(CODE.format(first=first.replace("cache=True", "cache=False")))
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(tmp_path / "cache")}
    done = subprocess.run(
        [sys.executable, str(code)], env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
