"""Patient graphs: every format read alike, nothing fetched, nothing believed that is not a fact.

Names such as ``test_a1_…`` refer to the project's list of threats: A reaching out, B exhausting
the machine, C trust inside the graph, D silently wrong answers, E broken input.
"""

from __future__ import annotations

import json
import logging
import random
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from decimal import Context, Decimal
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rdflib import BNode, Graph, Literal, URIRef
from tiny_trial import TRIAL, build_tiny

from sarc_kb.assessment import Assessment, Outcome, Verdict
from sarc_kb.dates import parse_date
from sarc_kb.errors import InputError
from sarc_kb.facts import Fact, PatientRecord
from sarc_kb.kb import KnowledgeBase
from sarc_kb.namespaces import RDF, SARC, XSD
from sarc_kb.sources.limits import MAX_DEPTH, MAX_DIGITS, MAX_LABEL, MAX_LITERAL
from sarc_kb.sources.rdf import FORMATS, KINDS, read_rdf
from sarc_kb.sources.rdf_writer import write_patient

CONTEXT = "https://w3id.org/sarc-kb/schema/patient.context.jsonld"
HEAD = f"""
@prefix sarc: <{SARC}> .
@prefix trial: <{TRIAL}> .
@prefix xsd: <{XSD}> .
@prefix rdfs: <http://www.w3.org/2000/01/rdf-schema#> .
@prefix owl: <http://www.w3.org/2002/07/owl#> .
@prefix sh: <http://www.w3.org/ns/shacl#> .
@prefix ex: <https://example.org/> .
"""
AXES = frozenset((str(SARC.bodySite), str(SARC.method), str(SARC.subject)))
ANNA = "https://example.org/patient/anna"
# Passes all three rules of the tiny trial.
WELL = """
ex:anna a sarc:Patient ; sarc:entryDate "2024-03-01"^^xsd:date ; sarc:fact
    [ sarc:concept sarc:Haemoglobin ; sarc:value 9.4 ; sarc:unit "g/dL" ; sarc:date "2024-02-21"^^xsd:date ; sarc:source "hb" ] ,
    [ a sarc:Attestation ; sarc:concept trial:question-willing ; sarc:valueConcept sarc:Yes ; sarc:date "2024-02-28"^^xsd:date ; sarc:performer "nurse" ; sarc:source "form" ] ,
    [ a sarc:CompletenessStatement ; sarc:concept sarc:ProcedureHistory ; sarc:end "2024-03-01"^^xsd:date ; sarc:source "list" ] .
"""


def read(text: str, fmt: str = "turtle") -> list[PatientRecord]:
    return read_rdf(text.encode(), "test", fmt, AXES)


def fact(turtle: str) -> tuple[Fact, PatientRecord]:
    """Return the only fact of a patient, written in Turtle."""
    record = read(HEAD + f"ex:p a sarc:Patient ; sarc:fact [ {turtle} ] .")[0]
    assert len(record.facts) == 1
    return record.facts[0], record


def refusal(data: str | bytes, fmt: str) -> str:
    started = time.monotonic()
    with pytest.raises(InputError) as caught:
        read_rdf(data.encode() if isinstance(data, str) else data, "test", fmt, AXES)
    assert time.monotonic() - started < 5
    (finding,) = caught.value.findings
    assert (finding.code, finding.severity, finding.where) == ("DATA002", "error", "test")
    return finding.found


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> KnowledgeBase:
    return KnowledgeBase.load(build_tiny(tmp_path_factory.mktemp("tiny")))


@pytest.fixture
def judge(tiny: KnowledgeBase, tmp_path: Path):
    """Judge a Turtle body (prefixes are added) by the tiny trial."""

    def run(*bodies: str) -> list[Assessment]:
        files = []
        for n, body in enumerate(bodies):
            files.append(tmp_path / f"{n}.ttl")
            files[-1].write_text(HEAD + body, encoding="utf-8")
        return list(tiny.validate(*files).assessments)

    return run


@pytest.fixture
def canary() -> Iterator[tuple[str, list[str]]]:
    """A server on this machine that nobody may ask for anything."""
    hits: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            hits.append(self.path)
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b'{"@context": {}}')

        do_POST = do_HEAD = do_GET  # noqa: N815

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/", hits
    finally:
        server.shutdown()
        server.server_close()
        thread.join(5)


def outcomes(assessment: Assessment) -> dict[str, Outcome]:
    return {c.id: c.outcome for c in assessment.criteria}


# -- every format reads alike ----------------------------------------------------------------------
TURTLE = (
    HEAD
    + """
ex:anna a sarc:Patient ; sarc:identifier "A-1" ; sarc:entryDate "2024-03-01"^^xsd:date ;
    sarc:fact ex:hb ,
        [ a sarc:Condition ; sarc:concept sarc:Leiomyosarcoma ; sarc:bodySite sarc:Thigh ;
          sarc:start "2024-01"^^xsd:gYearMonth ; sarc:ongoing true ; sarc:status sarc:Suspected ;
          sarc:tumour ex:t1 ; sarc:source "c" ] .
ex:hb sarc:concept sarc:Haemoglobin ; sarc:value 9.40 ; sarc:comparator "<=" ; sarc:unit "g/dL" ;
    sarc:upperLimit 16 ; sarc:date "2024-02-21T08:30:00+08:00"^^xsd:dateTime ; sarc:source "o" .
"""
)
JSONLD = json.dumps(
    {
        "@context": CONTEXT,
        "@id": "https://example.org/anna",
        "@type": "Patient",
        "identifier": "A-1",
        "entryDate": "2024-03-01",
        "fact": [
            {
                "@id": "https://example.org/hb",
                "concept": "Haemoglobin",
                "value": "VALUE",
                "comparator": "<=",
                "unit": "g/dL",
                "upperLimit": 16,
                "date": "2024-02-21T08:30:00+08:00",
                "source": "o",
            },
            {
                "@type": "Condition",
                "concept": "Leiomyosarcoma",
                "bodySite": "Thigh",
                "start": "2024-01",
                "ongoing": True,
                "status": "Suspected",
                "tumour": "https://example.org/t1",
                "source": "c",
            },
        ],
    }
).replace('"VALUE"', "9.40")
XML = f"""<?xml version="1.0" encoding="UTF-8"?>
<rdf:RDF xmlns:rdf="{RDF}" xmlns:sarc="{SARC}">
  <sarc:Patient rdf:about="https://example.org/anna">
    <sarc:identifier>A-1</sarc:identifier>
    <sarc:entryDate rdf:datatype="{XSD}date">2024-03-01</sarc:entryDate>
    <sarc:fact><rdf:Description rdf:about="https://example.org/hb">
      <sarc:concept rdf:resource="{SARC}Haemoglobin"/>
      <sarc:value rdf:datatype="{XSD}decimal">9.40</sarc:value>
      <sarc:comparator>&lt;=</sarc:comparator>
      <sarc:unit>g/dL</sarc:unit>
      <sarc:upperLimit rdf:datatype="{XSD}integer">16</sarc:upperLimit>
      <sarc:date rdf:datatype="{XSD}dateTime">2024-02-21T08:30:00+08:00</sarc:date>
      <sarc:source>o</sarc:source>
    </rdf:Description></sarc:fact>
    <sarc:fact><sarc:Condition>
      <sarc:concept rdf:resource="{SARC}Leiomyosarcoma"/>
      <sarc:bodySite rdf:resource="{SARC}Thigh"/>
      <sarc:start rdf:datatype="{XSD}gYearMonth">2024-01</sarc:start>
      <sarc:ongoing rdf:datatype="{XSD}boolean">true</sarc:ongoing>
      <sarc:status rdf:resource="{SARC}Suspected"/>
      <sarc:tumour rdf:resource="https://example.org/t1"/>
      <sarc:source>c</sarc:source>
    </sarc:Condition></sarc:fact>
  </sarc:Patient>
</rdf:RDF>
"""
NTRIPLES = "\n".join(
    " ".join(term.n3() for term in triple) + " ."
    for triple in Graph().parse(data=TURTLE, format="turtle")
)
DAY = parse_date("2024-02-21T08:30:00+08:00")
EXPECTED = (
    Fact(
        "fact-1", str(SARC.Condition), (str(SARC.Leiomyosarcoma),), start=parse_date("2024-01"), ongoing=True,
        status=str(SARC.Suspected), axes=((str(SARC.bodySite), str(SARC.Thigh)),),
        tumour="https://example.org/t1", source="c",
    ),
    Fact(
        "https://example.org/hb", None, (str(SARC.Haemoglobin),), Decimal("9.40"), comparator="<=", unit="g/dL",
        upper_limit=Decimal(16), start=DAY, end=DAY, source="o",
    ),
)  # fmt: skip


