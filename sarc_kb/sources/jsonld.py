"""Make a JSON-LD document safe to parse: nothing is fetched, nothing is lost.

Contexts must be the bundled one or inline; numbers keep every digit they were written with.
"""

from __future__ import annotations

import json
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any

from sarc_kb.errors import Finding, InputError
from sarc_kb.namespaces import XSD
from sarc_kb.sources.limits import MAX_DEPTH

PATIENT_CONTEXT = "https://w3id.org/sarc-kb/schema/patient.context.jsonld"
_SCHEMA = Path(__file__).resolve().parent.parent / "schema"
_BUNDLED = {PATIENT_CONTEXT: _SCHEMA / "patient.context.jsonld"}

# JSON-LD drops keys without a term and nodes whose IRI is none; a status lost that way would make
# a cancelled fact count. With these options of rdflib they stay, as something nobody can read.
LOSSLESS: dict[str, Any] = {"context": {"@vocab": "urn:sarc-kb:unmapped:"}, "generalized_rdf": True}
# Source: JSON-LD 1.1, 1.7 and 9.15. What else looks like one is passed over by processors.
_KEYWORDS = frozenset(
    "@" + name
    for name in (
        *("base", "container", "context", "direction", "graph", "id", "import", "included"),
        *("index", "json", "language", "list", "nest", "none", "prefix", "propagate", "protected"),
        *("reverse", "set", "type", "value", "version", "vocab"),
    )
)


class _UnsafeError(Exception):
    """What was found, why it is refused, and how to mend it."""


def safe_jsonld(data: bytes, origin: str) -> str:
    """Return the document with contexts inlined and decimals as typed text.

    Raises:
        InputError: it is not JSON, names a context elsewhere, or breaks a limit.
    """
    try:
        document = _parse(data)
        if _too_deep(document):
            raise _UnsafeError(
                f"nesting deeper than {MAX_DEPTH}", "no record needs it", "flatten it"
            )
        return json.dumps(_node(document), allow_nan=False)
    except _UnsafeError as error:
        found, why, fix = error.args
        raise InputError(Finding("DATA002", "error", origin, found, why, fix)) from None


def _parse(data: bytes) -> Any:
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise _UnsafeError(
            f"byte {error.start} is not UTF-8", "the text cannot be read", "save the file as UTF-8"
        ) from None
    try:
        return json.loads(
            text, parse_float=_decimal, parse_constant=_constant, object_pairs_hook=_unique
        )
    except json.JSONDecodeError as error:
        raise _UnsafeError(
            f"not readable as JSON, line {error.lineno}", "the syntax is broken", "mend the file"
        ) from None
    except RecursionError:
        raise _UnsafeError(
            f"nesting deeper than {MAX_DEPTH}", "no record needs it", "flatten it"
        ) from None
    except ValueError:
        # Python refuses to read an integer of thousands of digits.
        raise _UnsafeError(
            "a number of thousands of digits", "no result has so many", "correct the number"
        ) from None


def _decimal(text: str) -> Decimal | str:
    try:
        return Decimal(text)
    except InvalidOperation:
        return text  # beyond what Decimal holds; the reader says that it is no number


def _constant(name: str) -> Any:
    raise _UnsafeError(
        f"the value {name}",
        "it is not JSON and no number",
        "leave the value out, or write why it is absent",
    )


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise _UnsafeError(
                f"the key {key[:40]!r} twice in one object",
                "readers would keep different ones",
                "keep one",
            )
        found[key] = value
    return found


def _too_deep(document: Any) -> bool:
    level = [document]
    for _ in range(MAX_DEPTH + 1):
        level = [c for c in level if isinstance(c, (dict, list))]
        if not level:
            return False
        level = [v for c in level for v in (c.values() if isinstance(c, dict) else c)]
    return True


def _node(value: Any) -> Any:
    if isinstance(value, Decimal):
        return _number(value)
    if isinstance(value, list):
        return [_node(v) for v in value]
    if not isinstance(value, dict):
        return value
    if isinstance(value.get("@value"), Decimal):
        return {**_number(value["@value"]), **{k: v for k, v in value.items() if k != "@value"}}
    made = {}
    for key, v in value.items():
        _known(key)
        if key != "@context":
            made[key] = _node(v)
        elif v not in ({}, []):  # says nothing; rdflib would take it for a null
            made[key] = _context(v)
    return made


def _number(value: Decimal) -> dict[str, str]:
    """Return a typed literal with the digits as written; a JSON number would become a float."""
    text = str(value)
    return {"@value": text, "@type": str(XSD.double if "E" in text else XSD.decimal)}


def _context(value: Any) -> Any:
    """Return a context without references, however deep they hide."""
    if isinstance(value, str):
        if value not in _BUNDLED:
            raise _UnsafeError(
                "a context by reference",
                "contexts are never fetched",
                f"use {PATIENT_CONTEXT} or an inline context",
            )
        return json.loads(_BUNDLED[value].read_text(encoding="utf-8"))["@context"]
    if isinstance(value, list):
        return [_context(v) for v in value]
    if not isinstance(value, dict):
        raise _lossy("a context of null" if value is None else "a context that is no object")
    for term, meaning in value.items():
        if term == "@vocab" and not meaning:
            raise _lossy("a context without a vocabulary")
        named = meaning.get("@id", term) if isinstance(meaning, dict) else meaning
        if named is None and not term.startswith("@"):
            raise _lossy("a term that stands for nothing")
    return _definition(value)


def _lossy(what: str) -> _UnsafeError:
    return _UnsafeError(
        what,
        "names that it does not cover would be dropped without a word, a status among them",
        f"use {PATIENT_CONTEXT}, or leave it out",
    )


def _definition(value: Any) -> Any:
    if value == "@value":
        raise _UnsafeError(
            "another name for @value", "its numbers could lose digits", "write @value itself"
        )
    if isinstance(value, str):
        return _known(value)
    if isinstance(value, Decimal):
        return float(value)  # the version of JSON-LD, 1.1, is the one number of a context
    if isinstance(value, list):
        return [_definition(v) for v in value]
    if isinstance(value, dict):
        return {
            _known(k): _context(v) if k == "@context" else _definition(v) for k, v in value.items()
        }
    return value


def _known(name: str) -> str:
    """Return a key or the meaning of a term, unless it is a keyword that is not to be had."""
    if name == "@import":
        raise _UnsafeError(
            "@import", "contexts are never fetched", f"use {PATIENT_CONTEXT} or an inline context"
        )
    if name.startswith("@") and name[1:].isalpha() and name not in _KEYWORDS:
        raise _UnsafeError(
            "a key that begins with @ and is no keyword",
            "JSON-LD has none of that name, and what stands there would be dropped",
            "correct the spelling",
        )
    return name
