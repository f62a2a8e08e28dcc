"""The IRIs the program itself must know: its own vocabulary and the standards it speaks.

A term appears here only when the *mechanism* needs it (``sarc:latest``, ``sarc:Any``); terms of
medicine or of a trial never do.
"""

from __future__ import annotations

import unicodedata
from urllib.parse import quote

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


TEXT = "urn:sarc-kb:text:"
LINK_ID = "urn:sarc-kb:linkid:"


def fold_text(text: str) -> str:
    """Return ``text`` as texts are compared: without difference of case, of compatibility
    characters, or of white space. Nothing else is folded, and no word is read.

    Source: Unicode Standard, section 3.13, D146 (compatibility caseless match).
    >>> fold_text("  Tumor growth\u00a0TYPE on MRI ")
    'tumor growth type on mri'
    """
    folded = unicodedata.normalize("NFD", text)
    for _ in range(2):
        folded = unicodedata.normalize("NFKD", folded.casefold())
    return " ".join(unicodedata.normalize("NFKC", folded).split())


def text_iri(text: str) -> str:
    """Return the IRI by which mappings know a text of a record that has no code; texts that
    differ in case, compatibility characters or white space alone have the same.

    >>> text_iri("Tumor growth type on MRI")
    'urn:sarc-kb:text:tumor%20growth%20type%20on%20mri'
    """
    return TEXT + quote(fold_text(text), safe="", errors="surrogatepass")


def link_id_iri(link_id: str) -> str:
    """Return the IRI by which mappings know a questionnaire's ``link_id``, which is taken as it is
    but for what an IRI may not hold.

    >>> link_id_iri("4.2"), link_id_iri("item 4")
    ('urn:sarc-kb:linkid:4.2', 'urn:sarc-kb:linkid:item%204')
    """
    return LINK_ID + quote(link_id, safe="!$&'()*+,;=:@/?~", errors="surrogatepass")
