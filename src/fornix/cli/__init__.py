"""The command line."""

import os


def main() -> None:
    """Entry point of the command `fornix`."""
    # Threads that wait must sleep, not spin: on a busy machine spinning makes two threads ten times
    # slower than one. Read by OpenMP when torch is loaded, so it is set before.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    # numpy's own threads do spin, and its matrices here are small; voxels are shared out among threads
    # by the compiled loops and by torch, which --threads sets.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    from fornix.cli.app import main as run

    run()


__all__ = ["main"]
