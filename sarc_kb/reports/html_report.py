"""Assessments as one HTML page that needs nothing beside itself: no script, no remote asset.

The page is laid out by the templates in ``templates/``, which escape every text; here stands what
they need to know. The content-security policy allows the one style sheet by its hash and nothing
else, so that no text of a record could run or load anything even if it were taken for markup.

Source: HTML living standard; Content Security Policy 3 (hash sources); WCAG 2.2 (text beside colour,
text equivalents of drawings).
"""

from __future__ import annotations

import re
from functools import cache
from typing import TYPE_CHECKING

from sarc_kb.assessment import (
    Assessment,
    AssessmentSet,
    ClauseResult,
    CriterionResult,
    Outcome,
    TreatmentOutcome,
    TreatmentResult,
)
from sarc_kb.errors import Finding
from sarc_kb.reports import pages, plots, telling
from sarc_kb.reports.escaping import all_visible

if TYPE_CHECKING:
    from jinja2 import Environment

_STYLE = "patient.css"
_IDS_AT_THE_END = re.compile(r"(?P<text>.*) \[(?P<ids>[^\[\]]+)\]", re.DOTALL)


def render_html(result: AssessmentSet) -> str:
    """Return the page: for one patient, or for several with an index and a section each."""
    result = all_visible(result)
    page = _environment().get_template("page.html.j2")
    return page.render(
        result=result, style=pages.style(_STYLE), style_hash=pages.style_hash(_STYLE)
    )


@cache
def _environment() -> Environment:
    environment = pages.environment()
    environment.filters |= {
        "tone": lambda outcome: pages.TONES[outcome][0],
        "sign": lambda outcome: pages.TONES[outcome][1],
        "groupby_outcome": _by_outcome,
        "word": lambda outcome: outcome.word if isinstance(outcome, Outcome) else outcome.value,
    }
    environment.tests["toned"] = lambda outcome, tone: pages.TONES[outcome][0] == tone
    environment.globals |= {
        "strips": _strips,
        "strip": lambda part: plots.strip(part) if isinstance(part, ClauseResult) else None,
        "timeline": plots.timeline,
        "counts": _counts,
        "decisive": _decisive,
        "findings": _grouped,
        "step": _step,
        "readings": lambda a: dict(a.provenance.readings) if a.provenance else {},
        "attention": telling.ATTENTION,
        "information": telling.INFORMATION,
        **{
            name: getattr(telling, name)
            for name in (
                "days_text", "distance", "evidence_in", "found_text", "grounds_of_passes",
                "message_of", "open_needs", "value_text", "verdict_sentence", "where_text",
            )
        },
    }  # fmt: skip
    return environment


def _counts(a: Assessment) -> list[tuple[Outcome, int]]:
    """Return how many criteria come out how, worst first."""
    found = [c.outcome for c in a.criteria]
    return [(o, found.count(o)) for o in sorted(Outcome, key=lambda o: o.value)]


def _by_outcome(
    rules: tuple[TreatmentResult, ...],
) -> list[tuple[TreatmentOutcome, list[TreatmentResult]]]:
    """Return the treatment rules by outcome, worst first."""
    groups = [(o, [r for r in rules if r.outcome is o]) for o in TreatmentOutcome]
    return [(outcome, found) for outcome, found in groups if found]


def _decisive(
    a: Assessment,
) -> list[tuple[CriterionResult, list[CriterionResult | ClauseResult]]]:
    """Return what makes a patient ineligible: each criterion that fails, with its parts that decide."""
    failing = [c for c in a.criteria if c.outcome is Outcome.FAIL]
    return [(c, telling.explained(c)) for c in failing]


def _strips(
    parts: tuple[CriterionResult | TreatmentResult, ...],
) -> list[tuple[CriterionResult | TreatmentResult, ClauseResult, plots.Strip]]:
    """Return the clauses that compare numbers, each once, in order, with their drawings.

    Left out is an alternative that is not needed.
    """
    found: dict[str, tuple[CriterionResult | TreatmentResult, ClauseResult, plots.Strip]] = {}
    for part in parts:
        for clause in part.clauses:
            drawing = plots.strip(clause)
            seen = clause.evidence or clause.passed_over
            told = not clause.moot and (seen or clause.outcome is Outcome.UNDETERMINED)
            if drawing is not None and told:
                found.setdefault(clause.id, (part, clause, drawing))
    return list(found.values())


def _grouped(findings: tuple[Finding, ...]) -> list[tuple[Finding, list[str]]]:
    """Return findings, those that differ only in their place together."""
    groups: dict[tuple[str, str, str, str], tuple[Finding, list[str]]] = {}
    for f in findings:
        _, places = groups.setdefault((f.code, f.found, f.why, f.fix), (f, []))
        if f.where not in places:
            places.append(f.where)
    return list(groups.values())


def _step(text: str) -> tuple[str, list[str]]:
    """Return a step of `Assessment.to_decide`, and the ids of the clauses that it would settle."""
    match = _IDS_AT_THE_END.fullmatch(text)
    return (match["text"], match["ids"].split(", ")) if match else (text, [])
