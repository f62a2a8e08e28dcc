"""Resources of NDJSON files, grouped by patient on disk.

A Bulk-Data export has one file a resource type, so that what is about one patient is spread over
all of them. The resources go into a temporary database as they are read; then one patient after
another comes out. Memory does not grow with the number of patients. SQLite removes the database
when it is closed, or when the program ends in whatever way; it lies where SQLite keeps temporary
files (`SQLITE_TMPDIR`, else `/var/tmp`, `/tmp`).
"""

from __future__ import annotations

import gzip
import hashlib
import pickle
import sqlite3
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing, nullcontext
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from sarc_kb.errors import Finding
from sarc_kb.facts import PatientRecord
from sarc_kb.namespaces import local_name
from sarc_kb.sources.apart import UnreadError
from sarc_kb.sources.fhir_bundle import RESTFUL, Contents
from sarc_kb.sources.fhir_index import (
    USED,
    Index,
    base_of,
    content,
    identity,
    own_refusal,
    unversioned,
)
from sarc_kb.sources.fhir_json import (
    BOM,
    Limits,
    Lines,
    Parser,
    RefusedError,
    containers,
    split_lines,
)
from sarc_kb.sources.fhir_patient import Household, at_most_warnings, count
from sarc_kb.sources.fhir_resources.elements import Json, iri_safe, named_type, string
from sarc_kb.sources.fhir_resources.findings import finding
from sarc_kb.sources.fhir_resources.readers import CONSULTED, READERS, SUPPORTING
from sarc_kb.sources.fhir_resources.reading import Entry
from sarc_kb.sources.fhir_resources.terms import FhirTerms

_TABLES = """
PRAGMA journal_mode = OFF;
PRAGMA synchronous = OFF;
PRAGMA cache_size = -32000;
CREATE TABLE entries (id INTEGER PRIMARY KEY, owner TEXT, body BLOB);
CREATE TABLE names (name TEXT, entry INTEGER);
CREATE TABLE refs (owner TEXT, name TEXT, PRIMARY KEY (owner, name)) WITHOUT ROWID;
CREATE TABLE gone (name TEXT PRIMARY KEY, how TEXT) WITHOUT ROWID;
CREATE TABLE people (owner TEXT PRIMARY KEY, base TEXT, id TEXT, known INTEGER) WITHOUT ROWID;
"""
_INDEXES = """
CREATE INDEX of_owner ON entries (owner);
CREATE INDEX of_name ON names (name);
CREATE INDEX of_entry ON names (entry);
CREATE INDEX to_name ON refs (name);
CREATE INDEX of_person ON people (id);
"""
_WHOSE = frozenset(("resourceType", "id", "subject", "patient", "individual", "contained"))
# References to other types lead to nothing that is read.
_FOLLOWED = READERS.keys() | SUPPORTING | CONSULTED | {"", "Encounter", "ServiceRequest"}
# A file may consist of faults: so many are told one by one, and so many in each patient's record.
_MOST_FAULTS = 1000
_TOLD_TO_EACH = 20
_BATCH = 2000


@dataclass(frozen=True, slots=True)
class Gathered:
    """What a data set holds of one patient, who is called ``owner`` in it and ``name`` in reports.

    Entries are as the database has them: first the patient's own, then those that these tie in
    with. ``gone``: names of resources with what was done to them; ``modified`` as in `Index`;
    ``told``: what every patient is told.
    """

    owner: str
    name: str
    own: tuple[bytes, ...]
    related: tuple[bytes, ...]
    gone: tuple[tuple[str, str], ...]
    modified: bool
    origin: str
    sha256: str
    told: tuple[Finding, ...]


