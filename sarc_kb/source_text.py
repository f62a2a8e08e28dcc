"""The text of a source record: where quotations stand in it, whatever its white space.

Positions are characters of the text as it was read; lines and columns count from 1.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from dataclasses import dataclass
from functools import cached_property

# Numbers and bullets at the beginning of a line, and punctuation at the end of a word.
_LIST_NUMBER = re.compile(r"^[^\S\n]*(\d{1,3}[.)]|[-*\u2022\u2013])(?=\s)", re.MULTILINE)
_SEPARATOR = re.compile(r"[,;:.]+(?=\s|\Z)")


def fold_space(text: str) -> str:
    """Return ``text`` with every run of white space as one space."""
    return re.sub(r"\s+", " ", text).strip()


@dataclass(frozen=True, slots=True, order=True)
class Span:
    """The characters from ``start`` to before ``end``."""

    start: int
    end: int

    def overlaps(self, other: Span) -> bool:
        return self.start < other.end and other.start < self.end

    def holds(self, other: Span) -> bool:
        return self.start <= other.start and other.end <= self.end


@dataclass(frozen=True, slots=True)
class Quote:
    """Words, and what stands right before and after them; white space is folded."""

    exact: str
    prefix: str = ""
    suffix: str = ""


@dataclass(frozen=True, slots=True)
class Nearest:
    """The place most like a quotation: where it is, and where the first difference is.

    ``at`` counts in the quotation, from 0; ``quoted`` and ``printed`` are some words from there.
    """

    span: Span
    at: int
    position: int
    quoted: str
    printed: str


class SourceText:
    """One text, and its words."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.words = [Span(m.start(), m.end()) for m in re.finditer(r"\S+", text)]
        self.folded = " ".join(text[w.start : w.end] for w in self.words)
        self._lines = [0, *(m.end() for m in re.finditer(r"\n", text))]

    @cached_property
    def _origin(self) -> list[int]:
        """Where each character of the folded text stands in the text."""
        found: list[int] = []
        for word in self.words:
            if found:
                found.append(found[-1] + 1)
            found.extend(range(word.start, word.end))
        return found

    @cached_property
    def list_numbers(self) -> tuple[Span, ...]:
        """Numbers and bullets that begin a line."""
        return tuple(Span(*m.span(1)) for m in _LIST_NUMBER.finditer(self.text))

    @cached_property
    def separators(self) -> tuple[Span, ...]:
        """Commas, semicolons, colons and full stops before white space or the end."""
        return tuple(Span(*m.span()) for m in _SEPARATOR.finditer(self.text))

    def line_column(self, position: int) -> tuple[int, int]:
        line = bisect_right(self._lines, position)
        return line, position - self._lines[line - 1] + 1

    def line_spans(self, span: Span) -> list[Span]:
        """Return the parts of ``span`` line by line, without the line ends."""
        found = []
        for start, after in zip(self._lines, [*self._lines[1:], len(self.text) + 1], strict=True):
            part = Span(max(start, span.start), min(after - 1, span.end))
            if part.start < part.end:
                found.append(part)
        return found

    def at(self, span: Span) -> str:
        """Return the words of ``span``, white space folded."""
        return fold_space(self.text[span.start : span.end])

    def whole_words(self, span: Span) -> Span:
        """Return ``span`` widened to the ends of the words that it touches."""
        start, end = span.start, span.end
        while start > 0 and not self.text[start - 1].isspace():
            start -= 1
        while end < len(self.text) and not self.text[end].isspace():
            end += 1
        return Span(start, end)

    def places(self, quote: Quote) -> list[Span]:
        """Return where ``quote`` stands: its words, from the beginning of a word to the end of one,
        right after its prefix and right before its suffix.

        >>> SourceText("a  cat,\\na cat.").places(Quote("a cat", suffix="."))
        [Span(start=8, end=13)]
        """
        text, exact = self.folded, quote.exact
        found: list[Span] = []
        start = text.find(exact) if exact else -1
        while start >= 0:
            end = start + len(exact)
            before = start - 1 if text[start - 1 : start] == " " else start
            after = end + 1 if text[end : end + 1] == " " else end
            if (
                not _inside_word(text, start)
                and not _inside_word(text, end)
                and text.endswith(quote.prefix, 0, before)
                and text.startswith(quote.suffix, after)
            ):
                found.append(Span(self._origin[start], self._origin[end - 1] + 1))
            start = text.find(exact, start + 1)
        return found

    def nearest(self, exact: str) -> Nearest | None:
        """Return the place whose words are most like ``exact``; None in a text without words."""
        wanted = exact.split()
        if not wanted or not self.words:
            return None
        printed = self.folded.split(" ")
        # The cost of the words so far, ending before each word of the text, and where they began.
        row = [(0.0, j) for j in range(len(printed) + 1)]
        for word in wanted:
            costs = {other: _unlike(word, other) for other in set(printed)}
            above, row = row, [(row[0][0] + 1.0, 0)]
            for j, other in enumerate(printed, 1):
                row.append(
                    min(
                        (above[j - 1][0] + costs[other], above[j - 1][1]),
                        (above[j][0] + 1.0, above[j][1]),
                        (row[j - 1][0] + 1.0, row[j - 1][1]),
                    )
                )
        end = min(range(1, len(row)), key=lambda j: (row[j][0], j))
        first = min(row[end][1], len(printed) - 1)
        end = max(end, first + 1)
        # Where the first word is only the end of a longer one, as after a bracket.
        start = sum(len(w) + 1 for w in printed[:first])
        inside = printed[first].find(wanted[0])
        start += max(inside, 0)
        same = 0
        rest = self.folded[start:]
        while same < min(len(exact), len(rest)) and exact[same] == rest[same]:
            same += 1
        last = self.words[end - 1].end
        where = min(start + same, len(self._origin) - 1)
        return Nearest(
            Span(self._origin[start], max(last, self._origin[start] + 1)),
            same,
            self._origin[where],
            _some(exact, same),
            _some(self.folded, start + same),
        )


def _inside_word(text: str, position: int) -> bool:
    return 0 < position < len(text) and text[position - 1].isalnum() and text[position].isalnum()


def _unlike(one: str, other: str) -> float:
    """Return 0 for the same word, up to 1 for words that begin and end differently."""
    if one == other:
        return 0.0
    shorter = min(len(one), len(other))
    same = 0
    while same < shorter and one[same] == other[same]:
        same += 1
    tail = 0
    while tail < shorter - same and one[-1 - tail] == other[-1 - tail]:
        tail += 1
    return 1.0 - (same + tail) / (max(len(one), len(other)) + 1)


def _some(text: str, position: int) -> str:
    """Return the word at ``position`` and a little of what follows it."""
    start = text.rfind(" ", 0, position) + 1
    return text[start : max(position + 1, start + 25)].strip()