@pytest.mark.parametrize(
    ("text", "fmt"),
    [(TURTLE, "turtle"), (NTRIPLES, FORMATS[".nt"]), (JSONLD, "json-ld"), (XML, "xml")],
    ids=["turtle", "ntriples", "jsonld", "rdfxml"],
)
@pytest.mark.threat("D16")
def test_every_format_gives_the_same_patient(text: str, fmt: str) -> None:
    (record,) = read(text, fmt)
    assert record.facts == EXPECTED
    assert str(record.facts[1].value) == "9.40"
    assert (record.patient, record.label) == ("https://example.org/anna", "A-1")
    assert record.entry == parse_date("2024-03-01")
    assert record.findings == ()


def test_a_byte_order_mark_changes_nothing() -> None:
    for text, fmt in ((TURTLE, "turtle"), (JSONLD, "json-ld"), (XML, "xml")):
        (record,) = read_rdf(b"\xef\xbb\xbf" + text.encode(), "test", fmt, AXES)
        assert record.facts == EXPECTED


# -- what is written is read again -----------------------------------------------------------------
TERMS = [
    str(SARC[n]) for n in ("Haemoglobin", "ALT", "Leiomyosarcoma", "Biopsy", "Yes", "Negative")
] + [
    "http://snomed.info/sct/443719001",
    "http://loinc.org/718-7",
]
# XML can hold no control characters; what it can hold must survive.
texts = st.text(
    st.characters(exclude_categories=("Cc", "Cs", "Cn")) | st.sampled_from("\t\n"),
    min_size=1,
    max_size=20,
)
decimals = st.decimals(-(10**9), 10**9, places=6) | st.sampled_from(
    [Decimal(t) for t in ("9.40", "0", "-0.0", "1E+17", "1E-20", "12345678901234567890.123456789")]
)
dates = st.one_of(
    st.integers(1, 9999).map("{:04}".format),
    st.builds("{:04}-{:02}".format, st.integers(1, 9999), st.integers(1, 12)),
    st.dates().map(str),
    st.builds(
        "{}T{}{}".format,
        st.dates(),
        st.times().map(lambda t: t.isoformat("seconds")),
        st.sampled_from(["", "Z", "+08:00", "-03:30"]),
    ),
).map(parse_date)


@st.composite
def facts(draw: st.DrawFn, number: int) -> Fact:
    maybe = lambda s: draw(st.none() | s)  # noqa: E731
    moment = draw(st.booleans())
    start = maybe(dates)
    end = start if moment else maybe(dates)
    numeric = draw(st.sampled_from(["none", "number", "text"]))
    return Fact(
        id=f"https://example.org/fact/{number}" if draw(st.booleans()) else "",
        kind=maybe(st.sampled_from(sorted(KINDS))),
        concepts=tuple(sorted(draw(st.sets(st.sampled_from(TERMS), max_size=2)))),
        value=draw(decimals) if numeric == "number" else None,
        value_text=draw(st.sampled_from(["9,5", "<5", "NaN", "12 g/dL", "1_000", "²"])) if numeric == "text" else None,
        comparator=draw(st.sampled_from(["<", "<=", ">", ">="])) if numeric == "number" and draw(st.booleans()) else None,
        unit=maybe(texts),
        value_concepts=tuple(sorted(draw(st.sets(st.sampled_from(TERMS), max_size=2)))),
        upper_limit=maybe(decimals),
        upper_limit_unit=maybe(texts),
        start=start,
        end=end,
        ongoing=maybe(st.booleans()),
        recorded=maybe(dates),
        status=maybe(st.sampled_from([str(SARC.Suspected), str(SARC.Refuted), "https://example.org/odd"])),
        axes=tuple(sorted((a, draw(st.sampled_from(TERMS))) for a in draw(st.sets(st.sampled_from(sorted(AXES)))))),
        tumour=maybe(st.sampled_from(["https://example.org/t1", "urn:example:t2"])),
        source=f"{draw(texts)}{number}",  # what is said twice from one place is read once
        performer=maybe(texts),
        basis=maybe(texts),
    )  # fmt: skip


@st.composite
def patients(draw: st.DrawFn) -> PatientRecord:
    count = draw(st.integers(0, 4))
    return PatientRecord(
        ANNA, draw(texts), draw(st.none() | dates), tuple(draw(facts(n)) for n in range(count))
    )


def said(record: PatientRecord) -> list[str]:
    """Return what a record says: without the ids of unnamed facts, and numbers without spare zeros."""

    def number(n: Decimal | None) -> Decimal | None:
        return None if n is None else Context(prec=50).normalize(n)

    return sorted(
        repr(
            (
                replace(
                    f,
                    id=f.id if ":" in f.id else "",
                    value=number(f.value),
                    upper_limit=number(f.upper_limit),
                ),
                f.start is f.end,
            )
        )
        for f in record.facts
    )


