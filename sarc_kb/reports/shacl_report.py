"""Assessments as SHACL validation reports, in Turtle and JSON-LD.

Every assessment is one ``sh:ValidationReport``. A clause that fails or is undetermined, in a
criterion that does not pass, is a ``sh:ValidationResult``, and so is a treatment rule that is
broken, departed from (``sh:Warning``) or undetermined; since silence is never a pass, every
criterion, treatment rule and clause, passes included, also is a ``sarc:CriterionOutcome``,
``sarc:TreatmentRuleOutcome`` or ``sarc:ClauseOutcome``. ``sh:conforms`` is true only for an
eligible patient (or one whose treatment alone was asked for) without results.

No node is blank. A report's IRI is made from its content without the place the input was read
from, so equal content has an equal IRI; the parts of a report are fragments of it
(``#I07a``, ``#criterion-I07``, ``#I07a-evidence-1``). Both serialisations are our own, because
those of rdflib depend on the order of hashes.

Source: SHACL 3.6 (validation report), RDF 1.1 Turtle, JSON-LD 1.1.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from datetime import date
from functools import cache
from hashlib import sha256
from importlib.resources import files
from typing import Any

from rdflib import Literal, URIRef

from sarc_kb.assessment import (
    Assessment,
    AssessmentSet,
    ClauseResult,
    CriterionResult,
    Evidence,
    KnowledgeBaseInfo,
    Outcome,
    Provenance,
    TreatmentAssessment,
    TreatmentOutcome,
    TreatmentResult,
    Verdict,
)
from sarc_kb.errors import Finding
from sarc_kb.namespaces import BASE, PROV, RDF, RDFS, SARC, SH, XSD
from sarc_kb.reports.escaping import percent_encoded, safe_iri, scalar_values, visible_in_json
from sarc_kb.reports.json_report import document

Triples = Iterator[tuple[URIRef, URIRef, URIRef | Literal]]
Graph = dict[URIRef, dict[URIRef, dict[URIRef | Literal, None]]]

_PREFIXES = (("sarc", SARC), ("sh", SH), ("rdfs", RDFS), ("prov", PROV), ("xsd", XSD))
_REPORT = BASE + "report/"
_OUTCOMES = {
    Outcome.PASS: SARC.Pass,
    Outcome.FAIL: SARC.Fail,
    Outcome.UNDETERMINED: SARC.Undetermined,
}
_SEVERITIES = {Outcome.FAIL: SH.Violation, Outcome.UNDETERMINED: SARC.Undetermined}
_VERDICTS = {
    Verdict.ELIGIBLE: SARC.Eligible,
    Verdict.INELIGIBLE: SARC.Ineligible,
    Verdict.UNDETERMINED: SARC.Undetermined,
    Verdict.ERROR: SARC.NotJudged,
    Verdict.NOT_ASKED: SARC.NotAsked,
}
_TREATMENT = {
    TreatmentOutcome.VIOLATION: SARC.Violation,
    TreatmentOutcome.UNDETERMINED: SARC.Undetermined,
    TreatmentOutcome.DEVIATION: SARC.Deviation,
    TreatmentOutcome.NOT_YET_APPLICABLE: SARC.NotYetApplicable,
    TreatmentOutcome.PERMITTED: SARC.Permitted,
    TreatmentOutcome.NOT_RULED: SARC.NotRuled,
    TreatmentOutcome.CONFORMANT: SARC.Conformant,
}
# What is only told is an outcome and no result: a result of any severity keeps from conforming.
_TREATMENT_SEVERITIES = {
    TreatmentOutcome.VIOLATION: SH.Violation,
    TreatmentOutcome.UNDETERMINED: SARC.Undetermined,
    TreatmentOutcome.DEVIATION: SH.Warning,
}
_NUMBER = re.compile(r"[+-]?[0-9]{1,40}(?:\.[0-9]{1,40})?")
_DATES = (
    (re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}"), "", XSD.date),
    (re.compile(r"[0-9]{4}-[0-9]{2}"), "-01", XSD.gYearMonth),
    (re.compile(r"[0-9]{4}"), "-01-01", XSD.gYear),
)
_BARE = (XSD.boolean, XSD.integer)  # made from Python values, never from text of a record
_NOTHING = Literal("")
_LOCAL = re.compile(r"[A-Za-z][A-Za-z0-9-]*")


def render_turtle(result: AssessmentSet, components: Mapping[str, str]) -> str:
    """Return the reports as Turtle.

    Args:
        components: the IRI of the constraint component that each clause (by IRI) uses; for a
            clause that is not named, the result's component is ``sh:NodeConstraintComponent``.
    """
    lines = [f"@prefix {prefix}: <{namespace}> ." for prefix, namespace in _PREFIXES]
    base = ""
    for subject, properties in _graph(result, components).items():
        document_iri, _, _ = str(subject).partition("#")
        if document_iri != base:
            base = document_iri
            lines += ["", f"@base <{base}> ."]
        lines += ["", _turtle_term(subject, base)]
        for predicate, objects in properties.items():
            name = "a" if predicate == RDF.type else _turtle_term(predicate, base)
            values = " , ".join(_turtle_term(o, base) for o in objects)
            lines.append(f"    {name} {values} ;")
        lines[-1] = lines[-1][:-1] + "."
    return "\n".join(lines) + "\n"


def render_jsonld(result: AssessmentSet, components: Mapping[str, str]) -> str:
    """Return the same graph as JSON-LD, its context included, so that no reader has to fetch it."""
    context = _context()
    nodes = []
    for subject, properties in _graph(result, components).items():
        node: dict[str, object] = {"@id": str(subject)}
        for predicate, objects in properties.items():
            if predicate == RDF.type:
                node["@type"] = [_compact(o) for o in objects]
                continue
            term = re.split(r"[#/]", predicate)[-1]
            values = [_json_value(o) for o in objects]
            several = context.get(term, {}).get("@container") == "@set"
            node[term] = values if several or len(values) > 1 else values[0]
        nodes.append(node)
    whole = {"@context": context, "@graph": nodes}
    text = json.dumps(whole, ensure_ascii=False, allow_nan=False, indent=2)
    return visible_in_json(text) + "\n"


def report_iri(knowledge_base: KnowledgeBaseInfo, assessment: Assessment) -> URIRef:
    """Return the IRI of an assessment's report: a hash of all it says and was made with."""
    if assessment.provenance is not None:
        assessment = replace(assessment, provenance=replace(assessment.provenance, input_origin=""))
    return _hashed(document(knowledge_base, (assessment,), ()))


