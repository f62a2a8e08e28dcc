"""Patients while their resources are read: each resource's facts, or why it gives none."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from sarc_kb.dates import PartialDate
from sarc_kb.errors import Finding
from sarc_kb.facts import Fact, PatientRecord
from sarc_kb.namespaces import local_name
from sarc_kb.sources.fhir_index import Index
from sarc_kb.sources.fhir_resources.findings import finding
from sarc_kb.sources.fhir_resources.readers import ABOUT_NOBODY, READERS, SPEAKING, SUPPORTING
from sarc_kb.sources.fhir_resources.reading import Entry, Reading
from sarc_kb.sources.fhir_resources.terms import FhirTerms

_SPELLINGS = {kind.casefold(): kind for kind in READERS}


@dataclass(slots=True)
class Home:
    """One patient while the resources are read."""

    name: str
    known: bool = False
    facts: list[Fact] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)
    labels: dict[str, str] = field(default_factory=dict)
    entry_dates: list[PartialDate] = field(default_factory=list)
    unused: Counter[str] = field(default_factory=Counter)
    silent: Counter[str] = field(default_factory=Counter)

    def record(self, origin: str, digest: str, shared: Iterable[Finding]) -> PatientRecord:
        """Return the patient's record, in an order that does not depend on the input's.

        ``shared``: findings that may be about any patient.
        """
        findings = [*self.findings, *count(self.unused, self.name), *shared]
        for kind, n in self.silent.items():
            without = " or ".join(SPEAKING[kind])
            findings.append(finding("DATA152", self.name, f"{n} {kind} without {without}"))
        if not self.known:
            findings.append(finding("DATA113", self.name, "has no Patient resource"))
        if not self.facts:
            findings.append(finding("DATA131", self.name, "no fact"))
        dates = {date.text: date for date in self.entry_dates}
        if len(dates) > 1:
            findings.append(finding("DATA130", self.name, "several dates of entry"))
        facts = sorted(self.facts, key=lambda fact: fact.id)
        seen: Counter[str] = Counter()
        for i, fact in enumerate(facts):
            seen[fact.id] += 1
            if seen[fact.id] > 1:
                facts[i] = replace(fact, id=f"{fact.id}~{seen[fact.id]}")
        return PatientRecord(
            patient=self.name,
            label=local_name(self.name),
            entry=next(iter(dates.values())) if len(dates) == 1 else None,
            facts=tuple(facts),
            origin=origin,
            sha256=digest,
            findings=tuple(sorted(set(findings), key=lambda f: (f.code, f.where, f.found))),
            labels=self.labels,
        )


@dataclass(slots=True)
class Household:
    """The patients of resources that are read together.

    ``shared``: findings about none of them, or about any; ``unused``: how many resources of which
    type are about none of them and give no fact.
    """

    terms: FhirTerms
    homes: dict[str, Home] = field(default_factory=dict)
    shared: list[Finding] = field(default_factory=list)
    unused: Counter[str] = field(default_factory=Counter)

    def home(self, name: str) -> Home:
        return self.homes.setdefault(name, Home(name))

    def read(self, entry: Entry, index: Index) -> None:
        """Add what one resource says, or why it says nothing, to its patient."""
        kind = entry.type
        owner = index.owner(entry)
        home = self.home(owner) if owner is not None else None
        findings = self.shared if home is None else home.findings
        findings += index.remarks.get(entry, [])
        if home is not None and kind == "Patient":
            home.known = True
        if not kind or (kind not in READERS and kind.casefold() in _SPELLINGS):
            findings.append(finding("DATA110", entry.label, "has no resourceType that R4 knows"))
            return
        if entry.refused:
            findings.append(finding(entry.refused[0], entry.label, entry.refused[1]))
            if other := index.mixed.get(entry):
                self.home(other).findings.append(findings[-1])
            return
        if kind not in READERS:
            if kind not in SUPPORTING:
                (self.unused if home is None else home.unused)[kind] += 1
            return
        if home is None and kind in ABOUT_NOBODY:
            self.unused[kind] += 1
            return
        if home is None:
            self.shared.append(finding("DATA114", entry.label, "names no patient of the input"))
            return
        if kind in SPEAKING and not any(map(entry.body.get, SPEAKING[kind])):
            home.silent[kind] += 1
        reading = Reading(
            entry,
            self.terms,
            index.usable,
            index.ties,
            home.name,
            home.findings,
            home.labels,
            home.entry_dates,
        )
        facts = READERS[kind](reading)
        if entry.disputed:
            facts = (_only_possible(fact, self.terms) for fact in facts)
        home.facts += facts


def count(unused: Counter[str], where: str) -> list[Finding]:
    """Return how many resources of which type give no fact."""
    return [finding("DATA150", where, f"{n} {kind}") for kind, n in sorted(unused.items())]


def at_most_warnings(findings: Iterable[Finding]) -> list[Finding]:
    """Return ``findings`` as one tells them to a patient they may not even be about."""
    return [replace(f, severity="warning") if f.severity == "error" else f for f in findings]


def _only_possible(fact: Fact, terms: FhirTerms) -> Fact:
    counting = {terms.term("Confirmed"), terms.term("Refuted"), None}
    return replace(fact, status=terms.term("Suspected")) if fact.status in counting else fact
