"""Changes between sessions as a table."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from fornix.io.files import atomic
from fornix.tracts.change import Change
from fornix.tracts.files import written_number

#: What the columns hold, by name, for the sidecar.
COLUMNS = {
    "tractID": "name of the tract",
    "nodeID": "0 where the tract begins to the last at its end",
    "map": "what is measured; volume_ml is the tract's own",
    "from": "the session that is compared with",
    "to": "the session that is compared",
    "first": "value of the first, in the map's unit",
    "second": "value of the second",
    "change": "second less first",
    "std": "standard deviation of the change's error",
    "low": "lower end of the change's 90% interval",
    "high": "upper end",
    "percent": "the change in percent of both values' mean",
    "reason": "why there is no value",
}


def save_changes(
    changes: Sequence[Change], path: Path, sessions: Sequence[str], *, along: bool
) -> Path:
    """Write a row for each change (`along`: for each of its nodes); `n/a` where there is no value.

    Args:
        changes: From `tract_changes`.
        path: The file.
        sessions: Names of the sessions, the first first.
        along: Whether there are several nodes.
    """
    kept = [c for c in COLUMNS if along or c != "nodeID"]
    rows = ["\t".join(kept)]
    for c in changes:
        numbers = zip(c.first, c.second, c.change, c.std, c.low, c.high, c.percent)
        for node, values in enumerate(numbers):
            cells = [
                c.tract,
                *([str(node)] if along else []),
                c.map,
                sessions[0],
                sessions[c.later],
            ]
            cells += [written_number(float(v)) for v in values]
            rows.append("\t".join([*cells, c.reason or "n/a"]))
    with atomic(path) as temporary:
        temporary.write_text("\n".join(rows) + "\n")
    return path
