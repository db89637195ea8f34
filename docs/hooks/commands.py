"""The command line, from the application itself."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import typer

from fornix.cli.app import app


def reference() -> str:
    """One section per command, with its examples, arguments and options."""
    group = typer.main.get_command(app)
    return "\n".join(line for name, c in group.commands.items() for line in _command(name, c))


def _command(name: str, command: Any) -> Iterator[str]:
    yield f"## fornix {name}\n"
    yield _help(command.help or "")
    if hasattr(command, "commands"):  # a group, such as `weights`
        for sub, inner in command.commands.items():
            yield f"### fornix {name} {sub}\n"
            yield _help(inner.help or "")
            yield from _options(inner)
    else:
        yield from _options(command)


def _help(text: str) -> str:
    """Help text as Markdown: indented lines are commands, [bold] is a heading."""
    plain = re.sub(r"\[/?[a-z ]*\]", "", re.sub(r"\[bold\](.*?)\[/\]", r"**\1**", text))
    out, code = [], []
    for line in [*plain.splitlines(), "end"]:
        if line.startswith("  "):
            code.append(line.strip())
            continue
        if code:
            out += ["```sh", *code, "```"]
            code = []
        out.append(line)
    return "\n".join(out[:-1]) + "\n"


def _options(command: Any) -> Iterator[str]:
    rows = [_row(p) for p in command.params if not getattr(p, "hidden", False)]
    if rows:
        yield "| option | what |\n|---|---|"
        yield from rows
    yield ""


def _row(parameter: Any) -> str:
    names = ", ".join(f"`{o}`{{ .option }}" for o in sorted(parameter.opts, key=len))
    if not parameter.opts[0].startswith("-"):
        names = f"`{parameter.name.upper()}`{{ .option }}"
    what = re.sub(r"\[/?[a-z ]+\]", "", parameter.help or "")
    default = parameter.default
    if parameter.required:
        what += " Required."
    elif isinstance(default, str | int | float) and default is not False and default != "":
        what += f" Default: `{default}`."
    return f"| {names} | {what.replace('|', '/')} |"
