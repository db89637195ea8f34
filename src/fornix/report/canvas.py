"""Ground for the figures: one look, images in anatomical order, pictures as text for the page."""

from __future__ import annotations

import base64
import io
from typing import Any, Literal

import nibabel as nib
import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

INK, PAPER, DARK = "#1c2733", "#ffffff", "#0d1117"
ACCENT = "#2f6f9f"


def figure(
    width: float,
    height: float,
    dark: bool = False,
    layout: Literal["constrained"] | None = "constrained",
) -> Figure:
    """An empty figure, width and height in inches, outside pyplot's global state."""
    made = Figure(figsize=(width, height), layout=layout, dpi=110)
    made.patch.set_facecolor(DARK if dark else PAPER)
    return made


def picture(made: Figure, quality: int = 85) -> str:
    """The figure as a data URI, so that the page holds everything."""
    buffer = io.BytesIO()
    made.savefig(
        buffer, format="webp", facecolor=made.get_facecolor(), pil_kwargs={"quality": quality}
    )
    return "data:image/webp;base64," + base64.b64encode(buffer.getvalue()).decode()


#: Fewer slices than this are too few to look at from the side.
_THIN = 5


def to_ras(data: NDArray, affine: NDArray) -> tuple[NDArray, NDArray]:
    """The array turned so that its axes run nearest to right, anterior, superior; and its affine.

    A few sagittal or coronal slices are turned so that they are the last axis: figures show slices of it.
    """
    flip = nib.orientations.io_orientation(affine)
    x, y, z = (data.shape[int(axis)] for axis in np.argsort(flip[:, 0]))
    if min(x, y) < _THIN <= z:
        # Right, anterior, superior become what each axis is in the view; the hand of the axes stays.
        view = np.array([[2, 1], [0, 1], [1, 1]] if x <= y else [[0, 1], [2, -1], [1, 1]])
        flip = np.array([[view[int(to), 0], sign * view[int(to), 1]] for to, sign in flip])
    turned = nib.orientations.apply_orientation(data, flip)
    return turned, affine @ nib.orientations.inv_ornt_aff(flip, data.shape[:3])


def crop(mask: NDArray[np.bool_], margin: int = 2) -> tuple[slice, slice, slice]:
    """The box around a mask."""
    out = []
    for axis in range(3):
        there = np.flatnonzero(mask.any(axis=tuple(a for a in range(3) if a != axis)))
        low, high = (there[0], there[-1] + 1) if len(there) else (0, mask.shape[axis])
        out.append(slice(max(0, low - margin), min(mask.shape[axis], high + margin)))
    return out[0], out[1], out[2]


def show_slice(ax: Any, plane: NDArray, size: tuple[float, float], **options: Any) -> Any:
    """One slice, first axis to the right, second up, with true proportions."""
    image = np.moveaxis(plane, 0, 1)
    drawn = ax.imshow(
        image, origin="lower", aspect=size[1] / size[0], interpolation="nearest", **options
    )
    ax.set_axis_off()
    return drawn


def side_by_side(
    image: NDArray, numbers: list[int], rows: int = 1, gap: int = 2
) -> NDArray[np.float32]:
    """Axial slices of (X, Y, Z) or (X, Y, Z, 3) as one plane, in rows from the top; nothing between.

    One picture takes a tenth of the time that axes for every slice take.
    """
    rows = min(rows, len(numbers))
    columns = -(-len(numbers) // rows)
    x, y = image.shape[0] + gap, image.shape[1] + gap
    empty = np.nan if image.ndim == 3 else 0.0
    out = np.full((columns * x - gap, rows * y - gap, *image.shape[3:]), empty, dtype=np.float32)
    for i, z in enumerate(numbers):
        left, low = (i % columns) * x, (rows - 1 - i // columns) * y
        out[left : left + x - gap, low : low + y - gap] = image[:, :, z]
    return out


def slice_numbers(mask: NDArray[np.bool_], count: int) -> list[int]:
    """Evenly spread axial slices through the mask."""
    there = np.flatnonzero(mask.any(axis=(0, 1)))
    if not len(there):
        there = np.arange(mask.shape[2])
    low, high = there[0], there[-1]
    inset = 0.1 * (high - low)
    every = [round(float(z)) for z in np.linspace(low + inset, high - inset, count)]
    return list(dict.fromkeys(every))  # a thin scan has fewer
