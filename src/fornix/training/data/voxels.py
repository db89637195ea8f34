"""The endless stream of simulated voxels: random protocol, random noise, truth known."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from scipy.spatial.transform import Rotation

from fornix.core.gradients import Gradients
from fornix.nets.encoding import EncodedVoxels, ProtocolEncoder
from fornix.nets.targets import ANCHORED
from fornix.physics.protocol import SCHEMES, random_protocol, scheme
from fornix.physics.tissue import signal
from fornix.training.data.tissue import (
    TRAIN_SHIFT,
    SubjectShift,
    Voxels,
    anatomical_voxels,
    join,
    prior_voxels,
    source_anatomy,
)


@dataclass(frozen=True, eq=False)
class Batch:
    """Voxels as one protocol sees them, with their truth.

    Attributes:
        signals: (n, N) noisy, white matter at b = 0 near 1
        sigma: (n,) noise level as the method is given it, which may be wrong.
        sample_weight: (n, M) weight of each metric in the loss. held_out_gradients,
        held_out_clean: Other gradients and the signal (n, M) there, over the scale that `seen` holds.
    """

    encoder: ProtocolEncoder
    seen: EncodedVoxels
    voxels: Voxels
    signals: np.ndarray
    sigma: np.ndarray
    sample_weight: torch.Tensor
    held_out_gradients: Gradients
    held_out_clean: torch.Tensor


@dataclass(frozen=True)
class NoiseRange:
    """Noise that training meets: SNR log-uniform, the level given to the method wrong by
    exp(N(0, sigma_error)), a share `several` of scans from more than one coil.
    """

    snr: tuple[float, float] = (6.0, 80.0)
    sigma_error: float = 0.2
    several: float = 0.3
    most_coils: int = 6
    artefacts: float = 0.05

    def calibration_noise(self) -> NoiseRange:
        """Noise of which more comes from several coils, its level known worse."""
        return replace(self, several=0.6, sigma_error=1.25 * self.sigma_error)


def training_protocol(rng: np.random.Generator, few: float = 0.0) -> Gradients:
    """A protocol as labs use them: random, often of few directions at one shell, some of the names.

    Args:
        rng: Source of chance.
        few: Share of those of 6 to 14 directions, beside the few that chance gives.
    """
    while True:
        kind = rng.random()
        if kind < 0.3 + few:
            count = int(rng.integers(7, 16 if kind >= 0.3 else 34))
            made = random_protocol(rng, volumes=(7, count + 1), bmax=(700.0, 1500.0), max_shells=1)
        elif kind < 0.9:
            made = random_protocol(rng, bmax=(700.0, 4000.0))
        else:
            made = scheme(str(rng.choice([n for n in SCHEMES if n != "hcp"])))
            turn = Rotation.random(random_state=int(rng.integers(2**31))).as_matrix()
            made = made.rotated(turn)
        if not made.facts.why_not_dti:
            return made


class Protocols:
    """Random protocols, each given several times: to spread directions takes as long as to simulate."""

    def __init__(self, rng: np.random.Generator, times: int, few: float = 0.0) -> None:
        self._rng, self._times, self._few, self._given = rng, times, few, 0

    def next(self) -> Gradients:
        """The same as before, or a new one."""
        if self._given % self._times == 0:
            self._last = training_protocol(self._rng, self._few)
        self._given += 1
        return self._last


def with_artefacts(values: np.ndarray, noise: NoiseRange, rng: np.random.Generator) -> np.ndarray:
    """Signals (n, N) of which, in some scans, a volume or two of a few voxels lost signal or spiked."""
    if rng.random() >= noise.artefacts * 4:
        return values
    hit = np.asarray(rng.random(len(values)) < noise.artefacts)
    which = rng.integers(values.shape[1], size=(int(hit.sum()), 2))
    made = values.copy()
    made[np.flatnonzero(hit)[:, None], which] *= rng.uniform(0.3, 1.3, size=which.shape)
    return made


@dataclass(frozen=True)
class Conditions:
    """The noise of one scan: SNR of white matter at b = 0, number of coils (1 is Rician), by which
    factor the level given to the method is wrong, and the noise's correlation by interpolation (0 is none).
    """

    snr: float
    coils: int
    sigma_factor: float
    fwhm: float

    @staticmethod
    def draw(noise: NoiseRange, rng: np.random.Generator) -> Conditions:
        """Those of a random scan."""
        several = noise.most_coils > 1 and rng.random() < noise.several
        return Conditions(
            snr=float(np.exp(rng.uniform(*np.log(noise.snr)))),
            coils=int(rng.integers(2, noise.most_coils + 1)) if several else 1,
            sigma_factor=float(np.exp(rng.normal(0, noise.sigma_error))),
            fwhm=float(rng.uniform(0.6, 1.3)) if rng.random() < 0.3 else 0.0,
        )


def noisy(
    clean: torch.Tensor, noise: NoiseRange, scan: Conditions, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Magnitudes (n, N) with the noise of one scan, and the level (n,) as the method is given it."""
    n, volumes = clean.shape
    level = (np.exp(rng.normal(0, 0.15, n)) / scan.snr).astype(np.float32)
    values = with_artefacts(clean.numpy(), noise, rng)
    real = rng.standard_normal((n, volumes), dtype=np.float32) * level[:, None]
    real += values
    total = real * real
    rest = 2 * scan.coils - 1
    others = (
        np.square(rng.standard_normal((n, volumes), dtype=np.float32))
        if rest == 1
        else rng.chisquare(rest, (n, volumes)).astype(np.float32)
    )
    total += others * np.square(level)[:, None]
    sigma = level * scan.sigma_factor * np.exp(rng.normal(0, 0.05, n))
    return np.sqrt(total), sigma.astype(np.float32)


