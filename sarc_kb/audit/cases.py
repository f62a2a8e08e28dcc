"""Do the cases written by hand come out as the protocol's words demand?"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from sarc_kb.audit.judging import Judge, Told
from sarc_kb.audit.section import Request, Section
from sarc_kb.audit.shared import cases_of, compiled, is_about, judge_of
from sarc_kb.cases import Case, criterion_of, part_of
from sarc_kb.errors import Finding, SarcError
from sarc_kb.kb import KnowledgeBase
from sarc_kb.namespaces import local_name
from sarc_kb.rules import Trial


@dataclass(frozen=True, slots=True)
class Judged:
    """A case, what it must come out as and what it came out as; ``fault`` where it could not be
    judged."""

    case: Case
    expected: Told
    told: Told | None
    fault: str = ""

    @property
    def holds(self) -> bool:
        return self.told is self.expected


def _not_judged(case: Case, fault: str) -> Judged:
    return Judged(case, case.expected, None, fault)


def audit(kb: KnowledgeBase, request: Request) -> Section:
    """Return which cases do not hold; those about another reading of the register are judged under
    it."""
    trial = compiled(kb, request.trial)
    cases = cases_of(kb, request.trial)
    judged = list(_judged(judge_of(kb, request.trial)))
    others = [case for case in cases if case.readings]
    judged += _under_readings(kb, request.trial, others)
    strays = [c for c in cases if not c.readings and not is_about(trial, c)]
    findings = [_stray(kb.root, case) for case in strays]
    findings += [_broken(kb.root, each) for each in judged if not each.holds]
    by_rule = list(_by_rule(trial, cases))
    broken = len(findings)
    summary = (
        f"{len(cases)} cases of {sum(bool(row['cases']) for row in by_rule)} rules, {len(others)} of "
        "them under other readings than the defaults: "
        + (f"{broken} do not hold" if broken else "all hold")
    )
    return Section(
        "cases",
        summary,
        tuple(_lines(by_rule)),
        {
            "cases": len(cases),
            "under_other_readings": len(others),
            "broken": broken,
            "by_rule": by_rule,
        },
        tuple(findings),
    )


def _judged(judge: Judge) -> Iterator[Judged]:
    for at in judge.seats:
        try:
            told = judge.told(at, judge.prepared(at), judge.at_entry(at))
            yield Judged(at.case, judge.expected(at), told)
        except SarcError as failure:
            yield _not_judged(at.case, failure.findings[0].found)


def _under_readings(kb: KnowledgeBase, name: str, cases: Iterable[Case]) -> Iterator[Judged]:
    groups: dict[tuple[tuple[str, str], ...], list[Case]] = {}
    for case in cases:
        groups.setdefault(tuple(sorted(case.readings.items())), []).append(case)
    for readings, own in groups.items():
        try:
            trial = kb.compile(name, readings=dict(readings))
        except SarcError as failure:
            yield from (_not_judged(case, failure.findings[0].found) for case in own)
            continue
        yield from _judged(Judge(kb, trial, (c for c in own if is_about(trial, c))))
        yield from (
            _not_judged(case, "there is no such rule under this reading")
            for case in own
            if not is_about(trial, case)
        )


def _by_rule(trial: Trial, cases: Iterable[Case]) -> Iterator[dict[str, object]]:
    """Yield, for each criterion and treatment rule, its cases and those of what is below it."""
    expected: dict[str, Counter[str]] = {}
    for case in cases:
        if is_about(trial, case):
            whole = criterion_of(part_of(trial, case.rule), case.rule)
            expected.setdefault(whole, Counter())[_word(case.expected)] += 1
    for part in trial.parts:
        for rule in part.criteria:
            found = expected.get(rule.iri, Counter())
            yield {
                "rule": rule.id,
                "cases": found.total(),
                "expected": dict(sorted(found.items())),
            }


def _lines(by_rule: Iterable[dict[str, object]]) -> Iterator[str]:
    yield f"{'rule':<8} {'cases':>5}  expected"
    for row in by_rule:
        expected = row["expected"]
        assert isinstance(expected, dict)
        words = ", ".join(f"{count} {word}" for word, count in expected.items())
        yield f"{row['rule']:<8} {row['cases']:>5}  {words}"


def _word(told: Told) -> str:
    return told.name.lower().replace("_", " ")


def _where(root: Path, case: Case) -> str:
    return f"{case.id}, {case.path.relative_to(root).as_posix()}"


def _broken(root: Path, each: Judged) -> Finding:
    rule = local_name(each.case.rule)
    came = each.fault if each.told is None else f"comes out as {_word(each.told)}"
    readings = ", ".join(f"{name}={value}" for name, value in sorted(each.case.readings.items()))
    return Finding(
        "CASE001",
        "error",
        _where(root, each.case),
        f"{rule}{f' under {readings}' if readings else ''}: {came}, and must as "
        f"{_word(each.expected)}",
        f"the case says: {each.case.because}",
        "compare both with the protocol's words; mend the rule, or the case",
    )


def _stray(root: Path, case: Case) -> Finding:
    return Finding(
        "CASE002",
        "error",
        _where(root, case),
        f"it is about {local_name(case.rule)}, and there is no such rule",
        "it proves nothing",
        "name the clause, join or rule that it is about (sarc:forRule)",
    )
