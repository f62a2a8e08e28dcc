"""What a caller adds to the project's mappings: a team's own SSSOM rows, and hierarchies.

Nothing is guessed and nothing dropped in silence: a file with a faulty row is refused, with every
such row named; a row that is left open or says what no rule reads is told; where a row maps what
the project maps elsewhere, the caller's holds, and reports say so.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from difflib import get_close_matches
from pathlib import Path
from urllib.parse import unquote

from sarc_kb.errors import Finding, UsageError
from sarc_kb.namespaces import (
    LINK_ID,
    SARC,
    SKOS,
    TEXT,
    TRIAL_BASE,
    compact,
    fold_text,
    link_id_iri,
    local_name,
    text_iri,
)
from sarc_kb.sources.fhir_resources.elements import iri_safe
from sarc_kb.sources.hierarchy import ValueSet, read_concept_ancestor, read_value_set
from sarc_kb.sources.limits import MAX_BYTES
from sarc_kb.terminology import (
    RELATED,
    USED,
    SssomTable,
    Terminology,
    UnquotedError,
    fold_unit,
    parse_sssom,
)

UCUM = "http://unitsofmeasure.org/"
OMOP_SYSTEM = "https://athena.ohdsi.org/search-terms/terms"
_LITERAL = "rdfs literal"
_NO_TERM = "https://w3id.org/sssom/NoTermFound"
_NEGATED = "Not"
# Predicates of SKOS that are mappings, and that no rule may rest on.
_LOOSE = frozenset(("closeMatch", RELATED))
_GUARDED = re.compile(r"'+[=+\-@]")
_FEW = 5

Row = tuple[str, str]
"""Term (or unit) IRI and the local name of the predicate."""


@dataclass(frozen=True, slots=True)
class Added:
    """A terminology with what a caller added; ``changed`` names it for the provenance of every
    report, ``findings`` what is worth telling about the files."""

    terms: Terminology
    changed: tuple[str, ...] = ()
    findings: tuple[Finding, ...] = ()


def add_mappings(
    terms: Terminology, paths: Iterable[Path], rules: Callable[[], Collection[str]]
) -> Added:
    """Return ``terms`` with the rows of the SSSOM files ``paths``.

    A subject is a code (CURIE or IRI), a text (``subject_type`` "rdfs literal", the text in
    ``subject_label``), or a linkId (``urn:sarc-kb:linkid:…``). An object is a term of the ontology,
    a question or rule (one of ``rules()``), or a UCUM unit of a measured term.

    Raises:
        UsageError: a file cannot be read, or has faulty rows; all of them are named.
    Source: SSSOM 1.1.
    """
    reading = _Reading(terms, rules)
    for path in paths:
        reading.file(path)
    if reading.faults:
        raise UsageError(*reading.faults)
    return reading.result()


@dataclass(slots=True)
class _Given:
    """What files say of one subject: each row with its place."""

    shown: str
    rows: dict[Row, str]


class _Reading:
    """The files read so far: what they say, what is wrong with them, and what is to be told."""

    def __init__(self, terms: Terminology, rules: Callable[[], Collection[str]]) -> None:
        self.terms = terms
        self._rules = rules
        self._known_rules: Collection[str] | None = None
        self.units = {u for q in terms.quantities.values() for u in q.accepts}
        self.given: dict[str, _Given] = {}
        self.spelled: dict[str, tuple[str, str]] = {}
        self.faults: list[Finding] = []
        self.findings: list[Finding] = []
        self.changed: list[str] = []

    def fault(self, code: str, where: str, found: str, why: str, fix: str) -> None:
        self.faults.append(Finding(code, "error", where, found, why, fix))

    @property
    def rules(self) -> Collection[str]:
        if self._known_rules is None:
            self._known_rules = self._rules()
        return self._known_rules

    # -- files ---------------------------------------------------------------------------------
    def file(self, path: Path) -> None:
        """Read one file; what is wrong with it is collected."""
        data = _bytes(path, self.fault)
        if data is None:
            return
        try:
            table = parse_sssom(data.decode("utf-8-sig"))
        except UnicodeDecodeError:
            self.fault(
                "USE030", str(path), "not UTF-8", "no row of it can be trusted", "save it as UTF-8"
            )
            return
        except UnquotedError as unquoted:
            self.fault(
                "USE030",
                f"{path}:{unquoted.line}",
                "a quotation mark is not closed, or a cell goes on after it",
                "the row would swallow those below it",
                "close it, or put the cell in quotation marks and double those inside",
            )
            return
        needed = {"predicate_id", "object_id"} - set(table.columns)
        if needed or not {"subject_id", "subject_label"} & set(table.columns):
            self.fault(
                "USE031",
                str(path),
                "no column " + ", ".join(sorted(needed) or ["subject_id"]),
                "a mapping says what, how and to what",
                "give subject_id (or subject_type and subject_label), predicate_id and object_id, separated by tabs",
            )
            return
        open_rows: list[int] = []
        used = 0
        for number, cells in table.rows:
            row = {k: unguarded(v.strip()) for k, v in cells.items()}
            where = f"{path}:{number}"
            if not row.get("object_id") or row["object_id"] in ("sssom:NoTermFound", _NO_TERM):
                open_rows.append(number)
                continue
            used += self.row(table, row, where)
        if open_rows:
            lines = ", ".join(map(str, open_rows[:_FEW]))
            more = f" and {len(open_rows) - _FEW} more" if len(open_rows) > _FEW else ""
            self.findings.append(
                Finding(
                    "USE038",
                    "info",
                    str(path),
                    f"{len(open_rows)} rows without an object (lines {lines}{more})",
                    "they map nothing yet and were passed over",
                    "fill in object_id, or leave them",
                )
            )
        digest = hashlib.sha256(data).hexdigest()
        self.changed.append(f"mappings {path} ({used} rows, sha256 {digest})")

    # -- rows ----------------------------------------------------------------------------------
    def row(self, table: SssomTable, row: Mapping[str, str], where: str) -> bool:
        """Take one row that has an object; return whether it is used."""
        predicate = self.expanded(table, row.get("predicate_id", ""), where, "predicate_id")
        target = self.expanded(table, row["object_id"], where, "object_id")
        subject, shown = self.subject(table, row, where)
        if predicate is None or target is None or subject is None:
            return False
        name = local_name(predicate)
        if not predicate.startswith(str(SKOS)) or name not in USED | _LOOSE:
            self.fault(
                "USE034",
                where,
                f"predicate {row.get('predicate_id') or '(none)'}",
                "only the matches of SKOS are read",
                "use skos:exactMatch, skos:broadMatch (the term is broader) or skos:narrowMatch",
            )
            return False
        if target.startswith(UCUM):
            return self.unit(subject, shown, row, unquote(target[len(UCUM) :]), name, where)
        if not self.terms.known(target) and target not in self.named_rules(target):
            self.unknown(row["object_id"], target, where)
            return False
        if subject.startswith(LINK_ID) and (
            name != "exactMatch" or not target.startswith(TRIAL_BASE)
        ):
            self.fault(
                "USE035",
                where,
                f"a linkId with {name} to {compact(target)}",
                "a linkId asks exactly one question of the trial, or is about one rule",
                "use skos:exactMatch and the IRI of a question or rule",
            )
            return False
        negated = row.get("predicate_modifier") == _NEGATED
        if negated or (name in _LOOSE and not (name == RELATED and self.terms.axis_of(target))):
            self.findings.append(
                Finding(
                    "USE039",
                    "info",
                    where,
                    f"{'not ' if negated else ''}{name} to {compact(target)}",
                    "no rule rests on such a row, so it was passed over",
                    "nothing, if that is meant",
                )
            )
            return False
        self.given.setdefault(subject, _Given(shown, {})).rows.setdefault((target, name), where)
        return True

    def expanded(self, table: SssomTable, curie: str, where: str, column: str) -> str | None:
        """Return the IRI of a cell, or None if its prefix is not declared, which is a fault."""
        try:
            if not curie:
                raise KeyError(column)
            return table.expand(curie)
        except KeyError:
            self.fault(
                "USE032",
                where,
                f"{column} {curie or '(empty)'}: the prefix is not declared"
                if curie
                else f"{column} is empty",
                "it cannot be told what the row maps",
                f"declare the prefix in curie_map, or write the whole IRI in {column}"
                if curie
                else f"fill in {column}",
            )
            return None

    def subject(
        self, table: SssomTable, row: Mapping[str, str], where: str
    ) -> tuple[str | None, str]:
        """Return the IRI by which records know the subject, and how people write it."""
        kind = row.get("subject_type") or table.metadata.get("subject_type", "")
        label = row.get("subject_label", "")
        if fold_text(kind) == _LITERAL:
            if fold_text(label):
                return text_iri(label), f"“{label}”"
            self.fault(
                "USE033",
                where,
                "a literal without a text",
                "there is nothing to match",
                "write the text, as the record has it, in subject_label",
            )
            return None, ""
        if not row.get("subject_id"):
            self.fault(
                "USE033",
                where,
                "no subject",
                "there is nothing to match",
                "write a code in subject_id; or the text in subject_label and “rdfs literal” in subject_type",
            )
            return None, ""
        iri = self.expanded(table, row["subject_id"], where, "subject_id")
        return (None if iri is None else self.as_read(iri)), row["subject_id"]

    def as_read(self, iri: str) -> str:
        """Return the IRI of a subject as readers of records write it."""
        if iri.startswith(TEXT):
            return text_iri(unquote(iri[len(TEXT) :]))
        if iri.startswith(LINK_ID):
            return link_id_iri(unquote(iri[len(LINK_ID) :]))
        for system, prefix in self.terms.code_systems.items():
            if iri.startswith(system + "/") and not iri.startswith(prefix):
                return iri_safe(prefix + iri[len(system) + 1 :])
        return iri_safe(iri)

    def named_rules(self, target: str) -> Collection[str]:
        return self.rules if target.startswith(TRIAL_BASE) else ()

    def unknown(self, written: str, target: str, where: str) -> None:
        """Say that there is no such term, and which are spelled alike."""
        names = {local_name(t): t for t in self.terms.ancestors if t.startswith(str(SARC))}
        if target.startswith(TRIAL_BASE):
            names = {local_name(t): t for t in self.rules}
        near = get_close_matches(local_name(target), sorted(names), n=3, cutoff=0.75)
        alike = "; spelled alike: " + ", ".join(compact(names[n]) for n in near) if near else ""
        self.fault(
            "USE036",
            where,
            f"object_id {written}: there is no such term",
            "what it maps to would be lost",
            f"use a term of ontology/, or a question or rule of the trial{alike}",
        )

    def unit(
        self, subject: str, shown: str, row: Mapping[str, str], unit: str, name: str, where: str
    ) -> bool:
        """Take a spelling of a unit; unlike other texts it keeps its case, as m and M differ."""
        spelling = fold_unit(row.get("subject_label", "") if subject.startswith(TEXT) else subject)
        if unit not in self.units:
            found, fix = (
                f"unit {unit}",
                "use one of: " + ", ".join(sorted(u for u in self.units if u != "1")),
            )
            self.fault("USE037", where, found, "no measured term accepts it", fix)
        elif name != "exactMatch":
            self.fault(
                "USE037",
                where,
                f"{name} to a unit",
                "a spelling is the unit or it is not",
                "use skos:exactMatch",
            )
        elif spelling in self.units and spelling != unit:
            self.fault(
                "USE037",
                where,
                f"{shown} is a unit itself",
                f"every value recorded in it would be read in {unit}",
                "correct the unit at source",
            )
        elif self.spelled.get(spelling, (unit, ""))[0] != unit:
            self.fault(
                "USE040",
                where,
                f"{shown} is {unit} here and {self.spelled[spelling][0]} at {self.spelled[spelling][1]}",
                "one spelling is one unit",
                "leave the row that is right",
            )
        else:
            before = self.terms.spellings.get(spelling)
            if before is not None and before != unit:
                self.replaced(shown, unit, before, where)
            self.spelled[spelling] = (unit, where)
            return True
        return False

    # -- what it comes to ----------------------------------------------------------------------
    def replaced(self, shown: str, now: str, before: str, where: str) -> None:
        self.findings.append(
            Finding(
                "USE041",
                "warning",
                where,
                f"{shown} maps to {now}; the project maps it to {before}",
                "the row given here holds",
                "nothing, if it is right; else take the row out",
            )
        )
        self.changed.append(f"mapping {shown}: {now} instead of {before} ({where})")

    def contradiction(self, given: _Given) -> str | None:
        """Return why the rows of one subject cannot all hold, if so."""
        exact = sorted({t for t, p in given.rows if p == "exactMatch"})
        sure = sorted({t for t, p in given.rows if p in ("exactMatch", "broadMatch")})
        maybe = {t for t, p in given.rows if p == "narrowMatch"}
        if len(exact) > 1:
            return f"exactly {_listed(exact)}"
        for a, b in self.terms.contradictions(sure):
            return f"both {compact(a)} and {compact(b)}, which exclude each other"
        if sure and maybe:
            return f"certainly {_listed(sure)} and only possibly {_listed(sorted(maybe))}"
        return None

    def result(self) -> Added:
        """Return the terminology with the rows taken.

        Raises:
            UsageError: rows contradict each other.
        """
        mappings = dict(self.terms.mappings)
        for subject, given in self.given.items():
            clash = self.contradiction(given)
            places = ", ".join(dict.fromkeys(given.rows.values()))
            if clash:
                self.fault(
                    "USE040",
                    places,
                    f"{given.shown} is {clash}",
                    "rows about one subject hold together",
                    "leave the rows that are right",
                )
                continue
            now, before = tuple(sorted(given.rows)), mappings.get(subject)
            if before is not None and before != now:
                self.replaced(given.shown, _rows_text(now), _rows_text(before), places)
            mappings[subject] = now
        if self.faults:
            raise UsageError(*self.faults)
        spellings = {**self.terms.spellings, **{s: unit for s, (unit, _) in self.spelled.items()}}
        terms = replace(self.terms, mappings=mappings, spellings=spellings)
        return Added(terms, tuple(self.changed), tuple(self.findings))


def guarded(text: str) -> str:
    """Return ``text`` so that a spreadsheet takes it for text: one that begins like a formula gets
    an apostrophe, which :func:`unguarded` takes away again.

    >>> guarded("=SUM(A1)"), unguarded(guarded("'-1")), guarded("Hb")
    ("'=SUM(A1)", "'-1", 'Hb')
    """
    return "'" + text if re.match(r"'*[=+\-@]", text) else text


def unguarded(text: str) -> str:
    """Return the text that :func:`guarded` wrote."""
    return text[1:] if _GUARDED.match(text) else text


def _listed(iris: Iterable[str]) -> str:
    return " and ".join(map(compact, iris))


def _rows_text(rows: Iterable[Row]) -> str:
    return ", ".join(
        compact(term) if name == "exactMatch" else f"{compact(term)} ({name})"
        for term, name in rows
    )


def _bytes(path: Path, fault: Callable[[str, str, str, str, str], None]) -> bytes | None:
    """Return what is in a file, or None, which is a fault."""
    try:
        with path.open("rb") as handle:
            data = handle.read(MAX_BYTES + 1)
    except OSError as error:
        found = f"cannot be opened: {error.strerror or type(error).__name__}"
        fault("USE030", str(path), found, "its mappings are wanted", "check the path")
        return None
    if len(data) > MAX_BYTES:
        found = f"more than {MAX_BYTES} bytes"
        fault("USE030", str(path), found, "no table of mappings needs them", "split it")
        return None
    return data


# -- hierarchies -------------------------------------------------------------------------------
def add_descendants(terms: Terminology, path: Path) -> Added:
    """Return ``terms`` with the OMOP concepts that ``path`` (CONCEPT_ANCESTOR) says are below one
    that is mapped. Such a concept is certainly what the one above it certainly is, and possibly
    what that one possibly is. A concept with rows of its own keeps them.

    Raises:
        InputError, UsageError: the table cannot be read.
    """
    prefix = terms.code_systems[OMOP_SYSTEM]
    above = {
        iri[len(prefix) :]: rows for iri, rows in terms.mappings.items() if iri.startswith(prefix)
    }
    found: dict[str, set[Row]] = {}
    rows, digest = read_concept_ancestor(path, above)
    for ancestor, descendant in rows:
        if descendant in above:
            continue
        found.setdefault(descendant, set()).update(
            (term, "narrowMatch" if name == "narrowMatch" else "broadMatch")
            for term, name in above[ancestor]
            if name in USED
        )
    mappings = dict(terms.mappings)
    for concept, mapped in found.items():
        if mapped:
            mappings[prefix + concept] = tuple(sorted(_consistent(mapped)))
    count = len(mappings) - len(terms.mappings)
    return Added(
        replace(terms, mappings=mappings),
        (f"concept ancestors {path} ({count} concepts, sha256 {digest})",),
        (_resolved(path, count, "OMOP concepts below mapped ones"),),
    )


def _consistent(rows: Iterable[Row]) -> set[Row]:
    """Return the rows without what only may hold, where something certainly does."""
    sure = {row for row in rows if row[1] == "broadMatch"}
    return sure or set(rows)


def add_value_set(terms: Terminology, path: Path, name: str | None) -> Added:
    """Return ``terms`` with the codes of a FHIR ValueSet as codes of things below one term:
    ``name``, or the one whose IRI is the set's url.

    A code whose own rows already say that, or more, keeps them; one whose rows say otherwise is
    told, and the value set holds.

    Raises:
        InputError, UsageError: the set cannot be read or names no term.
    """
    found = read_value_set(path)
    term = _term_named(terms, found, name, path)
    mappings = dict(terms.mappings)
    findings = list(found.findings)
    changed = []
    count = 0
    for system, code, where in found.codes:
        iri = iri_safe(_prefix(terms, system) + code)
        before = terms.mappings.get(iri, ())
        sure = {t for t, p in before if p in ("exactMatch", "broadMatch")}
        if any(term in terms.up(t) for t in sure):
            continue
        beside = tuple(row for row in before if row[1] == RELATED)
        clash = terms.contradictions({term, *sure})
        kept = () if clash else tuple(row for row in before if row[1] == "broadMatch")
        mappings[iri] = tuple(sorted({(term, "broadMatch"), *kept, *beside}))
        count += 1
        if clash:
            told, now = terms.code_text(iri), compact(term)
            findings.append(
                Finding(
                    "USE041",
                    "warning",
                    where,
                    f"{told} is below {now}; the project maps it to {_rows_text(before)}",
                    "the value set given here holds",
                    "nothing, if it is right; else take the code out",
                )
            )
            changed.append(f"mapping {told}: {now} instead of {_rows_text(before)} ({where})")
    findings.append(_resolved(path, count, f"codes below {compact(term)}"))
    head = f"value set {path} for {compact(term)} ({count} codes, sha256 {found.sha256})"
    return Added(replace(terms, mappings=mappings), (head, *changed), tuple(findings))


def _prefix(terms: Terminology, system: str) -> str:
    """Return what stands before the codes of ``system``, as readers of FHIR write it."""
    if system in terms.code_systems:
        return terms.code_systems[system]
    return system if system.endswith(("/", "#")) else system + "/"


def _term_named(terms: Terminology, found: ValueSet, name: str | None, path: Path) -> str:
    candidates = [name, str(SARC) + name.removeprefix("sarc:")] if name else [found.url]
    for candidate in candidates:
        if candidate and terms.known(candidate):
            return candidate
    raise UsageError(
        Finding(
            "USE036",
            "error",
            f"--valueset {path}",
            f"no term {name}" if name else "its url is no term of the ontology",
            "nobody knows what its codes are below",
            "write --valueset sarc:TERM=FILE",
        )
    )


def _resolved(path: Path, count: int, what: str) -> Finding:
    return Finding(
        "USE042",
        "info",
        str(path),
        f"{count} {what}",
        "they are read as what they are below",
        "nothing",
    )
