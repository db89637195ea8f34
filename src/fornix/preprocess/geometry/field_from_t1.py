"""An estimate of the susceptibility field from a T1 scan of the same head, which EPI does not distort.

The T1 is brought to the b0 rigidly, by the correlation ratio (Roche et al., MICCAI 1998). Then a smooth
displacement along the phase-encoded axis is sought that makes the b0, with what piled up spread again, equal
to what the T1's brightness predicts of it. That prediction is a function of the T1's brightness and a smooth
gain, learned anew as the images come together. It is an estimate: the two contrasts do not tell everything
of each other, and a constant displacement cannot be told from a shift of the T1.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage, optimize

from fornix.core.grid import box_of
from fornix.preprocess.acquisition import T1
from fornix.preprocess.geometry._displacement import central, displacement_step
from fornix.preprocess.geometry._sampling import spline, value_and_slope
from fornix.preprocess.geometry.field import FieldEstimate, correlation
from fornix.preprocess.geometry.transform import small_pose, step_across
from fornix.preprocess.phase_encoding import PhaseEncoding

Array = NDArray[np.float64]

#: Passes: smoothing of the images (mm, full width at half maximum), steps, weight of the field's roughness.
LEVELS = ((10.0, 10, 6.0), (6.0, 10, 2.0), (4.0, 10, 0.6), (2.5, 8, 0.3))
#: The field is sought this far around the brain, and images count this far, mm.
_MARGIN, _NEAR = 20.0, 4.0
#: Brightnesses between which the prediction is linear; its gain is a polynomial of third order.
_KNOTS = 9
#: Smoothing (mm) and bins of the rigid search, and voxels it looks at.
_SEARCH, _BINS, _VOXELS = (8.0, 4.0), 24, 30_000
#: Of a pose as the search sees it: mm, and radians that move a head's surface by about as much.
_UNITS = np.array([1.0, 1.0, 1.0, 0.02, 0.02, 0.02])


def estimate_field_from_t1(
    b0: NDArray[np.floating],
    mask: NDArray[np.bool_],
    affine: Array,
    encoding: PhaseEncoding,
    t1: T1,
    *,
    levels: tuple[tuple[float, int, float], ...] = LEVELS,
    progress: Callable[[int, int], None] | None = None,
) -> FieldEstimate:
    """The field that makes a b0 look like a T1.

    Args:
        b0: (X, Y, Z).
        mask: (X, Y, Z) the brain, roughly.
        affine: (4, 4) of their grid.
        encoding: Of the b0.
        t1: Of the same head, anywhere near in the world.
        levels: Coarse to fine.
        progress: Called with (steps done, in all).

    Returns:
        As of a pair: `pose` is from the b0's world to the T1's, `second` the T1 on the b0's grid, `before`
        and `after` the correlations of the b0 with what the T1 predicts.
    """
    size = np.linalg.norm(affine[:3, :3], axis=0)
    box = box_of(mask, tuple(np.ceil(_MARGIN / size).astype(int)))
    inner = affine.copy()
    inner[:3, 3] += affine[:3, :3] @ np.array([s.start for s in box])
    problem = _Problem(b0[box], mask[box], inner, encoding.axis, t1)
    pose = problem.rigid()
    shift: NDArray = np.zeros(mask[box].shape)
    total, done = sum(rounds for _, rounds, _ in levels), 0
    for blur, rounds, roughness in levels:
        problem.look(blur)
        for k in range(rounds):
            if k % 2 == 0:
                pose = problem.pose_step(shift, pose)
            shift = problem.field_step(shift, pose, roughness)
            done += 1
            if progress is not None:
                progress(done, total)
    problem.look(0.0)
    start, end = problem.state(np.zeros_like(shift), problem.first_pose), problem.state(shift, pose)
    inside = mask[box]
    pad = [(s.start, n - s.stop) for s, n in zip(box, mask.shape)]
    first, second = np.array(b0, np.float32), np.zeros(mask.shape, np.float32)
    first[box] = end.fixed * problem.scale
    second[box] = end.t1
    return FieldEstimate(
        np.pad(shift / encoding.voxels_per_hz, pad, mode="edge").astype(np.float32),
        pose,
        1.0,
        correlation(start.fixed, start.predicted, inside),
        correlation(end.fixed, end.predicted, inside),
        first,
        second,
        source="T1",
    )


@dataclass(frozen=True, eq=False)
class _State:
    """Images at a displacement and a pose, (X, Y, Z) each where nothing else is said."""

    fixed: NDArray  # the b0 corrected
    raw: NDArray
    along: NDArray  # its slope along the axis where it was measured
    spread: NDArray
    t1: NDArray
    t1_slopes: NDArray  # (n, 3) per mm of the T1's world, of the voxels in use
    predicted: NDArray
    predicted_rate: NDArray  # (n,) of the prediction with the T1's brightness


class _Problem:
    """One b0 and one T1, at the smoothing that is looked at."""

    def __init__(
        self, b0: NDArray, mask: NDArray[np.bool_], affine: Array, axis: int, t1: T1
    ) -> None:
        self.axis, self.affine, self.mask = axis, affine, mask
        self.size = np.linalg.norm(affine[:3, :3], axis=0)
        self.scale = float(np.median(b0[mask])) + 1e-12
        self.b0 = np.asarray(b0, np.float32) / np.float32(self.scale)
        bright = float(np.percentile(t1.data, 99.5)) or 1.0
        self.whole = np.clip(np.asarray(t1.data, np.float32) / np.float32(bright), 0, 1.2)
        self.t1_affine = t1.affine
        self.t1_size = np.linalg.norm(t1.affine[:3, :3], axis=0)
        near = ndimage.distance_transform_edt(~mask, sampling=self.size) < _NEAR
        self.weight = ndimage.gaussian_filter(near.astype(np.float32), 1.0)
        self.centre = affine[:3, :3] @ np.argwhere(mask).mean(0) + affine[:3, 3]
        self.use = self.weight > 0.02
        self.inside = self.weight[self.use]
        self.places = np.argwhere(self.use).astype(np.float32)
        unit = (self.places @ affine[:3, :3].T + affine[:3, 3] - self.centre) / 80.0
        x, y, z = unit.T
        self.terms = np.stack(
            [x**i * y**j * z**k for i in range(4) for j in range(4 - i) for k in range(4 - i - j)],
            1,
        )
        self.first_pose = np.eye(4)
        self.knots = np.linspace(0, 1, _KNOTS)

    def look(self, blur: float) -> None:
        """Both images smoothed to the same width, mm."""
        sigma = blur / 2.355
        self.b0_spline = spline(
            ndimage.gaussian_filter(self.b0, sigma / self.size, mode="nearest")
            if sigma
            else self.b0
        )
        # A voxel of the b0 is a mean over its own size already.
        own = np.sqrt(np.maximum((0.42 * self.size.mean()) ** 2 - (0.42 * self.t1_size) ** 2, 0))
        width = np.hypot(own, sigma) / self.t1_size
        self.t1_spline = spline(ndimage.gaussian_filter(self.whole, width, mode="nearest"))

    def rigid(self) -> Array:
        """(4, 4) from the b0's world to the T1's, by the correlation ratio."""
        inside = np.flatnonzero(self.inside > 0.5)
        chosen = inside[:: max(1, len(inside) // _VOXELS)]
        places = self.places[chosen] @ self.affine[:3, :3].T + self.affine[:3, 3]
        middle = self._t1_middle() - self.centre
        found: list[tuple[float, NDArray]] = []
        for number, blur in enumerate(_SEARCH):
            self.look(blur)
            values = value_and_slope(self.b0_spline, self.places[chosen])[:, 0]

            def cost(move: NDArray, values: NDArray = values) -> float:
                pose = small_pose(move * _UNITS, self.centre)
                seen = value_and_slope(self.t1_spline, self._in_t1(places, pose))[:, 0]
                return 1 - _correlation_ratio(values, seen)

            if number == 0:
                # As the headers say, and with the middles of both heads together.
                starts = [np.zeros(6), np.r_[middle, 0, 0, 0]]
            else:
                starts = [min(found, key=lambda f: f[0])[1]]
            found = []
            for begin in starts:
                simplex = np.vstack([begin, begin + 4.0 * np.eye(6)])
                made = optimize.minimize(
                    cost, begin, method="Nelder-Mead",
                    options={"initial_simplex": simplex, "maxfev": 350, "xatol": 0.02, "fatol": 1e-5},
                )  # fmt: skip
                found.append((float(made.fun), made.x))
        best = min(found, key=lambda f: f[0])[1]
        self.first_pose = small_pose(best * _UNITS, self.centre)
        return self.first_pose

    def _t1_middle(self) -> Array:
        """World mm of the middle of what is bright in the T1, (3,)."""
        bright = self.whole > self.whole.mean()
        return self.t1_affine[:3, :3] @ np.argwhere(bright).mean(0) + self.t1_affine[:3, 3]

    def _in_t1(self, world: NDArray, pose: Array) -> NDArray[np.float32]:
        """World places of the b0 (n, 3) in voxels of the T1."""
        matrix = np.linalg.inv(self.t1_affine) @ pose
        return (world @ matrix[:3, :3].T + matrix[:3, 3]).astype(np.float32)

    def state(self, shift: NDArray, pose: Array) -> _State:
        """Both images, and what the T1 predicts."""
        slope = central(shift, self.axis)
        where = self.places.copy()
        where[:, self.axis] += shift[self.use].astype(np.float32)
        found = np.nan_to_num(value_and_slope(self.b0_spline, where))
        raw, along = self._whole(found[:, 0]), self._whole(found[:, 1 + self.axis])
        spread = 1 + slope
        fixed = raw * spread
        world = self.places @ self.affine[:3, :3].T + self.affine[:3, 3]
        seen = np.nan_to_num(value_and_slope(self.t1_spline, self._in_t1(world, pose)))
        slopes = seen[:, 1:] @ np.linalg.inv(self.t1_affine[:3, :3])
        predicted, rate = self._predicted(seen[:, 0], fixed[self.use])
        return _State(
            fixed, raw, along, spread, self._whole(seen[:, 0]), slopes, self._whole(predicted), rate
        )

    def _whole(self, values: NDArray) -> NDArray:
        """Values (n,) of the voxels in use as an image, 0 elsewhere."""
        out = np.zeros(self.mask.shape)
        out[self.use] = values
        return out

    def _predicted(self, t1: NDArray, fixed: NDArray) -> tuple[NDArray, NDArray]:
        """The b0 (n,) that the T1's brightness predicts, and its rate with the brightness."""
        some = slice(None, None, max(1, len(t1) // _VOXELS))
        hats, rates = _hats(t1, self.knots)
        target, few, terms = fixed[some], hats[some], self.terms[some]
        w, gain = self.inside[some].copy(), np.ones(len(target))
        bend = np.diff(np.eye(_KNOTS), 2, axis=0)
        ridge = len(target) * (1e-4 * np.eye(_KNOTS) + 1e-3 * bend.T @ bend)
        for _ in range(3):
            rows = few * gain[:, None]
            level = np.linalg.solve(
                (rows * w[:, None]).T @ rows + ridge, (rows * w[:, None]).T @ target
            )
            # How much brighter the b0 is than that, smoothly: coils, and T2 that differs by region.
            rows = terms * (few @ level)[:, None]
            weak = 1e-3 * np.trace(rows.T @ rows) * np.eye(rows.shape[1]) / rows.shape[1]
            more = np.linalg.solve(
                (rows * w[:, None]).T @ rows + weak, (rows * w[:, None]).T @ (target - few @ level)
            )
            gain = np.clip(1 + terms @ more, 0.3, 3.0)
            residual = np.abs(target - (few @ level) * gain)
            spread = 1.4826 * float(np.median(residual)) + 1e-6
            w = self.inside[some] / np.maximum(1, residual / (2 * spread))
        every = np.clip(1 + self.terms @ more, 0.3, 3.0)
        return (hats @ level) * every, (rates @ level) * every

    def field_step(self, shift: NDArray, pose: Array, roughness: float) -> NDArray:
        """The displacement in voxels after one step."""
        now = self.state(shift, pose)
        residual = now.fixed - now.predicted
        # Not robust: large residuals are mostly where the field is large.
        return displacement_step(
            shift, residual, now.along * now.spread, now.raw, self.weight, roughness, self.axis,
            self.size,
        )  # fmt: skip

    def pose_step(self, shift: NDArray, pose: Array) -> Array:
        """The pose after one step; not along the phase-encoded axis, where it would be the field's."""
        now = self.state(shift, pose)
        w, residual = self.inside, (now.fixed - now.predicted)[self.use]
        use = w > 0.05
        # The step turns the b0's world before the pose that is known: slopes are brought back to it.
        slopes = now.t1_slopes[use] @ pose[:3, :3]
        slopes *= now.predicted_rate[use, None]
        arm = self.places[use] @ self.affine[:3, :3].T + self.affine[:3, 3] - self.centre
        way = self.affine[:3, self.axis]
        step = step_across(slopes, arm, residual[use], w[use], way, self.centre)
        return np.asarray(pose @ step)


def _hats(values: NDArray, knots: Array) -> tuple[Array, Array]:
    """(n, K) weights of linear interpolation between knots, and their rates."""
    step = knots[1] - knots[0]
    at = np.clip(values, knots[0], knots[-1]) / step
    away = at[:, None] - np.arange(len(knots))
    weights = (1 - np.abs(away)).clip(0)
    low = np.minimum(at.astype(int), len(knots) - 2)
    rates = np.zeros_like(weights)
    rows = np.arange(len(values))
    rates[rows, low], rates[rows, low + 1] = -1 / step, 1 / step
    return weights, rates


def _correlation_ratio(values: NDArray, given: NDArray) -> float:
    """Share of the variance of `values` that a function of `given` explains; nan lies outside."""
    there = np.isfinite(given)
    if there.mean() < 0.5:
        return -1.0
    values = values[there]
    bins = np.minimum((np.clip(given[there], 0, 1) * _BINS).astype(int), _BINS - 1)
    count = np.bincount(bins, minlength=_BINS)
    total = np.bincount(bins, weights=values, minlength=_BINS)
    square = np.bincount(bins, weights=values.astype(np.float64) ** 2, minlength=_BINS)
    within = square.sum() - (total**2 / np.maximum(count, 1)).sum()
    return float(1 - within / max(len(values) * values.var(), 1e-12)) * float(there.mean())
