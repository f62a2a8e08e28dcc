"""The assessment: the one object that every report renders.

Nothing here computes; the engine and `sarc_kb.assess` fill it. All collections are tuples in a
fixed order, so that a rendering is the same byte for byte.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from sarc_kb.errors import Finding


class Outcome(Enum):
    """Kleene's three values; their order is the order of the truth."""

    FAIL = 0
    UNDETERMINED = 1
    PASS = 2

    @property
    def word(self) -> str:
        """``fail``, ``undetermined`` or ``pass``."""
        return self.name.lower()


class Verdict(Enum):
    """What the criteria come to for one patient.

    Eligible: all pass. Ineligible: one at least fails. Undetermined: none fails, and one at least
    is undetermined. Error: the record could not be judged. Not asked: only treatment was judged.
    """

    ELIGIBLE = "eligible"
    INELIGIBLE = "ineligible"
    UNDETERMINED = "undetermined"
    ERROR = "error"
    NOT_ASKED = "not asked"


@dataclass(frozen=True, slots=True)
class Range:
    """Numbers from ``lower`` to ``upper``, as decimals in ``unit`` (None: a bare number).

    An end that is None is not bounded; ``*_included`` says whether an end itself belongs to it.
    """

    lower: str | None
    upper: str | None
    lower_included: bool
    upper_included: bool
    unit: str | None = None


@dataclass(frozen=True, slots=True)
class Period:
    """Days from the earliest to the latest, both included; None where there is no such end."""

    start: str | None
    end: str | None


@dataclass(frozen=True, slots=True)
class Evidence:
    """A fact a clause's outcome rests on, with the values as the record has them.

    ``derived_from`` lists the sources of the facts a derived one was made from; ``rule_value`` is
    the value in the rule's own unit or concept, where that differs from what was recorded.
    ``quantity``: the numbers that the value stands for, in the rule's unit, to at most six places.
    """

    source: str
    concept: str
    label: str
    value: str | None = None
    unit: str | None = None
    date: str | None = None
    rule_value: str | None = None
    derived_from: tuple[str, ...] = ()
    note: str | None = None
    quantity: Range | None = None


@dataclass(frozen=True, slots=True)
class ClauseResult:
    """One clause for one patient.

    ``missing``: what data would settle it, in words, most useful first (empty unless
    undetermined). ``settled_by``: link ids of the questions and the completeness scope that would
    settle it. ``rests_on``: relaxed limits, answers, completeness statements, policies, defaults
    of the register that the outcome rests on besides the evidence. ``readings``: register entries that bear on
    it. ``message`` holds the real values. ``facts_read``: how many facts were candidates.
    ``allowed``: the numbers that clear it, None where it compares none or they are no one range.
    ``window``: the days that it looks at, None where it looks at all. ``concept``: the term or set
    that it reads, None where it is answered alone. ``record_kinds``: the kinds of record in which
    that is kept (empty unless undetermined). ``passed_over``: for a clause that asks for no value
    beyond a limit, the values that it looked at and found within. ``moot``: it is an alternative, or
    part of one, and what it is an alternative in comes out better without it.
    """

    id: str
    iri: str
    label: str
    outcome: Outcome
    message: str
    limit: str
    evidence: tuple[Evidence, ...] = ()
    missing: tuple[str, ...] = ()
    settled_by: tuple[str, ...] = ()
    rests_on: tuple[str, ...] = ()
    readings: tuple[str, ...] = ()
    source_text: str = ""
    locator: str = ""
    remedy: str = ""
    facts_read: int = 0
    allowed: Range | None = None
    window: Period | None = None
    concept: str | None = None
    record_kinds: tuple[str, ...] = ()
    passed_over: tuple[Evidence, ...] = ()
    moot: bool = False


@dataclass(frozen=True, slots=True)
class CriterionResult:
    """One of the protocol's criteria for one patient.

    ``kind``: ``inclusion`` or ``exclusion``; whichever it is, to pass is to clear it. ``decided_by``
    names the clauses (or answers) that decide, ``logic`` says how its clauses are joined.
    ``denied_by``: the answers that deny it as a whole.
    """

    id: str
    iri: str
    kind: str
    label: str
    outcome: Outcome
    message: str
    source_text: str
    locator: str
    remedy: str
    clauses: tuple[ClauseResult, ...]
    decided_by: tuple[str, ...] = ()
    denied_by: tuple[Evidence, ...] = ()
    logic: str = ""


class TreatmentOutcome(Enum):
    """How a treatment rule came out.

    A violation breaks an order or a prohibition and counts as failing. A deviation departs from a
    plan, oversteps a permission, or shows parts of a record that contradict each other: a warning.
    Permitted and not ruled are information.
    """

    VIOLATION = "violation"
    UNDETERMINED = "undetermined"
    DEVIATION = "deviation"
    NOT_YET_APPLICABLE = "not yet applicable"
    PERMITTED = "permitted"
    NOT_RULED = "not ruled"
    CONFORMANT = "conformant"


