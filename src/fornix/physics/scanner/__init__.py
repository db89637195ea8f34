"""The simulated scanner: what it does to a scan, with the truth of every artefact kept."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fornix.core.public import on_first_use

_PUBLIC = {
    "PRESETS": "fornix.physics.scanner.artefacts",
    "ArtefactTruth": "fornix.physics.scanner.scan",
    "Artefacts": "fornix.physics.scanner.artefacts",
    "Dropout": "fornix.physics.scanner.scan",
    "apply": "fornix.physics.scanner.scan",
    "plan": "fornix.physics.scanner.scan",
    "preset": "fornix.physics.scanner.artefacts",
}

__all__ = ["PRESETS", "ArtefactTruth", "Artefacts", "Dropout", "apply", "plan", "preset"]

if TYPE_CHECKING:
    from fornix.physics.scanner.artefacts import PRESETS, Artefacts, preset
    from fornix.physics.scanner.scan import ArtefactTruth, Dropout, apply, plan

__getattr__, __dir__ = on_first_use("fornix.physics.scanner", _PUBLIC)
