"""Assessments as a workbook: sheets of patients, criteria, clauses, next steps and the course."""

from __future__ import annotations

from collections.abc import Iterator
from io import BytesIO

from sarc_kb.assessment import (
    Assessment,
    AssessmentSet,
    ClauseResult,
    CriterionResult,
    Outcome,
    TreatmentResult,
)
from sarc_kb.errors import Finding
from sarc_kb.reports.telling import days_text, value_text, verdict_sentence
from sarc_kb.reports.workbook import Workbook

Row = tuple[object, ...]

_PATIENTS = (
    "patient", "trial", "entry date", "verdict", "in words", "fails", "undetermined", "treatment",
    "treatment as of", "record", "not by the protocol's limits",
)  # fmt: skip
_CRITERIA = (
    "patient", "criterion", "kind", "subject", "outcome", "message", "decided by", "clauses",
    "protocol", "where", "what to do",
)  # fmt: skip
_CLAUSES = (
    "patient", "part of", "clause", "subject", "outcome", "decides", "asked for", "value", "date", "source", "missing",
    "settled by", "rests on", "read by", "protocol",
)  # fmt: skip
_STEPS = ("patient", "number", "what would settle the verdict")
_RULES = ("patient", "rule", "modality", "subject", "outcome", "message", "decided by", "protocol")
_COURSE = ("patient", "track", "days", "day", "what", "times", "rules", "sources")
_FINDINGS = ("patient", "severity", "code", "where", "found", "why", "what to do")
_ABOUT = ("patient", "what", "value")


def render_xlsx(result: AssessmentSet) -> bytes:
    """Return the workbook; a sheet without rows has its head alone.

    Raises:
        UsageError: the extra is not installed, or there are more rows than a sheet can hold.
    """
    stream = BytesIO()
    found = result.assessments
    with Workbook(stream) as book:
        book.sheet("patients", _PATIENTS, (_patient(a) for a in found))
        book.sheet("criteria", _CRITERIA, (row for a in found for row in _criteria(a)))
        book.sheet("clauses", _CLAUSES, (row for a in found for row in _clauses(a)))
        book.sheet("next steps", _STEPS, (row for a in found for row in _steps(a)))
        book.sheet("treatment", _RULES, (row for a in found for row in _rules(a)))
        book.sheet("course", _COURSE, (row for a in found for row in _course(a)))
        book.sheet("findings", _FINDINGS, _findings(result))
        book.sheet("about", _ABOUT, _about(result))
    return stream.getvalue()


def _patient(a: Assessment) -> Row:
    return (
        a.patient,
        a.trial,
        a.entry_date,
        a.verdict.value,
        verdict_sentence(a),
        [c.id for c in a.criteria if c.outcome is Outcome.FAIL],
        [c.id for c in a.criteria if c.outcome is Outcome.UNDETERMINED],
        a.treatment.conclusion.value if a.treatment is not None else None,
        a.treatment.as_of if a.treatment is not None else None,
        a.provenance.input_origin if a.provenance is not None else None,
        a.provenance.relaxed if a.provenance is not None else None,
    )


def _criteria(a: Assessment) -> Iterator[Row]:
    for c in a.criteria:
        yield (
            a.patient, c.id, c.kind, c.label, c.outcome.word, c.message, c.decided_by, c.logic, c.source_text, c.locator,
            c.remedy,
        )  # fmt: skip


def _clauses(a: Assessment) -> Iterator[Row]:
    parts: list[CriterionResult | TreatmentResult] = [*a.criteria]
    parts += a.treatment.rules if a.treatment is not None else ()
    for part in parts:
        for clause in part.clauses:
            yield _clause(a, part.id, clause, clause.id in part.decided_by)


def _clause(a: Assessment, owner: str, c: ClauseResult, decides: bool) -> Row:
    facts = c.evidence or c.passed_over
    return (
        a.patient,
        owner,
        c.id,
        c.label,
        c.outcome.word,
        "yes" if decides else "no",
        c.limit,
        [value_text(e) for e in facts if value_text(e)],
        [e.date for e in facts if e.date],
        list(dict.fromkeys(e.source for e in facts)),
        c.missing,
        c.settled_by,
        c.rests_on,
        c.readings,
        c.source_text,
    )


def _steps(a: Assessment) -> Iterator[Row]:
    for number, text in enumerate(a.to_decide, 1):
        yield a.patient, number, text


def _rules(a: Assessment) -> Iterator[Row]:
    for r in a.treatment.rules if a.treatment is not None else ():
        yield (
            a.patient, r.id, r.modality, r.label, r.outcome.value, r.message, r.decided_by, r.source_text
        )  # fmt: skip


def _course(a: Assessment) -> Iterator[Row]:
    for e in a.treatment.timeline if a.treatment is not None else ():
        yield a.patient, e.track, days_text(e), e.day, e.text, e.count, e.rules, e.sources


def _findings(result: AssessmentSet) -> Iterator[Row]:
    def row(patient: str, f: Finding) -> Row:
        return patient, f.severity, f.code, f.where, f.found, f.why, f.fix

    for a in result.assessments:
        own = [a.error] if a.error is not None else []
        course = a.treatment.data_findings if a.treatment is not None else ()
        for finding in (*own, *a.data_findings, *course):
            yield row(a.patient, finding)
    for finding in result.run_findings:
        yield row("", finding)


def _about(result: AssessmentSet) -> Iterator[Row]:
    yield "", "knowledge base", result.knowledge_base.version
    yield "", "content of the knowledge base (SHA-256)", result.knowledge_base.sha256
    for a in result.assessments:
        p = a.provenance
        if p is None:
            continue
        yield a.patient, "program", f"sarc-kb {p.program_version}, {p.engine} {p.engine_version}"
        yield a.patient, "input (SHA-256)", p.input_sha256
        yield a.patient, "as of", p.as_of
        yield from ((a.patient, "set by the caller", text) for text in p.changed)
        yield from ((a.patient, f"date {name}", f"{day} ({how})") for name, day, how in p.anchors)
        yield from ((a.patient, f"policy {name}", value) for name, value in p.policies)
        yield from ((a.patient, f"reading {name}", value) for name, value in p.readings)
