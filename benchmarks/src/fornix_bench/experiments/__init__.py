"""The experiments of the review: each is one function that writes a page, a table and figures."""

from collections.abc import Callable
from typing import Any

from fornix_bench.experiments.calibration import run_calibration
from fornix_bench.experiments.context import run_context
from fornix_bench.experiments.losses import run_losses
from fornix_bench.experiments.mlp_dti6 import run_mlp_dti6
from fornix_bench.experiments.ood import run_ood

#: What `fornix experiment` knows, by name.
EXPERIMENTS: dict[str, Callable[..., Any]] = {
    "mlp-dti6": run_mlp_dti6,
    "context": run_context,
    "losses": run_losses,
    "ood": run_ood,
    "calibration": run_calibration,
}

__all__ = [
    "EXPERIMENTS", "run_calibration", "run_context", "run_losses", "run_mlp_dti6", "run_ood",
]  # fmt: skip
