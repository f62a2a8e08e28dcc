"""A cohort judged from Python: tables in, tables out; `KnowledgeBase.screen` is the way in.

The run is that of ``sarc-kb screen``, into a folder that is gone afterwards, so that the answers are
the same.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from sarc_kb.errors import Finding, UsageError
from sarc_kb.kb import option_date, with_entry_dates
from sarc_kb.sources.read import read_sources

if TYPE_CHECKING:
    import pyarrow as pa

    from sarc_kb.cohort.screen import Screening
    from sarc_kb.facts import PatientRecord
    from sarc_kb.kb import KnowledgeBase
    from sarc_kb.rules import Trial
    from sarc_kb.sources.facts_frame import ArrowTable


@dataclass(frozen=True, slots=True)
class Screened:
    """A cohort that was judged; ``docs/cohort.md`` describes the columns.

    ``patients`` has a row for each patient and trial, ``clauses`` one for each patient, trial,
    criterion and clause; both are PyArrow tables, which pandas and Polars take as they are.
    ``summary`` is what ``summary.json`` holds (``sarc_kb/schema/screening-1.schema.json``) and names
    no patient. ``findings`` are those of the run, of what could not be read above all.
    """

    patients: pa.Table
    clauses: pa.Table
    summary: Mapping[str, Any]
    findings: tuple[Finding, ...] = ()


def screen(
    kb: KnowledgeBase,
    sources: Iterable[Path | ArrowTable],
    *,
    trial: str | None,
    set_here: Mapping[str, Mapping[str, str]],
    entry_date: str | None,
    entry_dates: Mapping[str, str],
    as_of: str | None,
    complete: tuple[str, ...],
    attested: Mapping[str, str],
    only: str | None,
    omop: str | None,
    persons: Iterable[str],
    omop_schema: str | None,
    engine: str,
    server: str | None,
    memory: str,
    workers: int,
) -> Screened:
    """Return the judged cohort; see `KnowledgeBase.screen`. ``set_here``: policies, readings and
    relaxed limits, each under that name."""
    try:
        import pyarrow.parquet as pq

        from sarc_kb.cohort.preparing import Settings
        from sarc_kb.cohort.screen import Options
        from sarc_kb.cohort.screen import screen as run
        from sarc_kb.reports.cohort_report import document
    except ImportError as absent:
        raise extra_absent(absent) from None

    names = [trial.upper()] if trial else sorted(kb.trial_folders)
    trials = trials_as_set(kb, names, set_here)
    kb.scopes(complete)
    for each in trials.values():
        kb.answers(each, attested)
    records: Iterable[PatientRecord]
    records, problems = read_sources(sources, kb.reading_terms(*trials.values()))
    if omop is not None:
        tables = kb.omop_records(
            omop, tuple(trials.values()), problems, persons=persons, schema=omop_schema
        )
        records = (record for part in (records, tables) for record in part)
    settings = Settings(
        as_of=option_date("--as-of", as_of), complete=complete, attested=attested, only=only
    )
    given = {name: value for name, value in set_here.items() if value}

    def describe(found: Screening) -> Mapping[str, str]:
        told = document(found, kb.info, trials, given, [*kb.added_findings, *problems])
        return {"summary.json": json.dumps(told)}

    with TemporaryDirectory(prefix="sarc-kb-") as scratch:
        folder = Path(scratch) / "screened"
        run(
            kb,
            trials,
            with_entry_dates(records, entry_date, entry_dates),
            folder,
            Options(engine=engine, server=server, memory=memory, workers=workers),
            settings,
            describe=describe,
        )
        patients, clauses = (
            pq.read_table(folder / f"{name}.parquet", memory_map=False)
            for name in ("patients", "clauses")
        )
        summary = json.loads((folder / "summary.json").read_bytes())
    return Screened(patients, clauses, summary, (*kb.added_findings, *problems))


def trials_as_set(
    kb: KnowledgeBase, names: Sequence[str], set_here: Mapping[str, Mapping[str, str]]
) -> dict[str, Trial]:
    """Return the named trials under the given ``policies``, ``readings`` and ``relaxed`` limits.

    Raises:
        UsageError: something is set, and there are several trials; or see `KnowledgeBase.compile`.
    """
    if len(names) > 1 and any(set_here.values()):
        raise UsageError(
            Finding(
                "USE047",
                "error",
                "--policy, --reading and --relax",
                f"{len(names)} trials",
                "an entry or limit belongs to one trial",
                "name that one with --trial",
            )
        )
    given: dict[str, Any] = dict(set_here)
    return {name: kb.engine(name, **given)[0] for name in names}


def extra_absent(absent: ImportError) -> UsageError:
    """Return the error that says which package of the extra ``cohort`` is not there."""
    return UsageError(
        Finding(
            "USE049",
            "error",
            "screen",
            f"the package {absent.name or absent} is not installed",
            "the cohort engine is an optional extra",
            "install it with: pip install 'sarc-kb[cohort]'",
        )
    )