@cache
def _context() -> dict[str, Any]:
    source = files("sarc_kb") / "schema" / "report.context.jsonld"
    context: dict[str, Any] = json.loads(source.read_text("utf-8"))["@context"]
    return context


def _hashed(content: object) -> URIRef:
    text = json.dumps(content, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    return URIRef(_REPORT + sha256(text.encode("ascii")).hexdigest())


# -- the graph -------------------------------------------------------------------------------------
def _graph(result: AssessmentSet, components: Mapping[str, str]) -> Graph:
    """Return all triples by subject and predicate, in the order in which they are made.

    A text that says nothing is left out.
    """
    graph: Graph = {}
    for subject, predicate, value in _run(result, components):
        if value != _NOTHING:
            graph.setdefault(subject, {}).setdefault(predicate, {})[value] = None
    return graph


def _run(result: AssessmentSet, components: Mapping[str, str]) -> Triples:
    reports = []
    for assessment in result.assessments:
        reports.append(report_iri(result.knowledge_base, assessment))
        yield from _report(reports[-1], assessment, result.knowledge_base, components)
    run = _hashed([*reports, document(result.knowledge_base, (), result.run_findings)])
    yield run, RDF.type, SARC.AssessmentSet
    yield from ((run, SARC.report, report) for report in reports)
    yield from _findings(run, SARC.runFinding, result.run_findings)


def _report(
    report: URIRef,
    a: Assessment,
    knowledge_base: KnowledgeBaseInfo,
    components: Mapping[str, str],
) -> Triples:
    results = list(_results(a))
    patient = _iri(a.patient_iri or a.patient, "patient")
    yield report, RDF.type, SH.ValidationReport
    may_conform = a.verdict in (Verdict.ELIGIBLE, Verdict.NOT_ASKED)
    yield report, SH.conforms, Literal(may_conform and not results)
    yield report, SARC.verdict, _VERDICTS[a.verdict]
    yield report, SARC.assessedTrial, _iri(a.trial_iri, "trial")
    yield report, SARC.assessedPatient, patient
    yield report, RDFS.label, _text(a.patient)
    if a.entry_date is not None:
        yield report, SARC.assessedEntryDate, _date(a.entry_date)
    yield from ((report, SARC.toDecide, _text(text)) for text in a.to_decide)
    yield from _provenance(report, a.provenance, knowledge_base)
    yield from ((report, SH.result, _part(report, name)) for name, _ in results)
    yield from (
        (report, SARC.criterionOutcome, _part(report, _criterion_name(c))) for c in a.criteria
    )
    for criterion in a.criteria:
        yield from _criterion(report, criterion)
        for clause in criterion.clauses:
            yield from _clause(report, clause, clause.id)
    if a.treatment is not None:
        yield from _treatment(report, a.treatment)
    for name, part in results:
        yield from _result(_part(report, name), patient, part, components)
    yield from _findings(report, SARC.dataFinding, a.data_findings)


Reported = CriterionResult | ClauseResult | TreatmentResult | Finding


def _results(a: Assessment) -> Iterator[tuple[str, Reported]]:
    """Yield what keeps the patient from conforming, with the name of its node."""
    if a.error is not None:
        yield "error", a.error
    for criterion in a.criteria:
        if criterion.outcome is Outcome.PASS:
            continue
        # A failed alternative of something that passes keeps nobody from conforming.
        open_clauses = [
            c
            for c in criterion.clauses
            if c.id in criterion.decided_by or c.outcome is Outcome.UNDETERMINED
        ]
        if criterion.denied_by or not open_clauses:
            yield _criterion_name(criterion), criterion
        yield from ((clause.id, clause) for clause in open_clauses)
    for rule in a.treatment.rules if a.treatment is not None else ():
        if rule.outcome in _TREATMENT_SEVERITIES:
            yield rule.id, rule


def _treatment(report: URIRef, treatment: TreatmentAssessment) -> Triples:
    yield report, SARC.treatmentAsOf, _date(treatment.as_of)
    yield report, SARC.treatmentConclusion, _text(treatment.conclusion.value)
    for rule in treatment.rules:
        name = f"treatment-{rule.id}"
        node = _part(report, name)
        yield report, SARC.treatmentRuleOutcome, node
        yield node, RDF.type, SARC.TreatmentRuleOutcome
        yield from _rule(node, rule)
        yield from ((node, SARC.decidedBy, _text(clause)) for clause in rule.decided_by)
        for clause in rule.clauses:
            # A clause may stand in several rules, and in the part on eligibility too.
            part = f"{name}-{clause.id}"
            yield node, SARC.clauseOutcome, _part(report, part)
            yield from _clause(report, clause, part)
    for number, finding in enumerate(treatment.data_findings, start=1):
        node = _part(report, f"treatment-finding-{number}")
        yield report, SARC.dataFinding, node
        yield from _finding(node, finding)


def _criterion_name(criterion: CriterionResult) -> str:
    return f"criterion-{criterion.id}"


def _criterion(report: URIRef, criterion: CriterionResult) -> Triples:
    node = _part(report, _criterion_name(criterion))
    yield node, RDF.type, SARC.CriterionOutcome
    yield from _rule(node, criterion)
    yield from ((node, SARC.decidedBy, _text(name)) for name in criterion.decided_by)
    yield from ((node, SARC.clauseOutcome, _part(report, c.id)) for c in criterion.clauses)
    yield from _evidence(report, _criterion_name(criterion), criterion.denied_by)


def _clause(report: URIRef, clause: ClauseResult, name: str) -> Triples:
    node = _part(report, name)
    yield node, RDF.type, SARC.ClauseOutcome
    yield from _rule(node, clause)
    yield node, SARC.limit, _text(clause.limit)
    yield from ((node, SARC.missing, _text(text)) for text in clause.missing)
    yield from ((node, SARC.couldBeSettledBy, _text(text)) for text in clause.settled_by)
    yield from ((node, SARC.outcomeRestsOn, _text(text)) for text in clause.rests_on)
    yield from ((node, SARC.registerEntry, _text(text)) for text in clause.readings)
    yield node, SARC.factsRead, Literal(clause.facts_read)
    yield from _evidence(report, name, clause.evidence)


def _rule(node: URIRef, part: CriterionResult | ClauseResult | TreatmentResult) -> Triples:
    yield node, SARC.ofRule, _iri(part.iri, "rule")
    yield node, RDFS.label, _text(part.label)
    yield node, SARC.outcome, _outcome(part)
    yield node, SARC.message, _text(part.message)
    yield node, SARC.sourceText, _text(part.source_text)
    yield node, SARC.locator, _text(part.locator)
    yield node, SARC.remedy, _text(part.remedy)


def _outcome(part: CriterionResult | ClauseResult | TreatmentResult) -> URIRef:
    if isinstance(part, TreatmentResult):
        return _TREATMENT[part.outcome]
    return _OUTCOMES[part.outcome]


def _result(
    node: URIRef,
    patient: URIRef,
    part: Reported,
    components: Mapping[str, str],
) -> Triples:
    yield node, RDF.type, SH.ValidationResult
    yield node, SH.focusNode, patient
    if isinstance(part, Finding):
        yield node, SH.resultSeverity, SARC.NotJudged
        yield node, SH.sourceConstraintComponent, SH.NodeConstraintComponent
        yield node, SH.resultMessage, _text(f"{part.found}; {part.why}; {part.fix}")
        yield from _finding(node, part)
        return
    denied = isinstance(part, CriterionResult) and part.denied_by
    default = SARC.NotDeniedConstraintComponent if denied else SH.NodeConstraintComponent
    severity = (
        _TREATMENT_SEVERITIES[part.outcome]
        if isinstance(part, TreatmentResult)
        else _SEVERITIES[part.outcome]
    )
    yield node, SH.resultSeverity, severity
    yield node, SH.sourceShape, _iri(part.iri, "rule")
    yield (
        node,
        SH.sourceConstraintComponent,
        _iri(components.get(part.iri, default) if not denied else default, "component"),
    )
    yield node, SH.resultMessage, _text(part.message)


def _evidence(report: URIRef, name: str, evidence: Iterable[Evidence]) -> Triples:
    for number, e in enumerate(evidence, start=1):
        node = _part(report, f"{name}-evidence-{number}")
        yield _part(report, name), PROV.wasDerivedFrom, node
        yield node, RDF.type, PROV.Entity
        yield node, SARC.source, _text(e.source)
        if e.concept:
            yield node, SARC.concept, _iri(e.concept, "concept")
        yield node, RDFS.label, _text(e.label)
        if e.value is not None:
            yield node, SARC.value, _number(e.value)
        if e.unit is not None:
            yield node, SARC.unit, _text(e.unit)
        if e.date is not None:
            yield node, SARC.date, _date(e.date)
        if e.rule_value is not None:
            yield node, SARC.ruleValue, _text(e.rule_value)
        yield from ((node, SARC.derivedFromSource, _text(source)) for source in e.derived_from)
        if e.note is not None:
            yield node, SARC.note, _text(e.note)


def _provenance(report: URIRef, p: Provenance | None, knowledge_base: KnowledgeBaseInfo) -> Triples:
    yield report, SARC.knowledgeBaseVersion, _text(knowledge_base.version)
    yield report, SARC.knowledgeBaseSha256, _text(knowledge_base.sha256)
    if p is None:
        return
    yield report, SARC.engine, _text(p.engine)
    yield report, SARC.engineVersion, _text(p.engine_version)
    yield report, SARC.programVersion, _text(p.program_version)
    yield report, SARC.inputOrigin, _text(p.input_origin)
    yield report, SARC.inputSha256, _text(p.input_sha256)
    yield report, SARC.assessedAsOf, _date(p.as_of)
    yield from ((report, SARC.policySetting, _text("=".join(row))) for row in p.policies)
    yield from ((report, SARC.readingChosen, _text("=".join(row))) for row in p.readings)
    yield from ((report, SARC.setByCaller, _text(x)) for x in p.changed)
    for anchor, day, how in p.anchors:
        yield report, SARC.anchorDate, _text(f"{anchor}={day} ({how})")
    yield report, SARC.clausesEvaluated, Literal(p.clauses_evaluated)
    yield report, SARC.factsRead, Literal(p.facts_read)
    yield report, SARC.factsVoid, Literal(p.facts_void)
    yield report, SARC.factsAfterAsOf, Literal(p.facts_after_as_of)
    yield report, SARC.factsUnused, Literal(p.facts_unused)


def _findings(owner: URIRef, link: URIRef, findings: Iterable[Finding]) -> Triples:
    for number, finding in enumerate(findings, start=1):
        node = _part(owner, f"finding-{number}")
        yield owner, link, node
        yield from _finding(node, finding)


def _finding(node: URIRef, finding: Finding) -> Triples:
    yield node, RDF.type, SARC.Finding
    yield node, SARC.code, _text(finding.code)
    yield node, SARC.findingSeverity, _text(finding.severity)
    yield node, SARC.where, _text(finding.where)
    yield node, SARC.found, _text(finding.found)
    yield node, SARC.why, _text(finding.why)
    yield node, SARC.fix, _text(finding.fix)


# -- terms -----------------------------------------------------------------------------------------
def _part(report: URIRef, name: str) -> URIRef:
    """Return the fragment ``name`` of a report; names that differ stay different."""
    return URIRef(f"{report}#{percent_encoded(name)}")


def _iri(text: str, kind: str) -> URIRef:
    return URIRef(safe_iri(text, kind, reserved=_context()))


def _text(text: str) -> Literal:
    return Literal(scalar_values(text))


def _number(text: str) -> Literal:
    """Return ``text`` as a decimal, digit by digit as it is, or as a string if it is none."""
    if _NUMBER.fullmatch(text):
        return Literal(text, datatype=XSD.decimal, normalize=False)
    return _text(text)


def _date(text: str) -> Literal:
    """Return ``text`` as the calendar type it is a value of, or as a string if it is none."""
    for pattern, rest, datatype in _DATES:
        if pattern.fullmatch(text):
            try:
                date.fromisoformat(text + rest)
            except ValueError:
                break
            return Literal(text, datatype=datatype, normalize=False)
    return _text(text)


def _compact(term: URIRef | Literal) -> str:
    """Return an IRI of a namespace that has a prefix in short form, any other as it is."""
    for prefix, namespace in _PREFIXES:
        local = term.removeprefix(namespace)
        if local != term and _LOCAL.fullmatch(local):
            return f"{prefix}:{local}"
    return str(term)


def _turtle_term(term: URIRef | Literal, base: str) -> str:
    if isinstance(term, URIRef):
        iri, short = str(term), _compact(term)
        if short != iri:
            return short
        return f"<{iri.removeprefix(base)}>" if iri.partition("#")[0] == base else f"<{iri}>"
    if term.datatype in _BARE:
        return str(term)
    quoted = '"' + "".join(map(_turtle_char, str(term))) + '"'
    return quoted if term.datatype is None else f"{quoted}^^{_compact(term.datatype)}"


def _turtle_char(char: str) -> str:
    if char in '"\\':
        return "\\" + char
    return char if char.isprintable() else f"\\U{ord(char):08X}"


def _json_value(term: URIRef | Literal) -> object:
    if isinstance(term, URIRef):
        return _compact(term)
    if term.datatype in _BARE:
        return term.value
    if term.datatype is None:
        return str(term)
    return {"@value": str(term), "@type": _compact(term.datatype)}
