"""What exports to FHIR R4 and R5 share: codes, quantities, the study, the bundle."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from rdflib import Graph, URIRef

from sarc_kb.assessment import KnowledgeBaseInfo
from sarc_kb.export.codes import UCUM, Codebook
from sarc_kb.namespaces import BASE, DCTERMS, RDF, RDFS, SARC, TRIAL_BASE
from sarc_kb.reports.escaping import visible_in_json
from sarc_kb.reports.rule_report import clause_line
from sarc_kb.rules import ANY, Bounds, Clause, Role, Trial
from sarc_kb.rules.model import Derivation

Element = dict[str, Any]

_NCIT = "http://purl.obolibrary.org/obo/NCIT_"
_NCIT_SYSTEM = "http://ncicb.nci.nih.gov/xml/owl/EVS/Thesaurus.owl"
_MEASURED_IN = {
    str(SARC.CompletedYears): "a",
    str(SARC.Days): "d",
    str(SARC.Minutes): "min",
}

NO_CODE = "no verified code of a public code system: {} is named by this knowledge base alone"
SET = "{}: one of several, listed in a ValueSet that nothing points to"
JUDGEMENT = "a person's judgement: its words, under a code of this knowledge base"
PAIR = "it ties two facts to each other in time"
NARROWER = "without that it would turn away patients whom the protocol does not: in words alone"
LATEST = "that the latest value counts"

NOTES = (
    (
        "Carried in part never turns away a patient whom the rule lets in: what can only be carried "
        "narrower stands in words alone, under a code of this knowledge base."
    ),
    (
        "Three outcomes become two: that a record which is silent leaves a rule undetermined, what would "
        "settle it, and what only possibly holds cannot be said."
    ),
    (
        "How this knowledge base derives one fact from another, and which answers of a person it takes, "
        "is not carried; of the register of readings and the policies only what is chosen is."
    ),
    (
        "Codings of a concept that mean the same stand side by side: verified ones of public code "
        "systems, and the term of this knowledge base. Narrower codes are left to subsumption."
    ),
)
TREATMENT = "a rule about treatment: the resource says who may enter, not how patients are treated"


@dataclass
class Names:
    """Codings for what the rules of one trial name. ``lost`` grows with what has no public code."""

    trial: Trial
    book: Codebook
    uncoded: list[str] = field(default_factory=list)
    sets: set[str] = field(default_factory=set)

    @property
    def intervals(self) -> dict[str, Derivation]:
        """The spans between two days, by the term that they are read as."""
        return {d.iri: d for d in self.trial.derivations if d.kind == "Interval"}

    def label(self, iri: str) -> str:
        return self.trial.label(iri, self.book.terms)

    def words(self, clause: Clause) -> str:
        """Return what a clause demands, in words."""
        return clause_line(self.trial, self.book.terms, clause)

    def own(self, iri: str) -> Element:
        """Return the coding of this knowledge base for a term, set, anchor or rule."""
        if iri.startswith(TRIAL_BASE):
            return {
                "system": TRIAL_BASE.rstrip("/"),
                "code": iri.removeprefix(TRIAL_BASE),
                "display": self.label(iri),
            }
        code = iri.removeprefix(str(SARC))
        return {"system": BASE + "ontology", "code": code, "display": self.label(iri)}

    def concept(self, iri: str) -> Element:
        """Return the CodeableConcept of a term: all codings mean the same."""
        span = self.intervals.get(iri)
        codes = self.book.public(iri)
        if span is not None and self.is_age(span):
            codes = self.book.since_birth(span.measured_in or "")
        public = [{"system": c.system, "code": c.code, "display": c.display} for c in codes]
        if not public:
            self.uncoded.append(self.label(iri))
        return {"coding": [*public, self.own(iri)], "text": self.label(iri)}

    def named(self, iri: str, text: str) -> Element:
        """Return a CodeableConcept that this knowledge base alone knows."""
        return {"coding": [self.own(iri)], "text": text}

    def one_of(self, iri: str, lost: list[str]) -> Element:
        """Return the concept of a term, or the name of a set; what is in it stands in a ValueSet."""
        if iri not in self.trial.sets:
            return self.concept(iri)
        self.sets.add(iri)
        lost.append(SET.format(self.label(iri)))
        return self.named(iri, self.label(iri))

    def value_sets(self, info: KnowledgeBaseInfo) -> Iterator[Element]:
        """Yield the ValueSets of the sets that were named."""
        for iri in sorted(self.sets):
            yield self._value_set(iri, info)

    def _value_set(self, iri: str, info: KnowledgeBaseInfo) -> Element:
        """Return the ValueSet of a set: what is in it, with the codes that mean it, and what is
        left out."""
        found = self.trial.sets[iri]

        def include(members: frozenset[str]) -> list[Element]:
            by_system: dict[str, list[Element]] = {}
            for member in sorted(members):
                for coding in self.concept(member)["coding"]:
                    entry = {"code": coding["code"], "display": coding["display"]}
                    by_system.setdefault(coding["system"], []).append(entry)
            return [
                {"system": system, "concept": sorted(own, key=lambda c: str(c["code"]))}
                for system, own in sorted(by_system.items())
            ]

        compose: Element = {"include": include(found.members)}
        if found.excluding:
            compose["exclude"] = include(found.excluding)
        self.uncoded.clear()
        name = self.own(iri)["code"]
        return {
            "resourceType": "ValueSet",
            "id": safe_id(str(name)),
            "url": iri,
            "version": version_of(info),
            "name": "".join(w.capitalize() for w in safe_id(str(name)).split("-")),
            "title": self.label(iri),
            "status": "active",
            "description": "Each term stands for all that is below it."
            + (f" Recorded as {self.label(found.kind)}." if found.kind else ""),
            "compose": compose,
        }

    def is_age(self, span: Derivation) -> bool:
        """Whether a span is the age of the patient at entry."""
        ends = (span.from_anchor, span.to_anchor)
        return ends == (str(SARC.BirthDate), str(SARC.StudyEntry))

    def unit(self, clause: Clause) -> str:
        """Return the UCUM unit of a clause's bounds."""
        span = self.intervals.get(clause.role.concept_set) if clause.role else None
        if span is not None:
            return _MEASURED_IN.get(span.measured_in or "", "1")
        return clause.unit or "1"

    def no_codes(self) -> Iterator[str]:
        """Yield what is lost by missing codes since the last call."""
        yield from (NO_CODE.format(name) for name in dict.fromkeys(self.uncoded))
        self.uncoded.clear()


