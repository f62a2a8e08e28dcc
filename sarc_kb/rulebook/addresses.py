"""Where in the book each thing is described: pages and places that do not collide.

Addresses are relative to the front page. A name becomes part of a file name or of an anchor; what
neither may hold is written as its code, so that names that differ stay different.
"""

from __future__ import annotations

import re

_UNSAFE = re.compile(r"[^A-Za-z0-9.-]")


def safe_name(name: str) -> str:
    """Return ``name`` as it can stand in a file name and in an anchor.

    >>> safe_name("I07a"), safe_name("policy/look back"), safe_name("../x")
    ('I07a', 'policy_2f_look_20_back', '_2e_._2f_x')
    """
    text = _UNSAFE.sub(lambda m: f"_{ord(m[0]):x}_", name)
    return f"_2e_{text[1:]}" if text.startswith(".") else text or "_"


class Addresses:
    """The addresses that were given out, and what each of them is about."""

    def __init__(self) -> None:
        self._of: dict[str, str] = {}
        self._taken: set[str] = set()

    def page(self, iri: str, folder: str, name: str) -> str:
        """Return the address of the page about ``iri``, below ``folder``."""
        return self._give(iri, f"{folder}/{safe_name(name)}", ".html")

    def place(self, iri: str, page: str, name: str) -> str:
        """Return the address of the place about ``iri`` on ``page``."""
        return self._give(iri, f"{page}#{safe_name(name)}", "")

    def also(self, iri: str, address: str) -> None:
        """Let ``iri``, if it has no address yet, lead to one that was given out."""
        self._of.setdefault(iri, address)

    def __call__(self, iri: str | None) -> str | None:
        """Return where ``iri`` is described; None if nowhere."""
        return self._of.get(iri or "")

    def _give(self, iri: str, stem: str, end: str) -> str:
        if iri in self._of:
            return self._of[iri]
        # Some file systems do not tell letters by their case.
        address, number = stem + end, 2
        while address.casefold() in self._taken:
            address, number = f"{stem}-{number}{end}", number + 1
        self._taken.add(address.casefold())
        self._of[iri] = address
        return address
