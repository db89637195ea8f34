"""A job in an output folder: steps that say what they do, and are reused when run again.

A step is reused if its outputs are there, unharmed, and were made from the same inputs with the same
options by the same version: each output's sidecar holds the step's key and the file's own hash.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol, TypeVar

from fornix import __version__
from fornix.io.files import output_folder, sha256
from fornix.io.sidecar import read_json, read_sidecar, write_json

T = TypeVar("T")
Progress = Callable[[int, int], None]


class Show(Protocol):
    """How a job tells what it does: the command line has one with bars, Python a silent one."""

    def begin(self, step: str) -> Progress: ...
    def end(self, step: str, seconds: float, summary: str, reused: bool) -> None: ...


class Silent:
    """Shows nothing."""

    def begin(self, step: str) -> Progress:
        return lambda done, total: None

    def end(self, step: str, seconds: float, summary: str, reused: bool) -> None:
        pass


def key_of(*parts: Any) -> str:
    """A hash of plain values, the same in every process."""
    text = json.dumps(parts, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


class Job:
    """The steps of one scan in one output folder, with their record in STEM_qc.json."""

    def __init__(self, out: str | Path, stem: str, inputs: Mapping[str, Any], show: Show) -> None:
        self.out = output_folder(out)
        self.stem = stem
        self.show = show
        self.inputs = dict(inputs)
        self.key = key_of(self.inputs)
        self.qc_path = self.out / f"{stem}_qc.json"
        self._before = _read_record(self.qc_path)
        same = self._before.get("Inputs") == json.loads(json.dumps(self.inputs))
        # A stage run alone adds to what is known of the same scan; another scan starts a new record.
        known = self._before if same else {}
        self.record: dict[str, Any] = {**known, "Inputs": self.inputs, "Warnings": []}
        self.record["Steps"] = dict(known.get("Steps", {}))

    def go_on_from(self, output: Path) -> None:
        """Take an output on disk as done: later steps' keys follow from its own."""
        self.key = read_sidecar(output).get("StepKey", self.key)

    def made_here(self, output: Path) -> bool:
        """True where an output on disk is unharmed and was made from this job's inputs."""
        side = read_sidecar(output) if output.exists() else {}
        return side.get("Inputs") == json.loads(json.dumps(self.inputs)) and _unharmed(
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
    ) -> T:
        """Do a step, or take it from disk. Each step's key holds those of the steps before it."""
        self.key = key = key_of(__version__, name, options, self.key)
        progress = self.show.begin(name)
        start = time.perf_counter()
        done = self._before.get("Steps", {}).get(name, {})
        outputs = [self.out / str(p) for p in done.get("Outputs", [])]
        if done.get("Key") == key and outputs and all(_unharmed(p, key) for p in outputs):
            result = load()
            self.record["Steps"][name] = done
            self.show.end(name, time.perf_counter() - start, summary(result), True)
            return result
        result = compute(progress)
        outputs = save(result, self.provenance(name, key, options))
        seconds = time.perf_counter() - start
        self.record["Steps"][name] = {
            "Key": key,
            "Seconds": round(seconds, 2),
            "Summary": summary(result),
            "Outputs": [p.name for p in outputs],
        }
        self.write_record()
        self.show.end(name, seconds, summary(result), False)
        return result

    def write_record(self, **fields: Any) -> Path:
        """Write STEM_qc.json: what is known so far."""
        self.record.update(fields)
        return write_json(self.qc_path, {"FornixVersion": __version__, **self.record})


def _unharmed(path: Path, key: str) -> bool:
    if not path.exists():
        return False
    side = read_sidecar(path)
    return side.get("StepKey") == key and side.get("Sha256") == sha256(path)


def _read_record(path: Path) -> dict[str, Any]:
    return read_json(path) if path.exists() else {}
