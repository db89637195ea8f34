"""Blocks for mkdocstrings: the public names of `fornix`, and what each package offers."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import fornix

SOURCE = Path(fornix.__file__).parent

#: The public names in the order of a scan's journey; names without a place come last.
GROUPS = {
    "Read and write": [
        "load", "save_scan", "load_maps", "save_maps", "load_tractogram", "save_tractogram",
    ],
    "Look at a scan": ["describe", "brain_mask", "estimate_noise"],
    "Correct it": ["denoise", "correct"],
    "Tissue": ["microstructure"],
    "Fibres and streamlines": ["fod", "track", "filter_tractogram"],
    "Connections and groups": [
        "connectome", "load_parcellation", "read_measurements", "make_design", "compare", "normative",
    ],
    "Several sites": [
        "fit_harmonization", "apply_harmonization", "save_harmonization", "load_harmonization",
    ],
    "Other gradients, smaller voxels": ["enhance_scan", "predict"],
    "Known truth": ["simulate", "score"],
    "The whole job": ["run"],
}  # fmt: skip


def public() -> str:
    """All public names of `fornix`: functions by what they are for, then the types."""
    names = [n for n in fornix.__all__ if not n.startswith("_")]
    functions = [n for n in names if not isinstance(getattr(fornix, n), type)]
    placed = {title: [n for n in group if n in functions] for title, group in GROUPS.items()}
    rest = [n for n in functions if not any(n in group for group in placed.values())]
    types = [n for n in names if n not in functions]
    lines = []
    for title, group in {**placed, "More": rest, "Types": types}.items():
        if group:
            lines += [f"## {title}\n"]
            lines += [_block(_path(getattr(fornix, n)), f"fornix.{n}") for n in group]
    return "\n".join(lines)


def packages(order: list[str] | None = None) -> list[str]:
    """Packages of fornix, in this order as far as it names them."""
    here = sorted(p.parent.name for p in SOURCE.glob("*/__init__.py"))
    first = [p for p in order or [] if p in here]
    return first + [p for p in here if p not in first]


def package(name: str) -> str:
    """The page of a package: what it is, its public names, its modules."""
    lines = [f"# fornix.{name}\n", _docstring(SOURCE / name / "__init__.py") + "\n"]
    module = import_module(f"fornix.{name}")
    shown = {_path(getattr(fornix, n)): n for n in fornix.__all__ if not n.startswith("_")}
    exported = [n for n in getattr(module, "__all__", []) if not n.startswith("_")]
    if exported:
        lines += ["## Public names\n", *_names(module, exported, shown)]
    lines += ["## Modules\n", "| module | what |\n|---|---|"]
    lines += [f"| `{path}` | {_first_line(file)} |" for path, file in _modules(name)]
    if not exported:
        lines += ["\n## Contents\n"]
        lines += [_block(f"fornix.{name}.{path}", f"{name}.{path}") for path, _ in _modules(name)]
    return "\n".join(lines) + "\n"


def _names(module: Any, names: list[str], shown: dict[str, str]) -> Iterator[str]:
    """A block for each function and class; a link where it stands on the Python page."""
    constants, elsewhere = [], []
    for name in names:
        value = getattr(module, name)
        if not callable(value) or not getattr(value, "__module__", "").startswith("fornix"):
            constants.append(name)
        elif _path(value) in shown:
            elsewhere.append(f"[`fornix.{shown[_path(value)]}`][{_path(value)}]")
        elif _path(value).startswith(module.__name__ + "."):
            yield _block(_path(value), f"{module.__name__.partition('.')[2]}.{name}")
    if elsewhere:
        yield f"Also from here: {', '.join(elsewhere)}.\n"
    if constants:
        yield f"Modules, tables and constants: {', '.join(f'`{c}`' for c in constants)}.\n"


def _block(path: str, heading: str) -> str:
    return f"::: {path}\n    options:\n      heading: {heading}\n      toc_label: {heading}\n"


def _path(value: Any) -> str:
    return f"{value.__module__}.{value.__qualname__}"


def _modules(package: str) -> Iterator[tuple[str, Path]]:
    """(dotted path below the package, file) of its public modules."""
    for file in sorted((SOURCE / package).rglob("*.py")):
        path = file.relative_to(SOURCE / package).with_suffix("")
        parts = path.parts[:-1] if path.name == "__init__" else path.parts
        if parts and not any(p.startswith("_") for p in parts):
            yield ".".join(parts), file


def _docstring(file: Path) -> str:
    return ast.get_docstring(ast.parse(file.read_text("utf-8"))) or ""


def _first_line(file: Path) -> str:
    return _docstring(file).split("\n\n")[0].replace("\n", " ").replace("|", "\\|")
