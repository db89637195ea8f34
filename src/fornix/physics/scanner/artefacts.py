"""Which artefacts a simulated scanner has, and how strong."""

from __future__ import annotations

from dataclasses import dataclass

from fornix.core.errors import FornixError


@dataclass(frozen=True)
class Artefacts:
    """Strength of every artefact; the default is a perfect scanner.

    Attributes:
        phase_encoding: Voxel axis and sense as in BIDS, i, i-, j, j-, k or k-; slices lie along k
            (along j where k is phase-encoded).
        readout_time: Total readout time in s: a field of 1/readout_time Hz shifts by one voxel.
        field: Peak off-resonance of the susceptibility field in Hz, near the sinuses and ears.
        eddy: Hz at 100 mm from the centre that the linear eddy-current terms reach at b = 1000 s/mm².
        eddy_quadratic: Amplitude of the second-order terms relative to the linear ones.
        motion_mm: Standard deviation of head translation and rotation along the scan.
        motion_degrees: See `motion_mm`.
        dropout: Probability that a slice of a diffusion-weighted volume loses signal.
        spike: Probability that a slice of a volume holds a spike in k-space.
        gibbs: Fraction of k-space acquired in each in-plane direction, the rest zero-filled; 1 is off.
        partial_fourier: Fraction of phase-encoding lines acquired, one side missing; 1 is off.
        ghost: N/2 ghost amplitude relative to the image.
        bias: Relative amplitude of the receive field's smooth variation.
    """

    phase_encoding: str = "j"
    readout_time: float = 0.05
    field: float = 0.0
    eddy: float = 0.0
    eddy_quadratic: float = 0.3
    motion_mm: float = 0.0
    motion_degrees: float = 0.0
    dropout: float = 0.0
    spike: float = 0.0
    gibbs: float = 1.0
    partial_fourier: float = 1.0
    ghost: float = 0.0
    bias: float = 0.0

    def __post_init__(self) -> None:
        if self.phase_encoding not in ("i", "i-", "j", "j-", "k", "k-"):
            raise FornixError(
                f"phase_encoding is one of i, i-, j, j-, k, k-, not {self.phase_encoding!r}"
            )
        for name in ("field", "eddy", "eddy_quadratic", "motion_mm", "motion_degrees", "bias"):
            if getattr(self, name) < 0:
                raise FornixError(f"artefact {name} must be 0 or more, not {getattr(self, name)}")
        if not 0 < self.readout_time <= 0.5:
            raise FornixError(
                f"readout_time is in seconds, 0 to 0.5 (0.05 is usual), not {self.readout_time}"
            )
        if not 0.5 <= self.gibbs <= 1 or not 0.5 < self.partial_fourier <= 1:
            raise FornixError("gibbs must lie in [0.5, 1] and partial_fourier in (0.5, 1]")
        if not 0 <= self.dropout <= 1 or not 0 <= self.spike <= 1:
            raise FornixError("dropout and spike must lie in [0, 1]")
        if not 0 <= self.ghost < 1 or self.bias >= 1:
            raise FornixError("ghost and bias must lie in [0, 1)")

    @property
    def phase_axis(self) -> int:
        """The phase-encoded voxel axis, 0 to 2."""
        return "ijk".index(self.phase_encoding[0])

    @property
    def slice_axis(self) -> int:
        """The voxel axis along which slices are stacked."""
        return 1 if self.phase_axis == 2 else 2

    @property
    def voxels_per_hz(self) -> float:
        """Shift along the phase-encoded axis per Hz, in voxels, sign included."""
        return -self.readout_time if self.phase_encoding.endswith("-") else self.readout_time


PRESETS: dict[str, Artefacts] = {
    "none": Artefacts(),
    "mild": Artefacts(
        field=30, eddy=3, motion_mm=0.3, motion_degrees=0.3, gibbs=0.95, ghost=0.01, bias=0.1
    ),
    "typical": Artefacts(
        field=60, eddy=8, motion_mm=0.8, motion_degrees=0.8, dropout=0.002, gibbs=0.9,
        partial_fourier=0.875, ghost=0.02, bias=0.25,
    ),
    "severe": Artefacts(
        field=100, eddy=20, motion_mm=2.5, motion_degrees=2.5, dropout=0.02, gibbs=0.85,
        partial_fourier=0.75, ghost=0.05, bias=0.4,
    ),
}  # fmt: skip


def preset(name: str) -> Artefacts:
    """The artefacts of this name; FornixError with the list of names where there is none."""
    if name not in PRESETS:
        raise FornixError(f"no artefact preset {name!r}; choose one of: {', '.join(PRESETS)}")
    return PRESETS[name]
