"""The Rice distribution for compiled fits: likelihood, score and Fisher information of the signal.

A magnitude m of a signal s with noise sigma per channel has -ln p(m | s) = (m - s)²/(2 sigma²) -
ln(I0(z) exp(-z)) + constant, z = m s/sigma² (Gudbjartsson & Patz, MRM 1995). Its gradient by s is
(s - m I1(z)/I0(z))/sigma²: as in least squares, with the datum shrunk to its expected real part.
Bessel functions by Abramowitz & Stegun 9.8.1-9.8.4, to 2e-7.
"""

from __future__ import annotations

import math

import numpy as np
from scipy.special import ive

from fornix.numerics.algebra import compiled

_STEP = 0.05


def _fisher_table() -> np.ndarray:
    """sigma² times the Fisher information of s/sigma = 0, 0.05, … 12: from 0 up to nearly 1."""
    t = np.arange(0, 12 + _STEP / 2, _STEP)
    m = np.linspace(0, 22, 4401)[:, None]
    density = m * np.exp(-((m - t) ** 2) / 2) * ive(0, m * t)
    ratio = ive(1, m * t) / ive(0, m * t)
    table = (density * (m * ratio - t) ** 2).sum(0) / density.sum(0)
    table[0] = 0.0
    return table


FISHER = _fisher_table()


@compiled
def bessel_scaled(z: float) -> tuple[float, float]:
    """I0(z) exp(-z) and I1(z) exp(-z) for z >= 0."""
    if z <= 3.75:
        t = (z / 3.75) ** 2
        down = math.exp(-z)
        zero = 1.0 + t * (
            3.5156229
            + t * (3.0899424 + t * (1.2067492 + t * (0.2659732 + t * (0.0360768 + t * 0.0045813))))
        )
        one = z * (
            0.5
            + t
            * (
                0.87890594
                + t
                * (
                    0.51498869
                    + t * (0.15084934 + t * (0.02658733 + t * (0.00301532 + t * 0.00032411)))
                )
            )
        )
        return zero * down, one * down
    t = 3.75 / z
    zero = 0.00916281 + t * (-0.02057706 + t * (0.02635537 + t * (-0.01647633 + t * 0.00392377)))
    zero = 0.39894228 + t * (0.01328592 + t * (0.00225319 + t * (-0.00157565 + t * zero)))
    one = -0.01031555 + t * (0.02282967 + t * (-0.02895312 + t * (0.01787654 - t * 0.00420059)))
    one = 0.39894228 + t * (-0.03988024 + t * (-0.00362018 + t * (0.00163801 + t * one)))
    root = math.sqrt(z)
    return zero / root, one / root


@compiled
def expected_part(m: float, s: float, variance: float) -> tuple[float, float]:
    """M I1(z)/I0(z) and ln(I0(z) exp(-z)) at z = m s/variance."""
    z = m * max(s, 0.0) / variance
    if z > 1e6:
        return m * (1.0 - 0.5 / z), -0.5 * math.log(2.0 * math.pi * z)
    zero, one = bessel_scaled(z)
    return m * one / zero, math.log(zero)


@compiled
def information(s: float, sigma: float) -> float:
    """sigma² times the Fisher information on s in one magnitude: 1 - sigma²/(2 s²) for large s."""
    t = s / sigma
    if t >= 11.9:
        return 1.0 - 0.5 / (t * t)
    place = t / _STEP
    k = int(place)
    part = place - k
    return (1.0 - part) * FISHER[k] + part * FISHER[k + 1]
