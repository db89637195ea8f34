"""How a scan was taken: from its sidecar, from what is given, and its reversed partner."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fornix.core.dwi import DWI
from fornix.core.errors import FornixError
from fornix.preprocess.phase_encoding import PhaseEncoding, phase_encoding_of

#: An axis of the reversed scan lies along one of the scan where they enclose less than this, degrees.
_TILT = 3.0


@dataclass(frozen=True, eq=False)
class T1:
    """An image of the head that EPI does not distort.

    Attributes:
        data: (X, Y, Z), any unit.
        affine: (4, 4) voxel to world, mm.
        name: Of its file.
    """

    data: NDArray[np.float32]
    affine: NDArray[np.float64]
    name: str = "T1"


@dataclass(frozen=True, eq=False)
class Acquisition:
    """What is known of how a scan was taken.

    Attributes:
        encoding: How EPI distorts it; None is not known.
        reversed_scan: A scan or b0s of the other phase direction.
        reversed_encoding: How that is distorted, in voxel axes of the scan; None is not known.
        slice_axis: Voxel axis along which slices lie.
        partial_fourier: Share of the phase-encoded lines that were measured, above 0.5 up to 1.
        doubts: What in the sidecar cannot be or speaks against a correction, one line each.
        interpolated: Why the images are taken for interpolated; empty where nothing says so.
        t1: From which the field is estimated where there is no reversed scan.
    """

    encoding: PhaseEncoding | None = None
    reversed_scan: DWI | None = None
    reversed_encoding: PhaseEncoding | None = None
    slice_axis: int = 2
    partial_fourier: float = 1.0
    doubts: tuple[str, ...] = ()
    interpolated: str = ""
    t1: T1 | None = None

    @property
    def tells_field(self) -> bool:
        """Whether there is anything from which the susceptibility field can be had."""
        return self.reversed_scan is not None or self.t1 is not None

    @classmethod
    def of(
        cls,
        dwi: DWI,
        reversed_scan: DWI | None = None,
        direction: str | None = None,
        readout_time: float | None = None,
    ) -> Acquisition:
        """What the sidecars say, and what is given in their place.

        Keys beside those of `phase_encoding_of`: SliceEncodingDirection, PartialFourier, and for
        interpolation Interpolation2D, AcquisitionMatrixPE with ReconMatrixPE.

        Args:
            dwi: The scan.
            reversed_scan: Its partner of the other phase direction.
            direction: Goes before PhaseEncodingDirection.
            readout_time: s, goes before the sidecar.

        Raises:
            FornixError: For what is given and cannot be, and for a partner that is tilted.
        """
        meta = dwi.meta
        encoding, doubts = _known(meta, direction, readout_time)
        other, partner = None, reversed_scan
        if partner is not None:
            other, more = _known(partner.meta, None, None)
            doubts += more
            other = None if other is None else in_axes_of(other, partner.affine, dwi.affine)
        word = str(meta.get("SliceEncodingDirection", "")).strip().rstrip("+-").lower()
        phase = None if encoding is None else encoding.axis
        slices = {"i": 0, "j": 1, "k": 2}.get(word, 1 if phase == 2 else 2)
        if slices == phase:
            slices = 1 if phase == 2 else 2
            doubts.append(
                f"the sidecar has slices and phase encoding along {'ijk'[phase]}: slices along "
                f"{'ijk'[slices]} are taken"
            )
        share = _number(meta.get("PartialFourier"))
        return cls(
            encoding, partner, other, slices, share if 0.5 < share <= 1 else 1.0, tuple(doubts),
            _interpolated(meta),
        )  # fmt: skip


def _known(
    meta: Mapping[str, Any], direction: str | None, readout_time: float | None
) -> tuple[PhaseEncoding | None, list[str]]:
    """The phase encoding; what a sidecar says that cannot be is a doubt, what is given an error."""
    try:
        return phase_encoding_of(meta, direction, readout_time), []
    except FornixError as error:
        if direction is not None or readout_time is not None:
            raise
        return None, [f"of the sidecar: {error}"]


def in_axes_of(
    encoding: PhaseEncoding, own: NDArray[np.float64], other: NDArray[np.float64]
) -> PhaseEncoding:
    """An encoding along a voxel axis of one affine as one along an axis of another.

    Raises:
        FornixError: No axis of the other lies along it.
    """
    way = own[:3, encoding.axis] / np.linalg.norm(own[:3, encoding.axis])
    along = way @ (other[:3, :3] / np.linalg.norm(other[:3, :3], axis=0))
    axis = int(np.argmax(np.abs(along)))
    if abs(along[axis]) < np.cos(np.radians(_TILT)):
        raise FornixError(
            f"the reversed scan is tilted against the scan by more than {_TILT:g} degrees: its distortion "
            "runs along another line, so they are no pair"
        )
    return replace(encoding, axis=axis, sign=encoding.sign * int(np.sign(along[axis])))


def _interpolated(meta: Mapping[str, Any]) -> str:
    acquired, made = (_number(meta.get(k)) for k in ("AcquisitionMatrixPE", "ReconMatrixPE"))
    if meta.get("Interpolation2D") in (True, 1, "true", "True"):
        return "the sidecar says that the scanner interpolated (Interpolation2D)"
    if acquired and made and acquired < 0.95 * made:
        return f"{made:g} lines were made of {acquired:g} (ReconMatrixPE, AcquisitionMatrixPE)"
    return ""


def _number(value: object) -> float:
    try:
        return float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return 0.0
