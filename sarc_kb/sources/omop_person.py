"""One person's rows of an OMOP source as a patient record.

Codes stay codes and units stay units; what a row is about is looked up in the mapping tables only to
tell what kind of fact it is. Nothing is read out of a name. `docs/omop.md` says which field becomes
what.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Container, Iterator, Mapping
from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import Any
from urllib.parse import quote

from sarc_kb.dates import PartialDate, iso, parse_date
from sarc_kb.facts import Fact, PatientRecord
from sarc_kb.namespaces import text_iri
from sarc_kb.sources.limits import MAX_DIGITS
from sarc_kb.sources.omop_cdm import (
    ADMINISTRATIONS,
    FIELDS_OF_TABLES,
    NO_CONCEPT,
    OPERATORS,
    ORDER,
    Concept,
    Row,
    Vocabulary,
)
from sarc_kb.sources.omop_findings import finding

PERSON = "urn:sarc-kb:omop:person:"
# What OMOP itself calls the vocabulary of its own concept ids.
OWN = "None"
UCUM = "UCUM"
_UNKNOWN_VOCABULARY = "urn:sarc-kb:omop:vocabulary:"

Terms = tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class OmopTerms:
    """What the reader must know of the knowledge base.

    ``vocabularies``: OMOP's id of a vocabulary to the IRI prefix of its codes. ``mappings``: code
    IRI to its terms, each with the predicate; ``sites``: code IRI to the body sites in it.
    ``known``: all terms. ``kinds``: term to the kind of record it is found in. ``axes``: term to the
    axis that rules look for it on. ``result_of``: term to the finding that it is a result of. ``units``: spellings of units. ``questions``, ``studies``: as for
    FHIR. ``term``: local name to IRI of the vocabulary.
    """

    vocabularies: Mapping[str, str]
    mappings: Mapping[str, Terms]
    sites: Mapping[str, tuple[str, ...]]
    known: Container[str]
    kinds: Mapping[str, str]
    axes: Mapping[str, str]
    result_of: Mapping[str, str]
    units: Container[str]
    questions: Mapping[str, str]
    studies: Mapping[str, str]
    term: Callable[[str], str]

    def read(self, iri: str) -> Terms:
        """Return the terms of a code, each with the predicate of its mapping."""
        return ((iri, "exactMatch"),) if iri in self.known else self.mappings.get(iri, ())

    def codes(self, concept_id: str, concept: Concept | None) -> tuple[str, ...]:
        """Return the IRIs of a concept: its id's, and that of its code in its own vocabulary."""
        own = self.vocabularies[OWN] + concept_id
        if concept is None or not concept.code or concept.vocabulary == OWN:
            return (own,)
        prefix = self.vocabularies.get(concept.vocabulary)
        if prefix is None:
            prefix = f"{_UNKNOWN_VOCABULARY}{quote(concept.vocabulary, safe='')}/"
        parts = _parts(concept.code)[0] or (concept.code,)
        return (own, *(prefix + quote(part, safe=_PLAIN) for part in parts if part))

    def topography(self, concept: Concept | None) -> tuple[str, ...]:
        """Return the code of the site in a pre-coordinated code of histology and site."""
        prefix = self.vocabularies.get(concept.vocabulary) if concept else None
        sites = _parts(concept.code)[1] if concept and prefix else ()
        return tuple(f"{prefix}{site}" for site in sites)

    def reads(self, concept_id: str, concept: Concept | None) -> bool:
        """Whether a mapping reads the concept."""
        return any(self.read(iri) for iri in self.codes(concept_id, concept))


_PLAIN = "/:.-_~!$&'()*+,;=@"
_HISTOLOGY_AND_SITE = re.compile(r"(\d{4}/\d|NULL)-(C\d\d(?:\.\d)?|NULL)", re.ASCII)


