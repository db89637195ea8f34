"""A trained microstructure network at work: a view of a scan in, calibrated estimates out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray

from fornix.nets import weights as shipped
from fornix.nets.build import build_network
from fornix.nets.encoding import EncodedVoxels, ProtocolEncoder
from fornix.nets.features import (
    Features,
    MicrostructureFeatures,
    eigen,
    microstructure_features,
)
from fornix.nets.microstructure_net import MicrostructureNet, MicrostructurePrediction
from fornix.nets.reference_b import TRAINED_B, tensor_change
from fornix.nets.scan_view import Rows, ScanView
from fornix.nets.targets import METRICS, possible, upper
from fornix.uncertainty.conformal import Calibration, strata
from fornix.uncertainty.fit_share import SHARES, fit_share, moved
from fornix.uncertainty.ood import Evidence, OODScorer
from fornix.uncertainty.shared_error import SharedError

#: Where each metric stands in `MicrostructureEstimates.mean`.
INDEX = {name: i for i, name in enumerate(METRICS)}
_MK = INDEX["dki_mk"]


@dataclass(frozen=True, eq=False)
class MicrostructureEstimates:
    """What is known of n voxels; diffusivities in µm²/ms, world axes.

    Attributes:
        mean: (n, M) of `targets.METRICS`, possible values.
        std: (n, M) calibrated standard deviations.
        quantiles: By level, (n, M).
        tensor: (n, 6) positive semi-definite; tensor_std: (n, 6).
        v1: (n, 3) first direction; v1_std: (n, 3).
        z: (n, F) q-space features of the signal without noise.
        ood: (n, 4) out-of-distribution scores, see `uncertainty.ood`.
        worst_volume: (n,) the volume that the others predict worst.
        stratum: (n,) of `conformal.strata`.
        parts: (n, SHARES, 3) of FA, MD, AD and RD: the tensor fit's share, what the network and the fit say.
    """

    mean: NDArray[np.float32]
    std: NDArray[np.float32]
    quantiles: dict[float, NDArray[np.float32]]
    tensor: NDArray[np.float32]
    tensor_std: NDArray[np.float32]
    v1: NDArray[np.float32]
    v1_std: NDArray[np.float32]
    z: torch.Tensor
    ood: NDArray[np.float32]
    worst_volume: NDArray[np.int64]
    stratum: NDArray[np.int64]
    parts: NDArray[np.float32]


class MicrostructureEstimator:
    """A shipped network with its calibration.

    Args:
        name: Of the weights.
        device: Where it runs.

    Raises:
        FornixError: The weights are missing, damaged or of another version.
    """

    def __init__(self, name: str, device: torch.device) -> None:
        self.weights = shipped.load(name)
        found = build_network(self.weights)
        assert isinstance(found, MicrostructureNet)
        self.network = found.to(device)
        self.calibration = Calibration.from_state(self.weights.groups["conformal"])
        self.shared = SharedError.from_state(self.weights.groups["shared"])
        self.scorer = OODScorer.from_state(self.weights.groups["ood"])

    @torch.inference_mode()
    def scan_code(self, typical: Features) -> torch.Tensor:
        """What some of a scan's voxels say of all of them: the `ScanEncoder`'s numbers (P,)."""
        code: torch.Tensor = self.network.scan_encoder(typical.invariants)
        return code

    @torch.inference_mode()
    def estimate(
        self,
        view: ScanView,
        rows: Rows,
        code: torch.Tensor,
        levels: Sequence[float] = (),
        reference_b: float = TRAINED_B,
    ) -> MicrostructureEstimates:
        """Estimates of some voxels of a scan.

        Args:
            view: The scan.
            rows: Which of its voxels.
            code: Of the whole scan, see `scan_code`.
            levels: Quantiles to give.
            reference_b: b-value that the tensor and its metrics describe, s/mm².
        """
        own, near = view.context(rows)
        prediction, evidence = predict_with_evidence(
            self.network, view.encoder, own, microstructure_features(view.encoder, own, near),
            view.signals(rows), code, self.scorer.distance,
        )  # fmt: skip
        stratum = strata(view.encoder.gradients, own.sigma.cpu().numpy())
        alone, near_reference = prediction.mean, view.encoder.near_reference
        prediction = with_fit(prediction, own, near_reference)
        mean = prediction.mean
        raw_mean, raw_std = mean.cpu().numpy(), prediction.std.cpu().numpy()
        top = upper(mean).cpu().numpy()
        found = self.calibration.quantiles(raw_mean, raw_std, stratum, levels)
        std = self.calibration.scaled(raw_mean, raw_std, stratum)
        if reference_b != TRAINED_B:
            change = tensor_change(view.encoder.qspace, prediction.z, reference_b)
            mean = torch.cat([mean[:, :4] + change.metrics, mean[:, 4:]], 1)
            prediction = replace(prediction, tensor=prediction.tensor + change.tensor)
            moved = change.metrics.cpu().numpy()
            doubt = std[:, _MK : _MK + 1] / np.maximum(raw_mean[:, _MK : _MK + 1], 0.1)
            std[:, :4] = np.hypot(std[:, :4], np.minimum(doubt, 1.0) * moved)
            for level in found:
                level[:, :4] += moved
        tensor, v1, v1_std = _directions(prediction)
        return MicrostructureEstimates(
            mean=possible(mean).cpu().numpy(),
            std=std,
            quantiles={q: np.clip(v, 0, top) for q, v in zip(levels, found)},
            tensor=tensor,
            tensor_std=np.repeat(prediction.tensor_std.cpu().numpy()[:, None], 6, 1),
            v1=v1,
            v1_std=v1_std,
            z=prediction.z,
            ood=self.scorer.ood_score(evidence, stratum),
            worst_volume=np.asarray(evidence.volume),
            stratum=stratum,
            parts=torch.stack(
                [fit_share(own.fit_std, near_reference), alone[:, :SHARES], own.fit[:, :SHARES]], 2
            ).cpu().numpy(),
        )  # fmt: skip


def with_fit(
    prediction: MicrostructurePrediction, own: EncodedVoxels, near_reference: bool
) -> MicrostructurePrediction:
    """A prediction moved to the voxels' own tensor fit by precision, see `uncertainty.fit_share`.

    The tensor goes as FA does. A fit at another b-value describes other sizes but the same direction.
    """
    share = fit_share(own.fit_std, near_reference)
    mean, std = moved(prediction.mean, prediction.std, own.fit, own.fit_std, share)
    first, turned = share[:, :1], fit_share(own.fit_std, True)[:, :1]
    v = eigen(own.tensor.contiguous())[1][:, :, 2]
    dyad = torch.stack(
        [v[:, i] * v[:, j] for i, j in ((0, 0), (1, 1), (2, 2), (0, 1), (0, 2), (1, 2))], 1
    )
    return replace(
        prediction,
        mean=mean,
        std=std,
        tensor=prediction.tensor + first * (own.tensor - prediction.tensor),
        dyad=prediction.dyad + turned * (dyad - prediction.dyad),
    )


def predict_with_evidence(
    net: torch.nn.Module,
    encoder: ProtocolEncoder,
    own: EncodedVoxels,
    features: MicrostructureFeatures,
    signals: NDArray[np.float32] | torch.Tensor,
    code: torch.Tensor,
    distance: Callable[[torch.Tensor], torch.Tensor] | None = None,
) -> tuple[MicrostructurePrediction, Evidence]:
    """A network's prediction and the evidence for or against it.

    Args:
        net: A `MicrostructureNet`.
        encoder: Of the protocol.
        own: n voxels.
        features: What the network reads of them.
        signals: (n, N) as measured.
        code: Of the scan.
        distance: Of invariants (n, F) to the training's, (n,); None leaves that evidence at 0.
    """
    prediction = net(features, code)
    y = torch.as_tensor(signals, device=encoder.device) / own.scale[:, None]
    y = y.clamp(0, 5)
    predicted, std = encoder.qspace.leave_one_out(y, own.sigma)
    worst, volume = ((y - predicted) / std).square().max(1)
    modelled = encoder.qspace.signal(prediction.z, encoder.gradients)
    residual = ((y - modelled) / own.sigma[:, None]).square().mean(1)
    far = torch.zeros_like(worst) if distance is None else distance(features.invariants)
    numbers = (far, own.misfit, worst, residual)
    return prediction, Evidence(*(v.cpu().numpy() for v in (*numbers, volume)))


def _directions(prediction: MicrostructurePrediction) -> tuple[NDArray, NDArray, NDArray]:
    """Positive tensors (n, 6), first directions (n, 3) and standard deviations of their elements.

    With E[v vᵀ] = D and its first eigenpair (l, u), the variance of v's elements about u is
    diag(D) - l u².
    """
    values, vectors = eigen(prediction.tensor)
    matrix = (vectors * values.clamp(min=1e-3)[:, None, :]) @ vectors.transpose(1, 2)
    six = torch.stack(
        [matrix[:, i, j] for i, j in ((0, 0), (1, 1), (2, 2), (0, 1), (0, 2), (1, 2))], 1
    )
    values, vectors = eigen(prediction.dyad)
    first, v1 = values[:, -1:].clamp(0, 1), vectors[:, :, -1]
    variance = (prediction.dyad[:, :3] - first * v1.square()).clamp(min=1e-6, max=1 / 3)
    return six.cpu().numpy(), v1.cpu().numpy(), variance.sqrt().cpu().numpy()
