"""Smaller voxels than were measured: mixed by a network, and held to what was measured."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from scipy import ndimage

from fornix.core.compute import pick_device
from fornix.core.dwi import DWI
from fornix.core.errors import FornixError
from fornix.core.gradients import voxel_rotation
from fornix.core.grid import box_of
from fornix.core.series import Series, put_planes, put_volume
from fornix.enhance.result import Enhanced, room
from fornix.nets import weights
from fornix.nets.enhancement_net import (
    EnhancementNet,
    around,
    enhancement_channels,
    error_std,
    scan_facts,
)
from fornix.physics.point_spread import SAME, Grid, Measurement, axis_operator, centres
from fornix.preprocess.acquisition import Acquisition

NAME = "enhance"
#: Largest factor along an axis, and the least along at least one.
MOST, LEAST = 3.0, 1.25
#: Small voxels that are mixed at once; measured planes that the network sees at once, and around them.
_BLOCK, _PLANES, _HALO = 16_384, 24, 10
#: Measured voxels around the mask that are looked at.
_MARGIN = 5
Progress = Callable[[int, int], None]


@dataclass(frozen=True, eq=False)
class Carried:
    """Volumes that are mixed in place of the measured ones, on their grid: predicted at other gradients.

    Attributes:
        dwi: The volumes.
        std: (X, Y, Z, M) their standard deviation.
    """

    dwi: DWI
    std: NDArray[np.float32]


def sharpen(
    dwi: DWI,
    voxel_size: ArrayLike,
    *,
    carried: Carried | None = None,
    consistent: bool = True,
    device: str = "auto",
    progress: Progress | None = None,
) -> Enhanced:
    """The scan in smaller voxels.

    Args:
        dwi: The scan, with mask, noise level and at least one b0.
        voxel_size: mm, one number or three along the voxel axes.
        carried: What is mixed in place of the scan's own volumes; the scan tells how.
        consistent: Hold the result to what was measured.
        device: `auto`, `cpu` or `cuda`.
        progress: Called with (planes done, planes in all).

    Raises:
        FornixError: No b0, no noise level, no mask, or voxels that cannot be had from the measured ones.
    """
    fine = fine_grid(dwi, voxel_size)
    if dwi.sigma is None:
        raise FornixError(
            "the noise level is not known; call estimate_noise first, or give --sigma"
        )
    if not dwi.gradients.b0_mask.any() or dwi.gradients.b0_mask.all():
        raise FornixError(
            "enhancement in space needs a b0 and weighted volumes; this scan has only one kind of them"
        )
    if dwi.mask is None:
        raise FornixError("enhancement in space needs a brain mask; call brain_mask first")
    where = pick_device(device)
    shipped = weights.load(NAME)
    job = _Job.of(dwi, fine, carried)
    net = weights.fill(EnhancementNet.like(shipped.about["recipe"]), shipped).to(where)
    scales = shipped.groups["calibration"]["scale"].tolist()
    features = job.features(net, where)
    out, std = room((*fine.shape, len(job.shells))), room((*fine.shape, len(job.shells)))
    noise = np.zeros(fine.shape, dtype=np.float32)
    for first in range(0, fine.shape[0], 8):
        planes = slice(first, min(first + 8, fine.shape[0]))
        mixed, error, through = job.mix(net, features, planes, where, scales)
        put_planes(out, first, mixed)
        put_planes(std, first, error)
        noise[planes] = through
        if progress is not None:
            progress(planes.stop, fine.shape[0])
    details = job.facts(fine)
    if consistent:
        details |= job.hold_to_measured(out, std)
    source = dwi if carried is None else carried.dwi
    made = source.with_(
        data=out, affine=fine.affine, mask=job.mask, sigma=np.where(job.mask, noise, 0),
        stem=dwi.stem, meta=_meta(dwi),
    )  # fmt: skip
    return Enhanced(made, std, f"network ({shipped.label})", details)


def fine_grid(dwi: DWI, voxel_size: ArrayLike) -> Grid:
    """The grid of smaller voxels over the scan's field of view.

    Raises:
        FornixError: The size is no size, larger than the measured one, or beyond what is served.
    """
    size = np.asarray(voxel_size, dtype=np.float64).reshape(-1)
    if size.size not in (1, 3) or not np.isfinite(size).all() or (size <= 0).any():
        raise FornixError("the voxel size is one number of mm above 0, or three")
    size = np.broadcast_to(size, 3)
    factor = dwi.voxel_size / size
    measured = " x ".join(f"{v:.3g}" for v in dwi.voxel_size)
    if (factor < 1 - SAME).any():
        raise FornixError(
            f"voxels of {_listed(size)} mm are larger than the measured {measured} mm along an axis; "
            "enhancement makes smaller ones: give a size up to the measured one along each axis"
        )
    if factor.max() > MOST * (1 + SAME):
        least = _listed(np.ceil(100 * dwi.voxel_size / MOST) / 100)
        raise FornixError(
            f"voxels of {_listed(size)} mm are less than a third of the measured {measured} mm: "
            f"give {least} mm or more"
        )
    if factor.max() < LEAST * (1 - SAME):
        raise FornixError(
            f"voxels of {_listed(size)} mm are nearly those measured, {measured} mm: give a size smaller "
            f"by {LEAST:g} or more along an axis"
        )
    near = np.abs(factor - 1) < SAME
    return Grid(dwi.grid, dwi.affine).finer(np.where(near, dwi.voxel_size, size))


def profiles_of(dwi: DWI) -> tuple[tuple[str, str, str], tuple[float, float, float]]:
    """Profile and partial Fourier of each voxel axis, from the sidecar; slices along k if nothing is said."""
    known = Acquisition.of(dwi)
    kinds, shares = ["sinc"] * 3, [1.0] * 3
    kinds[known.slice_axis] = "slice"
    if known.encoding is not None and known.partial_fourier < 1:
        shares[known.encoding.axis] = known.partial_fourier
    return (kinds[0], kinds[1], kinds[2]), (shares[0], shares[1], shares[2])


def fine_mask(mask: NDArray[np.bool_], coarse: Grid, fine: Grid) -> NDArray[np.bool_]:
    """The mask in smaller voxels: where linear interpolation gives a half or more."""
    step = fine.voxel_size / coarse.voxel_size
    at = [centres(n, m, s)[0] for n, m, s in zip(coarse.shape, fine.shape, step)]
    found = ndimage.affine_transform(
        mask.astype(np.float32), step, at, output_shape=fine.shape, order=1, mode="nearest"
    )
    return np.asarray(found >= 0.5)


@dataclass(eq=False)
class _Job:
    """One scan on its way; what is measured is cropped to the mask with a margin."""

    crop: tuple[slice, slice, slice]
    channels: torch.Tensor
    facts_: torch.Tensor
    measured: NDArray[np.float32]  # (x, y, z, N) over the scale, of the crop
    told: NDArray[np.float32]  # (x, y, z) or (x, y, z, N) their noise
    shells: NDArray[np.float64]  # (N,) b, ms/µm², 0 for b0s
    mask: NDArray[np.bool_]  # (X, Y, Z) small voxels
    brain: NDArray[np.bool_]  # (x, y, z) measured voxels of the crop
    axes: list[NDArray[np.float64]]  # of each axis, where small voxels lie among the crop's
    step: torch.Tensor
    scale: float
    profiles: tuple[str, str, str]
    partial_fourier: tuple[float, float, float]
    coarse: Grid
    fine: Grid

    @classmethod
    def of(cls, dwi: DWI, fine: Grid, carried: Carried | None) -> _Job:
        coarse, brain = Grid(dwi.grid, dwi.affine), dwi.brain()
        crop = box_of(brain, (_MARGIN,) * 3)
        b0 = dwi.mean_b0()
        # Of a usual head's b0 the median lies between white and grey matter.
        scale = float(0.85 * np.median(b0[brain]))
        if not np.isfinite(scale) or scale <= 0:
            raise FornixError("the b0 is not positive in the mask; check the scan and the mask")
        signals = _part(dwi, crop) / scale
        sigma = np.broadcast_to(np.asarray(dwi.sigma, np.float32), dwi.grid)[crop] / scale
        sigma = np.clip(np.nan_to_num(sigma), 1e-4, 1).astype(np.float32)
        table = dwi.gradients
        b = torch.from_numpy(np.where(table.b0_mask, 0.0, table.b)).float()
        directions = torch.from_numpy(table.directions @ voxel_rotation(dwi.affine)).float()
        profiles, shares = profiles_of(dwi)
        step = torch.from_numpy(fine.voxel_size / coarse.voxel_size).float()
        is_b0 = torch.from_numpy(table.b0_mask.copy())
        channels = enhancement_channels(
            torch.from_numpy(signals), b, directions, is_b0, torch.from_numpy(sigma),
            torch.from_numpy(brain[crop]),
        )  # fmt: skip
        facts = scan_facts(b, is_b0, torch.from_numpy(coarse.voxel_size), step, profiles)
        told, mixed = sigma, table
        if carried is not None:
            signals, mixed = _part(carried.dwi, crop) / scale, carried.dwi.gradients
            told = np.asarray(carried.std[crop], np.float32) / scale
        axes = [
            centres(n, m, float(s)) - c.start
            for n, m, s, c in zip(coarse.shape, fine.shape, step.double().tolist(), crop)
        ]
        return cls(
            crop, channels, facts, signals.astype(np.float32), told,
            np.where(mixed.b0_mask, 0.0, mixed.b), fine_mask(brain, coarse, fine), brain[crop], axes,
            step, scale, profiles, shares, coarse, fine,
        )  # fmt: skip

    @torch.no_grad()
    def features(self, net: EnhancementNet, where: torch.device) -> torch.Tensor:
        """(x, y, z, hidden) of the crop's voxels, planes after planes."""
        made, count = [], self.channels.shape[1]
        for first in range(0, count, _PLANES):
            low, high = max(0, first - _HALO), min(count, first + _PLANES + _HALO)
            seen = self.channels[:, low:high].to(where)
            found = net.features(seen, self.facts_.to(where))
            made.append(found[first - low : first - low + _PLANES].cpu())
        return torch.cat(made)

    @torch.no_grad()
    def mix(
        self, net: EnhancementNet, features: torch.Tensor, planes: slice, where: torch.device,
        scales: list[float],
    ) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]:  # fmt: skip
        """Signals and standard deviations (n, Y, Z, N) of planes x, and noise that came through (n, Y, Z)."""
        inside = self.mask[planes]
        shape = (*inside.shape, len(self.shells))
        out, std = np.zeros(shape, np.float32), np.zeros(shape, np.float32)
        noise = np.zeros(inside.shape, np.float32)
        found = np.argwhere(inside)
        levels = _levels(self.shells)
        values, told = torch.from_numpy(self.measured), torch.from_numpy(self.told)
        for start in range(0, len(found), _BLOCK):
            at = found[start : start + _BLOCK]
            place = np.stack([a[i] for a, i in zip(self.axes, (at + [planes.start, 0, 0]).T)], 1)
            top = np.array(self.brain.shape) - 1
            voxels = np.clip(np.rint(place), 0, top).astype(np.int64)
            index = torch.from_numpy(voxels)
            offset = torch.from_numpy((place - voxels).clip(-0.5, 0.5)).float().to(where)
            mine = features[tuple(index.T)].to(where)
            level = told[tuple(index.T)]
            rows = tuple(at.T)
            for b, volumes in levels.items():
                weight, spread = (t.cpu() for t in net.mix(mine, offset, self.step.to(where), b))
                near = around(values[..., volumes], index)
                own = level if level.ndim == 1 else level[:, volumes]
                error = error_std(weight, spread, near, own) * scales[int(b > 0)]
                column = np.array(volumes)
                out[rows[0][:, None], rows[1][:, None], rows[2][:, None], column] = (
                    torch.einsum("nk,nkv->nv", weight, near).clamp(min=0).numpy() * self.scale
                )
                std[rows[0][:, None], rows[1][:, None], rows[2][:, None], column] = (
                    error.numpy() * self.scale
                )
                through = own if own.ndim == 1 else own.mean(1)
                share = len(volumes) / len(self.shells)
                noise[rows] += share * (through * weight.norm(dim=1)).numpy() * self.scale
        return out, std, noise

    def operator(self) -> Measurement:
        """From all small voxels to the crop's measured ones."""
        axes = [
            axis_operator(n, m, round(float(s), 6), kind, share)[c]
            for n, m, s, kind, share, c in zip(
                self.coarse.shape, self.fine.shape, self.fine.voxel_size / self.coarse.voxel_size,
                self.profiles, self.partial_fourier, self.crop,
            )
        ]  # fmt: skip
        return Measurement((axes[0], axes[1], axes[2]))

    def hold_to_measured(
        self, out: NDArray[np.float32] | Series, std: NDArray[np.float32] | Series
    ) -> dict[str, float]:
        """Give back to the small voxels what their measured ones lack beyond noise, in place.

        What a measured voxel lacks in all volumes together tells how much of it is no noise: so much of it is
        given back (a Landweber step with Stein's shrinkage), and widens the standard deviation.
        """
        operator, count = self.operator(), len(self.shells)
        told = self.told if self.told.ndim == 4 else self.told[..., None]
        square: NDArray[np.floating] = np.zeros(self.brain.shape, np.float32)
        for v in range(count):
            left = self._left(operator, out, v)
            square = square + (left / told[..., min(v, told.shape[3] - 1)]) ** 2 / count
        before = float(square[self.brain].mean())
        # Noise leaves a share of itself in the rest: the network averages it away.
        gain = np.clip(1 - _NOISE_LEFT / np.maximum(square, 1e-6), 0, 1) * self.brain
        after = 0.0
        for v in range(count):
            left = self._left(operator, out, v) * gain
            change = operator.spread(left) * self.scale * self.mask
            put_volume(out, v, np.maximum(_volume(out, v) + change, 0))
            put_volume(std, v, np.sqrt(_volume(std, v) ** 2 + (0.5 * change) ** 2))
            rest = self._left(operator, out, v) / told[..., min(v, told.shape[3] - 1)]
            after += float((rest[self.brain] ** 2).mean()) / count
        return {
            "ResidualBefore": round(before**0.5, 3), "ResidualAfter": round(after**0.5, 3),
            "HeldShare": round(float((gain[self.brain] > 0.1).mean()), 3),
        }  # fmt: skip

    def _left(
        self, operator: Measurement, out: NDArray[np.float32] | Series, volume: int
    ) -> NDArray[np.float32]:
        """What was measured less what the small voxels give, of one volume, over the scale."""
        # Outside of the mask there are measured values only.
        image = np.where(self.mask, _volume(out, volume) / self.scale, 0)
        full = image + np.where(self.mask, 0, self._interpolated(volume))
        rest = self.measured[..., volume] - operator.measured(full)
        return np.asarray(rest * self.brain, np.float32)

    def _interpolated(self, volume: int) -> NDArray[np.float32]:
        step = self.step.double().numpy()
        return np.asarray(
            ndimage.affine_transform(
                self.measured[..., volume], step, [a[0] for a in self.axes],
                output_shape=self.fine.shape, order=1, mode="nearest",
            )
        )  # fmt: skip

    def facts(self, fine: Grid) -> dict[str, object]:
        """For the sidecar."""
        return {
            "MeasuredVoxelSize": [round(float(v), 4) for v in self.coarse.voxel_size],
            "VoxelSize": [round(float(v), 4) for v in fine.voxel_size],
            "Profiles": list(self.profiles),
            "PartialFourier": list(self.partial_fourier),
        }


