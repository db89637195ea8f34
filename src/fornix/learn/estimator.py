"""A trained network at work: signals of a protocol in, calibrated estimates out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from fornix.learn import weights as shipped
from fornix.learn.equivariant import Answer, Equivariant
from fornix.learn.features import eigen, extract
from fornix.learn.observe import Observed, Observer
from fornix.learn.targets import METRICS, possible, upper
from fornix.trust import Calibration, Evidence, Familiar, strata


@dataclass(frozen=True, eq=False)
class Estimates:
    """What is known of n voxels; diffusivities in µm²/ms, world axes.

    mean, std: (n, M) of `targets.METRICS`, possible values, calibrated spread. quantiles: by level,
    (n, M). tensor: (n, 6) positive semi-definite; tensor_std (n, 6). v1: (n, 3); v1_std (n, 3).
    z: (n, F) features of the signal without noise. surprise: (n, 4) see `trust.foreign`.
    """

    mean: NDArray[np.float32]
    std: NDArray[np.float32]
    quantiles: dict[float, NDArray[np.float32]]
    tensor: NDArray[np.float32]
    tensor_std: NDArray[np.float32]
    v1: NDArray[np.float32]
    v1_std: NDArray[np.float32]
    z: torch.Tensor
    surprise: NDArray[np.float32]


class Estimator:
    """A shipped network with its calibration. name: of the weights."""

    def __init__(self, name: str, device: torch.device) -> None:
        self.weights = shipped.load(name)
        network = shipped.network(self.weights)
        assert isinstance(network, Equivariant)
        self.network = network.to(device)
        self.calibration = Calibration.from_state(self.weights.groups["calibration"])
        self.familiar = Familiar.from_state(self.weights.groups["familiar"])

    @torch.inference_mode()
    def population(
        self, observer: Observer, some: Observed, around: tuple[Observed, ...] = ()
    ) -> torch.Tensor:
        """What some of a scan's voxels, with their context, say of all of them."""
        known: torch.Tensor = self.network.population(extract(observer, some, around).invariants)
        return known

    @torch.inference_mode()
    def estimate(
        self,
        observer: Observer,
        seen: Observed,
        signals: NDArray[np.float32],
        scan: torch.Tensor,
        around: tuple[Observed, ...] = (),
        levels: Sequence[float] = (),
    ) -> Estimates:
        """Estimates of observed voxels; signals: (n, N) as measured; scan: `population` of the whole
        scan; around: their context."""
        answer, evidence = read(
            self.network, observer, seen, signals, scan, around, self.familiar.distance
        )
        stratum = strata(observer.gradients, seen.sigma.cpu().numpy())
        raw_mean, raw_std = answer.mean.cpu().numpy(), answer.std.cpu().numpy()
        top = upper(answer.mean).cpu().numpy()
        found = self.calibration.quantiles(raw_mean, raw_std, stratum, levels)
        tensor, v1, v1_std = _directions(answer)
        spread = np.repeat(answer.tensor_std.cpu().numpy()[:, None], 6, 1)
        return Estimates(
            mean=possible(answer.mean).cpu().numpy(),
            std=self.calibration.scaled(raw_mean, raw_std, stratum),
            quantiles={q: np.clip(v, 0, top) for q, v in zip(levels, found)},
            tensor=tensor,
            tensor_std=spread,
            v1=v1,
            v1_std=v1_std,
            z=answer.z,
            surprise=self.familiar.surprise(evidence, stratum),
        )


def read(
    network: torch.nn.Module,
    observer: Observer,
    seen: Observed,
    signals: NDArray[np.float32],
    scan: torch.Tensor,
    around: tuple[Observed, ...] = (),
    distance: object = None,
) -> tuple[Answer, Evidence]:
    """A network's answer and the evidence for or against it.

    scan: of `Population`, or invariants of some of the scan's voxels. distance: function of the
    invariants (n, F) that gives (n,); None leaves that evidence at 0.
    """
    features = extract(observer, seen, around)
    answer = network(features, scan)
    y = torch.as_tensor(signals, device=observer.device) / seen.scale[:, None]
    y = y.clamp(0, 5)
    predicted, std = observer.encoder.leave_one_out(y, seen.sigma)
    worst = ((y - predicted) / std).square().amax(1)
    own = observer.encoder.signal(answer.z, observer.gradients)
    residual = ((y - own) / seen.sigma[:, None]).square().mean(1)
    far = torch.zeros_like(worst) if distance is None else distance(features.invariants)  # type: ignore[operator]
    numbers = (far, seen.misfit, worst, residual)
    return answer, Evidence(*(v.cpu().numpy() for v in numbers))


def _directions(answer: Answer) -> tuple[NDArray, NDArray, NDArray]:
    """Positive tensors (n, 6), first directions (n, 3) and standard deviations of their elements.

    With E[v vᵀ] = D and its first eigenpair (l, u), the variance of v's elements about u is
    diag(D) - l u².
    """
    values, vectors = eigen(answer.tensor)
    made = (vectors * values.clamp(min=1e-3)[:, None, :]) @ vectors.transpose(1, 2)
    six = torch.stack(
        [made[:, 0, 0], made[:, 1, 1], made[:, 2, 2], made[:, 0, 1], made[:, 0, 2], made[:, 1, 2]],
        1,
    )
    values, vectors = eigen(answer.dyad)
    first, v1 = values[:, -1:].clamp(0, 1), vectors[:, :, -1]
    variance = (answer.dyad[:, :3] - first * v1.square()).clamp(min=1e-6, max=1 / 3)
    return six.cpu().numpy(), v1.cpu().numpy(), variance.sqrt().cpu().numpy()


#: Where each metric stands in `Estimates.mean`.
INDEX = {name: i for i, name in enumerate(METRICS)}