@settings(max_examples=60, deadline=None)
@given(patients())
def test_what_is_written_is_read_again_in_every_format(record: PatientRecord) -> None:
    graph = write_patient(record)
    seen = []
    for fmt in ("turtle", "nt", "json-ld", "xml"):
        written = graph.serialize(format=fmt)
        (again,) = read(written, "turtle" if fmt == "nt" else fmt)
        assert said(again) == said(record), fmt
        assert (again.patient, again.label, again.entry) == (
            record.patient,
            record.label,
            record.entry,
        )
        seen.append(again.facts)
    assert all(s == seen[0] for s in seen)


@settings(max_examples=40, deadline=None)
@given(patients(), st.randoms(use_true_random=False))
@pytest.mark.threat("D16")
def test_labels_of_blank_nodes_and_order_of_statements_say_nothing(
    record: PatientRecord, dice: random.Random
) -> None:
    graph = write_patient(record)
    patient = URIRef(ANNA)
    # Tumours with blank nodes, and things to complain about, on some facts.
    for n, node in enumerate(sorted(graph.objects(patient, SARC.fact), key=str)):
        if n % 2:
            graph.remove((node, SARC.tumour, None))
            graph.add((node, SARC.tumour, BNode(f"t{n % 3}")))
            graph.add((node, SARC.note, Literal("ignored")))
    first = read(shuffled(graph, dice))
    second = read(shuffled(graph, dice))
    assert [replace(r, sha256="") for r in first] == [replace(r, sha256="") for r in second]


def shuffled(graph: Graph, dice: random.Random) -> str:
    blank = sorted({t for triple in graph for t in triple if isinstance(t, BNode)})
    names = [BNode(f"b{n}") for n in range(len(blank))]
    dice.shuffle(names)
    labels = dict(zip(blank, names, strict=True))
    lines = [" ".join(labels.get(t, t).n3() for t in triple) + " ." for triple in sorted(graph)]
    dice.shuffle(lines)
    return "\n".join(lines)


def test_two_tumours_with_blank_nodes_stay_two() -> None:
    (record,) = read(
        HEAD
        + """ex:p a sarc:Patient ; sarc:fact
        [ sarc:concept sarc:Leiomyosarcoma ; sarc:tumour _:x ; sarc:source "1" ] ,
        [ sarc:concept sarc:TumourLongestDiameter ; sarc:tumour _:x ; sarc:source "2" ] ,
        [ sarc:concept sarc:Leiomyosarcoma ; sarc:tumour _:y ; sarc:source "3" ] ."""
    )
    one, same, other = (f.tumour for f in record.facts)
    assert one == same != other
    assert (one, other) == ("urn:sarc-kb:tumour:1", "urn:sarc-kb:tumour:2")


def test_the_writer_makes_an_iri_of_anything() -> None:
    hostile = 'p1> a <urn:x> . <urn:p2 "\n'
    record = PatientRecord(
        hostile, "\ud800 label", None,
        (Fact(hostile, hostile, (hostile,), axes=((hostile, hostile),), tumour=hostile, source=hostile),),
    )  # fmt: skip
    graph = write_patient(record)
    assert len(graph) == 8
    for fmt in ("turtle", "nt", "json-ld"):
        assert Graph().parse(data=graph.serialize(format=fmt), format=fmt) is not None
    assert set(graph.subjects(RDF.type, SARC.Patient)) == set(graph.subjects(SARC.fact))


# -- A: reaching the network or the file system ----------------------------------------------------
def contexts(target: str) -> list[object]:
    """Return documents that refer to ``target`` in every place a JSON-LD context may stand."""
    person = {"@id": ANNA, "@type": str(SARC.Patient)}
    return [
        {"@context": target, **person},
        {"@context": [{}, target], **person},
        {"@context": {"@import": target}, **person},
        {"@context": {"@context": target}, **person},
        {"@context": {"fact": {"@id": str(SARC.fact), "@context": target}}, **person},
        {"@context": {"fact": {"@id": str(SARC.fact), "@context": [None, target]}}, **person},
        {"@context": {"fact": {"@id": str(SARC.fact), "@context": {"@import": target}}}, **person},
        {"@context": {"a": {"@id": "urn:a", "@context": {"b": {"@id": "urn:b", "@context": target}}}}, **person},
        {"@context": CONTEXT, **person, "fact": [{"@context": target, "concept": "ALT"}]},
        {"@graph": [{"@context": target, **person}]},
        [{"@context": target, **person}],
        {"@context": {"@vocab": str(SARC)}, **person, "fact": {"@context": [[{"x": {"@id": "urn:x", "@context": target}}]]}},
    ]  # fmt: skip


@pytest.mark.parametrize("place", range(12))
@pytest.mark.threat("A1")
def test_a1_a_context_elsewhere_is_refused_before_anything_is_fetched(
    place: int, canary: tuple[str, list[str]]
) -> None:
    url, hits = canary
    document = json.dumps(contexts(url + "context.jsonld")[place])
    assert "context" in refusal(document, "json-ld") or "@import" in refusal(document, "json-ld")
    escaped = document.replace("@context", "\\u0040context").replace("@import", "\\u0040import")
    refusal(escaped, "json-ld")
    assert hits == []


