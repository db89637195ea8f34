"""What the networks estimate, and how a network's numbers become values that are possible.

Every metric is an output of its own, with its own spread: none is derived from an averaged tensor.
"""

from __future__ import annotations

import torch

#: Scalar metrics in the order of the networks' outputs, named as maps; diffusivities in µm²/ms.
METRICS = (
    "dti_fa", "dti_md", "dti_ad", "dti_rd",
    "dki_mk", "dki_ak", "dki_rk", "dki_kfa",
    "noddi_ndi", "noddi_odi", "noddi_fwf", "noddi_odiw",
)  # fmt: skip
#: How many of them, the first, start from the tensor fit's value.
ANCHORED = 4
#: Largest possible value; 0 is the smallest of all.
UPPER = {
    "dti_fa": 1.0, "dti_md": 4.0, "dti_ad": 5.0, "dti_rd": 4.0,
    "dki_mk": 5.0, "dki_ak": 5.0, "dki_rk": 10.0, "dki_kfa": 1.0,
    "noddi_ndi": 1.0, "noddi_odi": 1.0, "noddi_fwf": 1.0,
    "noddi_odiw": 1.0,
}  # fmt: skip
#: Standard deviation of each over the training voxels, roughly: the scale of its output.
SPREAD = (0.2, 0.35, 0.45, 0.35, 0.35, 0.25, 0.6, 0.2, 0.2, 0.2, 0.25, 0.15)
#: Smallest standard deviation that is ever given, as a share of `SPREAD`.
SMALLEST_STD = 0.01


def upper(like: torch.Tensor) -> torch.Tensor:
    """(M,) largest values."""
    return torch.tensor([UPPER[name] for name in METRICS]).to(like)


def spread(like: torch.Tensor) -> torch.Tensor:
    """(M,) scales."""
    return torch.tensor(SPREAD).to(like)


def linked(
    raw: torch.Tensor, log_std: torch.Tensor, anchor: torch.Tensor, anchor_std: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Means and standard deviations (n, M) from a network's raw outputs (n, M) each.

    Args:
        raw: (n, M) raw outputs for the means.
        log_std: (n, M) raw outputs for the standard deviations.
        anchor: (n, ANCHORED) the tensor fit's values and standard deviations: those metrics are the fit
            plus a correction in units of its uncertainty, so that a certain fit is kept. The others are
            0 to their largest value through a sigmoid or softplus.
        anchor_std: See `anchor`.
    """
    scale = spread(raw)
    reach = (anchor_std.square() + (0.1 * scale[:ANCHORED]).square()).sqrt()
    reach = torch.minimum(reach, 2 * scale[:ANCHORED])
    fitted = anchor + reach * raw[:, :ANCHORED]
    free = raw[:, ANCHORED:]
    kurtosis = torch.nn.functional.softplus(free[:, :3])
    shares = torch.sigmoid(free[:, 3:])
    mean = torch.cat([fitted, kurtosis, shares], 1)
    std_scale = torch.cat([reach, scale[ANCHORED:].expand(len(raw), -1)], 1)
    std = std_scale * torch.exp(log_std.clamp(-5, 2)) + SMALLEST_STD * scale
    return mean, std


def mixed(
    anchor: torch.Tensor, anchor_std: torch.Tensor, logits: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """One anchor (n, ANCHORED) and its standard deviation from several (n, S, ANCHORED), weighted by
    the softmax of logits (n, S * ANCHORED) over S.
    """
    share = torch.softmax(logits.unflatten(1, anchor.shape[1:]), 1)
    return (share * anchor).sum(1), (share * anchor_std).sum(1)


def possible(mean: torch.Tensor) -> torch.Tensor:
    """Means inside their range."""
    return torch.minimum(mean.clamp(min=0), upper(mean))
