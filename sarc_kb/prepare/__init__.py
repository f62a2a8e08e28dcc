"""Prepare a patient: facts in, facts with intervals and derived facts out.

Passes run in the order of :func:`prepare`. None of them judges anything or knows a trial's
content; names of sets, windows and derivations come from the compiled rules. What is uncertain is
settled here once: a value is an interval, an event has an earliest and a latest start and end, and
being in a set, a qualifier or a window has a degree, 0 not, 1 possible, 2 certain.
"""

from __future__ import annotations

from collections.abc import Mapping

from sarc_kb.dates import PartialDate
from sarc_kb.facts import PatientRecord
from sarc_kb.prepare.anchors import intervals, resolve_all
from sarc_kb.prepare.answers import answer
from sarc_kb.prepare.arithmetic import compute
from sarc_kb.prepare.derivation import derive
from sarc_kb.prepare.doses import days_between, take_doses
from sarc_kb.prepare.facts import enrol, read_facts, take_attested
from sarc_kb.prepare.index import mark_index
from sarc_kb.prepare.measurement import measure
from sarc_kb.prepare.model import Answer, Item, Prepared, Span, Statement, WindowDays
from sarc_kb.prepare.state import Preparation
from sarc_kb.prepare.statements import hear, settle, tally
from sarc_kb.rules import Trial
from sarc_kb.terminology import Terminology

__all__ = [
    "Answer",
    "Item",
    "Preparation",
    "Prepared",
    "Span",
    "Statement",
    "WindowDays",
    "begin",
    "finish",
    "prepare",
]


def prepare(
    record: PatientRecord,
    trial: Trial,
    terms: Terminology,
    *,
    as_of: PartialDate | None = None,
    complete: tuple[str, ...] = (),
    attested: Mapping[str, str] | None = None,
    unchanged_since: PartialDate | None = None,
) -> Prepared:
    """Return the prepared patient.

    Args:
        record: must have an entry date with a known day.
        as_of: facts dated later are not seen; default is the entry date.
        complete: scope IRIs the caller vouches for, up to the as-of date.
        attested: rule IRI to an answer IRI, given once for the study.
        unchanged_since: suppose that nothing has happened from this day to entry: facts dated
            later are not seen, and what reaches this day (what is said to be complete, an explicit
            negative, an observation period) reaches entry. By default nothing is supposed.
    """
    return finish(
        begin(
            record,
            trial,
            terms,
            as_of=as_of,
            complete=complete,
            attested=attested,
            unchanged_since=unchanged_since,
        )
    )


def begin(
    record: PatientRecord,
    trial: Trial,
    terms: Terminology,
    *,
    as_of: PartialDate | None = None,
    complete: tuple[str, ...] = (),
    attested: Mapping[str, str] | None = None,
    unchanged_since: PartialDate | None = None,
) -> Preparation:
    """Return what the record says before anything is held against entry; see :func:`prepare`."""
    assert record.entry is not None
    assert record.entry.exact
    p = Preparation(record, trial, terms, as_of, complete, attested or {}, unchanged_since)
    read_facts(p)
    mark_index(p)
    derive(p, windowed=False)
    measure(p)
    return p


def finish(p: Preparation) -> Prepared:
    """Return the prepared patient; ``p`` is used up."""
    trial = p.trial
    take_attested(p)
    enrol(p)
    resolve_all(p)
    hear(p)
    take_doses(p)
    derive(p, windowed=True)  # what follows only within a window, now that windows are known
    compute(p)
    days_between(p)
    intervals(p)
    settle(p)
    tally(p)
    prepared = Prepared(
        record=p.record,
        trial=p.trial,
        terms=p.terms,
        entry=p.entry,
        as_of=p.as_of,
        items=p.items,
        statements=p.statements,
        windows=p.windows,
        anchors=p.anchors,
        cleared={},
        denied={},
        findings=p.findings,
        void=p.void,
        later=p.later,
    )
    if trial.course is None:  # answers are about eligibility
        answer(p, prepared)
    return prepared
