"""What a running command prints: a bar while a step runs, one line when it is done."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TextIO

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn

from fornix.core.errors import FornixWarning

console = Console(highlight=False, soft_wrap=True)
errors = Console(stderr=True, highlight=False, soft_wrap=True)


class Shown:
    """Steps on the terminal. Without a terminal only the finished lines are printed."""

    def __init__(self) -> None:
        self._bars = Progress(
            SpinnerColumn(),
            TextColumn("{task.description:<16}"),
            BarColumn(bar_width=30),
            TimeElapsedColumn(),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )
        self._task: TaskID | None = None

    def begin(self, step: str) -> Callable[[int, int], None]:
        """Starts the bar of a step; returns what moves it on."""
        self._bars.start()
        self._task = self._bars.add_task(step, total=None)
        task = self._task

        def progress(done: int, total: int) -> None:
            self._bars.update(task, completed=done, total=total)

        return progress

    def end(self, step: str, seconds: float, summary: str, reused: bool) -> None:
        """Ends the bar of a step with one line that stays."""
        self.close()
        how = "  reused" if reused else f"{seconds:7.1f} s" if seconds else "         "
        console.print(f"[green]✓[/] {step:<16}{how}  {escape(summary)}")

    def plan(self, lines: Sequence[str]) -> None:
        """What is going to be done, a line each."""
        for line in lines:
            console.print(f"  {line}", markup=False)

    def close(self) -> None:
        """Take the bar away; safe to call twice."""
        if self._task is not None:
            self._bars.remove_task(self._task)
            self._task = None
        self._bars.stop()


@contextmanager
def spoken_warnings() -> Iterator[None]:
    """Fornix's own warnings as one yellow line each; other libraries' as Python shows them."""
    before = warnings.showwarning

    def show(
        message: Warning | str,
        category: type[Warning],
        filename: str,
        lineno: int,
        file: TextIO | None = None,
        line: str | None = None,
    ) -> None:
        if issubclass(category, FornixWarning):
            console.print(f"[yellow]![/] {escape(str(message))}")
        else:
            before(message, category, filename, lineno, file, line)

    with warnings.catch_warnings():
        warnings.simplefilter("always", FornixWarning)
        warnings.showwarning = show
        yield
