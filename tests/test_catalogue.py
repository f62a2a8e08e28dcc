"""The catalogue record and the alignments: every file is in them as it lies on disk, the numbers are
those that somebody else counts, and the terms of others exist."""

from __future__ import annotations

import gzip
import hashlib
import os
import re
from collections import Counter
from pathlib import Path

import pytest
import sssom_pydantic
from rdflib import OWL, RDF, RDFS, Graph, Literal, URIRef
from rdflib.namespace import DCAT, DCTERMS, FOAF, SKOS, VOID, XSD

from sarc_kb.export import alignments, catalogue
from sarc_kb.kb import KnowledgeBase, content_files, data_folder
from sarc_kb.namespaces import SARC
from tests.tiny_trial import build_tiny

ROOT = data_folder()
DATA = Path(os.environ.get("SARC_KB_DATA") or ROOT.parent / "shared" / "data")
TABLES = sorted((ROOT / "ontology" / "alignments").glob("*.sssom.tsv"))
BASE = "https://example.org/files/"
ONTOLOGY = URIRef("https://w3id.org/sarc-kb/ontology")
TINY = URIRef("https://w3id.org/sarc-kb/trial/TINY/")
SPDX = "http://spdx.org/rdf/terms#"
VERSION = URIRef("http://www.w3.org/ns/dcat#version")  # new in DCAT 3


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> KnowledgeBase:
    return KnowledgeBase.load(build_tiny(tmp_path_factory.mktemp("tiny")))


@pytest.fixture(scope="module")
def record(tiny: KnowledgeBase) -> Graph:
    text = catalogue.render(tiny, base=BASE, site="https://example.org/book")
    return Graph().parse(data=text, format="turtle")


def test_every_file_is_there_once_as_it_lies(tiny: KnowledgeBase, record: Graph) -> None:
    listed = Counter(str(file) for file in record.objects(None, DCAT.distribution))
    on_disk = {p.relative_to(tiny.root).as_posix(): p for p in content_files(tiny.root)}
    assert listed == Counter(BASE + name for name in on_disk)
    for name, path in on_disk.items():
        file = URIRef(BASE + name)
        assert (file, RDF.type, DCAT.Distribution) in record
        assert record.value(file, DCAT.byteSize) == Literal(
            str(path.stat().st_size), datatype=XSD.nonNegativeInteger
        )
        checksum = record.value(file, URIRef(SPDX + "checksum"))
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        assert str(record.value(checksum, URIRef(SPDX + "checksumValue"))) == digest
        assert record.value(file, DCAT.accessURL) == record.value(file, DCAT.downloadURL) == file
        licensed = record.value(file, DCTERMS.license) is not None
        assert licensed == (path.suffix != ".txt")


def test_every_dataset_says_what_a_catalogue_needs(record: Graph) -> None:
    """What DCAT-AP 3 asks of a catalogue and its datasets, and a version of each."""
    (catalog,) = record.subjects(RDF.type, DCAT.Catalog)
    datasets = set(record.objects(catalog, DCAT.dataset))
    assert datasets == set(record.subjects(RDF.type, DCAT.Dataset))
    assert {ONTOLOGY, TINY} < datasets
    assert len(datasets) == 5
    for one in (catalog, *datasets):
        for needed in (DCTERMS.title, DCTERMS.description, DCTERMS.publisher, DCTERMS.license):
            assert len(set(record.objects(one, needed))) == 1, (one, needed)
        publisher = record.value(one, DCTERMS.publisher)
        assert (publisher, RDF.type, FOAF.Agent) in record
    for dataset in datasets:
        assert list(record.objects(dataset, DCAT.distribution))
        assert len(set(record.objects(dataset, OWL.versionIRI))) == 1
        assert record.value(dataset, OWL.versionInfo) == record.value(dataset, VERSION)
        assert str(record.value(dataset, FOAF.page)).startswith("https://example.org/book/")
    own = URIRef("https://w3id.org/sarc-kb/ontology/0.1.0")  # as ontology/sarc.ttl has it
    assert record.value(ONTOLOGY, OWL.versionIRI) == own


def test_each_file_of_rdf_has_a_version_and_its_numbers(tiny: KnowledgeBase, record: Graph) -> None:
    """Counted by SPARQL, from the files."""
    files = [p for p in content_files(tiny.root) if p.suffix == ".ttl"]
    assert len(files) > 15
    for path in files:
        file = URIRef(BASE + path.relative_to(tiny.root).as_posix())
        assert str(record.value(file, OWL.versionIRI)).endswith(
            "/0.1.0/" + path.relative_to(tiny.root).as_posix()
        )
        assert counted(Graph().parse(path, format="turtle")) == told(record, file), path.name
        assert list(record.subjects(VOID.subset, file))


