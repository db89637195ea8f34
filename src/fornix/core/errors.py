"""The two ways Fornix speaks up: an error that stops the job, and a warning that does not.

Both are one line: what is wrong, where, and what to do.
"""

from __future__ import annotations

import warnings


class FornixError(ValueError):
    """Bad input or an impossible request. The message says what is wrong, where, and what to do."""

    def __init__(self, message: object = "") -> None:
        # One line also where another library's words are part of it.
        super().__init__(" ".join(str(message).split("\n")).strip())


class FornixWarning(UserWarning):
    """Something was changed or looks wrong, but the job goes on. Shown on top of the report."""


def tell(message: str) -> str:
    """Warn with `message` and return it, so that it can be kept with the data as a note."""
    warnings.warn(message, FornixWarning, stacklevel=3)
    return message
