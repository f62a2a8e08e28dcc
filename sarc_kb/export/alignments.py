"""The vocabulary's terms beside those of others, as Turtle."""

from __future__ import annotations

from pathlib import Path

from rdflib import Graph, URIRef

from sarc_kb.namespaces import SKOS, local_name
from sarc_kb.reports.turtle import stable_turtle
from sarc_kb.terminology import parse_sssom

_OTHER_WAY = {
    "exactMatch": SKOS.exactMatch,
    "closeMatch": SKOS.closeMatch,
    "broadMatch": SKOS.narrowMatch,
    "narrowMatch": SKOS.broadMatch,
    "relatedMatch": SKOS.relatedMatch,
}


def render(root: Path) -> str:
    """Return the verified alignments of classes and properties: our term, a SKOS mapping, theirs.

    Unverified rows stay in the tables of ``ontology/alignments/``.
    """
    graph = Graph()
    for path in sorted((root / "ontology" / "alignments").glob("*.sssom.tsv")):
        table = parse_sssom(path.read_text(encoding="utf-8"))
        for _, row in table.rows:
            if row["verified"] == "yes":
                theirs, ours = (table.expand(row[c]) for c in ("subject_id", "object_id"))
                predicate = _OTHER_WAY[local_name(table.expand(row["predicate_id"]))]
                graph.add((URIRef(ours), predicate, URIRef(theirs)))
    return stable_turtle(graph, {"skos": str(SKOS), "fhir": "http://hl7.org/fhir/"})
