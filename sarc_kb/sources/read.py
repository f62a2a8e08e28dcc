"""Find and read every patient in files, folders and standard input.

One file that cannot be read never stops the others: it becomes a finding of the run.
"""

from __future__ import annotations

import gzip
import json
import os
import sys
import zlib
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from sarc_kb.errors import Finding, InputError
from sarc_kb.facts import PatientRecord
from sarc_kb.sources.fhir import FhirTerms, read_fhir
from sarc_kb.sources.limits import MAX_BYTES
from sarc_kb.sources.rdf import FORMATS, read_rdf

FHIR_ENDINGS = (".json", ".ndjson")
STANDARD_INPUT = "-"
_ENDINGS = (*FORMATS, *FHIR_ENDINGS)
_KNOWN = "known endings: " + ", ".join(_ENDINGS) + ", each also with .gz"


@dataclass(frozen=True, slots=True)
class ReadingTerms:
    """What readers need of the knowledge base: axes for graphs, codes and questions for FHIR."""

    axes: frozenset[str]
    fhir: FhirTerms


def read_sources(
    sources: Iterable[Path], terms: ReadingTerms
) -> tuple[list[PatientRecord], list[Finding]]:
    """Return the patients of all sources in a fixed order, and what could not be read.

    A patient found twice is returned each time, with an error: two records under one name are
    never merged, and neither is judged.
    """
    records: list[PatientRecord] = []
    problems: list[Finding] = []
    for source in sources:
        try:
            files = _files(source, problems)
        except OSError as error:
            problems.append(_closed(error, str(source)))
            continue
        for path, origin in files:
            try:
                found = read_file(path, origin, terms, problems)
            except InputError as error:
                problems.extend(error.findings)
                continue
            if not found:
                problems.append(
                    _fault(
                        "DATA000",
                        origin,
                        "no patient",
                        "nothing was judged",
                        "a graph needs a sarc:Patient, a FHIR input a Patient resource",
                    )
                )
            records.extend(found)
    return _without_doubles(records), problems


def _files(source: Path, problems: list[Finding]) -> list[tuple[Path, str]]:
    if str(source) == STANDARD_INPUT:
        return [(source, "standard input")]
    if source.is_dir():
        found: list[Path] = []
        for folder, _, names in os.walk(source, onerror=lambda e: problems.append(_closed(e))):
            found += (Path(folder, n) for n in names if _ending(Path(n)) in _ENDINGS)
        if not found:
            problems.append(
                _fault(
                    "DATA000", str(source), "no file of a known kind", "nothing was judged", _KNOWN
                )
            )
        return [(p, str(p)) for p in sorted(found)]
    if _ending(source) not in _ENDINGS and source.exists():
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


def _ending(path: Path) -> str:
    """Return the ending that tells the format, without ``.gz``."""
    return Path(path.stem if path.suffix.lower() == ".gz" else path.name).suffix.lower()


def read_file(
    path: Path, origin: str, terms: ReadingTerms, problems: list[Finding] | None = None
) -> list[PatientRecord]:
    """Return the patients of one file; ``problems`` receives what belongs to none of them.

    Raises:
        InputError: it cannot be read at all.
    """
    try:
        # At most one byte too many: what is no plain file may never end.
        if str(path) == STANDARD_INPUT:
            data = sys.stdin.buffer.read(MAX_BYTES + 1) if sys.stdin is not None else b""
        else:
            with path.open("rb") as handle:
                # Unpacked only as far as the limit: a small file may hold a very large one.
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
    if len(data) > MAX_BYTES:
        raise InputError(
            _fault(
                "DATA002",
                origin,
                f"more than {MAX_BYTES} bytes",
                "no record needs them",
                "split the file by patient",
            )
        )
    ending = _ending(path)
    kind = FORMATS.get(ending) or _sniff(data, ending)
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


def _sniff(data: bytes, ending: str) -> str:
    """Return what JSON or standard input holds, by its first characters."""
    if ending == ".ndjson":
        return "fhir"
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


def _without_doubles(records: list[PatientRecord]) -> list[PatientRecord]:
    seen: dict[str, list[int]] = {}
    for n, record in enumerate(records):
        seen.setdefault(record.patient, []).append(n)
    out = list(records)
    for places in seen.values():
        if len(places) > 1:
            for n in places:
                others = ", ".join(sorted({records[m].origin for m in places}))
                twice = _fault(
                    "DATA003",
                    records[n].origin,
                    f"patient {records[n].label} stands {len(places)} times in the input ({others})",
                    "two records under one name are never merged",
                    "join them into one record, or name them differently",
                )
                out[n] = replace(records[n], findings=(*records[n].findings, twice))
    return out
