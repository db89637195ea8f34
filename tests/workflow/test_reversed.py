"""A run with a reversed partner: masks of both spaces, the field, and all of it reused."""

from __future__ import annotations

import nibabel as nib
import numpy as np
import pytest

from fornix.io import save_scan, write_sidecar
from fornix.physics import simulate
from fornix.physics.protocol import shells
from fornix.physics.scanner import Artefacts
from fornix.pipeline import run
from fornix.workflow.job import Silent
from fornix.workflow.options import Options


class Told(Silent):
    """Keeps which steps were reused."""

    def __init__(self) -> None:
        self.steps: dict[str, bool] = {}

    def end(self, step, seconds, summary, reused):
        self.steps[step] = reused


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pair")
    made = []
    for way, name in (("j", "AP"), ("j-", "PA")):
        phantom = simulate(
            protocol=shells(1, (1000, 7)), snr=25, seed=3, voxel_size=4.0, threads=1,
            artefacts=Artefacts(field=90, phase_encoding=way),
        )  # fmt: skip
        path = save_scan(phantom.dwi, folder / f"sub-1_dir-{name}_dwi.nii.gz")
        write_sidecar(path, {"PhaseEncodingDirection": way, "TotalReadoutTime": 0.05})
        made.append((path, phantom))
    return made


def dice(path, mask) -> float:
    found = np.asarray(nib.load(path).dataobj) > 0
    return float(2 * (found & mask).sum() / (found.sum() + mask.sum()))


def test_the_brain_is_undistorted_along(pair, tmp_path):
    (path, phantom), (other, _) = pair
    options = Options(models=("dti",), method="wls", streamlines=0, tracts=False, threads=2)
    first, again = Told(), Told()
    made = run(path, tmp_path, options, reversed_scan=other, show=first)
    stem = "sub-1_dir-AP"
    raw, brain = (tmp_path / f"{stem}_desc-{d}_mask.nii.gz" for d in ("raw", "brain"))
    assert dice(brain, phantom.mask) > dice(raw, phantom.mask)
    np.testing.assert_array_equal(np.asarray(nib.load(brain).dataobj) > 0, made.dwi.brain())
    resumed = run(path, tmp_path, options, reversed_scan=other, show=again)
    assert not any(first.steps[k] for k in ("mask", "preprocess", "quality"))
    assert all(again.steps[k] for k in ("mask", "noise", "preprocess", "quality", "microstructure"))
    np.testing.assert_array_equal(resumed.dwi.brain(), made.dwi.brain())
    np.testing.assert_array_equal(resumed.maps["dti_fa"].data, made.maps["dti_fa"].data)


def test_networks_read_the_corrected_scan_with_its_noise(pair, tmp_path):
    """Also where the corrections were reused: what is read from the files is what was found."""
    (path, _), (other, _) = pair
    options = Options(models=("dti",), streamlines=0, tracts=False, threads=2)
    made = run(path, tmp_path, options, reversed_scan=other)
    for file in tmp_path.glob("*model-dti*"):
        file.unlink()
    again = Told()
    resumed = run(path, tmp_path, options, reversed_scan=other, show=again)
    assert again.steps["preprocess"]
    assert not again.steps["microstructure"]
    np.testing.assert_array_equal(resumed.maps["dti_fa"].data, made.maps["dti_fa"].data)