def test_the_numbers_of_a_dataset_are_those_of_its_files_together(
    tiny: KnowledgeBase, record: Graph
) -> None:
    for dataset, folder in ((ONTOLOGY, "ontology"), (TINY, "shapes/trials/tiny")):
        whole = Graph()
        for path in sorted((tiny.root / folder).rglob("*.ttl")):
            whole.parse(path, format="turtle")
        assert counted(whole) == told(record, dataset)
    partitions = {
        record.value(p, VOID["class"]): int(record.value(p, VOID.entities))
        for p in record.objects(ONTOLOGY, VOID.classPartition)
    }
    classes = sum(
        len(re.findall(r"^sarc:\S+ a owl:Class\b", p.read_text("utf-8"), flags=re.MULTILINE))
        for p in (tiny.root / "ontology").rglob("*.ttl")
    )
    assert partitions[OWL.Class] >= classes > 500


def counted(graph: Graph) -> dict[str, int]:
    asked = {
        "triples": "SELECT (COUNT(*) AS ?n) { ?s ?p ?o }",
        "distinctSubjects": "SELECT (COUNT(DISTINCT ?s) AS ?n) { ?s ?p ?o }",
        "distinctObjects": "SELECT (COUNT(DISTINCT ?o) AS ?n) { ?s ?p ?o }",
        "classes": "SELECT (COUNT(DISTINCT ?o) AS ?n) { ?s a ?o }",
        "properties": "SELECT (COUNT(DISTINCT ?p) AS ?n) { ?s ?p ?o }",
    }
    return {name: int(next(iter(graph.query(query)))[0]) for name, query in asked.items()}


def told(record: Graph, subject: URIRef) -> dict[str, int]:
    names = ("triples", "distinctSubjects", "distinctObjects", "classes", "properties")
    assert (subject, RDF.type, VOID.Dataset) in record
    return {name: int(record.value(subject, VOID[name])) for name in names}


def test_a_trial_says_its_own_version(kb: KnowledgeBase) -> None:
    (real,) = (p for p in catalogue.parts_of(kb) if "/trial/" in p.iri)
    assert real.title == "NCT05602415 as data: eligibility and treatment rules"
    assert str(real.version_iri) == "https://w3id.org/sarc-kb/version/0.1.0/trial/NCT05602415"


def test_no_two_tables_have_one_name() -> None:
    """Findings name a table by the name of its file alone."""
    names = [p.name for p in (ROOT / "ontology").rglob("*.sssom.tsv")]
    assert len(names) == len(set(names))


# -- alignments ------------------------------------------------------------------------------------
@pytest.mark.parametrize("path", TABLES, ids=lambda p: p.name)
def test_alignments_are_read_whole(path: Path, kb: KnowledgeBase) -> None:
    mappings, _, mapping_set, errors = sssom_pydantic.read(path, return_errors=True)
    rows = [r for r in path.read_text("utf-8").splitlines() if not r.startswith("#")][1:]
    assert not errors
    assert len(mappings) == len(rows) == len(set(rows)) > 0
    assert str(mapping_set.id) == f"https://w3id.org/sarc-kb/ontology/alignments/{path.name}"
    for row in rows:
        cells = row.split("\t")
        assert cells[7] in ("yes", "no")
        assert cells[6]
        if cells[3].startswith("sarc:"):
            term = SARC[cells[3].removeprefix("sarc:")]
            assert str(kb.terms.graph.value(term, RDFS.label)) == cells[4]


@pytest.mark.data
@pytest.mark.skipif(
    not DATA.is_dir(), reason="sample data: neither SARC_KB_DATA nor ../shared/data"
)
def test_the_terms_of_fhir_exist() -> None:
    with gzip.open(DATA / "fhir-rdf" / "fhir_r4.ttl.gz", "rt", encoding="utf-8") as stream:
        declared = set(re.findall(r"^fhir:(\S+)\s+a\s", stream.read(), flags=re.MULTILINE))
    (path,) = (p for p in TABLES if p.name == "fhir-rdf.sssom.tsv")
    named = re.findall(r"^FHIR:(\S+)\t", path.read_text("utf-8"), flags=re.MULTILINE)
    assert len(named) > 20
    assert set(named) <= declared


def test_verified_alignments_as_turtle() -> None:
    graph = Graph().parse(data=alignments.render(ROOT), format="turtle")
    assert set(graph.predicates()) == {
        SKOS.exactMatch,
        SKOS.closeMatch,
        SKOS.broadMatch,
        SKOS.narrowMatch,
        SKOS.relatedMatch,
    }
    fhir = "http://hl7.org/fhir/"
    for ours, how, theirs in (
        (SARC.comparator, SKOS.exactMatch, fhir + "Quantity.comparator"),
        (SARC.Condition, SKOS.closeMatch, fhir + "Condition"),
        # A study need not be a trial, and what is given is not all that is taken.
        (SARC.Trial, SKOS.broadMatch, fhir + "ResearchStudy"),
        (SARC.MedicationUse, SKOS.narrowMatch, fhir + "MedicationAdministration"),
        (SARC.Allergy, SKOS.closeMatch, "https://biomedit.ch/rdf/sphn-ontology/sphn#Allergy"),
    ):
        assert (ours, how, URIRef(theirs)) in graph
    assert not [o for o in graph.objects() if "/sphn-schema/" in str(o)]  # unverified
