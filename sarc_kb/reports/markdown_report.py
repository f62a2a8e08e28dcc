"""Assessments as Markdown, for tickets, notes and pull requests (CommonMark with tables).

Texts of the record are escaped, so that none of them becomes markup, a link or HTML.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

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
from sarc_kb.errors import Finding
from sarc_kb.reports.escaping import all_visible
from sarc_kb.reports.telling import (
    ATTENTION,
    INFORMATION,
    days_text,
    evidence_in,
    explained,
    found_text,
    grounds_of_passes,
    message_of,
    open_needs,
    verdict_sentence,
    where_text,
)

_MARKUP = re.compile(r"[\\`*_\[\]<>|&~]")
# What begins a heading, a list, a quotation or a rule when it stands first.
_FIRST = re.compile(r"^(?:[#+=-]|\d+(?=[.)]))")
_AUTOLINK = re.compile(r"(?<=[A-Za-z])://|(?<=[Ww]{3})\.|@")


def render_markdown(result: AssessmentSet) -> str:
    """Return the report: a section a patient, after a table of all where there are several."""
    result = all_visible(result)
    lines: list[str] = []
    if len(result.assessments) != 1:
        lines += [f"# {len(result.assessments)} patients", ""]
        lines += (
            _overview(result.assessments) if result.assessments else ["No patient was found.", ""]
        )
    level = "#" if len(result.assessments) == 1 else "##"
    for a in result.assessments:
        lines += _patient(a, result.knowledge_base, level)
    if result.run_findings:
        lines += [f"{level}# About the run", "", *_findings(result.run_findings)]
    return "\n".join(lines).rstrip("\n") + "\n"


def escaped(text: str) -> str:
    r"""Return ``text`` so that Markdown shows it as it is.

    >>> escaped("# a <b> | *c*")
    '\\# a \\<b\\> \\| \\*c\\*'
    """
    text = _MARKUP.sub(lambda m: "\\" + m[0], " ".join(text.split()))
    text = _AUTOLINK.sub(lambda m: "".join(f"&#{ord(c)};" for c in m[0][:1]) + m[0][1:], text)
    return _FIRST.sub(lambda m: "\\" + m[0] if not m[0].isdigit() else f"{m[0]}\\", text)


def _overview(assessments: Sequence[Assessment]) -> list[str]:
    rows = [
        (
            escaped(a.patient),
            a.verdict.value,
            a.treatment.conclusion.value if a.treatment is not None else "",
            ", ".join(escaped(c.id) for c in a.criteria if c.outcome is Outcome.FAIL),
            ", ".join(escaped(c.id) for c in a.criteria if c.outcome is Outcome.UNDETERMINED),
        )
        for a in assessments
    ]
    return _table(("patient", "verdict", "treatment", "fails", "undetermined"), rows)


def _patient(a: Assessment, knowledge_base: KnowledgeBaseInfo, level: str) -> list[str]:
    lines = [
        f"{level} {escaped(a.patient)}: {a.verdict.value}",
        "",
        escaped(verdict_sentence(a)),
        "",
    ]
    facts = [f"trial {a.trial}", f"entry {a.entry_date or 'not known'}"]
    if a.provenance is not None:
        facts += [f"as of {a.provenance.as_of}", f"record {a.provenance.input_origin}"]
        if a.provenance.relaxed:
            facts.append(f"not by the protocol's limits: {', '.join(a.provenance.relaxed)}")
    lines += [*_bullets(facts), ""]
    if a.error is not None:
        lines += _findings((a.error,))
    failing = [part for c in a.criteria if c.outcome is Outcome.FAIL for part in explained(c)]
    if failing:
        lines += [f"{level}# What decides it", "", *_blocks(a, failing)]
    if a.to_decide:
        lines += [f"{level}# What to do next", "", *_numbered(a.to_decide), ""]
    if a.treatment is not None:
        lines += _treatment(a, a.treatment, level)
    if a.criteria:
        rows = [
            (escaped(c.id), c.outcome.word, escaped(c.label), escaped(", ".join(c.decided_by)))
            for c in a.criteria
        ]
        lines += [f"{level}# Every criterion", ""]
        lines += _table(("criterion", "outcome", "subject", "decided by"), rows)
    rules = a.treatment.rules if a.treatment is not None else ()
    grounds = grounds_of_passes([*a.criteria, *rules])
    if grounds:
        lines += [f"{level}# Passes that rest on more than recorded facts", ""]
        lines += [*_bullets(f"{text}: {', '.join(ids)}" for text, ids in grounds.items()), ""]
    if a.data_findings:
        lines += [f"{level}# About the record", "", *_findings(a.data_findings)]
    if a.provenance is not None:
        p = a.provenance
        made = [
            f"sarc-kb {p.program_version}, {p.engine} {p.engine_version}",
            f"knowledge base {knowledge_base.version}, {knowledge_base.sha256}",
            f"input {p.input_sha256}",
            f"{p.clauses_evaluated} clauses, {p.facts_read} facts, {p.facts_void} void",
            f"{p.facts_after_as_of} facts later, {p.facts_unused} unused",
            *(f"set by the caller: {text}" for text in p.changed),
            *(f"{name} = {value}" for name, value in p.policies),
        ]
        lines += [f"{level}# Made with", "", *_bullets(made), ""]
    return lines


def _treatment(a: Assessment, t: TreatmentAssessment, level: str) -> list[str]:
    lines = [f"{level}# Treatment: {t.conclusion.value}, as of {escaped(t.as_of)}", ""]
    for rule in t.rules:
        # What is open is told by what would settle it.
        if rule.outcome in ATTENTION and rule.outcome is not TreatmentOutcome.UNDETERMINED:
            clauses = [c for c in rule.clauses if c.id in rule.decided_by]
            lines += _blocks(a, clauses or (rule,), f"{rule.outcome.value} ")
    needs = open_needs(t.rules)
    if needs:
        lines += ["What would settle the rules that are open:", ""]
        lines += [*_numbered(f"{text} [{', '.join(ids)}]" for text, ids in needs.items()), ""]
    told = [f"{r.outcome.value} {r.id}: {r.message}" for r in t.rules if r.outcome in INFORMATION]
    lines += [*_bullets(told), ""] if told else []
    rows = [
        (
            escaped(days_text(e)),
            "" if e.day is None else str(e.day),
            escaped(e.track),
            escaped(e.text) + (f" ({e.count} times)" if e.count > 1 else ""),
            escaped(", ".join(e.rules)),
        )
        for e in t.timeline
    ]
    lines += _table(("course", "day", "track", "what", "rules"), rows) if rows else []
    outcomes = [(escaped(r.id), r.outcome.value, escaped(r.label)) for r in t.rules]
    lines += _table(("rule", "outcome", "subject"), outcomes) if outcomes else []
    return [*lines, *_findings(t.data_findings)]


def _blocks(
    a: Assessment,
    parts: Iterable[CriterionResult | ClauseResult | TreatmentResult],
    word: str = "",
) -> list[str]:
    lines = []
    for part in parts:
        name = f"**{word}{escaped(part.id)}** {escaped(part.label)}"
        lines += [f"{name}: {escaped(message_of(part))}", ""]
        items = []
        if isinstance(part, ClauseResult) and part.limit:
            items.append(f"asked for {part.limit}")
        items += [
            f"found {found_text(e)} ({where_text(e, a.entry_date)})" for e in evidence_in(part)
        ]
        if isinstance(part, ClauseResult):
            items += [f"missing: {text}" for text in part.missing]
            items += [f"rests on {text}" for text in part.rests_on]
        if part.source_text:
            items.append(f"{part.locator}: “{part.source_text}”")
        items += [f"what to do: {part.remedy}"] if part.remedy else []
        lines += [*_bullets(items), ""]
    return lines


def _findings(findings: Iterable[Finding]) -> list[str]:
    lines = [*_bullets(f"{f.severity} {f}" for f in findings)]
    return [*lines, ""] if lines else []


def _bullets(texts: Iterable[str]) -> list[str]:
    return [f"- {escaped(text)}" for text in texts]


def _numbered(texts: Iterable[str]) -> list[str]:
    return [f"{number}. {escaped(text)}" for number, text in enumerate(texts, 1)]


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """Return a table of texts that are escaped already."""
    lines = [f"| {' | '.join(row)} |" for row in (head, ["---"] * len(head), *rows)]
    return [*lines, ""]
