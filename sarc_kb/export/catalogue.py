"""The catalogue record of a knowledge base: what is published, in which version, with which files.

DCAT 3 says what there is and where; VoID counts what each file of RDF holds. Every number is counted
from the files, and nothing is dated: the same knowledge base has the same record, byte for byte.
Source: W3C DCAT 3 (2024); Vocabulary of Interlinked Datasets (VoID, 2011).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from rdflib import BNode, Graph, Literal, Namespace, URIRef

from sarc_kb.kb import KnowledgeBase, content_files
from sarc_kb.namespaces import BASE, DCTERMS, OWL, RDF, RDFS, SARC, SH, TRIAL_BASE, XSD
from sarc_kb.reports.turtle import stable_turtle
from sarc_kb.turtle_files import parse_files

DCAT = Namespace("http://www.w3.org/ns/dcat#")
VOID = Namespace("http://rdfs.org/ns/void#")
SPDX = Namespace("http://spdx.org/rdf/terms#")
FOAF = Namespace("http://xmlns.com/foaf/0.1/")

_LICENCE = URIRef("https://creativecommons.org/licenses/by/4.0/")
_MEDIA = {
    ".ttl": "text/turtle",
    ".tsv": "text/tab-separated-values",
    ".txt": "text/plain",
}
_DECLARED = (OWL.Class, OWL.ObjectProperty, OWL.DatatypeProperty, OWL.NamedIndividual, SH.NodeShape)
_MEDIA_TYPES = "https://www.iana.org/assignments/media-types/"


@dataclass(frozen=True, slots=True)
class Part:
    """One dataset of the catalogue: its IRI, its words, and its files."""

    iri: URIRef
    title: str
    description: str
    version: str
    version_iri: URIRef
    files: tuple[Path, ...]
    page: str


@dataclass(frozen=True, slots=True)
class Counts:
    """What a graph holds, as VoID counts: distinct classes are those that something is a member of,
    distinct properties those that stand between two things."""

    triples: int
    subjects: int
    objects: int
    classes: int
    properties: int

    @classmethod
    def of(cls, graph: Graph) -> Counts:
        return cls(
            triples=len(graph),
            subjects=len(set(graph.subjects())),
            objects=len(set(graph.objects())),
            classes=len(set(graph.objects(None, RDF.type))),
            properties=len(set(graph.predicates())),
        )


def render(kb: KnowledgeBase, *, base: str | None = None, site: str | None = None) -> str:
    """Return the catalogue record as Turtle.

    Args:
        base: the IRI of the folder that the files are published in (default: one for the version).
        site: where the rule book is published, to name it as documentation.
    """
    version = kb.info.version
    folder = base or f"{BASE}version/{version}/"
    maker = _Maker(kb.root, folder if folder.endswith("/") else folder + "/", site)
    catalogue = URIRef(BASE + "catalogue")
    publisher = URIRef(BASE)
    parts = list(parts_of(kb))
    maker.add(
        catalogue,
        (RDF.type, DCAT.Catalog),
        (DCTERMS.title, Literal("sarc-kb: rules of clinical trials as data", lang="en")),
        (
            DCTERMS.description,
            Literal("An ontology, its tables of codes, and the rules of trials.", lang="en"),
        ),
        (DCTERMS.publisher, publisher),
        (DCTERMS.license, _LICENCE),
        (DCAT.version, Literal(version)),
        *((DCAT.dataset, part.iri) for part in parts),
    )
    maker.add(_LICENCE, (RDF.type, DCTERMS.LicenseDocument))
    maker.add(SPDX.checksumAlgorithm_sha256, (RDF.type, SPDX.ChecksumAlgorithm))
    maker.add(publisher, (RDF.type, FOAF.Agent), (FOAF.name, Literal("sarc-kb")))
    for part in parts:
        maker.dataset(part, publisher)
    names = {"dcat": DCAT, "dcterms": DCTERMS, "foaf": FOAF, "spdx": SPDX, "void": VOID}
    return stable_turtle(maker.graph, {name: str(uri) for name, uri in names.items()})


def parts_of(kb: KnowledgeBase) -> Iterable[Part]:
    """Yield the datasets: the ontology, the tables of codes, the alignments, the shapes that all
    trials share, and each trial."""
    root, version = kb.root, kb.info.version
    files = content_files(root)

    def below(*names: str) -> tuple[Path, ...]:
        folder = root.joinpath(*names)
        return tuple(p for p in files if folder in p.parents)

    tables, aligned = below("ontology", "mappings"), below("ontology", "alignments")
    terms = tuple(p for p in below("ontology") if p not in (*tables, *aligned))
    yield _part(
        "ontology",
        "Ontology of sarc-kb",
        "The vocabulary of patient graphs and rules, and the terms of medicine that rules use.",
        version,
        terms,
        "vocabulary.html",
        kb.terms.graph,
    )
    yield _part(
        "ontology/mappings",
        "Codes of sarc-kb",
        "SSSOM tables from codes of public code systems to the terms of the ontology. The codes are "
        "identifiers of their owners, under their owners' terms.",
        version,
        tables,
        "vocabulary.html",
    )
    if aligned:
        yield _part(
            "ontology/alignments",
            "Alignments of sarc-kb",
            "SSSOM tables from classes and properties of FHIR RDF and SPHN to ours.",
            version,
            aligned,
            "vocabulary.html",
        )
    trials = below("shapes", "trials")
    yield _part(
        "shapes",
        "Shapes of sarc-kb",
        "SHACL: the constraint components of the rule language in both readings, and the shapes of "
        "patient graphs and of rules.",
        version,
        tuple(p for p in below("shapes") if p not in trials),
        "rules.html",
    )
    for trial, folder in kb.trial_folders.items():
        yield _trial_part(kb, trial, tuple(p for p in files if folder in p.parents))


def _part(
    path: str,
    title: str,
    description: str,
    version: str,
    files: tuple[Path, ...],
    page: str,
    graph: Graph | None = None,
) -> Part:
    iri = URIRef(BASE + path)
    own = graph.value(iri, OWL.versionIRI) if graph is not None else None
    made = URIRef(f"{BASE}version/{version}/{path}")
    version_iri = own if isinstance(own, URIRef) else made
    return Part(iri, title, description, version, version_iri, files, page)


def _trial_part(kb: KnowledgeBase, trial: str, files: tuple[Path, ...]) -> Part:
    """Return the dataset of one trial, with what its files say of themselves."""
    graph = kb.trial_graph(trial)
    named = sorted(
        s
        for s in graph.subjects(RDF.type, OWL.Ontology)
        if isinstance(s, URIRef) and s.startswith(TRIAL_BASE)
    )
    iri = named[0] if named else URIRef(f"{TRIAL_BASE}{trial}/")
    study = min(map(str, graph.subjects(RDF.type, SARC.Trial)), default=trial)
    label = str(graph.value(URIRef(study), RDFS.label) or trial)
    version = str(graph.value(iri, OWL.versionInfo) or kb.info.version)
    made = URIRef(f"{BASE}version/{version}/trial/{trial}")
    own = graph.value(iri, OWL.versionIRI)
    return Part(
        iri=iri,
        title=str(graph.value(iri, DCTERMS.title) or f"Rules of {trial}"),
        description=str(graph.value(iri, DCTERMS.description) or f"The rules of {label} as data."),
        version=version,
        version_iri=own if isinstance(own, URIRef) else made,
        files=files,
        page="index.html",
    )


class _Maker:
    def __init__(self, root: Path, base: str, site: str | None) -> None:
        self.root, self.base = root, base
        self.site = site if site is None or site.endswith("/") else site + "/"
        self.graph = Graph()

    def add(self, subject: URIRef | BNode, *says: tuple[URIRef, URIRef | BNode | Literal]) -> None:
        for predicate, value in says:
            self.graph.add((subject, predicate, value))

    def dataset(self, part: Part, publisher: URIRef) -> None:
        self.add(
            part.iri,
            (RDF.type, DCAT.Dataset),
            (DCTERMS.title, Literal(part.title, lang="en")),
            (DCTERMS.description, Literal(part.description, lang="en")),
            (DCTERMS.publisher, publisher),
            (DCTERMS.license, _LICENCE),
            (DCAT.version, Literal(part.version)),
            (OWL.versionInfo, Literal(part.version)),
            (OWL.versionIRI, part.version_iri),
        )
        if self.site is not None:
            self.add(part.iri, (FOAF.page, URIRef(self.site + part.page)))
            self.add(URIRef(self.site + part.page), (RDF.type, FOAF.Document))
        whole = Graph()
        for path in part.files:
            file = self.distribution(path, part)
            if path.suffix == ".ttl":
                graph = parse_files([path])
                self.counts(file, Counts.of(graph))
                self.add(part.iri, (VOID.subset, file))
                whole += graph
        if len(whole):
            self.counts(part.iri, Counts.of(whole))
            self.declared(part.iri, whole)

    def distribution(self, path: Path, part: Part) -> URIRef:
        """Say what one file is and where it lies, and return its IRI."""
        file = URIRef(self.base + path.relative_to(self.root).as_posix())
        content = path.read_bytes()
        checksum = URIRef(f"{file}#sha256")
        media = URIRef(_MEDIA_TYPES + _MEDIA[path.suffix])
        self.add(media, (RDF.type, DCTERMS.MediaType))
        self.add(part.iri, (DCAT.distribution, file))
        if path.suffix != ".txt":  # the record of a registry is not ours to license
            self.add(file, (DCTERMS.license, _LICENCE))
        if path.suffix == ".ttl":
            made = f"{BASE}version/{part.version}/{path.relative_to(self.root).as_posix()}"
            self.add(file, (OWL.versionIRI, URIRef(made)))
        self.add(
            file,
            (RDF.type, DCAT.Distribution),
            (DCTERMS.title, Literal(path.name)),
            (DCAT.accessURL, file),
            (DCAT.downloadURL, file),
            (DCAT.mediaType, media),
            (DCAT.byteSize, Literal(str(len(content)), datatype=XSD.nonNegativeInteger)),
            (OWL.versionInfo, Literal(part.version)),
            (SPDX.checksum, checksum),
        )
        self.add(
            checksum,
            (RDF.type, SPDX.Checksum),
            (SPDX.algorithm, SPDX.checksumAlgorithm_sha256),
            (
                SPDX.checksumValue,
                Literal(hashlib.sha256(content).hexdigest(), datatype=XSD.hexBinary),
            ),
        )
        return file

    def counts(self, subject: URIRef, counts: Counts) -> None:
        numbers = (
            (VOID.triples, counts.triples),
            (VOID.distinctSubjects, counts.subjects),
            (VOID.distinctObjects, counts.objects),
            (VOID.classes, counts.classes),
            (VOID.properties, counts.properties),
        )
        self.add(subject, (RDF.type, VOID.Dataset))
        self.add(subject, *((name, Literal(number)) for name, number in numbers))

    def declared(self, subject: URIRef, graph: Graph) -> None:
        """Say how many classes, properties and individuals a dataset declares."""
        for kind in _DECLARED:
            count = len(set(graph.subjects(RDF.type, kind)))
            if count:
                partition = BNode()
                self.add(subject, (VOID.classPartition, partition))
                self.add(partition, (VOID["class"], kind), (VOID.entities, Literal(count)))
