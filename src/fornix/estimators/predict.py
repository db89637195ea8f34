"""The signal at gradients that were not measured: resampling a scan to another protocol."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray

from fornix.core.compute import blocks, pick_device, use_threads
from fornix.core.dwi import DWI
from fornix.core.errors import FornixError
from fornix.core.gradients import Gradients
from fornix.core.maps import Map
from fornix.core.methods import Method, MethodTable
from fornix.estimators.microstructure_learned import context_attention, read_scan
from fornix.estimators.mixture import mixture_of, signals_of
from fornix.nets.features import microstructure_features
from fornix.nets.microstructure_estimator import MicrostructureEstimator
from fornix.nets.scan_view import ScanView
from fornix.preprocess.noise import noise_of_voxels
from fornix.preprocess.noise_correlation import noise_correlation
from fornix.qspace.encoder import Encoder

_BLOCK = 16_384

Progress = Callable[[int, int], None]
#: Values and standard deviations (voxels, M) in units of the data, the method with its weights, details.
_Predicted = tuple[NDArray[np.float32], NDArray[np.float32], str, dict[str, object]]


def predict(
    dwi: DWI,
    gradients: Gradients,
    *,
    method: str = "auto",
    adapt: bool | None = None,
    threads: int | None = None,
    device: str = "auto",
    progress: Progress | None = None,
) -> tuple[DWI, Map]:
    """Predict a scan at other gradients from the measured ones.

    Args:
        dwi: The scan, with its noise level (`estimate_noise`) and at least one b0.
        gradients: Any b up to 6000 s/mm² and any directions, world axes.
        method: An entry of `PREDICT_METHODS`; `auto` is `learned`. `encoder` is the Gaussian process alone,
            the others are the networks of `microstructure`.
        adapt: Fit to this scan first the prior's variances (`encoder`, whose default it is), or what a
            network takes the scan to be (`nets.adaptation`; not by default).
        threads: None leaves numba's and torch's numbers as they are.
        device: `auto`, `cpu` or `cuda`.
        progress: Called with (voxels done, voxels in all).

    Returns:
        The predicted scan (X, Y, Z, M) in units of the data, on the same grid, zero outside the mask, and a
        map of the standard deviation of each value (X, Y, Z, M), noise not included. For networks it is that
        of the Gaussian process on what they saw, which is on the safe side.

    Raises:
        FornixError: No b0, no noise level, or an unknown method.
    """
    entry = PREDICT_METHODS.named(method)
    if dwi.sigma is None:
        raise FornixError(
            "the noise level is not known; call estimate_noise first, or give --sigma"
        )
    with use_threads(threads):
        mean, std, label, details = entry.run(dwi, gradients, adapt, device, progress)
    values = dwi.unmask(mean)
    predicted = dwi.with_(data=values, gradients=gradients)
    spread = Map(
        "",
        "signal",
        values,
        dwi.affine,
        std=dwi.unmask(std),
        units="as the scan",
        method=label,
        description="signal predicted at other gradients, and its standard deviation",
        details=details,
    )
    return predicted, spread


def _by_encoder(
    dwi: DWI, gradients: Gradients, adapt: bool | None, device: str, progress: Progress | None
) -> _Predicted:
    signals, scale, sigma = normalised(dwi)
    encoder = Encoder(dwi.gradients, device=device)
    if adapt is not False:
        some = torch.from_numpy(_some_voxels(len(signals)))
        encoder = encoder.adapted(signals[some].to(encoder.device), sigma[some].to(encoder.device))
    mean = np.empty((len(signals), len(gradients)), dtype=np.float32)
    std = np.empty_like(mean)
    for part in blocks(len(signals), _BLOCK):
        posterior = encoder.encode(signals[part].to(encoder.device), sigma[part].to(encoder.device))
        value, spread = encoder.predict(posterior, gradients)
        assert spread is not None
        mean[part], std[part] = value.clamp(min=0).cpu().numpy(), spread.cpu().numpy()
        if progress is not None:
            progress(part.stop, len(signals))
    return mean * scale[:, None], std * scale[:, None], "encoder", {}


@torch.no_grad()
def _by_network(
    dwi: DWI,
    gradients: Gradients,
    adapt: bool | None,
    device: str,
    progress: Progress | None,
    *,
    name: str,
    weights: str,
) -> _Predicted:
    inside = np.flatnonzero(dwi.brain())
    where = pick_device(device)
    view = ScanView.of(
        dwi, inside, noise_of_voxels(dwi, inside), where, context_attention(weights),
        noise_correlation(dwi, inside),
    )  # fmt: skip
    estimator = MicrostructureEstimator(weights, where)
    estimates, _ = read_scan(
        view, estimator, _BLOCK, adapt=bool(adapt), progress=progress, keep_signal=True
    )
    code = estimator.scan_code(view.typical(microstructure_features))
    mixture = mixture_of(view, estimator.network, code)
    mean = np.zeros((len(inside), len(gradients)), dtype=np.float32)
    std = np.zeros_like(mean)
    qspace = view.encoder.qspace
    for rows, part in zip(view.blocks(_BLOCK), estimates, strict=True):
        own, near = view.context(rows)
        last = near[-1] if near else own
        _, spread = qspace.predict(qspace.shrink(last.projected, last.sigma), gradients)
        assert spread is not None
        found = mixture.mixed(signals_of(qspace, own, part.z, gradients), part.mean)
        value = found.clamp(min=0) * own.scale[:, None]
        mean[view.usable[rows]] = value.cpu().numpy()
        std[view.usable[rows]] = (spread * own.scale[:, None]).cpu().numpy()
    return mean, std, f"{name} ({estimator.weights.label})", mixture.details


def _network(name: str, weights: str, summary: str) -> Method:
    return Method(
        name, partial(_by_network, name=name, weights=weights), summary, "Fornix", weights=weights,
        whole_scan=True, raw_noise=True, adapts=True,
    )  # fmt: skip


PREDICT_METHODS = MethodTable(
    "predict",
    [
        _network("learned", "spatial", "network on a voxel and its like among the neighbours"),
        _network("voxelwise", "voxelwise", "network on each voxel alone"),
        Method(
            "encoder",
            _by_encoder,
            "Gaussian process on q-space alone, its covariance from simulated tissue",
            "after Rasmussen and Williams, Gaussian Processes, 2006",
            whole_scan=True,
            raw_noise=True,
            adapts=True,
        ),
    ],
)


def normalised(dwi: DWI) -> tuple[torch.Tensor, NDArray[np.float32], torch.Tensor]:
    """Signals over the mean b0.

    Args:
        dwi: The scan, with its noise level.

    Returns:
        Signals over the mean b0 (voxels, N), that scale (voxels,), and the noise over it (voxels,).

    Raises:
        FornixError: The scan has no b0.
    """
    if not dwi.gradients.b0_mask.any():
        raise FornixError("the encoder needs a b0 to scale the signal by; this scan has none")
    inside = np.flatnonzero(dwi.brain())
    sigma = noise_of_voxels(dwi, inside).astype(np.float32)
    data = dwi.signals()
    # Where the b0 drowns in noise there is nothing to scale by: a floor keeps the numbers finite.
    scale = np.maximum(data[:, dwi.gradients.b0_mask].mean(1), 2 * sigma)
    scale = np.where(scale > 0, scale, 1.0).astype(np.float32)
    relative = np.clip(sigma / scale, 1e-3, 1.0)
    values = np.clip(data / scale[:, None], 0, 5)
    return torch.from_numpy(values), scale, torch.from_numpy(relative.astype(np.float32))


def _some_voxels(count: int, most: int = 20_000) -> NDArray[np.int64]:
    """Voxels spread over the scan, the same every time."""
    return np.unique(np.linspace(0, count - 1, min(count, most)).astype(np.int64))
