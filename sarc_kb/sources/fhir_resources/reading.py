"""One resource while it is read: its codes, dates, statuses and what it refers to."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from sarc_kb.dates import PartialDate, parse_date
from sarc_kb.errors import Finding
from sarc_kb.facts import Fact
from sarc_kb.namespaces import text_iri
from sarc_kb.sources.fhir_resources.codes import (
    BODY_STRUCTURE,
    CONDITION_RELATED,
    DATA_ABSENT_REASON,
    RELATED_CONDITION,
    RELATED_PRIMARY,
    SECONDARY_CANCER,
    Counts,
)
from sarc_kb.sources.fhir_resources.elements import (
    Json,
    choice,
    dicts,
    extensions,
    iri_safe,
    named_type,
    referred,
    shown,
    string,
    words,
)
from sarc_kb.sources.fhir_resources.findings import finding
from sarc_kb.sources.fhir_resources.terms import FhirTerms
from sarc_kb.sources.limits import MAX_LABEL


@dataclass(eq=False, slots=True)
class Entry:
    """One resource of the input.

    ``where``: its place; ``url``: its fullUrl; ``name``: what reports and references call it;
    ``container``: the resource it is contained in; ``disputed``: another version of it exists;
    ``refused``: the code of a finding and what was found, if it must not be used.
    """

    where: str
    body: Json
    url: str | None = None
    name: str = ""
    container: Entry | None = None
    disputed: bool = False
    refused: tuple[str, str] | None = None

    @property
    def type(self) -> str:
        return string(self.body.get("resourceType")) or ""

    @property
    def label(self) -> str:
        """Place and name, as findings give them."""
        return (
            f"{self.where} {self.type if self.name == iri_safe(self.where) else self.name}".strip()
        )


Coding = tuple[str | None, str | None]


@dataclass(slots=True)
class Ties:
    """What ties resources of one input together besides the references they hold themselves.

    ``enrolments``: ResearchSubjects by the name of the Consent they name. ``reports``: reports by
    the name of a result they give. ``conclusions``: reports by patient, system and code of what
    they conclude. ``diagnoses``: patient, system and code of every Condition.
    """

    enrolments: dict[str, list[Entry]] = field(default_factory=dict)
    reports: dict[str, list[Entry]] = field(default_factory=dict)
    conclusions: dict[tuple[str, Coding], list[Entry]] = field(default_factory=dict)
    diagnoses: set[tuple[str, Coding]] = field(default_factory=set)


@dataclass(slots=True)
class Reading:
    """One resource while it is read: its elements, what they refer to, what was found odd.

    ``patient``: whose it is. ``entry_dates`` collects the patient's dates of entry into the trial.
    """

    entry: Entry
    terms: FhirTerms
    resolve: Callable[[str, Entry], Entry | None]
    ties: Ties
    patient: str
    findings: list[Finding]
    labels: dict[str, str]
    entry_dates: list[PartialDate]

    @property
    def body(self) -> Json:
        return self.entry.body

    def note(self, code: str, found: str) -> None:
        self.findings.append(finding(code, self.entry.label, found))

    def term(self, name: str) -> str:
        return self.terms.term(name)

    def fact(
        self, part: str, kind: str | None, concepts: tuple[str, ...], status: str, **rest: Any
    ) -> Fact:
        """Return a fact of this resource; ``part`` tells several apart. Without a ``kind`` it is
        of the kind that its concept is recorded as."""
        return Fact(
            id=self.entry.name + part,
            kind=self.term(kind) if kind else None,
            concepts=concepts,
            status=self.term(status),
            source=self.entry.name,
            **rest,
        )

    # codes

    def codings(self, concept: object) -> tuple[str, ...]:
        """Return the IRIs of all codings of a CodeableConcept, or of several."""
        found: dict[str, None] = {}
        for one in dicts(concept):
            for coding in dicts(one.get("coding")):
                code = string(coding.get("code"))
                if code is None:
                    continue
                iri = self.terms.code(string(coding.get("system")), code)
                found[iri] = None
                if label := words(coding.get("display")) or words(one.get("text")):
                    self.labels.setdefault(iri, label)
        return tuple(found)

    def concepts(self, concept: object) -> tuple[str, ...]:
        """Return the codings of ``concept``, or its text, or FHIR's own code for having neither.

        A text is an IRI of its own, which only a mapping of that very text makes readable; the
        code is mapped to nothing. Either way the fact stays visible, if only as one that nobody
        can read, and the list it belongs to does not look complete without it.
        """
        texts = [text for one in dicts(concept) if (text := string(one.get("text")))]
        short = {text_iri(text): text for text in texts if len(text) <= MAX_LABEL}
        named = tuple(short)
        for iri, text in short.items():
            self.labels.setdefault(iri, text)
        absent = self.terms.code(DATA_ABSENT_REASON, "as-text" if texts else "unknown")
        return self.codings(concept) or named or (absent,)

    def about(self, concept: object) -> tuple[str, ...]:
        """Return what the resource is about; having no code is a finding."""
        found = self.codings(concept)
        if not found:
            self.note("DATA123", "has no code")
        return found or self.concepts(concept)

    def substance(self, concept: object) -> tuple[str, ...]:
        """Return the codings of a substance, and the term of which its text is the name."""
        names = (words(one.get("text")) for one in dicts(concept))
        terms = (self.terms.names.get(" ".join(n.casefold().split())) for n in names if n)
        return tuple(dict.fromkeys((*self.codings(concept), *filter(None, terms))))

    def axes(self, **concepts: object) -> tuple[tuple[str, str], ...]:
        """Return the codings on each axis."""
        return tuple(
            (self.term(axis), iri)
            for axis, concept in concepts.items()
            for iri in self.codings(concept)
        )

    def marks(self, body: Json) -> tuple[tuple[str, str], ...]:
        """Return what extensions put on an axis: those whose url is the axis, or is mapped to it."""
        found = []
        for extension in dicts(body.get("extension")):
            url = string(extension.get("url")) or ""
            for axis in sorted(self.axes_meant(iri_safe(url))):
                found += [(axis, iri) for iri in self.extension_codings(extension)]
        return tuple(found)

    def axes_meant(self, iri: str) -> frozenset[str]:
        """Return the axes that ``iri`` is, or is mapped to."""
        return (self.terms.means(iri) | {iri}) & self.terms.axes

    def extension_codings(self, extension: Json) -> tuple[str, ...]:
        """Return the codings that an extension has as its value."""
        coding = extension.get("valueCoding")
        return self.codings([extension.get("valueCodeableConcept"), {"coding": coding}])

    def known(self, iris: Iterable[str]) -> tuple[str, ...]:
        """Return those of ``iris`` that mean something: where others would only be noise."""
        return tuple(iri for iri in iris if self.terms.means(iri))

    def on(self, axis: str, iris: Iterable[str]) -> tuple[tuple[str, str], ...]:
        """Return ``iris`` as values of ``axis``."""
        return tuple((self.term(axis), iri) for iri in iris)

    def sites(self, *references: object) -> tuple[tuple[str, str], ...]:
        """Return the body site: as coded, else where the BodyStructures lie that are referred to."""
        coded = self.axes(bodySite=self.body.get("bodySite"))
        structures = extensions(self.body, *BODY_STRUCTURE)
        pointed = [*references, *(e.get("valueReference") for e in structures)]
        targets = [self.structure(reference) for several in pointed for reference in dicts(several)]
        return coded or self.axes(bodySite=[t.get("location") for t in targets if t])

    def structure(self, reference: Json) -> Json | None:
        """Return the BodyStructure in use that a Reference means, if it means one."""
        target = self.resolve(referred(reference), self.entry)
        if target is None or target.type != "BodyStructure" or target.body.get("active") is False:
            return None
        return target.body

    # statuses

    def status(self, table: Mapping[str, Counts]) -> Counts:
        """Return what the status means; one that FHIR does not know is a finding."""
        status = self.body.get("status")
        if isinstance(status, str) and status in table:
            return table[status]
        self.note("DATA121", "has no status that FHIR knows")
        return "Suspected", None

    def coded_status(self, name: str, system: str, known: Collection[str]) -> str | None:
        """Return a status that is a CodeableConcept; ``?`` if none of its codes is known."""
        if self.body.get(name) is None:
            return None
        for concept in dicts(self.body[name]):
            for coding in dicts(concept.get("coding")):
                code = string(coding.get("code"))
                if coding.get("system") in (system, None) and code in known and code != "?":
                    return code
        self.note("DATA121", f"{name} has no code that FHIR knows")
        return "?"

    # dates

    def date(self, body: Json, name: str) -> PartialDate | None:
        """Return the date in ``name``; one that cannot be read is a finding."""
        value = body.get(name)
        if value is None:
            return None
        try:
            return parse_date(value if isinstance(value, str) else "")
        except ValueError as error:
            self.note("DATA125", f"{name} is {error}")
            return None

    def period(self, body: Json, name: str) -> tuple[PartialDate | None, PartialDate | None]:
        """Return the ends of a Period; one that ends before it starts says nothing."""
        value = body.get(name)
        if value is None:
            return None, None
        if not isinstance(value, dict):
            self.note("DATA125", f"{name} is not a period")
            return None, None
        start, end = self.date(value, "start"), self.date(value, "end")
        if start and end and start.first > end.last:
            self.note("DATA125", f"{name} ends before it starts")
            return None, None
        return start, end

    def when(self, stem: str) -> tuple[PartialDate | None, PartialDate | None]:
        """Return start and end of ``stem[x]``: of a point in time or a period."""
        for kind in ("DateTime", "Instant"):
            if stem + kind in self.body:
                point = self.date(self.body, stem + kind)
                return point, point
        if stem + "Period" in self.body:
            return self.period(self.body, stem + "Period")
        if other := choice(self.body, stem):
            self.note("DATA125", f"{other[0]} is not a date or a period")
        return None, None

    def extent(
        self, stem: str, ongoing: bool | None
    ) -> tuple[PartialDate | None, PartialDate | None, bool | None]:
        """Return start, end and whether it goes on; a point in time does not end what goes on."""
        start, end = self.when(stem)
        if ongoing and end is start:
            end = None
        return start, end, None if ongoing and end else ongoing

    # references

    def target(self, reference: Json) -> Entry | None:
        """Return the resource a Reference means; one that leads nowhere is a finding."""
        value = string(reference.get("reference"))
        found = self.resolve(value, self.entry) if value else None
        if found is None and value:
            self.note("DATA116", f"the reference {shown(value)} leads to nothing usable")
        return found

    def tumour(self, references: object) -> str | None:
        """Return the tumour on which references to Conditions and BodyStructures agree.

        What is not in the input is still another one than those that are.
        """
        found = set()
        for reference in dicts(references):
            target = self.target(reference)
            kind = named_type(referred(reference))
            if target is not None:
                found.add(self.tumour_of(target))
            elif kind in ("", "Condition", "BodyStructure"):
                found.add(iri_safe(referred(reference)) or None)
        found.discard(None)
        return found.pop() if len(found) == 1 else None

    def tumour_of(self, target: Entry) -> str | None:
        """Return the name of the Condition that stands for a tumour.

        mCODE ties a metastasis to its primary, and a mass to its Condition, by extensions.
        """
        if target.type == "Condition":
            urls = [RELATED_PRIMARY]
            meta = target.body.get("meta")
            profiles = meta.get("profile") if isinstance(meta, dict) else None
            if isinstance(profiles, list) and SECONDARY_CANCER in profiles:
                urls.append(CONDITION_RELATED)
        elif target.type == "BodyStructure":
            urls = [RELATED_CONDITION]
        else:
            return None
        for extension in extensions(target.body, *urls):
            for reference in dicts(extension.get("valueReference")):
                other = self.resolve(referred(reference), target)
                if other is not None and other.type == "Condition":
                    return other.name
        return target.name
