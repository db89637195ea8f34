"""One scan on its way to smaller voxels: what was measured, solved for volume by volume."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import sparse

from fornix.core.dwi import DWI
from fornix.core.errors import FornixError
from fornix.core.gradients import voxel_rotation
from fornix.core.grid import box_of
from fornix.core.series import Series, put_volume
from fornix.enhance.deconvolution import edges_of, solve_volumes, strength_of
from fornix.enhance.grids import fine_mask, profiles_of
from fornix.enhance.noise import denoised_with_level, left_of_noise
from fornix.nets.enhancement_net import (
    GUIDES,
    EnhancementNet,
    around,
    enhancement_channels,
    error_std,
    scan_facts,
)
from fornix.physics.point_spread import (
    Grid,
    Measurement,
    along,
    axis_operator,
    centres,
    interpolator,
)

#: Small voxels that are corrected at once; measured planes that the network sees at once, and around them.
_BLOCK, _PLANES, _HALO = 16_384, 24, 10
#: Volumes that are solved at once; measured voxels around the mask that are looked at.
_TOGETHER, _MARGIN = 4, 5
Box = tuple[slice, slice, slice]
Room = NDArray[np.float32] | Series


@dataclass(frozen=True, eq=False)
class Carried:
    """Volumes that are brought to small voxels in place of the measured ones, on their grid.

    Attributes:
        dwi: The volumes, predicted at other gradients.
        std: (X, Y, Z, M) their standard deviation.
    """

    dwi: DWI
    std: NDArray[np.float32]


@dataclass(eq=False)
class Measured:
    """What was measured, cropped to the mask with a margin, and the small voxels over it.

    Attributes:
        values: (x, y, z, N) what is brought to small voxels, over the scale, without most of the noise.
        raw: The same as it was measured.
        told: (x, y, z) or (x, y, z, N) noise of `values`; `noise` of `raw`.
        shells: (N,) b, ms/µm², 0 for b0s.
        channels: What the network sees, and `about` of the whole scan.
        brain: (x, y, z) measured voxels of the mask.
        whole_mask: (X, Y, Z) small voxels of the mask, on the whole grid; box: the part of it over the crop.
        axes: Where the box's small voxels lie among the crop's, along each axis.
        operator: From the box to the crop.
        linear: Interpolation from the crop to the box.
        step: A small voxel's edges over a measured one's.
        scale: The signal that counts as one.
    """

    values: NDArray[np.float32]
    raw: NDArray[np.float32]
    told: NDArray[np.float32]
    noise: NDArray[np.float32]
    shells: NDArray[np.float64]
    channels: torch.Tensor
    about: torch.Tensor
    brain: NDArray[np.bool_]
    whole_mask: NDArray[np.bool_]
    box: Box
    axes: list[NDArray[np.float64]]
    operator: Measurement
    linear: tuple[sparse.csr_matrix, ...]
    step: torch.Tensor
    scale: float
    profiles: tuple[str, str, str]
    partial_fourier: tuple[float, float, float]
    coarse: Grid

    @classmethod
    def of(cls, dwi: DWI, fine: Grid, carried: Carried | None, denoised: DWI | None) -> Measured:
        """Of a scan, see `space.sharpen`."""
        coarse, brain = Grid(dwi.grid, dwi.affine), dwi.brain()
        crop = box_of(brain, (_MARGIN,) * 3)
        # Of a usual head's b0 the median lies between white and grey matter.
        scale = float(0.85 * np.median(dwi.mean_b0()[brain]))
        if not np.isfinite(scale) or scale <= 0:
            raise FornixError("the b0 is not positive in the mask; check the scan and the mask")
        part = _part(dwi, crop)
        noise = np.broadcast_to(np.asarray(dwi.sigma, np.float32), dwi.grid)[crop]
        noise = np.clip(np.nan_to_num(noise) / scale, 1e-4, 1).astype(np.float32)
        if denoised is None:
            inner = dwi.with_(data=part, mask=brain[crop], sigma=noise * scale, meta={}, notes=())
            clean, level = denoised_with_level(inner)
            left = level / max(float(np.median(noise[brain[crop]])) * scale, 1e-12)
        else:
            clean = _part(denoised, crop)
            left = left_of_noise(part, clean, noise * scale, brain[crop])
        clean, part, told = clean / scale, part / scale, noise * np.float32(left)
        table = dwi.gradients
        b = torch.from_numpy(np.where(table.b0_mask, 0.0, table.b)).float()
        directions = torch.from_numpy(table.directions @ voxel_rotation(dwi.affine)).float()
        profiles, shares = profiles_of(dwi)
        ratio = fine.voxel_size / coarse.voxel_size
        step = torch.from_numpy(ratio).float()
        is_b0 = torch.from_numpy(table.b0_mask.copy())
        channels = enhancement_channels(
            torch.from_numpy(clean), b, directions, is_b0, torch.from_numpy(told),
            torch.from_numpy(noise), torch.from_numpy(brain[crop]),
        )  # fmt: skip
        about = scan_facts(b, is_b0, torch.from_numpy(coarse.voxel_size), step, profiles)
        mixed = table
        if carried is not None:
            mixed = carried.dwi.gradients
            clean = part = _part(carried.dwi, crop) / scale
            told = noise = np.maximum(np.asarray(carried.std[crop], np.float32) / scale, 1e-4)
        box, axes, operators, linear = [], [], [], []
        for axis in range(3):
            n, m, s, c = (
                coarse.shape[axis],
                fine.shape[axis],
                round(float(ratio[axis]), 6),
                crop[axis],
            )
            at = centres(n, m, s) - c.start
            over = np.flatnonzero((at > -0.5 - s) & (at < c.stop - c.start - 0.5 + s))
            box.append(slice(int(over[0]), int(over[-1]) + 1))
            axes.append(at[box[-1]])
            rows = axis_operator(n, m, s, profiles[axis], shares[axis])[c][:, box[-1]]
            total = np.asarray(rows.sum(1)).ravel()
            operators.append((sparse.diags(1 / np.maximum(total, 0.2)) @ rows).tocsr())
            linear.append(interpolator(axes[-1], c.stop - c.start))
        return cls(
            clean.astype(np.float32), part.astype(np.float32), told.astype(np.float32), noise,
            np.where(mixed.b0_mask, 0.0, mixed.b), channels, about, brain[crop],
            fine_mask(brain, coarse, fine), (box[0], box[1], box[2]), axes,
            Measurement((operators[0], operators[1], operators[2])), tuple(linear), step, scale,
            profiles, shares, coarse,
        )  # fmt: skip

    @property
    def mask(self) -> NDArray[np.bool_]:
        """Of the box."""
        return self.whole_mask[self.box]

    @torch.no_grad()
    def fill(
        self, net: EnhancementNet, out: Room, std: Room, scales: list[float] | None,
        where: torch.device, progress: Callable[[int, int], None] | None,
    ) -> None:  # fmt: skip
        """Write every volume and its standard deviation.

        Args:
            net: The network.
            out: (X, Y, Z, N) on the whole grid, zeros.
            std: Like it.
            scales: Of the standard deviation, of b0s and weighted volumes; None leaves the network's
                correction out.
            where: Device.
            progress: Told how many volumes are done.
        """
        guides = np.ascontiguousarray(np.moveaxis(self.channels[list(GUIDES)].numpy(), 0, -1))
        edges = edges_of(guides, self.operator, along(self.linear, guides))
        features = self._features(net, where)
        found = np.argwhere(self.mask)
        done = 0
        for b, volumes in _levels(self.shells).items():
            change, spread = self._weights(net, features, found, b, where)
            for first in range(0, len(volumes), _TOGETHER):
                some = volumes[first : first + _TOGETHER]
                self._write(out, std, some, edges, found, (change, spread), scales)
                done += len(some)
                if progress is not None:
                    progress(done, len(self.shells))

    def _write(
        self, out: Room, std: Room, volumes: list[int], edges: NDArray[np.float32],
        found: NDArray[np.int64], weights: tuple[torch.Tensor, torch.Tensor],
        scales: list[float] | None,
    ) -> None:  # fmt: skip
        values = np.ascontiguousarray(self.values[..., volumes])
        b0 = self.shells[volumes[0]] == 0
        told = self.told if self.told.ndim == 3 else self.told[..., volumes]
        strength = strength_of(float(np.median(told[self.brain])))
        base = solve_volumes(values, self.operator, along(self.linear, values), edges, strength)
        image = np.zeros((*self.whole_mask.shape, len(volumes)), np.float32)
        error = np.zeros_like(image)
        boxed, wrong = image[self.box], error[self.box]
        near_values, level = torch.from_numpy(values), torch.from_numpy(told)
        for start in range(0, len(found), _BLOCK):
            rows = found[start : start + _BLOCK]
            index, _ = self._within(rows)
            near = around(near_values, index)
            change, spread = (w[start : start + _BLOCK].float() for w in weights)
            at = tuple(rows.T)
            value = torch.from_numpy(base[at])
            if scales is not None:
                value = value + torch.einsum("nk,nkv->nv", change, near)
            scale = self.scale * (1.0 if scales is None else scales[int(not b0)])
            boxed[at] = value.clamp(min=0).numpy() * self.scale
            wrong[at] = error_std(spread, near, level[tuple(index.T)]).numpy() * scale
        for k, volume in enumerate(volumes):
            put_volume(out, volume, image[..., k])
            put_volume(std, volume, error[..., k])

    def _features(self, net: EnhancementNet, where: torch.device) -> torch.Tensor:
        """(x, y, z, hidden) of the crop's voxels, planes after planes."""
        made, count = [], self.channels.shape[1]
        for first in range(0, count, _PLANES):
            low, high = max(0, first - _HALO), min(count, first + _PLANES + _HALO)
            found = net.features(self.channels[:, low:high].to(where), self.about.to(where))
            made.append(found[first - low : first - low + _PLANES].cpu())
        return torch.cat(made)

    def _weights(
        self, net: EnhancementNet, features: torch.Tensor, found: NDArray[np.int64], b: float,
        where: torch.device,
    ) -> tuple[torch.Tensor, torch.Tensor]:  # fmt: skip
        """(n, 27) weights in half precision and (n, 3) of the spread, of all small voxels of a shell."""
        change, spread = [], []
        for start in range(0, len(found), _BLOCK):
            index, place = self._within(found[start : start + _BLOCK])
            mine = features[tuple(index.T)].to(where)
            one, two = net.mix(mine, place.to(where), self.step.to(where), b)
            change.append(one.half().cpu())
            spread.append(two.cpu())
        return torch.cat(change), torch.cat(spread)

    def _within(self, rows: NDArray[np.int64]) -> tuple[torch.Tensor, torch.Tensor]:
        """Measured voxels (n, 3) that small ones of the box lie in, and where in them."""
        at = np.stack([a[i] for a, i in zip(self.axes, rows.T)], 1)
        voxels = np.clip(np.rint(at), 0, np.array(self.brain.shape) - 1).astype(np.int64)
        return torch.from_numpy(voxels), torch.from_numpy((at - voxels).clip(-0.5, 0.5)).float()

    def facts(self, fine: Grid) -> dict[str, object]:
        """For the sidecar."""
        return {
            "MeasuredVoxelSize": [round(float(v), 4) for v in self.coarse.voxel_size],
            "VoxelSize": [round(float(v), 4) for v in fine.voxel_size],
            "Profiles": list(self.profiles),
            "PartialFourier": list(self.partial_fourier),
            "NoiseLeft": round(float(np.median(self.told) / np.median(self.noise)), 3),
        }


