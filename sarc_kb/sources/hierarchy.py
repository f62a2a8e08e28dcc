"""Hierarchies that a user has and this project has not: OMOP's CONCEPT_ANCESTOR, FHIR's ValueSet.

Nothing is looked up: a value set says which codes it holds, in its expansion or one by one; one
that only says how to find them is refused.
"""

from __future__ import annotations

import csv
import hashlib
import json
from collections.abc import Container, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sarc_kb.errors import Finding, InputError
from sarc_kb.sources.limits import MAX_BYTES

ANCESTOR, DESCENDANT = "ancestor_concept_id", "descendant_concept_id"
_NEEDED = "the hierarchy is wanted"


def read_concept_ancestor(path: Path, wanted: Container[str]) -> tuple[list[tuple[str, str]], str]:
    """Return the pairs (ancestor, descendant) of concept ids whose ancestor is ``wanted``, and the
    hash of the file. The table is CSV, separated by tab or comma, or Parquet (with duckdb).

    Raises:
        InputError: it cannot be read, or has not both columns.
    Source: OMOP CDM 5.4, CONCEPT_ANCESTOR.
    """
    try:
        digest = _hash(path)
        rows = _parquet(path) if path.suffix.lower() == ".parquet" else _csv(path)
        return [(a, d) for a, d in rows if a in wanted and a != d], digest
    except OSError as error:
        raise InputError(_closed(path, error)) from None
    except (UnicodeDecodeError, csv.Error):
        raise InputError(
            Finding(
                "USE030",
                "error",
                str(path),
                "not readable as a table",
                _NEEDED,
                "save it as CSV in UTF-8, or as Parquet",
            )
        ) from None


def _csv(path: Path) -> Iterator[tuple[str, str]]:
    with path.open(encoding="utf-8-sig", newline="") as handle:
        head = handle.readline()
        separator = "\t" if "\t" in head else ","
        names = [c.strip().strip('"').lower() for c in head.rstrip("\r\n").split(separator)]
        if ANCESTOR not in names or DESCENDANT not in names:
            raise InputError(_no_columns(path))
        above, below = names.index(ANCESTOR), names.index(DESCENDANT)
        for number, row in enumerate(csv.reader(handle, delimiter=separator), 2):
            if not row:
                continue
            if len(row) <= max(above, below) or not (
                row[above].isdecimal() and row[below].isdecimal()
            ):
                raise InputError(
                    Finding(
                        "USE031",
                        "error",
                        f"{path}:{number}",
                        "not two concept ids",
                        "a part of the hierarchy would be lost",
                        "give the whole table as Athena does",
                    )
                )
            yield row[above], row[below]


def _parquet(path: Path) -> Iterator[tuple[str, str]]:
    try:
        import duckdb
    except ImportError:
        raise InputError(
            Finding(
                "USE030",
                "error",
                str(path),
                "duckdb is not installed",
                "Parquet is read with it",
                "install it (pip install duckdb), or give the table as CSV",
            )
        ) from None
    try:
        with duckdb.connect() as connection:
            table = connection.execute("SELECT * FROM read_parquet(?)", [str(path)])
            names = [str(column[0]).lower() for column in table.description or ()]
            if ANCESTOR not in names or DESCENDANT not in names:
                raise InputError(_no_columns(path))
            first, second = names.index(ANCESTOR), names.index(DESCENDANT)
            while batch := table.fetchmany(100_000):
                yield from ((str(row[first]), str(row[second])) for row in batch)
    except duckdb.Error as error:
        raise InputError(
            Finding(
                "USE030",
                "error",
                str(path),
                f"not readable as Parquet ({type(error).__name__})",
                _NEEDED,
                "write the file again",
            )
        ) from None


def _no_columns(path: Path) -> Finding:
    return Finding(
        "USE031",
        "error",
        str(path),
        f"no columns {ANCESTOR} and {DESCENDANT}",
        _NEEDED,
        "give the table CONCEPT_ANCESTOR as the OMOP vocabularies have it",
    )


def _closed(path: Path, error: OSError) -> Finding:
    what = error.strerror or type(error).__name__
    return Finding(
        "USE030", "error", str(path), f"cannot be opened: {what}", _NEEDED, "check the path"
    )


def _hash(path: Path) -> str:
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


@dataclass(frozen=True, slots=True)
class ValueSet:
    """The codes of a FHIR ValueSet: system, code, and the place in the file."""

    url: str | None
    codes: tuple[tuple[str, str, str], ...]
    sha256: str
    findings: tuple[Finding, ...] = ()


