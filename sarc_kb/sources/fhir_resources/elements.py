"""JSON elements of a resource: taken if they have the right shape, else left out."""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import Any

from sarc_kb.sources.limits import MAX_LABEL

Json = dict[str, Any]

_UNSAFE = re.compile(r'[\x00-\x20<>"{}|\\^`\x7f-\xa0]')
_LONGEST_WORDS = MAX_LABEL


def iri_safe(value: str) -> str:
    """Return ``value`` with what an IRI may not hold percent-encoded.

    >>> iri_safe("NM_1:c.2A>G")
    'NM_1:c.2A%3EG'
    """
    return _UNSAFE.sub(lambda m: "".join(f"%{b:02X}" for b in m[0].encode()), value)


def dicts(value: object) -> list[Json]:
    """Return the objects of ``value``, whether it repeats or not; anything else is left out."""
    if isinstance(value, dict):
        return [value]
    return [v for v in value if isinstance(v, dict)] if isinstance(value, list) else []


def string(value: object) -> str | None:
    """Return ``value`` if it is a string with something in it."""
    return value if isinstance(value, str) and value.strip() else None


def stands(body: Json, void: Collection[str]) -> bool:
    """Return whether the status of a resource is none of ``void``. One that is not said is none of
    them; one that is no text cannot be told from them."""
    status = body.get("status")
    return status is None or (isinstance(status, str) and status not in void)


def words(value: object) -> str | None:
    """Return ``value`` if it is a string with something in it, cut to what a report can show."""
    return value[:_LONGEST_WORDS] if isinstance(value, str) and value.strip() else None


def referred(reference: Json) -> str:
    """Return what a Reference refers to, or nothing."""
    return string(reference.get("reference")) or ""


def shown(reference: str) -> str:
    """Return a reference as findings give it: a search in it may hold a patient's identifiers.

    >>> shown("Patient?identifier=123")
    'Patient?'
    """
    before, question, _ = iri_safe(reference).partition("?")
    return before[:_LONGEST_WORDS] + question


def extensions(body: Json, *urls: str) -> list[Json]:
    """Return the extensions of ``body`` with one of ``urls``."""
    return [e for e in dicts(body.get("extension")) if e.get("url") in urls]


def choice(body: Json, stem: str) -> list[str]:
    """Return the elements of ``body`` that give ``stem[x]``."""
    size = len(stem)
    return [
        k
        for k, v in body.items()
        if k.startswith(stem) and k[size:][:1].isupper() and v is not None
    ]


_TYPE_AND_ID = re.compile(r"([A-Za-z]+)/[^/]+$")


def named_type(reference: str) -> str:
    """Return the resource type that a reference names, if it names one.

    >>> named_type("http://example.org/fhir/Condition/7")
    'Condition'
    """
    found = _TYPE_AND_ID.search(reference)
    return found[1] if found else ""
