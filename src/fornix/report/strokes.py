"""Hundreds of thousands of short straight lines on matplotlib axes.

matplotlib's own collection makes a Python object of every line, which takes ten times as long as drawing
them; here all are painted in one compiled loop, at the resolution of the figure.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.artist import Artist, allow_rasterization
from numba import njit, prange
from numpy.typing import NDArray

#: Bands of the picture that are painted at once; in each the lines come in their order.
_BANDS = 16


class Strokes(Artist):
    """Lines on axes, later ones over earlier ones.

    Args:
        start: (n, 2) in data coordinates.
        end: See `start`.
        colours: (n, 3), 0 to 1.
        width: In points.
    """

    def __init__(
        self,
        start: NDArray[np.floating],
        end: NDArray[np.floating],
        colours: NDArray[np.floating],
        width: float,
        alpha: float = 1.0,
    ) -> None:
        super().__init__()
        self.start, self.end, self.colours = start, end, colours
        self.width = width
        self._painted: tuple[Any, NDArray[np.uint8]] | None = None
        self.set_alpha(alpha)
        self.set_zorder(2)

    @allow_rasterization
    def draw(self, renderer: Any) -> None:
        """Paint them: called by matplotlib."""
        if not self.get_visible() or not len(self.start):
            return
        assert self.axes is not None
        box = self.axes.bbox
        left, bottom = int(np.floor(box.x0)), int(np.floor(box.y0))
        shape = (int(np.ceil(box.y1)) - bottom, int(np.ceil(box.x1)) - left)
        to_pixel = self.axes.transData.transform
        # Middles of pixels lie at halves.
        start, end = (to_pixel(p) - (left + 0.5, bottom + 0.5) for p in (self.start, self.end))
        width = renderer.points_to_pixels(self.width)
        # Figures are drawn twice, first to lay them out.
        place = (shape, width, tuple(start[0]), tuple(end[-1]))
        if self._painted is None or self._painted[0] != place:
            painted = np.zeros((*shape, 4), dtype=np.float32)
            _paint(
                start.astype(np.float32), end.astype(np.float32), self.colours.astype(np.float32),
                np.float32(width), np.float32(self.get_alpha()), painted,
            )  # fmt: skip
            painted[..., :3] /= np.maximum(painted[..., 3:], 1e-6)
            self._painted = place, np.rint(255 * painted).astype(np.uint8)
        context = renderer.new_gc()
        context.set_clip_rectangle(box)
        renderer.draw_image(context, left, bottom, self._painted[1])
        context.restore()


def add_strokes(
    ax: Any,
    start: NDArray[np.floating],
    end: NDArray[np.floating],
    colours: NDArray[np.floating],
    width: float,
    alpha: float = 1.0,
) -> Strokes:
    """Put lines on axes and let their limits take them in; see `Strokes`."""
    made = Strokes(start, end, colours, width, alpha)
    ax.add_artist(made)
    if len(start):
        both = np.stack([start.min(0), end.min(0), start.max(0), end.max(0)])
        ax.update_datalim(both)
    return made


@njit(cache=True, nogil=True, parallel=True)
def _paint(
    start: np.ndarray,
    end: np.ndarray,
    colours: np.ndarray,
    width: np.float32,
    alpha: np.float32,
    out: np.ndarray,
) -> None:
    """Lines over each other in out (rows, columns, 4): colour times opacity, and opacity."""
    rows, columns, _ = out.shape
    reach = width / 2 + np.float32(0.5)
    for band in prange(_BANDS):
        first, last = band * rows // _BANDS, (band + 1) * rows // _BANDS
        for n in range(len(start)):
            ax, ay, bx, by = start[n, 0], start[n, 1], end[n, 0], end[n, 1]
            low = max(first, int(np.ceil(min(ay, by) - reach)))
            high = min(last - 1, int(np.floor(max(ay, by) + reach)))
            if low > high:
                continue
            left = max(0, int(np.ceil(min(ax, bx) - reach)))
            right = min(columns - 1, int(np.floor(max(ax, bx) + reach)))
            dx, dy = bx - ax, by - ay
            length = max(dx * dx + dy * dy, np.float32(1e-12))
            for y in range(low, high + 1):
                for x in range(left, right + 1):
                    along = min(max(((x - ax) * dx + (y - ay) * dy) / length, 0.0), 1.0)
                    away = np.sqrt((x - ax - along * dx) ** 2 + (y - ay - along * dy) ** 2)
                    cover = alpha * min(reach - away, np.float32(1.0))
                    if cover > 0:
                        for c in range(3):
                            out[y, x, c] += cover * (colours[n, c] - out[y, x, c])
                        out[y, x, 3] += cover * (np.float32(1.0) - out[y, x, 3])
