"""A job in an output folder: steps that say what they do, and are reused when run again.

A step is reused if its outputs are there, unharmed, and were made from the same inputs with the same
options by the same version: each output's sidecar holds the step's key and the file's own hash.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, TypeVar

from fornix.core.errors import FornixError
from fornix.core.version import __version__
from fornix.io.files import output_folder, sha256
from fornix.io.sidecar import read_sidecar
from fornix.workflow.qc_record import QcRecord, StepRecord

T = TypeVar("T")
Progress = Callable[[int, int], None]


class Show(Protocol):
    """How a job tells what it does: the command line has one with bars, Python a silent one."""

    def begin(self, step: str) -> Progress:
        """A step begins; returns what is told how far it is."""
        ...

    def end(self, step: str, seconds: float, summary: str, reused: bool) -> None:
        """A step is over."""
        ...

    def plan(self, lines: Sequence[str]) -> None:
        """What is going to be done, before anything is."""
        ...


class Silent:
    """Shows nothing."""

    def begin(self, step: str) -> Progress:
        """Shows nothing."""
        return lambda done, total: None

    def end(self, step: str, seconds: float, summary: str, reused: bool) -> None:
        """Shows nothing."""
        pass

    def plan(self, lines: Sequence[str]) -> None:
        """Shows nothing."""
        pass


def key_of(*parts: Any) -> str:
    """A hash of plain values, the same in every process."""
    text = json.dumps(parts, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


class Job:
    """The steps of one scan in one output folder, with their record in STEM_qc.json.

    Args:
        out: Folder for the results; made if needed.
        stem: What every file's name begins with.
        inputs: Names and hashes of what the job is made from; any change makes every step anew.
        show: Tells what the job does.
    """

    def __init__(self, out: str | Path, stem: str, inputs: Mapping[str, Any], show: Show) -> None:
        self.out = output_folder(out)
        self.stem = stem
        self.show = show
        self.inputs = dict(inputs)
        self.key = key_of(self.inputs)
        self.qc_path = self.out / f"{stem}_qc.json"
        self.record = QcRecord.read(self.qc_path, self.inputs)

    def go_on_from(self, output: Path) -> None:
        """Take an output on disk as done: later steps' keys follow from its own."""
        self.key = _sidecar(output).get("StepKey", self.key)

    def made_here(self, output: Path) -> bool:
        """True where an output on disk is unharmed and was made from this job's inputs."""
        side = _sidecar(output) if output.exists() else {}
        return side.get("Inputs") == self.record.inputs and _unharmed(
            output, side.get("StepKey", "")
        )

    def provenance(self, step: str, key: str, options: Mapping[str, Any]) -> dict[str, Any]:
        """What every sidecar of this step holds."""
        return {"Step": step, "StepKey": key, "Options": dict(options), "Inputs": self.inputs}

    def step(
        self,
        name: str,
        options: Mapping[str, Any],
        compute: Callable[[Progress], T],
        save: Callable[[T, dict[str, Any]], list[Path]],
        load: Callable[[], T],
        summary: Callable[[T], str],
        warnings: Callable[[T], Sequence[str]] = lambda result: (),
    ) -> T:
        """Do a step, or take it from disk. Each step's key holds those of the steps before it.

        Args:
            name: Of the step.
            options: What the result depends on, beside the steps before.
            compute: Makes the result; is given a function to tell its progress to.
            save: Writes it with what every sidecar holds; returns the files.
            load: Reads it again.
            summary: One line on it.
            warnings: What is to be looked at; they stay with the step where it is reused.
        """
        self.key = key = key_of(__version__, name, options, self.key)
        progress = self.show.begin(name)
        start = time.perf_counter()
        done = self.record.steps.get(name, StepRecord())
        outputs = [self.out / p for p in done.outputs]
        if done.key == key and outputs and all(_unharmed(p, key) for p in outputs):
            result = load()
            self.show.end(name, time.perf_counter() - start, done.summary, True)
            return result
        result = compute(progress)
        outputs = save(result, self.provenance(name, key, options))
        seconds = time.perf_counter() - start
        self.record.steps[name] = StepRecord(
            key, round(seconds, 2), summary(result), [p.name for p in outputs],
            list(dict.fromkeys(warnings(result))),
        )  # fmt: skip
        self.write_record()
        self.show.end(name, seconds, summary(result), False)
        return result

    def write_record(self) -> Path:
        """Write STEM_qc.json: what is known so far."""
        return self.record.write(self.qc_path)


def _sidecar(output: Path) -> dict[str, Any]:
    """An output's sidecar; empty where it is missing or harmed, so that the step is done again."""
    try:
        return read_sidecar(output)
    except FornixError:
        return {}


def _unharmed(path: Path, key: str) -> bool:
    if not path.exists():
        return False
    side = _sidecar(path)
    return side.get("StepKey") == key and side.get("Sha256") == sha256(path)
