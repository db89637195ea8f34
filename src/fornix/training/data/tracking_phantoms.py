"""Phantoms that a policy learns on: the scan's FOD and tissue, and the true streamlines, kept on disk."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fornix.core.tractogram import Tractogram
from fornix.io.files import atomic, output_folder
from fornix.physics import Anatomy, from_bundles
from fornix.tractography import _propagate as propagate
from fornix.tractography.criteria import TrackingCriteria
from fornix.tractography.fields import Field
from fornix.tractography.learned._policy_kernels import observe_states
from fornix.tractography.learned.limits import Policy
from fornix.tractography.scoring.score import VALID, score, widened
from fornix.tractography.scoring.truth import BundleTruth
from fornix.tractography.seeds import first_seeds, starting_numbers, voxel_seeds
from fornix.tractography.tissue_fractions import TissueFractions
from fornix.training.data.filter_phantoms import ScanSpec, make_phantom_scan
from fornix.training.data.policy_dataset import (
    Expert,
    PolicyDataset,
    ReferenceStreamlines,
    States,
    TrackedStreamlines,
    policy_states,
    reference_streamlines,
)

#: Streamlines of each bundle that are learned from.
_MAX_STREAMLINES = 500
#: How the policy tracks to learn.
_CRITERIA = TrackingCriteria(step=1.0, max_length=250.0, act_ends=False)
#: mm by which a bundle's mask is widened before a streamline counts as having left it.
_MARGIN = 3.0


@dataclass(frozen=True, eq=False)
class TrackingPhantom:
    """What a policy tracks in, and what is true there.

    Attributes:
        fod: (X, Y, Z, coefficients), world axes.
        tissue: From the scan alone.
        brain: (X, Y, Z) mask.
        truth: The subject's bundles.
        reference: True streamlines of the bundles.
    """

    fod: NDArray[np.float32]
    tissue: TissueFractions
    brain: NDArray[np.bool_]
    truth: BundleTruth
    reference: ReferenceStreamlines

    @cached_property
    def field(self) -> Field:
        """What streamlines run through."""
        return Field.of(self.fod, self.truth.affine, self.tissue)

    def dataset(self, states: States) -> PolicyDataset:
        """What the policy observes in these states, with what is right."""
        features = observe_states(
            self.field.arrays(angle=_CRITERIA.angle), 1 / self.field.typical, states.places,
            states.frames, states.paths, states.lengths,
        )  # fmt: skip
        return PolicyDataset(
            features.astype(np.float16), states.turn, states.end, states.true, states.known
        )

    def own_states(
        self, policy: Policy, *, seeds: int, seed: int, each: int, rng: np.random.Generator
    ) -> States:
        """States on streamlines that the policy tracks itself.

        Args:
            policy: That tracks.
            seeds: How many.
            seed: Of the tracker's random numbers.
            each: States on each streamline.
            rng: Draws the states.
        """
        margins = np.moveaxis(widened(self.truth.masks, self.truth, margin=_MARGIN), 0, -1)
        return policy_states(
            self.track(policy, seeds=seeds, seed=seed), margins, self.field.voxel_size,
            Expert(self.reference), each=each, rng=rng,
        )  # fmt: skip

    def track(self, policy: Policy, *, seeds: int, seed: int) -> TrackedStreamlines:
        """The policy's streamlines from seeds in white matter, also those that would be rejected."""
        field = self.field
        mask = (self.tissue.wm > 0.5) & self.brain & (field.lookup >= 0)
        starts = first_seeds(voxel_seeds(mask, seed=seed), seeds)
        points, spans, outcomes = propagate.propagate_seeds(
            starts,
            starting_numbers(np.arange(len(starts)), seed=seed),
            field.arrays(angle=_CRITERIA.angle),
            _CRITERIA.step_params(propagate.POLICY, typical=field.typical),
            _CRITERIA.regions(self.truth.grid),
            policy.mlp,
            policy.params(typical=field.typical),
        )
        accepted, affine = np.flatnonzero(outcomes == propagate.ACCEPTED), self.truth.affine
        true = np.zeros(len(starts), bool)
        if len(accepted):
            world, lengths = propagate.to_world(
                points, spans, accepted, affine[:3, :3] / field.voxel_size, affine[:3, 3]
            )
            offsets = np.concatenate([[0], np.cumsum(lengths)])
            tractogram = Tractogram(world, offsets, affine, self.truth.grid)
            true[accepted] = score(tractogram, self.truth).kinds == VALID
        return TrackedStreamlines(points, spans, true)


def tracking_phantoms(
    bundles: str | Path,
    specs: Sequence[ScanSpec],
    folder: Path,
    *,
    voxel_size: float,
    tell: Callable[[str], None],
) -> Iterator[tuple[ScanSpec, Callable[[], TrackingPhantom]]]:
    """Each scan and a function that gives its phantom, made once and then read from the folder.

    Args:
        bundles: Folder for `from_bundles`.
        specs: The scans.
        folder: Where phantoms are kept.
        voxel_size: mm.
        tell: Called with a line for every scan that is made.
    """
    output_folder(folder)
    subjects: dict[int, Anatomy] = {}

    def phantom(spec: ScanSpec) -> TrackingPhantom:
        path = folder / f"{spec.label}.npz"
        if not path.exists():
            tell(f"scanning subject {spec.seed}, {spec.protocol}, SNR {spec.snr:g}")
            if spec.seed not in subjects:
                subjects.clear()
                subjects[spec.seed] = from_bundles(bundles, seed=spec.seed, voxel_size=voxel_size)
            _save(path, subjects[spec.seed], spec)
        return _load(path)

    for spec in specs:
        yield spec, partial(phantom, spec)


def _save(path: Path, subject: Anatomy, spec: ScanSpec) -> None:
    scan = make_phantom_scan(subject, spec)
    lines = {name: bundle.streamlines for name, bundle in subject.bundles.items()}
    reference = reference_streamlines(
        lines, subject.affine, max_count=_MAX_STREAMLINES, rng=np.random.default_rng(spec.seed)
    )
    truth, tissue = scan.truth, scan.tissue
    with atomic(path) as temporary, temporary.open("wb") as file:
        np.savez(
            file, fod=scan.maps["fod"].data.astype(np.float32), brain=scan.dwi.brain(),
            tissue=np.stack([tissue.wm, tissue.gm, tissue.csf]), names=np.array(truth.names),
            regions=np.packbits(np.stack([truth.masks, truth.begins, truth.ends]), axis=-1),
            affine=truth.affine, points=reference.points, first=reference.first,
            bundle=reference.bundle,
        )  # fmt: skip


def _load(path: Path) -> TrackingPhantom:
    with np.load(path) as stored:
        depth = stored["fod"].shape[2]
        masks, begins, ends = np.unpackbits(stored["regions"], axis=-1, count=depth).astype(bool)
        truth = BundleTruth(tuple(stored["names"].tolist()), masks, begins, ends, stored["affine"])
        reference = ReferenceStreamlines(stored["points"], stored["first"], stored["bundle"])
        return TrackingPhantom(
            stored["fod"], TissueFractions(*stored["tissue"]), stored["brain"], truth, reference
        )
