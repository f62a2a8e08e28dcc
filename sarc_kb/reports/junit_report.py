"""Assessments as JUnit XML, for pipelines that show tests: a suite a patient, a test case a criterion.

What fails is a failure. What is undetermined is an error and not skipped: most readers count what is
skipped as good, and silence is never a pass. A treatment rule that is broken is a failure, an open
one an error, one that is not yet applicable is skipped; a deviation is a warning and so a test case
that passes, told in ``system-out`` with what is permitted or not ruled. A patient who could not be
judged is an error, never an empty suite.

Source: the schema of the JUnit task of Apache Ant, as Jenkins reads it. Times are always 0.
"""

from __future__ import annotations

from collections.abc import Iterable
from xml.etree import ElementTree

from sarc_kb.assessment import (
    Assessment,
    AssessmentSet,
    ClauseResult,
    CriterionResult,
    KnowledgeBaseInfo,
    Outcome,
    TreatmentAssessment,
    TreatmentOutcome,
    TreatmentResult,
)
from sarc_kb.reports.escaping import all_visible
from sarc_kb.reports.telling import (
    ATTENTION,
    INFORMATION,
    evidence_in,
    explained,
    found_text,
    verdict_sentence,
    where_text,
)

_Told = tuple[str, str, str]  # element, type, text
_BAD = {
    Outcome.FAIL: "failure",
    Outcome.UNDETERMINED: "error",
    TreatmentOutcome.VIOLATION: "failure",
    TreatmentOutcome.UNDETERMINED: "error",
    TreatmentOutcome.NOT_YET_APPLICABLE: "skipped",
}


def render_junit(result: AssessmentSet) -> str:
    """Return the XML document."""
    result = all_visible(result)
    root = ElementTree.Element("testsuites")
    for a in result.assessments:
        if a.criteria or a.error is not None or a.treatment is None:
            _eligibility(root, result.knowledge_base, a)
        if a.treatment is not None:
            _treatment(root, result.knowledge_base, a, a.treatment)
    _run(root, result)
    ElementTree.indent(root)
    body = ElementTree.tostring(root, encoding="unicode")
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{body}\n'


def _eligibility(
    root: ElementTree.Element, knowledge_base: KnowledgeBaseInfo, a: Assessment
) -> None:
    cases: list[tuple[str, _Told | None]] = []
    if a.error is not None:
        cases.append(("judged", ("error", a.error.code, str(a.error))))
    for c in a.criteria:
        told = None
        if c.outcome is not Outcome.PASS:
            text = "\n\n".join(_block(a, part) for part in explained(c))
            told = (_BAD[c.outcome], c.outcome.word, text)
        cases.append((f"{c.id} {c.label}", told))
    lines = [verdict_sentence(a), *(f"to decide: {text}" for text in a.to_decide)]
    lines += [f"{f.severity} {f}" for f in a.data_findings]
    _suite(root, a, "eligibility", cases, lines, _properties(knowledge_base, a))


def _treatment(
    root: ElementTree.Element,
    knowledge_base: KnowledgeBaseInfo,
    a: Assessment,
    treatment: TreatmentAssessment,
) -> None:
    cases: list[tuple[str, _Told | None]] = []
    lines = [f"{treatment.conclusion.value} as of {treatment.as_of}"]
    for rule in treatment.rules:
        told = None
        if rule.outcome in _BAD:
            clauses = [c for c in rule.clauses if c.id in rule.decided_by]
            text = "\n\n".join(_block(a, part) for part in clauses or (rule,))
            told = (_BAD[rule.outcome], rule.outcome.value, text)
        elif rule.outcome in ATTENTION or rule.outcome in INFORMATION:
            lines.append(f"{rule.outcome.value} {rule.id}: {rule.message}")
        cases.append((f"{rule.id} {rule.label}", told))
    lines += [f"{f.severity} {f}" for f in treatment.data_findings]
    _suite(root, a, "treatment", cases, lines, _properties(knowledge_base, a))


def _run(root: ElementTree.Element, result: AssessmentSet) -> None:
    """Add a suite for what concerns the run, where there is something, or nobody was judged."""
    if result.run_findings or not result.assessments:
        cases = [
            (f"{f.code} {f.where}", ("error", f.code, str(f)) if f.severity == "error" else None)
            for f in result.run_findings
        ]
        if not result.assessments:
            cases.append(("patients", ("error", "nobody", "no patient was found")))
        lines = [f"{f.severity} {f}" for f in result.run_findings]
        _suite(root, None, "run", cases, lines, {})


def _suite(
    root: ElementTree.Element,
    a: Assessment | None,
    part: str,
    cases: Iterable[tuple[str, _Told | None]],
    lines: Iterable[str],
    properties: dict[str, str],
) -> None:
    cases = list(cases) or [("judged", ("error", "nothing", "nothing was judged"))]
    kinds = [told[0] for _, told in cases if told is not None]
    name = f"{a.patient} {part}" if a is not None else part
    package = f"sarc-kb.{a.trial}" if a is not None else "sarc-kb"
    suite = ElementTree.SubElement(
        root,
        "testsuite",
        {
            "name": name,
            "package": package,
            "id": str(len(root)),
            "timestamp": "1970-01-01T00:00:00",
            "hostname": "localhost",
            "tests": str(len(cases)),
            "failures": str(kinds.count("failure")),
            "errors": str(kinds.count("error")),
            "skipped": str(kinds.count("skipped")),
            "time": "0",
        },
    )
    listed = ElementTree.SubElement(suite, "properties")
    for key, value in properties.items():
        ElementTree.SubElement(listed, "property", {"name": key, "value": value})
    for title, told in cases:
        case = ElementTree.SubElement(
            suite,
            "testcase",
            {"classname": f"{package}.{name}", "name": " ".join(title.split()), "time": "0"},
        )
        if told is not None:
            element, kind, text = told
            first = text.partition("\n")[0]
            described = (
                {"message": first} if element == "skipped" else {"type": kind, "message": first}
            )
            ElementTree.SubElement(case, element, described).text = text
    ElementTree.SubElement(suite, "system-out").text = "\n".join(lines)
    ElementTree.SubElement(suite, "system-err").text = ""


def _properties(knowledge_base: KnowledgeBaseInfo, a: Assessment) -> dict[str, str]:
    made = {
        "verdict": a.verdict.value,
        "entry date": a.entry_date or "none",
        "knowledge base": f"{knowledge_base.version} {knowledge_base.sha256}",
    }
    if a.provenance is not None:
        made |= {
            "input": f"{a.provenance.input_origin} {a.provenance.input_sha256}",
            "changed": "; ".join(a.provenance.changed),
        }
    return made


def _block(a: Assessment, part: CriterionResult | ClauseResult | TreatmentResult) -> str:
    """Return the answers about one part, a line each; the first says what came out."""
    lines = [f"{part.id} {part.message}"]
    if isinstance(part, ClauseResult) and part.limit:
        lines.append(f"asked for: {part.limit}")
    lines += [f"found: {found_text(e)} ({where_text(e, a.entry_date)})" for e in evidence_in(part)]
    if isinstance(part, ClauseResult):
        lines += [f"missing: {text}" for text in part.missing]
    if part.source_text:
        lines.append(f"protocol: {part.locator}: “{part.source_text}”")
    if part.remedy:
        lines.append(f"what to do: {part.remedy}")
    return "\n".join(lines)
