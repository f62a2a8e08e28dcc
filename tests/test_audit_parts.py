"""The parts of the audit about codes, cases and rules written twice."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import pytest

from sarc_kb.audit import cases, codes, rules
from sarc_kb.audit.codes import Row
from sarc_kb.audit.section import Request
from sarc_kb.cases import Case, load_cases
from sarc_kb.errors import Finding
from sarc_kb.kb import KnowledgeBase
from sarc_kb.namespaces import SARC, TRIAL_BASE
from sarc_kb.rules import Trial

CODE = "http://loinc.org/718-7"


def row(term: str, predicate: str = "exactMatch", line: int = 1, code: str = CODE) -> Row:
    return Row("x.sssom.tsv", line, code, str(SARC[term]), predicate, "LOINC", verified=False)


def faults(kb: KnowledgeBase, rows: Iterable[Row]) -> list[tuple[str, str, str]]:
    found: list[Finding] = list(codes._faults(rows, kb.terms))
    return [(f.code, f.where, f.why) for f in found]


# -- codes -----------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("one", "other"),
    [
        (row("ActiveHepatitisB"), row("HepatitisB", "broadMatch", 2)),
        (row("HepatitisB", "broadMatch"), row("HepatitisC", "broadMatch", 2)),
        (row("HepatitisB", "narrowMatch"), row("HepatitisC", "narrowMatch", 2)),
        (row("Haemoglobin"), row("Thigh", "relatedMatch", 2)),
        (row("Haemoglobin"), row("PlateletCount", line=2, code="http://loinc.org/777-3")),
    ],
    ids=["what is above", "two at once", "one of two", "a site beside it", "another code"],
)
def test_what_a_code_may_say_twice(kb: KnowledgeBase, one: Row, other: Row) -> None:
    assert faults(kb, (one, other)) == []


@pytest.mark.parametrize(
    ("one", "other", "code", "why"),
    [
        (row("Haemoglobin"), row("PlateletCount", line=2), "CODE001", "the same as two things"),
        (
            row("HepatitisB"),
            row("HepatitisC", "narrowMatch", 2),
            "CODE001",
            "cannot only possibly be the other",
        ),
        (row("HepatitisB"), row("HepatitisC", "broadMatch", 2), "CODE001", "is not the other too"),
        (row("Haemoglobin"), row("Haemoglobin", line=2), "CODE002", "leaves the other as it was"),
        (row("Haemoglobin"), row("NoSuchTerm", "narrowMatch", 2), "CODE003", "would be lost"),
    ],
)
def test_what_a_code_may_not(kb: KnowledgeBase, one: Row, other: Row, code: str, why: str) -> None:
    found = faults(kb, (one, other))
    assert any(c == code and w == "x.sssom.tsv:2" and why in y for c, w, y in found), found


def test_nothing_is_two_things_that_exclude_each_other(kb: KnowledgeBase) -> None:
    a, b = min(kb.terms.disjoint)
    one, other = (replace(row("x", "broadMatch", n), term=t) for n, t in ((1, a), (2, b)))
    assert ("CODE001", "x.sssom.tsv:2", "nothing can be both") in faults(kb, (one, other))


def test_who_reads_a_code(kb: KnowledgeBase, trial: Trial) -> None:
    """Directly, by something below what a rule names, and through a conversion."""
    for term, expected in (
        ("Haemoglobin", {"I07"}),
        ("HaemoglobinSubstance", {"I07"}),
        ("BloodTransfusion", {"I07", "E12"}),
    ):
        assert set(codes.read_by(trial, kb.terms, [row(term)])) == expected
    assert codes.read_by(trial, kb.terms, []) == {}


def test_the_counts_are_those_of_the_tables(kb: KnowledgeBase) -> None:
    """Counted here by splitting lines at tabs."""
    used = ("skos:exactMatch", "skos:broadMatch", "skos:narrowMatch", "skos:relatedMatch")
    rows = open_ = 0
    for path in sorted((kb.root / "ontology" / "mappings").glob("*.tsv")):
        lines = [x for x in path.read_text("utf-8").splitlines() if not x.startswith("#")]
        head = lines[0].split("\t")
        for line in lines[1:]:
            cells = dict(zip(head, line.split("\t"), strict=True))
            rows += cells["predicate_id"] in used
            open_ += cells["predicate_id"] in used and cells["verified"] != "yes"
    section = codes.audit(kb, Request("NCT05602415"))
    assert section.passed
    assert (section.document["rows"], section.document["unverified"]) == (rows, open_)
    by_system = section.document["by_system"]
    assert isinstance(by_system, list)
    assert sum(s["rows"] for s in by_system) == rows
    assert sum(s["unverified"] for s in by_system) == open_
    assert open_ > 50


# -- cases -----------------------------------------------------------------------------------------
@pytest.fixture(scope="module")
def some(kb: KnowledgeBase, trial: Trial) -> list[Case]:
    """The cases of one clause, and some that ask for another reading."""
    folder = kb.trial_folder(trial.id)
    own = load_cases(folder, kb.terms.axes, about={f"{TRIAL_BASE}{trial.id}/I07a"})
    others = [c for c in load_cases(folder, kb.terms.axes) if c.readings]
    assert len(own) > 8
    return [*own, others[0]]


def judged(kb: KnowledgeBase, some: list[Case], monkeypatch: pytest.MonkeyPatch) -> list[Finding]:
    from sarc_kb.audit import shared

    monkeypatch.setattr(cases, "cases_of", lambda kb, trial: tuple(some))
    monkeypatch.setattr(shared, "cases_of", lambda kb, trial: tuple(some))
    shared.judge_of.cache_clear()
    try:
        section = cases.audit(kb, Request("NCT05602415"))
    finally:
        shared.judge_of.cache_clear()
    assert section.document["cases"] == len(some)
    assert section.document["broken"] == len(section.findings)
    return list(section.findings)


def test_cases_that_hold(
    kb: KnowledgeBase, some: list[Case], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert judged(kb, some, monkeypatch) == []


def test_each_case_that_does_not_hold_is_named(
    kb: KnowledgeBase, some: list[Case], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also under another reading, about no rule, and one whose record cannot be judged."""
    *own, other = some
    at_limit = next(c for c in own if c.id == "I07a-at-limit")
    below = next(c for c in own if c.id == "I07a-one-step-below")
    wrong = [
        replace(at_limit, expected=below.expected),
        replace(below, record=replace(below.record, entry=None)),
        replace(own[0], id="stray", rule=own[0].rule + "x"),
        replace(other, expected=next(c.expected for c in own if c.expected is not other.expected)),
    ]
    found = judged(kb, wrong, monkeypatch)
    told = {f.where.partition(",")[0]: f for f in found}
    assert set(told) == {"I07a-at-limit", "I07a-one-step-below", "stray", other.id}
    assert told["I07a-at-limit"].found == "I07a: comes out as pass, and must as fail"
    assert told["I07a-at-limit"].why.endswith("the source prints ≥, so 9 is inside")
    assert "has no entry date, and must as fail" in told["I07a-one-step-below"].found
    assert told["stray"].code == "CASE002"
    (reading,) = other.readings.items()
    assert f" under {reading[0]}={reading[1]}: " in told[other.id].found
    assert all(Path(f.where.partition(", ")[2]).suffix == ".ttl" for f in found)


# -- rules -----------------------------------------------------------------------------------------
def test_no_rule_is_written_twice(trial: Trial) -> None:
    assert list(rules.repeated(trial)) == []


def test_a_rule_is_the_same_whatever_its_sets_are_called(trial: Trial) -> None:
    clause = next(c for c in trial.clauses.values() if c.id == "E13")
    assert clause.role is not None
    own = trial.set_of(clause.role.concept_set)
    named = replace(own, iri="urn:other")
    other = replace(
        clause, iri="urn:E99", id="E99", role=replace(clause.role, concept_set="urn:other")
    )
    both = replace(
        trial,
        clauses={**trial.clauses, other.iri: other},
        sets={**trial.sets, named.iri: named},
        treatment=None,
    )
    assert [(a.id, b.id) for a, b in rules.repeated(both)] == [("E13", "E99")]
    elsewhere = replace(other, text=replace(other.text, quote="other words"))
    apart = replace(both, clauses={**trial.clauses, elsewhere.iri: elsewhere})
    assert list(rules.repeated(apart)) == []
