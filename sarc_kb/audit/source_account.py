"""Who accounts for which words of a record: quotations, sections, and what is left open."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import groupby, pairwise

from sarc_kb.errors import Finding
from sarc_kb.source_text import Quote, SourceText, Span

LAYOUT, RULE, FACT, OPEN = "layout", "rule", "design fact", "not accounted"
NOBODY = "a word that nobody accounts for may be a rule that is missing"


@dataclass(frozen=True, slots=True)
class Quoted:
    """A rule, a design fact or a passage, and its words in the record.

    ``judged``: its words are decided, not only held together with others.
    """

    iri: str
    id: str
    kind: str
    category: str
    reason: str
    quote: Quote
    places: tuple[Span, ...]
    judged: bool = False

    @property
    def place(self) -> Span | None:
        return self.places[0] if len(self.places) == 1 else None


@dataclass(frozen=True, slots=True)
class Part:
    """A section that must be accounted for."""

    name: str
    starts: Quote
    ends: Quote | None


@dataclass(frozen=True, slots=True)
class Segment:
    """Words with the same account."""

    section: str
    span: Span
    category: str
    rules: tuple[str, ...] = ()
    others: tuple[str, ...] = ()
    reason: str = ""
    judged: bool = False


@dataclass(frozen=True, slots=True)
class Account:
    """All of one text."""

    text: SourceText
    file: str
    quoted: tuple[Quoted, ...]
    sections: tuple[tuple[str, Span], ...]
    segments: tuple[Segment, ...]
    findings: list[Finding] = field(default_factory=list)


def account_of(
    text: SourceText, file: str, quoted: tuple[Quoted, ...], parts: tuple[Part, ...]
) -> Account:
    """Return who accounts for which words of the sections, and what is wrong with those."""
    sections: list[tuple[str, Span]] = []
    findings = []
    for part in parts:
        starts = text.places(part.starts)
        ends = [Span(len(text.text), len(text.text))] if part.ends is None else []
        ends = ends or text.places(part.ends or Quote(""))
        told = [
            (what, quote, places)
            for what, quote, places in (
                ("starts with", part.starts, starts),
                ("ends before", part.ends, ends),
            )
            if len(places) != 1
        ]
        for what, quote, places in told:
            words = quote.exact if quote is not None else ""
            findings.append(
                error_of(
                    "SRC002",
                    f"{file}, section {part.name}",
                    f"“{shortened(words)}”, which it {what}, stands there {_times(len(places))}",
                    "nobody can tell what must be accounted for",
                    "correct its words, or add oa:prefix or oa:suffix",
                )
            )
        if told:
            continue
        span = Span(starts[0].start, ends[0].start)
        if span.end <= span.start:
            findings.append(
                error_of(
                    "SRC002",
                    f"{file}, section {part.name}",
                    "it ends before it starts",
                    "nothing would be accounted for",
                    "correct its words",
                )
            )
            continue
        sections.append((part.name, span))
    sections.sort(key=lambda s: s[1])
    for (name, span), (other, next_) in pairwise(sections):
        if span.overlaps(next_):
            findings.append(
                error_of(
                    "SRC002",
                    f"{file}, section {other}",
                    f"it starts inside the section {name}",
                    "its words would count twice",
                    "correct where the one ends or the other starts",
                )
            )
    segments = [s for name, span in sections for s in _segments(text, quoted, name, span)]
    return Account(text, file, quoted, tuple(sections), tuple(segments), findings)


def _segments(
    text: SourceText, quoted: Iterable[Quoted], name: str, section: Span
) -> Iterator[Segment]:
    """Yield the section's words by who accounts for them; together they are all of it."""
    here = [q for q in quoted if q.place is not None and q.place.overlaps(section)]
    numbers = {i for s in text.list_numbers for i in range(s.start, s.end)}
    separators = {i for s in text.separators for i in range(s.start, s.end)}
    holding: list[list[int]] = [[] for _ in range(section.start, section.end)]
    for index, quotation in enumerate(here):
        assert quotation.place is not None
        for i in range(
            max(quotation.place.start, section.start), min(quotation.place.end, section.end)
        ):
            holding[i - section.start].append(index)

    def key(i: int) -> tuple[tuple[int, ...], str]:
        holders = tuple(holding[i - section.start])
        if holders:
            return holders, ""
        plain = text.text[i].isspace() or i in numbers or i in separators
        return (), LAYOUT if plain else OPEN

    for (holders, category), run in groupby(range(section.start, section.end), key=key):
        inside = list(run)
        span = Span(inside[0], inside[-1] + 1)
        if not holders:
            kinds = {
                "list number": any(i in numbers for i in inside),
                "punctuation": any(i in separators - numbers for i in inside),
                "white space": any(text.text[i].isspace() for i in inside),
            }
            reason = ", ".join(k for k, there in kinds.items() if there)
            yield Segment(name, span, category, reason=reason if category == LAYOUT else "")
            continue
        holds = [here[i] for i in holders]
        rules = tuple(sorted({q.id for q in holds if q.kind == "rule"}))
        others = sorted((q for q in holds if q.kind != "rule"), key=lambda q: (q.kind, q.id))
        yield Segment(
            name,
            span,
            RULE if rules else others[-1].category,
            rules,
            tuple(dict.fromkeys(q.id for q in others)),
            "" if rules else others[-1].reason,
            any(q.judged for q in holds),
        )


