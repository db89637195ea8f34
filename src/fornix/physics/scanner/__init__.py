"""The simulated scanner: what it does to a scan, with the truth of every artefact kept."""

from fornix.physics.scanner.artefacts import PRESETS, Artefacts, preset
from fornix.physics.scanner.scan import ArtefactTruth, Dropout, apply, plan

__all__ = ["PRESETS", "ArtefactTruth", "Artefacts", "Dropout", "apply", "plan", "preset"]
