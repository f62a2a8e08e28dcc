"""Assessments as a FHIR R4 Bundle: a GuidanceResponse a patient.

A GuidanceResponse says whether an evaluation succeeded or needs more data, and which; its contained
OperationOutcome says what fails and what is open, its contained Parameters give the verdict and
every outcome, passes included (decision 0018). Nothing in it depends on the time or the place of the
run; the full URLs are made from the content.

Source: FHIR R4 (4.0.1), GuidanceResponse, OperationOutcome, Parameters, DataRequirement, Bundle.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from datetime import date
from typing import Any
from uuid import NAMESPACE_URL, uuid5

from sarc_kb.assessment import (
    Assessment,
    AssessmentSet,
    ClauseResult,
    Conclusion,
    CriterionResult,
    KnowledgeBaseInfo,
    Outcome,
    TreatmentOutcome,
    TreatmentResult,
    Verdict,
)
from sarc_kb.errors import Finding
from sarc_kb.namespaces import BASE
from sarc_kb.reports.escaping import all_visible, safe_iri, visible_in_json
from sarc_kb.reports.shacl_report import report_iri
from sarc_kb.reports.telling import (
    ATTENTION,
    INFORMATION,
    evidence_in,
    explained,
    found_text,
    verdict_sentence,
    where_text,
)

Resource = dict[str, Any]

# Where FHIR keeps a kind of record: the resource, and its elements for what it is about and when.
_KEPT_IN = {
    "Measurement": ("Observation", "code", "effective"),
    "Condition": ("Condition", "code", "onset"),
    "Procedure": ("Procedure", "code", "performed"),
    "MedicationUse": ("MedicationStatement", "medication", "effective"),
    "Allergy": ("AllergyIntolerance", "code", "onset"),
    "FamilyHistory": ("FamilyMemberHistory", "condition.code", None),
    "AdverseEvent": ("AdverseEvent", "event", "date"),
    "StudyParticipation": ("ResearchSubject", None, "period"),
    "Consent": ("Consent", None, "dateTime"),
    "Demographic": ("Patient", None, None),
    "Plan": ("ServiceRequest", "code", None),
}
_SEVERITIES: dict[object, tuple[str, str]] = {
    Outcome.FAIL: ("error", "business-rule"),
    Outcome.UNDETERMINED: ("warning", "required"),
    TreatmentOutcome.VIOLATION: ("error", "business-rule"),
    TreatmentOutcome.UNDETERMINED: ("warning", "required"),
    TreatmentOutcome.DEVIATION: ("warning", "business-rule"),
    TreatmentOutcome.PERMITTED: ("information", "informational"),
    TreatmentOutcome.NOT_RULED: ("information", "informational"),
}
_DATE = re.compile(r"[0-9]{4}(?:-[0-9]{2}(?:-[0-9]{2})?)?")
_LOCAL_REFERENCE = re.compile(r"[A-Z][A-Za-z]+/[A-Za-z0-9\-.]{1,64}")
_LONGEST = 1024 * 1024


def render_fhir(result: AssessmentSet) -> str:
    """Return a Bundle of type ``collection`` as JSON: a GuidanceResponse a patient, in order, and an
    OperationOutcome where there is something to tell about the run."""
    result = all_visible(result)
    seen: dict[str, int] = {}
    entries = []
    for assessment in result.assessments:
        iri = str(report_iri(result.knowledge_base, assessment))
        entries.append(_entry(iri, seen, _guidance(result.knowledge_base, assessment, iri)))
    if result.run_findings:
        outcome = {"resourceType": "OperationOutcome", "issue": _issues_of(result.run_findings)}
        entries.append(_entry(BASE + "run", seen, outcome))
    bundle: Resource = {"resourceType": "Bundle", "type": "collection", "entry": entries}
    text = json.dumps(_filled(bundle), ensure_ascii=False, allow_nan=False, indent=2)
    return visible_in_json(text) + "\n"


def _entry(iri: str, seen: dict[str, int], resource: Resource) -> Resource:
    # Two reports that say the same are two entries, which must not share their URL.
    number = seen[iri] = seen.get(iri, 0) + 1
    name = iri if number == 1 else f"{iri}#{number}"
    return {"fullUrl": f"urn:uuid:{uuid5(NAMESPACE_URL, name)}", "resource": resource}


def _guidance(knowledge_base: KnowledgeBaseInfo, a: Assessment, iri: str) -> Resource:
    return {
        "resourceType": "GuidanceResponse",
        "contained": [
            {"resourceType": "OperationOutcome", "id": "why", "issue": _issues(a)},
            {
                "resourceType": "Parameters",
                "id": "outcomes",
                "parameter": list(_parameters(knowledge_base, a)),
            },
        ],
        "identifier": [{"system": "urn:ietf:rfc:3986", "value": iri}],
        "moduleUri": safe_iri(a.trial_iri, "trial"),
        "status": _status(a),
        "subject": _subject(a),
        "note": [{"text": verdict_sentence(a)}],
        "evaluationMessage": [{"reference": "#why"}],
        "outputParameters": {"reference": "#outcomes"},
        "dataRequirement": _requirements(a),
    }


def _status(a: Assessment) -> str:
    if a.verdict is Verdict.ERROR:
        return "failure"
    course = a.treatment.conclusion if a.treatment is not None else None
    decided = a.verdict is Verdict.INELIGIBLE or course is Conclusion.VIOLATION
    open_ = a.verdict is Verdict.UNDETERMINED or course is Conclusion.UNDETERMINED
    return "data-required" if open_ and not decided else "success"


def _subject(a: Assessment) -> Resource:
    subject: Resource = {"display": a.patient}
    if _LOCAL_REFERENCE.fullmatch(a.patient_iri):
        subject |= {"reference": a.patient_iri}
    else:
        subject |= {
            "identifier": {
                "system": "urn:ietf:rfc:3986",
                "value": safe_iri(a.patient_iri, "patient"),
            }
        }
    return subject | {"type": "Patient"}


# -- why it came out so ----------------------------------------------------------------------------
def _issues(a: Assessment) -> list[Resource]:
    issues = []
    if a.error is not None:
        issues.append(_issue_of(a.error, "fatal", "exception"))
    for criterion in a.criteria:
        issues += [_issue(a, part, part.outcome) for part in explained(criterion)]
    for rule in a.treatment.rules if a.treatment is not None else ():
        if rule.outcome in ATTENTION or rule.outcome in INFORMATION:
            clauses = [c for c in rule.clauses if c.id in rule.decided_by]
            several = len(clauses) > 1 or not clauses
            issues += [_issue(a, rule, rule.outcome)] if several else []
            issues += [_issue(a, clause, rule.outcome) for clause in clauses]
    findings = (*a.data_findings, *(a.treatment.data_findings if a.treatment is not None else ()))
    issues += _issues_of(findings)
    text = {
        "severity": "information",
        "code": "informational",
        "details": {"text": verdict_sentence(a)},
    }
    return issues or [text]


def _issue(
    a: Assessment,
    part: CriterionResult | ClauseResult | TreatmentResult,
    outcome: Outcome | TreatmentOutcome,
) -> Resource:
    severity, code = _SEVERITIES[outcome]
    lines = [f"asked for: {part.limit}"] if isinstance(part, ClauseResult) and part.limit else []
    lines += [f"found: {found_text(e)} ({where_text(e, a.entry_date)})" for e in evidence_in(part)]
    if isinstance(part, ClauseResult):
        lines += [f"missing: {text}" for text in part.missing]
        lines += [f"rests on: {text}" for text in part.rests_on]
    if part.source_text:
        lines.append(f"protocol: {part.locator}: “{part.source_text}”")
    lines += [f"what to do: {part.remedy}"] if part.remedy else []
    return {
        "severity": severity,
        "code": code,
        "details": {
            "coding": [_coding(safe_iri(part.iri, "rule"), part.label)],
            "text": part.message,
        },
        "diagnostics": "\n".join(lines)[:_LONGEST],
    }


def _issues_of(findings: Iterable[Finding]) -> list[Resource]:
    return [
        _issue_of(f, f.severity, "informational" if f.severity == "info" else "processing")
        for f in findings
    ]


def _issue_of(finding: Finding, severity: str, code: str) -> Resource:
    return {
        "severity": "information" if severity == "info" else severity,
        "code": code,
        "details": {
            "coding": [{"system": BASE + "finding", "code": _code(finding.code)}],
            "text": finding.found,
        },
        "diagnostics": f"{finding.where}: {finding.why}; {finding.fix}",
    }


# -- every outcome ---------------------------------------------------------------------------------
def _parameters(knowledge_base: KnowledgeBaseInfo, a: Assessment) -> Iterator[Resource]:
    yield _value("verdict", a.verdict.value)
    yield _value("trial", a.trial)
    if a.entry_date is not None:
        yield _day("entryDate", a.entry_date)
    for criterion in a.criteria:
        yield _parts("criterion", _outcome_parts(criterion, criterion.outcome.word))
    if a.treatment is not None:
        yield _value("treatment", a.treatment.conclusion.value)
        yield _day("treatmentAsOf", a.treatment.as_of)
        for rule in a.treatment.rules:
            parts = [*_outcome_parts(rule, rule.outcome.value), _value("modality", rule.modality)]
            yield _parts("treatmentRule", parts)
    for text in a.to_decide:
        yield _value("toDecide", text)
    made = [
        _value("knowledgeBaseVersion", knowledge_base.version),
        _value("knowledgeBaseSha256", knowledge_base.sha256),
    ]
    if a.provenance is not None:
        p = a.provenance
        made += [
            _value("programVersion", p.program_version),
            _value("engine", f"{p.engine} {p.engine_version}"),
            _value("inputSha256", p.input_sha256),
            _day("asOf", p.as_of),
            *(_value("policy", f"{name}={value}") for name, value in p.policies),
            *(_value("reading", f"{name}={value}") for name, value in p.readings),
            *(_value("anchor", f"{name}={day} ({how})") for name, day, how in p.anchors),
            *(_value("changed", text) for text in p.changed),
        ]
    yield _parts("madeWith", made)


def _outcome_parts(part: CriterionResult | TreatmentResult, word: str) -> list[Resource]:
    clauses = [
        _parts(
            "clause",
            [_value("id", c.id), _value("outcome", c.outcome.word), _value("message", c.message)],
        )
        for c in part.clauses
    ]
    return [
        _value("id", part.id),
        _value("label", part.label),
        _value("outcome", word),
        _value("message", part.message),
        *(_value("decidedBy", name) for name in part.decided_by),
        *clauses,
    ]


def _value(name: str, text: str) -> Resource:
    return {"name": name, "valueString": text}


def _day(name: str, text: str) -> Resource:
    return {"name": name, "valueDate": text} if _is_date(text) else _value(name, text)


def _parts(name: str, parts: list[Resource]) -> Resource:
    return {"name": name, "part": parts}


# -- what is needed --------------------------------------------------------------------------------
def _requirements(a: Assessment) -> list[Resource]:
    """Return what would settle the open criteria and treatment rules, each kind of data once."""
    if _status(a) != "data-required":
        return []
    found: dict[str, Resource] = {}
    rules = a.treatment.rules if a.treatment is not None else ()
    open_: list[CriterionResult | TreatmentResult] = [
        *(c for c in a.criteria if c.outcome is Outcome.UNDETERMINED),
        *(r for r in rules if r.outcome is TreatmentOutcome.UNDETERMINED),
    ]
    for part in open_:
        for clause in part.clauses:
            if clause.id in part.decided_by:
                for requirement in _requirements_of(clause):
                    found[json.dumps(requirement)] = requirement
    return list(found.values())


def _requirements_of(clause: ClauseResult) -> Iterator[Resource]:
    for kind in clause.record_kinds:
        if kind not in _KEPT_IN or clause.concept is None:
            continue
        resource, about, when = _KEPT_IN[kind]
        requirement: Resource = {"type": resource}
        if about is not None:
            coding = _coding(safe_iri(clause.concept, "concept"), "")
            requirement["codeFilter"] = [{"path": about, "code": [coding]}]
        if when is not None and clause.window is not None:
            ends = (("start", clause.window.start), ("end", clause.window.end))
            period = {name: day for name, day in ends if day is not None and _is_date(day)}
            requirement["dateFilter"] = [{"path": when, "valuePeriod": period}]
        yield requirement
    if clause.settled_by:
        yield {"type": "QuestionnaireResponse", "mustSupport": ["item.linkId", "item.answer"]}


# -- elements --------------------------------------------------------------------------------------
def _coding(iri: str, display: str) -> Resource:
    """Return a term or rule as a Coding: its namespace is the system, the rest is the code."""
    cut = max(iri.rfind("#"), iri.rfind("/"))
    system, code = iri[:cut], iri[cut + 1 :]
    if cut <= 0 or not code:
        system, code = "urn:ietf:rfc:3986", iri
    return {"system": system, "code": _code(code), "display": display}


def _code(text: str) -> str:
    """Return ``text`` as a FHIR code: no white space at its ends, or two in a row."""
    return " ".join(text.split())


def _is_date(text: str) -> bool:
    if not _DATE.fullmatch(text):
        return False
    try:
        date.fromisoformat((text + "-01-01")[:10])
    except ValueError:
        return False
    return True


def _filled(value: Any) -> Any:
    """Return ``value`` without what is empty, which FHIR does not allow."""
    if isinstance(value, dict):
        members = {name: _filled(member) for name, member in value.items()}
        return {
            name: member
            for name, member in members.items()
            if member not in ("", [], {}) and (not isinstance(member, str) or member.strip())
        }
    if isinstance(value, list):
        return [member for member in map(_filled, value) if member not in ("", [], {})]
    return value
