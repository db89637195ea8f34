"""The corrections, one word each, done in the order given."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from fornix.core.dwi import DWI
from fornix.core.errors import tell
from fornix.core.methods import Method, MethodTable
from fornix.preprocess.bias import correct_bias
from fornix.preprocess.gibbs import remove_gibbs
from fornix.preprocess.motion import correct_motion

Progress = Callable[[int, int], None]


def correct(
    dwi: DWI,
    *,
    methods: Sequence[str] = ("gibbs", "affine", "bias"),
    threads: int | None = None,
    progress: Progress | None = None,
) -> DWI:
    """The scan after the corrections named, entries of CORRECT_METHODS, in the order given."""
    for method in methods:
        dwi = CORRECT_METHODS[method].run(dwi, threads=threads, progress=progress)
    return dwi


def _gibbs(dwi: DWI, threads: int | None, progress: Progress | None) -> DWI:
    return remove_gibbs(dwi, threads=threads, progress=progress)


def _bias(dwi: DWI, threads: int | None, progress: Progress | None) -> DWI:
    return correct_bias(dwi)


def _motion(model: str, dwi: DWI, threads: int | None, progress: Progress | None) -> DWI:
    fixed, motion = correct_motion(dwi, model, threads=threads, progress=progress)
    worst_angle, worst_shift = motion.rotation_angle().max(), motion.translation().max()
    notes = fixed.notes
    if worst_angle > 2 or worst_shift > 3:
        notes = (
            *notes,
            tell(f"the head moved by up to {worst_shift:.1f} mm and {worst_angle:.1f} degrees"),
        )
    record = {
        "MotionRotationDegrees": motion.rotation_angle().round(3).tolist(),
        "MotionTranslationMm": motion.translation().round(3).tolist(),
    }
    return fixed.with_(meta={**fixed.meta, **record}, notes=notes)


def _rigid(dwi: DWI, threads: int | None, progress: Progress | None) -> DWI:
    return _motion("rigid", dwi, threads, progress)


def _affine(dwi: DWI, threads: int | None, progress: Progress | None) -> DWI:
    return _motion("affine", dwi, threads, progress)


CORRECT_METHODS = MethodTable(
    "correct",
    [
        Method(
            "gibbs",
            _gibbs,
            "Gibbs ringing by subvoxel shifts, DIPY",
            "Kellner et al., MRM 2016",
            peer="DIPY",
        ),
        Method("rigid", _rigid, "head motion, gradients turned along, DIPY", peer="DIPY"),
        Method("affine", _affine, "head motion and linear eddy currents, DIPY", peer="DIPY"),
        Method("bias", _bias, "receive bias field from the b0, DIPY", peer="DIPY"),
    ],
)
