"""Heads to simulate: the embedded one, one built from a real subject, and variations of both."""

from fornix.physics.anatomy.embedded import embedded
from fornix.physics.anatomy.model import LESION, OEDEMA, Anatomy, Bundle
from fornix.physics.anatomy.subject import from_subject
from fornix.physics.anatomy.variation import aged, deform, perturb, vary, with_lesions

__all__ = [
    "LESION",
    "OEDEMA",
    "Anatomy",
    "Bundle",
    "aged",
    "deform",
    "embedded",
    "from_subject",
    "perturb",
    "vary",
    "with_lesions",
]