def hold_to_measured(job: Measured, out: Room, std: Room) -> dict[str, float]:
    """Give back to the small voxels what their measured ones lack beyond noise, in place.

    What a measured voxel lacks in all volumes together tells how much of it is no noise: so much of it is
    given back (a Landweber step with Stein's shrinkage), and widens the standard deviation.

    Returns:
        What the measured voxels lack before and after, over their noise, and the share of voxels held.
    """
    count = len(job.shells)
    square: NDArray[np.floating] = np.zeros(job.brain.shape, np.float32)
    for v in range(count):
        square = square + (_lacking(job, out, v) / _noise(job, v)) ** 2 / count
    before = float(square[job.brain].mean())
    gain = np.clip(1 - 1 / np.maximum(square, 1e-6), 0, 1) * job.brain
    after = 0.0
    for v in range(count):
        change = job.operator.spread(_lacking(job, out, v) * gain) * job.scale * job.mask
        image, error = volume_of(out, v).copy(), volume_of(std, v).copy()
        image[job.box] = np.maximum(image[job.box] + change, 0)
        error[job.box] = np.hypot(error[job.box], change)
        put_volume(out, v, image)
        put_volume(std, v, error)
        after += float(((_lacking(job, out, v) / _noise(job, v))[job.brain] ** 2).mean()) / count
    return {
        "ResidualBefore": round(before**0.5, 3), "ResidualAfter": round(after**0.5, 3),
        "HeldShare": round(float((gain[job.brain] > 0.1).mean()), 3),
    }  # fmt: skip


