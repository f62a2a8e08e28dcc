"""The source record cut into blocks, each with the rules that quote it.

What stands where is known from the audit of the source (`sarc_kb.audit.source`): every quotation of
a rule or a design fact, and every passage that no rule quotes, with the reason. A block is what is
read together: a numbered item, a field of a form, a sentence; no quotation of a rule is cut.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from sarc_kb.source_text import Quote, SourceText, Span, fold_space

_SENTENCE_END = re.compile(r"(?<=[.;])\s+(?=[A-Z])")
_SHORT = 60


@dataclass(frozen=True, slots=True)
class Place:
    """One quotation in the record: what quotes it, and its characters."""

    id: str
    kind: str
    span: Span
    anchor: str


@dataclass(frozen=True, slots=True)
class Piece:
    """Characters that the same things quote.

    ``rules``: their ids, the shortest quotation first. ``judged``: some rule decides these words,
    and does not only hold them together with others. ``anchors``: the places that begin here.
    """

    text: str
    category: str
    rules: tuple[str, ...] = ()
    judged: bool = False
    others: tuple[str, ...] = ()
    reason: str = ""
    anchors: tuple[str, ...] = ()
    line_end: bool = False


@dataclass(frozen=True, slots=True)
class Block:
    """What is read together; ``rules``: the ids of those whose words begin here, in their own order,
    and whether it is the first place of that rule. ``section``: the part of the record that
    must be accounted for, empty outside of them; told where it changes."""

    pieces: tuple[Piece, ...]
    rules: tuple[tuple[str, bool], ...]
    section: str


@dataclass(frozen=True, slots=True)
class Protocol:
    """The record as blocks. ``at``: the anchor of what is quoted, by its id; ``passages``: the
    anchors of passages of the register."""

    file: str
    sha256: str
    blocks: tuple[Block, ...]
    at: Mapping[str, str]
    passages: Mapping[tuple[str, str], str]


def read_protocol(
    text: str,
    document: Mapping[str, Any],
    order: Sequence[str],
    judged: Iterable[str],
    register: Mapping[str, Sequence[str]],
) -> Protocol:
    """Return the record as blocks.

    Args:
        document: of the audit of the source, as data.
        order: ids of all rules, in the order in which they are told.
        judged: those that decide the words they quote.
        register: ids of entries of the register, each with the passages it is about.
    """
    source = SourceText(text)
    decides = frozenset(judged)
    rank = {id_: n for n, id_ in enumerate(order)}
    places = _places(document)
    passages = _passages(source, register)
    cuts = _cuts(source, [p.span for p in places if p.kind == "rule"])
    breaks = _line_ends(source)
    known = [
        (Span(s["start"], s["end"]), s) for s in document.get("segments", ()) if s["text"].strip()
    ]
    sections = [(Span(s["start"], s["end"]), str(s["name"])) for s in document.get("sections", ())]
    edges = {0, len(text), *cuts, *breaks}
    for span in (*(p.span for p in places), *(s for s, _ in known), *(s for s, _ in sections)):
        edges |= {span.start, span.end}
    edges |= {start for _, _, start, _ in passages}
    starts: dict[int, list[str]] = {}
    for place in places:
        starts.setdefault(place.span.start, []).append(place.anchor)
    for _, _, start, anchor in passages:
        starts.setdefault(start, []).append(anchor)
    blocks: list[Block] = []
    first: set[str] = set()
    for block in _spans(sorted({0, len(text), *cuts})):
        pieces = [
            _piece(source, span, places, known, decides, starts, breaks)
            for span in _spans(sorted(e for e in edges if block.start <= e <= block.end))
        ]
        if not any(p.text.strip() for p in pieces):
            continue
        here: dict[str, bool] = {}
        begun = [p for p in places if p.kind == "rule" and block.start <= p.span.start < block.end]
        for place in sorted(begun, key=lambda p: (rank.get(p.id, len(rank)), p.span.start)):
            here.setdefault(place.id, place.id not in first)
            first.add(place.id)
        section = next((name for span, name in sections if span.overlaps(block)), "")
        blocks.append(Block(tuple(pieces), tuple(here.items()), section))
    at: dict[str, str] = {}
    for place in places:
        at.setdefault(place.id, place.anchor)
    record = document.get("record", {})
    return Protocol(
        file=str(record.get("file", "")),
        sha256=str(record.get("sha256", "")),
        blocks=tuple(blocks),
        at=at,
        passages={(entry, passage): anchor for entry, passage, _, anchor in passages},
    )


def _places(document: Mapping[str, Any]) -> list[Place]:
    found: list[Place] = []
    seen: dict[str, int] = {}
    for row in document.get("places", ()):
        number = seen[row["id"]] = seen.get(row["id"], 0) + 1
        anchor = f"at-{row['id']}" + (f"-{number}" if number > 1 else "")
        found.append(Place(row["id"], row["kind"], Span(row["start"], row["end"]), anchor))
    return found


def _passages(
    source: SourceText, register: Mapping[str, Sequence[str]]
) -> list[tuple[str, str, int, str]]:
    """Return the passages of the register that stand in the text: the entry, the passage, where it
    begins, and its anchor."""
    found = []
    for entry, own in register.items():
        standing = [(p, spans[0]) for p in own if (spans := source.places(Quote(fold_space(p))))]
        for number, (passage, span) in enumerate(standing, 1):
            anchor = f"passage-{entry}" + (f"-{number}" if number > 1 else "")
            found.append((entry, passage, span.start, anchor))
    return found


def _cuts(source: SourceText, quoted: Sequence[Span]) -> set[int]:
    """Return where blocks begin: at numbered items, at names of fields, after empty lines and after
    sentences, but never inside what a rule quotes."""
    text = source.text
    numbered = {n.start for n in source.list_numbers}
    found: set[int] = set()
    position = 0
    above = ""
    for line in text.splitlines(keepends=True):
        stripped = line.strip()
        indent = len(line) - len(line.lstrip())
        begins = (
            position + indent in numbered
            or (not above.strip() and bool(stripped))
            or (_is_name(stripped) and not _is_name(above.strip()))
        )
        if begins:
            found.add(position)
        position += len(line)
        above = line
    after_number = {n.end for n in source.list_numbers}
    found |= {m.end() for m in _SENTENCE_END.finditer(text) if m.start() not in after_number}
    return {c for c in found if not any(q.start < c < q.end for q in quoted)}


def _is_name(line: str) -> bool:
    """Whether a line is the name of a field or of a list."""
    return line.endswith(":") and len(line) <= _SHORT


def _line_ends(source: SourceText) -> set[int]:
    """Return the ends of the lines after which a reader expects a new line: those of names."""
    found = set()
    position = 0
    for line in source.text.splitlines(keepends=True):
        position += len(line)
        if _is_name(line.strip()):
            found.add(position)
    return found


def _spans(edges: Sequence[int]) -> list[Span]:
    return [Span(a, b) for a, b in pairwise(edges)]


def _piece(
    source: SourceText,
    span: Span,
    places: Sequence[Place],
    known: Sequence[tuple[Span, Mapping[str, Any]]],
    judged: frozenset[str],
    starts: Mapping[int, Sequence[str]],
    breaks: set[int],
) -> Piece:
    holders = sorted(
        (p for p in places if p.span.holds(span)), key=lambda p: (p.span.end - p.span.start, p.id)
    )
    rules = tuple(dict.fromkeys(p.id for p in holders if p.kind == "rule"))
    others = tuple(dict.fromkeys(p.id for p in holders if p.kind != "rule"))
    told = next((s for held, s in known if held.holds(span)), None)
    if rules:
        category, reason = "rule", ""
    elif told is not None:
        category, reason = str(told["category"]), str(told["reason"])
    else:
        category = next((p.kind for p in holders), "")
        reason = ""
    return Piece(
        text=source.text[span.start : span.end],
        category=category,
        rules=rules,
        judged=bool(judged & set(rules)),
        others=others,
        reason=reason,
        anchors=tuple(starts.get(span.start, ())),
        line_end=span.end in breaks,
    )