@pytest.mark.parametrize("place", range(12))
@pytest.mark.threat("A2")
def test_a2_a_context_in_a_file_is_refused(
    place: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    secret = tmp_path / "context.jsonld"
    secret.write_text(json.dumps({"@context": {"@vocab": str(SARC)}}))
    monkeypatch.chdir(tmp_path)
    for target in (secret.as_uri(), "context.jsonld", str(secret), CONTEXT + "/../x"):
        refusal(json.dumps(contexts(target)[place]), "json-ld")


@pytest.mark.threat("A3", "A8")
def test_a3_a8_imports_and_queries_in_a_patient_graph_reach_nothing(
    judge, canary: tuple[str, list[str]]
) -> None:
    url, hits = canary
    body = (
        WELL
        + f"""
    <{url}o> a owl:Ontology ; owl:imports <{url}import> .
    ex:anna owl:imports <{url}anna> ; rdfs:seeAlso <{url}see> .
    ex:shape a sh:NodeShape ; sh:targetClass sarc:Patient ;
        sh:shapesGraph <{url}shapes> ; sh:sparql [ sh:select "SELECT $this FROM <{url}from> WHERE {{ SERVICE <{url}service> {{ ?s ?p ?o }} }}" ] ;
        sh:js [ sh:jsLibrary [ sh:jsLibraryURL "{url}js"^^xsd:anyURI ] ] .
    """
    )
    (assessment,) = judge(body)
    assert assessment.verdict is Verdict.ELIGIBLE
    assert hits == []


@pytest.mark.threat("A3", "A10")
def test_a3_relative_names_and_bases_reach_nothing(canary: tuple[str, list[str]]) -> None:
    url, hits = canary
    assert read(f"@base <{url}> . <p> a <{SARC.Patient}> .")[0].patient == url + "p"
    assert (
        read(
            f'<rdf:RDF xmlns:rdf="{RDF}" xml:base="{url}"><rdf:Description rdf:about="p"><rdf:type rdf:resource="{SARC.Patient}"/></rdf:Description></rdf:RDF>',
            "xml",
        )[0].patient
        == url + "p"
    )
    assert (
        read(
            json.dumps({"@context": {"@base": url}, "@id": "p", "@type": str(SARC.Patient)}),
            "json-ld",
        )[0].patient
        == url + "p"
    )
    (record,) = read(f"<p> a <{SARC.Patient}> .")
    assert record.label == "p"
    assert hits == []


BOMB = '<!DOCTYPE r [<!ENTITY a "aaaaaaaaaa">' + "".join(
    f'<!ENTITY {new} "{f"&{old};" * 10}">' for old, new in zip("abcdefgh", "bcdefghi", strict=True)
) + "]>"  # fmt: skip
BODY = f'<rdf:RDF xmlns:rdf="{RDF}" xmlns:s="{SARC}"><s:Patient rdf:about="urn:p"><s:identifier>&i;</s:identifier></s:Patient></rdf:RDF>'


@pytest.mark.parametrize(
    "encoding", ["utf-8", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "iso-8859-1"]
)
@pytest.mark.threat("A12", "B1")
def test_a12_b1_a_doctype_is_refused_in_every_encoding(
    encoding: str, canary: tuple[str, list[str]]
) -> None:
    url, hits = canary
    external = f'<!DOCTYPE r [<!ENTITY i SYSTEM "{url}xxe"><!ENTITY % p SYSTEM "{url}dtd"> %p;]>'
    for doctype in (
        BOMB,
        external,
        f'<!DOCTYPE r SYSTEM "{url}x.dtd">',
        external.replace("DOCTYPE", "doctype"),
    ):
        # The é keeps the bytes of ISO 8859-1 from being UTF-8 or UTF-16 as well.
        text = f'<?xml version="1.0" encoding="{encoding}"?>{doctype}<!-- é -->{BODY}'
        assert refusal(text.encode(encoding), "xml") == "a DOCTYPE"
    assert hits == []


@pytest.mark.parametrize(
    ("inside", "told"),
    [
        ("x\n" * 1_000_000, "a text of more than 64000 characters"),
        ("<![CDATA[" + "x\n" * 1_000_000 + "]]>", "a text of more than 64000 characters"),
        ("x<!-- -->" * 70_000, "a text of more than 64000 characters"),
    ],
)
@pytest.mark.threat("B11")
def test_b11_a_text_of_many_lines_is_refused_before_it_is_put_together(
    inside: str, told: str
) -> None:
    """rdflib would take two minutes for the two megabytes."""
    text = f'<rdf:RDF xmlns:rdf="{RDF}" xmlns:s="{SARC}"><s:Patient><s:identifier>{inside}</s:identifier></s:Patient></rdf:RDF>'
    assert refusal(text, "xml") == told


@pytest.mark.parametrize("kind", ["Literal", "literal", "other"])
@pytest.mark.threat("B11")
def test_b11_xml_as_a_text_is_refused(kind: str) -> None:
    text = f'<r:RDF xmlns:r="{RDF}" xmlns:s="{SARC}"><s:Patient><s:identifier r:parseType="{kind}"><a/></s:identifier></s:Patient></r:RDF>'
    assert refusal(text, "xml") == "XML as a text (rdf:parseType)"


@pytest.mark.threat("B1")
def test_b1_markup_inside_a_literal_is_not_expanded() -> None:
    markup = json.dumps(BOMB + "<r>&i;</r>")
    found, _ = fact(
        f"sarc:concept sarc:ALT ; sarc:basis {markup}^^<{RDF}XMLLiteral> ; sarc:performer {markup}^^<{RDF}HTML>"
    )
    assert found.basis == json.loads(markup)


# -- B: exhausting the machine ---------------------------------------------------------------------
@pytest.mark.parametrize("depth", [5_000, 100_000])
@pytest.mark.threat("B6")
def test_b6_deep_nesting_is_refused(depth: int) -> None:
    patient = f"<urn:p> a <{SARC.Patient}> ; <{SARC.fact}> "
    assert (
        refusal(patient + "[ <urn:x> " * depth + "1" + "]" * depth + " .", "turtle")
        == "nesting too deep"
    )
    assert refusal(patient + "(" * depth + ")" * depth + " .", "turtle") == "nesting too deep"
    assert "nesting" in refusal("[" * depth + "]" * depth, "json-ld")
    assert "nesting" in refusal('{"a":' * depth + "1" + "}" * depth, "json-ld")


@pytest.mark.threat("B6")
def test_b6_the_limit_on_depth_is_the_limit() -> None:
    nested: object = "x"
    for _ in range(MAX_DEPTH - 2):
        nested = [nested]
    document = {"@context": CONTEXT, "@id": ANNA, "@type": "Patient", "fact": {"unit": nested}}
    assert len(read(json.dumps(document), "json-ld")) == 1
    document["fact"] = {"unit": [nested]}
    assert refusal(json.dumps(document), "json-ld") == f"nesting deeper than {MAX_DEPTH}"


@pytest.mark.threat("B6")
def test_b6_a_context_may_not_nest_without_end_either() -> None:
    definition: object = "urn:x"
    for _ in range(300):
        definition = {"@id": "urn:x", "@context": {"x": definition}}
    assert "nesting" in refusal(json.dumps({"@context": {"x": definition}, "@id": ANNA}), "json-ld")


@pytest.mark.threat("B11")
def test_b11_a_number_has_at_most_forty_digits() -> None:
    for digits, value in ((MAX_DIGITS, Decimal("1" * MAX_DIGITS)), (MAX_DIGITS + 1, None)):
        for text in ("1" * digits, f'"{"1" * digits}"^^xsd:decimal', f'"{"1" * digits}"'):
            assert fact(f"sarc:concept sarc:ALT ; sarc:value {text}")[0].value == value
    assert fact("sarc:value 0." + "0" * (MAX_DIGITS - 2) + "1")[0].value == Decimal(1).scaleb(
        1 - MAX_DIGITS
    )
    assert fact("sarc:value 0." + "0" * (MAX_DIGITS - 1) + "1")[0].value is None


@pytest.mark.threat("B11")
def test_b11_a_text_has_at_most_so_many_characters() -> None:
    at, record = fact(f'sarc:basis "{"x" * MAX_LITERAL}"')
    assert at.basis == "x" * MAX_LITERAL
    assert record.findings == ()
    over, record = fact(
        f'sarc:concept sarc:ALT ; sarc:value 5 ; sarc:comparator "{"x" * (MAX_LITERAL + 1)}"'
    )
    assert (over.value, over.comparator) == (None, None)
    assert "DATA008" in {f.code for f in record.findings}


@pytest.mark.threat("B11")
def test_b11_integers_of_thousands_of_digits_end_nothing() -> None:
    digits = "9" * 5000
    assert fact(f'sarc:concept sarc:ALT ; sarc:value "{digits}"^^xsd:integer')[0].value is None
    refusal(f"<urn:p> <{SARC.value}> {digits} .", "turtle")
    assert "digits" in refusal(
        f'{{"@context": "{CONTEXT}", "fact": {{"value": {digits}}}}}', "json-ld"
    )


@pytest.mark.parametrize(
    "text",
    [
        "1e400",
        "1E+400",
        "-1e400",
        "1e-400",
        "1e999999999",
        "1e99999999999999999999999",
        "-1e-99999999999999999999999",
    ],
)
@pytest.mark.threat("B11")
def test_b11_d4_outsized_exponents_are_no_numbers(text: str) -> None:
    document = f'{{"@context": "{CONTEXT}", "@id": "{ANNA}", "@type": "Patient", "fact": {{"concept": "ALT", "value": {text}}}}}'
    for found in (
        read(document, "json-ld")[0].facts[0],
        fact(f'sarc:value "{text}"')[0],
        fact(f'sarc:value "{text}"^^xsd:double')[0],
    ):
        assert found.value is None
        assert found.value_text is not None


@pytest.mark.threat("B11")
def test_b11_names_are_short(judge) -> None:
    (record,) = read(HEAD + f'ex:p a sarc:Patient ; sarc:identifier "{"n" * (MAX_LABEL + 1)}" .')
    assert record.label == "p"
    (record,) = read(HEAD + f"<urn:{'n' * 5000}> a sarc:Patient .")
    assert len(record.label) <= MAX_LABEL


# -- C: trust inside the graph ---------------------------------------------------------------------
UNMAPPED = WELL.replace("sarc:concept sarc:Haemoglobin", "sarc:concept ex:my-haemoglobin")


@pytest.mark.parametrize(
    "schema",
    [
        "ex:my-haemoglobin rdfs:subClassOf sarc:Haemoglobin .",
        "ex:my-haemoglobin a owl:Class , sarc:Haemoglobin ; owl:equivalentClass sarc:Haemoglobin .",
        "ex:my-haemoglobin owl:sameAs sarc:Haemoglobin .",
        "ex:my-haemoglobin <http://www.w3.org/2004/02/skos/core#exactMatch> sarc:Haemoglobin .",
        "sarc:Haemoglobin owl:sameAs ex:my-haemoglobin ; rdfs:subClassOf ex:my-haemoglobin .",
        "sarc:concept rdfs:range sarc:Haemoglobin . ex:note a sarc:Axis .",
    ],
)
@pytest.mark.threat("C1", "C2")
def test_c1_c2_a_patient_teaches_no_terms(schema: str, judge) -> None:
    """Two patients: what one says of terms frees neither."""
    first, second = judge(UNMAPPED + schema, UNMAPPED.replace("anna", "bert"))
    assert outcomes(first)["I01"] is outcomes(second)["I01"] is Outcome.UNDETERMINED
    assert "DATA005" in {f.code for f in first.data_findings}
    assert "DATA005" not in {f.code for f in second.data_findings}


@pytest.mark.parametrize(
    "rules",
    [
        "trial:I01 sarc:atLeast 1.0 ; sh:deactivated true .",
        "trial:look-back sarc:daysBefore 9999 .",
        "sarc:Haemoglobin sarc:acceptsUnit [ sarc:unit \"g/dL\" ; sarc:factor 10 ] .",
        "ex:anna sarc:clearedFor trial:I01 ; sarc:settles [ sarc:scope sarc:ProcedureHistory ] ; sh:conforms true .",
        "[] a sh:NodeShape ; sh:targetClass sarc:Patient ; sh:rule [ a sh:TripleRule ; sh:subject sh:this ; sh:predicate sarc:clearedFor ; sh:object trial:I01 ] .",
        "trial:I01 a sarc:Policy . sarc:Haemoglobin sarc:plausibleMax 1 .",
    ],
)  # fmt: skip
@pytest.mark.threat("C3")
def test_c3_a_patient_changes_no_rule(rules: str, judge) -> None:
    (assessment,) = judge(WELL.replace("9.4", "8.9") + rules)
    assert outcomes(assessment) == {"I01": Outcome.FAIL, "I02": Outcome.PASS, "E01": Outcome.PASS}
    assert "DATA005" in {f.code for f in assessment.data_findings}


@pytest.mark.threat("C4")
def test_c4_the_same_blank_node_in_two_files_is_two_nodes(
    tiny: KnowledgeBase, tmp_path: Path
) -> None:
    for fmt, ending in (("turtle", "ttl"), ("nt", "nt"), ("json-ld", "jsonld"), ("xml", "rdf")):
        folder = tmp_path / ending
        folder.mkdir()
        for name, value in (("anna", "9.4"), ("bert", "8.9")):
            graph = Graph().parse(
                data=HEAD + WELL.replace("anna", name).replace("9.4", value), format="turtle"
            )
            same = Graph()
            labels = {
                n: BNode(f"o{i}")
                for i, n in enumerate(
                    sorted(graph.objects(URIRef(f"https://example.org/{name}"), SARC.fact))
                )
            }
            for s, p, o in graph:
                same.add((labels.get(s, s), p, labels.get(o, o)))
            (folder / f"{name}.{ending}").write_text(same.serialize(format=fmt), encoding="utf-8")
        anna, bert = tiny.validate(folder).assessments
        assert outcomes(anna)["I01"] is Outcome.PASS, fmt
        assert outcomes(bert)["I01"] is Outcome.FAIL, fmt


@pytest.mark.threat("C5")
def test_c5_two_records_under_one_iri_are_never_merged(judge) -> None:
    for assessment in judge(WELL, WELL.replace("9.4", "8.9"), WELL.replace("anna", "bert")):
        if assessment.patient == "bert":
            assert assessment.verdict is Verdict.ELIGIBLE
        else:
            assert assessment.verdict is Verdict.ERROR
            assert assessment.error is not None
            assert assessment.error.code == "DATA003"


@pytest.mark.threat("C6")
def test_c6_a_result_depends_on_the_patient_alone(judge) -> None:
    bodies = [
        WELL.replace("anna", n).replace("9.4", v)
        for n, v in (("anna", "9.4"), ("bert", "8.9"), ("carl", '"x"'))
    ]
    alone = [judge(b)[0] for b in bodies]
    together = judge(*bodies)
    turned = judge(*reversed(bodies))[::-1]
    in_one_file = judge("".join(bodies))
    for other in (together, turned, in_one_file):
        assert [outcomes(a) for a in other] == [outcomes(a) for a in alone]
        assert [a.verdict for a in other] == [a.verdict for a in alone]


HOSTILE = [
    "p1> a <urn:Eligible> . <urn:p2", "a b", 'quote"', "back\\slash", "curly{}", "pipe|", "caret^", "tick`", "line\nbreak", "\x1b[31m", "\u202e", "%", "no scheme", "",
]  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE)
@pytest.mark.threat("C7", "C8")
def test_c7_c8_a_hostile_name_breaks_no_report_and_adds_no_statement(
    name: str, tiny: KnowledgeBase, tmp_path: Path
) -> None:
    from sarc_kb.reports.json_report import render_json
    from sarc_kb.reports.shacl_report import render_turtle
    from sarc_kb.reports.text_report import render_text

    document = {"@context": CONTEXT, "@id": "urn:" + name, "@type": "Patient", "identifier": name, "entryDate": "2024-03-01",
                "fact": [{"@id": "https://example.org/" + name, "concept": "https://example.org/" + name, "unit": name, "source": name}]}  # fmt: skip
    hostile, harmless = tmp_path / "a.jsonld", tmp_path / "b.ttl"
    hostile.write_text(json.dumps(document))
    harmless.write_text(HEAD + WELL)
    result = tiny.validate(hostile, harmless)
    assert len(result.assessments) == 2
    assert result.assessments[1].verdict is Verdict.ELIGIBLE
    json.loads(render_json(result))
    Graph().parse(data=render_turtle(result, components={}), format="turtle")
    assert "\x1b" not in render_text(result, colour=False, width=100)


