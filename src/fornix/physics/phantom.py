"""A simulated scan with its truth: anatomy, protocol, scanner and noise put together."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray

from fornix.core.compute import pick_device, use_threads
from fornix.core.dwi import DWI
from fornix.core.errors import FornixError
from fornix.core.gradients import Gradients
from fornix.core.maps import Maps
from fornix.physics import noise as noises
from fornix.physics import truth as truths
from fornix.physics.anatomy import Anatomy, embedded, with_lesions
from fornix.physics.noise import Noise
from fornix.physics.protocol import scheme
from fornix.physics.scanner import Artefacts, ArtefactTruth, apply, plan, preset
from fornix.physics.tissue import Tissue, signal


@dataclass(frozen=True, eq=False)
class Phantom:
    """A scan and everything that is true about it.

    Attributes:
        dwi: The scan as a user would get it, without mask, its gradient table as the scanner wrote it.
        truth: True maps (see `truth.maps`).
        mask: (X, Y, Z) bool, the brain.
        clean: (X, Y, Z, N) signal of the motionless head without noise or artefacts.
        sigma: (X, Y, Z) noise standard deviation of one real channel, in units of the data.
        artefact_truth: What the scanner did.
        anatomy: The head, None for single voxels.
        tissue: The tissue of the mask's voxels, in C order.
    """

    dwi: DWI
    truth: Maps
    mask: NDArray[np.bool_]
    clean: NDArray[np.float32]
    sigma: NDArray[np.float32]
    artefact_truth: ArtefactTruth | None
    anatomy: Anatomy | None
    tissue: Tissue


def simulate(
    anatomy: str | Anatomy = "embedded",
    protocol: str | Gradients = "demo",
    snr: float = 30.0,
    *,
    coils: int = 1,
    noise: Noise | None = None,
    artefacts: str | Artefacts = "none",
    seed: int = 0,
    voxel_size: float = 2.5,
    lesions: int = 0,
    device: str | torch.device = "auto",
    threads: int | None = None,
) -> Phantom:
    """Simulate a whole-brain scan with known truth.

    Args:
        anatomy: `embedded`, or an `Anatomy` (its own grid is then used).
        protocol: A name in `protocol.SCHEMES`, or a gradient table.
        snr: White-matter signal at b = 0 over the noise's standard deviation; inf is no noise.
        coils: Number of coils for sum of squares; or the whole noise model, which then also holds snr
            and coils.
        noise: See `coils`.
        artefacts: `none`, `mild`, `typical`, `severe`, or an `Artefacts`.
        seed: Of everything random; the same seed gives the same bits for any number of threads.
        voxel_size: Of the embedded anatomy, mm.
        lesions: Number of white-matter lesions to put in, each second one with oedema.
        device: `auto`, `cpu` or `cuda`.
        threads: None leaves numba's and torch's numbers as they are.

    Raises:
        FornixError: For unknown names and impossible values.
    """
    gradients = scheme(protocol) if isinstance(protocol, str) else protocol
    model = Noise(snr=snr, coils=coils) if noise is None else noise
    wanted = preset(artefacts) if isinstance(artefacts, str) else artefacts
    where = pick_device(device)
    with use_threads(threads):
        head = _head(anatomy, voxel_size, seed)
        if lesions:
            head = with_lesions(head, lesions, seed=seed)
        tissue = head.tissue(device=where)
        planned = plan(wanted, gradients, head.mask, head.affine, seed=seed)
        clean = _on_grid(signal(tissue, gradients), head.mask)
        if planned.moves:
            moved = signal(tissue, planned.head_gradients(gradients))
            scanned, done = apply(_on_grid(moved, head.mask), planned)
            del moved
        else:
            scanned, done = apply(clean, planned)
        sigma = noises.sigma_map(model, head.grid, head.reference, seed).to(where)
        data = noises.add(scanned, sigma, model, seed)
        maps = truths.maps(tissue, head.mask, head.affine)
    dwi = DWI(data.cpu().numpy(), gradients, head.affine, stem="sub-phantom", meta=_meta(wanted))
    return Phantom(
        dwi, maps, head.mask, clean.cpu().numpy(), sigma.cpu().numpy(), done, head, tissue.to("cpu")
    )


def voxels(
    n: int,
    protocol: str | Gradients = "bench96",
    snr: float = 30.0,
    *,
    tissue: Tissue | None = None,
    coils: int = 1,
    seed: int = 0,
    dtype: torch.dtype = torch.float32,
) -> Phantom:
    """A phantom of n single voxels, (n, 1, 1, N), for tests and calibration.

    Args:
        n: How many voxels.
        protocol: Name of a scheme, or a gradient table.
        snr: White matter at b = 0 over the noise.
        tissue: What is in them; None draws it from `random_tissue`. S0 is 1000 unless the tissue says.
        coils: 1 is Rician, more is non-central chi.
        seed: Of all chance.
        dtype: Precision of the simulation; the scan itself is float32, `clean` too.
    """
    gradients = scheme(protocol) if isinstance(protocol, str) else protocol
    inside = random_tissue(n, seed=seed, dtype=dtype) if tissue is None else tissue
    if len(inside) != n:
        raise FornixError(f"{n} voxels were asked for, the tissue has {len(inside)}")
    if inside.s0 is None:
        inside = replace(inside, s0=torch.full((n,), 1000.0).to(inside.mu))
    model = Noise(snr=snr, coils=coils)
    mask = np.ones((n, 1, 1), bool)
    clean = signal(inside, gradients).reshape(n, 1, 1, len(gradients)).float()
    sigma = noises.sigma_map(model, (n, 1, 1), 1000.0, seed)
    data = noises.add(clean, sigma, model, seed)
    affine = np.diag([2.0, 2.0, 2.0, 1.0])
    maps = truths.maps(inside, mask, affine)
    dwi = DWI(data.numpy(), gradients, affine, stem="sub-phantom")
    return Phantom(dwi, maps, mask, clean.numpy(), sigma.numpy(), None, None, inside)


def random_tissue(n: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> Tissue:
    """N voxels of a broad prior: one to three populations, every dispersion, density and water.

    Free d_perp (not linked by tortuosity) in half of them; a tenth nearly free water. Broad on
    purpose: tests and trained estimators should meet what atlases do not hold.
    """
    draw = noises.stream(seed, 77)

    def uniform(low: float, high: float, *shape: int) -> torch.Tensor:
        return low + (high - low) * torch.rand(shape, generator=draw, dtype=torch.float64)

    mu = torch.nn.functional.normalize(
        torch.randn((n, 3, 3), generator=draw, dtype=torch.float64), dim=-1
    )
    count = torch.randint(1, 4, (n, 1), generator=draw)
    share = uniform(0.15, 1.0, n, 3) * (torch.arange(3) < count)
    share = share / share.sum(1, keepdim=True)
    odi = uniform(0.02, 0.75, n, 3) ** 1.3
    ndi = uniform(0.1, 0.9, n)
    d_par = uniform(1.2, 2.4, n)
    linked = d_par * (1 - ndi)
    free = torch.rand(n, generator=draw) < 0.5
    d_perp = torch.where(free, d_par * uniform(0.15, 0.8, n), linked)
    watery = torch.rand(n, generator=draw) < 0.1
    fwf = torch.where(watery, uniform(0.6, 1.0, n), uniform(0.0, 1.0, n) ** 3 * 0.6)
    return Tissue(mu, share, odi, ndi, fwf, d_par, d_perp).to(dtype=dtype)


def _head(anatomy: str | Anatomy, voxel_size: float, seed: int) -> Anatomy:
    if isinstance(anatomy, Anatomy):
        return anatomy
    if anatomy != "embedded":
        raise FornixError(
            f"there is no anatomy {anatomy!r}; use 'embedded', or anatomy.from_subject(folder)"
        )
    return embedded(voxel_size, seed)


def _on_grid(signals: torch.Tensor, mask: NDArray[np.bool_]) -> torch.Tensor:
    out = signals.new_zeros((*mask.shape, signals.shape[1]))
    out[torch.as_tensor(mask, device=signals.device)] = signals
    return out


def _meta(wanted: Artefacts) -> dict[str, object]:
    return {
        "Manufacturer": "Fornix simulator",
        "PhaseEncodingDirection": wanted.phase_encoding,
        "TotalReadoutTime": wanted.readout_time,
    }
