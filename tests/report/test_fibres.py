"""Pictures of fibres: what is drawn lies where and is coloured as it is."""

from __future__ import annotations

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure

from fornix.core.dwi import DWI
from fornix.core.gradients import Gradients
from fornix.core.maps import Map, Maps
from fornix.core.tractogram import Tractogram
from fornix.numerics import harmonics
from fornix.report.fibres import density_colours, fod_glyphs, streamline_slices, track_density
from fornix.report.glyphs import draw_glyphs
from fornix.report.strokes import add_strokes

GRID = (8, 7, 6)
#: Stored front to back and turned: anatomical order is not the file's.
AFFINE = np.array([[0, 0, 2.0, -5], [-2, 0, 0, 9], [0, 2, 0, -6], [0, 0, 0, 1]])
#: The picture's right, up and toward the eye, seen from above.
ABOVE = np.eye(3)


def lobe(direction) -> np.ndarray:
    unit = np.asarray(direction, float) / np.linalg.norm(direction)
    made = harmonics.project(8, lambda u: np.exp(15 * ((u @ unit) ** 2 - 1)))
    return np.asarray(made, np.float32)


def scan() -> tuple[DWI, Maps]:
    dwi = DWI(np.ones((*GRID, 1), np.float32), Gradients(np.zeros(1), np.zeros((1, 3))), AFFINE,
              mask=np.ones(GRID, bool))  # fmt: skip
    fod = np.broadcast_to(lobe([1, 0, 0]), (*GRID, 45)).copy()
    fa = np.full(GRID, 0.6, np.float32)
    return dwi, Maps({"fod": Map("", "fod", fod, AFFINE), "dti_fa": Map("dti", "fa", fa, AFFINE)})


@pytest.mark.parametrize(
    ("direction", "colour"), [([1, 0, 0], 0), ([0, 1, 0], 1), ([0, 0, 1], 2), ([-1, 0.1, 0], 0)]
)
def test_colour_is_direction(direction, colour):
    drawn = draw_glyphs(lobe(direction)[None, None], np.zeros((1, 1)), np.ones((1, 1), bool), ABOVE)
    there = drawn.max(-1) > 0.1
    assert there.any()
    assert np.median(drawn[there][:, colour]) > 0.3
    assert (drawn[there].argmax(-1) == colour).mean() > 0.8


def test_a_glyph_lies_along_its_fibre_and_stays_in_its_voxel():
    shown = np.zeros((3, 3), bool)
    shown[1, 1] = True
    values = np.zeros((3, 3, 45), np.float32)
    values[1, 1] = lobe([1, 1, 0])
    drawn = draw_glyphs(values, np.zeros((3, 3)), shown, ABOVE, pixels=32)
    at = np.argwhere(drawn.max(-1) > 0.05) - 47.5
    assert np.abs(at).max() <= 16
    # Up and right together: first axis is right, second is up.
    assert np.corrcoef(at.T)[0, 1] > 0.9
    assert np.abs(at @ [1, 1]).max() > 0.85 * 16 * np.sqrt(2)


def test_a_glyph_seen_along_its_fibre_is_round_and_small():
    end_on = draw_glyphs(
        lobe([0, 0, 1])[None, None], np.zeros((1, 1)), np.ones((1, 1), bool), ABOVE
    )
    side_on = draw_glyphs(
        lobe([0, 1, 0])[None, None], np.zeros((1, 1)), np.ones((1, 1), bool), ABOVE
    )
    at = np.argwhere(end_on.max(-1) > 0.05)
    assert np.ptp(at[:, 0]) == np.ptp(at[:, 1])
    assert np.ptp(np.argwhere(side_on.max(-1) > 0.05)[:, 1]) > 1.5 * np.ptp(at[:, 0])


def test_nothing_shown_leaves_the_background():
    drawn = draw_glyphs(np.zeros((2, 2, 45)), np.full((2, 2), 0.3), np.zeros((2, 2), bool), ABOVE)
    np.testing.assert_allclose(drawn, 0.3)


def test_density_counts_mm_by_direction():
    middle = AFFINE @ [4, 3, 2, 1]
    line = middle[:3] + np.linspace(-0.9, 0.9, 10)[:, None] * [0, 1, 0]
    short = middle[:3] + np.array([[0, 0, 0], [0.5, 0, 0]])
    found = track_density(Tractogram.from_list([line, short, line[:1]], AFFINE, GRID), scan()[0])
    np.testing.assert_allclose(found[4, 3, 2], [0.5, 1.8, 0], atol=1e-5)
    assert found.sum() == pytest.approx(2.3, abs=1e-5)
    tint = density_colours(found)
    assert tint[4, 3, 2].argmax() == 1 and tint.min() >= 0 and tint.max() <= 1


def test_streamlines_near_a_slice_lie_where_they_run():
    """Along world x through the middle of the head: red, level, in the axial and coronal view."""
    dwi, maps = scan()
    low, high = (AFFINE @ [*corner, 1] for corner in ((0, 0, 0), (7, 6, 5)))
    middle = (low + high)[:3] / 2
    line = middle + np.linspace(-4, 4, 9)[:, None] * [1, 0, 0]
    figure = streamline_slices(Tractogram.from_list([line], AFFINE, GRID), dwi, maps)
    axial = figure.axes[0].artists[0]
    np.testing.assert_allclose(axial.colours, [[1, 0, 0]] * 8, atol=1e-6)
    points = np.concatenate([axial.start, axial.end])
    # The picture's x is world x in voxels of 2 mm, whatever the order in the file.
    np.testing.assert_allclose(np.ptp(points, axis=0), [4, 0], atol=1e-4)


def test_strokes_are_painted_where_matplotlib_paints_lines():
    """Up to the right in red, over it a level line in green; thick, so that edges matter little."""
    ends = np.array([[[0.1, 0.1], [0.9, 0.7]], [[0.2, 0.4], [0.8, 0.4]]])
    colours = np.array([[1.0, 0, 0], [0, 1.0, 0]])
    pictures = []
    for ours in (True, False):
        figure = Figure(figsize=(2, 1), dpi=100)
        canvas = FigureCanvasAgg(figure)
        ax = figure.add_axes((0.1, 0.05, 0.7, 0.9), xlim=(0, 1), ylim=(0.05, 1))
        ax.set_axis_off()
        if ours:
            add_strokes(ax, ends[:, 0], ends[:, 1], colours, 4.0, alpha=0.8)
        else:
            made = LineCollection(
                list(ends), colors=colours, linewidths=4.0, alpha=0.8, capstyle="round"
            )
            ax.add_collection(made, autolim=False)
        canvas.draw()
        pictures.append(np.asarray(canvas.buffer_rgba(), float)[..., :3] / 255)
    assert (np.abs(pictures[0] - pictures[1]).max(-1) > 0.5).mean() < 2e-3
    assert np.abs(pictures[0] - pictures[1]).mean() < 0.01


def test_glyphs_of_a_scan_stored_in_another_order():
    dwi, maps = scan()
    figure = fod_glyphs(dwi, maps)
    for ax in figure.axes:
        shown = np.asarray(ax.images[0].get_array())
        there = shown.max(-1) - shown.min(-1) > 0.2
        assert np.median(shown[there], axis=0).argmax() == 0