def read_value_set(path: Path) -> ValueSet:
    """Return the codes that a ValueSet lists, less those it excludes.

    The expansion counts where there is one: all its codes but abstract ones, which only head a
    group. Else the codes that ``compose`` names one by one.

    Raises:
        InputError: it is no ValueSet, or says only how its codes are to be found.
    Source: FHIR R4, ValueSet.
    """
    try:
        with path.open("rb") as handle:
            data = handle.read(MAX_BYTES + 1)
    except OSError as error:
        raise InputError(_closed(path, error)) from None
    try:
        body = json.loads(data.decode("utf-8-sig")) if len(data) <= MAX_BYTES else None
    except (ValueError, RecursionError):
        body = None
    if not isinstance(body, dict) or body.get("resourceType") != "ValueSet":
        raise InputError(
            Finding(
                "USE030",
                "error",
                str(path),
                "no FHIR ValueSet in JSON",
                _NEEDED,
                "give one ValueSet resource",
            )
        )
    faults: list[Finding] = []
    findings: list[Finding] = []
    expansion = body.get("expansion")
    if isinstance(expansion, dict):
        codes = list(_expanded(expansion, path, faults))
        total = expansion.get("total")
        if isinstance(total, int) and total > len(codes):
            findings.append(
                Finding(
                    "USE043",
                    "warning",
                    str(path),
                    f"{len(codes)} codes of {total}",
                    "the expansion is a part of the set; the other codes stay unmapped",
                    "expand it whole",
                )
            )
    else:
        codes = list(_composed(body.get("compose"), path, faults))
    if faults:
        raise InputError(*faults)
    url = body.get("url")
    digest = hashlib.sha256(data).hexdigest()
    unique = {(system, code): where for system, code, where in reversed(codes)}
    listed = tuple((s, c, unique[s, c]) for s, c in sorted(unique))
    return ValueSet(url if isinstance(url, str) else None, listed, digest, tuple(findings))


def _objects(value: object) -> list[dict[str, Any]]:
    return [v for v in value if isinstance(v, dict)] if isinstance(value, list) else []


def _expanded(
    expansion: dict[str, Any], path: Path, faults: list[Finding]
) -> Iterator[tuple[str, str, str]]:
    todo = [
        (f"{path} expansion.contains[{n}]", one)
        for n, one in enumerate(_objects(expansion.get("contains")))
    ][::-1]
    while todo:
        where, one = todo.pop()
        inner = _objects(one.get("contains"))
        todo += [(f"{where}.contains[{n}]", child) for n, child in enumerate(inner)][::-1]
        if one.get("abstract") is True or (inner and not one.get("code")):
            continue
        yield from _coded(one.get("system"), one.get("code"), where, faults)


def _composed(compose: object, path: Path, faults: list[Finding]) -> Iterator[tuple[str, str, str]]:
    compose = compose if isinstance(compose, dict) else {}
    excluded = set()
    parts = [("include", p) for p in enumerate(_objects(compose.get("include")))]
    parts = [("exclude", p) for p in enumerate(_objects(compose.get("exclude")))] + parts
    if not _objects(compose.get("include")):
        faults.append(_unlisted(f"{path}", "neither an expansion nor codes"))
    for kind, (n, part) in parts:
        where = f"{path} compose.{kind}[{n}]"
        if part.get("filter") or part.get("valueSet") or not part.get("concept"):
            faults.append(_unlisted(where, "a rule for finding codes instead of codes"))
            continue
        for m, concept in enumerate(_objects(part.get("concept"))):
            place = f"{where}.concept[{m}]"
            for coded in _coded(part.get("system"), concept.get("code"), place, faults):
                if kind == "exclude":
                    excluded.add(coded[:2])
                elif coded[:2] not in excluded:
                    yield coded


def _coded(
    system: object, code: object, where: str, faults: list[Finding]
) -> Iterator[tuple[str, str, str]]:
    if isinstance(system, str) and isinstance(code, str) and system.strip() and code.strip():
        yield system, code, where
    else:
        faults.append(
            Finding(
                "USE031",
                "error",
                where,
                "no system, or no code",
                "it would be lost",
                "give both",
            )
        )


def _unlisted(where: str, found: str) -> Finding:
    return Finding(
        "USE043",
        "error",
        where,
        found,
        "nothing is looked up, so its codes are not known",
        "expand the value set ($expand), and give the expansion",
    )