class Conclusion(Enum):
    """What the treatment rules come to together: the worst that one of them says."""

    VIOLATION = "violation"
    UNDETERMINED = "undetermined"
    DEVIATION = "deviation"
    IN_PROGRESS = "in progress"
    CONFORMANT = "conformant"


@dataclass(frozen=True, slots=True)
class TreatmentResult:
    """One treatment rule; ``modality`` says how the protocol binds by it. The rest is as for a
    criterion; the outcomes of ``clauses`` are those of the three-valued logic."""

    id: str
    iri: str
    modality: str
    label: str
    outcome: TreatmentOutcome
    message: str
    source_text: str
    locator: str
    remedy: str
    clauses: tuple[ClauseResult, ...]
    decided_by: tuple[str, ...] = ()
    logic: str = ""


@dataclass(frozen=True, slots=True)
class TimelineEvent:
    """One line of the course: what happened, on which days, and which rules speak of it.

    ``day`` counts from day 1 of the course, None where that is not known. ``count`` facts that
    follow each other and are alike are one line. ``rules`` are those with something to tell.
    ``extent``: from the earliest day on which it may have begun to the latest on which it may have
    ended; ``exact``: whether both days are known.
    """

    track: str
    start: str
    end: str
    day: int | None
    text: str
    count: int
    sources: tuple[str, ...]
    rules: tuple[str, ...] = ()
    extent: Period = Period(None, None)
    exact: bool = True


@dataclass(frozen=True, slots=True)
class TreatmentAssessment:
    """The course of treatment against the treatment rules, as it stood on ``as_of``.

    ``anchors``: each named day with its date and how it was found.
    """

    as_of: str
    conclusion: Conclusion
    rules: tuple[TreatmentResult, ...]
    timeline: tuple[TimelineEvent, ...]
    anchors: tuple[tuple[str, str, str], ...]
    facts_after_as_of: int = 0
    data_findings: tuple[Finding, ...] = ()


@dataclass(frozen=True, slots=True)
class Provenance:
    """What the assessment was made with: everything needed to make it again.

    ``input_sha256``: of the bytes of the record, or of what its rows say. ``policies`` and
    ``readings``: names with the values that held; ``anchors``: each named day with its date and how
    it was found. ``facts_void``, ``facts_after_as_of``, ``facts_unused``: how many facts of
    ``facts_read`` were void, too late to be seen, or could not be used. ``changed`` names what the
    caller set: policies, readings, relaxed limits, histories vouched for, answers given for the
    whole study.
    """

    engine: str
    engine_version: str
    program_version: str
    input_origin: str
    input_sha256: str
    as_of: str
    policies: tuple[tuple[str, str], ...]
    readings: tuple[tuple[str, str], ...]
    anchors: tuple[tuple[str, str, str], ...]
    clauses_evaluated: int
    facts_read: int
    facts_void: int
    facts_after_as_of: int
    facts_unused: int
    changed: tuple[str, ...] = ()

    @property
    def relaxed(self) -> tuple[str, ...]:
        """What of ``changed`` sets other limits than the protocol's."""
        mark = "relax: "
        return tuple(c.removeprefix(mark) for c in self.changed if c.startswith(mark))


@dataclass(frozen=True, slots=True)
class Assessment:
    """One patient against one trial.

    ``verdict`` is about eligibility; ``treatment`` is None where no treatment is on record.
    ``to_decide``: the smallest set of data that would settle the verdict (empty unless
    undetermined). ``error``: why the patient could not be judged (verdict ``error`` only).
    """

    trial: str
    trial_iri: str
    patient: str
    patient_iri: str
    entry_date: str | None
    verdict: Verdict
    criteria: tuple[CriterionResult, ...] = ()
    to_decide: tuple[str, ...] = ()
    data_findings: tuple[Finding, ...] = ()
    provenance: Provenance | None = None
    error: Finding | None = None
    treatment: TreatmentAssessment | None = None

    def _repr_html_(self) -> str:
        from sarc_kb.reports.notebook import render_fragment

        return render_fragment((self,))


@dataclass(frozen=True, slots=True)
class KnowledgeBaseInfo:
    """Version and content hash of the knowledge base an assessment was made with."""

    version: str
    sha256: str


@dataclass(frozen=True, slots=True)
class AssessmentSet:
    """The result of one run: what was asked, and an assessment for every patient found."""

    knowledge_base: KnowledgeBaseInfo
    assessments: tuple[Assessment, ...]
    run_findings: tuple[Finding, ...] = ()

    def _repr_html_(self) -> str:
        from sarc_kb.reports.notebook import render_fragment

        return render_fragment(self.assessments, self.run_findings)
