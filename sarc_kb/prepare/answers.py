"""Answers of people: what they clear and what they deny."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from sarc_kb.dates import NEVER
from sarc_kb.namespaces import SARC
from sarc_kb.prepare.model import (
    Answer,
    Item,
    Prepared,
    set_degree,
)
from sarc_kb.prepare.state import Preparation
from sarc_kb.rules import Criterion, Question

_YES, _NO, _UNKNOWN = str(SARC.Yes), str(SARC.No), str(SARC.Unknown)


def applies(p: Preparation, question: Question) -> bool:
    """Whether the "if" of a question may hold for this record."""
    if question.asked_of is None or question.asked_when is None:
        return True
    wanted = p.trial.set_of(question.asked_when)
    known = [i for i in p.items if set_degree(i, question.asked_of, p.trial, p.terms)]
    return not known or any(not i.has_value or wanted.degree(i.values, p.terms) > 0 for i in known)


def answer(p: Preparation, prepared: Prepared) -> None:
    """Work out which clauses are cleared and which criteria and clauses are denied.

    The latest answer on or before entry counts, per question and then per clause; contradictory
    answers of one day leave it open; an answer without a date or a value does not count.
    """
    clauses = p.trial.clauses
    owner = {leaf: c for c in p.trial.criteria for leaf in c.clauses}
    said = [_Said(s, _covered(p, s), clears, item) for s, clears, item in _verdicts(p, owner)]
    events: dict[str, list[_Said]] = {}
    for one in said:
        for clause in one.covers:
            if clause in clauses:
                events.setdefault(clause, []).append(one)
        if one.clears and one.subject in clauses and not clauses[one.subject].attestable:
            p.find(
                "DATA035",
                "warning",
                one.item.origin,
                "an answer to a clause that only the record can decide",
                "it does not clear the clause",
                "record the measurement itself",
            )
    for clause, given in events.items():
        newest = max(e.item.span.minute_lo for e in given)
        last = [e for e in given if e.item.span.minute_hi >= newest]
        if len({e.clears for e in last}) > 1:
            _contradiction(p, last[0].item, f"contradictory answers about {clauses[clause].id}")
        elif last[0].clears:
            if clauses[clause].attestable:
                prepared.cleared[clause] = tuple(Answer(e.item, True, e.subject) for e in last)
        else:
            _deny(prepared, clause, owner[clause], last)


@dataclass(frozen=True, slots=True)
class _Said:
    """The answer that counts of one question or rule id."""

    subject: str
    covers: tuple[str, ...]
    clears: bool
    item: Item


def _deny(prepared: Prepared, clause: str, criterion: Criterion, last: list[_Said]) -> None:
    for one in last:
        # A question about several clauses of a criterion does not say which one it denies.
        alone = [c for c in criterion.clauses if c in one.covers] == [clause]
        single = alone and prepared.trial.clauses[clause].attestable
        target = clause if single else criterion.iri
        known = prepared.denied.get(target, ())
        if one.item.id not in {k.item.id for k in known}:
            prepared.denied[target] = (*known, Answer(one.item, False, one.subject))


def _covered(p: Preparation, subject: str) -> tuple[str, ...]:
    """Return the clauses that an answer about ``subject`` speaks of."""
    for question in p.trial.questions:
        if question.iri == subject:
            return question.covers
    if subject in p.trial.clauses:
        return (subject,)
    return next(c.clauses for c in p.trial.criteria if c.iri == subject)


def _verdicts(p: Preparation, owner: Mapping[str, Criterion]) -> Iterator[tuple[str, bool, Item]]:
    """Yield, per question or rule id, whether its latest answer clears."""
    questions = {q.iri: q for q in p.trial.questions}
    criteria = {c.iri: c for c in p.trial.criteria}
    for subject, given in sorted(_usable(p, {*questions, *criteria, *owner}).items()):
        day = max(i.span.minute_lo for i in given)
        last = [i for i in given if i.span.minute_hi >= day]
        said = {next(iter(i.values.certain)) for i in last}
        if len(said) > 1:
            _contradiction(p, last[0], "contradictory answers of the same date")
            continue
        question = questions.get(subject)
        if question is not None and not applies(p, question):
            p.find(
                "DATA036",
                "info",
                last[0].origin,
                "an answer to a question that does not apply",
                "the record says that its condition does not hold",
                "nothing, if the record is right",
            )
            continue
        if question is not None:
            clearing = question.clearing
        else:
            criterion = criteria.get(subject) or owner[subject]
            clearing = _YES if criterion.kind == "inclusion" else _NO
        yield subject, said.pop() == clearing, last[-1]


def _contradiction(p: Preparation, item: Item, found: str) -> None:
    p.find("DATA034", "warning", item.origin, found, "neither counts", "ask again")


def _usable(p: Preparation, known: set[str]) -> dict[str, list[Item]]:
    """Return the answers that can count, by what they are about; the others are told."""
    found: dict[str, list[Item]] = {}
    for item in p.answers:
        subject = next(iter(sorted(item.terms.certain)), "")
        fact = item.origin
        if subject not in known:
            p.find(
                "DATA030",
                "warning",
                fact,
                "an answer to an unknown question",
                "it answers nothing here",
                "use a linkId of the checklist or a rule id",
            )
        elif item.span.start_lo <= NEVER:
            p.find(
                "DATA031",
                "warning",
                fact,
                "an answer without a date",
                "nobody knows whether it was given by study entry",
                "date the answer",
            )
        elif item.values.certain not in ({_YES}, {_NO}):
            if item.values.certain != {_UNKNOWN}:
                p.find(
                    "DATA032",
                    "warning",
                    fact,
                    "an answer that is not yes, no or unknown",
                    "it cannot be read",
                    "answer yes or no",
                )
        elif item.span.start_hi <= p.entry.last and item.sure:
            found.setdefault(subject, []).append(item)
            if fact is not None and not (
                fact.performer or fact.basis or fact.id.startswith("option:")
            ):
                p.find(
                    "DATA033",
                    "info",
                    fact,
                    "an answer without its author",
                    "an auditor cannot ask back",
                    "name who answered (role) and on what ground",
                )
    return found
