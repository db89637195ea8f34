"""The signal at gradients that were not measured: resampling a scan to another protocol."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch

from fornix.core.compute import blocks, pick_device, use_threads
from fornix.core.dwi import DWI
from fornix.core.errors import FornixError
from fornix.core.gradients import Gradients
from fornix.core.maps import Map
from fornix.qspace.encoder import Encoder

PREDICT_METHODS = ("learned", "voxelwise", "encoder")
_BLOCK = 16_384
_NO_NOISE = "the noise level is not known; call estimate_noise first, or give --sigma"


def predict(
    dwi: DWI,
    gradients: Gradients,
    method: str = "learned",
    *,
    adapt: bool | None = None,
    threads: int | None = None,
    device: str = "auto",
    progress: Callable[[int, int], None] | None = None,
) -> tuple[DWI, Map]:
    """Predict a scan at other gradients from the measured ones.

    dwi: with its noise level known (`estimate_noise`) and at least one b0. gradients: any b up to
    6000 s/mm² and any directions, world axes. method: `encoder`, the Gaussian process alone;
    `voxelwise` or `learned`, the networks of `microstructure`. adapt: fit to this scan first the
    prior's variances (`encoder`, whose default it is), or what a network takes the scan to be
    (`learn.adapt`; not by default).

    Returns the predicted scan (X, Y, Z, M) in units of the data, on the same grid, zero outside the
    mask, and a map of the standard deviation of each value (X, Y, Z, M), noise not included. For the
    networks it is that of the Gaussian process on what they saw, which is on the safe side.

    Raises FornixError without a b0 or a noise level, and for unknown methods.
    """
    if method not in PREDICT_METHODS:
        raise FornixError(
            f"no method {method!r} predicts signals; choose one of: {', '.join(PREDICT_METHODS)}"
        )
    if method != "encoder":
        return _by_network(dwi, gradients, method, bool(adapt), threads, device, progress)
    signals, scale, sigma = normalised(dwi)
    with use_threads(threads):
        encoder = Encoder(dwi.gradients, device=device)
        if adapt is not False:
            some = torch.from_numpy(_some_voxels(len(signals)))
            encoder = encoder.adapted(
                signals[some].to(encoder.device), sigma[some].to(encoder.device)
            )
        mean = np.empty((len(signals), len(gradients)), dtype=np.float32)
        std = np.empty_like(mean)
        for part in blocks(len(signals), _BLOCK):
            posterior = encoder.encode(
                signals[part].to(encoder.device), sigma[part].to(encoder.device)
            )
            value, spread = encoder.predict(posterior, gradients)
            assert spread is not None
            mean[part], std[part] = value.clamp(min=0).cpu().numpy(), spread.cpu().numpy()
            if progress is not None:
                progress(part.stop, len(signals))
    return _on_grid(dwi, gradients, mean * scale[:, None], std * scale[:, None], method)


def _by_network(
    dwi: DWI,
    gradients: Gradients,
    method: str,
    adapt: bool,
    threads: int | None,
    device: str,
    progress: Callable[[int, int], None] | None,
) -> tuple[DWI, Map]:
    from fornix.microstructure.learned import read_scan  # networks build on this encoder

    if dwi.sigma is None:
        raise FornixError(_NO_NOISE)
    inside = np.flatnonzero(dwi.brain())
    sigma = np.broadcast_to(np.asarray(dwi.sigma, dtype=np.float64), dwi.grid).reshape(-1)[inside]
    mean = np.zeros((len(inside), len(gradients)), dtype=np.float32)
    std = np.zeros_like(mean)
    with use_threads(threads), torch.no_grad():
        read = read_scan(
            dwi,
            method,
            sigma,
            inside,
            pick_device(device),
            adapted=adapt,
            progress=progress,
            whole=True,
        )
        start, encoder = 0, read.observer.encoder
        for seen, near, made in zip(read.seen, read.around, read.made, strict=True):
            rows = slice(start, start + len(seen.scale))
            start = rows.stop
            last = near[-1] if near else seen
            _, spread = encoder.predict(encoder.shrink(last.projected, last.sigma), gradients)
            assert spread is not None
            value = encoder.signal(made.z, gradients).clamp(min=0) * seen.scale[:, None]
            mean[read.good[rows]] = value.cpu().numpy()
            std[read.good[rows]] = (spread * seen.scale[:, None]).cpu().numpy()
    return _on_grid(dwi, gradients, mean, std, f"{method} ({read.estimator.weights.label})")


def _on_grid(
    dwi: DWI, gradients: Gradients, mean: np.ndarray, std: np.ndarray, method: str
) -> tuple[DWI, Map]:
    data = dwi.unmask(mean)
    made = dwi.with_(data=data, gradients=gradients)
    spread_map = Map(
        "",
        "signal",
        data,
        dwi.affine,
        std=dwi.unmask(std),
        units="as the scan",
        method=method,
        description="signal predicted at other gradients, and its standard deviation",
    )
    return made, spread_map


def normalised(dwi: DWI) -> tuple[torch.Tensor, np.ndarray, torch.Tensor]:
    """Signals over the mean b0 (voxels, N), that scale (voxels,), and the noise over it (voxels,)."""
    if not dwi.gradients.b0_mask.any():
        raise FornixError("the encoder needs a b0 to scale the signal by; this scan has none")
    if dwi.sigma is None:
        raise FornixError(_NO_NOISE)
    inside = dwi.brain()
    sigma = np.broadcast_to(np.asarray(dwi.sigma, dtype=np.float32), dwi.grid)[inside]
    data = dwi.signals()
    # Where the b0 drowns in noise there is nothing to scale by: a floor keeps the numbers finite.
    scale = np.maximum(data[:, dwi.gradients.b0_mask].mean(1), 2 * sigma)
    scale = np.where(scale > 0, scale, 1.0).astype(np.float32)
    relative = np.clip(sigma / scale, 1e-3, 1.0)
    values = np.clip(data / scale[:, None], 0, 5)
    return torch.from_numpy(values), scale, torch.from_numpy(relative.astype(np.float32))


def _some_voxels(count: int, most: int = 20_000) -> np.ndarray:
    """Voxels spread over the scan, the same every time."""
    return np.unique(np.linspace(0, count - 1, min(count, most)).astype(np.int64))