def _parts(code: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the morphology and the topography of a pre-coordinated code; else nothing.

    Source: OHDSI OncologyWG, ICDO3 conditions: morphology, a hyphen, topography; NULL for none.
    """
    match = _HISTOLOGY_AND_SITE.fullmatch(code)
    if match is None:
        return (), ()
    histology, site = ((part,) if part != "NULL" else () for part in match.groups())
    return (histology or ("",), site)


@dataclass(frozen=True, slots=True)
class Codes:
    """The codings of one thing, the sites in them, and codes of which it may only be one; ``own``
    are those of the concept itself, without its ancestors'."""

    concepts: tuple[str, ...] = ()
    sites: tuple[str, ...] = ()
    perhaps: tuple[str, ...] = ()
    own: tuple[str, ...] = ()


def _looked_up(concept_id: str, terms: OmopTerms, vocabulary: Vocabulary) -> tuple[Codes, str]:
    """Return the codings of a concept, and its name."""
    concept = vocabulary.concepts.get(concept_id)
    own = terms.codes(concept_id, concept)
    sites = (*terms.topography(concept), *(s for iri in own for s in terms.sites.get(iri, ())))
    certain: list[str] = []
    possible: list[str] = []
    for ancestor in vocabulary.above.get(concept_id, ()):
        for iri in terms.codes(ancestor, vocabulary.concepts.get(ancestor)):
            read = terms.read(iri)
            if any(predicate != "narrowMatch" for _, predicate in read):
                certain.append(iri)
            elif read:
                possible.append(iri)
    codes = Codes(
        tuple(dict.fromkeys((*own, *(certain or possible)))),
        tuple(dict.fromkeys(sites)),
        tuple(dict.fromkeys(possible)) if certain else (),
        own,
    )
    return codes, concept.name if concept else ""


@dataclass
class _Person:
    """A person while the rows are read."""

    terms: OmopTerms
    vocabulary: Vocabulary
    rows: list[Row]
    facts: list[Fact] = field(default_factory=list)
    labels: dict[str, str] = field(default_factory=dict)
    entries: dict[str, PartialDate] = field(default_factory=dict)
    notes: dict[tuple[str, str], list[str]] = field(default_factory=dict)
    at: dict[tuple[str, str], Row] = field(default_factory=dict)
    episodes_of: dict[tuple[str, str], set[str]] = field(default_factory=dict)
    births: list[PartialDate] = field(default_factory=list)
    deaths: list[PartialDate] = field(default_factory=list)

    def note(self, code: str, row: Row, found: str) -> None:
        """Note something odd about a row; what is said of many rows is told once."""
        self.notes.setdefault((code, found), []).append(_name(row))

    def term(self, name: str) -> str:
        return self.terms.term(name)

    # -- codes ---------------------------------------------------------------------------------

    def _codings(self, concept_id: str | None) -> Codes:
        """Return what a concept id stands for; what no mapping reads, through its ancestors."""
        if concept_id is None or concept_id == NO_CONCEPT:
            return Codes()
        known = self.vocabulary.codings
        if concept_id not in known:
            known[concept_id] = _looked_up(concept_id, self.terms, self.vocabulary)
        codes: Codes = known[concept_id][0]
        name: str = known[concept_id][1]
        if name:
            for iri in codes.own:
                self.labels.setdefault(iri, name)
        return codes

    def _readable(self, codes: tuple[str, ...]) -> bool:
        return any(self.terms.read(iri) for iri in codes)

    def about(self, row: Row) -> tuple[Codes, bool]:
        """Return what a row is about, and whether that is certain.

        The standard concept and the source concept are codings of one thing. The text of the
        source counts where neither is read.
        """
        standard, source = self._codings(row.concept), self._codings(row.source_concept)
        certain = True
        concept = self.vocabulary.concepts.get(row.concept or "")
        if row.concept in (None, NO_CONCEPT) and not self._readable(source.concepts):
            self.note("DATA222", row, f"{row.table} without a standard concept")
        elif concept is not None and not (concept.standard and concept.valid):
            what = "not a standard one" if concept.valid else "no longer valid"
            self.note("DATA223", row, f"concept {row.concept} is {what}")
            if self._readable(source.concepts):
                standard = Codes()
            else:
                certain = not self._readable(standard.concepts)
        codes = Codes(
            tuple(dict.fromkeys((*standard.concepts, *source.concepts))),
            tuple(dict.fromkeys((*standard.sites, *source.sites))),
            standard.perhaps or source.perhaps,
        )
        coded = (self.vocabulary.concepts.get(i or "") for i in (row.concept, row.source_concept))
        text = row.source_value
        if text and not self._readable(codes.concepts) and text not in {c.code for c in coded if c}:
            codes = replace(codes, concepts=(*codes.concepts, text_iri(text)))
        if not codes.concepts:
            codes = replace(codes, concepts=(self.terms.vocabularies[OWN] + NO_CONCEPT,))
        return codes, certain

    def value(self, row: Row) -> tuple[str, ...]:
        """Return the codings of a coded result, or the text of one that has no code."""
        codes = self._codings(row.value).concepts
        text = row.text or row.value_source
        if self._readable(codes) or (row.value is None and row.number is not None):
            return codes
        if text and (row.text or row.number is None):
            return (*codes, text_iri(text))
        return codes or (
            (self.terms.vocabularies[OWN] + NO_CONCEPT,)
            if row.value == NO_CONCEPT and row.number is None and row.value_source
            else ()
        )

    def terms_of(self, codes: tuple[str, ...]) -> set[str]:
        return {t for iri in codes for t, p in self.terms.read(iri) if p != "narrowMatch"}

    def kind(self, codes: tuple[str, ...], default: str | None) -> str | None:
        """Return the kind of a fact: that of the table, unless what it is about has another."""
        read = [tp for iri in codes for tp in self.terms.read(iri)]
        found = self.terms_of(codes) or {t for t, _ in read}
        natural = {self.terms.kinds[t] for t in found if t in self.terms.kinds}
        usual = self.term(default) if default else None
        return usual if not natural or usual in natural else min(natural)

    def unit(self, concept_id: str | None, source: str | None) -> str | None:
        """Return the UCUM code of a unit concept, else the unit as the source writes it."""
        if concept_id in (None, NO_CONCEPT):
            return source
        assert concept_id is not None
        concept = self.vocabulary.concepts.get(concept_id)
        if concept is not None and concept.vocabulary == UCUM and concept.code:
            return concept.code
        named = f"OMOP:{concept_id}"
        return named if named in self.terms.units else source or named

    def route(self, row: Row) -> tuple[tuple[str, str], ...]:
        codes = self._codings(row.route).concepts
        return tuple((self.term("route"), iri) for iri in codes if self.terms.read(iri))

    def on_axis(self, concept_id: str | None) -> tuple[tuple[str, str], ...]:
        """Return a qualifying concept on the axis that rules look for it on."""
        codes = self._codings(concept_id).concepts
        return tuple(
            sorted({(self.terms.axes[t], t) for t in self.terms_of(codes) if t in self.terms.axes})
        )

    def split_result(self, codes: Codes) -> tuple[Codes, tuple[str, ...]]:
        """Return a result that is recorded alone, as a Cancer Modifier is, as its finding and
        itself."""
        of = self.terms.result_of
        found = {of[t] for t in self.terms_of(codes.concepts) if t in of}
        if len(found) != 1:
            return codes, ()
        return replace(codes, concepts=(found.pop(),)), codes.concepts

    # -- dates and numbers ---------------------------------------------------------------------

    def date(self, row: Row, text: str | None) -> PartialDate | None:
        try:
            return _day(text) if text else None
        except ValueError:
            self.note("DATA225", row, "a date that is none")
            return None

    def moment(
        self, row: Row, day_text: str | None, time_text: str | None
    ) -> tuple[PartialDate | None, PartialDate | None]:
        """Return when something was, and by when at the latest where that is all that is known."""
        day = self.date(row, day_text)
        try:
            time, zoned = _time(time_text) if time_text else (None, False)
        except ValueError:
            self.note("DATA225", row, "a time that is none")
            time, zoned = None, False
        if day is None or time is None:
            return day or time, None
        if time.first == day.first:
            return time, None
        if zoned and abs(time.first - day.first) == 1:
            # The day where it was recorded; the time is told in another zone.
            return day, None
        self.note("DATA226", row, "date and datetime name two days")
        return None, max(day, time, key=lambda d: d.first)

    def extent(self, row: Row) -> dict[str, Any]:
        """Return start, end and record date of a row; its visit's where it has none itself."""
        start, recorded = self.moment(row, row.start, row.start_time)
        end, _ = self.moment(row, row.end, row.end_time)
        visit = self.at.get(("visit_occurrence", row.visit or ""))
        if start is None and recorded is None and visit is not None:
            first, last = self.date(visit, visit.start), self.date(visit, visit.end)
            if first and last and first.first == last.first:
                start = first
            else:
                recorded = last
        return {"start": start, "end": end, "recorded": recorded}

    def number(self, row: Row, text: str | None) -> Decimal | None:
        try:
            return _number(text) if text else None
        except ValueError:
            self.note("DATA227", row, "a number that is none")
            return None

    def out_of_life(self, row: Row, when: Mapping[str, Any]) -> bool:
        """Whether it happened after the recorded death, or before the birth."""
        start = when["start"]
        if start is None:
            return False
        if self.deaths and start.first > max(d.last for d in self.deaths):
            self.note("DATA224", row, f"{row.table} after the recorded death")
            return True
        if self.births and start.last < min(b.first for b in self.births):
            self.note("DATA224", row, f"{row.table} before birth")
            return True
        return False

    # -- which tumour --------------------------------------------------------------------------

    def linked(self, row: Row) -> Row | None:
        """Return the row that ``row`` belongs to; a link that leads nowhere is noted."""
        if row.event in (None, NO_CONCEPT):
            return None
        table = self.table_of(row.event_field)
        found = self.at.get((table or "", row.event or ""))
        if found is None:
            self.note("DATA231", row, f"{row.table} linked to a row that is not there")
        return found

    def table_of(self, concept_id: str | None) -> str | None:
        """Return the table that a field of the CDM, given as a concept, is the key of."""
        concept = self.vocabulary.concepts.get(concept_id or "")
        for text in (concept.name, concept.code) if concept else ():
            table = text.lower().partition(".")[0]
            if "." in text and table in ORDER:
                return table
        return FIELDS_OF_TABLES.get(concept_id or "")

    def tumour(self, row: Row, depth: int = 0) -> str | None:
        """Return a name that all facts of one tumour share.

        The outermost episode says which tumour; else a diagnosis is one tumour with all others of
        the same concept, as in condition_era, and what is linked to it is that tumour's.
        """
        outer = {self.outermost(e) for e in self.episodes_of.get((row.table, row.id or ""), ())}
        if row.table == "episode" and row.id:
            outer = {self.outermost(row.id)}
        if len(outer) == 1:
            return f"episode/{outer.pop()}"
        if outer:
            self.note("DATA231", row, f"{row.table} in episodes of several diseases")
            return None
        if row.table == "condition_occurrence":
            coded = next(
                (c for c in (row.concept, row.source_concept) if c not in (None, "0")), None
            )
            name = coded or quote(row.source_value or row.id or "", safe="")
            return f"condition/{name}"
        other = self.linked(row) if depth < 3 else None
        return self.tumour(other, depth + 1) if other is not None else None

    def outermost(self, episode: str) -> str:
        seen: list[str] = []
        while episode not in seen:
            seen.append(episode)
            row = self.at.get(("episode", episode))
            if (
                row is None
                or row.parent in (None, NO_CONCEPT)
                or ("episode", row.parent) not in self.at
            ):
                return episode
            episode = row.parent or episode
        return min(seen)  # a circle of parents is one disease

    # -- facts ---------------------------------------------------------------------------------

    def add(self, row: Row, codes: Codes, kind: str | None, *, part: str = "", **rest: Any) -> None:
        """Add the fact of a row, and a second one for what it may be as well."""
        name = _name(row) + part
        axes = dict.fromkeys(rest.pop("axes", ()))
        axes |= dict.fromkeys((self.term("bodySite"), site) for site in codes.sites)
        fact = Fact(
            id=name, kind=kind, concepts=codes.concepts, source=name, axes=tuple(axes), **rest
        )
        self.facts.append(fact)
        if codes.perhaps:
            self.facts.append(replace(fact, id=f"{name}#perhaps", concepts=codes.perhaps))

    def status(self, *doubts: bool) -> str:
        return self.term("Suspected" if any(doubts) else "Confirmed")


# -- one function a table --------------------------------------------------------------------


def _person(p: _Person, row: Row) -> None:
    born = _birth(p, row)
    if born is not None:
        p.births.append(born)
        p.add(
            row,
            Codes((p.term("Birth"),)),
            p.term("Demographic"),
            part="#birth",
            start=born,
            end=born,
        )
    if row.concept is not None or row.source_value:
        sex = p.about(row)[0].concepts
        p.add(row, Codes((p.term("Sex"),)), p.term("Demographic"), part="#sex", value_concepts=sex)


def _birth(p: _Person, row: Row) -> PartialDate | None:
    """Return the date of birth as far as it is given; a day without a month says nothing."""
    text = ""
    for name, width in (("year", 4), ("month", 2), ("day", 2)):
        part = getattr(row, name)
        if not part:
            break
        try:
            number = _number(part)
            if number != int(number) or not 0 < number < 10**width:
                raise ValueError
            candidate = f"{text}{'-' if text else ''}{int(number):0{width}}"
            parse_date(candidate)
        except ValueError:
            p.note("DATA225", row, f"a {name} of birth that is none")
            break
        text = candidate
    return parse_date(text) if text else None


def _death(p: _Person, row: Row) -> None:
    died, recorded = p.moment(row, row.start, row.start_time)
    if died is not None:
        p.deaths.append(died)
    p.add(
        row,
        Codes((p.term("Death"),)),
        p.term("Demographic"),
        start=died,
        end=died,
        recorded=recorded,
    )


def _condition(p: _Person, row: Row) -> None:
    codes, certain = p.about(row)
    when = p.extent(row)
    doubt = p.out_of_life(row, when) or not certain
    p.add(
        row,
        codes,
        p.kind(codes.concepts, "Condition"),
        status=_condition_status(p, row) or p.status(doubt),
        tumour=p.tumour(row),
        **when,
    )


def _condition_status(p: _Person, row: Row) -> str | None:
    """Return a status that makes a diagnosis doubtful or void; None if nothing does."""
    if row.status in (None, NO_CONCEPT) and not row.status_source:
        return None
    codes = p._codings(row.status).concepts or (text_iri(row.status_source or ""),)
    if row.status_source and not p._readable(codes):
        codes = (*codes, text_iri(row.status_source))
    said = p.terms_of(codes) & {
        p.term(s) for s in ("Confirmed", "Suspected", "Refuted", "EnteredInError")
    }
    if said == {p.term("Confirmed")}:
        return None
    if len(said) == 1:
        return said.pop()
    p.note(
        "DATA230", row, f"a status of a condition that no mapping reads: {row.status or 'a text'}"
    )
    return p.term("Suspected")


def _procedure(p: _Person, row: Row) -> None:
    codes, certain = p.about(row)
    when = p.extent(row)
    doubt = p.out_of_life(row, when) or not certain
    if when["end"] is None and when["start"] is not None:
        when["end"] = when["start"]  # without an end it was on its day
    p.add(
        row,
        codes,
        p.kind(codes.concepts, "Procedure"),
        status=p.status(doubt),
        tumour=p.tumour(row),
        axes=p.on_axis(row.qualifier),
        **when,
    )


def _drug(p: _Person, row: Row) -> None:
    codes, certain = p.about(row)
    when = p.extent(row)
    doubt = p.out_of_life(row, when) or not certain
    # What the source says is the end stands before what the CDM fills in.
    when["end"] = p.date(row, row.verbatim_end) or when["end"]
    days = p.number(row, row.days)
    if when["end"] is None and when["start"] is not None and days is not None and 1 <= days < 10**5:
        when["end"] = parse_date(iso(when["start"].first + int(days) - 1))
    p.add(
        row,
        codes,
        p.kind(codes.concepts, "MedicationUse"),
        status=p.status(doubt),
        tumour=p.tumour(row),
        axes=p.route(row),
        **when,
        **_dose(p, row, when),
    )


def _dose(p: _Person, row: Row, when: Mapping[str, Any]) -> dict[str, Any]:
    """Return the dose of one administration, where the row says it exactly.

    That is the quantity of a record of something given, times the strength of the product or in the
    unit that the row names; or one unit of a product for one day. What was dispensed or ordered is
    many doses, and how many is said nowhere.
    """
    quantity = p.number(row, row.quantity)
    strength = p.vocabulary.strengths.get(row.concept or "")
    if quantity is None or quantity <= 0:
        return {}
    given = row.type in ADMINISTRATIONS
    one_day = when["start"] is not None and when["end"] is not None
    one_day = one_day and when["start"].first == when["end"].last
    if strength is not None and (given or (one_day and quantity == 1)):
        amount = p.number(row, strength.amount)
        unit = p.unit(strength.unit, None)
        if amount is not None and unit:
            return {"value": quantity * amount, "unit": unit}
    if strength is None and given and row.unit_source:
        return {"value": quantity, "unit": row.unit_source}
    return {}


def _device(p: _Person, row: Row) -> None:
    codes, certain = p.about(row)
    when = p.extent(row)
    doubt = p.out_of_life(row, when) or not certain
    codes, results = p.split_result(codes)
    kind = p.kind(codes.concepts, "Procedure")
    p.add(row, codes, kind, status=p.status(doubt), value_concepts=results, **when)


def _episode(p: _Person, row: Row) -> None:
    when = p.extent(row)
    doubt = p.out_of_life(row, when)
    common: dict[str, Any] = {"status": p.status(doubt), "tumour": p.tumour(row), **when}
    codes = p._codings(row.object)
    if codes.concepts:
        p.add(row, codes, p.kind(codes.concepts, None), **common)
    phase = p._codings(row.concept)
    if p._readable(phase.concepts):
        p.add(row, phase, p.kind(phase.concepts, None), part="#phase", **common)


def _result(p: _Person, row: Row) -> dict[str, Any]:
    """Return the fields of a fact that a numeric or coded result fills."""
    found: dict[str, Any] = {"value_concepts": p.value(row)}
    number = p.number(row, row.number)
    if row.number is not None:
        found["unit"] = p.unit(row.unit, row.unit_source)
        known = row.operator in (None, NO_CONCEPT) or row.operator in OPERATORS
        if not known:
            p.note("DATA228", row, "an operator that the CDM does not have")
        if number is None or not known:
            found["value_text"] = "not a number"
        else:
            found |= {"value": number, "comparator": OPERATORS.get(row.operator or "")}
    elif row.value_source and row.value in (None, NO_CONCEPT):
        found["value_text"] = "a result without a number"
    if row.high is not None:
        try:
            found["upper_limit"] = _number(row.high)
        except ValueError:
            p.note("DATA229", row, "a range_high that is no number")
    return found


# Kinds whose facts say that something is so, and have no result.
_PLAIN_KINDS = ("Condition", "Procedure", "MedicationUse", "Allergy", "FamilyHistory")
# Facts of these are known to have been by the day they were written down.
_RECORDED = ("ClinicalFact", "Condition", "Procedure", "MedicationUse", "Allergy", "FamilyHistory")


def _measurement(p: _Person, row: Row) -> None:
    """Read a row of measurement or observation: a result, or the statement that something is so."""
    if row.table == "observation" and _answer(p, row):
        return
    codes, certain = p.about(row)
    when = p.extent(row)
    doubt = p.out_of_life(row, when) or not certain
    about = p.terms_of(codes.concepts)
    if p.term("StudyEntry") in about:
        _entry(p, row, when["start"])
        return
    if spoken := about & {p.term(k) for k in _RECORDED}:
        # "Family history of", "history of", "allergy to": the value says of what.
        what = p.value(row) or (p.terms.vocabularies[OWN] + NO_CONCEPT,)
        recorded = when["start"] or when["recorded"]
        general = p.term("ClinicalFact") in spoken
        kind = p.kind(what, "Condition") if general else min(spoken)
        p.add(row, Codes(what), kind, status=p.status(doubt), recorded=recorded)
        return
    codes, results = p.split_result(codes)
    kind = p.kind(codes.concepts, "Measurement")
    axes = [*p.on_axis(row.qualifier), *_made_by(p, row)]
    if when["end"] is None:
        when["end"] = when["start"]
    fields = {"value_concepts": results} if results else _result(p, row)
    if kind in {p.term(k) for k in _PLAIN_KINDS}:
        said = p.terms_of(fields["value_concepts"])
        status = p.status(doubt)
        if p.term("No") in said:
            status = p.term("Refuted")
        elif p.term("Yes") not in said and (row.number or fields["value_concepts"]):
            p.note("DATA235", row, f"a {row.table} with a value that is not yes or no")
            status = p.term("Suspected")
        fields = {}
        when["end"] = None if when["start"] is not None else when["end"]
    elif kind == p.term("StudyParticipation"):
        fields = {}
        when["end"] = None
        if row.text:
            study = p.terms.studies.get(row.text.strip().upper()) or text_iri(row.text)
            axes.append((p.term("study"), study))
        status = p.status(doubt)
    else:
        status = p.status(doubt)
    p.add(
        row,
        codes,
        kind,
        status=status,
        tumour=p.tumour(row),
        axes=axes,
        performer=_provider(row),
        **when,
        **fields,
    )


def _made_by(p: _Person, row: Row) -> Iterator[tuple[str, str]]:
    """Yield how a finding was made: the procedure, or the specimen, that it is linked to.

    A procedure that is recorded for its own sake, such as a resection, is no way of finding out.
    """
    other = p.linked(row)
    axis = {"procedure_occurrence": "method", "specimen": "specimen"}
    if other is not None and other.table in axis:
        codes = p._codings(other.concept).concepts + p._codings(other.source_concept).concepts
        if other.table == "specimen" or not p.terms_of(codes) & p.terms.kinds.keys():
            for iri in dict.fromkeys(codes):
                if p.terms.read(iri):
                    yield p.term(axis[other.table]), iri


def _entry(p: _Person, row: Row, when: PartialDate | None) -> None:
    """Note the day of entry, unless the row names another study than the trial."""
    studies = p.terms.studies
    if row.text and row.text.strip().upper() not in {s.upper() for s in studies}:
        return
    if when is not None:
        p.entries[when.text[:10]] = parse_date(when.text[:10])


_WORDS = {"yes": "Yes", "true": "Yes", "no": "No", "false": "No", "unknown": "Unknown"}


def _answer(p: _Person, row: Row) -> bool:
    """Add the answer to a question of the checklist, if the row is one.

    It names the question in its source value, and has no concept of its own: a rule id such as a
    letter and a number may also be somebody's code.
    """
    asked = _asked(p, row)
    if asked is None:
        return False
    codes = p.value(row)
    said = p.terms_of(codes) & {p.term(w) for w in ("Yes", "No", "Unknown")}
    if word := _WORDS.get((row.text or row.value_source or "").strip().lower()):
        said.add(p.term(word))
    if not said and not codes and row.number is None:
        return False
    when = p.extent(row)
    start = when["start"]
    p.add(
        row,
        Codes((asked,)),
        p.term("Attestation"),
        start=start,
        end=start,
        recorded=when["recorded"],
        value_concepts=tuple(sorted(said)) or codes,
        performer=_provider(row),
    )
    return True


def _asked(p: _Person, row: Row) -> str | None:
    """Return the question or rule that a row answers."""
    for concept_id in (row.concept, row.source_concept):
        for term in p._codings(concept_id).concepts:
            if term in p.terms.questions.values():
                return term
    if {row.concept, row.source_concept} <= {None, NO_CONCEPT}:
        return p.terms.questions.get((row.source_value or "").strip())
    return None


def _provider(row: Row) -> str | None:
    return f"provider/{row.provider}" if row.provider not in (None, NO_CONCEPT) else None


_READERS: Mapping[str, Callable[[_Person, Row], None]] = {
    "person": _person,
    "death": _death,
    "episode": _episode,
    "condition_occurrence": _condition,
    "procedure_occurrence": _procedure,
    "drug_exposure": _drug,
    "device_exposure": _device,
    "measurement": _measurement,
    "observation": _measurement,
}


# -- the record ------------------------------------------------------------------------------


def read_person(
    rows: list[Row], terms: OmopTerms, vocabulary: Vocabulary, origin: str
) -> PatientRecord:
    """Return the record of one person, whatever the order of the rows.

    ``rows`` are all of one person's. A fault of a row is a finding of the record; one that leaves
    open who the person is makes the record one that cannot be judged.
    """
    tidy, lines = _tidied(rows)
    p = _Person(terms, vocabulary, tidy)
    number = tidy[0].person
    for row in tidy:
        if row.table == "episode_event":
            table = p.table_of(row.event_field)
            if table is None or not row.event or not row.id:
                p.note("DATA231", row, "an episode_event that leads to no table that is known")
            else:
                p.episodes_of.setdefault((table, row.event), set()).add(row.id)
        elif row.id and p.at.setdefault((row.table, row.id), row) is not row:
            p.note("DATA234", row, f"{row.table} with the key of another row")
    for row in tidy:
        if row.table in _READERS:
            _READERS[row.table](p, row)
    where = f"person/{number}"
    findings = [
        finding(code, names[0], found if len(names) == 1 else f"{found} ({len(names)} rows)")
        for (code, found), names in p.notes.items()
    ]
    persons = sum(row.table == "person" for row in tidy)
    if persons > 1:
        findings.append(finding("DATA220", where, f"{persons} rows in the table person"))
    observed = _observed(p)
    if not observed:
        findings.append(finding("DATA221", where, "no observation period"))
    if len(p.entries) > 1:
        findings.append(finding("DATA232", where, "several dates of entry"))
    digest = hashlib.sha256("\n".join(lines).encode())
    return PatientRecord(
        patient=PERSON + quote(number, safe=""),
        label=number,
        entry=next(iter(p.entries.values())) if len(p.entries) == 1 else None,
        facts=_numbered(p),
        origin=origin,
        sha256=digest.hexdigest(),
        findings=tuple(sorted(set(findings), key=lambda f: (f.code, f.where, f.found))),
        labels=p.labels,
        observed=observed,
    )


def _observed(p: _Person) -> tuple[tuple[int, int], ...]:
    """Return the periods of observation, first and last day, joined where they touch."""
    periods = []
    for row in p.rows:
        if row.table == "observation_period":
            start, end = p.date(row, row.start), p.date(row, row.end)
            if start is not None and end is not None and start.first <= end.last:
                periods.append((start.first, end.last))
    joined: list[tuple[int, int]] = []
    for first, last in sorted(periods):
        if joined and first <= joined[-1][1] + 1:
            joined[-1] = (joined[-1][0], max(last, joined[-1][1]))
        else:
            joined.append((first, last))
    return tuple(joined)


def _numbered(p: _Person) -> tuple[Fact, ...]:
    """Return the facts in the order of their rows, each with an id of its own."""
    seen: dict[str, int] = {}
    out = []
    for fact in p.facts:
        seen[fact.id] = n = seen.get(fact.id, 0) + 1
        out.append(fact if n == 1 else replace(fact, id=f"{fact.id}~{n}"))
    return tuple(out)


def _tidied(rows: list[Row]) -> tuple[list[Row], list[str]]:
    """Return the rows in a fixed order, cells without what says nothing, and each as a line."""
    tidy = []
    for row in rows:
        cells = Row._make([c if c is None else str(c).strip() or None for c in row])
        line = "\t".join([c or "" for c in cells])
        tidy.append(((ORDER.index(cells.table), len(cells.id or ""), line), cells))
    tidy.sort(key=lambda pair: pair[0])
    return [cells for _, cells in tidy], [line for (_, _, line), _ in tidy]


def _name(row: Row) -> str:
    """Return how findings and evidence name a row: its table and key."""
    return f"{row.table}/{quote(row.id or row.person, safe='/:.-_~')}"


_STAMP = re.compile(
    r"(\d{4}-\d\d-\d\d)(?:[ T](\d\d:\d\d)(:\d\d)?(?:\.\d+)?(Z|[+-]\d\d(?::?\d\d)?)?)?", re.ASCII
)
_COMPACT = re.compile(r"(\d{4})(\d\d)(\d\d)", re.ASCII)


def _day(text: str) -> PartialDate:
    """Return the day of a date, which may be written as a date and time, or without hyphens."""
    if compact := _COMPACT.fullmatch(text):
        return parse_date("-".join(compact.groups()))
    match = _STAMP.fullmatch(text)
    if match is None:
        raise ValueError(text)
    return parse_date(match[1])


def _time(text: str) -> tuple[PartialDate, bool]:
    """Return a date and time, and whether it names a zone. Midnight is the day alone: the CDM
    fills it in where no time is known."""
    match = _STAMP.fullmatch(text)
    if match is None:
        return _day(text), False
    day, clock, seconds, zone = match.groups()
    if clock is None or (clock, seconds or ":00") == ("00:00", ":00"):
        return parse_date(day), zone is not None
    if zone is not None and zone != "Z":
        digits = zone[1:].replace(":", "").ljust(4, "0")
        zone = f"{zone[0]}{digits[:2]}:{digits[2:]}"
    return parse_date(f"{day}T{clock}{seconds or ':00'}{zone or ''}"), zone is not None


_NUMBER = re.compile(r"[+-]?(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d{1,4})?", re.ASCII)


def _number(text: str) -> Decimal:
    """Return the number that ``text`` writes, to the last digit.

    Raises:
        ValueError: it is none, or has more digits than any result.
    """
    if len(text) > 2 * MAX_DIGITS or not _NUMBER.fullmatch(text):
        raise ValueError(text)
    number = Decimal(text)
    if abs(number.adjusted()) > MAX_DIGITS:
        raise ValueError(text)
    return number