class FhirDataSet:
    """The patients of NDJSON files that belong together.

    Files are added, then `records` yields their patients; nothing can be added after that. A
    patient is read by `read_patient`, or by what ``reading`` opens in its stead.
    """

    def __init__(
        self,
        terms: FhirTerms,
        origin: str,
        *,
        limits: Limits | None = None,
        reading: Callable[[], AbstractContextManager[Callable[[Gathered], PatientRecord]]]
        | None = None,
    ) -> None:
        self.terms, self.origin = terms, origin
        self._reading = reading or (lambda: nullcontext(lambda g: read_patient(g, terms)))
        self.limits = limits or Limits()
        self._faults: list[tuple[str, str, str, str]] = []
        self._untold = 0
        self._parser = Parser(self.limits.depth)
        self._unused: Counter[str] = Counter()
        self._digests: list[tuple[str, str]] = []
        self._database = sqlite3.connect("", isolation_level=None)
        self._database.executescript(_TABLES)
        self._pending = _Pending()
        self._grouped = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._database.close()

    # -- reading the files -----------------------------------------------------------------------

    def add_file(self, path: Path, place: str) -> None:
        """Read a file, also a packed one; ``place`` names it where findings tell of its lines.

        What ends too early or cannot be unpacked is a problem; the lines before it are read.

        Raises:
            OSError: it cannot be opened.
        """
        with path.open("rb") as handle:
            if path.suffix.lower() != ".gz":
                self.add(handle, str(path), place)
                return
            with closing(gzip.GzipFile(fileobj=handle)) as unpacked:
                self.add(unpacked, str(path), place)

    def add(self, stream: Lines, origin: str, place: str) -> None:
        """Read the lines of ``stream``; see `add_file`."""
        digest = hashlib.sha256()
        last = 0
        try:
            for number, line in split_lines(_Hashing(stream, digest), self.limits.line):
                last = number
                if number == 1 and line.startswith(BOM):
                    self._fault("DATA108", origin, "byte 0", "a byte order mark")
                    line = line[len(BOM) :]
                self._line(line, number, origin, place)
        except (EOFError, gzip.BadGzipFile, zlib.error):
            self._fault("DATA136", origin, "", f"is damaged after line {last}")
        self._digests.append((place, digest.hexdigest()))

    def _line(self, line: bytes, number: int, origin: str, place: str) -> None:
        here = f"line {number}"
        try:
            if len(line.rstrip(b"\r\n")) > self.limits.line:
                raise RefusedError("DATA107", f"more than {self.limits.line} bytes")
            document = self._parser.parse(line)
        except RefusedError as refused:
            cut_off = not line.endswith(b"\n") and refused.code in ("DATA101", "DATA102")
            found = "the last line is cut off" if cut_off else refused.found
            self._fault(refused.code, origin, here, found)
            if cut_off:
                self._fault("DATA136", origin, "", f"ends within {here}")
            return
        contents = Contents()
        faults: list[Finding] = []
        contents.add(document, f"{place} {here}".strip(), faults)
        for fault in faults:
            self._fault(fault.code, origin, fault.where.removeprefix(place).strip(), fault.found)
        self._pending.gone += [(name, "DELETE") for name in sorted(contents.deleted)]
        self._pending.gone += [(name, "PATCH") for name in sorted(contents.patched)]
        remarks = {entry: tuple(said) for entry, said in contents.remarks.items()}
        index = Index(contents, modified=self._parser.modified)
        for entry in contents.entries:
            owner = self._owner(entry, index)
            if owner is None:
                self._of_nobody(entry, origin, place)
            kept = _Kept(
                entry.where,
                entry.url,
                entry.refused,
                entry.body if entry.type in USED else _stub(entry.body),
                len(self._digests),
                remarks.get(entry, ()),
            )
            self._pending.add(kept, owner or "")
        if len(self._pending.entries) >= _BATCH:
            self._flush()

    def _owner(self, entry: Entry, index: Index) -> str | None:
        """Return the patient an entry is about, by server and name, and note that there is one."""
        owner = index.owner(entry)
        if owner is None:
            return None
        known = entry.type == "Patient"
        base, name = "", owner
        if known:
            base, name = identity(entry)
        elif restful := RESTFUL.fullmatch(owner):
            base, name = restful[1], restful[2]
        else:
            patient = next((e for e in index.entries if e.name == owner), None)
            base = base_of(patient) if patient is not None else ""
        key = iri_safe(base + name)
        self._pending.people.append((key, base, iri_safe(name), int(known)))
        return key

    def _of_nobody(self, entry: Entry, origin: str, place: str) -> None:
        """Tell of a resource that is about no patient; those that others refer to are no fault."""
        household = Household(self.terms)
        alone = Entry(entry.where, entry.body, entry.url, refused=entry.refused)
        index = Index(Contents([alone]), modified=self._parser.modified)
        if alone.type in USED:
            alone.refused = alone.refused or own_refusal(alone, modified=self._parser.modified)
        household.read(alone, index)
        for fault in household.shared:
            self._fault(fault.code, origin, fault.where.removeprefix(place).strip(), fault.found)
        self._unused += household.unused

    def _fault(self, code: str, origin: str, where: str, found: str) -> None:
        if len(self._faults) < _MOST_FAULTS:
            self._faults.append((code, origin, where, found))
        else:
            self._untold += 1

    @property
    def problems(self) -> list[Finding]:
        """What is wrong with the files, and with resources of no patient."""
        told = [
            finding(code, f"{origin} {where}".strip(), found)
            for code, origin, where, found in dict.fromkeys(self._faults)
        ]
        if self._untold:
            told.append(finding("DATA137", self.origin, f"{self._untold} more faults like these"))
        return told

    def _flush(self) -> None:
        self._pending.write(self._database)
        self._pending = _Pending()

    # -- patients --------------------------------------------------------------------------------

    def patients(self) -> Iterator[str]:
        """Yield the names of the patients, as their records will have them."""
        return (name for _, name in self._people())

    def records(self) -> Iterator[PatientRecord]:
        """Yield one record a patient, in the order of their names; it has an error where reading the
        patient came to nothing."""
        told = tuple(at_most_warnings(self._told()))
        digest = self._digest()
        with self._reading() as read:
            for owner, name in self._people():
                try:
                    record = read(self._gathered(owner, name, digest, told))
                except UnreadError as unread:
                    lost = (unread.finding(name),)
                    label = local_name(name)
                    record = PatientRecord(name, label, None, (), self.origin, digest, lost)
                yield record

    def __len__(self) -> int:
        return sum(1 for _ in self._people())

    def _told(self) -> list[Finding]:
        """Return what every patient is told: a fault may have hidden something about any of them."""
        faults = [*dict.fromkeys(self._faults)]
        one_file = len(self._digests) == 1
        told = [
            finding(code, where or origin if one_file else f"{origin} {where}".strip(), found)
            for code, origin, where, found in faults
        ]
        if len(told) + self._untold > _TOLD_TO_EACH:
            found = f"{len(told) + self._untold} faults of lines or of resources of no patient"
            told = [finding("DATA137", self.origin, found)]
        return [*told, *count(self._unused, self.origin)]

    def _digest(self) -> str:
        if len(self._digests) == 1:
            return self._digests[0][1]
        whole = "".join(f"{place}\0{digest}\n" for place, digest in sorted(self._digests))
        return hashlib.sha256(whole.encode()).hexdigest()

    def _people(self) -> Iterator[tuple[str, str]]:
        """Yield each patient's owner key and name, in order.

        A patient whom references call by a whole URL is the one in the input with that type and
        id, unless one of that server is there.
        """
        self._group()
        rows = self._database.execute(
            "SELECT owner, id, known, "
            "(SELECT count(*) FROM people AS o WHERE o.id = people.id AND o.known) "
            "FROM people ORDER BY owner"
        )
        for owner, name, known, namesakes in rows:
            yield owner, name if known and namesakes == 1 else owner

    def _group(self) -> None:
        if self._grouped:
            return
        self._flush()
        self._database.executescript(_INDEXES)
        same = self._database.execute(
            "SELECT p.owner, min(o.owner) FROM people AS p JOIN people AS o "
            "ON o.id = p.id AND o.known AND (o.base = '' OR p.base = '') "
            "WHERE NOT p.known GROUP BY p.owner HAVING count(*) = 1"
        ).fetchall()
        for owner, known in same:
            self._database.execute("UPDATE entries SET owner = ? WHERE owner = ?", (known, owner))
            self._database.execute(
                "UPDATE OR REPLACE refs SET owner = ? WHERE owner = ?", (known, owner)
            )
            self._database.execute("DELETE FROM people WHERE owner = ?", (owner,))
        self._grouped = True

    def _gathered(self, owner: str, name: str, digest: str, told: tuple[Finding, ...]) -> Gathered:
        rows = self._database.execute(
            "SELECT body FROM entries WHERE owner = ? ORDER BY id", (owner,)
        )
        own = tuple(body for (body,) in rows)
        gone = self._database.execute(
            "SELECT g.name, g.how FROM entries AS e JOIN names AS n ON n.entry = e.id "
            "JOIN gone AS g ON g.name = n.name WHERE e.owner = ?",
            (owner,),
        )
        return Gathered(
            owner,
            name,
            own,
            self._related(owner),
            tuple(gone),
            self._parser.modified,
            self.origin,
            digest,
            told,
        )

    def _related(self, owner: str) -> tuple[bytes, ...]:
        """Return resources of no patient, or of others, that this patient's tie in with: those
        they refer to, those of the same name, and those of others that refer to them."""
        found: dict[int, bytes] = dict(
            self._database.execute(
                "SELECT e.id, e.body FROM refs AS r JOIN names AS n ON n.name = r.name "
                "JOIN entries AS e ON e.id = n.entry WHERE r.owner = :owner AND e.owner <> :owner "
                "UNION "
                "SELECT o.id, o.body FROM entries AS e JOIN names AS n ON n.entry = e.id "
                "JOIN names AS m ON m.name = n.name JOIN entries AS o ON o.id = m.entry "
                "WHERE e.owner = :owner AND o.owner <> :owner "
                "UNION "
                "SELECT o.id, o.body FROM entries AS e JOIN names AS n ON n.entry = e.id "
                "JOIN refs AS r ON r.name = n.name JOIN entries AS o ON o.owner = r.owner "
                "WHERE e.owner = :owner AND r.owner <> :owner AND o.owner <> ''",
                {"owner": owner},
            )
        )
        todo = list(found.values())
        while todo:  # a Medication names its ingredients' Medications, and so on
            names = {name for one in todo for name in _references(_unpack(one).body)}
            todo = []
            for name in sorted(names):
                for number, body in self._database.execute(
                    "SELECT e.id, e.body FROM names AS n JOIN entries AS e ON e.id = n.entry "
                    "WHERE n.name = ? AND e.owner = ''",
                    (name,),
                ):
                    if number not in found:
                        found[number] = body
                        todo.append(body)
        return tuple(found[number] for number in sorted(found))


