"""`python -m fornix` is the command `fornix`."""

from fornix.cli import main

if __name__ == "__main__":
    main()
