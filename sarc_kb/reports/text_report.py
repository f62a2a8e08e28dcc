"""Assessments as plain text: the verdict, one line a criterion, then what stands in the way.

Everything that came from a record passes through `visible` before a line is laid out, so a line of
this report is always a line of this program.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Sequence
from itertools import zip_longest
from textwrap import wrap

from sarc_kb.assessment import (
    Assessment,
    AssessmentSet,
    ClauseResult,
    CriterionResult,
    KnowledgeBaseInfo,
    Outcome,
    Provenance,
    TimelineEvent,
    TreatmentAssessment,
    TreatmentOutcome,
    TreatmentResult,
    Verdict,
)
from sarc_kb.errors import Finding
from sarc_kb.reports.escaping import all_visible
from sarc_kb.reports.telling import (
    days_text,
    evidence_in,
    found_text,
    grounds_of_passes,
    message_of,
    where_text,
)

_COLOURS = {
    "fail": "31",
    "ineligible": "31",
    "error": "35",
    "undetermined": "33",
    "warning": "33",
    "pass": "32",
    "eligible": "32",
    "info": "36",
    "violation": "31",
    "deviation": "33",
    "in progress": "36",
    "not yet applicable": "36",
    "permitted": "36",
    "not ruled": "36",
    "conformant": "32",
    "not asked": "36",
}
_TOLD = {
    TreatmentOutcome.VIOLATION: "VIOLATION",
    TreatmentOutcome.UNDETERMINED: "UNDETERMINED",
    TreatmentOutcome.DEVIATION: "DEVIATION",
}
_FEW = 5
_NARROW = 12
"""Columns that a column of a table keeps at least."""


def render_text(
    result: AssessmentSet,
    *,
    colour: bool = False,
    width: int = 100,
    verbose: bool = False,
    quiet: bool = False,
) -> str:
    """Return the report as text.

    Args:
        colour: whether to use terminal colours; they never say anything that the words do not.
        width: the columns to use; single words that are longer are not broken.
        verbose: also every clause that is no pass but does not decide, all evidence and findings,
            the anchors, and the readings of the register.
        quiet: the verdicts alone.
    """
    result = all_visible(result)
    page = _Page(colour, max(width, 40), verbose)
    for assessment in result.assessments:
        page.headline(assessment)
        if not quiet:
            page.assessment(assessment, result.knowledge_base)
            page.gap()
    if not quiet:
        page.findings("About the run", result.run_findings)
    page.summary(result.assessments, table=not quiet)
    return "\n".join(page.lines).rstrip("\n") + "\n"


class _Page:
    """The lines written so far, and how lines are to be written."""

    def __init__(self, colour: bool, width: int, verbose: bool) -> None:
        self.colour = colour
        self.width = width
        self.verbose = verbose
        self.lines: list[str] = []

    # -- one patient -------------------------------------------------------------------------------
    def headline(self, a: Assessment) -> None:
        """Write the verdict."""
        counts = [
            f"{sum(c.outcome is outcome for c in a.criteria)} {outcome.word}"
            for outcome in (Outcome.FAIL, Outcome.UNDETERMINED, Outcome.PASS)
        ]
        entry = f"entry {a.entry_date}" if a.entry_date else "no date of entry"
        told = ", ".join(counts) if a.criteria else "could not be judged"
        if a.verdict is Verdict.NOT_ASKED:
            told = "eligibility was not asked for"
        word = a.verdict.value.upper()
        self.paragraph(word, f"{a.patient}, {a.trial}, {entry}: {told}", indent="  ")
        self.paint(word, a.verdict.value)
        if a.treatment is not None:
            self.conclusion(a.treatment)
        if a.provenance is not None and a.provenance.relaxed:
            limits = ", ".join(a.provenance.relaxed)
            self.paragraph("RELAXED", f"not by the protocol's limits: {limits}", indent="  ")
            self.paint("RELAXED", "warning")

    def conclusion(self, treatment: TreatmentAssessment) -> None:
        """Write what the treatment rules come to."""
        found = [rule.outcome for rule in treatment.rules]
        counts = [f"{found.count(o)} {o.value}" for o in TreatmentOutcome if o in found]
        word = f"TREATMENT {treatment.conclusion.value.upper()}"
        self.paragraph(word, f"as of {treatment.as_of}: {', '.join(counts)}", indent="  ")
        self.paint(word, treatment.conclusion.value)

    def assessment(self, a: Assessment, knowledge_base: KnowledgeBaseInfo) -> None:
        """Write everything below the verdict."""
        origin = a.provenance.input_origin if a.provenance else ""
        if a.error is not None:
            self.finding(a.error, [a.error.where])
        if a.criteria:
            self.gap()
            self.outcomes(a.criteria)
        for criterion in a.criteria:
            for block in self.blocks(criterion):
                self.gap()
                self.block(a, block, origin)
        if a.treatment is not None:
            self.treatment(a, a.treatment, origin)
        rules = a.treatment.rules if a.treatment is not None else ()
        self.rests_on([*a.criteria, *rules])
        self.bullets("To decide this patient, the least that is needed", a.to_decide)
        self.findings("About the record", a.data_findings)
        if a.provenance is not None:
            self.provenance(a.provenance, knowledge_base)

    def treatment(self, a: Assessment, treatment: TreatmentAssessment, origin: str) -> None:
        """Write the treatment rules, the course as a timeline, and what there is to tell."""
        rows = [(r.id, r.outcome.value, r.label, ", ".join(r.decided_by)) for r in treatment.rules]
        self.gap()
        self.table(("rule", "outcome", "subject", "decided by"), rows)
        self.timeline(treatment.timeline)
        for rule in treatment.rules:
            if rule.outcome in _TOLD:
                for block in self.rule_blocks(rule):
                    self.gap()
                    self.block(a, block, origin, _TOLD[rule.outcome], rule)
        told = (TreatmentOutcome.PERMITTED, TreatmentOutcome.NOT_RULED)
        self.bullets(
            "For information",
            [
                f"{r.outcome.value} {r.id}: {r.message}"
                for r in treatment.rules
                if r.outcome in told
            ],
        )
        self.findings("About the record of treatment", treatment.data_findings)

    def rule_blocks(self, rule: TreatmentResult) -> list[ClauseResult | TreatmentResult]:
        """Return what to explain of a treatment rule: the clauses that decide, or itself."""
        clauses = [
            c
            for c in rule.clauses
            if c.id in rule.decided_by or (self.verbose and c.outcome is not Outcome.PASS)
        ]
        return [*clauses] or [rule]

    def timeline(self, events: Sequence[TimelineEvent]) -> None:
        """Write the course, one line an event; rules with something to tell stand at the end."""
        if not events:
            return
        rows = []
        for e in events:
            days = days_text(e)
            text = f"{e.text} ({e.count} times)" if e.count > 1 else e.text
            marks = f"  ← {', '.join(e.rules)}" if e.rules else ""
            rows.append((days, "" if e.day is None else str(e.day), e.track, text + marks))
        self.gap()
        self.table(("course", "day", "track", "what"), rows)

    def outcomes(self, criteria: Sequence[CriterionResult]) -> None:
        """Write one row a criterion."""
        rows = [(c.id, c.outcome.word, c.label, ", ".join(c.decided_by)) for c in criteria]
        self.table(("criterion", "outcome", "subject", "decided by"), rows)

    def blocks(self, criterion: CriterionResult) -> list[CriterionResult | ClauseResult]:
        """Return what to explain of a criterion: the clauses that decide, or itself."""
        if criterion.outcome is Outcome.PASS:
            return []
        clauses = [
            c
            for c in criterion.clauses
            if c.outcome is not Outcome.PASS and (self.verbose or c.id in criterion.decided_by)
        ]
        whole = [criterion] if criterion.denied_by or not clauses else []
        return [*whole, *clauses]

    def block(
        self,
        a: Assessment,
        part: CriterionResult | ClauseResult | TreatmentResult,
        origin: str,
        word: str = "",
        rule: TreatmentResult | None = None,
    ) -> None:
        """Write the five answers: where, what, why, what to do, where to read on.

        ``word`` and ``rule`` are those of the treatment rule that a part belongs to.
        """
        meaning = part.outcome.value if isinstance(part, TreatmentResult) else part.outcome.word
        meaning = rule.outcome.value if rule is not None else meaning
        word = word or meaning.upper()
        told = message_of(part)
        self.paragraph(word, f"{a.trial} {part.id} {part.label}: {told}", indent="  ")
        self.paint(word, meaning)
        clause = part if isinstance(part, ClauseResult) else None
        evidence = evidence_in(part)
        shown = evidence if self.verbose else evidence[:_FEW]
        marks = [f"[{n}] " if len(shown) > 1 else "" for n in range(1, len(shown) + 1)]
        place = f"in {origin}" if origin else ""
        where = [
            m + ", ".join(x for x in (where_text(e, a.entry_date), place) if x)
            for m, e in zip(marks, shown, strict=True)
        ]
        found = [m + found_text(e) for m, e in zip(marks, shown, strict=True)]
        if len(evidence) > len(shown):
            where.append(f"and {len(evidence) - len(shown)} more")
        if clause and not evidence:
            where.append(f"nowhere {place}".rstrip())
            found.append(f"nothing that decides it ({clause.facts_read} facts read)")
        if clause and clause.limit:
            found.append(f"the rule asks for {clause.limit}")
        self.member("where", where)
        self.member("found", found)
        self.member(
            "why", [f"{part.locator}: “{part.source_text}”" if part.source_text else part.locator]
        )
        if clause:
            self.member("rests", clause.rests_on)
            self.member("missing", clause.missing)
            if clause.missing and clause.settled_by:
                self.member("settle", [", ".join(clause.settled_by)])
            if self.verbose and clause.readings:
                self.member(
                    "read", [f"{', '.join(clause.readings)} in the register of ambiguities"]
                )
        self.member("fix", [part.remedy] if part.remedy else [])
        self.member("more", [f"sarc-kb explain {part.id}"])

    def rests_on(self, criteria: Iterable[CriterionResult | TreatmentResult]) -> None:
        """Write which passes rest on more than recorded facts."""
        self.bullets(
            "Passes that rest on more than recorded facts",
            [f"{ground}: {', '.join(ids)}" for ground, ids in grounds_of_passes(criteria).items()],
        )

    def provenance(self, p: Provenance, knowledge_base: KnowledgeBaseInfo) -> None:
        """Write what the assessment was made with."""
        parts = [
            f"sarc-kb {p.program_version}",
            f"knowledge base {knowledge_base.version} ({knowledge_base.sha256[:12]})",
            f"{p.engine} {p.engine_version}".strip(),
            f"input {p.input_origin} ({p.input_sha256[:12]})",
            f"as of {p.as_of}",
            *(["set by the caller: " + ", ".join(p.changed)] if p.changed else []),
            f"{p.clauses_evaluated} clauses",
            f"{p.facts_read} facts",
            f"{p.facts_void} void",
            f"{p.facts_after_as_of} later",
            f"{p.facts_unused} unused",
            *(f"{anchor} {day} ({how})" for anchor, day, how in p.anchors if self.verbose),
            *(f"{name} = {value}" for name, value in p.policies),
            *(f"{name} = {value}" for name, value in p.readings if self.verbose),
        ]
        self.gap()
        self.paragraph("Made with", "; ".join(parts), indent="  ")

    # -- findings ----------------------------------------------------------------------------------
    def findings(self, title: str, findings: Sequence[Finding]) -> None:
        """Write findings, those of one kind together."""
        if not findings:
            return
        groups: dict[tuple[str, str, str, str], list[Finding]] = {}
        for f in findings:
            group = (f.severity, f.code, f.found if self.verbose else "", f.why)
            groups.setdefault(group, []).append(f)
        self.gap()
        self.lines.append(title)
        for same in groups.values():
            self.finding(same[0], list(dict.fromkeys(f.where for f in same)), len(same))

    def finding(self, finding: Finding, where: Sequence[str], count: int = 1) -> None:
        """Write one finding, or the first of several that differ only in place and value."""
        shown = where if self.verbose else where[:_FEW]
        more = [f"and {len(where) - len(shown)} more"] if len(where) > len(shown) else []
        times = f" ({count} times, the first is shown)" if count > 1 else ""
        self.paragraph(f"{finding.severity} {finding.code}", f"{finding.found}{times}", indent="  ")
        self.paint(finding.severity, finding.severity)
        self.member("where", [", ".join([*shown, *more])])
        self.member("why", [finding.why])
        self.member("fix", [finding.fix])

    # -- many patients -----------------------------------------------------------------------------
    def summary(self, assessments: Sequence[Assessment], table: bool) -> None:
        """Write, if there are several patients, how they came out, and how many came out how."""
        if len(assessments) == 1:
            return
        if not assessments:
            self.lines.append("No patient was found.")
            return
        rows: list[tuple[str, ...]] = [
            (
                a.patient,
                a.verdict.value,
                ", ".join(c.id for c in a.criteria if c.outcome is Outcome.FAIL),
                ", ".join(c.id for c in a.criteria if c.outcome is Outcome.UNDETERMINED),
            )
            for a in assessments
        ]
        head: tuple[str, ...] = ("patient", "verdict", "fails", "undetermined")
        if any(a.treatment is not None for a in assessments):
            # Where somebody is treated, everybody's course has a place.
            courses = [a.treatment.conclusion.value if a.treatment else "" for a in assessments]
            head = (*head[:2], "treatment", *head[2:])
            rows = [(*r[:2], c, *r[2:]) for r, c in zip(rows, courses, strict=True)]
        if table:
            self.gap()
            self.table(head, rows)
        found = [a.verdict for a in assessments]
        counts = [
            f"{found.count(v)} {v.value}"
            for v in Verdict
            if v is not Verdict.NOT_ASKED or v in found
        ]
        self.gap()
        self.lines.append(f"{len(assessments)} patients: {', '.join(counts)}")

    # -- laying out --------------------------------------------------------------------------------
    def paint(self, word: str, meaning: str) -> None:
        """Colour ``word`` where the last paragraph begins with it."""
        if not self.colour:
            return
        start = next(
            n for n in range(len(self.lines) - 1, -1, -1) if self.lines[n].startswith(word)
        )
        self.lines[start] = _painted(word, meaning) + self.lines[start][len(word) :]

    def gap(self) -> None:
        """Write an empty line, unless there is one."""
        if self.lines and self.lines[-1]:
            self.lines.append("")

    def paragraph(self, first: str, text: str, indent: str) -> None:
        """Write ``first`` and ``text``, further lines indented."""
        self.lines += _wrapped(text, f"{first}  ", indent, self.width)

    def member(self, name: str, texts: Iterable[str]) -> None:
        """Write the named answer of a block, one text below the other."""
        label = f"  {name:<9}"
        for text in texts:
            self.lines += _wrapped(text, label, " " * len(label), self.width)
            label = " " * len(label)

    def bullets(self, title: str, texts: Sequence[str]) -> None:
        """Write a list under a title, or nothing."""
        if texts:
            self.gap()
            self.lines.append(title)
            for text in texts:
                self.lines += _wrapped(text, "  - ", "    ", self.width)

    def table(self, head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> None:
        """Write a table, indented, as wide as there is room; its second column is coloured, the
        third and those after it are wrapped."""
        sizes = [max(columns(row[n]) for row in (head, *rows)) for n in range(len(head))]
        room = self.width - 2 * len(head)
        while sum(sizes) > room and max(sizes[2:]) > _NARROW:
            widest = max(range(2, len(sizes)), key=lambda n: (sizes[n], n))
            sizes[widest] -= 1
        rule = tuple("-" * size for size in (*sizes[:-1], len(head[-1])))
        for row in (head, rule, *rows):
            cells = [[row[0]], [row[1]]]
            cells += [_wrapped(text, "", "", n) for text, n in zip(row, sizes, strict=True)][2:]
            for number, texts in enumerate(zip_longest(*cells, fillvalue="")):
                padded = [t + " " * (n - columns(t)) for t, n in zip(texts, sizes, strict=True)]
                if self.colour and row in rows and number == 0:
                    padded[1] = padded[1].replace(row[1], _painted(row[1], row[1]))
                self.lines.append("  " + "  ".join(padded).rstrip())


def _painted(word: str, meaning: str) -> str:
    return f"\x1b[{_COLOURS[meaning]}m{word}\x1b[0m"


def _wrapped(text: str, first: str, further: str, width: int) -> list[str]:
    lines = wrap(
        text,
        width,
        initial_indent=first,
        subsequent_indent=further,
        break_long_words=False,
        break_on_hyphens=False,
    )
    return lines or [first.rstrip()]


def columns(text: str) -> int:
    """Return how many columns of a terminal ``text`` takes."""
    wide = sum(unicodedata.east_asian_width(char) in "WF" for char in text)
    return len(text) + wide - sum(unicodedata.combining(char) > 0 for char in text)
