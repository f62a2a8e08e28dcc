"""Mutants of the rules, what kills them, and cases made from parameters."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import pytest

from sarc_kb.assessment import Outcome
from sarc_kb.audit import boundaries, mutation
from sarc_kb.audit.judging import Judge
from sarc_kb.audit.mutant import KINDS, Mutant
from sarc_kb.audit.mutants import mutants_of
from sarc_kb.audit.section import Request
from sarc_kb.audit.variants import killers, packed
from sarc_kb.cases import Case, load_cases
from sarc_kb.kb import KnowledgeBase
from sarc_kb.rules import Trial


@pytest.fixture(scope="module")
def cases(kb: KnowledgeBase, trial: Trial) -> list[Case]:
    return load_cases(kb.trial_folder(trial.id), kb.terms.axes)


@pytest.fixture(scope="module")
def mutants(kb: KnowledgeBase, trial: Trial) -> list[Mutant]:
    return mutants_of(trial, kb.terms)


@pytest.fixture(scope="module")
def judge(kb: KnowledgeBase, trial: Trial, cases: list[Case]) -> Judge:
    return Judge(kb, trial, (case for case in cases if not case.readings))


def named(mutants: Iterable[Mutant], name: str) -> Mutant:
    return next(m for m in mutants if m.id == name)


# -- mutants ---------------------------------------------------------------------------------------
def test_mutants_are_the_same_at_every_run(
    kb: KnowledgeBase, trial: Trial, mutants: list[Mutant]
) -> None:
    again = mutants_of(kb.compile(trial.id), kb.terms)
    assert [(m.id, m.words) for m in again] == [(m.id, m.words) for m in mutants]
    assert len({m.id for m in mutants}) == len(mutants)


def test_there_are_mutants_of_every_kind(mutants: list[Mutant]) -> None:
    assert {m.kind for m in mutants} == set(KINDS)


def test_a_mutant_changes_one_thing(trial: Trial, mutants: list[Mutant]) -> None:
    fields = ("clauses", "joins", "sets", "qualifiers", "windows", "anchors")
    tables = (*fields, "criteria", "derivations", "questions", "series")
    for mutant in mutants:
        for number in mutant.parts:
            part = trial.parts[number]
            changed = mutant.change(part)
            touched = [t for t in tables if getattr(changed, t) != getattr(part, t)]
            assert len(touched) == 1, mutant.id
            before, after = getattr(part, touched[0]), getattr(changed, touched[0])
            if touched[0] in fields:
                assert sum(before[k] != after[k] for k in before) == 1, mutant.id


def test_the_step_is_the_reportable_one(mutants: list[Mutant]) -> None:
    words = {m.id: m.words for m in mutants}
    assert words["I07a:atLeast=9.1"] == "I07a atLeast 9.0 -> 9.1"
    assert words["I07a:atLeast=8.9"] == "I07a atLeast 9.0 -> 8.9"
    assert "I07a:atLeast-comparator" in words


def test_what_nothing_reads_of_a_window_is_no_mutant(mutants: list[Mutant]) -> None:
    """Of a window before which another ends only the start is read, of one that a rule is due after
    only the end; what overlaps a window without a start begins in it."""
    reasons = {m.id: m.equivalent for m in mutants}
    only = "major-surgery-recovery-months"
    assert reasons[f"{only}:end-1=2-days-back"] == "only its start is read"
    assert reasons[f"{only}:start-12=13-months-back"] == ""
    only = "three-months-of-anlotinib"
    assert reasons[f"{only}:start-0=1-days-back"] == "only its end is read"
    assert reasons[f"{only}:end--3=-4-months-back"] == ""
    past = "it is open to the past: what reaches into it begins in it"
    assert reasons["up-to-entry:whole-extent=start-alone"] == past
    assert reasons["at-entry:whole-extent=start-alone"] == ""


def test_a_rule_that_never_tells_what_is_open_is_never_due(mutants: list[Mutant]) -> None:
    reasons = {m.id: m.equivalent for m in mutants if ":due-without-" in m.id}
    assert {name for name, reason in reasons.items() if reason} == {
        "U01:due-without-radiotherapy-due"
    }


def test_no_term_is_replaced_by_a_class_of_the_rule_language(
    kb: KnowledgeBase, mutants: list[Mutant]
) -> None:
    """A distance is worked out by a derivation of the class Smallest; nobody records a Smallest."""
    above = {m.id for m in mutants if m.id.startswith("I04b:role-concept_set=")}
    assert above == {"I04b:role-concept_set=TumourFinding"}


# -- what kills them -------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("name", "case"),
    [
        ("T01:due-without-until-first-dose", "T01-first-dose-where-no-surgery-is-recorded"),
        ("until-start-is-due:end--28=-29-days-back", "T01-day-29-without-a-dose"),
    ],
)
def test_a_case_that_is_open_holds_that_the_rule_is_due(
    name: str, case: str, mutants: list[Mutant], judge: Judge
) -> None:
    own = Judge(judge.kb, judge.trial, [s.case for s in judge.seats if s.case.id == case])
    (at,) = own.seats
    assert at.case.expected is Outcome.UNDETERMINED
    assert own.holds(at, own.prepared(at), own.at_entry(at))
    assert own.killer(named(mutants, name)) == case


def test_before_the_course_has_begun_an_open_case_holds_nothing_of_being_due(judge: Judge) -> None:
    (at,) = (s for s in judge.seats if s.case.id == "T17-not-recorded")
    assert judge.expected(at) is Outcome.UNDETERMINED


def test_every_kind_of_a_sample_is_killed(mutants: list[Mutant], judge: Judge) -> None:
    """Some mutants of every kind; the slow test tries all."""
    seen: dict[str, int] = {}
    for mutant in mutants:
        if mutant.equivalent or judge.unread(mutant) or seen.get(mutant.kind, 0) >= 5:
            continue
        if len(judge.relevant(mutant)) < 200 and judge.killer(mutant):
            seen[mutant.kind] = seen.get(mutant.kind, 0) + 1
    assert seen == dict.fromkeys(KINDS, 5)


def test_the_cohort_engine_kills_what_the_deciding_facts_kill(
    mutants: list[Mutant], judge: Judge
) -> None:
    chosen = [m for m in mutants if m.limits][::12]
    assert {m.parts for m in chosen} == {(0,), (1,)}
    assert killers(judge, chosen) == {m.id: judge.killer(m) for m in chosen}


def test_no_variant_holds_two_mutants_of_one_rule(trial: Trial, mutants: list[Mutant]) -> None:
    own = [m for m in mutants if m.limits and m.parts == (0,)]
    groups = packed(trial, own)
    assert sorted(m.id for group in groups for m in group) == sorted(m.id for m in own)
    for group in groups:
        rules = [trial.clauses[m.of].criterion for m in group]
        assert len(set(rules)) == len(rules)


@pytest.mark.parametrize("name", ["I07a:atLeast=9.1", "I07:or", "E02:role-qualifier-dropped"])
def test_without_its_cases_a_mutant_survives_and_is_named(
    name: str, kb: KnowledgeBase, trial: Trial, cases: list[Case], mutants: list[Mutant]
) -> None:
    mutant = named(mutants, name)
    _, (result,) = mutation.run(kb, trial, cases, [mutant], {})
    assert result.killed_by
    left, removed = list(cases), 0
    while result.killed_by:
        left = [c for c in left if c.id != result.killed_by]
        removed += 1
        _, (result,) = mutation.run(kb, trial, left, [mutant], {})
    assert result.survived
    section = mutation._section([result], [], {})
    (finding,) = section.findings
    assert (finding.code, finding.severity, finding.where) == ("MUT002", "error", name)
    assert not section.passed
    assert mutant.words in finding.found
    assert any(mutant.words in line for line in section.lines)
    known = replace(result, reason="for a good reason")
    (finding,) = mutation._section([known], [], {name: "for a good reason"}).findings
    assert (finding.code, finding.severity, finding.why) == ("MUT003", "info", "for a good reason")


def test_a_reason_that_nothing_needs_is_told(
    kb: KnowledgeBase, trial: Trial, cases: list[Case], mutants: list[Mutant]
) -> None:
    reasons = {"I07a:atLeast=9.1": "no longer true", "nothing": "of that name"}
    chosen = [named(mutants, "I07a:atLeast=9.1")]
    broken, results = mutation.run(kb, trial, cases, chosen, reasons)
    assert not broken
    found = mutation._section(results, broken, reasons).findings
    assert [(f.code, f.severity, f.where) for f in found] == [
        ("MUT004", "error", n) for n in sorted(reasons)
    ]


def test_a_case_that_does_not_hold_is_an_error(
    kb: KnowledgeBase, trial: Trial, cases: list[Case], mutants: list[Mutant]
) -> None:
    case = next(c for c in cases if c.rule.endswith("/I07a") and not c.readings)
    other = next(c.expected for c in cases if c.expected is not case.expected)
    wrong = [replace(case, expected=other)]
    broken, results = mutation.run(kb, trial, wrong, [named(mutants, "I07a:atLeast=9.1")], {})
    assert broken == wrong
    section = mutation._section(results, broken, {})
    assert not section.passed
    assert section.findings[0].code == "MUT001"


# -- made cases ------------------------------------------------------------------------------------
def test_made_cases_come_out_as_their_parameters_say(kb: KnowledgeBase, trial: Trial) -> None:
    section = boundaries.audit(kb, Request(trial.id))
    assert section.passed
    made = section.document["made"]
    assert isinstance(made, int)
    assert made > 400
    assert section.document["agreed"] == made


def test_made_cases_test_every_kind(kb: KnowledgeBase, trial: Trial) -> None:
    found = {
        made.tests
        for part in trial.parts
        for clause in part.clauses.values()
        for made in boundaries.made_of(clause, part, kb.terms)[0]
    }
    assert found == set(boundaries.KINDS)


@pytest.mark.parametrize(
    "name",
    ["I07a:atLeast=9.1", "I07a:atLeast-comparator", "I07a:role-unit=g/L", "I07a:window-dropped"],
)
def test_made_cases_tell_a_program_that_reads_otherwise(
    name: str, kb: KnowledgeBase, trial: Trial, mutants: list[Mutant]
) -> None:
    mutant = named(mutants, name)
    clause = trial.clauses[mutant.of]
    changed = mutant.change(trial)
    made, _ = boundaries.made_of(clause, trial, kb.terms)
    said = [boundaries.judged(kb, changed, changed.clauses[mutant.of], one) for one in made]
    assert said != [one.expected for one in made]


def test_a_gap_is_a_clause_and_a_kind(kb: KnowledgeBase, trial: Trial, cases: list[Case]) -> None:
    def gaps(cases: list[Case]) -> set[tuple[str, str]]:
        return {(c.id, kind) for c, kind in boundaries.gaps(trial, cases, kb.terms)}

    left = [c for c in cases if not (c.rule.endswith("/I07a") and "AtLimit" in c.tests)]
    assert gaps(cases) == set()
    assert gaps(left) == {("I07a", "AtLimit")}
