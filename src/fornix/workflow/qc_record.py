"""The record of a job, STEM_qc.json: what is known of the scan, what was done, what to look at.

Warnings belong to the step that raised them. A step that is done again replaces its own; a later command
on the same scan adds to the record and loses none of the others'.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fornix.core.errors import FornixError
from fornix.core.version import __version__
from fornix.io import read_json, write_json


@dataclass
class StepRecord:
    """One step that was done.

    Attributes:
        key: Hash of what the result depends on.
        seconds: How long it took.
        summary: One line.
        outputs: Names of the files that it wrote.
        warnings: What it warned of, one line each.
        facts: What it found out, by name, as JSON.
    """

    key: str = ""
    seconds: float = 0.0
    summary: str = ""
    outputs: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    facts: dict[str, Any] = field(default_factory=dict)


@dataclass
class QcRecord:
    """What STEM_qc.json holds.

    Attributes:
        inputs: Names and hashes of what the job was made from.
        steps: By name, in the order in which they were first done.
    """

    inputs: dict[str, Any]
    steps: dict[str, StepRecord] = field(default_factory=dict)

    @classmethod
    def read(cls, path: Path, inputs: Mapping[str, Any]) -> QcRecord:
        """The record on disk if it is of the same inputs, else a new one."""
        plain = json.loads(json.dumps(dict(inputs)))
        try:
            found = read_json(path) if path.exists() else {}
            if found.get("Inputs") != plain:
                return cls(plain)
            return cls(plain, cls._steps_of(found))
        except (
            FornixError,
            AttributeError,
            TypeError,
            ValueError,
        ):  # harmed: everything is done anew
            return cls(plain)

    @staticmethod
    def _steps_of(found: Mapping[str, Any]) -> dict[str, StepRecord]:
        return {
            name: StepRecord(
                step.get("Key", ""), step.get("Seconds", 0.0), step.get("Summary", ""),
                list(step.get("Outputs", [])), list(step.get("Warnings", [])),
                dict(step.get("Facts", {})),
            )
            for name, step in found.get("Steps", {}).items()
        }  # fmt: skip

    @property
    def warnings(self) -> list[str]:
        """Those of all steps, in the order of the steps, each once."""
        return list(dict.fromkeys(w for step in self.steps.values() for w in step.warnings))

    def fact(self, name: str, default: Any = None) -> Any:
        """What a step found out under this name; the last step that knows it is heard."""
        for step in reversed(self.steps.values()):
            if name in step.facts:
                return step.facts[name]
        return default

    def warn(self, step: str, lines: Iterable[str]) -> None:
        """Add warnings to a step, each once."""
        held = self.steps.setdefault(step, StepRecord()).warnings
        held.extend(line for line in lines if line not in held)

    def as_dict(self) -> dict[str, Any]:
        """As it is written: facts of all steps on top, then the steps, then the warnings together."""
        facts = {k: v for step in self.steps.values() for k, v in step.facts.items()}
        steps = {
            name: {
                "Key": step.key, "Seconds": step.seconds, "Summary": step.summary,
                "Outputs": step.outputs, "Warnings": step.warnings, "Facts": step.facts,
            }
            for name, step in self.steps.items()
        }  # fmt: skip
        return {
            "FornixVersion": __version__, "Inputs": self.inputs, **facts, "Warnings": self.warnings,
            "Steps": steps,
        }  # fmt: skip

    def write(self, path: Path) -> Path:
        """Write STEM_qc.json."""
        return write_json(path, self.as_dict())