@pytest.mark.threat("C8")
def test_c7_a_bad_iri_is_told_and_made_one() -> None:
    (record,) = read(HEAD + '<https://example.org/a b> a sarc:Patient ; sarc:identifier "A" .')
    assert " " not in record.patient
    assert [f.code for f in record.findings] == ["DATA008"]


# -- D: silently wrong answers ---------------------------------------------------------------------
@pytest.mark.parametrize(
    "text",
    [
        "NaN",
        "INF",
        "-INF",
        "Infinity",
        "sNaN",
        "9,5",
        "<5",
        ">90",
        "12 g/dL",
        "1_000",
        "٩",
        "9٫4",
        "0x1F",
        "1e",
        "e5",
        ".",
        "+",
        "-",
        "--1",
        "1.2.3",
        "1/2",
        "½",
        "9.4e",
        "1 000",
        "∞",
        "",
        "True",
    ],
)
@pytest.mark.parametrize("datatype", ["string", "decimal", "double", "integer", "float"])
@pytest.mark.threat("D4", "D5")
def test_d4_d5_what_is_no_number_is_never_read_as_one(text: str, datatype: str) -> None:
    found, _ = fact(
        f'sarc:concept sarc:Haemoglobin ; sarc:value {json.dumps(text, ensure_ascii=False)}^^xsd:{datatype} ; sarc:unit "g/dL"'
    )
    assert found.value is None
    assert found.value_text == text