def open_spans(account: Account) -> list[tuple[str, Span]]:
    """Return the passages that nobody accounts for; layout inside one does not end it."""
    found: list[tuple[str, Span]] = []
    numbers = account.text.list_numbers
    pending = False
    for segment in account.segments:
        if segment.category == OPEN:
            if pending and found and found[-1][0] == segment.section:
                found[-1] = (segment.section, Span(found[-1][1].start, segment.span.end))
            else:
                found.append((segment.section, segment.span))
            pending = True
        elif segment.category != LAYOUT or any(segment.span.holds(n) for n in numbers):
            pending = False
    return found


def open_passages(account: Account) -> list[Finding]:
    """Return an error for each passage that nobody accounts for."""
    return [
        error_of(
            "SRC003",
            spot(account.file, account.text, span.start),
            f"nobody accounts for “{shortened(account.text.at(span), 200)}” ({name}"
            f"{beside(account, span)})",
            NOBODY,
            "quote it in a rule, or give the reason why none does (sarc:AccountedPassage)",
        )
        for name, span in open_spans(account)
    ]


def beside(account: Account, span: Span) -> str:
    """Return which account ends last before ``span``, in words."""
    before = [q for q in account.quoted if q.place is not None and q.place.end <= span.start]
    if not before:
        return ""
    last = max(q.place.end for q in before if q.place is not None)
    ids = sorted({q.id for q in before if q.place is not None and q.place.end == last})
    return f", after {', '.join(ids)}"


def needless(account: Account) -> Iterator[Finding]:
    """Yield warnings for passages that a rule quotes as well, and for those outside all sections."""
    placed = [(q, q.place) for q in account.quoted if q.place is not None]
    for passage, place in placed:
        if passage.kind != "passage":
            continue
        over = sorted(
            {
                q.id
                for q, p in placed
                if p.overlaps(place) and (q.kind != "passage" or (q.iri, p) != (passage.iri, place))
            }
        )
        where = f"{passage.id}, {spot(account.file, account.text, place.start)}"
        words = shortened(account.text.at(place))
        if over:
            yield Finding(
                "SRC006",
                "warning",
                where,
                f"“{words}” is also quoted by {', '.join(over)}",
                "words that are quoted need no other reason",
                "shorten the passage, or the quotation",
            )
        if account.sections and not any(span.holds(place) for _, span in account.sections):
            yield Finding(
                "SRC010",
                "warning",
                where,
                f"“{words}” is in no section that is accounted for",
                "it accounts for nothing",
                "leave it out, or correct the sections",
            )


def section_at(account: Account, span: Span) -> str | None:
    """Return the name of the section that a span starts in or reaches into."""
    for name, section in account.sections:
        if section.start <= span.start < section.end or section.overlaps(span):
            return name
    return None


def position_of(text: SourceText, span: Span) -> dict[str, int]:
    """Return where a span stands, in characters from 0 and as line and column."""
    line, column = text.line_column(span.start)
    return {"start": span.start, "end": span.end, "line": line, "column": column}


def error_of(code: str, where: str, found: str, why: str, fix: str) -> Finding:
    """Return an error."""
    return Finding(code, "error", where, found, why, fix)


def where_of(id_: str, file: str) -> str:
    """Return the name of what a finding is about, with its file where that is known."""
    return f"{id_}, {file}" if file else id_


def spot(file: str, text: SourceText, position: int) -> str:
    """Return a position as file, line and column."""
    line, column = text.line_column(position)
    return f"{file}:{line}:{column}"


def shortened(text: str, size: int = 60) -> str:
    """Return the text, cut to ``size`` characters."""
    return text if len(text) <= size else text[: size - 1].rstrip() + "…"


def _times(count: int) -> str:
    return "nowhere" if count == 0 else f"{count} times"
