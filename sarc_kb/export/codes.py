"""Codes of public code systems for the terms that rules name, from the tables of mappings.

Only rows that somebody has verified are exported; a term without one is named by its own IRI alone,
and the account says so.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from sarc_kb.rulebook.vocabulary import read_mappings
from sarc_kb.terminology import Terminology

OMOP = "https://athena.ohdsi.org/search-terms/terms/"
UCUM = "http://unitsofmeasure.org"
_OMOP_UNIT = "OMOP:"
# How HL7 names code systems (FHIR R4, "Using Code Systems"); the ontology also lists other names
# that records use.
_REGISTERED = frozenset(
    (
        "http://snomed.info/sct",
        "http://loinc.org",
        "http://www.nlm.nih.gov/research/umls/rxnorm",
        "http://www.whocc.no/atc",
        "http://hl7.org/fhir/sid/icd-10",
        "http://hl7.org/fhir/sid/icd-10-cm",
        "http://terminology.hl7.org/CodeSystem/icd-o-3",
        "http://ncicb.nci.nih.gov/xml/owl/EVS/Thesaurus.owl",
        "http://hl7.org/fhir/administrative-gender",
        "http://terminology.hl7.org/CodeSystem/v3-ObservationInterpretation",
    )
)


@dataclass(frozen=True, slots=True)
class Code:
    """A verified code of a term: ``system`` as HL7 names it; ``exact`` where it means the same, else
    it means something narrower."""

    system: str
    code: str
    display: str
    term: str
    exact: bool


class Codebook:
    """The verified codes of all terms."""

    def __init__(self, terms: Terminology, root: Path) -> None:
        self.terms = terms
        systems = {p: uri for uri, p in sorted(terms.code_systems.items()) if uri in _REGISTERED}
        systems[OMOP] = OMOP
        self._codes: dict[str, list[Code]] = {}
        for row in read_mappings(terms, root / "ontology" / "mappings"):
            prefix = row.code.removesuffix(row.text)
            certain = row.predicate in ("exactMatch", "broadMatch")
            if row.verified and certain and prefix in systems:
                exact = row.predicate == "exactMatch"
                found = Code(systems[prefix], row.text, row.label, row.term, exact)
                self._codes.setdefault(row.term, []).append(found)
        self._intervals: dict[str, list[Code]] = {}
        for row in read_mappings(terms, root / "ontology" / "alignments"):
            prefix = row.code.removesuffix(row.text)
            if row.verified and prefix in systems:
                found = Code(systems[prefix], row.text, row.label, row.term, exact=True)
                self._intervals.setdefault(row.term, []).append(found)
        self.unit_concepts = _unit_concepts(terms)

    def public(self, term: str) -> tuple[Code, ...]:
        """Return the codes that mean what ``term`` means, OMOP concept ids apart."""
        return tuple(c for c in self._codes.get(term, ()) if c.exact and c.system != OMOP)

    def since_birth(self, measured_in: str) -> tuple[Code, ...]:
        """Return the codes of an interval from birth that is measured so."""
        return tuple(self._intervals.get(measured_in, ()))

    def concepts(self, term: str) -> tuple[Code, ...]:
        """Return the OMOP concept ids of ``term`` and what is below it."""
        below = sorted(self.terms.down(term))
        found = {c.code: c for t in below for c in self._codes.get(t, ()) if c.system == OMOP}
        return tuple(found[code] for code in sorted(found, key=int))

    def covered(self, term: str) -> bool:
        """Whether every most specific term below has an OMOP concept id, its own or that of a term
        between: then the concepts together mean what ``term`` means."""
        below = self.terms.down(term)
        known = {
            t for t in below if any(c.exact and c.system == OMOP for c in self._codes.get(t, ()))
        }
        leaves = (t for t in below if self.terms.down(t) <= {t})
        return all(self.terms.up(leaf) & known for leaf in leaves)


def _unit_concepts(terms: Terminology) -> dict[str, tuple[int, ...]]:
    """Return UCUM unit -> OMOP concept ids, which are listed among the spellings of units."""
    found: dict[str, list[int]] = {}
    for spelling, unit in terms.spellings.items():
        if spelling.startswith(_OMOP_UNIT):
            found.setdefault(unit, []).append(int(spelling.removeprefix(_OMOP_UNIT)))
    return {unit: tuple(sorted(concepts)) for unit, concepts in found.items()}
