"""Options that several commands share, written once."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

Input = Annotated[
    Path,
    typer.Argument(
        help="Diffusion scan, NIfTI (.nii or .nii.gz), 4-D, its bval and bvec beside it.",
        show_default=False,
    ),
]
Out = Annotated[
    Path, typer.Option("-o", "--out", help="Folder for the results.", show_default=False)
]
Bval = Annotated[Path | None, typer.Option("--bval", help="b-values, if not beside the scan.")]
Bvec = Annotated[Path | None, typer.Option("--bvec", help="b-vectors, if not beside the scan.")]
Grad = Annotated[
    Path | None, typer.Option("--grad", help="MRtrix gradient table instead of bval and bvec.")
]
Mask = Annotated[
    Path | None, typer.Option("--mask", help="Brain mask on the scan's grid; estimated if absent.")
]
Seed = Annotated[
    int, typer.Option("--seed", help="Seed of all chance; same seed, same result.", min=0)
]
Threads = Annotated[
    int | None, typer.Option("--threads", help="Threads; all cores if absent.", min=1)
]
Device = Annotated[str, typer.Option("--device", help="auto, cpu or cuda.")]
MaxMemory = Annotated[
    str | None, typer.Option("--max-memory", help="Memory to stay under, for example 4G.")
]
B0Threshold = Annotated[
    float, typer.Option("--b0-threshold", help="A volume is a b0 if b <= this, s/mm².", min=0)
]
Exclude = Annotated[
    str,
    typer.Option("--exclude", help="Volumes to leave out, counted from 0, for example 5,17,20-25."),
]
NoiseLevel = Annotated[
    float | None,
    typer.Option("--sigma", help="Noise standard deviation, if known; estimated if absent.", min=0),
]

Quantiles = Annotated[
    str,
    typer.Option(
        "--quantiles", help="Also write these quantiles of learned maps, for example 0.05,0.95."
    ),
]

Adapt = Annotated[
    bool,
    typer.Option(
        "--adapt",
        help="Fit the network's idea of the scan to its own volumes first; kept only if it helps.",
    ),
]

ReferenceB = Annotated[
    float | None,
    typer.Option(
        "--reference-b",
        help="b-value that a network's tensor is to describe, 500 to 3000 s/mm²; 1000 if absent.",
    ),
]

MinPeakProb = Annotated[
    float | None,
    typer.Option(
        "--min-peak-prob",
        help="Show peaks where a fibre is at least so probable, 0 to 1 (learned methods); 0.25 if absent.",
        min=0, max=1,
    ),
]  # fmt: skip


def method_option(*stages: str, what: str = "Method") -> Any:
    """The option `--method` of some stages; `--method help` prints their tables and needs no input."""

    def listed(word: str) -> str:
        if word == "help":
            from fornix.estimators.registry import tables

            for table in tables(*stages):
                typer.echo(f"{table.stage}\n{table.help()}")
            raise typer.Exit
        return word

    return typer.Option(
        "--method", help=f"{what}; `help` lists them.", callback=listed, is_eager=True
    )


def check_tractogram(extension: str) -> None:
    """Refuse an unknown format before hours of work."""
    if extension not in ("trx", "tck", "trk"):
        raise typer.BadParameter(f"--tractogram is trx, tck or trk, not {extension!r}")


def levels(text: str) -> tuple[float, ...]:
    """Quantile levels from `0.05,0.95`."""
    try:
        return tuple(float(word) for word in _words(text))
    except ValueError:
        raise typer.BadParameter(f"{text!r} is not a list of levels such as 0.05,0.95") from None


def volumes(text: str) -> list[int]:
    """Volume numbers from `5,17,20-25`; the ends of a range belong to it."""
    numbers: list[int] = []
    try:
        for word in _words(text):
            first, _, last = word.partition("-")
            if not (first.isdecimal() and (last or first).isdecimal()) or word.endswith("-"):
                raise ValueError(word)
            low, high = int(first), int(last or first)
            if high < low or high - low > 100_000:
                raise ValueError(word)
            numbers += range(low, high + 1)
    except ValueError:
        raise typer.BadParameter(
            f"{text!r} is not a list of volume numbers such as 5,17,20-25 (counted from 0)"
        ) from None
    return numbers


def millimetres(text: str) -> tuple[float, ...]:
    """One size in mm, or three, from `1.25` or `1.5,1.5,2`."""
    try:
        found = tuple(float(word) for word in _words(text))
        if len(found) not in (1, 3):
            raise ValueError(text)
    except ValueError:
        raise typer.BadParameter(
            f"{text!r} is not one size in mm, or three such as 1.5,1.5,2"
        ) from None
    return found


def models_of(text: str) -> str | tuple[str, ...]:
    """`auto`, or the models of `dti,dki`."""
    return text if text == "auto" else tuple(_words(text))


def _words(text: str) -> list[str]:
    """The entries of a list, parted by commas or blanks; nothing between two commas is a mistake."""
    words = [word.split() or [""] for word in text.split(",")] if text.strip() else []
    return [entry for word in words for entry in word]


Reversed = Annotated[
    Path | None,
    typer.Option(
        "--reversed",
        help="Scan or b0s of the other phase direction: the susceptibility field is had from the pair.",
    ),
]
T1Scan = Annotated[
    Path | None,
    typer.Option(
        "--t1",
        help="T1 of the same head, 3-D: without --reversed the field is estimated from it.",
    ),
]
PhaseEncodingOption = Annotated[
    str | None,
    typer.Option(
        "--phase-encoding",
        help="i, i-, j, j-, k or k-, in place of the sidecar's PhaseEncodingDirection.",
    ),
]
ReadoutTime = Annotated[
    float | None,
    typer.Option("--readout-time", help="Total readout time in s, in place of the sidecar's."),
]
