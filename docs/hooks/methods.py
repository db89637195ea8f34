"""The tables of methods, from the registry that the command line reads."""

from __future__ import annotations

from collections.abc import Iterator

from fornix.estimators.registry import ALL


def tables() -> str:
    """One section per stage, in the order of the job."""
    return "\n".join(line for stage in ALL for line in _section(stage))


def _section(stage: str) -> Iterator[str]:
    table = ALL[stage]
    yield f"## {stage}\n"
    yield "| method | what | paper |\n|---|---|---|"
    for method in table.values():
        name = f"`{method.name}`" + (" (default)" if method.name == table.default else "")
        what = "; ".join([method.summary, *method.capabilities()])
        yield f"| {name} | {_cell(what)} | {_cell(method.reference)} |"
    yield ""


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")
