"""A trial's criteria as an OHDSI cohort definition (Circe JSON), as far as OMOP and Circe carry them.

Each criterion becomes an inclusion rule; the index event stands for the day of entry. Concept sets
hold verified OMOP concept ids alone: a term without one is not carried.
Source: OHDSI/circe-be, package org.ohdsi.circe.cohortdefinition.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from decimal import Decimal, Inexact, localcontext
from typing import Any

from sarc_kb.assessment import KnowledgeBaseInfo
from sarc_kb.export.account import Account, Carriage, Carried, account_of, set_by_caller
from sarc_kb.export.codes import Code, Codebook
from sarc_kb.export.fhir import number
from sarc_kb.export.spans import counts_from_one_event, earliest_day, latest_day
from sarc_kb.namespaces import SARC
from sarc_kb.reports.escaping import visible_in_json
from sarc_kb.rules import ANY, EVER, Bounds, Clause, Criterion, Role, Trial

Element = dict[str, Any]

_TABLES = {
    str(SARC.Measurement): "Measurement",
    str(SARC.Condition): "ConditionOccurrence",
    str(SARC.Procedure): "ProcedureOccurrence",
    str(SARC.MedicationUse): "DrugExposure",
}
_LASTING = ("ConditionOccurrence", "DrugExposure")
_ENTRY, _AS_OF = str(SARC.StudyEntry), str(SARC.AsOf)

_NOTES = (
    (
        "Index event: any visit. Each visit is tried as the day of entry, and the first on which all "
        "inclusion rules hold is the patient's; where the day of entry is known, put it in its place."
    ),
    (
        "Two outcomes instead of three: who has no record that shows a criterion is left out, though the "
        "rules would say undetermined; who has no record of what is excluded is let in, though only a "
        "complete record would settle it. What only possibly holds counts as not there."
    ),
    (
        "Apart from that, and from days that entry stands for, carried in part never turns away a "
        "patient whom the rule lets in: what can only be carried narrower is left out."
    ),
    (
        "Concept sets hold verified OMOP concept ids, with all that is below them in the vocabulary of "
        "the site; codes of other vocabularies are not looked up."
    ),
    (
        "What this knowledge base derives, answers of a person, and results under a local code are not "
        "seen."
    ),
)
_TREATMENT = "a rule about treatment: the cohort is of those who may enter"


def export(trial: Trial, book: Codebook, info: KnowledgeBaseInfo) -> tuple[str, Account]:
    """Return the cohort definition as JSON, and the account."""
    maker = _Maker(trial, book)
    rules = [rule for c in trial.criteria if (rule := maker.rule(c)) is not None]
    maker.given_up()
    # What a rule that was given up in the end had asked for is not wanted any more.
    used = set(_codeset_ids(rules))
    version = f"{info.version}-{info.sha256[:12]}"
    definition: Element = {
        "cdmVersionRange": ">=5.0.0",
        "Title": " ".join((f"{trial.id}, criteria of sarc-kb {version}.", *set_by_caller(trial))),
        "PrimaryCriteria": {
            "CriteriaList": [{"VisitOccurrence": {}}],
            "ObservationWindow": {"PriorDays": 0, "PostDays": 0},
            "PrimaryCriteriaLimit": {"Type": "All"},
        },
        "ConceptSets": [s for s in maker.concept_sets if s["id"] in used],
        "QualifiedLimit": {"Type": "First"},
        "ExpressionLimit": {"Type": "First"},
        "InclusionRules": rules,
        "EndStrategy": {"DateOffset": {"DateField": "StartDate", "Offset": 0}},
        "CensoringCriteria": [],
        "CollapseSettings": {"CollapseType": "ERA", "EraPad": 0},
        "CensorWindow": {},
    }
    text = visible_in_json(json.dumps(definition, ensure_ascii=False, indent=2)) + "\n"
    account = account_of("circe", trial, info, _NOTES, maker.carriages, treatment=_TREATMENT)
    return text, account


class _NotCarriedError(Exception):
    """Why a clause cannot be carried."""


@dataclass
class _Maker:
    trial: Trial
    book: Codebook

    def __post_init__(self) -> None:
        self.carriages: dict[str, Carriage] = {}
        self.carried: frozenset[str] = frozenset()
        self.concept_sets: list[Element] = []
        self._numbers: dict[tuple[str, str], int] = {}
        self._multiples = {
            d.iri: d.of[0] for d in self.trial.derivations if d.kind == "UpperLimitMultiple"
        }
        self._ages = {
            d.iri
            for d in self.trial.derivations
            if d.kind == "Interval"
            and (d.from_anchor, d.to_anchor) == (str(SARC.BirthDate), _ENTRY)
            and d.measured_in == str(SARC.CompletedYears)
        }

    def _label(self, iri: str) -> str:
        return self.trial.label(iri, self.book.terms)

    # -- trees ------------------------------------------------------------------------------------
    def rule(self, criterion: Criterion) -> Element | None:
        """Return the inclusion rule of a criterion, None where nothing of it is carried."""
        found, clauses = self._node(criterion.root)
        self.carried |= clauses
        if found is None:
            return None
        return {
            "name": f"{criterion.id} {criterion.text.label}",
            "description": criterion.text.quote,
            "expression": found if "Type" in found else _group("ALL", [found]),
        }

    def _node(self, iri: str) -> tuple[Element | None, frozenset[str]]:
        """Return what a clause or join becomes, and the clauses in it; None for nothing."""
        join = self.trial.joins.get(iri)
        if join is None:
            clause = self._clause(self.trial.clauses[iri])
            return clause, frozenset(() if clause is None else (iri,))
        found = [self._node(child) for child in join.children]
        carried = [element for element, _ in found if element is not None]
        if not carried or (join.operator == "or" and len(carried) < len(found)):
            # Without one of its alternatives it would turn away whom that one lets in.
            return None, frozenset()
        kind = "ANY" if join.operator == "or" else "ALL"
        return _group(kind, carried), frozenset().union(*(clauses for _, clauses in found))

    def given_up(self) -> None:
        """Say of the clauses that could be carried, but whose alternatives could not, that they are
        not."""
        for iri, carriage in self.carriages.items():
            if carriage.carried is not Carried.NOT and iri not in self.carried:
                why = "another alternative beside it (or) is not carried"
                self.carriages[iri] = Carriage.not_at_all(why)

    # -- clauses ----------------------------------------------------------------------------------
    def _clause(self, clause: Clause) -> Element | None:
        lost: list[str] = []
        try:
            found = self._criteria(clause, lost)
        except _NotCarriedError as why:
            self.carriages[clause.iri] = Carriage.not_at_all(str(why))
            return None
        self.carriages[clause.iri] = Carriage.of(lost)
        return found

    def _criteria(self, clause: Clause, lost: list[str]) -> Element:
        role = clause.role
        if role is None:
            raise _NotCarriedError("a person's judgement")
        if clause.second is not None:
            raise _NotCarriedError("it ties two facts to each other in time")
        if role.concept_set in self._ages:
            return self._age(role.bounds, lost)
        denies = clause.component == "none"
        if role.qualifier != ANY:
            if denies:
                raise _NotCarriedError(
                    f"only {self._label(role.qualifier)} is denied, which cannot be said"
                )
            lost.append(f"only what is qualified as: {self._label(role.qualifier)}")
        values = self._values(clause, lost)
        alternatives = []
        for table, codeset in self._codesets(role, denies, lost):
            windows = self._windows(role.window, denies, table in _LASTING, lost)
            for value in values:
                if value and table != "Measurement":
                    raise _NotCarriedError("a value of what is no measurement")
                criteria = {table: {"CodesetId": codeset, **value}}
                alternatives.append(
                    {
                        "Criteria": criteria,
                        **windows,
                        "Occurrence": {"Type": 0 if denies else 2, "Count": 0 if denies else 1},
                        "IgnoreObservationPeriod": True,
                    }
                )
        if clause.component == "latest":
            lost.append("that the latest value counts: one value in the window is enough")
        if len(alternatives) == 1:
            return alternatives[0]
        return _group("ALL" if denies else "ANY", alternatives)

    def _age(self, bounds: Bounds, lost: list[str]) -> Element:
        if bounds.at_most is not None or bounds.less_than is not None:
            raise _NotCarriedError("Circe counts calendar years, and would miss the oldest")
        lost.append("completed years: Circe takes the difference of the years")
        group = _group("ALL", [])
        group["DemographicCriteriaList"] = [{"Age": _range(bounds)}]
        return group

    def _codesets(self, role: Role, denies: bool, lost: list[str]) -> Iterator[tuple[str, int]]:
        """Yield the tables that hold what a clause is about, each with its concept set.

        Raises:
            _NotCarriedError: no concept id is known, or too few.
        """
        named = self._multiples.get(role.concept_set, role.concept_set)
        wanted = self.trial.set_of(named)
        if wanted.kind is not None and wanted.kind not in _TABLES:
            raise _NotCarriedError(f"recorded as {self._label(wanted.kind)}: no table is written")
        terms = self.book.terms
        codes = [c for m in sorted(wanted.members) for c in self.book.concepts(m)]
        codes = [c for c in codes if not terms.up(c.term) & wanted.excluding]
        excluded = [c for m in sorted(wanted.excluding) for c in self.book.concepts(m)]
        missing = [m for m in sorted(wanted.members) if not self.book.covered(m)]
        unexcluded = [m for m in sorted(wanted.excluding) if not self.book.covered(m)]
        if missing and not codes:
            raise _NotCarriedError(self._no_concept(missing))
        if missing and not denies:
            raise _NotCarriedError(f"{self._no_concept(missing)} for all that it means")
        if unexcluded and denies:
            raise _NotCarriedError(f"{self._no_concept(unexcluded)}, which it lets pass")
        lost += [f"{self._no_concept([m])} for all that it means" for m in missing + unexcluded]
        by_table: dict[str, list[Code]] = {}
        for code in codes:
            table = _TABLES.get(wanted.kind or terms.kind_of(code.term) or "")
            if table is None:
                raise _NotCarriedError(f"{code.display}: recorded in a way no table is written for")
            by_table.setdefault(table, []).append(code)
        for table, own in sorted(by_table.items()):
            yield table, self._concept_set(named, table, own, excluded)

    def _no_concept(self, terms: Iterable[str]) -> str:
        """Return that some terms have no OMOP concept id, with the codes they could be looked up by."""
        named = []
        for term in terms:
            codes = ", ".join(f"{c.system} {c.code}" for c in self.book.public(term))
            named.append(self._label(term) + (f" ({codes})" if codes else ""))
        return f"no verified OMOP concept id of {'; '.join(named)}"

    def _concept_set(self, iri: str, table: str, codes: list[Code], excluded: list[Code]) -> int:
        key = (iri, table)
        if key not in self._numbers:
            self._numbers[key] = len(self.concept_sets)
            items = [_item(c, out=False) for c in codes] + [_item(c, out=True) for c in excluded]
            tables = sum(k[0] == iri for k in self._numbers)
            name = self._label(iri) + (f", {table}" if tables > 1 else "")
            self.concept_sets.append(
                {"id": self._numbers[key], "name": name, "expression": {"items": items}}
            )
        return self._numbers[key]

    # -- values -----------------------------------------------------------------------------------
    def _values(self, clause: Clause, lost: list[str]) -> list[Element]:
        """Return what is asked of the value, in alternatives: a unit each."""
        role = clause.role
        assert role is not None
        if role.accepted != ANY:
            accepted = self.trial.set_of(role.accepted)
            if role.bounds.used:
                raise _NotCarriedError("a coded value with limits")
            if accepted.excluding or not all(self.book.covered(m) for m in accepted.members):
                raise _NotCarriedError(
                    f"no verified OMOP concept ids for all that {self._label(role.accepted)} means"
                )
            codes = [c for m in sorted(accepted.members) for c in self.book.concepts(m)]
            return [{"ValueAsConcept": [_concept(c) for c in codes]}]
        if not role.bounds.used:
            return [{}]
        if role.concept_set in self._multiples:
            return [{"RangeHighRatio": _range(role.bounds)}]
        quantity = self.book.terms.quantity_of(role.concept_set)
        if quantity is None or quantity.unit == "1":
            return [{"ValueAsNumber": _range(role.bounds)}]
        found, unseen = [], []
        for unit, (factor, divisor) in sorted(quantity.accepts.items()):
            concepts = self.book.unit_concepts.get(unit)
            bounds = _scaled(role.bounds, divisor, factor)
            if concepts is None or bounds is None:
                unseen.append(unit)
                continue
            named = [{"CONCEPT_ID": c, "CONCEPT_NAME": unit} for c in concepts]
            found.append({"ValueAsNumber": _range(bounds), "Unit": named})
        if not found:
            raise _NotCarriedError(f"no OMOP concept id of the unit {quantity.unit}")
        if unseen:
            lost.append(f"results in {', '.join(unseen)}: they count as not there")
        return found

    # -- windows ----------------------------------------------------------------------------------
    def _windows(self, iri: str, denies: bool, lasts: bool, lost: list[str]) -> Element:
        """Return the windows on the start and the end of an event.

        Raises:
            _NotCarriedError: the window cannot be counted from the index event.
        """
        if iri == EVER:
            return {"StartWindow": _window(None, 0)}
        window = self.trial.windows[iri]
        if not counts_from_one_event(window) or window.open_end:
            raise _NotCarriedError(f"when: {self._label(iri)}")
        if window.anchor != _ENTRY:
            if not self._may_be_entry(window.anchor, set()):
                raise _NotCarriedError(f"when: counted from {self._label(window.anchor)}")
            lost.append(f"{self._label(window.anchor)}: the day of entry, while no other is known")
        if window.months or window.ends_months_before:
            lost.append("the months of the calendar: they are days")
        last = latest_day(window, widest=not denies)
        bounded = window.days is not None or window.months is not None
        if not bounded:
            return {"StartWindow": _window(None, last)}
        first = earliest_day(window, widest=not denies)
        if not lasts or window.start_only:
            return {"StartWindow": _window(first, last)}
        lost.append("what has no end counts as over the day after it began")
        return {
            "StartWindow": _window(None, last),
            "EndWindow": _window(first, None, of_end=True),
        }

    def _may_be_entry(self, anchor: str, seen: set[str]) -> bool:
        """Whether an anchor is the day of entry for a patient of whom nothing else is known."""
        if anchor in (_ENTRY, _AS_OF):
            return True
        if anchor in seen:
            return False
        attempts = self.trial.anchors.get(anchor, ())
        return any(
            self._may_be_entry(target, seen | {anchor}) for a in attempts for target in a.targets
        )


def _codeset_ids(value: Any) -> Iterator[int]:
    """Yield the concept sets that criteria name, wherever they stand."""
    if isinstance(value, dict):
        if "CodesetId" in value:
            yield value["CodesetId"]
        for held in value.values():
            yield from _codeset_ids(held)
    elif isinstance(value, list):
        for held in value:
            yield from _codeset_ids(held)


def _group(kind: str, members: Iterable[Element]) -> Element:
    """Return a group of criteria and groups."""
    found = list(members)
    return {
        "Type": kind,
        "CriteriaList": [m for m in found if "Criteria" in m],
        "DemographicCriteriaList": [],
        "Groups": [m for m in found if "Criteria" not in m],
    }


def _window(first: int | None, last: int | None, *, of_end: bool = False) -> Element:
    """Return a window of days about the index event; None is without limit."""

    def end(day: int | None, open_side: int) -> Element:
        if day is None:
            return {"Coeff": open_side}
        return {"Days": abs(day), "Coeff": -1 if day < 0 else 1}

    return {
        "Start": end(first, -1),
        "End": end(last, 1),
        "UseIndexEnd": False,
        "UseEventEnd": of_end,
    }


def _range(bounds: Bounds) -> Element:
    """Return a numeric range.

    Raises:
        _NotCarriedError: it has a strict bound beside another.
    """
    ends = [
        (name, b)
        for name, b in (
            ("gte", bounds.at_least),
            ("gt", bounds.more_than),
            ("lte", bounds.at_most),
            ("lt", bounds.less_than),
        )
        if b is not None
    ]
    if len(ends) == 1:
        return {"Value": number(ends[0][1]), "Op": ends[0][0]}
    if bounds.at_least is None or bounds.at_most is None or len(ends) > 2:
        raise _NotCarriedError("two bounds of which one is strict")
    return {"Value": number(bounds.at_least), "Extent": number(bounds.at_most), "Op": "bt"}


def _scaled(bounds: Bounds, factor: Decimal, divisor: Decimal) -> Bounds | None:
    """Return ``bounds`` times ``factor`` over ``divisor``, None where a number has no end."""

    def scale(number_: Decimal | None) -> Decimal | None:
        return None if number_ is None else number_ * factor / divisor

    with localcontext() as context:
        context.prec = 15
        context.traps[Inexact] = True
        try:
            return Bounds(
                scale(bounds.at_least),
                scale(bounds.more_than),
                scale(bounds.at_most),
                scale(bounds.less_than),
            )
        except Inexact:
            return None


def _concept(code: Code) -> Element:
    return {"CONCEPT_ID": int(code.code), "CONCEPT_NAME": code.display}


def _item(code: Code, *, out: bool) -> Element:
    return {
        "concept": _concept(code),
        "isExcluded": out,
        "includeDescendants": True,
        "includeMapped": False,
    }
