"""The embedded anatomy's bundles: control points in MNI space, drawn as smooth sheets of curves.

Each sheet is a list of curves with the same number of control points (mm, RAS); curves between
neighbours are interpolated, so a sheet of three fans out. One-sided sheets are given for the right
hemisphere (x > 0) and mirrored. ReferenceStreamlines follow the standard descriptions (Catani & Thiebaut de
Schotten, Atlas of Human Brain Connections, 2012).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import make_interp_spline

Curve = list[tuple[float, float, float]]


@dataclass(frozen=True)
class Course:
    """One bundle: sheets of curves, radius in mm, share against its rivals, dispersion, neurite density."""

    sheets: tuple[tuple[Curve, ...], ...]
    radius: float = 4.0
    strength: float = 1.0
    odi: float = 0.10
    ndi: float = 0.62
    commissural: bool = False


def _callosal(y: float, z: float, *ends: tuple[float, float, float]) -> list[Curve]:
    """Half curves from the midline at (0, y, z) up to each end; mirrored into whole ones later."""
    made: list[Curve] = []
    for x_end, y_end, z_end in ends:
        rise = z_end - z
        made.append(
            [
                (0.0, y, z),
                (10.0, y, z + 2.5 + 0.04 * rise),
                (0.30 * x_end + 12.0, y + 0.25 * (y_end - y), z + 0.26 * rise + 3.0),
                (0.70 * x_end + 5.0, y + 0.60 * (y_end - y), z + 0.62 * rise + 1.0),
                (x_end, y_end, z_end),
            ]
        )
    return made


def _callosum() -> tuple[tuple[Curve, ...], ...]:
    """The body, as three sheets to the medial, middle and lateral cortex, front to back."""
    stations = [(27, 15), (18, 19), (8, 23), (-2, 25.5), (-12, 26.5), (-22, 25), (-32, 20)]
    spread_y = [40, 24, 10, -5, -20, -36, -54]
    sheets: list[list[Curve]] = [[], [], []]
    for (y, z), y_end in zip(stations, spread_y):
        crown = 68 - 0.012 * (y_end + 12) ** 2
        ends = [(13, y_end, crown), (31, y_end, crown - 10), (48, y_end, crown - 33)]
        for sheet, curve in zip(sheets, _callosal(y, z, *ends)):
            sheet.append(curve)
    return tuple(tuple(s) for s in sheets)


COURSES: dict[str, Course] = {
    "CC_body": Course(_callosum(), radius=3.4, strength=1.0, odi=0.05, ndi=0.68, commissural=True),
    "CC_genu": Course(
        (
            (
                [(0, 31, 11), (9, 33, 13), (16, 42, 16), (17, 52, 20), (15, 60, 24)],
                [(0, 32, 4), (9, 34, 4), (18, 43, 5), (22, 53, 6), (22, 62, 8)],
                [(0, 29, -2), (8, 32, -4), (17, 40, -5), (24, 48, -6), (27, 57, -5)],
            ),
        ),
        radius=3.4, strength=1.1, odi=0.05, ndi=0.66, commissural=True,
    ),
    "CC_splenium": Course(
        (
            (
                [(0, -38, 17), (9, -41, 20), (20, -53, 26), (21, -70, 30), (16, -84, 30)],
                [(0, -39, 11), (9, -42, 12), (22, -55, 13), (22, -73, 11), (14, -92, 8)],
                [(0, -38, 6), (10, -41, 6), (24, -53, 2), (24, -72, -4), (18, -90, -6)],
            ),
            (
                [(0, -38, 13), (14, -40, 16), (27, -42, 14), (34, -43, 2), (42, -40, -12)],
                [(0, -36, 15), (14, -37, 19), (28, -38, 17), (36, -36, 4), (46, -30, -14)],
            ),
        ),
        radius=3.4, strength=1.1, odi=0.05, ndi=0.66, commissural=True,
    ),
    "CA": Course(
        (([(0, 3, -4), (8, 3, -5), (18, 0, -7), (27, -4, -10), (36, -10, -16)],),),
        radius=2.0, strength=1.0, odi=0.06, commissural=True,
    ),
    "MCP": Course(
        (
            (
                [(0, -16, -24), (9, -18, -25), (17, -30, -29), (20, -44, -34), (24, -58, -40)],
                [(0, -17, -34), (9, -19, -34), (17, -31, -35), (20, -44, -38), (22, -58, -44)],
            ),
        ),
        radius=4.0, strength=1.0, odi=0.08, commissural=True,
    ),
    "CST": Course(
        (
            (
                [(6, -29, -52), (7, -20, -30), (14, -18, -12), (22, -15, 6), (24, -22, 30), (10, -30, 66)],
                [(6, -29, -52), (7, -20, -30), (14, -18, -12), (23, -15, 6), (27, -21, 30), (24, -26, 64)],
                [(6, -29, -52), (7, -20, -30), (14, -18, -12), (24, -14, 6), (30, -18, 30), (38, -20, 54)],
                [(6, -29, -52), (7, -20, -30), (14, -17, -12), (24, -12, 6), (33, -12, 28), (52, -8, 36)],
            ),
        ),
        radius=3.6, strength=1.25, odi=0.06, ndi=0.68,
    ),
    "FPT": Course(
        (
            (
                [(5, -24, -42), (5, -18, -28), (10, -14, -12), (18, -4, 4), (20, 8, 24), (14, 18, 56)],
                [(5, -24, -42), (5, -18, -28), (10, -14, -12), (18, -2, 4), (23, 12, 20), (30, 28, 40)],
            ),
        ),
        radius=3.0, strength=0.8, odi=0.08,
    ),
    "POPT": Course(
        (
            (
                [(9, -30, -42), (10, -24, -26), (17, -24, -10), (25, -25, 6), (26, -38, 28), (18, -56, 56)],
                [(9, -30, -42), (10, -24, -26), (17, -24, -10), (27, -27, 6), (30, -46, 20), (30, -68, 36)],
            ),
        ),
        radius=3.0, strength=0.8, odi=0.09,
    ),
    "ATR": Course(
        (
            (
                [(8, -14, 8), (13, 0, 7), (18, 12, 6), (21, 26, 10), (22, 40, 16), (20, 56, 18)],
                [(8, -14, 6), (13, 0, 3), (18, 12, 0), (20, 26, -2), (22, 40, -4), (22, 54, -4)],
            ),
        ),
        radius=3.2, strength=0.9, odi=0.09,
    ),
    "CG": Course(
        (([(6, 20, -8), (7, 34, 0), (8, 36, 14), (9, 22, 29), (9, 0, 35), (9, -22, 36), (9, -40, 30),
           (13, -49, 14), (20, -42, -2), (24, -28, -14)],),),
        radius=2.6, strength=1.1, odi=0.08,
    ),
    "SLF_II": Course(
        (([(34, 40, 24), (34, 22, 30), (33, 4, 33), (33, -16, 33), (34, -36, 34), (38, -56, 36),
           (40, -68, 34)],),),
        radius=4.2, strength=0.95, odi=0.10,
    ),
    "SLF_III": Course(
        (([(48, 26, 16), (44, 12, 21), (40, -4, 26), (40, -20, 28), (46, -34, 30), (54, -44, 34)],),),
        radius=3.8, strength=0.9, odi=0.10,
    ),
    "AF": Course(
        (
            (
                [(48, 20, 14), (40, 4, 24), (37, -16, 28), (36, -34, 26), (40, -44, 14), (46, -40, 0),
                 (54, -24, -8)],
                [(46, 8, 20), (40, -4, 28), (36, -20, 30), (37, -38, 26), (42, -50, 12), (50, -48, -4),
                 (56, -36, -14)],
            ),
        ),
        radius=3.4, strength=1.0, odi=0.08,
    ),
    "ILF": Course(
        (([(34, 4, -34), (40, -12, -24), (42, -28, -14), (41, -46, -7), (36, -64, -3), (28, -82, -2),
           (22, -94, 0)],),),
        radius=3.6, strength=0.95, odi=0.09,
    ),
    "IFO": Course(
        (([(24, 52, 2), (27, 36, -2), (29, 18, -6), (32, 2, -8), (36, -18, -5), (37, -38, 0), (33, -58, 6),
           (26, -78, 8), (16, -92, 8)],),),
        radius=3.2, strength=1.0, odi=0.08,
    ),
    "UF": Course(
        (([(22, 46, -10), (26, 32, -10), (31, 16, -12), (35, 5, -17), (36, 2, -26), (36, 8, -34)],),),
        radius=2.8, strength=1.0, odi=0.08,
    ),
    "OR": Course(
        (
            (
                [(23, -24, -3), (33, -14, -10), (39, -20, -10), (38, -40, -4), (30, -66, -2), (14, -86, -4)],
                [(23, -24, -3), (32, -20, -3), (38, -30, 0), (35, -48, 4), (27, -70, 8), (12, -88, 10)],
            ),
        ),
        radius=2.6, strength=1.1, odi=0.07,
    ),
    "FX": Course(
        (([(3, 4, -8), (2, 3, 6), (2, -6, 15), (3, -20, 18), (11, -33, 15), (22, -35, 4), (27, -28, -10)],),),
        radius=1.6, strength=1.4, odi=0.06,
    ),
    "STR": Course(
        (
            (
                [(14, -20, 8), (21, -20, 16), (24, -24, 34), (16, -34, 66)],
                [(14, -20, 8), (21, -18, 16), (28, -22, 34), (40, -26, 54)],
            ),
        ),
        radius=3.2, strength=0.7, odi=0.10,
    ),
    "FAT": Course(
        (([(9, 8, 58), (18, 10, 48), (30, 12, 34), (40, 14, 22), (50, 16, 14)],),),
        radius=3.2, strength=0.8, odi=0.10,
    ),
    "VOF": Course(
        (([(36, -76, 30), (34, -78, 18), (34, -78, 4), (36, -72, -12)],),),
        radius=3.0, strength=0.8, odi=0.10,
    ),
    "EC": Course(
        (([(30, 26, 4), (30, 12, 0), (31, 0, 2), (32, -14, 6), (33, -26, 16), (34, -36, 24)],),),
        radius=2.2, strength=0.8, odi=0.10,
    ),
    "SCP": Course(
        (([(14, -56, -34), (9, -48, -27), (6, -38, -19), (3, -28, -12), (6, -20, -6)],),),
        radius=2.2, strength=1.1, odi=0.07,
    ),
    "ICP": Course(
        (([(5, -42, -58), (7, -42, -50), (10, -44, -42), (14, -50, -36), (14, -60, -34)],),),
        radius=2.6, strength=1.0, odi=0.08,
    ),
    "ML": Course(
        (([(3, -38, -52), (4, -34, -38), (5, -33, -26), (8, -27, -10), (14, -21, 4)],),),
        radius=2.4, strength=0.9, odi=0.08,
    ),
}  # fmt: skip


def _resampled(points: NDArray[np.float64], step: float) -> NDArray[np.float32]:
    knots = np.r_[0.0, np.cumsum(np.linalg.norm(np.diff(points, axis=0), axis=1))]
    spline = make_interp_spline(knots, points, k=min(3, len(points) - 1))
    return spline(np.linspace(0, knots[-1], max(2, round(knots[-1] / step)))).astype(np.float32)


def _between(curves: tuple[Curve, ...], spacing: float) -> list[NDArray[np.float64]]:
    """The curves of a sheet, with curves between neighbours so that none lie farther apart."""
    rows = [np.array(c, dtype=np.float64) for c in curves]
    made = [rows[0]]
    for one, two in pairwise(rows):
        steps = max(1, int(np.ceil(np.linalg.norm(one - two, axis=1).max() / spacing)))
        made += [one + (two - one) * i / steps for i in range(1, steps + 1)]
    return made


@lru_cache(maxsize=1)
def curves(step: float = 1.0, spacing: float = 2.5) -> dict[str, list[NDArray[np.float32]]]:
    """Every bundle's curves in MNI mm, by name; paired bundles as NAME_left and NAME_right."""
    made: dict[str, list[NDArray[np.float32]]] = {}
    mirror = np.array([-1.0, 1.0, 1.0])
    for name, course in COURSES.items():
        rows = [c for sheet in course.sheets for c in _between(sheet, spacing)]
        if course.commissural:
            whole = [np.vstack([(c[1:] * mirror)[::-1], c]) for c in rows]
            made[name] = [_resampled(c, step) for c in whole]
        else:
            made[f"{name}_left"] = [_resampled(c * mirror, step) for c in rows]
            made[f"{name}_right"] = [_resampled(c, step) for c in rows]
    return made


def course_of(name: str) -> Course:
    """The course of a bundle, side or no side in its name."""
    return COURSES[name.removesuffix("_left").removesuffix("_right")]
