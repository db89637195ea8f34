"""Heads to simulate: the embedded one, one built from a real subject, and variations of both."""

from fornix.physics.anatomy.embedded import embedded
from fornix.physics.anatomy.model import CAVITY, LESION, MASS, OEDEMA, Anatomy, Bundle
from fornix.physics.anatomy.pathology import Site, random_site, with_cavity, with_mass
from fornix.physics.anatomy.subject import from_subject
from fornix.physics.anatomy.variation import aged, deform, perturb, vary, with_lesions

__all__ = [
    "CAVITY",
    "LESION",
    "MASS",
    "OEDEMA",
    "Anatomy",
    "Bundle",
    "Site",
    "aged",
    "deform",
    "embedded",
    "from_subject",
    "perturb",
    "random_site",
    "vary",
    "with_cavity",
    "with_lesions",
    "with_mass",
]
