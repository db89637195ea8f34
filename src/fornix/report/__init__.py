"""The report: figures and the page that holds them."""

from fornix.report.page import write_report

__all__ = ["write_report"]
