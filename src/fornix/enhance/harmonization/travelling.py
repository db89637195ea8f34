"""Heads that were scanned at several sites: they tell what is the site's without a model of people."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from fornix.core.errors import FornixError
from fornix.enhance.harmonization.least_squares import solve
from fornix.enhance.harmonization.shrinkage import SiteSummary

Array = NDArray[np.float64]


def travelling_rows(index: NDArray[np.int64], heads: Sequence[str]) -> NDArray[np.bool_]:
    """(S,) rows of heads that were at more than one site.

    Args:
        index: (S,) number of each row's site.
        heads: (S,) who it is of; empty text where that is not known.
    """
    places: dict[str, set[int]] = {}
    for head, j in zip(heads, index):
        places.setdefault(head, set()).add(int(j))
    return np.array([head != "" and len(places[head]) > 1 for head in heads])


def told_by_heads(
    sites: Sequence[SiteSummary], rest: Array, known: NDArray[np.bool_], index: NDArray[np.int64],
    heads: Sequence[str], reference: int | None = None,
) -> list[SiteSummary]:  # fmt: skip
    """Summaries whose shifts are those between sites of the same heads, for the sites that such heads saw.

    A head has a level of its own in every column; shifts of the visited sites have the mean, over scans, that
    their cohorts have. Variances stay the cohorts'.

    Args:
        sites: Of the cohorts.
        rest: (S, V) values less what is expected, over the pooled standard deviation.
        known: (S, V).
        index: (S,) number of each row's site.
        heads: (S,) who each row is of.
        reference: Site whose shift is 0.

    Raises:
        FornixError: No head was at two sites.
    """
    rows = travelling_rows(index, heads)
    if not rows.any():
        raise FornixError(
            "no head was at two sites: travelling heads have the same participant_id at each; leave "
            "--travelling out"
        )
    names = sorted({heads[int(i)] for i in np.flatnonzero(rows)})
    there = sorted(set(index[rows]))
    who = np.array([names.index(heads[int(i)]) for i in np.flatnonzero(rows)])
    where = np.array([there.index(j) for j in index[rows]])
    design = np.column_stack([np.eye(len(there))[where], np.eye(len(names))[who]])
    y, seen = np.where(known[rows], rest[rows], 0), known[rows]
    # Levels of heads and of sites share a constant; the least-norm solution is moved to the cohorts' mean.
    made = solve(design, y, seen)
    df = max(len(y) - len(there) - len(names) + 1, 1)
    away = np.where(seen, y - design @ made, 0)
    noise = (away**2).sum(0) / df
    weight = np.array([sites[j].count.max() for j in there])
    cohort = np.stack([np.nan_to_num(sites[j].shift) for j in there])
    shift = made[: len(there)]
    if reference in there:
        shift = shift - shift[there.index(reference)]
    else:
        shift = shift - (weight[:, None] * (shift - cohort)).sum(0) / weight.sum()
    out = list(sites)
    for place, j in enumerate(there):
        mine = where == place
        of_each = away[mine].mean(1)
        known_here = seen[mine].sum(0)
        own = np.where(known_here > 0, shift[place], np.nan)
        among = float((of_each**2).sum() / max(len(of_each) - 1, 1))
        out[j] = replace(
            sites[j], shift=own, shift_variance=noise / np.maximum(known_here, 1),
            level=float(np.nanmean(own)) if known_here.any() else 0.0,
            level_variance=among / max(mine.sum(), 1),
        )  # fmt: skip
    return out
