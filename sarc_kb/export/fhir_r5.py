"""A trial as FHIR R5: ResearchStudy, and its eligibility as an EvidenceVariable.

Characteristics combine as trees (all-of, any-of), deny (exclude), count time from an event and name
a method; so most of a rule is carried. That the latest of several values counts cannot be said.
Source: FHIR R5 (5.0.0), EvidenceVariable and ResearchStudy.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from decimal import Decimal

from sarc_kb.assessment import KnowledgeBaseInfo
from sarc_kb.export.account import Account, Carriage, account_of, set_by_caller
from sarc_kb.export.codes import Codebook
from sarc_kb.export.fhir import (
    JUDGEMENT,
    LATEST,
    NARROWER,
    NOTES,
    PAIR,
    TREATMENT,
    Element,
    Names,
    Study,
    base_of,
    bounds_value,
    bundle,
    left_out_of_value,
    quantity,
    safe_id,
    version_of,
)
from sarc_kb.export.spans import counts_from_one_event, earliest_day, latest_day
from sarc_kb.namespaces import SARC
from sarc_kb.rules import ANY, EVER, Clause, Criterion, Trial

_METHOD = str(SARC.method)
_ENTRY = str(SARC.StudyEntry)
_NOTES = (
    *NOTES,
    (
        "Time counts from an event with negative numbers before it; a window that is open to one side "
        "has no bound there. Both ends count."
    ),
)


def export(trial: Trial, book: Codebook, info: KnowledgeBaseInfo) -> tuple[str, Account]:
    """Return the Bundle of a trial's study and eligibility as JSON, and the account."""
    maker = _Maker(trial, Names(trial, book))
    criteria = [maker.criterion(criterion) for criterion in trial.criteria]
    base = base_of(trial)
    variable: Element = {
        "resourceType": "EvidenceVariable",
        "id": safe_id(f"eligibility-{trial.id}"),
        "url": f"{base}/eligibility",
        "version": version_of(info),
        "name": safe_id(f"Eligibility-{trial.id}").replace("-", ""),
        "title": f"Eligible for {trial.id}: {trial.title}",
        "status": "draft",
        "actual": False,
        "characteristic": [
            {
                "linkId": "eligibility",
                "description": " ".join(("All of the criteria.", *set_by_caller(trial))),
                "definitionByCombination": {"code": "all-of", "characteristic": criteria},
            }
        ],
    }
    study = Study.of(trial)
    research: Element = {
        "resourceType": "ResearchStudy",
        "id": safe_id(trial.id),
        **study.common(trial),
        "version": version_of(info),
        "status": "unknown",
        "recruitment": {"eligibility": {"reference": f"EvidenceVariable/{variable['id']}"}},
    }
    groups = [
        {k: v for k, v in (("name", name), ("type", kind), ("description", given)) if v}
        for name, kind, given in study.arms()
    ]
    if study.sources():
        research["relatedArtifact"] = [
            {"type": "derived-from", "document": {"url": url}} for url in study.sources()
        ]
    if groups:
        research["comparisonGroup"] = groups
    sponsor = study.sponsor()
    if sponsor:
        role = {
            "system": "http://hl7.org/fhir/research-study-party-role",
            "code": "lead-sponsor",
        }
        research["associatedParty"] = [{"role": {"coding": [role]}, "party": sponsor}]
    text = bundle(trial, (research, variable, *maker.names.value_sets(info)))
    account = account_of("fhir-r5", trial, info, _NOTES, maker.carriages, treatment=TREATMENT)
    return text, account


