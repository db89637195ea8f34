"""Handing a scan to DIPY: its gradient table, in world axes unless asked otherwise."""

from __future__ import annotations

from typing import Any

from fornix.core.gradients import Gradients


def gradient_table(gradients: Gradients) -> Any:
    """DIPY's GradientTable with our b-values, our world directions and our rule for what a b0 is."""
    from dipy.core.gradients import gradient_table as make

    return make(
        gradients.bvals.copy(),
        bvecs=gradients.directions.copy(),
        b0_threshold=gradients.b0_threshold,
        atol=0.05,
    )
