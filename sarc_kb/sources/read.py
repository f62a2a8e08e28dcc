"""Find and read every patient in files, folders and standard input.

One file that cannot be read never stops the others: it becomes a finding of the run.
"""

from __future__ import annotations

import gzip
import io
import json
import os
import sqlite3
import sys
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from sarc_kb.errors import Finding, InputError
from sarc_kb.facts import PatientRecord
from sarc_kb.sources.apart import Apart, Run, T, UnreadError
from sarc_kb.sources.facts_findings import finding as facts_finding
from sarc_kb.sources.facts_frame import ArrowTable, read_frame
from sarc_kb.sources.facts_table import FactsTable, holds_facts
from sarc_kb.sources.fhir import FhirDataSet, FhirTerms, read_fhir
from sarc_kb.sources.fhir_dataset import Gathered, read_patient
from sarc_kb.sources.fhir_json import has_lines
from sarc_kb.sources.fhir_resources.findings import finding
from sarc_kb.sources.limits import MAX_BYTES
from sarc_kb.sources.patients import Patients
from sarc_kb.sources.rdf import FORMATS, read_rdf

FHIR_ENDINGS = (".json", ".ndjson")
STANDARD_INPUT = "-"
FACTS_ENDING = ".parquet"
_ENDINGS = (*FORMATS, *FHIR_ENDINGS)
_KNOWN = f"known endings: {', '.join(_ENDINGS)}, each also with .gz; {FACTS_ENDING} (facts tables)"


@dataclass(frozen=True, slots=True)
class ReadingTerms:
    """What readers need of the knowledge base: axes for graphs, codes and questions for FHIR."""

    axes: frozenset[str]
    fhir: FhirTerms


Found = tuple[list[PatientRecord], list[Finding]]
"""The patients of one input, and what belongs to none of them."""


def read_sources(
    sources: Iterable[Path | ArrowTable], terms: ReadingTerms, apart: Apart | None = None
) -> tuple[Patients, list[Finding]]:
    """Return the patients of all sources in a fixed order, files before tables, and what could not
    be read.

    All NDJSON files of one folder that are given, in whatever order, are one data set: their
    resources belong to patients by reference. Any other file stands for itself.

    ``apart``: where what takes time and memory is done, one file that is read whole or one patient
    of NDJSON at a time. A file that fails there is one that cannot be read, a patient has an error.

    Raises:
        UsageError: a facts table is given, and the extra ``cohort`` is not installed.
    """
    patients = Patients()
    problems: list[Finding] = []
    files: list[tuple[Path, str]] = []
    tables: list[ArrowTable] = []
    for source in sources:
        if not isinstance(source, Path):
            tables.append(source)
            continue
        try:
            files += files_of(source, problems)
        except OSError as error:
            problems.append(_closed(error, str(source)))
    _read_files(files, terms, apart or _here(terms), patients, problems)
    for number, table in enumerate(tables, 1):
        origin = "table in memory" if len(tables) == 1 else f"table {number} in memory"
        try:
            found = read_frame(table, origin, problems)
        except InputError as error:
            problems.extend(error.findings)
            continue
        if not found:
            problems.append(_nobody(origin))
        patients.add(found)
    return patients, problems


def _here(terms: ReadingTerms) -> Apart:
    def run(function: Callable[..., T], *args: object) -> T:
        return function(*args, terms)

    return lambda: nullcontext(run)


def _read_files(
    files: list[tuple[Path, str]],
    terms: ReadingTerms,
    apart: Apart,
    patients: Patients,
    problems: list[Finding],
) -> None:
    if not files:
        return
    exports: dict[Path, list[tuple[Path, str]]] = {}
    for path, origin in files:
        if _ending(path) == ".ndjson":
            exports.setdefault(path.parent, []).append((path, origin))
    with apart() as run:
        for path, origin in files:
            try:
                if _ending(path) == ".ndjson":
                    if export := exports.pop(path.parent, None):
                        _read_export(export, terms, apart, patients, problems)
                elif _ending(path) == FACTS_ENDING:
                    _read_table(FactsTable(path, origin), patients, problems)
                elif str(path) == STANDARD_INPUT:
                    data = _standard_input(terms, apart, patients, problems)
                    if data is not None:
                        _read_one(data, origin, run, patients, problems)
                else:
                    _read_one(path, origin, run, patients, problems)
            except InputError as error:
                problems.extend(error.findings)


def _read_one(
    source: Path | bytes, origin: str, run: Run, patients: Patients, problems: list[Finding]
) -> None:
    try:
        found, told = run(read_whole, source, origin)
    except UnreadError as unread:
        raise InputError(unread.finding(origin, "or split the file by patient")) from None
    problems += told
    if not found:
        problems.append(_nobody(origin))
    patients.add(found)