@dataclass
class _Maker:
    trial: Trial
    names: Names

    def __post_init__(self) -> None:
        self.carriages: dict[str, Carriage] = {}

    def criterion(self, criterion: Criterion) -> Element:
        """Return one criterion, with the protocol's words, as a characteristic."""
        return {**self._node(criterion.root), "description": criterion.text.quote}

    def _node(self, iri: str) -> Element:
        join = self.trial.joins.get(iri)
        if join is None:
            clause = self.trial.clauses[iri]
            if iri in self.carriages:
                return {"definitionId": safe_id(clause.id)}
            return {"linkId": safe_id(clause.id), **self._clause(clause)}
        children = [self._node(child) for child in join.children]
        code = "any-of" if join.operator == "or" else "all-of"
        return {"linkId": safe_id(join.id), **_combined(code, children)}

    def _clause(self, clause: Clause) -> Element:
        role, words = clause.role, self.names.words(clause)
        in_words: Element = {
            "description": words,
            "definitionCodeableConcept": self.names.named(clause.iri, words),
        }
        if role is None or clause.second is not None:
            why = JUDGEMENT if role is None else PAIR
            self.carriages[clause.iri] = Carriage.not_at_all(why)
            return in_words
        denies = clause.component == "none"
        time, lost, untold = self._time(role.window, denies)
        methods, others = self._methods(role.qualifier)
        untold += [*others, *left_out_of_value(role)]
        if denies and untold:
            self.carriages[clause.iri] = Carriage.not_at_all(*untold, NARROWER)
            return in_words
        lost += untold
        if clause.component == "latest" and role.concept_set not in self.names.intervals:
            lost.append(LATEST)
        found = self._facts(clause, methods, lost)
        if time is not None:
            found["timeFromEvent"] = [time]
        if denies:
            found["exclude"] = True
        lost += self.names.no_codes()
        self.carriages[clause.iri] = Carriage.of(lost)
        return {"description": words, **found}

    # -- what -------------------------------------------------------------------------------------
    def _facts(self, clause: Clause, methods: list[Element], lost: list[str]) -> Element:
        """Return which facts a clause is about and what it asks of their value."""
        role = clause.role
        assert role is not None
        values: list[Element] = [{"valueBoolean": True}]
        if role.accepted != ANY:
            accepted = self._members(role.accepted, lost)
            values = [{"valueCodeableConcept": concept} for concept in accepted]
        elif role.bounds.used:
            values = [bounds_value(role.bounds, self.names.unit(clause))]
        methods_: Element = {"method": methods} if methods else {}
        return _combined(
            "any-of",
            [
                {"definitionByTypeAndValue": {"type": type_, **methods_, **value}}
                for type_ in self._members(role.concept_set, lost)
                for value in values
            ],
        )

    def _members(self, iri: str, lost: list[str]) -> list[Element]:
        """Return the concepts of which one is meant.

        A set that leaves something out is named, not spelled out: what it leaves out would be denied
        of all facts, not of the one that is meant. So is one of facts of another kind: the codes
        would say that the patient has it, not a relative, say.
        """
        found = self.trial.set_of(iri)
        if found.excluding or found.kind is not None:
            return [self.names.one_of(iri, lost)]
        return [self.names.concept(member) for member in sorted(found.members)]

    def _methods(self, qualifier: str) -> tuple[list[Element], list[str]]:
        """Return the methods a qualifier asks for, and what else it asks, in words."""
        methods: list[Element] = []
        others: list[str] = []
        if qualifier != ANY:
            for required in self.trial.qualifiers[qualifier].requires:
                value = required.among or required.not_among or ""
                if required.axis == _METHOD and required.among and value not in self.trial.sets:
                    methods.append(self.names.concept(value))
                else:
                    sign = "is" if required.among else "is not"
                    axis, named = self.names.label(required.axis), self.names.label(value)
                    others.append(f"only where {axis} {sign} {named}")
        return methods, others

    # -- when -------------------------------------------------------------------------------------
    def _time(self, iri: str, denies: bool) -> tuple[Element | None, list[str], list[str]]:
        """Return the time of a window, what of it is said less exactly, and whether it is left out
        (in words)."""
        if iri == EVER:
            return None, [], []
        window = self.trial.windows[iri]
        if not counts_from_one_event(window):
            return None, [], [f"when: {self.names.label(iri)}"]
        lost: list[str] = []
        untold: list[str] = []
        if window.months or window.ends_months_before:
            lost.append("the months of the calendar: they are days, so many that nobody is missed")
        if window.start_only:
            untold.append("that only the day it began counts")
        if window.anchor != _ENTRY:
            named = self.names.label(window.anchor)
            lost.append(f"how {named} is found: it is named by this knowledge base alone")
        span: Element = {}
        if window.days is not None or window.months is not None:
            span["low"] = _offset(earliest_day(window, widest=not denies))
        if not window.open_end:
            span["high"] = _offset(latest_day(window, widest=not denies))
        time: Element = {
            "description": self.names.label(iri),
            "eventCodeableConcept": self.names.named(
                window.anchor, self.names.label(window.anchor)
            ),
        }
        if span:
            time["range"] = span
        return time, lost, untold


def _offset(day: int) -> Element:
    return quantity(Decimal(day), "d")


def _combined(code: str, children: Iterable[Element]) -> Element:
    """Return the combination of characteristics; one alone is itself."""
    found = list(children)
    if len(found) == 1:
        return found[0]
    return {"definitionByCombination": {"code": code, "characteristic": found}}
