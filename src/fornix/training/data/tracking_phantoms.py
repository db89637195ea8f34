"""Heads that a policy learns on: the scan's FOD and tissue, the true streamlines, kept between runs."""

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
from fornix.tractography import _propagate as march
from fornix.tractography.criteria import TrackingCriteria
from fornix.tractography.fields import Field, cones, nearest_axis
from fornix.tractography.learned._policy_kernels import look_many
from fornix.tractography.learned.limits import Policy
from fornix.tractography.scoring.score import VALID, score, widened
from fornix.tractography.scoring.truth import BundleTruth
from fornix.tractography.seeds import BLOCK, starting_numbers, voxel_seeds
from fornix.tractography.tissue_fractions import TissueFractions
from fornix.training.data.filter_phantoms import ScanSpec, make_scene
from fornix.training.data.policy_dataset import (
    Expert,
    PolicyDataset,
    ReferenceStreamlines,
    States,
    Tracked,
    courses,
    on_own,
)

#: Streamlines of each bundle that are learned from.
_MOST = 500
#: Steps of a streamline that is tracked to learn, 1 mm each.
_CAPACITY = 252
#: mm by which a bundle's mask is widened before a streamline has left it.
_LEFT = 3.0


@dataclass(frozen=True, eq=False)
class TrackingPhantom:
    """A scan's FOD (X, Y, Z, coefficients), tissue and brain mask, and the truth of its head."""

    fod: NDArray[np.float32]
    tissue: TissueFractions
    brain: NDArray[np.bool_]
    truth: BundleTruth
    courses: ReferenceStreamlines

    @cached_property
    def field(self) -> Field:
        """What streamlines run through."""
        return Field.of(self.fod, self.truth.affine, self.tissue)

    def seen(self, states: States) -> PolicyDataset:
        """What the policy sees there, with what is right."""
        field = self.field
        seen = look_many(
            states.places, states.frames, states.pasts, states.lengths, field.lookup,
            field.amplitudes, field.fractions, nearest_axis(), field.size, 1 / field.typical,
        )  # fmt: skip
        return PolicyDataset(
            seen.astype(np.float16), states.turn, states.end, states.true, states.known
        )

    def own(
        self, policy: Policy, seeds: int, seed: int, each: int, rng: np.random.Generator
    ) -> States:
        """States on streamlines that the policy tracks itself, `each` of every one."""
        inside = np.moveaxis(widened(self.truth.masks, self.truth, _LEFT), 0, -1)
        tracked = self.tracked(policy, seeds, seed)
        return on_own(tracked, inside, self.field.size, Expert(self.courses), each, rng)

    def tracked(self, policy: Policy, seeds: int, seed: int) -> Tracked:
        """The policy's own streamlines from seeds in white matter, whatever becomes of them."""
        field, rules = self.field, TrackingCriteria(step=1.0, max_length=250.0)
        where = (self.tissue.wm > 0.5) & self.brain & (field.lookup >= 0)
        blocks = voxel_seeds(where, seed)
        starts = np.concatenate([blocks(i) for i in range(-(-seeds // BLOCK))])[:seeds]
        regions, wanted = rules.regions(self.truth.grid)
        axes, near = cones(rules.angle)
        none = np.zeros((0, 0), np.float32)
        points, spans, status = march.propagate_seeds(
            starts, starting_numbers(np.arange(len(starts)), seed), field.lookup, field.amplitudes, none,
            field.basis, axes, near, nearest_axis(), field.fractions, regions, wanted, field.size,
            rules.step, np.cos(np.radians(rules.angle)), rules.sharpest, 3.0,
            rules.threshold * field.typical, int(rules.min_length), _CAPACITY, march.POLICY, True,
            policy.layers, policy.habits(1 / field.typical),
        )  # fmt: skip
        good, affine = np.flatnonzero(status == march.ACCEPTED), self.truth.affine
        true = np.zeros(len(starts), bool)
        if len(good):
            world, lengths = march.gather(
                points, spans, good, affine[:3, :3] / field.size, affine[:3, 3]
            )
            made = Tractogram(
                world, np.concatenate([[0], np.cumsum(lengths)]), affine, self.truth.grid
            )
            true[good] = score(made, self.truth).kinds == VALID
        return Tracked(points, spans, true)


def heads(
    bundles: str | Path,
    settings: Sequence[ScanSpec],
    place: Path,
    voxel_size: float,
    tell: Callable[[str], None],
) -> Iterator[tuple[ScanSpec, Callable[[], TrackingPhantom]]]:
    """Each setting and a function that gives its head, made once and then read from the folder."""
    output_folder(place)
    made: dict[int, Anatomy] = {}

    def head(setting: ScanSpec) -> TrackingPhantom:
        path = place / f"{setting.word}.npz"
        if not path.exists():
            tell(f"scanning head {setting.seed}, {setting.protocol}, SNR {setting.snr:g}")
            if setting.seed not in made:
                made.clear()
                made[setting.seed] = from_bundles(bundles, seed=setting.seed, voxel_size=voxel_size)
            _save(path, made[setting.seed], setting)
        return _load(path)

    for setting in settings:
        yield setting, partial(head, setting)


def _save(path: Path, anatomy: Anatomy, setting: ScanSpec) -> None:
    scene = make_scene(anatomy, setting)
    lines = {name: bundle.streamlines for name, bundle in anatomy.bundles.items()}
    of = courses(lines, anatomy.affine, _MOST, np.random.default_rng(setting.seed))
    truth, tissue = scene.truth, scene.tissue
    with atomic(path) as temporary, temporary.open("wb") as file:
        np.savez(
            file, fod=scene.maps["fod"].data.astype(np.float32), brain=scene.dwi.brain(),
            tissue=np.stack([tissue.wm, tissue.gm, tissue.csf]), names=np.array(truth.names),
            regions=np.packbits(np.stack([truth.masks, truth.begins, truth.ends]), axis=-1),
            affine=truth.affine, points=of.points, first=of.first, bundle=of.bundle,
        )  # fmt: skip


def _load(path: Path) -> TrackingPhantom:
    with np.load(path) as kept:
        deep = kept["fod"].shape[2]
        masks, begins, ends = np.unpackbits(kept["regions"], axis=-1, count=deep).astype(bool)
        truth = BundleTruth(tuple(kept["names"].tolist()), masks, begins, ends, kept["affine"])
        of = ReferenceStreamlines(kept["points"], kept["first"], kept["bundle"])
        return TrackingPhantom(
            kept["fod"], TissueFractions(*kept["tissue"]), kept["brain"], truth, of
        )
