"""The page: complete, self-contained, and right side up."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from fornix.core.dwi import DWI
from fornix.core.tractogram import Tractogram
from fornix.estimators.fod import fod
from fornix.estimators.microstructure import microstructure
from fornix.physics import Phantom
from fornix.report import write_report
from fornix.report.canvas import crop, slice_numbers, to_ras
from fornix.report.figures import colour_fa


@pytest.fixture(scope="module")
def page(phantom: Phantom, tmp_path_factory) -> str:
    dwi = phantom.dwi.with_(mask=phantom.mask, sigma=phantom.sigma)
    maps = microstructure(dwi, models=("dti",))
    maps = maps.merged(fod(dwi, tensor=maps))
    lines = [np.c_[np.linspace(-30, 30, 20), np.zeros(20), np.full(20, z)] for z in range(10)]
    tractogram = Tractogram.from_list(lines, dwi.affine, dwi.grid)
    unknown = [None] * len(dwi.gradients)
    record = {
        "Warnings": ["the table is <wrong>"],
        "VolumeQuality": {
            "snr": [20.0] * len(dwi.gradients),
            "neighbour_correlation": unknown,
        },
        "Verdict": {"Word": "look", "Score": 1.2, "Reasons": ["the head <moved>"]},
        "Quality": {"snr_b0": 20.0, "gsr": None},
        "OutlierScores": np.zeros((len(dwi.gradients), dwi.grid[2])).tolist(),
        "OutlierSlices": [],
        "Steps": {"mask": {"Seconds": 1.0, "Summary": "ok"}},
        "Inputs": {"Scan": "x.nii.gz", "ScanSha256": "abc"},
    }
    folder: Path = tmp_path_factory.mktemp("report")
    path = write_report(folder, "sub-x", dwi, maps, tractogram, record, truth=phantom.truth)
    assert path.name == "sub-x_report.html"
    return path.read_text()


def test_holds_all_figures_and_needs_no_network(page: str):
    assert page.count("<img") >= 9
    sources = re.findall(r'src="([^"]{0,20})', page)
    assert all(s.startswith("data:image/") for s in sources)
    assert not re.search(r'(href|src)="https?:', page)
    for words in ("Protocol", "Quality", "Colour FA", "estimate and truth", "streamlines", "RMSE"):
        assert words in page


def test_warnings_stand_on_top_and_are_escaped(page: str):
    assert page.index("the table is &lt;wrong&gt;") < page.index('id="protocol"')


def test_pictures_are_in_anatomical_order():
    """A marker at the right front top ends at the high end of all three axes, however stored."""
    affine = np.array([[0, 0, -2.0, 20], [-2, 0, 0, 20], [0, 2, 0, -20], [0, 0, 0, 1]])
    data = np.zeros((20, 20, 20))
    voxel = np.array([3, 18, 2])
    world = affine @ [*voxel, 1]
    assert (world[:3] > 13).all()
    data[tuple(voxel)] = 1
    turned, new = to_ras(data, affine)
    at = np.argwhere(turned)[0]
    assert (at > 10).all()
    np.testing.assert_allclose(new @ [*at, 1], world, atol=1e-9)


def test_colour_fa_is_red_for_left_right(phantom: Phantom):
    rgb = colour_fa(phantom.truth)
    commissure = np.abs(phantom.truth["dti_v1"].data[..., 0]) > 0.95
    commissure &= phantom.truth["dti_fa"].data > 0.4
    red, green, blue = np.median(rgb[commissure], axis=0)
    assert red > 4 * max(green, blue)


@pytest.mark.parametrize("shape", [(1, 1, 1), (8, 6, 1), (5, 5, 5)])
def test_tiny_scans_make_a_page(phantom: Phantom, tmp_path, shape):
    centre = tuple(np.argwhere(phantom.truth["dti_fa"].data > 0.5)[0])
    window = tuple(slice(max(0, c - n // 2), max(0, c - n // 2) + n) for c, n in zip(centre, shape))
    dwi = DWI(
        np.ascontiguousarray(phantom.dwi.data[window]),
        phantom.dwi.gradients,
        phantom.dwi.affine,
        mask=np.ones(shape, bool),
        sigma=30.0,
    )
    maps = microstructure(dwi, models=("dti",))
    assert write_report(tmp_path, "tiny", dwi, maps, None, {}).stat().st_size > 10_000


def test_crop_and_slices():
    mask = np.zeros((10, 10, 10), bool)
    mask[3:6, 4:8, 2:9] = True
    assert crop(mask, 1) == (slice(2, 7), slice(3, 9), slice(1, 10))
    numbers = slice_numbers(mask, 3)
    assert numbers == sorted(numbers) and numbers[0] >= 2 and numbers[-1] <= 8


def test_the_verdict_and_its_measures_are_shown(page: str):
    assert "Verdict: look" in page
    assert "the head &lt;moved&gt;" in page
    assert "snr_b0" in page
    assert "<code>gsr</code>" not in page, "what is not known is not shown"
