"""What differs between two versions of a record, word by word; white space alone is no change."""

from __future__ import annotations

import re
from dataclasses import dataclass
from difflib import SequenceMatcher
from typing import Literal

from sarc_kb.source_text import SourceText, Span

Kind = Literal["changed", "added", "removed", "renumbered"]
_NUMBER = re.compile(r"\d{1,3}[.)]")


@dataclass(frozen=True, slots=True)
class Change:
    """One place where two versions differ: what went, and what came.

    Within the first and the last word the spans leave out what both versions share.
    """

    kind: Kind
    old: Span
    new: Span

    def touches(self, place: Span, old: SourceText, new: SourceText) -> bool:
        """Whether words of the old version are no longer what they were: some of them went,
        something came between them, or their first or last word grew."""
        if self.old.start < self.old.end:
            return self.old.overlaps(place)
        at = self.old.start
        if at == place.start:
            return (
                new.text[self.new.end - 1 : self.new.end].isalnum()
                and old.text[at : at + 1].isalnum()
            )
        if at == place.end:
            return (
                new.text[self.new.start : self.new.start + 1].isalnum()
                and old.text[at - 1 : at].isalnum()
            )
        return place.start < at < place.end


def changes_between(old: SourceText, new: SourceText) -> list[Change]:
    """Return the changes from ``old`` to ``new`` in their order."""
    before = [old.text[w.start : w.end] for w in old.words]
    after = [new.text[w.start : w.end] for w in new.words]
    numbers = {n.start for n in old.list_numbers}
    found = []
    blocks = SequenceMatcher(None, before, after, autojunk=False).get_opcodes()
    for n, (tag, i, j, k, m) in enumerate(blocks):
        if tag == "equal":
            continue
        if tag != "replace":
            left = blocks[n - 1][2] - blocks[n - 1][1] if n else 0
            right = blocks[n + 1][2] - blocks[n + 1][1] if n + 1 < len(blocks) else 0
            if tag == "insert":
                by = _slide(after, k, m, left, right)
            else:
                by = _slide(before, i, j, left, right)
            i, j, k, m = i + by, j + by, k + by, m + by
        was, is_ = _span(old, i, j), _span(new, k, m)
        kind: Kind
        if tag == "insert":
            kind = "added"
        elif tag == "delete":
            kind = "removed"
        else:
            kind = "changed"
            both = [word.start in numbers for word in old.words[i:j]]
            both += [_NUMBER.fullmatch(word) is not None for word in after[k:m]]
            if all(both):
                kind = "renumbered"
            was, is_ = _narrowed(old, was, new, is_)
        found.append(Change(kind, was, is_))
    return found


def _slide(words: list[str], first: int, after: int, left: int, right: int) -> int:
    """Return by how many words to move what came or went, so that it begins where a sentence or an
    item does: "8. A man, 9. A dog" with "8. A dog" came before "A dog", not inside it."""
    moves = [0]
    for step, limit in ((-1, left), (1, right)):
        by = 0
        while abs(by) < limit:
            edge = first + by, after + by
            one, other = (words[e - 1] if step < 0 else words[e] for e in edge)
            if one != other:
                break
            by += step
            moves.append(by)

    def begins(by: int) -> bool:
        return first + by == 0 or not words[first + by - 1][-1].isalnum()

    return min(moves, key=lambda by: (not begins(by), abs(by), by))


def _span(text: SourceText, first: int, after: int) -> Span:
    """Return the words ``first`` to before ``after``; without words, the place where they would
    begin."""
    if first < after:
        return Span(text.words[first].start, text.words[after - 1].end)
    at = text.words[first].start if first < len(text.words) else len(text.text)
    return Span(at, at)


def _narrowed(old: SourceText, was: Span, new: SourceText, is_: Span) -> tuple[Span, Span]:
    one, other = old.text[was.start : was.end], new.text[is_.start : is_.end]
    shorter = min(len(one), len(other))
    head = 0
    while head < shorter and one[head] == other[head]:
        head += 1
    tail = 0
    while tail < shorter - head and one[-1 - tail] == other[-1 - tail]:
        tail += 1
    return (
        Span(was.start + head, was.end - tail),
        Span(is_.start + head, is_.end - tail),
    )
