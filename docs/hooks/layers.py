"""The picture of the layers, drawn from the import contract in pyproject.toml.

`python docs/hooks/layers.py > layers.svg` writes it alone.
"""

from __future__ import annotations

import sys
import tomllib
from html import escape
from pathlib import Path

WIDTH, ROW, GAP, EDGE = 480, 34, 8, 44


def contract(pyproject: Path) -> list[list[str]]:
    """The layers, top to bottom; each a list of packages that stand beside each other.

    Args:
        pyproject: a pyproject.toml with one import-linter contract of the type `layers`.

    Raises:
        ValueError: where there is no such contract.
    """
    linter = tomllib.loads(pyproject.read_text("utf-8")).get("tool", {}).get("importlinter", {})
    for one in linter.get("contracts", []):
        if one.get("type") == "layers":
            return [_beside(layer) for layer in one["layers"]]
    raise ValueError(f"{pyproject} has no import contract of the type layers")


def packages(pyproject: Path) -> list[str]:
    """All packages of the contract, top to bottom."""
    return [name for layer in contract(pyproject) for name in layer]


def drawing(pyproject: Path) -> str:
    """The layers as an SVG; colours are those of the page around it."""
    layers = contract(pyproject)
    height = len(layers) * (ROW + GAP) + GAP
    parts = [
        f'<svg class="layers" viewBox="0 0 {WIDTH} {height}" role="img" '
        'xmlns="http://www.w3.org/2000/svg" font-family="sans-serif" font-size="15">',
        "<title>The layers of Fornix; each imports only from those below it</title>",
    ]
    for row, layer in enumerate(layers):
        y = GAP + row * (ROW + GAP)
        wide = (WIDTH - EDGE - GAP * (len(layer) - 1)) / len(layer)
        for place, name in enumerate(layer):
            x = EDGE + place * (wide + GAP)
            parts.append(
                f'<rect x="{x:.1f}" y="{y}" width="{wide:.1f}" height="{ROW}" rx="4" '
                'fill="currentColor" fill-opacity="0.08" stroke="currentColor" '
                'stroke-opacity="0.45"/>'
                f'<text x="{x + wide / 2:.1f}" y="{y + ROW / 2 + 5}" text-anchor="middle" '
                f'fill="currentColor">{escape(name)}</text>'
            )
    middle, end = EDGE / 2, height - GAP
    parts.append(
        f'<path d="M{middle} {GAP}V{end}m-5 -8l5 8l5 -8" fill="none" stroke="currentColor" '
        'stroke-width="1.5"/>'
        f'<text transform="translate({middle - 7} {height / 2}) rotate(-90)" fill="currentColor" '
        'text-anchor="middle" font-size="13">imports only from below</text></svg>'
    )
    return "".join(parts)


def _beside(layer: str) -> list[str]:
    """Packages of one layer: import-linter parts them by `|` or `:`, and `(x)` may be missing."""
    names = layer.replace(":", "|").split("|")
    return [name.strip().strip("()").removeprefix("fornix.") for name in names]


if __name__ == "__main__":
    sys.stdout.write(drawing(Path(__file__).parents[2] / "pyproject.toml") + "\n")
