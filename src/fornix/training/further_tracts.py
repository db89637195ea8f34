"""Which of the 106 bundles of the HCP1065 atlas the 72 of `tracts72` do not have, and their short names.

Cranial nerves are left out: they leave the brain, and at voxels of 2 mm they are a voxel wide.
"""

from __future__ import annotations

import re

#: Short name by the file's name without side.
_NAMES = {
    "Association_Cingulum_FrontalParahippocampal": "CG_FPH",
    "Association_Cingulum_FrontalParietal": "CG_FP",
    "Association_Cingulum_Parahippocampal": "CG_PH",
    "Association_Cingulum_ParahippocampalParietal": "CG_PHP",
    "Association_Cingulum_Parolfactory": "CG_PO",
    "Association_ExtremeCapsule": "EC",
    "Association_FrontalAslantTract": "FAT",
    "Association_HippocampusAlveus": "HA",
    "Association_ParietalAslantTract": "PAT",
    "Association_VerticalOccipitalFasciculus": "VOF",
    "Cerebellum_Cerebellum": "CBL",
    "Cerebellum_Vermis": "CBV",
    "Commissure_CorpusCallosum_Tapetum": "CC_TP",
    "ProjectionBasalGanglia_AcousticRadiation": "AR",
    "ProjectionBasalGanglia_AnsaLenticularis": "AL",
    "ProjectionBasalGanglia_AnsaSubthalamica": "AS",
    "ProjectionBasalGanglia_FasciculusLenticularis": "FL",
    "ProjectionBasalGanglia_FasciculusSubthalamicus": "FS",
    "ProjectionBrainstem_CorticobulbarTract": "CBT",
    "ProjectionBrainstem_DentatorubrothalamicTract-lr": "DRT_left",
    "ProjectionBrainstem_DentatorubrothalamicTract-rl": "DRT_right",
    "ProjectionBrainstem_MedialForebrainBundle": "MFB",
    "ProjectionBrainstem_MedialLemniscus": "ML",
    "ProjectionBrainstem_NonDecussatingDentatorubrothalamicTract": "NDRT",
    "ProjectionBrainstem_ReticularTract": "RT",
}
_SIDES = {"L": "_left", "R": "_right"}


def further_tract(stem: str) -> str | None:
    """The short name of a bundle file, for example `FAT_left`; None where `tracts72` has the tract."""
    if stem in _NAMES:
        return _NAMES[stem]
    # The side stands at the end, or before what follows an underscore: CingulumL_Parolfactory.
    match = re.fullmatch(r"(.+?[a-z])([LR])(_[A-Za-z]+)?", stem)
    if match is None:
        return None
    name = _NAMES.get(match[1] + (match[3] or ""))
    return None if name is None else name + _SIDES[match[2]]
