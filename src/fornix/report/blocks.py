"""Pieces of the report's page."""

from __future__ import annotations

import base64
from html import escape
from pathlib import Path

from matplotlib.figure import Figure

from fornix.report.canvas import picture


def figure_block(made: Figure, caption: str, dark: bool = False) -> str:
    """A figure with its caption."""
    return _block(picture(made), caption, dark)


def file_block(path: Path, caption: str) -> str:
    """A picture from a PNG file with its caption."""
    data = base64.b64encode(path.read_bytes()).decode()
    return _block(f"data:image/png;base64,{data}", caption, False)


def _block(source: str, caption: str, dark: bool) -> str:
    return (
        f'<figure{" class=dark" if dark else ""}><img alt="{escape(caption)}" src="{source}">'
        f"<figcaption>{escape(caption)}</figcaption></figure>"
    )
