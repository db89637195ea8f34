"""Each volume against the others: what is labelled as a b0 or a direction but is none, and joined runs.

Scanners and converters append trace images, ADC maps and means to a series, and series are merged from
runs of another scale or head position. Their labels are valid, so only the signals can tell. Each statistic
is compared with what noise and the other volumes of the same scan make likely.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.special import gammaincinv

from fornix.core.dwi import DWI
from fornix.core.signals import Signals
from fornix.preprocess.findings import VolumeFinding, percent
from fornix.preprocess.head_check import check_heads
from fornix.preprocess.run_check import check_runs
from fornix.preprocess.signal_designs import signal_designs

#: Voxels that are looked at, and numbers in all: more would not change a median.
_VOXELS, _NUMBERS = 6_000, 1_500_000
#: A b0 is odd in level beyond this share, or if it moves the mean b0 by the other: 4% of the b0 are 5% of
#: the mean diffusivity at b = 1000.
_LEVEL, _MEAN_LEVEL = 0.10, 0.03
#: Spread of ln(b0 / other b0s) over the brain beyond what noise gives, from which contrast differs.
_CONTRAST = 0.13
#: A weighted volume is odd in level beyond this share and so many robust standard deviations.
_WEIGHTED_LEVEL, _SIGMAS = 0.10, 8.0
#: Share of the directional contrast that a volume must have of what the others predict for it.
_DIRECTIONAL = 0.3
#: Share by which a volume whose b few others have may lie off the course of the signal along b.
_COURSE = 0.25


def check_volumes(dwi: DWI) -> list[VolumeFinding]:
    """What the volumes of a scan, compared with each other in the brain, say against their labels.

    Args:
        dwi: The raw scan with its noise level; its mask says where to look.

    Returns:
        Findings, in the order of the volumes; none for scans of a single volume.
    """
    if dwi.sigma is None or len(dwi.gradients) < 2:
        return []
    if lost := check_heads(dwi):  # the others are compared without them
        named = {v for finding in lost for v in finding.volumes}
        kept = [i for i, n in enumerate(dwi.gradients.numbers) if int(n) not in named]
        return sorted([*lost, *_compared(dwi.subset(kept))], key=lambda f: f.volumes[0])
    return _compared(dwi)


def _compared(dwi: DWI) -> list[VolumeFinding]:
    """Volumes that all show a head, compared in the brain."""
    if len(dwi.gradients) < 2:
        return []
    voxels = np.flatnonzero(dwi.brain())
    most = min(_VOXELS, max(1000, _NUMBERS // len(dwi.gradients)))
    voxels = voxels[:: max(1, len(voxels) // most)]
    signals = Signals(dwi, voxels)[:].astype(np.float64)
    level = np.broadcast_to(np.asarray(dwi.sigma, dtype=np.float64), dwi.grid).reshape(-1)[voxels]
    signals = np.maximum(signals, 1e-6 * max(float(signals.max(initial=0)), 1e-12))
    level = np.maximum(level, 1e-6 * np.median(signals))
    noise = level * _scale(dwi, signals / level[:, None])
    found, odd = _odd_b0s(dwi, signals, noise)
    found += _odd_weighted(dwi, signals, noise)
    found += _off_course(dwi, signals, noise, odd)
    odd |= {v for f in found if f.kind not in ("b0-level", "no-direction") for v in f.volumes}
    runs = check_runs(dwi, signals, noise, odd)
    kinds = {f.kind for f in runs}
    if kinds & {"step", "moved"}:  # which the oddness of single volumes follows from
        found = [f for f in found if f.kind not in ("b0-level", "level", "course")]
    if "moved" in kinds:
        found = [f for f in found if f.kind not in ("b0-contrast", "no-direction")]
    found += runs
    return sorted(found, key=lambda f: f.volumes[0])


def _scale(dwi: DWI, signals: NDArray[np.float64]) -> float:
    """By how much the noise level is too high: a false b0 is taken for noise where levels are estimated.

    signals: (n, N) in units of the noise level.
    """
    total, freedom = np.zeros(len(signals)), 0
    for design, index in signal_designs(dwi.gradients):
        left = len(index) - design.shape[1]
        if dwi.gradients.b0_mask[index[0]] or left < 1:
            continue
        rest = signals[:, index] @ (np.eye(len(index)) - design @ np.linalg.pinv(design))
        total += (rest**2).sum(1)
        freedom += left
    if freedom < 4:
        return 1.0
    return min(1.0, float(np.sqrt(np.median(total) / (2 * gammaincinv(freedom / 2, 0.5)))))


def _odd_b0s(
    dwi: DWI, signals: NDArray[np.float64], noise: NDArray[np.float64]
) -> tuple[list[VolumeFinding], set[int]]:
    """b0s unlike the others, and the numbers of those that are no b0s at all."""
    table, found, odd = dwi.gradients, [], set()
    b0, weighted = np.flatnonzero(table.b0_mask), np.flatnonzero(~table.b0_mask)
    bright = np.median(signals[:, b0], axis=1) if len(b0) else signals.max(1)
    seen = bright > 5 * noise
    if len(b0) < 2 or seen.sum() < 100:
        return _lone_b0(dwi, signals, noise), set()
    lowest = (
        weighted[table.bvals[weighted] <= 1.2 * table.bvals[weighted].min()]
        if len(weighted)
        else b0
    )
    mean_weighted = signals[:, lowest].mean(1)
    left = b0.tolist()
    for _ in range(len(b0) // 2 + 1):  # the oddest first: the others are then compared without it
        if len(left) < 2:
            break
        # Of many, the median of all is that of the others.
        common = np.median(signals[:, left], axis=1) if len(left) >= 5 else None
        scores: dict[int, tuple[float, str, str]] = {}
        for k in left:
            others = [o for o in left if o != k]
            reference = np.median(signals[:, others], axis=1) if common is None else common
            scores[k] = _unlike(signals[:, k], reference, len(others), noise, seen, mean_weighted)
        worst = max(scores, key=lambda k: scores[k][0])
        if scores[worst][0] <= 1.0:
            break
        doubt = {k: _unlike_any_b0(signals[seen, k], mean_weighted[seen]) for k in left}
        if len(left) == 2:  # of two that differ, the one that is less like a b0
            worst = max(left, key=lambda k: doubt[k])
        _, kind, why = scores[worst]
        if kind == "b0-level" and len(left) == 2 and doubt[worst] > 0.5:
            kind = "b0-contrast"
            why = "is darker than the weighted volumes, or bright where they are dark (a mean or an ADC map)"
        number = int(table.numbers[worst])
        left.remove(worst)
        if kind == "b0-contrast":
            odd.add(number)
            text = f"volume {number} (b={table.bvals[worst]:g}) is labelled a b0 but {why}"
            help_ = f"leave it out with --exclude {number} if it is none"
        else:
            text = f"the b0 of volume {number} {why}"
            help_ = f"leave it out with --exclude {number}, or bring the runs to one scale"
        found.append(VolumeFinding((number,), kind, f"{text}; {help_}"))
    return found, odd


def _unlike(
    volume: NDArray[np.float64],
    reference: NDArray[np.float64],
    others: int,
    noise: NDArray[np.float64],
    seen: NDArray[np.bool_],
    mean_weighted: NDArray[np.float64],
) -> tuple[float, str, str]:
    """How unlike the others, of which `reference` is the median, a b0 is: odd above 1, in what, in words."""
    ratio = np.log(volume[seen] / np.maximum(reference[seen], 1e-12))
    middle = float(np.median(ratio))
    share = np.exp(middle) - 1
    relative = float(np.median(noise[seen] / reference[seen]))
    expected = relative * float(np.sqrt(1 + 1.5 / others))
    spread = 1.4826 * float(np.median(np.abs(ratio - middle)))
    # In much noise the logarithm has tails that its first order does not know.
    excess = np.sqrt(max(spread**2 - ((1.1 + 0.6 * expected) * expected) ** 2, 0.0))
    # A direction's or a mean's contrast follows the attenuation of the weighted volumes.
    attenuation = np.log(
        np.maximum(mean_weighted[seen], 1e-12) / np.maximum(reference[seen], 1e-12)
    )
    like = _correlation(ratio, attenuation)
    contrast = excess / _CONTRAST
    if like > 0.7 and excess > 0.06:
        contrast = max(contrast, 1.01 + excess)
    # Noise of the reference makes b0s follow the attenuation a little, never run against it.
    if like < -0.25:
        contrast = max(contrast, 1.01 - like)
    level = max(abs(share) / _LEVEL, abs(share) / (others + 1) / _MEAN_LEVEL)
    if contrast > 1:
        # A head that moved follows the attenuation as well, either way: only what is clear is named.
        darker = float((volume[seen] < 1.05 * mean_weighted[seen]).mean())
        if like > 0.7 and darker > 0.5:
            why = "has the contrast of the weighted volumes (a mean or trace image)"
        elif like < -0.6:
            why = "has the contrast of a diffusivity map (ADC)"
        else:
            why = "differs from the others from voxel to voxel (the head moved, or a mean or an ADC map)"
        return contrast + level, "b0-contrast", why
    return level, "b0-level", f"is {percent(share)} than the others"


def _unlike_any_b0(signal: NDArray[np.float64], weighted: NDArray[np.float64]) -> float:
    """0 for a b0: no darker than weighted volumes, and not bright where they are dark."""
    darker = float((signal < 1.05 * weighted).mean())
    return darker + max(0.0, -_correlation(np.log(signal), np.log(np.maximum(weighted, 1e-12))))


def _lone_b0(
    dwi: DWI, signals: NDArray[np.float64], noise: NDArray[np.float64]
) -> list[VolumeFinding]:
    """A single b0 that is darker than weighted volumes is none."""
    table = dwi.gradients
    b0, weighted = np.flatnonzero(table.b0_mask), np.flatnonzero(~table.b0_mask)
    if len(b0) != 1 or not len(weighted):
        return []
    mean = signals[:, weighted].mean(1)
    bright = mean > 3 * noise
    if bright.sum() < 100:
        return []
    share = float((signals[bright, b0[0]] < mean[bright]).mean())
    if share < 0.5:
        return []
    number = int(table.numbers[b0[0]])
    text = (
        f"volume {number} is labelled the only b0 but is darker than the weighted volumes in "
        f"{100 * share:.0f}% of the brain: it is none; leave it out with --exclude {number}, or name the "
        "right table with --bval and --bvec"
    )
    return [VolumeFinding((number,), "b0-contrast", text)]


def _odd_weighted(
    dwi: DWI, signals: NDArray[np.float64], noise: NDArray[np.float64]
) -> list[VolumeFinding]:
    """Weighted volumes that the others of their b do not predict."""
    table, found = dwi.gradients, list[VolumeFinding]()
    for design, index in signal_designs(table, lmax=2):
        if table.b0_mask[index[0]] or len(index) < design.shape[1] + 4:
            continue
        group = signals[:, index]
        hat = design @ np.linalg.pinv(design)
        leverage = np.clip(np.diag(hat), 0, 0.9)
        predicted = np.maximum((group @ hat - leverage * group) / (1 - leverage), 1e-12)
        mean = np.median(group, axis=1)
        seen = mean > 3 * noise
        if seen.sum() < 100:
            continue
        ratio = np.log(np.maximum(group[seen], 1e-12) / predicted[seen])
        level = np.median(ratio, axis=0)
        spread = 1.4826 * np.median(np.abs(level - np.median(level)))
        off = np.abs(level - np.median(level))
        for k in np.flatnonzero(off > np.maximum(_WEIGHTED_LEVEL, _SIGMAS * spread)):
            number = int(table.numbers[index[k]])
            share = float(np.exp(level[k] - np.median(level)) - 1)
            text = (
                f"volume {number} (b={table.bvals[index[k]]:.0f}) is {percent(share)} than the others of "
                f"its b predict; leave it out with --exclude {number} if it is not what its label says"
            )
            found.append(VolumeFinding((number,), "level", text))
        found += _without_direction(table.numbers[index], table.bvals[index], group[seen],
                                    predicted[seen], noise[seen], found)  # fmt: skip
    return found


def _off_course(
    dwi: DWI, signals: NDArray[np.float64], noise: NDArray[np.float64], odd: set[int]
) -> list[VolumeFinding]:
    """Volumes of a b that few others have, off the course that the signal takes along b.

    ln S falls along b, and ever less steeply: between two measured b-values it lies below their chord and
    above the line through the lower ones, within what kurtosis makes of it.
    """
    table, found = dwi.gradients, list[VolumeFinding]()
    groups = [index for _, index in signal_designs(table) if not set(table.numbers[index]) <= odd]
    seen = np.median(signals, axis=1) > 3 * noise
    if len(groups) < 2 or seen.sum() < 100:
        return []
    course = [
        (
            float(table.b[index].mean()),
            float(np.median(np.log(signals[seen][:, index].mean(1)))),
            index,
        )
        for index in groups
    ]
    for b, level, index in course:
        # A level of one or two volumes; what is known must be known better.
        known = [
            (x, y)
            for x, y, other in course
            if other is not index and len(other) >= max(3, len(index))
        ]
        b0 = [(x, y) for x, y, other in course if other is not index and table.b0_mask[other[0]]]
        known = sorted({*known, *b0})
        if len(index) > 2 or table.b0_mask[index[0]] or len(known) < 2:
            continue
        (low, high), (top, bottom) = known[0], min(known[1:], key=lambda k: abs(k[0] - b))
        slope = (bottom - high) / max(top - low, 1e-6)
        expected = high + slope * (b - low)
        # The true course runs below the chord between known b-values, and beyond them above its line.
        if b < top:
            allowed = (0.3 * slope * min(b - low, top - b), 0.0)
        else:
            allowed = (0.0, -0.6 * slope * (b - top))
        off = level - expected
        beyond = max(off - allowed[1], 0.0) + min(off - allowed[0], 0.0)
        if abs(beyond) > _COURSE:
            numbers = [int(n) for n in table.numbers[index]]
            text = (
                f"volume {numbers[0]} (b={1000 * b:.0f}) is {percent(np.exp(beyond) - 1)} than the other "
                "b-values make likely: its b-value is wrong, or it is a trace, mean or ADC image; leave it "
                f"out with --exclude {','.join(map(str, numbers))}"
            )
            found.append(VolumeFinding(tuple(numbers), "course", text))
    return found


def _without_direction(
    numbers: NDArray[np.int64],
    bvals: NDArray[np.float64],
    group: NDArray[np.float64],
    predicted: NDArray[np.float64],
    noise: NDArray[np.float64],
    known: Sequence[VolumeFinding],
) -> list[VolumeFinding]:
    """Volumes without the contrast of their direction: trace images, means, wrong vectors."""
    centre = predicted.mean(1, keepdims=True)
    contrast = (predicted - centre) / noise[:, None]
    # Where fibres run along one way, the others predict much; elsewhere only noise would be compared.
    strong = contrast.std(1)
    chosen = strong >= np.quantile(strong, 0.8)
    expected = contrast[chosen]
    measured = (group[chosen] - centre[chosen]) / noise[chosen, None]
    expected = expected - expected.mean(0)
    measured = measured - measured.mean(0)
    slope = (expected * measured).sum(0) / np.maximum((expected**2).sum(0), 1e-9)
    typical = float(np.median(slope))
    spread = 1.4826 * float(np.median(np.abs(slope - typical)))
    said = {v for f in known for v in f.volumes}
    found = []
    contrasts = measured.std(0), expected.std(0)
    for number, b, s, own, there in zip(numbers.tolist(), bvals, slope, *contrasts):
        lacking = s < _DIRECTIONAL * typical and typical - s > _SIGMAS / 2 * spread
        if typical > 0.4 and lacking and number not in said:
            flat = own < 0.6 * there
            text = (
                f"volume {number} (b={b:.0f}) has {100 * max(s, 0) / typical:.0f}% of the contrast that the "
                "others predict for its direction: "
                + (
                    "a trace or mean image, or a wrong vector"
                    if flat
                    else "the head moved, or its vector is wrong"
                )
                + f"; leave it out with --exclude {number}"
                + ("" if flat else "; fornix run and fornix correct take motion back")
            )
            found.append(VolumeFinding((number,), "no-direction", text))
    return found


def _correlation(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    a, b = a - a.mean(), b - b.mean()
    return float((a * b).sum() / max(np.sqrt((a**2).sum() * (b**2).sum()), 1e-12))
