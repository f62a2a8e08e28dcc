"""What a document holds: the resources of a Bundle of any type, of an array, or one resource."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime

from sarc_kb.errors import Finding
from sarc_kb.sources.fhir_resources.elements import Json, dicts, string
from sarc_kb.sources.fhir_resources.findings import finding
from sarc_kb.sources.fhir_resources.reading import Entry

RESTFUL = re.compile(r"(https?://.+/)([A-Za-z]+/[^/]+)")
Refusal = tuple[str, str]


@dataclass(slots=True)
class Contents:
    """The resources of the input, and what its Bundles say was done to resources.

    ``deleted`` and ``patched`` hold the names (``Type/id``) of resources; ``remarks`` what is to
    be told of an entry.
    """

    entries: list[Entry] = field(default_factory=list)
    deleted: set[str] = field(default_factory=set)
    patched: set[str] = field(default_factory=set)
    remarks: dict[Entry, list[Finding]] = field(default_factory=dict)

    def add(self, document: object, where: str, findings: list[Finding]) -> None:
        """Take in a document; ``where`` is its place. Bundles in Bundles are opened."""
        todo: list[tuple[str, object, str | None, Refusal | None, int]] = [
            (where, document, None, None, 0)
        ]
        while todo:
            place, node, url, refused, older = todo.pop()
            if isinstance(node, list):
                todo += [(f"{place}[{i}]", v, None, refused, 0) for i, v in enumerate(node)][::-1]
            elif not isinstance(node, dict):
                findings.append(finding("DATA110", place or "input", "not a resource"))
            elif node.get("resourceType") == "Bundle":
                todo += list(self._bundle(node, f"{place} Bundle".strip(), refused, findings))[::-1]
            elif node.get("resourceType") == "Parameters" and node is document:
                # What an operation is given: its resources are the record. Elsewhere, as in a
                # patch of a Bundle, it describes a change.
                given = enumerate(dicts(node.get("parameter")))
                held = [(i, p["resource"]) for i, p in given if "resource" in p]
                todo += [(f"{place} parameter[{i}]".strip(), r, None, None, 0) for i, r in held][
                    ::-1
                ]
            else:
                entry = Entry(place or "input", node, url, refused=refused)
                self.entries.append(entry)
                if older:
                    left_out = f"{older} older versions left out"
                    self.remarks[entry] = [finding("DATA118", place, left_out)]

    def _bundle(
        self, bundle: Json, place: str, refused: Refusal | None, findings: list[Finding]
    ) -> Iterator[tuple[str, object, str | None, Refusal | None, int]]:
        if "implicitRules" in bundle:
            refused = ("DATA120", "its Bundle has implicitRules")
        if any(link.get("relation") == "next" for link in dicts(bundle.get("link"))):
            findings.append(finding("DATA132", place, "one page of several"))
        given = bundle.get("entry")
        entries = list(enumerate(given if isinstance(given, list) else ()))
        if bundle.get("type") == "document" and _is_void_document(entries):
            refused = ("DATA133", "its document was entered in error")
        older: dict[int, int] = {}
        if bundle.get("type") == "history":  # of which only the last word counts
            older = _newest(entries)
            entries = [(i, entry) for i, entry in entries if i in older]
        for i, entry in entries:
            here = f"{place}.entry[{i}]"
            if not isinstance(entry, dict):
                yield here, entry, None, refused, 0
                continue
            for request in dicts(entry.get("request")):
                self._request(request, here, findings)
            if entry.get("resource") is not None:
                modified = "modifierExtension" in entry
                why = ("DATA120", "its entry has a modifierExtension") if modified else refused
                url = string(entry.get("fullUrl"))
                yield here, entry["resource"], url, why, older.get(i, 0)

    def _request(self, request: Json, here: str, findings: list[Finding]) -> None:
        url = string(request.get("url")) or ""
        restful = RESTFUL.fullmatch(url)
        name = restful[2] if restful else url
        done = {"DELETE": self.deleted, "PATCH": self.patched}.get(str(request.get("method")))
        if done is not None:
            if "?" in name:
                findings.append(finding("DATA134", here, f"{request['method']} by a search"))
            else:
                done.add(name)


def _is_void_document(entries: list[tuple[int, object]]) -> bool:
    first = entries[0][1] if entries else None
    composition = first.get("resource") if isinstance(first, dict) else None
    return isinstance(composition, dict) and composition.get("status") == "entered-in-error"


def _newest(entries: list[tuple[int, object]]) -> dict[int, int]:
    """Return the places of the newest versions in a history, with how many older ones there are.

    The newest is the one modified last; where a time is missing, the first (FHIR R4, 3.1.0.11:
    a history is sorted with the oldest versions last). Of what was deleted in the end the last
    version stays beside the deletion, to be told of.
    """
    versions: dict[str, list[tuple[int, object]]] = {}
    for i, entry in entries:
        versions.setdefault(_of_history(entry) or f"entry[{i}]", []).append((i, entry))
    newest = {}
    for several in versions.values():
        times = [_modified(entry) for _, entry in several]
        known = [time for time in times if time is not None]
        if len(known) == len(several):
            order = sorted(range(len(known)), key=known.__getitem__, reverse=True)
            several = [several[n] for n in order]
        kept = 2 if isinstance(several[0][1], dict) and "resource" not in several[0][1] else 1
        for i, _ in several[:kept]:
            newest[i] = len(several) - kept
    return newest


def _of_history(entry: object) -> str | None:
    """Return which resource an entry of a history is a version of."""
    if not isinstance(entry, dict):
        return None
    resource = entry.get("resource")
    if isinstance(resource, dict) and string(resource.get("id")):
        return f"{resource.get('resourceType')}/{resource['id']}"
    for request in dicts(entry.get("request")):
        url = string(request.get("url")) or ""
        if "/" in url:
            restful = RESTFUL.fullmatch(url)
            return restful[2] if restful else url
    return string(entry.get("fullUrl"))


def _modified(entry: object) -> datetime | None:
    if not isinstance(entry, dict):
        return None
    for response in dicts(entry.get("response")):
        if (time := instant(response.get("lastModified"))) is not None:
            return time
    resource = entry.get("resource")
    return last_updated(resource) if isinstance(resource, dict) else None


def last_updated(body: Json) -> datetime | None:
    """Return when the resource was last changed, if it says so with an offset from UTC."""
    meta = body.get("meta")
    return instant(meta.get("lastUpdated")) if isinstance(meta, dict) else None


def instant(value: object) -> datetime | None:
    """Return the moment that a FHIR instant names; without an offset it names none."""
    try:
        time = datetime.fromisoformat(value) if isinstance(value, str) else None
    except ValueError:
        return None
    return time if time is not None and time.tzinfo is not None else None