def read_patient(gathered: Gathered, terms: FhirTerms) -> PatientRecord:
    """Return the record of one patient."""
    own = [_unpack(body) for body in gathered.own]
    contents = Contents()
    for kept in (*own, *map(_unpack, gathered.related)):
        entry = Entry(kept.where, kept.body, kept.url, refused=kept.refused)
        contents.entries.append(entry)
        if kept.remarks:
            contents.remarks[entry] = list(kept.remarks)
    theirs = frozenset(contents.entries[: len(own)])
    described = {content(e): kept.file for e, kept in zip(contents.entries, own, strict=False)
                 if e.type == "Patient"}  # fmt: skip
    for name, how in gathered.gone:
        (contents.deleted if how == "DELETE" else contents.patched).add(name)
    index = Index(contents, modified=gathered.modified)
    index.judge()
    household = Household(terms)
    patient = next(
        (n for e in index.entries if e in theirs and (n := index.owner(e))), gathered.owner
    )
    for entry in index.entries:
        if patient in (index.owner(entry), index.mixed.get(entry)):
            household.read(entry, index)
    home = household.home(patient)
    if len(set(described.values())) > 1:
        found = f"{len(set(described.values()))} files describe the patient differently"
        home.findings.append(finding("DATA138", patient, found))
    return home.record(gathered.origin, gathered.sha256, gathered.told)