@pytest.mark.parametrize(
    "value",
    [
        '"NaN"^^xsd:double',
        '"INF"^^xsd:double',
        '"-INF"^^xsd:float',
        '"9,5"^^xsd:decimal',
        '"<5"',
        "1e400",
        "true",
        "ex:high",
        "[]",
        "8.9 , 9.4",
    ],
)
@pytest.mark.threat("D4", "D5")
def test_d4_d5_such_a_value_leaves_the_rule_open(value: str, judge) -> None:
    (assessment,) = judge(WELL.replace("9.4", value))
    assert outcomes(assessment)["I01"] is Outcome.UNDETERMINED
    assert {f.severity for f in assessment.data_findings} >= {"warning"}


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("1.2e3", "1200"),
        ("+9.4", "9.4"),
        (" 9.4 ", "9.4"),
        (".5", "0.5"),
        ("5.", "5"),
        ("-0", "0"),
        ("9.4E-1", "0.94"),
        ("009", "9"),
    ],
)
@pytest.mark.threat("D5")
def test_d5_what_is_a_number_is_read_exactly(text: str, number: str) -> None:
    assert fact(f'sarc:value "{text}"')[0].value == Decimal(number)


@pytest.mark.parametrize(
    "text",
    [
        "2023-W01-1",
        "2023-060",
        "20240301",
        "2024-3-1",
        "2024-02-30",
        "2023-02-29",
        "2024-13",
        "0000",
        "0000-01-01",
        "10000-01-01",
        "-2024",
        "2024-03-01T24:00:00",
        "2024-03-01T10:60:00",
        "2024-03-01T10",
        "2024-03-01+08:00",
        "2024-03-01Z",
        "2024-03-01T10:00:00+15:00",
        "2024-03-01 10:00",
        "1.3.2024",
        "03/01/2024",
        "٢٠٢٤-٠٣-٠١",
        "2024-03-01T10:00:60Z",
        "today",
        "",
    ],
)
@pytest.mark.threat("D6")
def test_d6_what_is_no_date_is_not_known(text: str) -> None:
    for datatype in ("date", "dateTime", "gYear", "string"):
        found, record = fact(f'sarc:concept sarc:ALT ; sarc:date "{text}"^^xsd:{datatype}')
        assert found.start is found.end is None
        assert [f.code for f in record.findings] == ["DATA009"]


@pytest.mark.threat("D6")
def test_d6_partial_dates_and_zones_are_kept_as_written() -> None:
    for text in (
        "2024",
        "2024-02",
        "2024-02-29",
        "2024-03-01T10:00:00",
        "2024-03-01T10:00:00.5Z",
        "2024-03-01T23:59:59-12:00",
    ):
        found, record = fact(f'sarc:date "{text}"')
        assert found.start is not None
        assert found.start.text == text
        assert record.findings == ()
    assert fact('sarc:date "2024-03-01T10:00:00.50Z"^^xsd:dateTime')[0].start == parse_date(
        "2024-03-01T10:00:00.50Z"
    )


@pytest.mark.threat("D6")
def test_d6_the_day_written_decides_whatever_the_zone(judge) -> None:
    for zone in ("+14:00", "-12:00", "Z", ""):
        inside = WELL.replace(
            '"2024-02-21"^^xsd:date', f'"2024-02-16T00:30:00{zone}"^^xsd:dateTime'
        )
        outside = WELL.replace(
            '"2024-02-21"^^xsd:date', f'"2024-02-15T23:30:00{zone}"^^xsd:dateTime'
        )
        assert outcomes(judge(inside)[0])["I01"] is Outcome.PASS
        assert outcomes(judge(outside)[0])["I01"] is Outcome.UNDETERMINED


