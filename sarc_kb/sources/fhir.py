"""FHIR R4 JSON to patient records.

Reads a Bundle of any type, an array of resources, one resource, or NDJSON. Nothing outside the
input is ever looked up. What each resource says is in `sarc_kb.sources.fhir_resources`.
"""

from __future__ import annotations

import hashlib
import io
from dataclasses import replace

from sarc_kb.errors import Finding, InputError
from sarc_kb.facts import PatientRecord
from sarc_kb.sources.fhir_bundle import Contents
from sarc_kb.sources.fhir_dataset import FhirDataSet
from sarc_kb.sources.fhir_index import Index
from sarc_kb.sources.fhir_json import BOM, Limits, Parser, RefusedError, has_lines
from sarc_kb.sources.fhir_patient import Household, at_most_warnings, count
from sarc_kb.sources.fhir_resources.findings import finding
from sarc_kb.sources.fhir_resources.terms import FhirTerms

__all__ = ["FhirDataSet", "FhirTerms", "Limits", "read_fhir"]


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
    ``problems``, if given, receives it as what it is. NDJSON of any length is better read as a
    `FhirDataSet`, which keeps it on disk.

    Raises:
        InputError: the bytes are not FHIR JSON, or no patient is in them. A faulty line of
            NDJSON is a finding, and the other lines are read.
    Source: FHIR R4 (4.0.1): JSON, Bundle (resolving references), Bulk Data (NDJSON).
    """
    limits = limits or Limits()
    problems = [] if problems is None else problems
    if len(data) > limits.size:
        raise InputError(finding("DATA107", origin, f"more than {limits.size} bytes"))
    parser = Parser(limits.depth)
    found = Household(terms)
    plain = data.removeprefix(BOM)
    try:
        document = parser.parse(plain)
    except RefusedError as refused:
        if not has_lines(plain):
            raise InputError(finding(refused.code, origin, refused.found)) from None
        with FhirDataSet(terms, origin, limits=limits) as dataset:
            dataset.add(io.BytesIO(data), origin, "")
            records = list(dataset.records())
            problems += dataset.problems
            if not records:
                nobody = finding("DATA111", origin, "no patient in the input")
                raise InputError(nobody, *dataset.problems) from None
            return records
    if plain is not data:
        found.shared.append(finding("DATA108", "byte 0", "a byte order mark"))
    contents = Contents()
    contents.add(document, "", found.shared)
    index = Index(contents, modified=parser.modified)
    index.judge()
    for entry in index.entries:
        found.read(entry, index)
    located = [replace(f, where=f"{origin} {f.where}") for f in found.shared]
    if not found.homes:
        raise InputError(finding("DATA111", origin, "no patient in the input"), *located)
    problems += located
    told = at_most_warnings([*found.shared, *count(found.unused, origin)])
    digest = hashlib.sha256(data).hexdigest()
    return [found.homes[name].record(origin, digest, told) for name in sorted(found.homes)]
