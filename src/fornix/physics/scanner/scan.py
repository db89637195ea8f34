"""The simulated scanner: plan what goes wrong, then let it go wrong; both are kept."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage

from fornix.core.errors import FornixError
from fornix.core.gradients import Gradients
from fornix.physics.scanner.artefacts import Artefacts
from fornix.physics.scanner.fields import (
    EDDY_UNIT,
    eddy_coefficients,
    off_resonance,
    polynomials,
    receive_bias,
    world_grid,
)
from fornix.physics.scanner.kspace import in_kspace, touches_kspace
from fornix.physics.scanner.motion import random_motion, rotations, scanner_to_head
from fornix.physics.scanner.warp import inverse_along, sample, unfolded


@dataclass(frozen=True)
class Dropout:
    """One slice that lost signal: its volume, its index along the slice axis, what factor is left."""

    volume: int
    slice: int
    factor: float


@dataclass(frozen=True)
class Spike:
    """One bright point of k-space: its volume, slice, frequency (cycles over the field of view along the two
    axes of the slice) and size, as a share of the slice's mean signal in the brain.
    """

    volume: int
    slice: int
    frequency: tuple[int, int]
    share: float


@dataclass(frozen=True, eq=False)
class ArtefactTruth:
    """Everything the scanner does to a scan.

    Attributes:
        artefacts: The strengths asked for.
        affine: (4, 4)
        mask: (X, Y, Z) bool, the resting head's brain.
        field_map: (X, Y, Z) Hz, fixed to the scanner.
        eddy: (N, 10) Hz, coefficients of `fields.polynomials` of world coordinates from the grid's
            centre over 100 mm.
        motion: (N, 6) translation in mm and rotation vector in degrees, world axes, about `centre`: x'
            = R (x - centre) + centre + t.
        centre: (3,) mm.
        dropped: Slices that lost signal.
        spikes: Slices with a spike.
        bias: (X, Y, Z) receive field, on the distorted grid.
    """

    artefacts: Artefacts
    affine: NDArray[np.float64]
    mask: NDArray[np.bool_]
    field_map: NDArray[np.float32]
    eddy: NDArray[np.float64]
    motion: NDArray[np.float64]
    centre: NDArray[np.float64]
    dropped: tuple[Dropout, ...]
    spikes: tuple[Spike, ...]
    bias: NDArray[np.float32]

    @property
    def moves(self) -> bool:
        """Whether the head moves."""
        return bool((self.motion != 0).any())

    @property
    def rotations(self) -> NDArray[np.float64]:
        """(N, 3, 3) the head's rotation in each volume."""
        return rotations(self.motion)

    def head_gradients(self, gradients: Gradients) -> Gradients:
        """The table as the moved head feels it: each direction turned back by the head's rotation.

        This is also what a motion correction should write as the corrected table.
        """
        return gradients.rotated(self.rotations.transpose(0, 2, 1))

    def eddy_field(self, volume: int) -> NDArray[np.float32]:
        """The eddy-current field of one volume, (X, Y, Z) Hz."""
        grid = self.mask.shape
        points = world_grid(grid, self.affine)
        middle = self.affine[:3, :3] @ ((np.array(grid) - 1) / 2) + self.affine[:3, 3]
        terms = polynomials((points - middle) / EDDY_UNIT)
        return (terms @ self.eddy[volume]).astype(np.float32)

    def displacement(self, volume: int) -> NDArray[np.float32]:
        """Voxels by which the signal of one volume is moved along the phase-encoded axis, (X, Y, Z).

        Susceptibility and eddy currents together, exactly as applied; multiply by the voxel size
        for mm. Signal of true position y is found at y + displacement(y).
        """
        total = self.field_map + self.eddy_field(volume)
        shift = torch.as_tensor(total * np.float32(self.artefacts.voxels_per_hz))
        return unfolded(shift, self.artefacts.phase_axis).numpy()

    def head_coordinates(self, volume: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Where each voxel of one volume comes from: ((X, Y, Z, 3) voxels, (X, Y, Z) jacobian).

        The coordinates are in the resting head; the jacobian multiplies the intensity.
        """
        axis = self.artefacts.phase_axis
        source, rate = inverse_along(torch.as_tensor(self.displacement(volume)), axis)
        points = _indices(self.mask.shape)
        points[..., axis] = source.numpy()
        if self.moves:
            matrix = scanner_to_head(self.motion[volume], self.centre, self.affine)
            points = points @ matrix[:3, :3].T + matrix[:3, 3]
        return points.astype(np.float32), rate.numpy()


def plan(
    artefacts: Artefacts,
    gradients: Gradients,
    mask: NDArray[np.bool_],
    affine: NDArray[np.float64],
    seed: int = 0,
) -> ArtefactTruth:
    """Draw everything random about the artefacts of one scan; nothing is applied yet.

    The head-moved signal needs the motion before it can be computed: `head_gradients` gives the
    directions to simulate with, `apply` moves the result.
    """
    if not mask.any():
        raise FornixError("the mask is empty: there is nothing to scan")
    # One stream per artefact: switching one on does not change the others.
    streams = [np.random.default_rng([seed, 21, i]) for i in range(6)]
    centre = world_grid(mask.shape, affine)[mask].mean(0)
    return ArtefactTruth(
        artefacts=artefacts,
        affine=affine,
        mask=mask,
        field_map=off_resonance(artefacts.field, mask, affine, streams[0]),
        eddy=eddy_coefficients(artefacts.eddy, artefacts.eddy_quadratic, gradients, streams[1]),
        motion=random_motion(
            len(gradients), artefacts.motion_mm, artefacts.motion_degrees, streams[2]
        ),
        centre=centre,
        dropped=_dropped(artefacts, gradients, mask, streams[3]),
        spikes=_spikes(artefacts, gradients, mask, streams[5]),
        bias=receive_bias(artefacts.bias, mask, affine, streams[4]),
    )


def apply(signals: torch.Tensor, planned: ArtefactTruth) -> tuple[torch.Tensor, ArtefactTruth]:
    """The scan with its artefacts, and their truth.

    Args:
        signals: (X, Y, Z, N) of the resting head, simulated with `planned.head_gradients` where the
            head moves. Order: motion, distortion with eddy currents (jacobian included), bias, dropout,
            k-space, spikes.
        planned: The gradient table as it was asked for.
    """
    if signals.shape[:3] != planned.mask.shape or signals.shape[3] != len(planned.motion):
        raise FornixError(
            f"signals of shape {tuple(signals.shape)} do not fit artefacts planned for "
            f"{planned.mask.shape} and {len(planned.motion)} volumes"
        )
    wanted = planned.artefacts
    warps = bool(planned.moves or wanted.field or wanted.eddy)
    region = _reached(planned) if warps else planned.mask
    bias = torch.as_tensor(planned.bias).to(signals)
    left = _slice_factors(planned)
    out = torch.empty_like(signals)
    for v in range(signals.shape[3]):
        volume = signals[..., v].contiguous()
        if warps:
            points, rate = planned.head_coordinates(v)
            inside = torch.as_tensor(region, device=signals.device)
            values = sample(volume, torch.as_tensor(points[region]).to(signals))
            volume = torch.zeros_like(volume)
            # Cubic interpolation undershoots at edges; a magnitude is never negative.
            volume[inside] = (values * torch.as_tensor(rate[region]).to(signals)).clamp_min(0)
        if wanted.bias:
            volume = volume * bias
        if wanted.dropout:
            shape = [1, 1, 1]
            shape[wanted.slice_axis] = -1
            volume = volume * torch.as_tensor(left[v]).to(signals).reshape(shape)
        if touches_kspace(wanted):
            volume = in_kspace(volume, wanted)
        for spike in (s for s in planned.spikes if s.volume == v):
            _add_spike(volume, spike, planned)
        out[..., v] = volume
    return out, planned


def _slice_factors(planned: ArtefactTruth) -> NDArray[np.float32]:
    slices = planned.mask.shape[planned.artefacts.slice_axis]
    left = np.ones((len(planned.motion), slices), np.float32)
    for drop in planned.dropped:
        left[drop.volume, drop.slice] = drop.factor
    return left


def _hit(
    volumes: NDArray[np.int64], share: float, artefacts: Artefacts, mask: NDArray[np.bool_],
    rng: np.random.Generator,
) -> Iterator[tuple[int, int]]:  # fmt: skip
    """Volume and slice of those that a fault hits, each slice with some brain as likely as any other."""
    if share == 0:
        return
    others = tuple(a for a in range(3) if a != artefacts.slice_axis)
    filled = np.flatnonzero(mask.any(axis=others))
    for volume in volumes:
        for index in filled[rng.random(len(filled)) < share]:
            yield int(volume), int(index)


def _dropped(
    artefacts: Artefacts, gradients: Gradients, mask: NDArray[np.bool_], rng: np.random.Generator
) -> tuple[Dropout, ...]:
    weighted = np.flatnonzero(~gradients.b0_mask)
    hit = _hit(weighted, artefacts.dropout, artefacts, mask, rng)
    return tuple(Dropout(v, s, float(rng.uniform(0.1, 0.7))) for v, s in hit)


def _spikes(
    artefacts: Artefacts, gradients: Gradients, mask: NDArray[np.bool_], rng: np.random.Generator
) -> tuple[Spike, ...]:
    half = [mask.shape[a] // 2 for a in range(3) if a != artefacts.slice_axis]
    made = []
    for v, s in _hit(np.arange(len(gradients)), artefacts.spike, artefacts, mask, rng):
        # Away from the centre, where a spike is no more than a shade.
        place = [int(rng.integers(h // 6, h) * rng.choice([-1, 1])) for h in half]
        made.append(Spike(v, s, (place[0], place[1]), float(rng.uniform(0.1, 0.5))))
    return tuple(made)


def _add_spike(volume: torch.Tensor, spike: Spike, planned: ArtefactTruth) -> None:
    """The wave of one point of k-space on a slice, in place; the head's own signal is taken as real."""
    axis = planned.artefacts.slice_axis
    plane, brain = volume.select(axis, spike.slice), planned.mask.take(spike.slice, axis)
    level = plane[torch.as_tensor(brain, device=volume.device)].mean()
    x, y = (torch.arange(n, device=volume.device) / n for n in plane.shape)
    phase = 2 * torch.pi * (spike.frequency[0] * x[:, None] + spike.frequency[1] * y)
    wave = spike.share * level * torch.exp(1j * phase)
    plane.copy_((plane + wave).abs())


def _reached(planned: ArtefactTruth) -> NDArray[np.bool_]:
    """Voxels that signal can get to."""
    size = np.linalg.norm(planned.affine[:3, :3], axis=0).min()
    turn = np.radians(np.abs(planned.motion[:, 3:]).max()) * 100.0
    shifts = abs(planned.artefacts.voxels_per_hz) * (
        np.abs(planned.field_map[planned.mask]).max() + 4 * np.abs(planned.eddy).max()
    )
    reach = int(np.ceil((np.abs(planned.motion[:, :3]).max() + turn) / size + shifts)) + 2
    distance = ndimage.distance_transform_cdt(~planned.mask, metric="chessboard")
    return distance <= reach


def _indices(grid: tuple[int, ...]) -> NDArray[np.float64]:
    return np.stack(np.meshgrid(*[np.arange(n, dtype=float) for n in grid], indexing="ij"), -1)
