"""Two examples of a tract are laid over each other the same way round."""

from __future__ import annotations

import numpy as np

from fornix.training.tract_atlas import runs_back

GRID = (16, 20, 12)


def _ends(first: int, last: int) -> np.ndarray:
    ends = np.zeros((2, *GRID), np.float32)
    ends[0, 6:9, first : first + 3, 4:7] = 1
    ends[1, 6:9, last : last + 3, 4:7] = 1
    return ends


def test_an_example_that_begins_at_the_other_end_is_recognised() -> None:
    one, same, back = _ends(1, 15), _ends(2, 14), _ends(14, 2)
    assert not runs_back(one, same)
    assert runs_back(one, back)
    # Mirrored, a tract across the midline begins where it ended.
    across = np.zeros((2, *GRID), np.float32)
    across[0, 1:4, 5:9], across[1, 12:15, 5:9] = 1, 1
    assert runs_back(across, across[:, ::-1])
