"""Stages from the head's place in MNI space to its tracts and what is measured along them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from fornix.core.dwi import DWI
from fornix.core.errors import FornixError, tell
from fornix.core.grid import head_scale
from fornix.core.maps import Map
from fornix.io import derivative, load_tractogram, write_sidecar
from fornix.io.files import input_file, sha256
from fornix.io.tractograms import needs_reference
from fornix.register.features import Features
from fornix.register.files import load_warp, save_warp
from fornix.register.register import register
from fornix.register.scan_features import scan_features
from fornix.register.side import with_side_doubt
from fornix.register.template import mni_template
from fornix.register.warp import HeadMap, Warp
from fornix.tracts.files import load_tracts, save_profiles, save_tracts
from fornix.tracts.profile import NODES, Profile, tract_profiles
from fornix.tracts.segment import TractMaps, segment_tracts
from fornix.tracts.streamline_profile import streamline_profiles
from fornix.workflow.job import Job, key_of
from fornix.workflow.options import Options
from fornix.workflow.state import State

#: Maps whose profiles are taken where the scan has them.
PROFILED = (
    "dti_fa", "dti_md", "dti_ad", "dti_rd", "dki_mk", "dki_ak", "dki_rk",
    "noddi_ndi", "noddi_odi", "noddi_fwf",
)  # fmt: skip
#: Litres of brain from which a scan is registered: a slab 2 cm thick and wider shows what is where.
_LEAST_BRAIN = 0.25
#: Names of the two heads in the warps' files.
NAMES = ("dwi", "mni")


def register_stage(job: Job, state: State, options: Options) -> tuple[Features, HeadMap]:
    """The scan on the template: warps both ways, as ITK and MRtrix3 files.

    Args:
        job: Where they are written.
        state: The scan as it is fitted, with its mask, and its tissues where they are known already.
        options: Of the run.

    Raises:
        FornixError: The scan shows no human brain.
    """
    dwi = state.dwi
    brain = dwi.brain()
    if head_scale(brain, dwi.voxel_size) < 1:
        raise FornixError("the brain is smaller than a human's, and the template is a human head")
    litres = float(brain.sum() * dwi.voxel_size.prod() / 1e6)
    if litres < _LEAST_BRAIN:
        raise FornixError(
            f"the scan shows {litres:.2f} litres of brain, too little to tell where in the head it lies "
            f"(from {_LEAST_BRAIN:g} on)"
        )
    head = scan_features(dwi, state.segmentation)
    return head, onto_template(job, head, NAMES, options)


def onto_template(job: Job, head: Features, names: tuple[str, str], options: Options) -> HeadMap:
    """The step that finds a head's place on the template, looks at its sides and writes the warps.

    Args:
        job: Where they are written.
        head: A scan's, or the mean of several.
        names: Of the head's space and the template's, in files.
        options: Of the run.
    """

    def compute(progress: Any) -> HeadMap:
        warp = register(head, mni_template().features(), threads=options.threads, progress=progress)
        warp = with_side_doubt(warp, head)
        for note in warp.notes:
            tell(note)
        return warp

    def save(warp: HeadMap, provenance: dict[str, Any]) -> list[Path]:
        assert isinstance(warp, Warp)
        return save_warp(warp, job.out, job.stem, names, provenance)

    def summary(warp: HeadMap) -> str:
        if not isinstance(warp, Warp):
            return "reused"
        size = float(np.cbrt(1 / np.linalg.det(warp.matrix[:3, :3])))
        return f"the template is {size:.2f} times as long as the brain"

    def notes(warp: HeadMap) -> Sequence[str]:
        return warp.notes if isinstance(warp, Warp) else ()

    return job.step(
        "register", {"onto": "mni"}, compute, save,
        lambda: load_warp(job.out, job.stem, names), summary, notes,
    )  # fmt: skip


def tracts_stage(
    job: Job, dwi: DWI, head: Features, warp: HeadMap, method: str, atlases: Sequence[str]
) -> TractMaps:
    """STEM_desc-tracts_probseg with its table, STEM_desc-endings_probseg, STEM_desc-tracts_tom, _along.

    Args:
        job: Where they are written.
        dwi: The scan.
        head: From `register_stage`.
        warp: From `register_stage`.
        method: One of TRACT_METHODS.
        atlases: Names of ATLASES.
    """

    def summary(tracts: TractMaps) -> str:
        states = [f.state for f in tracts.found.values()]
        return f"{states.count('whole')} whole, {states.count('cut')} cut, {states.count('absent')} absent"

    return job.step(
        "tracts",
        {"method": method, "atlases": list(atlases)},
        lambda progress: segment_tracts(
            dwi, head, warp, method=method, atlases=atlases, progress=progress
        ),
        lambda tracts, provenance: save_tracts(
            tracts, job.out, job.stem, {"Method": method, **provenance}
        ),
        lambda: load_tracts(job.out, job.stem),
        summary,
        lambda tracts: tracts.notes,
    )


def profile_stage(
    job: Job, tracts: TractMaps, state: State, options: Options, nodes: int = NODES,
    tractogram: Path | None = None,
) -> None:  # fmt: skip
    """STEM_desc-profiles_tracts.tsv and STEM_desc-means_tracts.tsv: every map along, and over, every tract.

    Args:
        job: Where it is written.
        tracts: From `tracts_stage`.
        state: The scan with its maps.
        options: Of the run.
        nodes: Along each tract.
        tractogram: File of streamlines along which profiles are taken; along the tracts' voxels if absent.

    Raises:
        FornixError: The tractogram cannot be read or is of another head.
    """
    lines = None
    if tractogram is not None:
        reference = job.out / derivative(job.stem, "probseg", desc="tracts")
        input_file(tractogram, "tractogram")
        lines = load_tractogram(tractogram, reference if needs_reference(tractogram) else None)
    maps: dict[str, Map] = {name: state.maps[name] for name in PROFILED if name in state.maps.maps}
    path = job.out / derivative(job.stem, "tracts", desc="profiles", extension=".tsv")
    means = job.out / derivative(job.stem, "tracts", desc="means", extension=".tsv")

    def save(profiles: list[Profile], provenance: dict[str, Any]) -> list[Path]:
        save_profiles(profiles, path)
        columns = {
            "tractID": "name of the tract", "nodeID": f"0 where the tract begins to {nodes - 1} at its end",
            "map": "what is measured", "value": "weighted mean about the node, in the map's unit",
            "std": "standard deviation of the value's error", "reason": "why there is no value",
        }  # fmt: skip
        units = {name: m.units for name, m in maps.items()}
        source = {} if tractogram is None else {"Tractogram": tractogram.name}
        write_sidecar(path, {"Columns": columns, "Units": units, **source, **provenance})
        save_profiles(tract_profiles(tracts, maps, nodes=1, seed=options.seed), means)
        write_sidecar(means, {"Description": "means over tracts", "Units": units, **provenance})
        return [path, means]

    def compute(progress: Any) -> list[Profile]:
        if lines is None:
            return tract_profiles(tracts, maps, nodes=nodes, seed=options.seed)
        return streamline_profiles(lines, tracts, maps, nodes=nodes, seed=options.seed)

    along = {} if tractogram is None else {"tractogram": sha256(tractogram)}
    job.step(
        "profiles",
        {"maps": sorted(maps), "nodes": nodes, "seed": options.seed, **along},
        compute,
        save,
        lambda: [],
        lambda profiles: f"{len(maps)} maps along {len(tracts.found)} tracts",
    )


def tract_stages(job: Job, state: State, options: Options, scan_key: str, maps_key: str) -> None:
    """Registration, tracts and profiles; what forbids them is told and stands on top of the report.

    Args:
        job: Where they are written.
        state: The scan with its maps.
        options: Of the run.
        scan_key: The job's key after preprocessing: on this, and not on maps, tracts depend.
        maps_key: The job's key after the maps.
    """
    try:
        job.key = scan_key
        head, warp = register_stage(job, state, options)
        tracts = tracts_stage(job, state.dwi, head, warp, options.tract_method, ("tracts72",))
        job.key = key_of(job.key, maps_key)
        profile_stage(job, tracts, state, options)
    except FornixError as error:
        job.record.warn("tracts", [tell(f"no tracts: {error}")])