@dataclass(frozen=True, slots=True)
class _Kept:
    """An entry as the database holds it."""

    where: str
    url: str | None
    refused: tuple[str, str] | None
    body: Json
    file: int
    remarks: tuple[Finding, ...]

    @property
    def names(self) -> list[str]:
        """What references may call it."""
        name = identity(Entry(self.where, self.body, self.url))[1]
        return [name, unversioned(self.url)] if self.url else [name]


def _unpack(packed: bytes) -> _Kept:
    # Written by this process a moment ago, into a database that nobody else can open.
    kept: _Kept = pickle.loads(packed)  # noqa: S301 - our own, see above
    return kept


class _Pending:
    """Rows that wait to be written together."""

    def __init__(self) -> None:
        self.entries: list[tuple[str, _Kept]] = []
        self.gone: list[tuple[str, str]] = []
        self.people: list[tuple[str, str, str, int]] = []

    def add(self, kept: _Kept, owner: str) -> None:
        self.entries.append((owner, kept))

    def write(self, database: sqlite3.Connection) -> None:
        database.execute("BEGIN")
        references: set[tuple[str, str]] = set()
        names: list[tuple[str, int | None]] = []
        for owner, kept in self.entries:
            row = database.execute(
                "INSERT INTO entries (owner, body) VALUES (?, ?)", (owner, pickle.dumps(kept, 5))
            )
            names += [(name, row.lastrowid) for name in kept.names]
            if owner and string(kept.body.get("resourceType")) in USED:
                references |= {(owner, name) for name in _references(kept.body)}
        database.executemany("INSERT INTO names VALUES (?, ?)", names)
        database.executemany("INSERT OR IGNORE INTO refs VALUES (?, ?)", sorted(references))
        database.executemany("INSERT OR REPLACE INTO gone VALUES (?, ?)", self.gone)
        database.executemany(
            "INSERT INTO people VALUES (?, ?, ?, ?) "
            "ON CONFLICT (owner) DO UPDATE SET known = max(known, excluded.known)",
            self.people,
        )
        database.execute("COMMIT")


def _stub(body: Json) -> Json:
    """Return what is needed of a resource that gives no fact: what it is and whose."""
    return {key: value for key, value in body.items() if key in _WHOSE}


def _references(body: Json) -> set[str]:
    """Return the names that a resource refers to and that may be of what is read."""
    found: set[str] = set()
    level: list[object] = [body]
    while level:
        for node in level:
            if isinstance(node, dict) and (reference := string(node.get("reference"))):
                name = unversioned(reference)
                if restful := RESTFUL.fullmatch(name):
                    found.add(name)
                    name = restful[2]
                if not name.startswith("#") and named_type(name) in _FOLLOWED:
                    found.add(name)
        level = [child for node in level for child in containers(node)]
    return found


class _Hashing:
    """A stream that hashes what is read from it."""

    def __init__(self, stream: Lines, digest: Any) -> None:
        self._stream, self._digest = stream, digest

    def readline(self, size: int, /) -> bytes:
        line = self._stream.readline(size)
        self._digest.update(line)
        return line
