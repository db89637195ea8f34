"""The methods of each microstructure model. The first of a table is its default: `auto`."""

from __future__ import annotations

from functools import partial

from fornix.core.methods import Deferred, Method, MethodTable
from fornix.estimators.classical import CLASSICAL_METHODS

# Loads torch, a second of start-up, when it is used.
learned_microstructure = Deferred("fornix.estimators.microstructure_learned:learned_microstructure")


def _network(name: str, weights: str, summary: str, reference: str) -> Method:
    return Method(
        name,
        partial(learned_microstructure, weights=weights),
        summary,
        reference,
        weights=weights,
        whole_scan=True,
        raw_noise=True,
        quantiles=True,
        reference_b=True,
        adapts=True,
    )


_NETWORKS = [
    _network(
        "learned",
        "spatial",
        "network on a voxel and its like among the neighbours; any protocol, calibrated",
        "Fornix; Buades et al., CVPR 2005; Romano et al., NeurIPS 2019",
    ),
    _network(
        "voxelwise",
        "voxelwise",
        "network on each voxel alone; any protocol, calibrated",
        "Fornix; Romano et al., NeurIPS 2019",
    ),
]

MICROSTRUCTURE_METHODS: dict[str, MethodTable] = {
    model: MethodTable(model, [*_NETWORKS, *methods])
    for model, methods in CLASSICAL_METHODS.items()
}
