"""What waiting does to the patients of a cohort: earliest entry and expiry, as rows and counts.

Each patient is followed by `sarc_kb.earliest` while being prepared; the engine only counts.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import pyarrow as pa

from sarc_kb.assessment import Verdict
from sarc_kb.cohort.cohort import Cohort
from sarc_kb.cohort.evaluate import Table
from sarc_kb.earliest import over_time
from sarc_kb.errors import InputError
from sarc_kb.facts import PatientRecord
from sarc_kb.kb import KnowledgeBase, bug_finding
from sarc_kb.rules import Trial

OVER_TIME = pa.schema(
    [
        ("pid", pa.int64()),
        ("trial", pa.string()),
        ("entry_date", pa.string()),
        ("horizon", pa.string()),
        ("verdict", pa.string()),
        ("earliest", pa.string()),
        ("held_by", pa.string()),
        ("if_repeated", pa.string()),
        ("if_repeated_held_by", pa.string()),
        ("repeat", pa.string()),
        ("expires", pa.string()),
        ("expires_to", pa.string()),
        ("expires_by", pa.string()),
        ("blocked_by", pa.string()),
        ("apart", pa.string()),
        ("problem", pa.string()),
    ]
)
COLUMNS = ("patient", *OVER_TIME.names[1:])

Row = tuple[object, ...]


def waiting_rows(
    kb: KnowledgeBase,
    record: PatientRecord,
    trials: Mapping[str, Trial],
    *,
    horizon_days: int,
    complete: tuple[str, ...],
    attested: Mapping[str, str],
) -> list[Row]:
    """Return a row without its number for each trial: what waiting does to one patient.

    A patient who cannot be followed has the verdict ``error`` and is told why.
    """
    rows: list[Row] = []
    for name, trial in trials.items():
        try:
            found = over_time(
                kb, record, trial, horizon_days=horizon_days, complete=complete, attested=attested
            )
        except InputError as failure:
            rows.append(_not_followed(name, failure.findings[0].found))
            continue
        except MemoryError:
            raise
        except Exception as bug:
            rows.append(_not_followed(name, bug_finding(record, bug).found))
            continue
        first, again, change = found.earliest, found.if_repeated, found.expires
        rows.append(
            (
                name,
                found.now,
                found.horizon,
                found.verdict_now.value,
                first.date if first else None,
                _ids(first.held_by) if first else None,
                again.date if again else None,
                _ids(again.held_by) if again else None,
                _ids(again.repeat) if again else None,
                change.date if change else None,
                change.verdict.value if change else None,
                _ids(change.by) if change else None,
                _ids(found.blocked_by),
                _ids(found.apart),
                None,
            )
        )
    return rows


def _ids(clauses: tuple[str, ...]) -> str | None:
    return " ".join(clauses) or None


def _not_followed(name: str, why: str) -> Row:
    row: dict[str, object] = dict.fromkeys(OVER_TIME.names[1:])
    row |= {"trial": name, "verdict": Verdict.ERROR.value, "problem": why}
    return tuple(row.values())


@dataclass(frozen=True, slots=True)
class WaitCount:
    """Waiting over a cohort, by one trial: who is eligible now, who becomes so by waiting alone up
    to the horizon, who would if what has grown old were repeated, and whose verdict expires."""

    trial: str
    horizon_days: int
    eligible_now: int
    by_waiting: int
    if_repeated: int
    expiring: int
    not_followed: int


def count_waiting(cohort: Cohort, table: Table, trial: str, horizon_days: int) -> WaitCount:
    """Return the counts of one trial; ``table``: rows of all patients, as `OVER_TIME`."""
    rows = table.filter(table.trial == trial)
    eligible = rows.verdict == Verdict.ELIGIBLE.value
    sums = cohort.sums(
        rows,
        {
            "eligible_now": eligible,
            "by_waiting": ~eligible & rows.earliest.notnull(),
            "if_repeated": rows.earliest.isnull() & rows.if_repeated.notnull(),
            "expiring": rows.expires.notnull(),
            "not_followed": rows.problem.notnull(),
        },
    )
    return WaitCount(trial, horizon_days, **sums)