def held_out_gradients(rng: np.random.Generator, measured: Gradients, count: int = 12) -> Gradients:
    """Gradients to predict: half of them at the protocol's own b-values."""
    weighted = measured.bvals[~measured.b0_mask]
    b = np.where(
        rng.random(count) < 0.5, rng.choice(weighted, count), rng.uniform(200, 3500, count)
    )
    directions = rng.standard_normal((count, 3))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    return Gradients(b, directions)


class PriorBalancer:
    """Weights that flatten the prior: what a voxel of some true value counts for each metric.

    A posterior mean leans to where the prior is dense: with a prior that is flat in a metric it does
    not lean, so that white matter is not pulled to grey matter's anisotropy nor a lesion to the
    healthy value. The tensor's metrics, which every protocol determines, are flattened wholly; the
    others, of which few measurements tell little, less.
    """

    def __init__(self, metrics: torch.Tensor, bins: int = 24) -> None:
        """metrics: (n, M) true values as the stream draws them."""
        share = torch.tensor([0.5, 99.5]).double() / 100
        low, high = torch.quantile(metrics[:200_000].double(), share, dim=0).float()
        self._low, self._step = low, ((high - low) / bins).clamp(min=1e-6)
        place = self._place(metrics, bins)
        count = torch.zeros(bins, metrics.shape[1]).scatter_add_(0, place, torch.ones_like(metrics))
        power = torch.full((metrics.shape[1],), 0.25)
        power[:ANCHORED] = 1.0
        sample_weight = (count.mean(0) / count.clamp(min=1)).clamp(0.1, 10) ** power
        self._weight = sample_weight / (sample_weight * count).sum(0) * count.sum(0)

    def __call__(self, metrics: torch.Tensor) -> torch.Tensor:
        """(n, M) weights of mean about 1."""
        return self._weight.gather(0, self._place(metrics, len(self._weight)))

    def _place(self, metrics: torch.Tensor, bins: int) -> torch.Tensor:
        return ((metrics - self._low) / self._step).long().clamp(0, bins - 1)


class VoxelStream:
    """Batches of voxels of every kind, for voxel-wise networks.

    Args:
        folder: Of a subject's anatomy to draw half of the voxels from (see `anatomy.from_subject`);
            None takes the embedded one.
        size: Voxels kept in the bank.
        seed: Of everything.
        shift: How far heads differ.
    """

    def __init__(
        self,
        folder: str | Path | None,
        size: int = 240_000,
        seed: int = 0,
        noise: NoiseRange = NoiseRange(),
        device: str | torch.device = "auto",
        shift: SubjectShift = TRAIN_SHIFT,
    ) -> None:
        self.noise, self.device, self._seed, self._shift = noise, device, seed, shift
        self._rng = np.random.default_rng([seed, 505])
        self._source = source_anatomy(folder, seed)
        self._lots: list[tuple[Voxels, Voxels]] = []
        self._lot_size = size // 8
        self._made = 0
        for _ in range(8):
            self._lots.append(self._new_lot())
        self._balance = PriorBalancer(join([part for lot in self._lots for part in lot]).metrics)

    def _new_lot(self) -> tuple[Voxels, Voxels]:
        """Voxels of no place, and voxels of one head."""
        seed = 1000 * (self._seed + 1) + self._made
        self._made += 1
        half = self._lot_size // 2
        return prior_voxels(half, seed), anatomical_voxels(self._source, half, seed, self._shift)

    def renew(self) -> None:
        """Replace the oldest eighth of the bank."""
        self._lots = [*self._lots[1:], self._new_lot()]

    def batch(self, count: int, gradients: Gradients | None = None) -> Batch:
        """The next voxels, at a random protocol unless one is given: one population, with its own
        mix of a head's voxels and those of no place.
        """
        rng = self._rng
        share = float(rng.choice([rng.uniform(0, 0.5), rng.uniform(0.5, 1.0), 1.0]))
        some = round(share * count)
        voxels, head = self._lots[int(rng.integers(len(self._lots)))]
        parts = [
            part[torch.as_tensor(rng.integers(len(part), size=number))]
            for part, number in ((head, some), (voxels, count - some))
            if number
        ]
        voxels = join(parts)[torch.as_tensor(rng.permutation(count))]
        gradients = gradients or training_protocol(rng)
        return observed(voxels, gradients, self.noise, self._balance, rng, self.device)


def observed(
    voxels: Voxels,
    gradients: Gradients,
    noise: NoiseRange,
    balance: PriorBalancer,
    rng: np.random.Generator,
    device: str | torch.device = "auto",
) -> Batch:
    """Voxels seen through a protocol with noise; all of them turned by one random rotation."""
    turn = Rotation.random(random_state=int(rng.integers(2**31))).as_matrix()
    # Turning the protocol and not the tissue costs nothing: one rotation serves a whole batch.
    gradients = gradients.rotated(turn)
    there = held_out_gradients(rng, gradients)
    both = Gradients(
        np.concatenate([gradients.bvals, there.bvals]),
        np.concatenate([gradients.directions, there.directions]),
    )
    clean = signal(voxels.tissue, both)
    scan = Conditions.draw(noise, rng)
    signals, sigma = noisy(clean[:, : len(gradients)], noise, scan, rng)
    encoder = ProtocolEncoder(gradients, device)
    seen = encoder.encode(signals, sigma)
    held_out_clean = clean[:, len(gradients) :].to(encoder.device) / seen.scale[:, None]
    sample_weight = balance(voxels.metrics)
    return Batch(encoder, seen, voxels, signals, sigma, sample_weight, there, held_out_clean)
