"""The command line."""


def main() -> None:
    """Entry point of the command `fornix`."""
    from fornix.cli.app import main as run

    run()


__all__ = ["main"]
