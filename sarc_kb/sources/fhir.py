"""FHIR R4 JSON to patient records.

Reads a Bundle of any type, an array of resources, one resource, or NDJSON. Nothing outside the
input is ever looked up. What each resource says is in `sarc_kb.sources.fhir_resources`.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import datetime
from decimal import Decimal
from typing import NoReturn

from sarc_kb.dates import PartialDate
from sarc_kb.errors import Finding, InputError
from sarc_kb.facts import Fact, PatientRecord
from sarc_kb.namespaces import local_name
from sarc_kb.sources.fhir_resources.elements import (
    Json,
    dicts,
    iri_safe,
    referred,
    shown,
    string,
)
from sarc_kb.sources.fhir_resources.findings import finding
from sarc_kb.sources.fhir_resources.readers import (
    CONSULTED,
    READERS,
    SUPPORTING,
    clinical_references,
)
from sarc_kb.sources.fhir_resources.reading import Entry, Reading
from sarc_kb.sources.fhir_resources.releases import other_release
from sarc_kb.sources.fhir_resources.terms import FhirTerms
from sarc_kb.sources.limits import MAX_BYTES, MAX_DEPTH, MAX_DIGITS

__all__ = ["FhirTerms", "Limits", "read_fhir"]


@dataclass(frozen=True, slots=True)
class Limits:
    """How much a source may ask of the machine. ``line``: bytes of one line of NDJSON."""

    size: int = MAX_BYTES
    line: int = 10_000_000
    depth: int = MAX_DEPTH


def read_fhir(
    data: bytes,
    origin: str,
    terms: FhirTerms,
    *,
    limits: Limits | None = None,
    problems: list[Finding] | None = None,
) -> list[PatientRecord]:
    """Return a record for each patient in ``data``, in the order of their names.

    A patient is a Patient resource, or a ``Patient/…`` that other resources name. What could be
    given to no patient may be about any of them: every record tells of it, at most as a warning;
    ``problems``, if given, receives it as what it is.

    Raises:
        InputError: the bytes are not FHIR JSON, or no patient is in them. A faulty line of
            NDJSON is a finding, and the other lines are read.
    Source: FHIR R4 (4.0.1): JSON, Bundle (resolving references), Bulk Data (NDJSON).
    """
    shared: list[Finding] = []
    index = _Index()
    for where, document in _documents(data, origin, limits or Limits(), index, shared):
        index.add(document, where, shared)
    index.finish()
    homes: dict[str, _Home] = {}
    for entry in index.entries:
        _read_entry(entry, index, homes, terms, shared)
    located = [replace(f, where=f"{origin} {f.where}") for f in shared]
    if not homes:
        raise InputError(finding("DATA111", origin, "no patient in the input"), *located)
    if problems is not None:
        problems += located
    shared += _count(index.unused, origin)
    told = [replace(f, severity="warning") if f.severity == "error" else f for f in shared]
    digest = hashlib.sha256(data).hexdigest()
    return [homes[name].record(origin, digest, told) for name in sorted(homes)]


# -- JSON ------------------------------------------------------------------------------------

_BOM = b"\xef\xbb\xbf"
_SUSPECT_ESCAPE = re.compile(rb"\\u(?:[dD][89a-fA-F]|0000)")
_UNWRITABLE = re.compile("[\x00\ud800-\udfff]")


class _RefusedError(ValueError):
    """Input that is not FHIR JSON: the code of a finding, and what was found."""

    def __init__(self, code: str, found: str) -> None:
        super().__init__(found)
        self.code, self.found = code, found


def _documents(
    data: bytes, origin: str, limits: Limits, index: _Index, findings: list[Finding]
) -> Iterator[tuple[str, object]]:
    """Yield the JSON documents of the input with their place: one, or one a line."""
    if len(data) > limits.size:
        raise InputError(finding("DATA107", origin, f"more than {limits.size} bytes"))
    if data.startswith(_BOM):
        findings.append(finding("DATA108", "byte 0", "a byte order mark"))
        data = data[len(_BOM) :]
    decoder = _decoder(index)
    try:
        yield "", _parse(data, decoder, limits)
        return
    except _RefusedError as refused:
        if not _has_lines(data):
            raise InputError(finding(refused.code, origin, refused.found)) from None
    lines = data.split(b"\n")
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            if len(line) > limits.line:
                raise _RefusedError("DATA107", f"more than {limits.line} bytes")
            document = _parse(line, decoder, limits)
        except _RefusedError as refused:
            cut_off = number == len(lines) and refused.code == "DATA102"
            found = "the last line is cut off" if cut_off else refused.found
            findings.append(finding(refused.code, f"line {number}", found))
        else:
            yield f"line {number}", document


def _has_lines(data: bytes) -> bool:
    """Whether bytes that are not one JSON document look like one object a line."""
    first, _, rest = data.strip().partition(b"\n")
    if not first.startswith(b"{") or not rest:
        return False
    return first.rstrip().endswith(b"}") or rest.startswith(b"{") or b"\n{" in rest


def _decoder(index: _Index) -> json.JSONDecoder:
    """Return a decoder that keeps decimals exact and refuses what JSON leaves open."""

    def pairs(items: list[tuple[str, object]]) -> Json:
        made = dict(items)
        if len(made) != len(items):
            twice = next(key for key, n in Counter(key for key, _ in items).items() if n > 1)
            raise _RefusedError("DATA103", f"the key {iri_safe(twice)[:40]} occurs twice")
        if "modifierExtension" in made or "implicitRules" in made:
            index.has_modifiers = True
        return made

    def constant(name: str) -> NoReturn:
        raise _RefusedError("DATA104", f"the number {name}")

    return json.JSONDecoder(
        object_pairs_hook=pairs, parse_float=_decimal, parse_int=_integer, parse_constant=constant
    )


def _decimal(digits: str) -> Decimal | str:
    """Return the number; an outsized one stays text, which no element takes for a number."""
    number = Decimal(digits)
    if len(digits) > MAX_DIGITS or abs(number.adjusted()) > MAX_DIGITS:
        return "outsized number"
    return number


def _integer(digits: str) -> int | str:
    return int(digits) if len(digits) <= MAX_DIGITS else "outsized number"


def _parse(data: bytes, decoder: json.JSONDecoder, limits: Limits) -> object:
    """Return the JSON document in ``data``, or raise `_RefusedError`."""
    try:
        document: object = decoder.decode(data.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise _RefusedError("DATA101", f"byte {error.start} is not UTF-8") from None
    except json.JSONDecodeError as error:
        where = f"line {error.lineno}, column {error.colno}"
        raise _RefusedError("DATA102", f"{where}: {error.msg}") from None
    except RecursionError:
        raise _RefusedError("DATA105", f"nested deeper than {limits.depth}") from None
    level = [document]
    for _ in range(limits.depth):
        level = [child for node in level for child in _containers(node)]
    if level:
        raise _RefusedError("DATA105", f"nested deeper than {limits.depth}")
    if _SUSPECT_ESCAPE.search(data) and (path := _unwritable(document)):
        raise _RefusedError("DATA106", f"{path} holds half a character or a NUL")
    return document


def _containers(node: object) -> list[object]:
    values = node.values() if isinstance(node, dict) else node if isinstance(node, list) else ()
    return [v for v in values if isinstance(v, dict | list)]


def _unwritable(document: object) -> str | None:
    """Return the path of a text that has no UTF-8 form, or that no XML or database takes."""
    todo: list[tuple[str, object]] = [("$", document)]
    while todo:
        path, node = todo.pop()
        if isinstance(node, str) and _UNWRITABLE.search(node):
            return path
        if isinstance(node, dict):
            if any(_UNWRITABLE.search(key) for key in node):
                return path
            todo += [(f"{path}.{key}", value) for key, value in node.items()]
        elif isinstance(node, list):
            todo += [(f"{path}[{i}]", value) for i, value in enumerate(node)]
    return None


# -- resources and references ----------------------------------------------------------------

_RESTFUL = re.compile(r"(https?://.+/)([A-Za-z]+/[^/]+)")
_PATIENT = re.compile(r"(?:https?://.+/)?Patient/[^/]+")


class _Index:
    """The resources of an input, and what references between them lead to."""

    def __init__(self) -> None:
        self.entries: list[Entry] = []
        self.has_modifiers = False
        self.unused: Counter[str] = Counter()
        self.enrolments: dict[str, list[Entry]] = {}
        self.remarks: dict[Entry, list[Finding]] = {}
        self.mixed: dict[Entry, str] = {}
        self._deleted: set[str] = set()
        self._by_url: dict[str, Entry] = {}
        self._by_id: dict[str, list[Entry]] = {}
        self._owners: dict[Entry, str | None] = {}
        self._contained_patients: dict[str, Entry] = {}

    def add(self, document: object, where: str, findings: list[Finding]) -> None:
        """Take in a document: the resources of a Bundle, of an array, or the one resource."""
        todo: list[tuple[str, object, str | None, tuple[str, str] | None]] = [
            (where, document, None, None)
        ]
        while todo:
            place, node, url, refused = todo.pop()
            if isinstance(node, list):
                todo += [(f"{place}[{i}]", v, None, refused) for i, v in enumerate(node)][::-1]
            elif not isinstance(node, dict):
                findings.append(finding("DATA110", place or "input", "not a resource"))
            elif node.get("resourceType") == "Bundle":
                todo += self._bundle(node, f"{place} Bundle".strip(), refused)[::-1]
            else:
                self.entries.append(Entry(place or "input", node, url, refused=refused))

    def _bundle(
        self, bundle: Json, place: str, refused: tuple[str, str] | None
    ) -> list[tuple[str, object, str | None, tuple[str, str] | None]]:
        if "implicitRules" in bundle:
            refused = ("DATA120", "its Bundle has implicitRules")
        found: list[tuple[str, object, str | None, tuple[str, str] | None]] = []
        entries = bundle.get("entry")
        for i, entry in enumerate(entries if isinstance(entries, list) else ()):
            here = f"{place}.entry[{i}]"
            if not isinstance(entry, dict):
                found.append((here, entry, None, refused))
            elif entry.get("resource") is not None:
                modified = "modifierExtension" in entry
                why = ("DATA120", "its entry has a modifierExtension") if modified else refused
                found.append((here, entry["resource"], string(entry.get("fullUrl")), why))
            else:
                for request in dicts(entry.get("request")):
                    if request.get("method") == "DELETE":
                        self._deleted.add(string(request.get("url")) or "")
        return found

    def finish(self) -> None:
        """Name the resources, settle repeated ones, and find which must not be used."""
        versions: dict[tuple[str, str], list[Entry]] = {}
        for entry in self.entries:
            versions.setdefault(_identity(entry), []).append(entry)
        shared_ids = Counter(identity[1] for identity in versions)
        self.entries = []
        for (base, name), entries in versions.items():
            for entry in entries:
                entry.name = iri_safe(base + name if shared_ids[name] > 1 else name)
            kept = self._settle(entries)
            self.entries += kept
            for entry in entries:
                if entry.url:
                    self._by_url.setdefault(_unversioned(entry.url), kept[0])
            self._by_id.setdefault(name, []).append(kept[0])
        for entry in self.entries:
            self.owner(entry)
        self.entries += self._contained_patients.values()
        for entry in self.entries:
            if entry.type in READERS or entry.type in SUPPORTING or entry.type in CONSULTED:
                entry.refused = entry.refused or self._refusal(entry)
        for entry in self.entries:
            if entry.type == "ResearchSubject" and not entry.refused:
                for reference in dicts(entry.body.get("consent")):
                    target = self.usable(referred(reference), entry)
                    if target is not None:
                        self.enrolments.setdefault(target.name, []).append(entry)

    def _settle(self, entries: list[Entry]) -> list[Entry]:
        """Return the versions of one resource that hold: the latest, if that can be told."""
        if len(entries) == 1:
            return entries
        contents = {
            json.dumps(entry.body, sort_keys=True, default=repr): entry for entry in entries[::-1]
        }
        kept = [contents[content] for content in sorted(contents)]
        if len(kept) == 1:
            return kept
        times = [_last_updated(entry.body) for entry in kept]
        known = [time for time in times if time is not None]
        if len(known) == len(kept) and times.count(max(known)) == 1:
            latest = kept[times.index(max(known))]
            self.remarks[latest] = [
                finding("DATA118", entry.label, "an older version was left out")
                for entry in kept
                if entry is not latest
            ]
            return [latest]
        for entry in kept:
            entry.disputed = True
            self.remarks[entry] = [finding("DATA117", entry.label, "differs from its namesake")]
        return kept

    def _refusal(self, entry: Entry) -> tuple[str, str] | None:
        """Return why a resource must not be used, if so."""
        if f"{entry.type}/{entry.body.get('id')}" in self._deleted:
            return "DATA119", "is deleted"
        if foreign := other_release(entry.body, entry.type):
            return "DATA112", f"its {foreign[0]} has the shape of FHIR {foreign[1]}"
        if self.has_modifiers and (modifier := _modifier(entry.body)):
            return "DATA120", f"has {modifier}"
        if owner := self.owner(entry):
            for reference in clinical_references(entry.body):
                target = self.resolve(reference, entry)
                other = self.owner(target) if target is not None else None
                if other is not None and other != owner:
                    self.mixed[entry] = other
                    return "DATA115", f"refers to {shown(reference)}, which is another patient's"
        return None

    def resolve(self, reference: str, source: Entry) -> Entry | None:
        """Return the one resource of the input that a reference in ``source`` means."""
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
        reference = _unversioned(reference)
        if found := self._by_url.get(reference):
            return found
        base = _base(source.container or source)
        if restful := _RESTFUL.fullmatch(reference):
            base, reference = restful[1], restful[2]
        elif base and (found := self._by_url.get(base + reference)):
            return found
        candidates = self._by_id.get(reference, [])
        if base:  # a resource of another server is another resource
            candidates = [entry for entry in candidates if not _base(entry)]
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
        reference = _unversioned(reference)
        if reference.startswith("Patient/"):
            reference = _base(source) + reference
        return iri_safe(reference) if _PATIENT.fullmatch(reference) else None


def _identity(entry: Entry) -> tuple[str, str]:
    """Return base and name of a resource; what has no id is named by its fullUrl or place."""
    number = string(entry.body.get("id"))
    if number and entry.type:
        return _base(entry), f"{entry.type}/{number}"
    return "", _unversioned(entry.url) if entry.url else entry.where


def _base(entry: Entry) -> str:
    """Return the server a resource came from, if its fullUrl says so."""
    match = _RESTFUL.fullmatch(_unversioned(entry.url or ""))
    return match[1] if match else ""


def _unversioned(reference: str) -> str:
    return reference.partition("/_history/")[0]


def _last_updated(body: Json) -> datetime | None:
    meta = body.get("meta")
    value = meta.get("lastUpdated") if isinstance(meta, dict) else None
    try:
        time = datetime.fromisoformat(value) if isinstance(value, str) else None
    except ValueError:
        return None
    return time if time is not None and time.tzinfo is not None else None


def _modifier(body: Json) -> str | None:
    """Return the first element of ``body`` that may change its meaning in an unknown way."""
    level: list[object] = [body]
    while level:
        for node in level:
            for key in ("modifierExtension", "implicitRules"):
                if isinstance(node, dict) and key in node:
                    return key
        level = [child for node in level for child in _containers(node)]
    return None


# -- patients --------------------------------------------------------------------------------


@dataclass(slots=True)
class _Home:
    """One patient while the resources are read."""

    name: str
    known: bool = False
    facts: list[Fact] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)
    labels: dict[str, str] = field(default_factory=dict)
    entry_dates: list[PartialDate] = field(default_factory=list)
    unused: Counter[str] = field(default_factory=Counter)

    def record(self, origin: str, digest: str, shared: list[Finding]) -> PatientRecord:
        """Return the patient's record, in an order that does not depend on the input's."""
        findings = [*self.findings, *_count(self.unused, self.name), *shared]
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


def _count(unused: Counter[str], where: str) -> list[Finding]:
    return [finding("DATA150", where, f"{n} {kind}") for kind, n in sorted(unused.items())]


_SPELLINGS = {kind.casefold(): kind for kind in READERS}


def _read_entry(
    entry: Entry,
    index: _Index,
    homes: dict[str, _Home],
    terms: FhirTerms,
    shared: list[Finding],
) -> None:
    """Add what one resource says, or why it says nothing, to its patient."""
    kind = entry.type
    owner = index.owner(entry)
    home = homes.setdefault(owner, _Home(owner)) if owner is not None else None
    findings = shared if home is None else home.findings
    findings += index.remarks.get(entry, [])
    if home is not None and kind == "Patient":
        home.known = True
    if not kind or (kind not in READERS and kind.casefold() in _SPELLINGS):
        findings.append(finding("DATA110", entry.label, "has no resourceType that R4 knows"))
        return
    if entry.refused:
        findings.append(finding(entry.refused[0], entry.label, entry.refused[1]))
        if other := index.mixed.get(entry):
            homes.setdefault(other, _Home(other)).findings.append(findings[-1])
        return
    if kind not in READERS:
        if kind not in SUPPORTING:
            (index.unused if home is None else home.unused)[kind] += 1
        return
    if home is None:
        shared.append(finding("DATA114", entry.label, "names no patient of the input"))
        return
    reading = Reading(
        entry, terms, index.usable, index.enrolments, home.findings, home.labels, home.entry_dates
    )
    facts = READERS[kind](reading)
    if entry.disputed:
        facts = (_only_possible(fact, terms) for fact in facts)
    home.facts += facts


def _only_possible(fact: Fact, terms: FhirTerms) -> Fact:
    counting = {terms.term("Confirmed"), terms.term("Refuted"), None}
    return replace(fact, status=terms.term("Suspected")) if fact.status in counting else fact