def quantity(value: Decimal, unit: str, comparator: str | None = None) -> Element:
    """Return a Quantity; one with a comparator stands for all values on that side."""
    found: Element = {"value": number(value)}
    if comparator is not None:
        found["comparator"] = comparator
    return {**found, "unit": unit, "system": UCUM, "code": unit}


def number(value: Decimal) -> int | float:
    """Return a number that JSON writes as the decimal is written."""
    return int(value) if value == value.to_integral_value() else float(value)


def bounds_value(bounds: Bounds, unit: str) -> Element:
    """Return the value[x] element for ``bounds``; of two bounds of which one is strict, that one.

    A Range includes both its ends, so a strict bound becomes a Quantity with a comparator.
    Source: FHIR R4 and R5, Range and Quantity.
    """
    for strict, sign in ((bounds.more_than, ">"), (bounds.less_than, "<")):
        if strict is not None:
            return {"valueQuantity": quantity(strict, unit, sign)}
    ends = {"low": bounds.at_least, "high": bounds.at_most}
    return {"valueRange": {k: quantity(v, unit) for k, v in ends.items() if v is not None}}


def left_out_of_value(role: Role) -> Iterator[str]:
    """Yield what a clause asks of a value that one value[x] element cannot say."""
    b = role.bounds
    used = [x for x in (b.at_least, b.more_than, b.at_most, b.less_than) if x is not None]
    strict = b.more_than is not None or b.less_than is not None
    if role.accepted != ANY and used:
        yield "the limits beside the coded value"
    elif strict and len(used) > 1:
        yield "the second of two bounds"