def read_bytes(
    data: bytes, origin: str, ending: str, terms: ReadingTerms
) -> tuple[Patients, list[Finding]]:
    """Return the patients of one input, as `read_sources` does of a file or of standard input.

    ``ending`` tells the format, as the ending of a file's name does (``.ndjson``: FHIR in either
    form); an empty one leaves it to the first characters.
    """
    patients = Patients()
    problems: list[Finding] = []
    try:
        found = _read_data(data, origin, ending, terms, problems)
        if not found:
            problems.append(_nobody(origin))
        patients.add(found)
    except InputError as error:
        problems.extend(error.findings)
    return patients, problems


def _nobody(origin: str) -> Finding:
    return _fault(
        "DATA000",
        origin,
        "no patient",
        "nothing was judged",
        "a graph needs a sarc:Patient, a FHIR input a Patient resource, a facts table a row",
    )


def _read_table(table: FactsTable, patients: Patients, problems: list[Finding]) -> None:
    """Leave the patients where they are; say what they are read from, as their records do not."""
    before = len(patients)
    patients.add_dataset(table)
    found = len(patients) - before
    if not found:
        problems.append(_nobody(table.origin))
    else:
        what = f"a facts table of {found} patients, sha256 {table.sha256()}"
        problems.append(facts_finding("DATA311", table.origin, what))
    problems += table.problems


def _dataset(terms: ReadingTerms, origin: str, apart: Apart) -> FhirDataSet:
    @contextmanager
    def reading() -> Iterator[Callable[[Gathered], PatientRecord]]:
        with apart() as run:
            yield lambda gathered: run(_read_patient, gathered)

    return FhirDataSet(terms.fhir, origin, reading=reading)


def _read_patient(gathered: Gathered, terms: ReadingTerms) -> PatientRecord:
    return read_patient(gathered, terms.fhir)


def _read_export(
    files: list[tuple[Path, str]],
    terms: ReadingTerms,
    apart: Apart,
    patients: Patients,
    problems: list[Finding],
) -> None:
    origin = files[0][1] if len(files) == 1 else str(files[0][0].parent)
    dataset = _dataset(terms, origin, apart)
    unreadable = []
    for path, name in sorted(set(files)):
        try:
            dataset.add_file(path, "" if len(files) == 1 else path.name)
        except OSError as error:
            unreadable.append(_closed(error, name))
        except sqlite3.Error:
            full = "the temporary database cannot be written"
            why = "resources are grouped by patient on disk"
            problems.append(
                _fault("DATA002", origin, full, why, "free space, or set SQLITE_TMPDIR")
            )
            return
    _keep(dataset, patients, problems, unreadable)


def _keep(
    dataset: FhirDataSet,
    patients: Patients,
    problems: list[Finding],
    unreadable: Iterable[Finding] = (),
) -> None:
    patients.add_dataset(dataset)
    if not len(dataset):
        problems.append(finding("DATA111", dataset.origin, "no patient in the input"))
    problems += (*dataset.problems, *unreadable)


def files_of(source: Path, problems: list[Finding]) -> list[tuple[Path, str]]:
    """Return the files that are read for a source, a file or a folder, and what each is called.

    Raises:
        OSError: it cannot be looked at.
    """
    if str(source) == STANDARD_INPUT:
        return [(source, "standard input")]
    if source.is_dir():
        found: list[Path] = []
        for folder, inside, names in os.walk(source, onerror=lambda e: problems.append(_closed(e))):
            found += (Path(folder, n) for n in names if _known(Path(n)))
            links = [p for n in sorted(inside) if (p := Path(folder, n)).is_symlink()]
            problems.extend(map(_linked, links))
        # A pipe would be waited for, and a device has no end; what leads nowhere is told later.
        unreal = {p for p in found if p.exists() and not p.is_file()}
        problems.extend(map(_no_plain_file, sorted(unreal)))
        found = [p for p in found if p not in unreal]
        strange = [p for p in found if _ending(p) == FACTS_ENDING and not holds_facts(p)]
        if strange:
            # Such as the tables of an OMOP CDM: a folder may hold other things than records.
            found = [p for p in found if p not in set(strange)]
            shown = ", ".join(sorted(p.name for p in strange)[:3]) + ", …" * (len(strange) > 3)
            what = f"{len(strange)} Parquet files that are no facts tables ({shown})"
            problems.append(facts_finding("DATA310", str(source), what))
        if not found:
            problems.append(
                _fault(
                    "DATA000", str(source), "no file of a known kind", "nothing was judged", _KNOWN
                )
            )
        return [(p, str(p)) for p in sorted(found)]
    if not _known(source) and source.exists():
        problems.append(
            _fault(
                "DATA002",
                str(source),
                f"unknown ending {source.suffix or '(none)'}",
                "the format cannot be told",
                _KNOWN,
            )
        )
        return []
    return [(source, str(source))]


def _linked(folder: Path) -> Finding:
    return Finding(
        "DATA002",
        "warning",
        str(folder),
        "a link to a folder",
        "it could lead anywhere, or in a circle; nothing behind it was judged",
        "name the folder itself too",
    )


