"""Untrusted text made harmless: nothing a record holds may move a cursor or forge a line.

A report shows what the record says, but a control character, a direction mark or an invisible one
is written as an escape, so that the reader sees it and a terminal does not obey it.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Container
from dataclasses import fields, is_dataclass, replace
from typing import Any, TypeVar
from urllib.parse import quote

T = TypeVar("T")

_UNUSUAL = re.compile(r"[^\x20-\x7e]")
_SURROGATE = re.compile(r"[\ud800-\udfff]")
_ALLOWED = (
    r"(?:[A-Za-z0-9\-._~!$&'()*+,;=:@/{more}]|%[0-9A-Fa-f]{{2}}"
    r"|[\u00a1-\ud7ff\uf900-\ufdcf\ufdf0-\uffef\U00010000-\U0001fffd\U00020000-\U0002fffd])*"
)
_ABSOLUTE_IRI = re.compile(
    r"(?P<scheme>[A-Za-z][A-Za-z0-9+.\-]*):"
    r"(?://(?:[A-Za-z0-9\-._~!$&'()*+,;=]|%[0-9A-Fa-f]{2})+(?::[0-9]+)?(?=[/?#]|\Z)|(?!//))"
    + _ALLOWED.format(more="")
    + rf"(?:\?{_ALLOWED.format(more='?')})?(?:#{_ALLOWED.format(more='?')})?"
)


def _harmless(char: str) -> bool:
    return char.isprintable() or unicodedata.category(char) == "Zs"


def visible(text: str) -> str:
    r"""Return ``text`` with every character that does not print as a Python escape.

    >>> visible("a\nb\x1b[31m")
    'a\\nb\\x1b[31m'
    """
    if text.isprintable():
        return text
    return _UNUSUAL.sub(
        lambda m: m[0] if _harmless(m[0]) else m[0].encode("unicode_escape").decode("ascii"), text
    )


def all_visible(value: T) -> T:
    """Return ``value``, a dataclass, tuple or text, with every text in it made visible, however
    deep it lies."""
    changed: Any = value
    if isinstance(value, str):
        changed = visible(value)
    elif isinstance(value, tuple):
        changed = tuple(all_visible(item) for item in value)
    elif is_dataclass(value) and not isinstance(value, type):
        changed = replace(
            value, **{f.name: all_visible(getattr(value, f.name)) for f in fields(value)}
        )
    result: T = changed
    return result


def visible_in_json(document: str) -> str:
    r"""Return the JSON text with such characters as ``\u`` escapes; its meaning is unchanged.

    The line ends between members stay; inside a string there are none.
    """
    return _UNUSUAL.sub(
        lambda m: m[0] if m[0] == "\n" or _harmless(m[0]) else _utf16_escape(m[0]), document
    )


def _utf16_escape(char: str) -> str:
    units = char.encode("utf-16-be", "surrogatepass").hex()
    return "".join(f"\\u{units[i : i + 4]}" for i in range(0, len(units), 4))


def scalar_values(text: str) -> str:
    """Return ``text`` without lone surrogates, which RDF and UTF-8 cannot hold."""
    return _SURROGATE.sub("\ufffd", text)


def safe_iri(text: str, kind: str, reserved: Container[str] = ()) -> str:
    """Return ``text`` if it is an absolute IRI, else one made from it: ``urn:sarc-kb:<kind>:…``.

    Args:
        reserved: schemes that a reader would take for prefixes (those of a JSON-LD context).
    Source: RFC 3987, narrowed: no IP literals, no characters that do not print.
    >>> safe_iri("no iri> at all", "patient")
    'urn:sarc-kb:patient:no%20iri%3E%20at%20all'
    """
    match = _ABSOLUTE_IRI.fullmatch(text)
    if match and match["scheme"] not in reserved and text.isprintable():
        return text
    return f"urn:sarc-kb:{kind}:{percent_encoded(text)}"


def percent_encoded(text: str) -> str:
    """Return ``text`` as one segment of an IRI; texts that differ stay different."""
    return quote(text.encode("utf-8", "surrogatepass"), safe="")
