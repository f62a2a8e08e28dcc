"""An OMOP CDM to patient records, person by person.

The rows of all tables come as one stream, ordered by person; a record is made whenever the person
changes. So the memory that reading needs is that of one person, whatever the number of persons.
"""

from __future__ import annotations

import traceback
from collections.abc import Iterator, Sequence
from itertools import groupby, islice
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

from sarc_kb.errors import Finding, InputError
from sarc_kb.facts import PatientRecord
from sarc_kb.sources.limits import MAX_FACTS
from sarc_kb.sources.omop_findings import finding
from sarc_kb.sources.omop_person import PERSON, OmopTerms, read_person
from sarc_kb.sources.omop_tables import load_vocabulary, look_over, open_cdm, stream

if TYPE_CHECKING:
    from sarc_kb.sources.omop_cdm import Row, Vocabulary
    from sarc_kb.sources.omop_tables import Cdm

__all__ = ["OmopTerms", "read_omop"]


def read_omop(
    source: str,
    terms: OmopTerms,
    problems: list[Finding],
    *,
    persons: Sequence[str] | None = None,
    schema: str | None = None,
) -> Iterator[PatientRecord]:
    """Yield a record for each person, or for each of ``persons``, in the order of their numbers.

    ``source``: a DuckDB file, a folder of Parquet or CSV files, or a ``postgresql://`` URL; it is
    only read. ``problems`` receives what belongs to no one person, the last of it at the end; also
    why the source cannot be read, or not to its end.

    Raises:
        UsageError: the extra ``omop`` is not installed.
    """
    try:
        with open_cdm(source, schema) as cdm:
            problems += cdm.findings
            cdm.findings = problems
            look_over(cdm)
            vocabulary = load_vocabulary(cdm, terms.reads, persons)
            if vocabulary.above:
                found = f"{len(vocabulary.above)} concepts read through their ancestors"
                problems.append(finding("DATA209", cdm.origin, found))
            yield from _records(cdm, terms, vocabulary, problems, persons)
    except InputError as error:
        problems += error.findings


def _records(
    cdm: Cdm,
    terms: OmopTerms,
    vocabulary: Vocabulary,
    problems: list[Finding],
    persons: Sequence[str] | None,
) -> Iterator[PatientRecord]:
    # Of persons that somebody named: a set of all would grow with them.
    wanted = frozenset(persons or ())
    found: set[str] = set()
    strangers: list[str] = []
    strange = 0
    for person, group in groupby(stream(cdm, persons), key=lambda row: row.person):
        rows = list(islice(group, MAX_FACTS + 1))
        if not person:
            # None of these are kept, so they may be as many as they like.
            count = len(rows) + sum(1 for _ in group)
            problems.append(finding("DATA211", cdm.origin, f"{count} rows without a person"))
        elif all(row.table != "person" for row in rows):
            strange += 1
            strangers += [person] if strange <= 3 else []
        else:
            found |= wanted & {person}
            if len(rows) <= MAX_FACTS:
                yield _one(person, rows, terms, vocabulary, cdm.origin)
            else:
                yield _lost(person, "DATA237", f"more than {MAX_FACTS} rows", cdm.origin)
    if strange:
        shown = ", ".join(strangers) + (", …" if strange > 3 else "")
        problems.append(
            finding("DATA212", cdm.origin, f"{strange} not in the table person ({shown})")
        )
    for person in persons or ():
        if person not in found:
            problems.append(finding("DATA210", f"{cdm.origin} --person {person}", "no such person"))


def _one(
    person: str, rows: list[Row], terms: OmopTerms, vocabulary: Vocabulary, origin: str
) -> PatientRecord:
    try:
        return read_person(rows, terms, vocabulary, origin)
    except Exception as bug:
        # One record must never stop a cohort; what went wrong is told without its values.
        where = traceback.extract_tb(bug.__traceback__)[-1]
        found = f"{type(bug).__name__} in {Path(where.filename).name}:{where.lineno}"
        return _lost(person, "DATA236", found, origin)


def _lost(person: str, code: str, found: str, origin: str) -> PatientRecord:
    """Return the record of a person who cannot be judged."""
    told = finding(code, f"person/{person}", found)
    return PatientRecord(PERSON + quote(person, safe=""), person, None, (), origin, "", (told,))
