"""The command line."""

import os


def main() -> None:
    """Entry point of the command `fornix`."""
    # Threads that wait must sleep, not spin: on a busy machine spinning makes two threads ten times
    # slower than one. Read by OpenMP when torch is loaded, so it is set before.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    from fornix.cli.app import main as run

    run()


__all__ = ["main"]
