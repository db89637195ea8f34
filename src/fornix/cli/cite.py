"""`fornix cite`: the papers behind the methods."""

from __future__ import annotations

from fornix.cli.show import console


def cite_command() -> None:
    """Print the paper of every method, by stage.

    [bold]Example[/]

      fornix cite
    """
    from fornix.microstructure import TABLES
    from fornix.orientation import FOD_METHODS
    from fornix.preprocess import CORRECT_METHODS, DENOISE_METHODS, MASK_METHODS, NOISE_METHODS
    from fornix.tracking import TRACK_METHODS

    tables = [NOISE_METHODS, MASK_METHODS, DENOISE_METHODS, CORRECT_METHODS]
    for table in [*tables, *TABLES.values(), FOD_METHODS, TRACK_METHODS]:
        for method in table.values():
            if method.reference:
                console.print(f"{table.stage:<10}{method.name:<20}{method.reference}")
