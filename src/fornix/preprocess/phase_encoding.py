"""Along which axis EPI distorts, in which sense and by how much, from a BIDS sidecar."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from fornix.core.errors import FornixError

#: Taken where a sidecar tells none, s: displacements do not depend on it, only what is written in Hz does.
USUAL_READOUT = 0.05


@dataclass(frozen=True)
class PhaseEncoding:
    """How a scan was read out.

    Attributes:
        axis: Voxel axis of phase encoding, 0 to 2.
        sign: 1 where a field above 0 Hz moves signal towards higher indices, -1 where lower, as in BIDS.
        readout_time: Total readout time, s: a field of 1/readout_time Hz moves signal by a voxel.
        known_sign: Whether the sidecar tells the sense; 1 is taken where not.
        known_time: Whether it tells the readout time.
    """

    axis: int
    sign: int = 1
    readout_time: float = USUAL_READOUT
    known_sign: bool = True
    known_time: bool = True

    @property
    def voxels_per_hz(self) -> float:
        """By how many voxels a field of 1 Hz moves signal along the axis."""
        return self.sign * self.readout_time

    @property
    def reversed(self) -> PhaseEncoding:
        """The same the other way."""
        return PhaseEncoding(
            self.axis, -self.sign, self.readout_time, self.known_sign, self.known_time
        )

    def __str__(self) -> str:
        return "ijk"[self.axis] + ("-" if self.sign < 0 else "")


def phase_encoding_of(
    meta: Mapping[str, Any], direction: str | None = None, readout_time: float | None = None
) -> PhaseEncoding | None:
    """What a sidecar says, or what is given in its place; None where neither tells the axis.

    Args:
        meta: Of the sidecar: PhaseEncodingDirection (`j`, `j-`), or PhaseEncodingAxis, which leaves the
            sense open; TotalReadoutTime, or EffectiveEchoSpacing with ReconMatrixPE, or
            EstimatedTotalReadoutTime (Philips by dcm2niix).
        direction: As PhaseEncodingDirection; goes before the sidecar.
        readout_time: s; goes before the sidecar.

    Raises:
        FornixError: For a direction or a time that cannot be.
    """
    told = direction or meta.get("PhaseEncodingDirection")
    word = told or meta.get("PhaseEncodingAxis")
    if word is None:
        return None
    text = str(word).strip().lower()
    axis = {"i": 0, "j": 1, "k": 2, "x": 0, "y": 1, "z": 2}.get(text.rstrip("+-"))
    if axis is None or len(text) > 2:
        raise FornixError(
            f"the phase-encoding direction {word!r} is none of i, i-, j, j-, k, k-; "
            "give --phase-encoding"
        )
    time = readout_time if readout_time is not None else _readout_time(meta)
    if time is not None and not 0 < time < 1:
        raise FornixError(
            f"a total readout time of {time} s cannot be (usual is 0.02 to 0.1); give --readout-time in s"
        )
    return PhaseEncoding(
        axis,
        -1 if text.endswith("-") else 1,
        USUAL_READOUT if time is None else time,
        told is not None,
        time is not None,
    )


def _readout_time(meta: Mapping[str, Any]) -> float | None:
    for key in ("TotalReadoutTime", "EstimatedTotalReadoutTime"):
        if _number(meta.get(key)):
            return float(meta[key])
    spacing, lines = meta.get("EffectiveEchoSpacing"), meta.get("ReconMatrixPE")
    if _number(spacing) and _number(lines):
        return float(spacing) * (int(lines) - 1)  # type: ignore[arg-type]
    return None


def _number(found: object) -> bool:
    return isinstance(found, (int, float)) and not isinstance(found, bool) and found > 0