@pytest.mark.parametrize(
    ("written", "passes"),
    [("9.0", True), ("9", True), ("8.999999999999999999999999999999999999999", False), ("9.000000000000000000000000000000000000000", True), ("8.99999999999999999", False)],
)  # fmt: skip
@pytest.mark.threat("D9")
def test_d9_a_limit_is_compared_to_the_last_digit(
    written: str, passes: bool, tiny: KnowledgeBase, tmp_path: Path
) -> None:
    graph = Graph().parse(data=HEAD + WELL, format="turtle")
    document = json.loads(graph.serialize(format="json-ld"))
    for node in document:
        if str(SARC.value) in node:
            node[str(SARC.value)] = [{"@value": "VALUE"}]
    text = json.dumps(document).replace('"VALUE"', written)
    (tmp_path / "a.jsonld").write_text(text)
    (tmp_path / "b.ttl").write_text(HEAD + WELL.replace("9.4", written).replace("anna", "bert"))
    for assessment in tiny.validate(tmp_path).assessments:
        assert outcomes(assessment)["I01"] is (Outcome.PASS if passes else Outcome.FAIL)


@pytest.mark.threat("D9")
def test_d9_a_decimal_of_json_keeps_its_digits() -> None:
    for number in ("1.50", "0.1234567890123456789012345", "9.4e-1"):
        for value in (
            number,
            f'{{"@value": {number}}}',
            f'{{"@value": {number}, "@type": "xsd:decimal"}}',
        ):
            document = f'{{"@context": "{CONTEXT}", "@id": "{ANNA}", "@type": "Patient", "fact": {{"concept": "ALT", "value": {value}}}}}'
            found = read(document, "json-ld")[0].facts[0].value
            assert str(found) == str(Decimal(number)), value
    assert "@value" in refusal(
        '{"@context": {"v": "@value"}, "@id": "urn:p", "urn:x": {"v": 1.10}}', "json-ld"
    )


@pytest.mark.parametrize(
    "status",
    [
        "Entered in error",
        "urn:entered in error",
        "@entered",
        "entered-in-error",
        {"@value": "EnteredInError"},
        {"@id": "Entered In Error"},
        ["EnteredInError", "x y"],
        5,
    ],
)
@pytest.mark.threat("D15")
def test_d_a_status_of_json_ld_that_cannot_be_read_is_not_lost(
    status: object, tiny: KnowledgeBase, tmp_path: Path
) -> None:
    document = {"@context": CONTEXT, "@id": ANNA, "@type": "Patient", "entryDate": "2024-03-01",
                "fact": [{"concept": "Haemoglobin", "value": 9.4, "unit": "g/dL", "date": "2024-02-21", "status": status}]}  # fmt: skip
    (tmp_path / "a.jsonld").write_text(json.dumps(document))
    (assessment,) = tiny.validate(tmp_path).assessments
    assert outcomes(assessment)["I01"] is Outcome.UNDETERMINED
    assert {f.severity for f in assessment.data_findings} >= {"warning"}


@pytest.mark.threat("D15")
def test_d_a_key_of_json_ld_without_a_term_is_told() -> None:
    document = {
        "@context": {"fact": str(SARC.fact), "Patient": str(SARC.Patient)},
        "@id": ANNA,
        "@type": "Patient",
        "fact": {"status": "EnteredInError"},
    }
    (record,) = read(json.dumps(document), "json-ld")
    assert len(record.facts) == 1
    assert [f.code for f in record.findings] == ["DATA005"]


@pytest.mark.parametrize(
    ("top", "inner", "told"),
    [
        (None, {}, "a context of null"),
        ([CONTEXT, [None]], {}, "a context of null"),
        (CONTEXT, {"@context": None}, "a context of null"),
        ({"x": {"@id": "urn:x", "@context": None}}, {}, "a context of null"),
        ({"@vocab": None}, {}, "a context without a vocabulary"),
        ({"@vocab": ""}, {}, "a context without a vocabulary"),
        ({"status": None}, {}, "a term that stands for nothing"),
        ({"status": {"@id": None}}, {}, "a term that stands for nothing"),
        (False, {}, "a context that is no object"),
        (CONTEXT, {"@status": "EnteredInError"}, "a key that begins with @ and is no keyword"),
        ({"status": "@status"}, {}, "a key that begins with @ and is no keyword"),
    ],
)
@pytest.mark.threat("D15")
def test_d_a_context_of_json_ld_may_not_drop_keys(top: object, inner: dict, told: str) -> None:
    """A processor passes over such keys without a word, and a cancelled fact would count."""
    given = {"status": "EnteredInError", **inner}
    document = {"@context": top, "@id": ANNA, str(SARC.fact): given}
    assert refusal(json.dumps(document), "json-ld") == told


@pytest.mark.parametrize("context", [{}, [], [{}], [[]], {"@version": 1.1}, {"@base": None}])
@pytest.mark.threat("D15")
def test_d_a_context_that_says_nothing_drops_nothing(context: object) -> None:
    given = {"status": "EnteredInError"}
    for document in (
        {"@context": context, "@id": ANNA, str(SARC.fact): given},
        {"@context": {"x": "urn:x"}, "@id": ANNA, str(SARC.fact): {"@context": context, **given}},
    ):
        (record,) = read(json.dumps(document), "json-ld")
        assert [f.code for f in record.findings] == ["DATA005"]


@pytest.mark.parametrize("base", [None, ""])
@pytest.mark.threat("D15")
def test_d_a_fact_of_json_ld_without_an_iri_is_not_lost(base: object) -> None:
    for name in ("x y", "x", "@x"):
        document = {
            "@context": [CONTEXT, {"@base": base}],
            "@id": ANNA,
            "@type": "Patient",
            "fact": {"@id": name, "concept": "BloodTransfusion"},
        }
        (record,) = read(json.dumps(document), "json-ld")
        assert [f.concepts for f in record.facts] == [(str(SARC.BloodTransfusion),)], name


# What one fact says twice or vaguely makes it count for less, never for more.
def test_two_statuses_are_a_suspicion() -> None:
    found, record = fact(
        "sarc:concept sarc:Biopsy ; sarc:status sarc:Confirmed , sarc:EnteredInError"
    )
    assert found.status == str(SARC.Suspected)
    assert [f.code for f in record.findings] == ["DATA007"]


def test_two_kinds_are_a_suspicion() -> None:
    found, _ = fact("a sarc:Plan , sarc:Procedure ; sarc:concept sarc:Biopsy")
    assert (found.kind, found.status) == (None, str(SARC.Suspected))
    found, record = fact(
        "a sarc:Procedure , ex:Thing , sarc:ClinicalFact ; sarc:concept sarc:Biopsy"
    )
    assert (found.kind, found.status) == (str(SARC.Procedure), None)
    assert [f.code for f in record.findings] == ["DATA005"]


