"""The report: figures and the page that holds them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fornix.core.public import on_first_use

_PUBLIC = {
    "write_report": "fornix.report.page",
}

__all__ = ["write_report"]

if TYPE_CHECKING:
    from fornix.report.page import write_report

__getattr__, __dir__ = on_first_use("fornix.report", _PUBLIC)
