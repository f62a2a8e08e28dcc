"""What is fuzzed: a reader each, the law that holds for any bytes, and what to begin with.

Any input gives a reading or one of the project's own errors, which says where and what and repeats
no text of the record. Nothing else is raised. `python -m tests.fuzz` looks for bytes that break
this; `tests/data/fuzz` keeps those that once did, and `tests/test_fuzz.py` holds them.
"""

from __future__ import annotations

import gzip
import json
import os
import tempfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import date, datetime
from decimal import Decimal, InvalidOperation
from fractions import Fraction
from functools import cache
from pathlib import Path

from sarc_kb.dates import parse_date
from sarc_kb.entry_dates import read_entry_dates
from sarc_kb.errors import Finding, SarcError
from sarc_kb.facts import PatientRecord
from sarc_kb.kb import KnowledgeBase, with_entry_dates
from sarc_kb.mappings import add_mappings, add_value_set
from sarc_kb.rules import Trial
from sarc_kb.sources.fhir import read_fhir
from sarc_kb.sources.limits import MAX_DIGITS
from sarc_kb.sources.rdf import read_rdf
from sarc_kb.sources.rdf_writer import write_patient
from sarc_kb.sources.read import ReadingTerms
from sarc_kb.terminology import fold_unit
from sarc_kb.units import ANYTHING, INFINITY, ratio, read_number, scaled
from tests.fuzz.mutate import CANARY

ROOT = Path(__file__).resolve().parent.parent.parent
EXAMPLES, MAPPINGS = ROOT / "examples", ROOT / "ontology" / "mappings"
SEED_BYTES = 40_000
"""Largest file that a run begins with."""
JUDGED_SHARE = 8
"""One in so many readings is also prepared for judging and written as a graph, which takes long."""
SOME = 6
"""Facts of a graph that a run begins with."""
ORIGIN = "input"


class BrokenLawError(AssertionError):
    """A reader did what no reader may."""


@dataclass(frozen=True)
class Target:
    """One reader under test.

    ``check(data, whole)`` raises where the law is broken; ``whole`` also judges what was read.
    ``seeds`` gives inputs to begin with. ``is_json``: changes may keep the input JSON.
    """

    name: str
    check: Callable[[bytes, bool], None]
    seeds: Callable[[], Iterable[bytes]]
    is_json: bool = False
    words: tuple[str, ...] = ()


@cache
def knowledge() -> tuple[KnowledgeBase, Trial, ReadingTerms]:
    kb = KnowledgeBase.load()
    trial = kb.compile()
    return kb, trial, kb.reading_terms(trial)


# -- the law ---------------------------------------------------------------------------------------
def hold(findings: Iterable[Finding], data: bytes, *, private: bool) -> None:
    """Hold that each finding says where, what, why and what to do, and repeats no text of the
    record; ``private``: the canary stands where only such texts do."""
    for found in findings:
        for part in (found.code, found.where, found.found, found.why, found.fix):
            if not part.strip():
                raise BrokenLawError(f"a finding without words: {found.code}")
        if private and CANARY.split(" ", maxsplit=1)[0] in str(found):
            raise BrokenLawError(f"{found.code} repeats a text of the record")
        try:
            str(found).encode("utf-8")
        except UnicodeEncodeError:
            raise BrokenLawError(f"{found.code} cannot be written out") from None


def hold_record(record: PatientRecord, *, whole: bool) -> None:
    """Hold that what was read can be judged and written, or is refused in words."""
    names = [fact.id for fact in record.facts]
    if len(set(names)) != len(names):
        raise BrokenLawError("two facts of one name")
    if not record.patient.strip() or not record.label.strip():
        raise BrokenLawError("a patient without a name")
    if not all(fact.source.strip() for fact in record.facts):
        raise BrokenLawError("a fact without a source")
    if not whole:
        return
    kb, trial, terms = knowledge()
    (dated,) = with_entry_dates([record], "2024-03-01", {})
    try:
        kb.prepare(dated, trial)
    except SarcError as refused:
        hold(refused.findings, b"", private=False)
    text = write_patient(record).serialize(format="turtle", encoding="utf-8")
    again = read_rdf(text, ORIGIN, "turtle", terms.axes)
    if [r.patient for r in again] != [record.patient] and record.patient.startswith(
        ("http", "urn")
    ):
        raise BrokenLawError("written as a graph it is another patient")