def _no_plain_file(path: Path) -> Finding:
    return _fault(
        "DATA002",
        str(path),
        "no plain file",
        "a pipe or a device in a folder may never end",
        "name it by itself, or give its contents on standard input",
    )


def _known(path: Path) -> bool:
    # Parquet is packed inside, and read from its end: it is never packed as a whole.
    return _ending(path) in _ENDINGS or path.suffix.lower() == FACTS_ENDING


def _ending(path: Path) -> str:
    """Return the ending that tells the format, without ``.gz``."""
    return Path(path.stem if path.suffix.lower() == ".gz" else path.name).suffix.lower()


def read_whole(source: Path | bytes, origin: str, terms: ReadingTerms) -> Found:
    """Return what one file holds, or what came by standard input, read whole into memory.

    Raises:
        InputError: it cannot be read at all.
    """
    data, ending = (source, "") if isinstance(source, bytes) else _contents(source, origin)
    problems: list[Finding] = []
    return _read_data(data, origin, ending, terms, problems), problems


def _contents(path: Path, origin: str) -> tuple[bytes, str]:
    """Return the bytes of a file, unpacked, and the ending that tells what they are."""
    try:
        with path.open("rb") as handle:
            # At most one byte too many: what is no plain file may never end. Unpacked only as far
            # as the limit: a small file may hold a very large one.
            packed = path.suffix.lower() == ".gz"
            data = (gzip.GzipFile(fileobj=handle) if packed else handle).read(MAX_BYTES + 1)
    except (gzip.BadGzipFile, EOFError, zlib.error):
        raise InputError(
            _fault(
                "DATA002", origin, "not a whole gzip file", "it cannot be unpacked", "pack it again"
            )
        ) from None
    except OSError as error:
        raise InputError(_closed(error, origin)) from None
    return data, _ending(path)


def _standard_input(
    terms: ReadingTerms, apart: Apart, patients: Patients, problems: list[Finding]
) -> bytes | None:
    """Return what came by standard input; None where it is NDJSON that is too long to be read
    whole, which becomes a data set of ``patients`` instead."""
    stream = sys.stdin.buffer if sys.stdin is not None else io.BytesIO()
    origin = "standard input"
    data = stream.read(MAX_BYTES + 1)
    if len(data) <= MAX_BYTES or not has_lines(data):
        return data
    dataset = _dataset(terms, origin, apart)
    dataset.add(_Joined(data, stream), origin, "")
    _keep(dataset, patients, problems)
    return None


class _Joined:
    """What was read of a stream already, and the rest of it."""

    def __init__(self, data: bytes, rest: IO[bytes]) -> None:
        self._data, self._rest = io.BytesIO(data), rest

    def readline(self, size: int, /) -> bytes:
        line = self._data.readline(size)
        if len(line) < size and not line.endswith(b"\n"):
            line += self._rest.readline(size - len(line))
        return line


def _read_data(
    data: bytes, origin: str, ending: str, terms: ReadingTerms, problems: list[Finding]
) -> list[PatientRecord]:
    if len(data) > MAX_BYTES:
        raise InputError(
            _fault(
                "DATA002",
                origin,
                f"more than {MAX_BYTES} bytes",
                "no record needs them",
                "split the file by patient, or give FHIR as NDJSON",
            )
        )
    if data.startswith(b"PAR1"):
        raise InputError(
            _fault(
                "DATA002",
                origin,
                "Parquet",
                "it is read from its end, as a file",
                f"name the file, with the ending {FACTS_ENDING}",
            )
        )
    kind = "fhir" if ending == ".ndjson" else FORMATS.get(ending) or _sniff(data)
    if kind == "fhir":
        return read_fhir(data, origin, terms.fhir, problems=problems)
    return read_rdf(data, origin, kind, terms.axes)


def _closed(error: OSError, origin: str | None = None) -> Finding:
    what = error.strerror or type(error).__name__
    return _fault(
        "DATA002",
        origin or str(error.filename),
        f"cannot be opened: {what}",
        "nothing in it was judged",
        "check the path and the permissions",
    )


def _fault(code: str, where: str, found: str, why: str, fix: str) -> Finding:
    return Finding(code, "error", where, found, why, fix)


def _sniff(data: bytes) -> str:
    """Return what JSON or standard input holds, by its first characters."""
    start = data[:4096].lstrip(b"\xef\xbb\xbf \t\r\n")
    if start.startswith((b"{", b"[")):
        return "json-ld" if _looks_like_jsonld(data) else "fhir"
    if start.startswith((b"<?xml", b"<rdf:RDF")):
        return "xml"
    return "turtle"


def _looks_like_jsonld(data: bytes) -> bool:
    if b'"resourceType"' in data:
        return False
    try:
        parsed = json.loads(data)
    except (ValueError, RecursionError):
        return b'"@context"' in data or b'"@id"' in data
    first = parsed[0] if isinstance(parsed, list) and parsed else parsed
    return isinstance(first, dict) and any(k.startswith("@") for k in first)
