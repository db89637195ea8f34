"""What a scan is and what can be made of it: the facts behind `fornix info` and the report."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import nibabel as nib
import numpy as np

from fornix.core.dwi import DWI
from fornix.core.errors import FornixError
from fornix.core.maps import Maps
from fornix.estimators.mask import brain_mask
from fornix.estimators.microstructure import microstructure
from fornix.numerics.directions import condition, largest_gap
from fornix.preprocess import estimate_noise, snr
from fornix.preprocess.findings import VolumeFinding
from fornix.preprocess.gradient_check import GradientCheck, check_gradients
from fornix.preprocess.volume_check import check_volumes


@dataclass(frozen=True)
class ShellFacts:
    """One shell. spread: condition number of its tensor design (1 is perfect, above 2 is poor, inf:
    too few); gap: largest angle to the nearest measured axis, degrees; snr: median in the brain.
    """

    b: float
    directions: int
    spread: float
    gap: float
    snr: float


@dataclass(frozen=True)
class ScanFacts:
    """Facts of one scan; `as_dict` for JSON, `lines` for people."""

    name: str
    grid: tuple[int, int, int]
    voxel_size: tuple[float, float, float]
    axes: str
    oblique: float
    b0: int
    shells: tuple[ShellFacts, ...]
    snr_b0: float
    sigma: float
    gradient_check: GradientCheck | None
    possible: dict[str, str]
    findings: tuple[VolumeFinding, ...]
    notes: tuple[str, ...]

    def as_dict(self) -> dict[str, Any]:
        """Plain numbers and text."""
        check = self.gradient_check
        return {
            "Name": self.name,
            "Grid": self.grid,
            "VoxelSizeMm": self.voxel_size,
            "Axes": self.axes,
            "ObliqueDegrees": self.oblique,
            "B0Volumes": self.b0,
            "Shells": [vars(s) for s in self.shells],
            "SnrB0": self.snr_b0,
            "NoiseSigma": self.sigma,
            "GradientCheck": None
            if check is None
            else {
                "Fits": check.right,
                "Verdict": check.verdict,
                "Best": check.best,
                "Summary": str(check),
            },
            "CanEstimate": self.possible,
            "OddVolumes": [vars(f) for f in self.findings],
            "Notes": list(self.notes),
        }

    def lines(self) -> list[tuple[str, str]]:
        """(label, text) pairs in reading order."""
        size = " x ".join(f"{v:.3g}" for v in self.voxel_size)
        axes = self.axes + (f", oblique by {self.oblique:.0f} degrees" if self.oblique > 1 else "")
        out = [
            ("scan", self.name),
            ("grid", f"{' x '.join(map(str, self.grid))} voxels of {size} mm, axes {axes}"),
            ("b0", f"{self.b0} volume{'s' if self.b0 != 1 else ''}, median SNR {self.snr_b0:.0f}"),
        ]
        for s in self.shells:
            quality = (
                "too few for a tensor" if not np.isfinite(s.spread)
                else "well spread" if s.spread < 1.6 else "unevenly spread" if s.spread < 3 else "poor"
            )  # fmt: skip
            out.append(
                (
                    f"b={s.b:.0f}",
                    f"{s.directions} directions, {quality} (condition {s.spread:.2f}, largest gap "
                    f"{s.gap:.0f} degrees), median SNR {s.snr:.1f}",
                )
            )
        out.append(
            (
                "gradients",
                "not checked" if self.gradient_check is None else str(self.gradient_check),
            )
        )
        for model, reason in self.possible.items():
            out.append((model, "yes" if not reason else f"no: {reason}"))
        return out


def describe(dwi: DWI, tensor: Maps | None = None) -> ScanFacts:
    """Shells, spread, noise, axes, gradient check and what can be estimated.

    The noise level, the mask and the tensor are estimated here where the scan has none yet. What
    fails on an unusual scan (no brain, too few directions) is left out and said in the notes.
    """
    notes = list(dwi.notes)
    if dwi.mask is None:
        dwi = _try(brain_mask, dwi, notes)
    if dwi.sigma is None:
        dwi = _try(estimate_noise, dwi, notes)
    possible = dwi.gradients.facts.why_not()
    findings = tuple(check_volumes(dwi))
    notes += [f.text for f in findings]
    check = None
    if tensor is None and not possible["dti"]:
        tensor = microstructure(dwi, models=("dti",), method="wls", std=False)
    if tensor is not None:
        inside = tensor["dti_fa"].data * dwi.brain()
        check = check_gradients(tensor["dti_v1"].data, inside, dwi.affine)
        if not check.right:
            notes.append(f"gradients: {check}")
    brain = dwi.brain()
    sigma = None if dwi.sigma is None else np.broadcast_to(np.asarray(dwi.sigma), dwi.grid)[brain]
    shells = []
    for s in dwi.gradients.shells:
        directions = dwi.gradients.directions[list(s.volumes)]
        mean = dwi.mean_of(s.volumes, brain)[brain]
        level = float(np.median(mean / np.maximum(sigma, 1e-12))) if sigma is not None else np.nan
        shells.append(
            ShellFacts(round(s.b, 1), len(s), condition(directions), largest_gap(directions), level)
        )
    turn = np.abs(dwi.affine[:3, :3] / dwi.voxel_size).max(axis=0)
    x, y, z = (float(v) for v in dwi.voxel_size.round(4))
    return ScanFacts(
        name=dwi.stem,
        grid=dwi.grid,
        voxel_size=(x, y, z),
        axes="".join(nib.aff2axcodes(dwi.affine)),
        oblique=float(np.degrees(np.arccos(np.clip(turn.min(), 0, 1)))),
        b0=int(dwi.gradients.b0_mask.sum()),
        shells=tuple(shells),
        snr_b0=float(np.median(snr(dwi)[brain])) if sigma is not None else float("nan"),
        sigma=float(np.median(sigma)) if sigma is not None else float("nan"),
        gradient_check=check,
        possible=possible,
        findings=findings,
        notes=tuple(dict.fromkeys(notes)),
    )


def _try(step: Any, dwi: DWI, notes: list[str]) -> DWI:
    try:
        done: DWI = step(dwi)
        return done
    except FornixError as error:
        notes.append(str(error))
        return dwi