def sometimes(data: bytes, whole: bool) -> bool:
    return whole or zlib.crc32(data) % JUDGED_SHARE == 0


def only_in(data: bytes, keys: frozenset[str]) -> bool:
    """Return whether the canary stands in JSON, and only as the value of one of ``keys``."""
    if CANARY.encode() not in data:
        return False
    todo: list[tuple[str, object]] = []
    for line in data.split(b"\n") if b"\n{" in data else [data]:
        try:
            todo.append(("", json.loads(line)))
        except (ValueError, RecursionError):
            return False
    while todo:
        key, node = todo.pop()
        if isinstance(node, dict):
            if any(CANARY in k for k in node):
                return False
            todo += node.items()
        elif isinstance(node, list):
            todo += [(key, v) for v in node]
        elif isinstance(node, str) and CANARY in node and key not in keys:
            return False
    return True


@contextmanager
def written(data: bytes, ending: str) -> Iterator[Path]:
    """Give a file of these bytes, for readers that take no bytes."""
    handle, name = tempfile.mkstemp(suffix=ending)
    try:
        with os.fdopen(handle, "wb") as stream:
            stream.write(data)
        yield Path(name)
    finally:
        Path(name).unlink()


# -- FHIR ------------------------------------------------------------------------------------------
PRIVATE_FHIR = frozenset({"family", "given", "div", "text", "line", "city"})


def check_fhir(data: bytes, whole: bool = False) -> None:
    problems: list[Finding] = []
    private = only_in(data, PRIVATE_FHIR)
    try:
        records = read_fhir(data, ORIGIN, knowledge()[2].fhir, problems=problems)
    except SarcError as refused:
        hold((*refused.findings, *problems), data, private=private)
        return
    hold(problems, data, private=private)
    if not records:
        raise BrokenLawError("neither a patient nor an error")
    for record in records:
        hold(record.findings, data, private=private)
        hold_record(record, whole=sometimes(data, whole))


def fhir_seeds() -> Iterator[bytes]:
    for path in sorted(EXAMPLES.glob("fhir-*/bundle.json")):
        bundle = json.loads(path.read_bytes())
        bodies = [e["resource"] for e in bundle["entry"]]
        person = next(b for b in bodies if b["resourceType"] == "Patient")
        person = {**person, "name": [{"family": CANARY, "given": [CANARY]}]}
        for n in range(0, len(bodies), 6):
            few = [person, *(b for b in bodies[n : n + 6] if b["resourceType"] != "Patient")]
            for body in few:
                body["text"] = {"status": "generated", "div": f"<div>{CANARY}</div>"}
            yield json.dumps(few).encode()
            yield b"\n".join(json.dumps(b).encode() for b in few)
        entries = [{"fullUrl": f"urn:uuid:{n}", "resource": b} for n, b in enumerate(bodies[:5])]
        kinds = ("history", "transaction", "document")
        yield from (
            json.dumps({"resourceType": "Bundle", "type": k, "entry": entries}).encode()
            for k in kinds
        )
    yield (ROOT / "tests" / "data" / "fhir" / "record.json").read_bytes()
    yield from sample("fhir-r4-examples", "*.json")
    yield from sample("mcode-ig-4.0.0", "**/*.json", most=60)
    yield from sample("bulk-export-10", "*.ndjson.gz")


