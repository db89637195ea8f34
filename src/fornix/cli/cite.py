"""`fornix cite`: the papers behind the methods."""

from __future__ import annotations

from fornix.cli.show import console


def cite_command() -> None:
    """Print the paper of every method, by stage.

    [bold]Example[/]

      fornix cite
    """
    from fornix.estimators.registry import tables

    for table in tables():
        for method in table.values():
            if method.reference:
                console.print(f"{table.stage:<10}{method.name:<20}{method.reference}")
