"""`fornix bench checks`: a quick run, in which nothing right is called wrong and every fault is one."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from fornix_bench.suites import checks


def test_quick_run(tmp_path: Path) -> None:
    rows = checks.run_checks(tmp_path, threads=1, quick=True)
    of_tables = [r for r in rows if r["check"] == "gradients"]
    assert all(r["false_alarms"] == 0 and 0 <= r["named"] <= r["found"] <= 1 for r in of_tables)
    assert next(r for r in of_tables if r["snr"] == 20)["found"] > 0.9
    assert "## Gradient table" in (tmp_path / "checks.md").read_text()


def test_faults_add_a_volume_or_change_some() -> None:
    dwi = checks._head("dti12", 20.0, 3, 8.0)
    for fault in checks.FAULTS:
        made, odd = fault.make(dwi, np.random.default_rng(0))
        assert odd and made.data.shape[3] - dwi.data.shape[3] in (0, 1), fault.name
        if made.data.shape == dwi.data.shape:
            assert not np.array_equal(made.data, dwi.data), fault.name
