"""JSON as FHIR means it: UTF-8, each key once, exact decimals, nothing that JSON does not know."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from typing import NoReturn, Protocol

from sarc_kb.sources.fhir_resources.elements import Json, iri_safe
from sarc_kb.sources.limits import MAX_BYTES, MAX_DEPTH, MAX_DIGITS, MAX_LINE

BOM = b"\xef\xbb\xbf"
_SUSPECT_ESCAPE = re.compile(rb"\\u(?:[dD][89a-fA-F]|0000)")
_UNWRITABLE = re.compile("[\x00\ud800-\udfff]")


@dataclass(frozen=True, slots=True)
class Limits:
    """How much a source may ask of the machine. ``line``: bytes of one line of NDJSON."""

    size: int = MAX_BYTES
    line: int = MAX_LINE
    depth: int = MAX_DEPTH


class RefusedError(ValueError):
    """Input that is not FHIR JSON: the code of a finding, and what was found."""

    def __init__(self, code: str, found: str) -> None:
        super().__init__(found)
        self.code, self.found = code, found


class Parser:
    """Parses documents; ``modified`` tells whether one so far had an element that may change the
    meaning of what holds it, so that most input need not be searched for it."""

    def __init__(self, depth: int = MAX_DEPTH) -> None:
        self.depth = depth
        self.modified = False
        self._decoder = json.JSONDecoder(
            object_pairs_hook=self._pairs,
            parse_float=_decimal,
            parse_int=_integer,
            parse_constant=_constant,
        )

    def parse(self, data: bytes) -> object:
        """Return the one JSON document in ``data``.

        Raises:
            RefusedError: it is not JSON, or not such as every reader would read alike.
        """
        try:
            document: object = self._decoder.decode(data.decode("utf-8"))
        except UnicodeDecodeError as error:
            raise RefusedError("DATA101", f"byte {error.start} is not UTF-8") from None
        except json.JSONDecodeError as error:
            where = f"line {error.lineno}, column {error.colno}"
            raise RefusedError("DATA102", f"{where}: {error.msg}") from None
        except RecursionError:
            raise RefusedError("DATA105", f"nested deeper than {self.depth}") from None
        level = [document]
        for _ in range(self.depth):
            level = [child for node in level for child in containers(node)]
        if level:
            raise RefusedError("DATA105", f"nested deeper than {self.depth}")
        if _SUSPECT_ESCAPE.search(data) and (path := _unwritable(document)):
            raise RefusedError("DATA106", f"{path} holds half a character or a NUL")
        return document

    def _pairs(self, items: list[tuple[str, object]]) -> Json:
        made = dict(items)
        if len(made) != len(items):
            twice = next(key for key, n in Counter(key for key, _ in items).items() if n > 1)
            raise RefusedError("DATA103", f"the key {iri_safe(twice)[:40]} occurs twice")
        if "modifierExtension" in made or "implicitRules" in made:
            self.modified = True
        return made


def _constant(name: str) -> NoReturn:
    raise RefusedError("DATA104", f"the number {name}")


def _decimal(digits: str) -> Decimal | str:
    """Return the number; an outsized one stays text, which no element takes for a number."""
    number = Decimal(digits)
    if len(digits) > MAX_DIGITS or abs(number.adjusted()) > MAX_DIGITS:
        return "outsized number"
    return number


def _integer(digits: str) -> int | str:
    return int(digits) if len(digits) <= MAX_DIGITS else "outsized number"


def containers(node: object) -> list[object]:
    """Return the objects and arrays that ``node`` holds."""
    values = node.values() if isinstance(node, dict) else node if isinstance(node, list) else ()
    return [v for v in values if isinstance(v, dict | list)]


def _unwritable(document: object) -> str | None:
    """Return the path of a text that has no UTF-8 form, or that no XML or database takes."""
    todo: list[tuple[str, object]] = [("$", document)]
    while todo:
        path, node = todo.pop()
        if isinstance(node, str) and _UNWRITABLE.search(node):
            return path
        if isinstance(node, dict):
            if any(_UNWRITABLE.search(key) for key in node):
                return path
            todo += [(f"{path}.{key}", value) for key, value in node.items()]
        elif isinstance(node, list):
            todo += [(f"{path}[{i}]", value) for i, value in enumerate(node)]
    return None


def has_lines(data: bytes) -> bool:
    """Return whether bytes that are not one JSON document look like one object a line."""
    first, _, rest = data.strip().partition(b"\n")
    if not first.startswith(b"{") or not rest:
        return False
    return first.rstrip().endswith(b"}") or rest.startswith(b"{") or b"\n{" in rest


class Lines(Protocol):
    """What lines can be read from: any binary file."""

    def readline(self, size: int, /) -> bytes: ...


def split_lines(stream: Lines, longest: int) -> Iterator[tuple[int, bytes]]:
    """Yield the lines of ``stream`` that are not blank, with their numbers and line ends.

    Only a line feed ends a line (JSON strings may hold other separators). Of a line of more than
    ``longest`` bytes enough comes to see that it is too long.
    """
    number = 0
    room = longest + 2
    while line := stream.readline(room):
        number += 1
        rest = line
        while len(rest) == room and not rest.endswith(b"\n"):
            rest = stream.readline(room)
        if line.strip():
            yield number, line
