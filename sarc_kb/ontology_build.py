"""Check the ontology and write down what the reasoner concludes from it.

    python -m sarc_kb.ontology_build          writes ontology/inferred.ttl
    python -m sarc_kb.ontology_build --check  writes nothing, fails if anything is wrong or stale

HermiT classifies the OWL ontology, which is ``sarc.ttl`` and ``taxonomy/*.ttl``. Its conclusions
are committed, so that judging a patient needs neither Java nor a reasoner. ``--check`` also runs
the quality queries over the whole folder, mappings and derivations included.

Exit status: 0 good, 1 the ontology is at fault or ``inferred.ttl`` is stale, 2 could not run,
4 no Java (or no owlready2) to run the reasoner with.

Of ``sarc_kb`` nothing is imported here, and nothing else there imports owlready2.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import io
import shutil
import sys
from collections.abc import Iterable, Iterator, Mapping
from itertools import combinations
from pathlib import Path

from rdflib import BNode, Graph, URIRef
from rdflib.collection import Collection
from rdflib.namespace import OWL, RDF, RDFS
from rdflib.query import ResultRow

ONTOLOGY = "https://w3id.org/sarc-kb/ontology"
NAMESPACE = ONTOLOGY + "#"
NO_REASONER = 4
_PYTHON_MODULE = URIRef(
    "http://www.lesfleursdunormal.fr/static/_downloads/owlready_ontology.owl#python_module"
)

_PREFIXES = f"""@prefix sarc: <{NAMESPACE}> .
@prefix owl:  <{OWL}> .
@prefix rdfs: <{RDFS}> .
"""

Pairs = list[tuple[str, str]]


class OntologyError(Exception):
    """The ontology is at fault; the text says where."""


class NoReasonerError(Exception):
    """HermiT cannot be run on this machine; the text says what is missing."""


# -- input ---------------------------------------------------------------------------------------
def ontology_files(folder: Path) -> list[Path]:
    """Return the files of the OWL ontology, in a fixed order."""
    return [folder / "sarc.ttl", *sorted((folder / "taxonomy").glob("*.ttl"))]


def inputs_sha256(folder: Path) -> str:
    """Return the hash of names and contents of the files that are reasoned over."""
    digest = hashlib.sha256()
    for path in ontology_files(folder):
        text = path.read_text(encoding="utf-8")  # the same hash whatever the line ends
        digest.update(f"{path.relative_to(folder).as_posix()}\n{len(text)}\n{text}".encode())
    return digest.hexdigest()


def load(folder: Path) -> Graph:
    """Return the OWL ontology alone; imports are not followed.

    They are left out, and so is an annotation of owlready2's own: it would fetch what the one
    names, and run the Python module that the other names.
    """
    graph = Graph()
    for path in ontology_files(folder):
        graph.parse(path, format="turtle")
    for predicate in (OWL.imports, _PYTHON_MODULE):
        graph.remove((None, predicate, None))
    return graph


def load_all(folder: Path) -> Graph:
    """Return the ontology with its derivations, its conclusions and its mappings as triples."""
    graph = load(folder)
    for name in ("derivations.ttl", "inferred.ttl"):
        if (folder / name).exists():
            graph.parse(folder / name, format="turtle")
    for path in sorted((folder / "mappings").glob("*.sssom.tsv")):
        for subject, predicate, term in mapping_rows(path):
            graph.add((URIRef(subject), URIRef(predicate), URIRef(term)))
    return graph


def mapping_rows(path: Path) -> Iterator[tuple[str, str, str]]:
    """Yield subject, predicate and object IRI of each row of an SSSOM table.

    Source: SSSOM 1.0, TSV with the metadata in a commented YAML header.
    """
    lines = path.read_text(encoding="utf-8").splitlines()
    prefixes: dict[str, str] = {}
    inside = False
    for line in lines:
        if not line.startswith("#"):
            break
        key, _, value = line[1:].strip().partition(": ")
        if line.startswith("#  ") and inside:
            prefixes[key] = value.strip('"')
        inside = (line.startswith("#  ") and inside) or line.rstrip() == "#curie_map:"
    rows = csv.DictReader((line for line in lines if not line.startswith("#")), delimiter="\t")
    for row in rows:
        yield tuple(  # type: ignore[misc]
            _expand(row[column], prefixes, path)
            for column in ("subject_id", "predicate_id", "object_id")
        )


def _expand(curie: str, prefixes: Mapping[str, str], path: Path) -> str:
    prefix, _, name = curie.partition(":")
    if prefix not in prefixes:
        raise OntologyError(f"{path.name}: the prefix of {curie} is not in its curie_map")
    return prefixes[prefix] + name


# -- reasoning -----------------------------------------------------------------------------------
def classify(graph: Graph) -> dict[str, frozenset[str]]:
    """Return each named class with all named classes above it, as HermiT concludes.

    Raises:
        OntologyError: the ontology is inconsistent, or a class cannot have members.
        NoReasonerError: Java or owlready2 is missing.
    """
    try:
        import owlready2
    except ImportError:
        raise NoReasonerError(
            "owlready2 is not installed; install the extra: pip install 'sarc-kb[ontology]'"
        ) from None
    if shutil.which(owlready2.JAVA_EXE) is None:
        raise NoReasonerError(
            "no Java found; HermiT runs on Java 8 or newer. Install one (on Debian: apt-get install "
            "default-jre-headless). Judging patients needs no Java, only this check does"
        )
    world = owlready2.World()
    triples = io.BytesIO(_without_puns(graph).serialize(format="ntriples", encoding="utf-8"))
    world.get_ontology(ONTOLOGY).load(fileobj=triples, only_local=True)
    try:
        owlready2.sync_reasoner_hermit(world, infer_property_values=False, debug=0)
    except owlready2.OwlReadyInconsistentOntologyError:
        raise OntologyError("the ontology is inconsistent") from None
    impossible = sorted(c.iri for c in world.inconsistent_classes() if c is not owlready2.Nothing)
    if impossible:
        raise OntologyError("classes that cannot have members: " + ", ".join(impossible))
    return {
        cls.iri: frozenset(
            a.iri for a in cls.ancestors() if a not in (cls, owlready2.Thing) and _ours(a.iri)
        )
        for cls in world.classes()
        if _ours(cls.iri)
    }


def _without_puns(graph: Graph) -> Graph:
    """Return a copy in which properties are only that.

    An axis is a property and, as a value of ``rdf:type sarc:Axis``, an individual. OWL 2 DL allows
    it, owlready2 does not know it, and no class depends on it.
    """
    plain = Graph()
    for triple in graph:
        plain.add(triple)
    for prop in graph.subjects(RDF.type, OWL.ObjectProperty):
        for cls in list(plain.objects(prop, RDF.type)):
            if _ours(str(cls)):
                plain.remove((prop, RDF.type, cls))
    return plain


def _ours(iri: str) -> bool:
    return iri.startswith(NAMESPACE)


def asserted_disjoint(graph: Graph) -> Pairs:
    """Return the pairs of named classes that the files declare disjoint."""
    pairs = {(str(a), str(b)) for a, b in graph.subject_objects(OWL.disjointWith)}
    for axiom in graph.subjects(RDF.type, OWL.AllDisjointClasses):
        head = graph.value(axiom, OWL.members)
        assert head is not None
        pairs.update(combinations([str(m) for m in Collection(graph, head)], 2))
    return sorted({(min(p), max(p)) for p in pairs})


def inherited_disjoint(asserted: Pairs, above: Mapping[str, frozenset[str]]) -> Pairs:
    """Return every pair of named classes that cannot share a member, each once.

    What lies below one of two disjoint classes is disjoint with what lies below the other. That is
    all there is as long as the ontology says nothing stronger than subclasses, existential
    restrictions, conjunctions and disjointness, and as long as the conjunctions that define a class
    name the domain of their property: then two classes together are below nothing that neither is
    below alone. A test asks HermiT about the pairs and about pairs that are not listed.
    """
    below: dict[str, set[str]] = {}
    for cls, ancestors in above.items():
        for ancestor in (cls, *ancestors):
            below.setdefault(ancestor, set()).add(cls)
    found = {(min(a, b), max(a, b)) for x, y in asserted for a in below[x] for b in below[y]}
    return sorted(found)


# -- output --------------------------------------------------------------------------------------
def render(sha256: str, above: Mapping[str, frozenset[str]], disjoint: Pairs) -> str:
    """Return the text of ``inferred.ttl``; the same conclusions give the same bytes."""
    against: dict[str, list[str]] = {}
    for a, b in disjoint:
        against.setdefault(a, []).append(b)
    blocks = []
    for cls in sorted(set(above) | set(against)):
        parts = []
        if above.get(cls):
            parts.append("rdfs:subClassOf " + _names(above[cls]))
        if cls in against:
            parts.append("owl:disjointWith " + _names(against[cls]))
        if parts:
            blocks.append(f"{_name(cls)} " + " ;\n    ".join(parts) + " .\n")
    body = _PREFIXES + "\n" + "".join(blocks)
    return (
        "# What HermiT concludes from sarc.ttl and taxonomy/: all superclasses that have a name, and\n"
        "# all pairs that exclude each other. Written by `make ontology`; not to be edited.\n"
        f"# inputs sha256: {sha256}\n"
        f"# content sha256: {hashlib.sha256(body.encode()).hexdigest()}\n{body}"
    )


def _name(iri: str) -> str:
    return "sarc:" + iri.removeprefix(NAMESPACE)


def _names(iris: Iterable[str]) -> str:
    return " , ".join(_name(i) for i in sorted(iris))


def stale(folder: Path) -> str | None:
    """Return why ``inferred.ttl`` does not belong to these files, without reasoning; or None."""
    path = folder / "inferred.ttl"
    if not path.exists():
        return "there is no inferred.ttl"
    text = path.read_text(encoding="utf-8")
    head, _, _ = text.partition(_PREFIXES)
    body = text[len(head) :]
    recorded = dict(
        line.removeprefix("# ").split(" sha256: ") for line in head.splitlines() if "sha256" in line
    )
    if recorded.get("content") != hashlib.sha256(body.encode()).hexdigest():
        return "inferred.ttl was edited by hand"
    if recorded.get("inputs") != inputs_sha256(folder):
        return "the ontology changed since inferred.ttl was written"
    return None


# -- quality -------------------------------------------------------------------------------------
def quality(graph: Graph, folder: Path) -> list[str]:
    """Return what the quality queries find, one line a row; each query describes one fault."""
    found = []
    for path in sorted((folder / "queries").glob("qc-*.rq")):
        result = graph.query(path.read_text(encoding="utf-8"))
        found += sorted(
            f"{path.stem}: " + " ".join(_shown(cell) for cell in row if cell is not None)
            for row in result
            if isinstance(row, ResultRow)
        )
    return found


def _shown(cell: object) -> str:
    return "(blank node)" if isinstance(cell, BNode) else str(cell).replace(NAMESPACE, "sarc:")


# -- command line --------------------------------------------------------------------------------
def build(folder: Path) -> str:
    """Return the text that ``inferred.ttl`` should have."""
    graph = load(folder)
    above = classify(graph)
    return render(inputs_sha256(folder), above, inherited_disjoint(asserted_disjoint(graph), above))


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m sarc_kb.ontology_build",
        description="Check the ontology, write inferred.ttl.",
    )
    parser.add_argument(
        "--check", action="store_true", help="write nothing, fail if anything is wrong"
    )
    parser.add_argument(
        "--ontology",
        type=Path,
        default=Path(__file__).resolve().parent.parent / "ontology",
        help="the folder (default: the repository's)",
    )
    options = parser.parse_args(arguments)
    folder: Path = options.ontology
    if not (folder / "sarc.ttl").exists():
        return _say(f"{folder} has no sarc.ttl; name the folder with --ontology", 2)
    try:
        if options.check and (reason := stale(folder)) is not None:
            raise OntologyError(f"{reason}; run `make ontology`")
        text = build(folder)
        target = folder / "inferred.ttl"
        if not options.check:
            target.write_text(text, encoding="utf-8", newline="\n")
            return 0
        if target.read_text(encoding="utf-8") != text:
            raise OntologyError("the reasoner now concludes something else; run `make ontology`")
        faults = quality(load_all(folder), folder)
        if faults:
            raise OntologyError("\n".join(faults))
    except NoReasonerError as error:
        return _say(str(error), NO_REASONER)
    except OntologyError as error:
        return _say(str(error), 1)
    return 0


def _say(text: str, status: int) -> int:
    sys.stderr.write(text + "\n")
    return status


if __name__ == "__main__":
    sys.exit(main())
