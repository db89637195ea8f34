"""Schemes: counts, balance, b0s apart, no surprises from random ones."""

from __future__ import annotations

import numpy as np
import pytest

from fornix.core.errors import FornixError
from fornix.numerics.directions import condition
from fornix.physics import SCHEMES, random_protocol, scheme

EXPECTED = {
    "dti6": (1, {1000: 6}), "dti12": (1, {1000: 12}), "dti15": (1, {1000: 15}),
    "dti20": (2, {1000: 20}), "dti30": (3, {1000: 30}), "dti32": (1, {1000: 32}),
    "dti64": (5, {1000: 64}), "hcp": (18, {1000: 90, 2000: 90, 3000: 90}),
    "ukb": (5, {1000: 50, 2000: 50}), "abcd": (7, {500: 6, 1000: 15, 2000: 15, 3000: 60}),
    "bench96": (6, {1000: 30, 2000: 60}), "demo": (4, {1000: 24, 2000: 40}),
}  # fmt: skip


@pytest.mark.parametrize("name", EXPECTED)
def test_counts_and_balance(name: str) -> None:
    g = scheme(name)
    b0, shells = EXPECTED[name]
    assert g.b0_mask.sum() == b0
    assert {round(s.b): len(s) for s in g.shells} == shells
    assert not g.notes
    for shell in g.shells:
        assert condition(g.directions[list(shell.volumes)]) < 1.9
    assert g == scheme(name)


def test_b0s_are_interleaved_and_shells_differ() -> None:
    g = scheme("ukb")
    where = np.flatnonzero(g.b0_mask)
    assert where[0] == 0 and np.diff(where).max() <= len(g) / 5 + 1
    one, two = (g.directions[list(s.volumes)] for s in g.shells)
    assert np.abs(one @ two.T).max() < 0.99999


def test_dsi_is_a_grid() -> None:
    g = scheme("dsi")
    assert len(g) == 203 and g.bvals.max() == pytest.approx(4000)
    q = g.directions * np.sqrt(g.bvals / 4000 * 13)[:, None]
    np.testing.assert_allclose(q, np.round(q), atol=1e-9)


def test_unknown_scheme_lists_the_names() -> None:
    with pytest.raises(FornixError, match="bench96"):
        scheme("nothing")
    assert set(EXPECTED) | {"dsi"} == set(SCHEMES)


def test_random_protocols_are_usable_and_repeatable() -> None:
    sizes = set()
    for seed in range(25):
        g = random_protocol(seed, volumes=(7, 60))
        assert 7 <= len(g) <= 60 and g.b0_mask.any() and (~g.b0_mask).sum() >= 6
        assert condition(g.directions[~g.b0_mask]) < 12
        assert g.bvals.max() <= 3010
        sizes.add(len(g))
    assert len(sizes) > 10
    assert random_protocol(3) == random_protocol(3)
    assert random_protocol(3) != random_protocol(4)
    with pytest.raises(FornixError, match="7 or more"):
        random_protocol(0, volumes=(3, 5))
