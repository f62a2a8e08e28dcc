"""Whose a resource is, what its references mean, and whether it may be used."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator

from sarc_kb.errors import Finding
from sarc_kb.sources.fhir_bundle import RESTFUL, Contents, last_updated
from sarc_kb.sources.fhir_json import containers
from sarc_kb.sources.fhir_resources.elements import Json, dicts, iri_safe, referred, shown, string
from sarc_kb.sources.fhir_resources.evidence import coded
from sarc_kb.sources.fhir_resources.findings import finding
from sarc_kb.sources.fhir_resources.readers import CONSULTED, READERS, SUPPORTING
from sarc_kb.sources.fhir_resources.reading import Coding, Entry, Ties
from sarc_kb.sources.fhir_resources.releases import other_release

_PATIENT = re.compile(r"(?:https?://.+/)?Patient/[^/]+")
USED = READERS.keys() | SUPPORTING | CONSULTED


class Index:
    """The resources that are read together, and what references between them lead to.

    A reference is resolved among them and nowhere else (FHIR R4, 3.1.0.3: resolving references in
    Bundles): contained, by fullUrl, or by type and id.
    """

    def __init__(self, contents: Contents, *, modified: bool = True) -> None:
        """Name the resources and settle repeated ones; `judge` must be called before reading.

        ``modified``: whether some resource may hold an element that changes its meaning.
        """
        self.contents = contents
        self.modified = modified
        self.entries: list[Entry] = []
        self.ties = Ties()
        self.remarks = contents.remarks
        self.mixed: dict[Entry, str] = {}
        self._by_url: dict[str, Entry] = {}
        self._by_id: dict[str, list[Entry]] = {}
        self._owners: dict[Entry, str | None] = {}
        self._contained_patients: dict[str, Entry] = {}
        versions: dict[tuple[str, str], list[Entry]] = {}
        for entry in contents.entries:
            versions.setdefault(identity(entry), []).append(entry)
        shared_ids = Counter(name for _, name in versions)
        for (base, name), entries in versions.items():
            for entry in entries:
                entry.name = iri_safe(base + name if shared_ids[name] > 1 else name)
            kept = self._settle(entries)
            self.entries += kept
            for entry in entries:
                if entry.url:
                    self._by_url.setdefault(unversioned(entry.url), kept[0])
            self._by_id.setdefault(name, []).append(kept[0])

    def judge(self) -> None:
        """Find out which resources must not be used, and what ties others together."""
        for entry in self.entries:
            self.owner(entry)
        self.entries += self._contained_patients.values()
        for entry in self.entries:
            if entry.type in USED:
                entry.refused = entry.refused or self._refusal(entry)
                if f"{entry.type}/{entry.body.get('id')}" in self.contents.patched:
                    entry.disputed = True
                    self._remark(entry, finding("DATA135", entry.label, "is changed by a PATCH"))
        for entry in self.entries:
            if entry.refused:
                continue
            if entry.type == "ResearchSubject":
                self._tie(self.ties.enrolments, entry, "consent")
            elif entry.type == "DiagnosticReport":
                self._tie(self.ties.reports, entry, "result")
                for owner, coding in self._coded(entry, "conclusionCode"):
                    self.ties.conclusions.setdefault((owner, coding), []).append(entry)
            elif entry.type == "Condition":
                self.ties.diagnoses.update(self._coded(entry, "code"))

    def _coded(self, entry: Entry, element: str) -> Iterator[tuple[str, Coding]]:
        owner = self.owner(entry)
        for concept in dicts(entry.body.get(element)):
            yield from ((owner, coding) for coding in coded(concept) if owner)

    def _tie(self, ties: dict[str, list[Entry]], entry: Entry, element: str) -> None:
        for reference in dicts(entry.body.get(element)):
            target = self.usable(referred(reference), entry)
            if target is not None:
                ties.setdefault(target.name, []).append(entry)

    def _remark(self, entry: Entry, remark: Finding) -> None:
        self.remarks.setdefault(entry, []).append(remark)

    def _settle(self, entries: list[Entry]) -> list[Entry]:
        """Return the versions of one resource that hold: the latest, if that can be told."""
        if len(entries) == 1:
            return entries
        versions = {content(entry): entry for entry in entries[::-1]}
        kept = [versions[key] for key in sorted(versions)]
        if len(kept) == 1:
            return kept
        times = [last_updated(entry.body) for entry in kept]
        known = [time for time in times if time is not None]
        if len(known) == len(kept) and times.count(max(known)) == 1:
            latest = kept[times.index(max(known))]
            for entry in kept:
                if entry is not latest:
                    left_out = finding("DATA118", entry.label, "an older version was left out")
                    self._remark(latest, left_out)
            return [latest]
        for entry in kept:
            entry.disputed = True
            self._remark(entry, finding("DATA117", entry.label, "differs from its namesake"))
        return kept

    def _refusal(self, entry: Entry) -> tuple[str, str] | None:
        """Return why a resource must not be used, if so."""
        if f"{entry.type}/{entry.body.get('id')}" in self.contents.deleted:
            return "DATA119", "is deleted"
        if why := own_refusal(entry, modified=self.modified):
            return why
        if owner := self.owner(entry):
            for reference in clinical_references(entry.body):
                target = self.resolve(reference, entry)
                other = self.owner(target) if target is not None else None
                if other is not None and other != owner:
                    self.mixed[entry] = other
                    return "DATA115", f"refers to {shown(reference)}, which is another patient's"
        return None

    def resolve(self, reference: str, source: Entry) -> Entry | None:
        """Return the one resource that a reference in ``source`` means."""
        if reference.startswith("#"):
            container = source.container or source
            if reference == "#":
                return container
            inside = [
                Entry(container.where, body, name=container.name + iri_safe(reference),
                      container=container)
                for body in dicts(container.body.get("contained"))
                if body.get("id") == reference[1:]
            ]  # fmt: skip
            return inside[0] if len(inside) == 1 else None
        reference = unversioned(reference)
        if found := self._by_url.get(reference):
            return found
        base = base_of(source.container or source)
        if restful := RESTFUL.fullmatch(reference):
            base, reference = restful[1], restful[2]
        elif base and (found := self._by_url.get(base + reference)):
            return found
        candidates = self._by_id.get(reference, [])
        if base:  # a resource of another server is another resource
            candidates = [entry for entry in candidates if not base_of(entry)]
        return candidates[0] if len(candidates) == 1 else None

    def usable(self, reference: str, source: Entry) -> Entry | None:
        """Return what `resolve` does, unless it must not be used."""
        found = self.resolve(reference, source)
        return None if found is not None and found.refused else found

    def owner(self, entry: Entry) -> str | None:
        """Return the name of the patient a resource is about, if it names just one."""
        if entry.type == "Patient":
            return entry.name
        if entry.container is not None:
            return self.owner(entry.container)
        if entry not in self._owners:
            found = {
                self._patient(referred(reference), entry)
                for element in ("subject", "patient", "individual")
                for reference in dicts(entry.body.get(element))
            }
            self._owners[entry] = found.pop() if len(found) == 1 else None
        return self._owners[entry]

    def _patient(self, reference: str, source: Entry) -> str | None:
        found = self.resolve(reference, source)
        if found is not None:
            if found.type != "Patient":
                return None
            if found.container is not None:
                self._contained_patients.setdefault(found.name, found)
            return found.name
        reference = unversioned(reference)
        if reference.startswith("Patient/"):
            reference = base_of(source) + reference
        return iri_safe(reference) if _PATIENT.fullmatch(reference) else None


def own_refusal(entry: Entry, *, modified: bool) -> tuple[str, str] | None:
    """Return why a resource by itself must not be used, if so."""
    if foreign := other_release(entry.body, entry.type):
        return "DATA112", f"its {foreign[0]} has the shape of FHIR {foreign[1]}"
    if modified and (modifier := _modifier(entry.body)):
        return "DATA120", f"has {modifier}"
    return None


def identity(entry: Entry) -> tuple[str, str]:
    """Return base and name of a resource; what has no id is named by its fullUrl or place."""
    number = string(entry.body.get("id"))
    if number and entry.type:
        return base_of(entry), f"{entry.type}/{number}"
    return "", unversioned(entry.url) if entry.url else entry.where


def base_of(entry: Entry) -> str:
    """Return the server a resource came from, if its fullUrl says so."""
    match = RESTFUL.fullmatch(unversioned(entry.url or ""))
    return match[1] if match else ""


def content(entry: Entry) -> str:
    """Return what a resource says, as text that is the same for the same content."""
    return json.dumps(entry.body, sort_keys=True, default=repr)


def unversioned(reference: str) -> str:
    return reference.partition("/_history/")[0]


def _modifier(body: Json) -> str | None:
    """Return the first element of ``body`` that may change its meaning in an unknown way."""
    level: list[object] = [body]
    while level:
        for node in level:
            for key in ("modifierExtension", "implicitRules"):
                if isinstance(node, dict) and key in node:
                    return key
        level = [child for node in level for child in containers(node)]
    return None


_CLINICAL_REFERENCES = (
    "basedOn",
    "bodySite",
    "consent",
    "context",
    "derivedFrom",
    "encounter",
    "focus",
    "hasMember",
    "medicationReference",
    "partOf",
    "priorPrescription",
    "reasonReference",
    "result",
    "resultingCondition",
    "specimen",
)


def clinical_references(body: Json) -> Iterator[str]:
    """Yield the references of a resource to what must be the same patient's."""
    holders = [body.get(name) for name in _CLINICAL_REFERENCES]
    holders += [e.get("detail") for e in dicts(body.get("evidence"))]
    holders += [e.get("instance") for e in dicts(body.get("suspectEntity"))]
    holders += [e.get("item") for e in dicts(body.get("entry"))]
    extensions = dicts(body.get("extension"))
    extensions += [inner for e in extensions for inner in dicts(e.get("extension"))]
    holders += [e.get("valueReference") for e in extensions]
    for holder in holders:
        for reference in dicts(holder):
            if value := string(reference.get("reference")):
                yield value
