"""The IRIs the program itself must know: its own vocabulary and the standards it speaks.

A term appears here only when the *mechanism* needs it (``sarc:latest``, ``sarc:Any``); terms of
medicine or of a trial never do.
"""

from __future__ import annotations

from rdflib import Namespace

BASE = "https://w3id.org/sarc-kb/"
SARC = Namespace(BASE + "ontology#")
TRIAL_BASE = BASE + "trial/"
SH = Namespace("http://www.w3.org/ns/shacl#")
OA = Namespace("http://www.w3.org/ns/oa#")
OWL = Namespace("http://www.w3.org/2002/07/owl#")
RDF = Namespace("http://www.w3.org/1999/02/22-rdf-syntax-ns#")
RDFS = Namespace("http://www.w3.org/2000/01/rdf-schema#")
SKOS = Namespace("http://www.w3.org/2004/02/skos/core#")
DCTERMS = Namespace("http://purl.org/dc/terms/")
PROV = Namespace("http://www.w3.org/ns/prov#")
XSD = Namespace("http://www.w3.org/2001/XMLSchema#")

_PREFIXES = (
    ("sarc:", str(SARC)),
    ("sh:", str(SH)),
    ("rdfs:", str(RDFS)),
    ("rdf:", str(RDF)),
    ("owl:", str(OWL)),
    ("skos:", str(SKOS)),
    ("oa:", str(OA)),
)


def compact(iri: str) -> str:
    """Return ``iri`` as people write it (``sarc:ALT``, ``trial:I07a``); unknown ones as they are."""
    for prefix, namespace in _PREFIXES:
        if iri.startswith(namespace):
            return prefix + iri[len(namespace) :]
    if iri.startswith(TRIAL_BASE):
        return "trial:" + iri[len(TRIAL_BASE) :].partition("/")[2]
    return iri


def local_name(iri: str) -> str:
    """Return what stands behind the last ``#``, ``/`` or ``:`` of ``iri``."""
    return iri.replace("#", "/").rstrip("/").rpartition("/")[2] or iri