@pytest.mark.parametrize(
    "name",
    ["unit", "upperLimitUnit", "comparator", "value", "upperLimit", "date", "recorded", "ongoing"],
)
def test_two_values_of_one_property_are_none(name: str) -> None:
    values = {
        "comparator": '"<" , ">"',
        "value": "1 , 2",
        "upperLimit": "1 , 2",
        "ongoing": "true , false",
    }
    given = values.get(name, '"2024" , "2023"')
    found, record = fact(
        f"sarc:concept sarc:INR ; {'' if name == 'value' else 'sarc:value 5 ;'} sarc:{name} {given}"
    )
    assert "DATA007" in {f.code for f in record.findings}
    if name in ("comparator", "value"):
        assert found.value is None
        assert found.value_text
    elif name.endswith("nit"):
        # Not absent: a count without a unit, or a limit with the result's unit, would be read.
        assert "(several)" in (found.unit, found.upper_limit_unit)
    else:
        assert (found.upper_limit, found.start, found.recorded, found.ongoing) == (
            None,
            None,
            None,
            None,
        )


@pytest.mark.parametrize("text", ["yes", "TRUE", "2", ""])
def test_ongoing_is_true_or_false_or_not_known(text: str) -> None:
    found, record = fact(f'sarc:concept sarc:Biopsy ; sarc:ongoing "{text}"^^xsd:boolean')
    assert found.ongoing is None
    assert [f.code for f in record.findings] == ["DATA008"]
    assert fact('sarc:ongoing "1"^^xsd:boolean')[0].ongoing is True
    assert fact('sarc:ongoing "0"^^xsd:boolean')[0].ongoing is False


@pytest.mark.parametrize("name", ["concept", "valueConcept", "status", "bodySite"])
@pytest.mark.parametrize("value", ['"Jane Doe"', "[]", '[ rdfs:label "Jane Doe" ]'])
@pytest.mark.threat("D10")
def test_a_text_where_a_term_belongs_is_unreadable_and_not_repeated(name: str, value: str) -> None:
    found, record = fact(f"sarc:{name} {value}")
    assert "(not a term)" in repr(found)
    assert "Doe" not in repr(record)
    assert any(f.code == "DATA008" and name in f.found for f in record.findings)


def test_facts_of_an_unreadable_kind_void_a_statement_of_completeness(judge) -> None:
    """A code nobody can read may be the transfusion that the statement says there was not."""
    odd = '[ sarc:concept <http://snomed.info/sct/1> ; sarc:date "2024-02-25"^^xsd:date ] ,'
    (assessment,) = judge(WELL.replace("sarc:fact\n", "sarc:fact " + odd))
    assert outcomes(assessment)["E01"] is Outcome.UNDETERMINED


# -- E: broken input -------------------------------------------------------------------------------
@pytest.mark.parametrize("constant", ["NaN", "Infinity", "-Infinity"])
@pytest.mark.threat("E7")
def test_e7_json_has_no_such_numbers(constant: str) -> None:
    assert constant in refusal(f'{{"@id": "urn:p", "urn:x": {constant}}}', "json-ld")


@pytest.mark.parametrize(
    "pair",
    [
        '"status": "Confirmed", "status": "EnteredInError"',
        '"status": "EnteredInError", "status": "Confirmed"',
    ],
)
@pytest.mark.threat("E4")
def test_e4_a_key_twice_is_refused(pair: str) -> None:
    assert "twice" in refusal(f'{{"@context": "{CONTEXT}", "fact": {{{pair}}}}}', "json-ld")


@pytest.mark.parametrize(
    ("data", "fmt"),
    [
        (b"\xff\xfe<\x00u\x00r\x00n\x00", "turtle"), (HEAD.encode() + b'ex:p sarc:identifier "\xe9" .', "turtle"),
        (b'{"@id": "\xe9"}', "json-ld"), (HEAD.encode() + b'ex:p a sarc:Patient ; sarc:identifier "\\uD800" .', "turtle"),
        (b'{"@id": "urn:p", "@type": "https://w3id.org/sarc-kb/ontology#Patient", "urn:x": "\\ud800"}', "json-ld"),
        (f'<rdf:RDF xmlns:rdf="{RDF}"><a>'.encode(), "xml"), (b"", "xml"), (b"", "json-ld"), (b"{", "json-ld"),
        (b"@prefix", "turtle"), (b"<urn:a> <urn:b> 'x' 'y' .", "turtle"),
    ],
)  # fmt: skip
@pytest.mark.threat("E6")
def test_e6_broken_bytes_are_refused_at_the_door(data: bytes, fmt: str) -> None:
    refusal(data, fmt)


def test_a_fault_of_syntax_has_its_line() -> None:
    assert refusal(TURTLE.replace("sarc:unit", "sarc:unit ;;; ,"), "turtle").endswith(", line 15")
    assert refusal(NTRIPLES.splitlines()[0] + "\n<urn:a> <urn:b> .\n", "turtle").endswith(
        ", line 2"
    )
    assert refusal('{\n"a":\n}', "json-ld").endswith("line 3")
    assert refusal("<a>\n\n</b>", "xml").endswith(", line 3")
    assert refusal("<urn:a> foo:b 1 .", "turtle").endswith("prefix foo: is not declared")


def test_a_named_graph_is_refused_and_not_lost() -> None:
    person = {"@id": ANNA, "@type": str(SARC.Patient)}
    assert refusal(json.dumps({"@id": "urn:g", "@graph": [person]}), "json-ld") == "a named graph"
    assert len(read(json.dumps({"@graph": [person]}), "json-ld")) == 1


@pytest.mark.parametrize(
    ("text", "fmt"),
    [
        ('<urn:a> <urn:b> "CANARY line 7 of the record', "turtle"),
        ("<urn:a> <urn:b> CANARY:line .", "turtle"),
        ('{"CANARY line": CANARY line 4}', "json-ld"),
        ("<a>CANARY line 4</b>", "xml"),
        ('<urn:a> <urn:b> "x" CANARY line', "turtle"),
        ('<urn:a> <urn:CANARY line> "x"', "turtle"),
    ],
)
@pytest.mark.threat("F2")
def test_f2_a_refusal_quotes_nothing(text: str, fmt: str) -> None:
    found = refusal(text, fmt)
    if "is not declared" not in found:
        assert "CANARY" not in found


@pytest.mark.threat("F2")
def test_f2_rdflib_stays_silent_and_is_left_as_it_was(
    caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    import rdflib

    before = (logging.getLogger("rdflib").level, rdflib.NORMALIZE_LITERALS)
    with caplog.at_level(logging.DEBUG):
        caplog.clear()
        read(
            HEAD
            + '<urn:a b> a sarc:Patient ; sarc:fact [ sarc:value "CANARY"^^xsd:decimal ; sarc:date "2024-02-30"^^xsd:date ; sarc:basis "<b"^^rdf:XMLLiteral ] .'.replace(
                "rdf:XMLLiteral", f"<{RDF}XMLLiteral>"
            )
        )
        refusal("<urn:a b> CANARY", "turtle")
    assert caplog.records == []
    captured = capsys.readouterr()
    assert captured.out + captured.err == ""
    assert (logging.getLogger("rdflib").level, rdflib.NORMALIZE_LITERALS) == before
