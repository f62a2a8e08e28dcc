"""What a data set can decide before anybody is screened, what blocks the rest, and what is unmapped.

Patients are read one at a time and only counted. A clause counts as decided where its deciding
facts show a pass or a fail; `sarc_kb.assess` holds those against the SHACL processor.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from decimal import Decimal
from urllib.parse import unquote

from sarc_kb.assess import fold
from sarc_kb.assessment import KnowledgeBaseInfo, Outcome
from sarc_kb.dates import NEVER, PartialDate, iso, parse_date
from sarc_kb.errors import Finding
from sarc_kb.explain import BLOCKERS, Explanation, explain, open_axes
from sarc_kb.facts import Fact, PatientRecord
from sarc_kb.kb import KnowledgeBase
from sarc_kb.namespaces import SARC, TEXT, local_name, text_iri
from sarc_kb.prepare import Prepared, WindowDays
from sarc_kb.record_kinds import kinds_of_record
from sarc_kb.rules import Clause, Trial
from sarc_kb.terminology import Coded, Terminology, fold_unit
from sarc_kb.units import read_number

CODE, RESULT, UNIT = "code", "result", "unit"
"""What something unmapped is in its fact; the name of an axis otherwise."""

_VOID = frozenset(
    str(SARC[s]) for s in ("EnteredInError", "Cancelled", "NotDone", "Preliminary", "Planned")
)
_SPOKEN = frozenset((str(SARC.Attestation), str(SARC.CompletenessStatement)))
_STATEMENT = str(SARC.CompletenessStatement)
_ATTESTATION = str(SARC.Attestation)
# A longer text is a note, not a result. A reader says of a value it does not read which it is.
_LONGEST_TEXT = 100
_UNREAD_VALUE = re.compile(r"value[A-Z][A-Za-z]+|several values")
_UNDATED = parse_date("1970-01-01")


@dataclass(frozen=True, slots=True)
class ClauseReadiness:
    """In how many patients a clause passes, fails, or is blocked, and by what."""

    id: str
    criterion: str
    label: str
    passes: int
    fails: int
    blocked: tuple[tuple[str, int], ...]
    fhir_element: str
    omop_field: str

    @property
    def decided(self) -> int:
        return self.passes + self.fails


@dataclass(frozen=True, slots=True)
class CriterionReadiness:
    """In how many patients a criterion is decided; ``blocked`` counts clauses of the others."""

    id: str
    kind: str
    label: str
    decided: int
    blocked: tuple[tuple[str, int], ...]


@dataclass(frozen=True, slots=True)
class Gain:
    """Something to extract: how many undecided clauses of patients it may open, and where it
    stands in FHIR and in OMOP."""

    opens: int
    patients: int
    blocker: str
    what: str
    clauses: tuple[str, ...]
    fhir_element: str
    omop_field: str


@dataclass(frozen=True, slots=True)
class Seen:
    """A code or text: what it is in its fact, how the record calls it, how often and in how many
    patients it stands, where for example, and the term it leads to (empty if to none).

    ``system`` is the name of a code system, or what stands before the code in ``iri``; of a text
    or unit it is empty, as is the ``iri`` of a unit.
    """

    role: str
    iri: str
    system: str
    code: str
    display: str
    count: int
    patients: int
    example: str
    term: str


@dataclass(frozen=True, slots=True)
class SeenUnit:
    """A unit as written, of what, and why it cannot be used (empty if it can)."""

    unit: str
    of: str
    count: int
    patients: int
    example: str
    problem: str


@dataclass(frozen=True, slots=True)
class Readiness:
    """What a data set can decide. ``windows_unknown``: patients without an entry date; for them a
    record counts whenever it was. ``unreadable``: patients who could not be judged."""

    knowledge_base: KnowledgeBaseInfo
    trial: str
    patients: int
    windows_unknown: int
    unreadable: int
    criteria: tuple[CriterionReadiness, ...]
    clauses: tuple[ClauseReadiness, ...]
    gains: tuple[Gain, ...]
    unmapped: tuple[Seen, ...]
    codes: tuple[Seen, ...]
    units: tuple[SeenUnit, ...]
    changed: tuple[str, ...] = ()
    findings: tuple[Finding, ...] = ()


def readiness(
    kb: KnowledgeBase,
    trial: Trial,
    records: Iterable[PatientRecord],
    *,
    complete: Iterable[str] = (),
    attested: Mapping[str, str] | None = None,
    findings: Iterable[Finding] = (),
) -> Readiness:
    """Return what ``records`` can decide of ``trial``; they are read once, in order.

    Args:
        complete, attested: as for judging; histories vouched for, answers for the whole study.
        findings: about the run, to be passed on.
    """
    count = _Count(kb, trial, tuple(complete), attested or {})
    for record in records:
        count.patient(record)
    return count.result(tuple(findings))


Key = tuple[str, str, str]
"""What is missing: one of `BLOCKERS`; what it is about (a set, a scope, a kind of record, a
question); and the axis, if it is an attribute."""


@dataclass(slots=True)
class _Tally:
    """How often something was met, in how many patients, and where first."""

    count: int = 0
    patients: int = 0
    example: str = ""
    display: str = ""
    last: int = -1

    def met(self, patient: int, example: str, display: str = "") -> None:
        self.count += 1
        if self.last != patient:
            self.last = patient
            self.patients += 1
        self.example = self.example or example
        self.display = self.display or display


@dataclass(slots=True)
class _Blocked:
    """One kind of thing that is missing, and the clauses it keeps open."""

    tally: _Tally = field(default_factory=_Tally)
    clauses: dict[str, None] = field(default_factory=dict)


class _Count:
    """What was counted so far."""

    def __init__(
        self,
        kb: KnowledgeBase,
        trial: Trial,
        complete: tuple[str, ...],
        attested: Mapping[str, str],
    ) -> None:
        self.kb, self.trial, self.terms = kb, trial, kb.terms
        self.complete, self.attested = complete, attested
        self.elements = Elements(trial, kb.terms)
        self.patients = self.windows_unknown = self.unreadable = 0
        self.outcomes: Counter[tuple[str, Outcome]] = Counter()
        self.criteria: Counter[str] = Counter()
        self.blocked: dict[str, Counter[str]] = {iri: Counter() for iri in trial.clauses}
        self.blocked_criteria: dict[str, Counter[str]] = {c.iri: Counter() for c in trial.criteria}
        self.missing: dict[Key, _Blocked] = {}
        self.codes: dict[tuple[str, str], _Tally] = {}
        self.unmapped: dict[tuple[str, str], _Tally] = {}
        self.units: dict[tuple[str, str, str], _Tally] = {}
        self.findings: list[Finding] = []

    # -- one patient ---------------------------------------------------------------------------
    def patient(self, record: PatientRecord) -> None:
        self.patients += 1
        for fact in record.facts:
            if fact.status not in _VOID and fact.kind not in _SPOKEN:
                self.fact(fact, record)
        if any(f.severity == "error" for f in record.findings):
            self.unreadable += 1
            return
        try:
            prepared = self.prepared(record)
            grounds = {iri: explain(prepared, c) for iri, c in self.trial.clauses.items()}
        except Exception as bug:  # one record must never stop a data set
            self.unreadable += 1
            self.findings.append(
                Finding(
                    "ENGINE005",
                    "error",
                    record.origin,
                    f"{type(bug).__name__} while reading patient {record.label}",
                    "the program failed on this record",
                    "report it; the other patients are not touched",
                )
            )
            return
        outcomes = {iri: _outcome(ground) for iri, ground in grounds.items()}
        reasons: dict[str, Key] = {}
        for iri, outcome in outcomes.items():
            self.outcomes[iri, outcome] += 1
            if outcome is Outcome.UNDETERMINED:
                clause = self.trial.clauses[iri]
                blocker, about = self.reason(prepared, clause, grounds[iri])
                reasons[iri] = (blocker, *about)
                self.blocked[iri][blocker] += 1
        for criterion in self.trial.criteria:
            denied = criterion.iri in prepared.denied
            whole = fold(self.trial, criterion.root, outcomes)
            if denied or whole is not Outcome.UNDETERMINED:
                self.criteria[criterion.iri] += 1
                continue
            # Only clauses that can still change the criterion: others may stay open.
            keys = [(c, reasons[c]) for c in _open(self.trial, criterion.root, outcomes)]
            for clause_iri, key in keys:
                missing = self.missing.setdefault(key, _Blocked())
                missing.tally.met(self.patients, "")
                missing.clauses[self.trial.clauses[clause_iri].id] = None
            for blocker in {key[0] for _, key in keys}:
                self.blocked_criteria[criterion.iri][blocker] += 1

    def prepared(self, record: PatientRecord) -> Prepared:
        """Return the prepared patient; without an entry date, every record lies in every window."""
        known = record.entry is not None and record.entry.exact
        if not known:
            self.windows_unknown += 1
            record = replace(record, entry=_last_day(record))
        prepared = self.kb.prepare(
            record, self.trial, complete=self.complete, attested=self.attested
        )
        if not known:
            end = prepared.as_of
            prepared.windows = {w: WindowDays(NEVER, NEVER, end, end) for w in prepared.windows}
        return prepared

    def reason(
        self, prepared: Prepared, clause: Clause, ground: Explanation
    ) -> tuple[str, tuple[str, str]]:
        """Return what keeps ``clause`` open, and what it is about: a set, an axis of a set, a
        scope, a kind of record, or a question."""
        role = clause.role
        if role is None:
            asked = [q.iri for q in self.trial.questions if clause.iri in q.covers]
            return "answer", (asked[0] if asked else clause.iri, "")
        wanted = role.concept_set
        if ground.doubts:
            first = ground.doubts[0]
            about = first.role.concept_set
            if first.kind == "attribute":
                return first.kind, (about, open_axes(prepared, first.item, first.role.qualifier)[0])
            return first.kind, (about, "")
        kinds = self.elements.kinds(wanted)
        unread = sorted(
            {
                item.kind or ""
                for item in prepared.items
                if not item.terms.readable and (item.kind is None or item.kind in kinds)
            }
        )
        if clause.component in ("latest", "some"):
            if ground.nearby:
                return "old", (wanted, "")
            return "mapping" if unread else "code", (wanted, "")
        scope = clause.settled_by or ""
        parts = self.terms.scope_parts.get(scope) or {scope}
        spoken = any(parts & s.scopes for s in prepared.statements if not s.explicit)
        return ("mapping", (unread[0], "")) if spoken and unread else ("statement", (scope, ""))

    # -- codes and units -----------------------------------------------------------------------
    def fact(self, fact: Fact, record: PatientRecord) -> None:
        """Count the codes and the unit of one fact."""
        where = fact.source or fact.id
        self.coded(CODE, fact.concepts, where, record)
        self.coded(RESULT, fact.value_concepts, where, record)
        for axis in sorted({a for a, _ in fact.axes}):
            if axis not in self.terms.open_axes:
                codes = tuple(v for a, v in fact.axes if a == axis)
                self.coded(local_name(axis), codes, where, record)
        if fact.value is None and fact.value_text is None:
            return
        coded = self.terms.code(fact.concepts)
        self.worded(fact, coded, where)
        for term in sorted(coded.certain or coded.general):
            quantity = self.terms.quantity_of(term)
            if quantity is None:
                continue
            unit = fact.unit or ""
            number = fact.value if fact.value is not None else Decimal(0)
            reading = read_number(number, None, unit, quantity, self.terms)
            problem = reading.problem if "unit" in reading.problem else ""
            key = (unit, self.terms.label(term), problem)
            self.units.setdefault(key, _Tally()).met(self.patients, where)
            if problem and unit:
                self.unmapped.setdefault((UNIT, fold_unit(unit)), _Tally()).met(
                    self.patients, where, unit
                )
            break

    def worded(self, fact: Fact, coded: Coded, where: str) -> None:
        """Count a result in words of something that is read and is no quantity."""
        words = fact.value_text or ""
        terms = coded.certain or coded.general
        if not words or not terms or any(self.terms.quantity_of(t) for t in terms):
            return
        if len(words) <= _LONGEST_TEXT and not _UNREAD_VALUE.fullmatch(words):
            for table in (self.codes, self.unmapped):
                seen = table.setdefault((RESULT, text_iri(words)), _Tally())
                seen.met(self.patients, where, words)

    def coded(self, role: str, codes: tuple[str, ...], where: str, record: PatientRecord) -> None:
        """Count codes; those of a thing that none of them makes readable are unmapped."""
        readable = self.terms.code(codes).readable
        for code in codes:
            if self.terms.known(code):
                continue
            called = record.labels.get(code, "")
            self.codes.setdefault((role, code), _Tally()).met(self.patients, where, called)
            if not readable:
                self.unmapped.setdefault((role, code), _Tally()).met(self.patients, where, called)

    # -- what it comes to ----------------------------------------------------------------------
    def result(self, findings: tuple[Finding, ...]) -> Readiness:
        clauses = tuple(
            self.clause(self.trial.clauses[iri], criterion.id)
            for criterion in self.trial.criteria
            for iri in criterion.clauses
        )
        return Readiness(
            knowledge_base=self.kb.info,
            trial=self.trial.id,
            patients=self.patients,
            windows_unknown=self.windows_unknown,
            unreadable=self.unreadable,
            criteria=tuple(
                CriterionReadiness(
                    c.id,
                    c.kind,
                    c.text.label,
                    self.criteria[c.iri],
                    _most(self.blocked_criteria[c.iri]),
                )
                for c in self.trial.criteria
            ),
            clauses=clauses,
            gains=self.gains(),
            unmapped=tuple(self.seen(self.unmapped)),
            codes=tuple(self.seen(self.codes)),
            units=tuple(
                SeenUnit(unit, of, t.count, t.patients, t.example, problem)
                for (unit, of, problem), t in sorted(
                    self.units.items(), key=lambda e: (-e[1].count, e[0])
                )
            ),
            changed=(
                *(change for a in self.kb.added for change in a.changed),
                *self.trial.changed,
                *(f"complete: {name}" for name in self.complete),
                *(f"answer {name}={word}" for name, word in self.attested.items()),
            ),
            findings=(*findings, *self.findings),
        )

    def clause(self, clause: Clause, criterion: str) -> ClauseReadiness:
        blocked = _most(self.blocked[clause.iri])
        keys = [k for k, m in self.missing.items() if clause.id in m.clauses]
        main = max(keys, key=lambda k: (self.blocked[clause.iri][k[0]], k), default=None)
        fhir, omop = self.elements.of(main) if main else ("", "")
        return ClauseReadiness(
            id=clause.id,
            criterion=criterion,
            label=clause.text.label,
            passes=self.outcomes[clause.iri, Outcome.PASS],
            fails=self.outcomes[clause.iri, Outcome.FAIL],
            blocked=blocked,
            fhir_element=fhir,
            omop_field=omop,
        )

    def gains(self) -> tuple[Gain, ...]:
        found = []
        for key, missing in self.missing.items():
            fhir, omop = self.elements.of(key)
            found.append(
                Gain(
                    opens=missing.tally.count,
                    patients=missing.tally.patients,
                    blocker=key[0],
                    what=self.elements.label(key),
                    clauses=tuple(
                        c.id for c in self.trial.clauses.values() if c.id in missing.clauses
                    ),
                    fhir_element=fhir,
                    omop_field=omop,
                )
            )
        return tuple(sorted(found, key=lambda g: (-g.opens, g.blocker, g.what)))

    def named(self, iri: str) -> tuple[str, str]:
        """Return the code system and the code of an IRI, or the text it stands for."""
        if iri.startswith(TEXT):
            return "", unquote(iri[len(TEXT) :])
        for prefix, name in self.terms.code_names.items():
            if iri.startswith(prefix):
                return name, iri[len(prefix) :]
        end = max(iri.rfind("/"), iri.rfind("#")) + 1
        return iri[:end], iri[end:]

    def seen(self, met: Mapping[tuple[str, str], _Tally]) -> Iterator[Seen]:
        for (role, iri), t in sorted(met.items(), key=lambda e: (-e[1].count, e[0])):
            coded = self.terms.code((iri,))
            terms = sorted(coded.certain or coded.general)
            system, code = ("", t.display) if role == UNIT else self.named(iri)
            yield Seen(
                role=role,
                iri="" if role == UNIT else iri,
                system=system,
                code=code,
                display=t.display,
                count=t.count,
                patients=t.patients,
                example=t.example,
                term=", ".join(map(self.terms.label, terms)),
            )


class Elements:
    """Where FHIR and OMOP keep what a clause lacks, as the ontology says (`sarc:Extraction`)."""

    def __init__(self, trial: Trial, terms: Terminology) -> None:
        self.trial, self.terms = trial, terms
        self._kinds: dict[str, frozenset[str]] = {}
        self._table: dict[tuple[str, str], tuple[str, str]] = {}
        graph = terms.graph
        for node in graph.subjects(predicate=SARC.lacks):
            named = [str(o) for o in graph.objects(node, SARC.extracts)]
            lacks = [str(o) for o in graph.objects(node, SARC.lacks)]
            places = (
                str(graph.value(node, SARC.fhirElement) or ""),
                str(graph.value(node, SARC.omopField) or ""),
            )
            self._table |= {(subject, blocker): places for subject in named for blocker in lacks}

    def kinds(self, concept_set: str) -> frozenset[str]:
        """Return the kinds of record in which facts of a set stand; those a derived fact is made
        from, where it is not recorded itself."""
        if concept_set not in self._kinds:
            self._kinds[concept_set] = kinds_of_record(self.trial, self.terms, concept_set)
        return self._kinds[concept_set]

    def of(self, key: Key) -> tuple[str, str]:
        """Return the FHIR element and the OMOP field of what is missing."""
        blocker, about, axis = key
        if blocker == "answer":
            subjects: Iterable[str] = (_ATTESTATION,)
        elif blocker == "statement":
            subjects = (_STATEMENT,)
        elif axis and (axis, blocker) in self._table:
            subjects = (axis,)
        elif (about, blocker) in self._table:
            subjects = (about,)
        else:
            subjects = self.kinds(about)
        places = [self._table[s, blocker] for s in sorted(subjects) if (s, blocker) in self._table]
        return (
            " or ".join(dict.fromkeys(f for f, _ in places if f)),
            " or ".join(dict.fromkeys(o for _, o in places if o)),
        )

    def label(self, key: Key) -> str:
        """Return what is missing, in words."""
        blocker, about, axis = key
        if blocker == "answer":
            asked = {q.iri: f"“{q.text}” ({q.link_id})" for q in self.trial.questions}
            return asked.get(about) or self.trial.label(about, self.terms)
        label = self.trial.label(about, self.terms) if about else "records of no known kind"
        return f"{label}: {self.terms.label(axis)}" if axis else label


def _outcome(ground: Explanation) -> Outcome:
    if ground.refuted:
        return Outcome.FAIL
    return Outcome.UNDETERMINED if ground.unproven else Outcome.PASS


def _open(trial: Trial, node: str, outcomes: Mapping[str, Outcome]) -> Iterator[str]:
    """Yield the open clauses that leave ``node`` open, each once."""
    seen: set[str] = set()
    todo = [node]
    while todo:
        one = todo.pop()
        if one in seen or fold(trial, one, outcomes) is not Outcome.UNDETERMINED:
            continue
        seen.add(one)
        if one in trial.joins:
            todo += reversed(trial.joins[one].children)
        else:
            yield one


def _most(counted: Counter[str]) -> tuple[tuple[str, int], ...]:
    order = list(BLOCKERS)
    return tuple(sorted(counted.items(), key=lambda e: (-e[1], order.index(e[0]))))


def _last_day(record: PatientRecord) -> PartialDate:
    """Return the last day that the record speaks of."""
    days = [d.last for f in record.facts for d in (f.start, f.end, f.recorded) if d is not None]
    return parse_date(iso(max(days))) if days else _UNDATED
