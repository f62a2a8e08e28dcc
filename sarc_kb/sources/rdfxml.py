"""Is an RDF/XML document safe to parse? Nothing in it expands, and no text of it grows too long."""

from __future__ import annotations

import re
from contextlib import suppress
from xml.parsers import expat

from sarc_kb.errors import Finding, InputError
from sarc_kb.namespaces import RDF
from sarc_kb.sources.limits import MAX_LITERAL

_PARSE_TYPE = str(RDF) + "parseType"
# Every other value, also an unknown one, means XML as a text.
_PARSE_TYPES = {"Resource", "Collection"}


class _UnsafeError(Exception):
    """What was found, why it is refused, and how to mend it."""


def safe_xml(data: bytes, origin: str) -> bytes:
    """Return ``data``, if it may be given to a parser of RDF/XML.

    Raises:
        InputError: it has a DOCTYPE, a text that is too long, or XML as a text.
    """
    try:
        # Entity bombs and external entities need a DOCTYPE. Without the zero bytes UTF-16 and
        # UTF-32 read as ASCII, and every other encoding an XML parser knows contains it.
        if re.search(rb"<!(DOCTYPE|ENTITY)", data.replace(b"\0", b""), re.IGNORECASE):
            raise _UnsafeError(
                "a DOCTYPE",
                "it can expand or fetch without end",
                "write RDF/XML without a DOCTYPE",
            )
        _look_through(data)
    except _UnsafeError as error:
        found, why, fix = error.args
        raise InputError(Finding("DATA002", "error", origin, found, why, fix)) from None
    return data


def _look_through(data: bytes) -> None:
    """Go through the document once. rdflib puts a text together piece by piece, a piece a line,
    in a time that grows with the square of its length."""
    parser = expat.ParserCreate(namespace_separator="")
    length = 0

    def text(piece: str) -> None:
        nonlocal length
        length += len(piece)
        if length > MAX_LITERAL:
            raise _UnsafeError(
                f"a text of more than {MAX_LITERAL} characters",
                "no record needs it, and it is read slowly",
                "shorten it",
            )

    def start(_: str, attributes: dict[str, str]) -> None:
        nonlocal length
        length = 0
        if attributes.get(_PARSE_TYPE, "Resource") not in _PARSE_TYPES:
            raise _UnsafeError(
                "XML as a text (rdf:parseType)", "no fact holds any", "write what it says as text"
            )

    def end(_: str) -> None:
        nonlocal length
        length = 0

    parser.CharacterDataHandler = text
    parser.StartElementHandler = start
    parser.EndElementHandler = end
    # Of what is no XML the parser of RDF/XML tells, with the line.
    with suppress(expat.ExpatError, LookupError, ValueError):
        parser.Parse(data, True)