def volume_of(data: NDArray[np.float32] | Series, volume: int) -> NDArray[np.float32]:
    """One volume, in memory or from disk."""
    return data[..., volume] if isinstance(data, np.ndarray) else data.volume(volume)


def _noise(job: Measured, volume: int) -> NDArray[np.float32]:
    return job.noise if job.noise.ndim == 3 else job.noise[..., volume]


def _lacking(job: Measured, out: Room, volume: int) -> NDArray[np.float32]:
    """What was measured less what the small voxels give, of one volume, over the scale."""
    image = volume_of(out, volume)[job.box] / job.scale
    # Outside of the mask there are measured values only.
    full = np.where(job.mask, image, along(job.linear, job.raw[..., volume]))
    return np.asarray((job.raw[..., volume] - job.operator.measured(full)) * job.brain, np.float32)


def _levels(b: NDArray[np.float64]) -> dict[float, list[int]]:
    """Volumes by b, rounded so that a shell's are mixed alike."""
    made: dict[float, list[int]] = {}
    for volume, value in enumerate(b):
        made.setdefault(0.0 if value == 0 else max(round(float(value), 1), 0.1), []).append(volume)
    return made


def _part(dwi: DWI, crop: Box) -> NDArray[np.float32]:
    return np.nan_to_num(np.asarray(dwi.data[crop], dtype=np.float32))
