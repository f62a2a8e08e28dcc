"""A trial as FHIR R4: ResearchStudy, and its eligibility as a Group.

All characteristics of a Group must hold together, and none can say when it must hold, of which of
several facts, or how it was found. What that leaves is carried; the rest stands in words.
Source: FHIR R4 (4.0.1), Group and ResearchStudy.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from html import escape

from sarc_kb.assessment import KnowledgeBaseInfo
from sarc_kb.export.account import Account, Carriage, Carried, account_of, set_by_caller
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
    safe_id,
    version_of,
)
from sarc_kb.namespaces import SARC, local_name
from sarc_kb.rules import ANY, EVER, Clause, Criterion, Trial, Window

_ALTERNATIVE = "one of several alternatives (or): all characteristics of a Group must hold together"
_TREE = "alternatives (or) stand in words: all characteristics of a Group must hold together"
_NOTES = (
    *NOTES,
    (
        "A Group holds for those who may be enrolled, on the day of enrolment; its characteristics have "
        "no window that counts from it."
    ),
)


def export(trial: Trial, book: Codebook, info: KnowledgeBaseInfo) -> tuple[str, Account]:
    """Return the Bundle of a trial's study, eligibility and value sets as JSON, and the account."""
    maker = _Maker(trial, Names(trial, book))
    characteristics = [c for criterion in trial.criteria for c in maker.criterion(criterion)]
    base = base_of(trial)
    group: Element = {
        "resourceType": "Group",
        "id": safe_id(f"eligibility-{trial.id}"),
        "text": {"status": "additional", "div": _narrative(trial, maker.said)},
        "identifier": [{"system": "urn:ietf:rfc:3986", "value": f"{base}/eligibility"}],
        "type": "person",
        "actual": False,
        "name": f"Eligible for {trial.id}, by the rules of sarc-kb {version_of(info)}",
        "characteristic": characteristics,
    }
    study = Study.of(trial)
    arms = [
        {k: v for k, v in (("name", name), ("type", kind), ("description", given)) if v}
        for name, kind, given in study.arms()
    ]
    research: Element = {
        "resourceType": "ResearchStudy",
        "id": safe_id(trial.id),
        **study.common(trial),
        # The registry's words on recruitment are no status that FHIR knows.
        "_status": {
            "extension": [
                {
                    "url": "http://hl7.org/fhir/StructureDefinition/data-absent-reason",
                    "valueCode": "unknown",
                }
            ]
        },
        "enrollment": [{"reference": f"Group/{group['id']}"}],
    }
    if study.sources():
        research["relatedArtifact"] = [
            {"type": "derived-from", "url": url} for url in study.sources()
        ]
    if arms:
        research["arm"] = arms
    if study.sponsor():
        research["sponsor"] = study.sponsor()
    text = bundle(trial, (research, group, *maker.names.value_sets(info)))
    account = account_of("fhir-r4", trial, info, _NOTES, maker.carriages, treatment=TREATMENT)
    return text, account


@dataclass
class _Maker:
    trial: Trial
    names: Names

    def __post_init__(self) -> None:
        self.carriages: dict[str, Carriage] = {}
        self.said: dict[str, list[str]] = {}
        self.told: list[str] = []
        self.whole = True

    def criterion(self, criterion: Criterion) -> Iterator[Element]:
        """Yield the characteristics of one criterion."""
        self.whole = True
        self.told = self.said.setdefault(criterion.iri, [])
        yield from self._node(criterion.root)
        if not self.whole:
            carried = [self.carriages[c] for c in criterion.clauses]
            if all(c.carried is Carried.NOT for c in carried):
                self.carriages[criterion.iri] = Carriage.not_at_all(_ALTERNATIVE)
            else:
                self.carriages[criterion.iri] = Carriage.of([_TREE, "see its clauses"])

    def _node(self, iri: str) -> Iterator[Element]:
        join = self.trial.joins.get(iri)
        if join is None:
            yield self._clause(self.trial.clauses[iri])
        elif join.operator == "and" or len(join.children) == 1:
            for child in join.children:
                yield from self._node(child)
        else:
            self.whole = False
            for leaf in self.trial.leaves(iri):
                self.carriages.setdefault(leaf, Carriage.not_at_all(_ALTERNATIVE))
            yield self._in_words(iri, self._tree(iri))

    def _tree(self, iri: str) -> str:
        join = self.trial.joins.get(iri)
        if join is None:
            return self.names.words(self.trial.clauses[iri])
        return f" {join.operator} ".join(f"({self._tree(child)})" for child in join.children)

    def _in_words(self, iri: str, text: str) -> Element:
        name = safe_id(local_name(iri))
        self.told.append(f"{name}: {text}")
        return {
            "id": name,
            "code": self.names.named(iri, text),
            "valueBoolean": True,
            "exclude": False,
        }

    def _clause(self, clause: Clause) -> Element:
        role, words = clause.role, self.names.words(clause)
        if role is None or clause.second is not None:
            why = JUDGEMENT if role is None else PAIR
            self.carriages[clause.iri] = Carriage.not_at_all(why)
            return self._in_words(clause.iri, words)
        denies = clause.component == "none"
        lost = list(self._conditions(clause))
        if denies and lost:
            self.carriages[clause.iri] = Carriage.not_at_all(*lost, NARROWER)
            return self._in_words(clause.iri, words)
        if clause.component == "latest" and role.concept_set not in self.names.intervals:
            lost.append(LATEST)
        code = self.names.one_of(role.concept_set, lost)
        value: Element = {"valueBoolean": True}
        if role.accepted != ANY:
            value = {"valueCodeableConcept": self.names.one_of(role.accepted, lost)}
        elif role.bounds.used:
            value = bounds_value(role.bounds, self.names.unit(clause))
        lost += self.names.no_codes()
        self.carriages[clause.iri] = Carriage.of(lost)
        self.told.append(f"{clause.id}: {words}")
        return {"id": safe_id(clause.id), "code": code, **value, "exclude": denies}

    def _conditions(self, clause: Clause) -> Iterator[str]:
        """Yield what a clause asks of its facts that a characteristic cannot."""
        role = clause.role
        assert role is not None
        if role.window != EVER and not _until_entry(self.trial.windows[role.window]):
            yield f"when: {self.names.label(role.window)}"
        if role.qualifier != ANY:
            yield f"only what is qualified as: {self.names.label(role.qualifier)}"
        yield from left_out_of_value(role)


def _narrative(trial: Trial, said: Mapping[str, list[str]]) -> str:
    """Return the criteria as XHTML: the protocol's words, and what each clause demands."""
    parts = [f"<p>{escape(text)}</p>" for text in set_by_caller(trial)]
    for criterion in trial.criteria:
        clauses = "".join(f"<li>{escape(text)}</li>" for text in said[criterion.iri])
        parts.append(
            f"<p>{escape(criterion.id)} {escape(criterion.text.label)} "
            f"({criterion.kind}): “{escape(criterion.text.quote)}”</p><ul>{clauses}</ul>"
        )
    return f'<div xmlns="http://www.w3.org/1999/xhtml">{"".join(parts)}</div>'


def _until_entry(window: Window) -> bool:
    """Whether a window is all that came before, up to the day of entry."""
    plain = window.ends_before is None and window.starts_after is None and window.calendar is None
    return (
        plain
        and window.anchor == str(SARC.StudyEntry)
        and window.end_anchor is None
        and window.days is None
        and window.months is None
        and not (window.open_end or window.start_only)
        and window.ends_days_before == 0
        and window.ends_months_before == 0
    )