#: Share of the noise's variance that is left where the mixed voxels are right.
_NOISE_LEFT = 1.0


def _levels(b: NDArray[np.float64]) -> dict[float, list[int]]:
    """Volumes by b, rounded so that a shell's are mixed alike."""
    made: dict[float, list[int]] = {}
    for volume, value in enumerate(b):
        made.setdefault(0.0 if value == 0 else max(round(float(value), 1), 0.1), []).append(volume)
    return made


def _part(dwi: DWI, crop: tuple[slice, slice, slice]) -> NDArray[np.float32]:
    return np.nan_to_num(np.asarray(dwi.data[crop], dtype=np.float32))


def _volume(data: NDArray[np.float32] | Series, volume: int) -> NDArray[np.float32]:
    return data[..., volume] if isinstance(data, np.ndarray) else data.volume(volume)


def _listed(size: NDArray[np.float64]) -> str:
    values = [f"{v:.4g}" for v in size]
    return values[0] if len(set(values)) == 1 else " x ".join(values)


def _meta(dwi: DWI) -> dict[str, object]:
    """The sidecar without what held for the measured voxels."""
    gone = ("SliceThickness", "AcquisitionMatrixPE", "ReconMatrixPE", "BaseResolution")
    return {k: v for k, v in dwi.meta.items() if k not in gone}