def sample(folder: str, pattern: str, most: int = 100) -> Iterator[bytes]:
    """Yield small files of the public sample data, where they are there."""
    data = os.environ.get("SARC_KB_DATA")
    for path in sorted(Path(data, folder).glob(pattern))[:most] if data else ():
        content = path.read_bytes()
        if path.suffix == ".gz":
            lines = gzip.decompress(content).split(b"\n")[:4]
            content = b"\n".join(line for line in lines if len(line) < SEED_BYTES // 4)
        if len(content) <= SEED_BYTES:
            yield content


# -- RDF -------------------------------------------------------------------------------------------
def check_rdf(fmt: str) -> Callable[[bytes, bool], None]:
    def check(data: bytes, whole: bool = False) -> None:
        private = (
            not malformed_quotes(data)
            if fmt == "turtle"
            else fmt == "json-ld" and only_in(data, PRIVATE_LD)
        )
        try:
            records = read_rdf(data, ORIGIN, fmt, knowledge()[2].axes)
        except SarcError as refused:
            hold(refused.findings, data, private=private)
            return
        for record in records:
            hold(record.findings, data, private=private)
            hold_record(record, whole=sometimes(data, whole))

    return check


PRIVATE_LD = frozenset({"basis", "performer", "sarc:basis", "@value"})
BASIS = f'sarc:basis "{CANARY}"'


def malformed_quotes(data: bytes) -> bool:
    """Return whether the canary may stand elsewhere than in the text of a basis."""
    text = data.decode("utf-8", "replace")
    before = text.split(BASIS)
    return (
        len(before) < 2
        or CANARY.split(" ", maxsplit=1)[0] in "".join(before)
        or '"' in text.replace(BASIS, "")
    )


def rdf_seeds(fmt: str) -> Callable[[], Iterator[bytes]]:
    def seeds() -> Iterator[bytes]:
        for path in sorted(EXAMPLES.glob("*/patient.ttl")):
            (record,) = read_rdf(path.read_bytes(), ORIGIN, "turtle", knowledge()[2].axes)
            for n in range(0, len(record.facts), 5 * SOME):
                some = replace(record, facts=record.facts[n : n + SOME])
                yield write_patient(some).serialize(format=fmt, encoding="utf-8")
                if fmt == "turtle":
                    yield write_patient(some).serialize(format="nt", encoding="utf-8")
        head = b"@prefix sarc: <https://w3id.org/sarc-kb/ontology#> .\n"
        small = (
            f"<urn:p> a sarc:Patient ; sarc:entryDate '2024-03-01' ; sarc:fact [ sarc:concept sarc:Haemoglobin ;"
            f" sarc:value 8.9 ; sarc:unit 'g/dL' ; sarc:date '2024-02-21' ; {BASIS} ; sarc:tumour [] ] .\n"
        )
        if fmt == "turtle":
            yield head + small.encode()
        if fmt == "json-ld":
            yield json.dumps(
                {
                    "@context": {"@vocab": "https://w3id.org/sarc-kb/ontology#"},
                    "@id": "urn:p",
                    "@type": "Patient",
                    "fact": [
                        {
                            "concept": {"@id": "urn:c"},
                            "value": 8,
                            "basis": CANARY,
                            "date": "2024-02",
                        }
                    ],
                }
            ).encode()

    return seeds


# -- tables ----------------------------------------------------------------------------------------
def check_mappings(data: bytes, whole: bool = False) -> None:
    kb, trial, _ = knowledge()
    rules = {c.iri for c in trial.criteria} | set(trial.clauses)
    with written(data, ".sssom.tsv") as path:
        try:
            added = add_mappings(kb.terms, [path], lambda: rules)
        except SarcError as refused:
            hold(refused.findings, data, private=False)
            return
    hold(added.findings, data, private=False)


def mapping_seeds() -> Iterator[bytes]:
    for path in (*sorted(EXAMPLES.glob("*/*.sssom.tsv")), *sorted(MAPPINGS.glob("*.sssom.tsv"))):
        lines = path.read_text("utf-8").splitlines(keepends=True)
        top = sum(line.startswith("#") for line in lines)
        yield "".join(lines[: top + 12]).encode()
    yield b"subject_id\tpredicate_id\tobject_id\nhttp://loinc.org/718-7\tskos:exactMatch\thttps://w3id.org/sarc-kb/ontology#Haemoglobin\n"
    yield (
        b"#curie_map:\n#  sarc: https://w3id.org/sarc-kb/ontology#\n"
        b"subject_id\tsubject_label\tsubject_type\tpredicate_id\tobject_id\tpredicate_modifier\n"
        b"\tHb\trdfs literal\tskos:exactMatch\tsarc:Haemoglobin\t\n"
        b"urn:sarc-kb:text:g%2Fdl\t\t\tskos:exactMatch\thttp://unitsofmeasure.org/g%2FdL\tNot\n"
    )


def check_value_set(data: bytes, whole: bool = False) -> None:
    with written(data, ".json") as path:
        try:
            added = add_value_set(knowledge()[0].terms, path, "sarc:Haemoglobin")
        except SarcError as refused:
            hold(refused.findings, data, private=False)
            return
    hold(added.findings, data, private=False)


def value_set_seeds() -> Iterator[bytes]:
    listed = [{"system": "http://loinc.org", "concept": [{"code": "718-7"}, {"code": "a b"}]}]
    inside = {
        "contains": [
            {
                "system": "http://loinc.org",
                "code": "x",
                "abstract": True,
                "contains": [{"system": "urn:s", "code": "1"}],
            }
        ]
    }
    for rest in (
        {"compose": {"include": listed, "exclude": listed}},
        {"expansion": inside},
        {
            "compose": {
                "include": [
                    {"system": "urn:s", "filter": [{"property": "concept"}]},
                    {"valueSet": ["urn:v"]},
                ]
            }
        },
    ):
        yield json.dumps(
            {"resourceType": "ValueSet", "url": "urn:v", "status": "draft", **rest}
        ).encode()
    yield from sample("mcode-ig-4.0.0", "**/ValueSet*.json", most=40)


def check_entry_dates(data: bytes, whole: bool = False) -> None:
    with written(data, ".csv") as path:
        try:
            dates = read_entry_dates(path)
        except SarcError as refused:
            hold(refused.findings, data, private=False)
            return
    for text in dates.values():
        if not parse_date(text).exact:
            raise BrokenLawError("an entry date without a day")


def entry_date_seeds() -> Iterator[bytes]:
    yield b"patient,date\nanna,2024-03-01\nboris,2024-03-02\n"
    yield b'"a ""b""","2024-03-01"\r\n\r\nurn:x,2024-02-29\r\n'


# -- values ----------------------------------------------------------------------------------------
def number_in(text: str) -> Decimal | None:
    """Return a number as readers hand it on: finite, of at most so many digits."""
    try:
        number = Decimal(text) if len(text) <= MAX_DIGITS else None
    except InvalidOperation:
        return None
    if number is None or not number.is_finite() or abs(number.adjusted()) > MAX_DIGITS:
        return None
    return number


def check_units(data: bytes, whole: bool = False) -> None:
    """The text holds a value, a comparator and a unit, one a line: against every quantity."""
    terms = knowledge()[0].terms
    text, _, rest = data.decode("utf-8", "replace").partition("\n")
    comparator, _, unit = rest.partition("\n")
    value = number_in(text)
    if fold_unit(fold_unit(unit)) != fold_unit(unit):
        raise BrokenLawError("a folded unit folds again")
    for name, quantity in terms.quantities.items():
        reading = read_number(value, comparator or None, unit or None, quantity, terms)
        span = reading.interval
        if reading.problem:
            if span != ANYTHING or not reading.why:
                raise BrokenLawError(f"{name}: a problem, and yet a value")
            continue
        if value is None:
            raise BrokenLawError(f"{name}: a value out of nothing")
        written_unit = terms.canonical_unit(unit) if unit else "1"
        factor, divisor = quantity.accepts[written_unit]
        exact = Fraction(value) * Fraction(factor) / Fraction(divisor)
        low = comparator not in ("<", "<=")
        if low and span.lo > -INFINITY and abs(Fraction(span.lo) - exact) > abs(exact) / 10**60:
            raise BrokenLawError(f"{name}: another value")
        if span.lo > span.hi:
            raise BrokenLawError(f"{name}: an empty interval")
        for made in (scaled(span, Decimal("2.5")), ratio(span, span)):
            if made.lo > made.hi:
                raise BrokenLawError(f"{name}: an empty interval")


def unit_seeds() -> Iterator[bytes]:
    terms = knowledge()[0].terms
    units = {u for q in terms.quantities.values() for u in q.accepts} | set(terms.spellings)
    for number, unit in enumerate(sorted(units)):
        sign = ("", "<", "<=", ">", ">=", "~")[number % 6]
        yield f"{number}.5\n{sign}\n{unit}".encode()
    yield b"1e30\n\nG/DL"
    yield "-0.0\n>\nµmol/l".encode()


def check_dates(data: bytes, whole: bool = False) -> None:
    text = data.decode("utf-8", "replace")
    try:
        found = parse_date(text)
    except ValueError as refused:
        # Whatever Python itself would say is not for people.
        if not str(refused).startswith(("not a date in the form", "no such ")):
            raise
        if len(text) == 10:
            refused_by_python(text)
        return
    if (
        found.text != text
        or not date.min.toordinal() <= found.first <= found.last <= date.max.toordinal()
    ):
        raise BrokenLawError("not the days that the text names")
    if len(text) >= 10 and date.fromisoformat(text[:10]).toordinal() not in (
        found.first,
        found.last,
    ):
        raise BrokenLawError("another day")
    if "T" in text:
        moment = datetime.fromisoformat(text[:16])
        if found.minute != moment.hour * 60 + moment.minute:
            raise BrokenLawError("another minute")


def refused_by_python(text: str) -> None:
    """Hold that a day that was refused is none."""
    if text.isascii() and text[4] == text[7] == "-":
        try:
            date.fromisoformat(text)
        except ValueError:
            return
        raise BrokenLawError("a day of the calendar was refused")


def date_seeds() -> Iterator[bytes]:
    for text in (
        "2024",
        "2024-02",
        "2024-02-29",
        "2023-02-29",
        "2024-02-29T23:59:59.999Z",
        "2024-02-29T08:30+14:00",
        "0001-01-01",
        "9999-12-31T24:00:00-00:00",
        "2024-13",
        "٢٠٢٤",
    ):
        yield text.encode()


FHIR_WORDS = (
    "resourceType",
    "Observation",
    "entered-in-error",
    "modifierExtension",
    "contained",
    "valueQuantity",
)
RDF_WORDS = (
    "sarc:fact",
    "sarc:concept",
    "sarc:value",
    "sarc:date",
    "@prefix",
    "^^xsd:decimal",
    "<urn:x>",
    "[]",
    "@base",
)

TARGETS = {
    target.name: target
    for target in (
        Target("fhir", check_fhir, fhir_seeds, is_json=True, words=FHIR_WORDS),
        Target("turtle", check_rdf("turtle"), rdf_seeds("turtle"), words=RDF_WORDS),
        Target(
            "jsonld",
            check_rdf("json-ld"),
            rdf_seeds("json-ld"),
            is_json=True,
            words=(
                "@context",
                "@id",
                "@graph",
                "@type",
                "@value",
                "@list",
                "@set",
                "@reverse",
                "@vocab",
                "@base",
            ),
        ),
        Target(
            "rdfxml",
            check_rdf("xml"),
            rdf_seeds("xml"),
            words=(
                "rdf:about",
                "rdf:parseType",
                "rdf:nodeID",
                "xml:base",
                "rdf:li",
                "<!DOCTYPE",
                "xml:lang",
            ),
        ),
        Target(
            "sssom",
            check_mappings,
            mapping_seeds,
            words=(
                "#curie_map:",
                "skos:exactMatch",
                "skos:narrowMatch",
                "rdfs literal",
                "sssom:NoTermFound",
            ),
        ),
        Target("valueset", check_value_set, value_set_seeds, is_json=True),
        Target("entry-dates", check_entry_dates, entry_date_seeds),
        Target("units", check_units, unit_seeds),
        Target("dates", check_dates, date_seeds),
    )
}
