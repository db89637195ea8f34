"""Measurements and the table of subjects, row by row."""

from __future__ import annotations

import pandas as pd

from fornix.analysis.measurements import Measurements
from fornix.core.errors import FornixError, tell


def matched(measurements: Measurements, people: pd.DataFrame) -> tuple[Measurements, pd.DataFrame]:
    """Both in one order; who is in one of them alone is left out, and it is said.

    Args:
        measurements: By subject, and session where there are some.
        people: With `participant_id`, and `session_id` where subjects come again.
    """
    sessions = "session_id" in people and bool(measurements.sessions)
    keys = ["participant_id", "session_id"] if sessions else ["participant_id"]
    if "session_id" in people and not sessions and people["participant_id"].duplicated().any():
        raise FornixError(
            "the design has several sessions per subject and the tables have no column session_id; add it"
        )
    left = pd.DataFrame({"participant_id": measurements.subjects})
    if sessions:
        left["session_id"] = [s.removeprefix("ses-") for s in measurements.sessions]
        people = people.assign(session_id=people["session_id"].astype(str).str.removeprefix("ses-"))
    joined = left.merge(people, how="left", on=keys, indicator=True)
    there = (joined["_merge"] == "both").to_numpy()
    if not there.any():
        raise FornixError(
            f"no subject of the tables ({measurements.subjects[0]}, …) is in the design "
            f"({people['participant_id'].iloc[0]}, …); do they go by the same names?"
        )
    if not there.all():
        lost = joined.loc[~there, "participant_id"]
        tell(f"{len(lost)} subjects are not in the design and are left out: {_some(list(lost))}")
    extra = sorted(set(people["participant_id"]) - set(left["participant_id"]))
    if extra:
        tell(f"{len(extra)} subjects of the design have no table: {_some(extra)}")
    kept = joined[there].drop(columns="_merge").reset_index(drop=True)
    return measurements.rows(there), kept


def _some(names: list[str]) -> str:
    return ", ".join(names[:5]) + (" …" if len(names) > 5 else "")
