"""What speaks for a tract in a voxel: where it usually lies, and how the fibres here run.

A logistic regression over a few features, with coefficients of each tract of its own where heads with known
tracts are there to learn from, and shared ones for all other tracts. It is calibrated, and its few numbers
cannot learn one head by heart.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fornix.io.files import atomic
from fornix.register.features import Features
from fornix.tracts.atlas import Tract

Array = NDArray[np.float32]

PATH = Path(__file__).parent / "evidence.json"
#: Columns of `evidence`.
FEATURES = (
    "constant", "usual place", "diffusion along the tract", "FA", "share of FA along the tract",
    "grey matter", "white matter", "fluid", "usual end", "usual end in grey matter",
)  # fmt: skip


@dataclass(frozen=True, eq=False)
class EvidenceModel:
    """Coefficients of the logistic regression.

    Attributes:
        shared: (len(FEATURES),) for tracts without their own.
        own: By tract, the same.
        threshold: Probability above which a voxel is the tract's, by tract; 0.45 for others.
        volume_error: Relative standard deviation of the expected volume over held-out heads, by tract.
        support: Mean of `support_of` over heads that have the tract whole, by tract.
        support_spread: Its standard deviation.
    """

    shared: NDArray[np.float64]
    own: Mapping[str, NDArray[np.float64]]
    threshold: Mapping[str, float]
    volume_error: Mapping[str, float]
    support: Mapping[str, float]
    support_spread: Mapping[str, float]

    def probability(self, name: str, features: Array) -> Array:
        """(n,) of each voxel, from `evidence` (n, F)."""
        odds = features @ self.own.get(name, self.shared)
        return np.asarray(1 / (1 + np.exp(-np.clip(odds, -30, 30))), np.float32)

    def threshold_of(self, name: str) -> float:
        """Probability above which a voxel counts as the tract's."""
        return self.threshold.get(name, 0.45)


def evidence(head: Features, tract: Tract) -> Array:
    """Features (n, 10) of the voxels where a carried tract may lie.

    Args:
        head: Of the scan.
        tract: On the scan's grid, from `carry`.
    """
    a = head.shape.reshape(6, -1).numpy()[:, tract.voxels]
    x, y, z = tract.direction.T
    diagonal = a[0] * x * x + a[1] * y * y + a[2] * z * z
    along = diagonal + 2 * (a[3] * x * y + a[4] * x * z + a[5] * y * z)
    fa = np.sqrt((a[:3] ** 2).sum(0) + 2 * (a[3:] ** 2).sum(0))
    tissue = head.tissue.reshape(6, -1).numpy()[:, tract.voxels]
    grey, white, fluid = tissue[0] + tissue[1], tissue[2], tissue[3]
    share = tract.share.clip(0.02, 0.98)
    end = tract.ends.max(1)
    columns = [
        np.ones_like(fa), np.log(share / (1 - share)), along, fa, along / (fa + 0.05), grey, white, fluid,
        end, end * grey,
    ]  # fmt: skip
    return np.asarray(np.stack(columns, 1), np.float32)


def support_of(head: Features, tract: Tract) -> float:
    """How well the fibres run along a tract in its core: mean diffusion along it, weighted by its share.

    With random fibres it is about 0, as the shape tensor has no trace.
    """
    along = evidence(head, tract)[:, 2]
    weight = np.maximum(tract.share - 0.4, 0)
    return float((weight * along).sum() / max(weight.sum(), 1e-6))


def save_model(model: EvidenceModel, path: Path = PATH) -> Path:
    """Write coefficients as text."""

    def rounded(values: NDArray[np.float64]) -> list[float]:
        return [round(float(v), 4) for v in values]

    def numbers(values: Mapping[str, float]) -> dict[str, float]:
        return {k: round(float(v), 4) for k, v in values.items()}

    content = {
        "features": list(FEATURES),
        "shared": rounded(model.shared),
        "own": {name: rounded(v) for name, v in model.own.items()},
        "threshold": numbers(model.threshold),
        "volume_error": numbers(model.volume_error),
        "support": numbers(model.support),
        "support_spread": numbers(model.support_spread),
    }
    with atomic(path) as temporary:
        temporary.write_text(json.dumps(content, indent=1) + "\n")
    return path


@lru_cache(maxsize=1)
def load_model(path: Path = PATH) -> EvidenceModel:
    """The coefficients that ship."""
    stored = json.loads(path.read_text())
    return EvidenceModel(
        np.array(stored["shared"]),
        {name: np.array(v) for name, v in stored["own"].items()},
        stored["threshold"],
        stored["volume_error"],
        stored["support"],
        stored["support_spread"],
    )
