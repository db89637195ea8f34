"""What can be asked of a run."""

from __future__ import annotations

from dataclasses import dataclass

from fornix.core.errors import FornixError
from fornix.estimators.fod import FOD_METHODS
from fornix.estimators.mask import MASK_METHODS
from fornix.estimators.microstructure_methods import MICROSTRUCTURE_METHODS
from fornix.preprocess import NOISE_METHODS
from fornix.tractography.track import TRACK_METHODS
from fornix.tracts.methods import TRACT_METHODS

#: What `--preprocess` does: a denoising method and corrections, in this order.
PREPROCESS = {
    "none": ("", ()),
    "fast": ("mppca", ()),
    "full": ("mppca", ("gibbs", "eddy", "bias")),
}


@dataclass(frozen=True)
class Options:
    """What can be asked of a run. Every field is an option of the command line.

    The last three change where and how fast, never the result.
    """

    preprocess: str = "full"
    enhance: float | None = None
    phase_encoding: str | None = None
    readout_time: float | None = None
    noise: str = "auto"
    sigma: float | None = None
    mask_method: str = "shells"
    models: tuple[str, ...] | str = "auto"
    method: str = "auto"
    quantiles: tuple[float, ...] = ()
    adapt: bool = False
    reference_b: float | None = None
    min_peak_prob: float | None = None
    fod_method: str = "auto"
    track_method: str = "auto"
    streamlines: int = 100_000
    tractogram_format: str = "trx"
    tracts: bool = True
    tract_method: str = "network"
    seed: int = 0
    threads: int | None = None
    device: str = "auto"
    max_memory: str | None = None

    def __post_init__(self) -> None:
        if self.preprocess not in PREPROCESS:
            raise FornixError(
                f"--preprocess {self.preprocess!r} is unknown; choose one of: {', '.join(PREPROCESS)}"
            )
        _known_words(self)
        if self.sigma is not None and not 0 < self.sigma < float("inf"):
            raise FornixError(
                "--sigma must be above 0; leave it out to have the noise level estimated"
            )
        if self.min_peak_prob is not None:
            if not 0 <= self.min_peak_prob <= 1:
                raise FornixError(f"--min-peak-prob must lie in [0, 1], not {self.min_peak_prob}")
            FOD_METHODS.check(self.fod_method, "peak_probabilities", "--min-peak-prob")
        if self.tract_method not in TRACT_METHODS:
            raise FornixError(
                f"no method {self.tract_method!r} for tracts; choose one of: {', '.join(TRACT_METHODS)}"
            )
        if self.enhance is not None and not 0 < self.enhance < float("inf"):
            raise FornixError("--enhance is the edge of a small voxel in mm, above 0")
        if self.streamlines < 0:
            raise FornixError(f"--streamlines must be 0 or more, not {self.streamlines}")


def _known_words(options: Options) -> None:
    """Refuse an unknown model or method before any work is done."""
    if options.models != "auto":
        for model in options.models:
            if model not in MICROSTRUCTURE_METHODS:
                raise FornixError(
                    f"no model {model!r}; choose some of: {', '.join(MICROSTRUCTURE_METHODS)}, or auto"
                )
    known = {word for table in MICROSTRUCTURE_METHODS.values() for word in table} | {"classical"}
    if options.method != "auto" and options.method not in known:
        raise FornixError(
            f"no model has a method {options.method!r}; choose one of: {', '.join(sorted(known))}"
        )
    for word, table in (
        (options.noise, NOISE_METHODS),
        (options.mask_method, MASK_METHODS),
        (options.fod_method, FOD_METHODS),
        (options.track_method, TRACK_METHODS),
    ):
        if word != "auto":
            table[word]
