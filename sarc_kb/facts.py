"""Clinical facts: what every source becomes, and the only thing that later steps read.

A fact is kept as the record has it: codes are not yet mapped, units not yet converted, nothing is
judged. ``docs/data-model.md`` describes the same thing as RDF; `sarc_kb.sources.rdf` reads that.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal

from sarc_kb.dates import PartialDate
from sarc_kb.errors import Finding


@dataclass(frozen=True, slots=True)
class Fact:
    """One dated, coded, sourced statement of a patient's record.

    ``id`` is unique within the patient and does not depend on blank-node labels. IRIs are plain
    strings: of the ontology, or of a code in a code system. ``value_text`` holds a numeric result
    that could not be read as a number. ``start is end is None``: undated. ``ongoing`` True means
    that it had not ended when recorded; None that nobody said.
    """

    id: str
    kind: str | None = None
    concepts: tuple[str, ...] = ()
    value: Decimal | None = None
    value_text: str | None = None
    comparator: str | None = None
    unit: str | None = None
    value_concepts: tuple[str, ...] = ()
    upper_limit: Decimal | None = None
    upper_limit_unit: str | None = None
    start: PartialDate | None = None
    end: PartialDate | None = None
    ongoing: bool | None = None
    recorded: PartialDate | None = None
    status: str | None = None
    axes: tuple[tuple[str, str], ...] = ()
    tumour: str | None = None
    source: str = ""
    performer: str | None = None
    basis: str | None = None


@dataclass(frozen=True, slots=True)
class PatientRecord:
    """One patient as read from one source.

    ``patient`` is the IRI or identifier reports use; ``origin`` the file or table; ``sha256`` the
    hash of the input bytes; ``labels`` what the record itself calls its codes (code IRI to text),
    for reports only. ``findings`` say what was ignored or could not be read. ``observed``: the
    periods (first and last day) in which the source saw the patient at all; None where the source
    has no such notion.
    """

    patient: str
    label: str
    entry: PartialDate | None
    facts: tuple[Fact, ...]
    origin: str = ""
    sha256: str = ""
    findings: tuple[Finding, ...] = ()
    labels: Mapping[str, str] = field(default_factory=dict)
    observed: tuple[tuple[int, int], ...] | None = None
