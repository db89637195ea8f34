"""Runs that were joined: a step in the signal's level or in the head's position somewhere along a series."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fornix.core.dwi import DWI
from fornix.core.gradients import Gradients
from fornix.core.grid import box_of
from fornix.core.signals import Signals
from fornix.numerics import harmonics
from fornix.preprocess.findings import VolumeFinding, percent
from fornix.preprocess.signal_designs import signal_designs

#: Least step of the level and drift over the series (ln), step of the position (voxels, mm in a human head,
#: degrees), and how many standard errors each must have.
_STEP, _DRIFT, _VOXELS, _MM, _DEGREES, _SIGMAS = 0.04, 0.06, 0.7, 1.5, 3.0, 6.0
#: Voxels of the image by which its position is known, and numbers in all.
_PLACES, _NUMBERS = 20_000, 2_000_000


@dataclass(frozen=True)
class Change:
    """A step of a series and its drift, each with its size in standard errors.

    Attributes:
        first: Index of the first volume after the step.
        step: Size of the step, in the series' unit.
        step_sigmas: The same in standard errors.
        drift: Change from the first volume to the last.
        drift_sigmas: The same in standard errors.
    """

    first: int
    step: float
    step_sigmas: float
    drift: float
    drift_sigmas: float

    def steps(self, least: float) -> bool:
        """Whether there is a step of this size, and not rather a drift."""
        return abs(self.step) > least and self.step_sigmas > max(_SIGMAS, 1.3 * self.drift_sigmas)


def check_runs(
    dwi: DWI, signals: NDArray[np.float64], noise: NDArray[np.float64], odd: set[int]
) -> list[VolumeFinding]:
    """Whether runs of another scale or head position were joined, or the signal drifts.

    Args:
        dwi: The scan; its mask says where the head is.
        signals: (n, N) of voxels in the brain, above 0.
        noise: (n,) their noise level.
        odd: Numbers of volumes that are left out.
    """
    use = np.array([int(number) not in odd for number in dwi.gradients.numbers])
    groups = [index[use[index]] for _, index in signal_designs(dwi.gradients, lmax=2)]
    groups = [index for index in groups if len(index) >= 2]
    moved = _moved(dwi, groups)
    return moved or _levels(dwi, signals, noise, groups)


def _levels(
    dwi: DWI,
    signals: NDArray[np.float64],
    noise: NDArray[np.float64],
    groups: list[NDArray[np.int64]],
) -> list[VolumeFinding]:
    numbers = dwi.gradients.numbers
    series = np.full(len(numbers), np.nan)
    for index in groups:
        reference = np.median(signals[:, index], axis=1)
        seen = reference > 3 * noise
        if seen.sum() >= 100:
            ratio = signals[seen][:, index] / reference[seen, None]
            series[index] = np.log(np.median(ratio, axis=0))
    change = change_of(series, dwi.gradients, groups)
    if change is None:
        return []
    if change.steps(_STEP):
        first, last = int(numbers[change.first]), int(numbers[-1])
        text = (
            f"from volume {first} on the signal is {percent(np.exp(change.step) - 1)}: runs of another scale "
            "were joined; bring them to one scale before joining (divide each by its mean b0), or leave one "
            f"out with --exclude {first}-{last}"
        )
        return [VolumeFinding((first,), "step", text)]
    if abs(change.drift) > _DRIFT and change.drift_sigmas > _SIGMAS:
        text = (
            f"the signal drifts by {100 * (np.exp(change.drift) - 1):+.0f}% from the first volume to the "
            "last; diffusivities are biased where b-values are not spread over the series"
        )
        return [VolumeFinding((int(numbers[0]),), "drift", text)]
    return []


def _moved(dwi: DWI, groups: list[NDArray[np.int64]]) -> list[VolumeFinding]:
    """A step in the centre of the image's brightness, or in how it leans, which follow the head."""
    box = box_of(dwi.brain(), (3, 3, 3))
    most = min(_PLACES, max(2000, _NUMBERS // len(dwi.gradients)))
    stride = max(1, round(np.cbrt(np.prod([s.stop - s.start for s in box]) / most)))
    places = np.zeros(dwi.grid, dtype=bool)
    places[tuple(slice(s.start, s.stop, stride) for s in box)] = True
    voxels = np.flatnonzero(places)
    world = (np.argwhere(places) @ dwi.affine[:3, :3].T).astype(np.float32)
    world -= world.mean(0)
    signals = Signals(dwi, voxels)[:]
    # Less the background, which stays where it is.
    signals = np.maximum(signals - np.percentile(signals[::4], 25, axis=0).astype(np.float32), 0)
    signals /= np.maximum(signals.sum(0), 1e-12)
    centres = world.T @ signals
    size = float(dwi.voxel_size.max())

    def step(values: NDArray[np.floating], least: float, error: float) -> Change | None:
        """The change of one number per volume, where it steps by so much."""
        series = np.full(len(dwi.gradients), np.nan)
        for index in groups:
            series[index] = values[index]
        change = change_of(series, dwi.gradients, groups, least_error=error)
        return change if change is not None and change.steps(least) else None

    shifts = [step(centre, max(_VOXELS * size, min(_MM, size)), 0.01 * size) for centre in centres]
    turns = []
    for i, k in ((0, 1), (0, 2), (1, 2)):
        spread = [(world[:, m] ** 2) @ signals - centres[m] ** 2 for m in (i, k)]
        lean = (world[:, i] * world[:, k]) @ signals - centres[i] * centres[k]
        # A turn by a small angle leans a head by the angle times how much longer it is one way.
        longer = float(np.median(spread[0] - spread[1]))
        if abs(longer) > 0.1 * float(np.median(spread[0] + spread[1])):
            turns.append(step(np.degrees(lean / longer), _DEGREES, 0.05))
    found = [change for change in (*shifts, *turns) if change is not None]
    if not found:
        return []
    far = float(np.linalg.norm([change.step for change in shifts if change is not None] or [0.0]))
    turned = max((abs(change.step) for change in turns if change is not None), default=0.0)
    how = [f"lies {far:.1f} mm elsewhere"] * (far > 0) + [f"is turned by {turned:.0f} degrees"] * (
        turned > 0
    )
    first = int(dwi.gradients.numbers[max(found, key=lambda change: change.step_sigmas).first])
    text = (
        f"from volume {first} on the head {' and '.join(how)}: it moved, or runs were joined without "
        "alignment; fornix run and fornix correct take that back"
    )
    return [VolumeFinding((first,), "moved", text)]


def change_of(
    series: NDArray[np.float64],
    gradients: Gradients,
    groups: list[NDArray[np.int64]],
    least_error: float = 2e-3,
) -> Change | None:
    """What a series (N,) does along the scan, beside what groups and directions make of it.

    Each volume is explained by its group (b0s, shells), by its direction, and by a step after any volume, or
    by a drift; the step that explains best counts.

    Args:
        series: NaN where nothing is known.
        gradients: The scan's table.
        groups: Volumes that are alike but for their direction.
        least_error: Of one volume's value.

    Returns:
        None where too few volumes are left to judge by.
    """
    use = np.flatnonzero(np.isfinite(series))
    columns = []
    for index in groups:
        wide = 6 if len(index) >= 20 and not gradients.b0_mask[index[0]] else 1
        block = np.zeros((len(series), wide))
        block[index] = harmonics.evaluate(2, gradients.directions[index])[:, :wide]
        if wide == 1:
            block[index] = 1.0
        columns.append(block)
    if len(use) < 8 or not columns:
        return None
    left, size, _ = np.linalg.svd(np.concatenate(columns, axis=1)[use], full_matrices=False)
    left = left[:, size > 1e-6 * size[0]]
    freedom = len(use) - left.shape[1] - 1
    if freedom < 4:
        return None
    rest = series[use] - left @ (left.T @ series[use])

    def explained(column: NDArray[np.float64]) -> tuple[float, float]:
        own = column - left @ (left.T @ column)
        power = float(own @ own)
        if power < 0.5:  # the groups themselves explain it
            return 0.0, 0.0
        share = float(own @ rest) / power
        variance = max(float(((rest - share * own) ** 2).sum()) / freedom, least_error**2)
        return share, abs(share) / np.sqrt(variance / power)

    cuts = range(2, len(use) - 1)
    found = [explained((np.arange(len(use)) >= cut).astype(float)) for cut in cuts]
    best = int(np.argmax([sigmas for _, sigmas in found]))
    drift = explained(np.linspace(0, 1, len(use)))
    return Change(int(use[cuts[best]]), *found[best], *drift)
