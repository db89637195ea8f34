"""Tracts in three dimensions without a display, and curves of what is measured along them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray
from scipy import ndimage

from fornix.report.canvas import ACCENT, INK, figure, to_ras
from fornix.tracts.segment import TractMaps

Array = NDArray[np.floating]

#: mm of a pixel of the rendering.
_PIXEL = 1.8
#: Views: the axis looked along, whether from its far end, title.
_VIEWS = (
    (0, False, "from the left"),
    (0, True, "from the right"),
    (1, True, "from the front"),
    (2, True, "from above"),
)
#: Probability at which surfaces are drawn: the cores, of which fewer hide each other.
LEVEL = 0.6
#: Tracts drawn together, by how their names begin.
GROUPS = (
    ("Association tracts", ("AF", "CG", "IFO", "ILF", "MLF", "SLF", "UF", "FAT", "VOF", "PAT", "EC")),
    ("Commissures and fornix", ("CC_", "CA", "FX")),
    ("Projection tracts", ("CST", "FPT", "POPT", "ATR", "STR", "OR", "T_", "CBT", "ML_", "AR_")),
    ("Cerebellar tracts", ("ICP", "MCP", "SCP", "DRT", "NDRT", "CBL")),
)  # fmt: skip


def rendered(tracts: TractMaps, brain: NDArray[np.bool_], names: Sequence[str]) -> Figure:
    """The surfaces of some tracts in the outline of the brain, from four sides.

    Args:
        tracts: Of the scan.
        brain: (X, Y, Z) on their grid.
        names: Tracts to draw, each in its own colour.
    """
    affine = tracts.lattice.affine
    shell, turned = to_ras(brain.astype(np.float32), affine)
    zoom = np.linalg.norm(turned[:3, :3], axis=0) / _PIXEL
    body = ndimage.zoom(ndimage.gaussian_filter(shell, 1.0), zoom, order=1)
    label = np.zeros(body.shape, np.int16)
    best = np.full(body.shape, LEVEL, np.float32)
    for i, name in enumerate(names):
        p = ndimage.zoom(to_ras(tracts.image(name), affine)[0], zoom, order=1)
        here = p > best
        label[here], best[here] = i + 1, p[here]
    colours = _colours(len(names))
    made = figure(12, 3.4, dark=True, layout=None)
    for k, (axis, far, title) in enumerate(_VIEWS):
        ax = made.add_subplot(1, 4, k + 1)
        ax.imshow(_view(label, best * (label > 0), body, axis, far, colours), origin="lower")
        ax.set_title(title, color="#c9d1d9", fontsize=9)
        ax.axis("off")
    for i, name in enumerate(names[:24]):
        made.text(
            0.01 + 0.082 * (i % 12), 0.06 - 0.05 * (i // 12), name, color=colours[i], fontsize=6.5
        )  # fmt: skip
    made.subplots_adjust(left=0, right=1, top=0.92, bottom=0.1, wspace=0.02)
    return made


def _colours(count: int) -> NDArray[np.float64]:
    from matplotlib import colormaps

    return np.asarray([colormaps["hsv"](i / max(count, 1))[:3] for i in range(count)]) * 0.75 + 0.25


def _view(
    label: NDArray[np.int16], level: Array, body: Array, axis: int, far: bool, colours: Array
) -> Array:
    """(H, W, 3): the first tract that each ray meets, lit from the viewer, over the brain's outline."""
    volume, depth_of = np.moveaxis(label, axis, 0), np.moveaxis(level, axis, 0)
    shell = np.moveaxis(body, axis, 0)
    if far:
        volume, depth_of, shell = volume[::-1], depth_of[::-1], shell[::-1]
    hit = volume > 0
    seen = np.asarray(hit.any(0))
    first = hit.argmax(0)
    rows, columns = np.indices(first.shape)
    soft = ndimage.gaussian_filter(hit.astype(np.float32), 1.2)
    normal = np.stack(np.gradient(soft), 0)[:, first, rows, columns]
    light = np.abs(normal[0]) / np.maximum(np.linalg.norm(normal, axis=0), 1e-6)
    fade = 1 - 0.45 * first / max(len(hit), 1)
    shade = (0.35 + 0.65 * light) * fade
    inside = np.clip(shell.max(0), 0, 1)
    out = np.full((*first.shape, 3), 0.05) + 0.16 * inside[..., None] * np.array([0.8, 0.9, 1.0])
    colour = colours[np.maximum(volume[first, rows, columns] - 1, 0)]
    out = np.where(seen[..., None], colour * shade[..., None], out)
    turned = np.swapaxes(out, 0, 1).clip(0, 1)
    # Left stays left from behind and above; from the front it is as one faces the person.
    return turned[:, ::-1] if (axis == 0 and not far) or (axis == 1 and far) else turned


def curves(
    profiles: Mapping[str, tuple[Array, Array]],
    low: float,
    high: float,
    names: Sequence[str],
) -> Figure:
    """A small plot of each tract: the value along it with its 90% band.

    Args:
        profiles: (value, std) of the nodes by tract.
        low: Of the axis.
        high: Of the axis.
        names: Tracts in order.
    """
    columns, gap = 6, 0.16
    rows = max(1, -(-len(names) // columns))
    made = figure(12, 1.1 * rows + 0.2, layout=None)
    # One pair of axes for all: 72 of them take longer to make than all their curves.
    ax = made.add_axes((0.04, 0.01, 0.95, 0.98))
    for k, name in enumerate(names):
        value, std = (np.asarray(v, np.float64) for v in profiles[name])
        left, bottom = (k % columns) * (1 + gap), -(k // columns) * (1 + 2.2 * gap)
        place = left + np.linspace(0, 1, len(value))
        upper, lower, middle = (
            bottom + np.clip((v - low) / (high - low), 0, 1)
            for v in (value + 1.645 * std, value - 1.645 * std, value)
        )
        ax.fill_between(place, lower, upper, color=ACCENT, alpha=0.25, lw=0)
        ax.plot(place, middle, color=ACCENT, lw=1.2)
        ax.plot([left, left, left + 1], [bottom + 1, bottom, bottom], color=INK, lw=0.6)
        ax.text(left + 0.5, bottom + 1.03, name, fontsize=7, ha="center", color=INK)
        if k % columns == 0:
            for share in (0, 0.5, 1):
                ax.text(
                    left - 0.02, bottom + share, f"{low + share * (high - low):g}", fontsize=6, ha="right",
                    va="center", color=INK,
                )  # fmt: skip
    ax.set_xlim(-0.06, columns * (1 + gap) - gap + 0.01)
    ax.set_ylim(-(rows - 1) * (1 + 2.2 * gap) - 0.05, 1.2)
    ax.axis("off")
    return made
