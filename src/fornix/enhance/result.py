"""What enhancement returns, and room for it in memory or on disk."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fornix.core.dwi import DWI
from fornix.core.series import Series

#: Enhanced scans that take more than this stay on disk, bytes.
IN_MEMORY = 1 << 30


@dataclass(frozen=True, eq=False)
class Enhanced:
    """An enhanced scan.

    Attributes:
        dwi: Zero outside the mask; its noise level is that of a volume's noise as it came through.
        std: (X, Y, Z, N) standard deviation of each value against the signal without noise.
        method: With the weights that made it.
        details: More of what the sidecar says.
    """

    dwi: DWI
    std: NDArray[np.float32] | Series
    method: str
    details: Mapping[str, Any] = field(default_factory=dict)


def room(shape: tuple[int, int, int, int]) -> NDArray[np.float32] | Series:
    """Zeros for a scan of this shape; on disk where it is large."""
    if 4 * int(np.prod(shape)) > IN_MEMORY:
        return Series(shape)
    return np.zeros(shape, dtype=np.float32)