# -- the study ---------------------------------------------------------------------------------
@dataclass(frozen=True)
class Study:
    """What a trial says of its design, as FHIR elements that R4 and R5 share."""

    graph: Graph
    node: URIRef | None

    @classmethod
    def of(cls, trial: Trial) -> Study:
        found = sorted(map(str, trial.graph.subjects(RDF.type, SARC.Trial)))
        return cls(trial.graph, URIRef(found[0]) if found else None)

    def nodes(self, predicate: URIRef) -> list[Any]:
        return sorted(self.graph.objects(self.node, predicate)) if self.node else []

    def label(self, node: Any) -> str:
        return str(self.graph.value(node, RDFS.label) or node)

    def coded(self, node: Any) -> Element:
        """Return a CodeableConcept of a code of the NCI Thesaurus, or of words."""
        text = self.label(node)
        if not str(node).startswith(_NCIT):
            return {"text": text}
        code = str(node).removeprefix(_NCIT)
        return {
            "coding": [{"system": _NCIT_SYSTEM, "code": code, "display": text}],
            "text": text,
        }

    def texts(self, predicate: URIRef) -> list[Element]:
        return [{"text": str(o)} for o in self.nodes(predicate)]

    def period(self) -> Element:
        dates = {"start": self.nodes(SARC.startDate), "end": self.nodes(SARC.completionDate)}
        return {name: str(found[0]) for name, found in dates.items() if found}

    def common(self, trial: Trial) -> Element:
        """Return the elements with the same name in R4 and R5; empty ones are left out."""
        registry = [str(o) for o in self.nodes(SARC.registryId)]
        phase = self.nodes(SARC.phase)
        purpose = self.nodes(SARC.primaryPurpose)
        elements: Element = {
            "identifier": [
                {"type": {"text": "number in the trial registry"}, "value": value}
                for value in registry
            ],
            "title": trial.title,
            "primaryPurposeType": self.coded(purpose[0]) if purpose else None,
            "phase": self.coded(phase[0]) if phase else None,
            "condition": self.texts(SARC.studiedCondition),
            "keyword": self.texts(SARC.registryKeyword),
            "period": self.period(),
            "site": [{"display": self.label(site)} for site in self.nodes(SARC.site)],
        }
        return {name: value for name, value in elements.items() if value}

    def sources(self) -> list[str]:
        """Return where the record lies that the rules quote."""
        found = {o for r in self.nodes(SARC.record) for o in self.graph.objects(r, DCTERMS.source)}
        return sorted(str(o) for o in found if isinstance(o, URIRef))

    def sponsor(self) -> Element | None:
        found = self.nodes(SARC.leadSponsor)
        return {"display": self.label(found[0])} if found else None

    def arms(self) -> Iterator[tuple[str, Element | None, str]]:
        """Yield of each arm its name, its kind and its interventions in words."""
        for arm in self.nodes(SARC.arm):
            kind = self.graph.value(arm, SARC.armType)
            given = sorted(self.label(i) for i in self.graph.objects(arm, SARC.intervention))
            yield self.label(arm), self.coded(kind) if kind else None, ", ".join(given)


def safe_id(text: str) -> str:
    """Return ``text`` as the id of a resource or element may be written.

    >>> safe_id("policy/a_b")
    'policy-a-b'
    """
    return re.sub(r"[^A-Za-z0-9.-]", "-", text)[:64]


def version_of(info: KnowledgeBaseInfo) -> str:
    """Return the version that exported resources carry: the knowledge base's, with its content."""
    return f"{info.version}-{info.sha256[:12]}"


def bundle(trial: Trial, resources: Iterable[Element]) -> str:
    """Return the resources as one Bundle of type collection."""
    entries = [
        {
            "fullUrl": resource.get("url") or f"{base_of(trial)}/{resource['resourceType']}",
            "resource": resource,
        }
        for resource in resources
    ]
    document = {
        "resourceType": "Bundle",
        "id": safe_id(f"rules-{trial.id}"),
        "type": "collection",
        "entry": entries,
    }
    return visible_in_json(json.dumps(document, ensure_ascii=False, indent=2)) + "\n"


def base_of(trial: Trial) -> str:
    """Return the IRI below which exported resources of a trial are named."""
    return TRIAL_BASE + trial.id
