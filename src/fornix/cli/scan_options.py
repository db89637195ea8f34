"""What a user says about a scan: the same options, with the same meaning, in every command that reads one."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_type_hints

from fornix.cli import options as o
from fornix.cli.show import Shown, console

if TYPE_CHECKING:
    from fornix.core.dwi import DWI
    from fornix.workflow.job import Job
    from fornix.workflow.stages import State


@dataclass(frozen=True)
class ScanOptions:
    """Where a scan's table and mask are, what of it is read, and what may be used for it."""

    bval: o.Bval = None
    bvec: o.Bvec = None
    grad: o.Grad = None
    mask: o.Mask = None
    sigma: o.NoiseLevel = None
    b0_threshold: o.B0Threshold = 50.0
    exclude: o.Exclude = ""
    seed: o.Seed = 0
    threads: o.Threads = None
    device: o.Device = "auto"
    max_memory: o.MaxMemory = None

    @property
    def excluded(self) -> list[int]:
        """Numbers of the volumes to leave out."""
        return o.volumes(self.exclude)

    def load(self, path: Path) -> DWI:
        """The scan, without the mask."""
        from fornix.io import load

        return load(
            path, bval=self.bval, bvec=self.bvec, grad=self.grad, b0_threshold=self.b0_threshold,
            exclude=self.excluded, max_memory=self.max_memory,
        )  # fmt: skip

    @contextmanager
    def job(self, path: Path, out: Path) -> Iterator[tuple[Job, State]]:
        """The scan's job in an output folder; what was given is not written over; ends with a last line."""
        from fornix.core.compute import use_threads
        from fornix.io.files import protected
        from fornix.workflow import stages as p

        p.Options(sigma=self.sigma, max_memory=self.max_memory)  # says what is wrong with them
        scan, show = self.load(path), Shown()
        try:
            with (
                protected(path, self.bval, self.bvec, self.grad, self.mask),
                use_threads(self.threads),
            ):
                job = p.open_job(out, path, scan, show, self.mask, self.excluded)
                yield job, p.State(scan)
        finally:
            show.close()
        console.print(f"done: results are in {job.out}", markup=False)

    @contextmanager
    def prepared(
        self, path: Path, out: Path, checked: bool = True, desc: str = "brain"
    ) -> Iterator[tuple[Job, State]]:
        """As `job`, with mask and noise level: given, found in OUT or estimated.

        checked: the volumes are compared with each other; `report` does so itself. desc: of the mask, see
        `mask_stage`.
        """
        from fornix.io import derivative, read_mask, read_volume
        from fornix.workflow import stages as p

        with self.job(path, out) as (job, state):
            known_mask = job.out / derivative(job.stem, "mask", desc=desc)
            if self.mask is None and job.made_here(known_mask):
                state.dwi = state.dwi.with_(mask=read_mask(known_mask, state.dwi))
                job.go_on_from(known_mask)
            else:
                p.mask_stage(job, state, given=self.mask, desc=desc)
            known_noise = job.out / derivative(job.stem, "dwimap", param="noise")
            if self.sigma is None and job.made_here(known_noise):
                state.dwi = state.dwi.with_(sigma=read_volume(known_noise)[0])
                job.go_on_from(known_noise)
            else:
                p.noise_stage(job, state, sigma=self.sigma)
            if checked:
                p.volumes_stage(job, state)
            yield job, state


def reads_scan(*without: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Gives a command whose last parameter is `scan: ScanOptions` the options of a scan, one by one.

    Args:
        without: Fields of `ScanOptions` that the command has no use for, or has its own of that name.
    """

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        hints = get_type_hints(command, include_extras=True)
        ours = get_type_hints(ScanOptions, include_extras=True)
        taken = [f for f in fields(ScanOptions) if f.name not in without]
        parameters = [
            p.replace(annotation=hints[n])
            for n, p in inspect.signature(command).parameters.items()
            if n != "scan"
        ]
        parameters += [
            inspect.Parameter(
                f.name, inspect.Parameter.KEYWORD_ONLY, default=f.default, annotation=ours[f.name]
            )
            for f in taken
        ]

        @functools.wraps(command)
        def wrapped(**values: Any) -> None:
            scan = ScanOptions(**{f.name: values.pop(f.name) for f in taken})
            command(**values, scan=scan)

        shown: Any = wrapped
        shown.__signature__ = inspect.Signature(parameters)
        shown.__annotations__ = {p.name: p.annotation for p in parameters} | {"return": None}
        del shown.__wrapped__  # typer is to look at the signature here
        return wrapped

    return decorate
