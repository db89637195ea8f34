"""One recipe per shipped network: everything that `fornix train NAME` needs to know."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from fornix.core.errors import FornixError
from fornix.training.data.voxels import NoiseRange


@dataclass(frozen=True)
class Recipe:
    """How one network is trained.

    Attributes:
        kind: `voxelwise` (equivariant, one voxel), `context` (attention over neighbours, trained to
            restore the signal), `spatial` (equivariant, on a voxel and its context), `fod` (fibre
            orientations of one voxel), `fod-spatial` (the same with its context).
        width: Of the perceptron; for `context` the width of the weighing network.
        depth: See `width`.
        loss: Of the metrics, a name of `losses.PARAMETER_LOSSES`.
        steps: What the shipped weights had, over all runs together (their card lists the runs).
        batch: Counts voxels, or patches where neighbours are seen.
        rate: Highest learning rate.
        renew: Steps between renewals of a part of the bank.
        bank: Voxels, or heads.
        workers: Threads that simulate beside the training thread on a CPU.
        needs: Weights that must exist before.
    """

    name: str
    kind: str
    about: str
    width: int
    depth: int
    steps: int
    batch: int
    bank: int
    loss: str = "gaussian"
    rate: float = 2e-3
    renew: int = 400
    seed: int = 0
    noise: NoiseRange = field(default_factory=NoiseRange)
    workers: int = 1
    needs: tuple[str, ...] = ()

    def changed(self, steps: int | None = None, batch: int | None = None) -> Recipe:
        """The recipe with other steps or batches; what a bank shows before it is renewed stays as much."""
        made = self if steps is None else replace(self, steps=steps)
        if batch is None:
            return made
        return replace(made, batch=batch, renew=max(1, self.renew * self.batch // batch))


RECIPES = {
    r.name: r
    for r in (
        Recipe(
            "voxelwise", "voxelwise", "tensor, kurtosis and NODDI metrics, directions and signal of "
            "single voxels, any protocol", width=256, depth=4, steps=25_000, batch=1024,
            bank=64_000, rate=8e-4, renew=60, seed=5,
        ),
        Recipe(
            "context", "context", "which neighbours of a voxel may be averaged with it",
            width=24, depth=2, steps=1_500, batch=1, bank=4, rate=1e-2, renew=150,
        ),
        Recipe(
            "spatial", "spatial", "as voxelwise, from a voxel and its neighbours",
            width=256, depth=4, steps=10_665, batch=4, bank=8, renew=40, rate=8e-4, seed=5,
            needs=("context", "voxelwise"),
        ),
        Recipe(
            "fod", "fod", "fibre orientation distributions and tissue fractions of single voxels, any "
            "protocol", width=192, depth=3, steps=17_418, batch=1024, bank=4, renew=400,
            noise=NoiseRange(snr=(6.0, 150.0)),
        ),
        Recipe(
            "fod-spatial", "fod-spatial", "as fod, from a voxel and its neighbours", width=192, depth=3,
            steps=15_500, batch=1, bank=3, renew=300, rate=1e-3, noise=NoiseRange(snr=(6.0, 80.0)),
            needs=("context", "fod"),
        ),
        Recipe(
            "tissue", "tissue", "brain, six tissues and the side of the head, from a whole scan",
            width=16, depth=5, steps=14_548, batch=1, bank=8, renew=12, rate=2e-3,
        ),
        Recipe(
            "enhance", "enhance", "small voxels mixed from larger measured ones, any factor from 1.25 to 3",
            width=48, depth=4, steps=4_200, batch=1, bank=3, renew=250, rate=1e-3,
        ),
    )
}  # fmt: skip


def recipe(name: str) -> Recipe:
    """The recipe of this name; FornixError with the list where there is none."""
    if name not in RECIPES:
        raise FornixError(f"there is no recipe {name!r}; choose one of: {', '.join(RECIPES)}")
    return RECIPES[name]
