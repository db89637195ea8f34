"""Facts of a protocol, each computed once: what its gradient table can and cannot give.

Every refusal is a reason in words: it is what `fornix info` prints and what the error says.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from fornix.core.design import condition, kurtosis_design, tensor_design

#: Kurtosis biases the tensor above this b-value, s/mm²; volumes above are left out of a DTI fit.
DTI_BMAX = 1500.0
#: The kurtosis expansion needs diffusion weighting that makes it visible, s/mm².
DKI_BMAX_AT_LEAST = 1450.0
#: The largest b-value that networks and the q-space prior were made for, s/mm².
NETWORK_BMAX = 6000.0
#: Directions that kurtosis needs: of a fit, and of a network, which knows what tissue looks like.
_DKI_AXES, _DKI_AXES_NETWORK = 15, 6


@dataclass(frozen=True, eq=False)
class ProtocolFacts:
    """Of one gradient table; `Gradients.facts` holds it, so that nothing is computed twice.

    Attributes:
        bvals: (N,) s/mm².
        directions: (N, 3) unit vectors in world axes, zero where unknown.
        b0: (N,) which volumes are b0s.
        shells: mean b of each non-zero shell, s/mm², ascending.
        subset: Makes the facts of some of the volumes, given as a mask (N,).
    """

    bvals: NDArray[np.float64]
    directions: NDArray[np.float64]
    b0: NDArray[np.bool_]
    shells: tuple[float, ...]
    subset: Callable[[NDArray[np.bool_]], ProtocolFacts]

    @cached_property
    def tensor_design(self) -> NDArray[np.float64]:
        """(7, N), see `design.tensor_design`."""
        return tensor_design(self.bvals / 1000.0, self.directions)

    @cached_property
    def kurtosis_design(self) -> NDArray[np.float64]:
        """(22, N), see `design.kurtosis_design`."""
        return kurtosis_design(self.bvals / 1000.0, self.directions)

    @cached_property
    def tensor_condition(self) -> float:
        """Condition number of the tensor's design; inf where it does not determine a tensor."""
        return condition(self.tensor_design)

    @cached_property
    def axes(self) -> int:
        """Number of different axes among the weighted directions, a degree or more apart."""
        directions = self.directions[~self.b0]
        same = np.abs(directions @ directions.T) >= np.cos(np.radians(1.0))
        left = np.ones(len(directions), dtype=bool)
        count = 0
        for k in range(len(directions)):
            if left[k]:
                left &= ~same[k]
                left[k] = False
                count += 1
        return count

    @property
    def levels(self) -> int:
        """Number of different b-values, b0s counting as one."""
        return len(self.shells) + bool(self.b0.any())

    @cached_property
    def why_not_dti(self) -> str:
        """Empty where a tensor can be fitted, else the reason why not."""
        if self.axes == 0:
            return "there is no diffusion-weighted volume"
        if self.axes < 6:
            return f"a tensor needs 6 or more different directions, this scan has {self.axes}"
        if self.levels < 2:
            return (
                "a tensor needs a b0 or a second b-value, this scan has only "
                f"b={self.bvals.mean():.0f} s/mm²"
            )
        if not np.isfinite(self.tensor_condition):
            return (
                f"its {self.axes} directions lie so that a tensor is not determined (rank below 7)"
            )
        return ""

    @cached_property
    def why_not_dki(self) -> str:
        """Empty where the kurtosis tensor can be fitted, else the reason why not."""
        if reason := self._why_not_kurtosis(_DKI_AXES):
            return reason
        if not np.isfinite(condition(self.kurtosis_design)):
            return "its directions and b-values do not determine the 22 parameters (rank below 22)"
        return ""

    @cached_property
    def why_not_noddi(self) -> str:
        """Empty where all three NODDI parameters can be estimated, else the reason why not."""
        if len(self.shells) < 2:
            return (
                "NODDI needs two or more non-zero shells: with "
                f"{len(self.shells)} the free-water fraction cannot be separated from the neurite density"
            )
        if self.axes < 6:
            return f"NODDI needs 6 or more different directions, this scan has {self.axes}"
        if self.levels < 3:
            return "NODDI needs a b0 beside two shells, or a third shell; this scan has neither"
        return ""

    @cached_property
    def why_no_network(self) -> str:
        """Empty where a network can read the protocol, else the reason why not."""
        known = self.bvals <= NETWORK_BMAX
        if known.all():
            return self.why_not_dti
        reason = self.subset(known).why_not_dti if known.any() else "none is left"
        if not reason:
            return ""
        return (
            f"networks know b-values up to {NETWORK_BMAX:.0f} s/mm², and {int((~known).sum())} of the "
            f"{len(known)} volumes lie above (without them: {reason})"
        )

    def why_not(self, network: bool = False) -> dict[str, str]:
        """For each model (`dti`, `dki`, `noddi`): empty if this protocol gives it, else why not.

        Args:
            network: asked of a trained network, which needs fewer directions than a fit.
        """
        dki = self._why_not_kurtosis(_DKI_AXES_NETWORK) if network else self.why_not_dki
        return {"dti": self.why_not_dti, "dki": dki, "noddi": self.why_not_noddi}

    def tensor_volumes(self, bmax: float | None = DTI_BMAX) -> tuple[NDArray[np.bool_], str]:
        """Which volumes a tensor fit uses.

        Args:
            bmax: s/mm²; volumes above are left out where the others still give a well conditioned
                design. None uses all.

        Returns:
            A mask (N,), and a note where not all are used or where the limit could not be kept.
        """
        if bmax == DTI_BMAX:
            return self._default_tensor_volumes
        return self._tensor_volumes(bmax)

    @cached_property
    def _default_tensor_volumes(self) -> tuple[NDArray[np.bool_], str]:
        return self._tensor_volumes(DTI_BMAX)

    def _tensor_volumes(self, bmax: float | None) -> tuple[NDArray[np.bool_], str]:
        every = np.ones(len(self.bvals), dtype=bool)
        if bmax is None:
            return every, ""
        low = self.bvals <= bmax * 1.03  # scanners write 1503 for 1500
        if low.all():
            return every, ""
        part = self.subset(low)
        if not part.why_not_dti and part.tensor_condition <= max(20.0, 3.0 * self.tensor_condition):
            return low, (
                f"dti: fitted to the {int(low.sum())} of {len(low)} volumes with b <= {bmax:g} s/mm² "
                "(kurtosis biases the tensor above; dti_bmax changes this)"
            )
        return every, (
            f"dti: fitted to all volumes, up to b={self.bvals.max():.0f}: those with b <= {bmax:g} "
            "s/mm² alone do not give a well conditioned tensor"
        )

    def _why_not_kurtosis(self, axes: int) -> str:
        if len(self.shells) < 2:
            return f"kurtosis needs two or more non-zero shells, this scan has {len(self.shells)}"
        if self.shells[-1] < DKI_BMAX_AT_LEAST:
            return (
                "kurtosis needs b of about 1500 s/mm² or more, the largest shell is "
                f"b={self.shells[-1]:.0f}"
            )
        if self.axes < axes:
            different = "different " if axes > _DKI_AXES_NETWORK else ""
            return f"kurtosis needs {axes} or more {different}directions, this scan has {self.axes}"
        return ""
