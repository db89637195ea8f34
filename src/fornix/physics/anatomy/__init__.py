"""Heads to simulate: the embedded one, one built from a real subject, and variations of both."""

from fornix.physics.anatomy.embedded import embedded
from fornix.physics.anatomy.model import LESION, OEDEMA, Anatomy, Bundle

__all__ = ["LESION", "OEDEMA", "Anatomy", "Bundle", "embedded"]
