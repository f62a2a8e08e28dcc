"""Another version of a record: what changed, and which quotations that touches."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from rdflib import Graph, URIRef

from sarc_kb.audit.source_account import (
    NOBODY,
    Account,
    Part,
    Quoted,
    account_of,
    beside,
    error_of,
    open_spans,
    position_of,
    section_at,
    shortened,
    spot,
)
from sarc_kb.audit.source_changes import Change, changes_between
from sarc_kb.errors import Finding, UsageError
from sarc_kb.namespaces import SARC, local_name
from sarc_kb.source_text import Quote, SourceText, Span, fold_space


@dataclass(frozen=True, slots=True)
class Compared:
    """What the comparison comes to, as data, as text, as findings and in one line."""

    document: dict[str, object]
    lines: tuple[str, ...]
    findings: tuple[Finding, ...]
    summary: str


@dataclass(frozen=True, slots=True)
class _Touched:
    """A quotation that a change touches, and whether it stands in the other version."""

    quoted: Quoted
    stands: str

    @property
    def broken(self) -> bool:
        return self.stands not in _STANDING


_VERBATIM, _CONTEXT = "stands verbatim", "stands verbatim, but the words around it differ"
_SEVERAL, _GONE, _CHANGED = "stands several times", "removed", "no longer verbatim"
_STANDING = (_VERBATIM, _CONTEXT)
_REMEDY = {
    **dict.fromkeys(_STANDING, "read whether it means the same"),
    _GONE: "withdraw it, or quote where it is said now",
}


def compare(graph: Graph, old: Account, parts: tuple[Part, ...], path: Path) -> Compared:
    """Compare the record with the version in the file ``path``.

    Raises:
        UsageError: it cannot be read.
    """
    try:
        text = SourceText(path.read_text(encoding="utf-8-sig"))
    except (OSError, UnicodeDecodeError) as error:
        what = error.strerror if isinstance(error, OSError) else "not UTF-8"
        raise UsageError(
            Finding(
                "USE061",
                "error",
                f"--against {path}",
                f"cannot be read: {what}",
                "there is nothing to compare with",
                "name another version of the record, as text in UTF-8",
            )
        ) from None
    file = path.name
    changes = changes_between(old.text, text)
    placed = [(q, q.place) for q in old.quoted if q.place is not None]
    standing = tuple(
        Quoted(q.iri, q.id, q.kind, q.category, q.reason, q.quote, tuple(found))
        for q, _ in placed
        if (found := text.places(q.quote) or text.places(Quote(q.quote.exact)))
    )
    new = account_of(text, file, standing, parts)
    register = _register(graph, old.text)
    findings = list(new.findings)
    told: set[tuple[str, Quote]] = set()
    entries = []
    for change in changes:
        touched = [
            _Touched(q, _stands(q.quote, place, change, text))
            for q, place in placed
            if change.touches(place, old.text, text)
        ]
        open_ = _open_in(new, change) if not any(t.broken for t in touched) else []
        entry = _Entry(
            change,
            section_at(old, change.old) or section_at(new, change.new),
            touched,
            sorted({i for i, p in register if change.touches(p, old.text, text)}),
            _numbered(old, change),
            open_,
        )
        entries.append(entry)
        findings += _change_findings(old, new, entry, told)
    # What no change touches can still have lost its place: its prefix or suffix differs.
    for q, _ in placed:
        if (q.iri, q.quote) not in told and len(text.places(q.quote)) != 1:
            findings.append(
                Finding(
                    "SRC022",
                    "warning",
                    q.id,
                    f"“{shortened(q.quote.exact)}” stands in {file}, but not in the place that its"
                    " prefix and suffix name",
                    "it could be taken from another sentence",
                    "correct oa:prefix or oa:suffix when the new record is taken over",
                )
            )
    ids = sorted({t.quoted.id for e in entries for t in e.touched if t.quoted.kind == "rule"})
    broken = sorted(
        {t.quoted.id for e in entries for t in e.touched if t.broken and t.quoted.kind == "rule"}
    )
    count = len(entries)
    summary = f"{file}: {count or 'no'} change{'' if count == 1 else 's'}" + (
        f", {len(ids)} rules touched, {len(broken)} quotations lost" if count else ""
    )
    document: dict[str, object] = {
        "file": file,
        "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        "changes": [_entry_document(old, new, entry) for entry in entries],
        "rules_touched": ids,
        "quotations_lost": broken,
    }
    lines = [summary, *(line for entry in entries for line in _entry_lines(old, new, entry))]
    return Compared(document, tuple(lines), tuple(findings), summary)


@dataclass(frozen=True, slots=True)
class _Entry:
    change: Change
    section: str | None
    touched: list[_Touched]
    register: list[str]
    numbered: list[str]
    open: list[Span]


def _stands(quote: Quote, place: Span, change: Change, text: SourceText) -> str:
    there = text.places(quote)
    if len(there) == 1:
        return _VERBATIM
    if there:
        return _SEVERAL
    anywhere = text.places(Quote(quote.exact))
    if anywhere:
        return _CONTEXT if len(anywhere) == 1 else _SEVERAL
    return _GONE if change.kind == "removed" and change.old.holds(place) else _CHANGED


def _register(graph: Graph, text: SourceText) -> list[tuple[str, Span]]:
    """Return the ambiguous passages of the register with their places."""
    return [
        (local_name(str(node)), place)
        for node, passage in sorted(graph.subject_objects(SARC.passage))
        if isinstance(node, URIRef)
        for place in text.places(Quote(fold_space(str(passage))))
    ]


def _numbered(account: Account, change: Change) -> list[str]:
    """Return the rules of the list item whose number changed: their locators may name it."""
    if change.kind != "renumbered":
        return []
    numbers = [n.start for n in account.text.list_numbers]
    after = min((n for n in numbers if n > change.old.start), default=len(account.text.text))
    section = next((s for _, s in account.sections if s.overlaps(change.old)), None)
    item = Span(change.old.start, min(after, section.end) if section else after)
    return sorted(
        {
            q.id
            for q in account.quoted
            if q.kind == "rule" and q.place is not None and item.holds(q.place)
        }
    )


def _open_in(account: Account, change: Change) -> list[Span]:
    """Return what the change brings that nobody accounts for."""
    return [span for _, span in open_spans(account) if span.overlaps(change.new)]


def _change_findings(
    old: Account, new: Account, entry: _Entry, told: set[tuple[str, Quote]]
) -> Iterator[Finding]:
    change = entry.change
    where = _place_of_change(old, new, change)
    words = _in_words(old, new, change)
    for touched in entry.touched:
        key = (touched.quoted.iri, touched.quoted.quote)
        if key in told:
            continue
        told.add(key)
        lost = touched.broken
        is_passage = touched.quoted.kind == "passage"
        yield Finding(
            ("SRC024" if is_passage else "SRC021") if lost else "SRC022",
            "error" if lost else "warning",
            f"{touched.quoted.id}, {where}",
            f"{words}; its quotation {_sentence(touched.stands)}",
            "its words are not those of the other version"
            if lost
            else "the change stands in or beside its words",
            _REMEDY.get(touched.stands, "read the new words, and correct it and its quotation"),
        )
    for span in entry.open:
        yield error_of(
            "SRC023",
            spot(new.file, new.text, span.start),
            f"new: nobody accounts for “{shortened(new.text.at(span), 200)}”"
            f" ({section_at(new, span)}{beside(new, span)})",
            NOBODY,
            "write the rule, or give the reason why there is none (sarc:AccountedPassage)",
        )
    if not entry.touched and not entry.open:
        numbers = f"; locators of {', '.join(entry.numbered)}" if entry.numbered else ""
        yield Finding(
            "SRC026" if change.kind == "renumbered" else "SRC025",
            "warning" if entry.numbered else "info",
            where,
            words + numbers,
            "the item that they name has another number"
            if entry.numbered
            else "no rule quotes the words that changed",
            "correct them when the new record is taken over"
            if entry.numbered
            else "read whether a rule should",
        )


def _sentence(stands: str) -> str:
    return {_GONE: "is removed", _CHANGED: "is no longer verbatim"}.get(stands, stands)


def _place_of_change(old: Account, new: Account, change: Change) -> str:
    if change.kind == "added":
        return spot(new.file, new.text, change.new.start)
    return spot(old.file, old.text, old.text.whole_words(change.old).start)


def _in_words(old: Account, new: Account, change: Change) -> str:
    before = f"“{shortened(old.text.at(old.text.whole_words(change.old)), 200)}”"
    after = f"“{shortened(new.text.at(new.text.whole_words(change.new)), 200)}”"
    if change.kind == "added":
        return f"added: {after}"
    if change.kind == "removed":
        return f"removed: {before}"
    return f"{change.kind}: {before} is now {after}"


def _entry_document(old: Account, new: Account, entry: _Entry) -> dict[str, object]:
    change = entry.change

    def names(kind: str) -> list[dict[str, object]]:
        return [
            {"id": t.quoted.id, "stands": not t.broken, "how": t.stands}
            for t in entry.touched
            if t.quoted.kind == kind
        ]

    return {
        "kind": change.kind,
        "section": entry.section,
        "old": _words_document(old.text, change.old, there=change.kind != "added"),
        "new": _words_document(new.text, change.new, there=change.kind != "removed"),
        "rules": names("rule"),
        "design_facts": names("fact"),
        "passages": names("passage"),
        "register": entry.register,
        "renumbered": entry.numbered,
        "not_accounted": [new.text.at(span) for span in entry.open],
    }


def _words_document(text: SourceText, span: Span, *, there: bool) -> dict[str, object]:
    """Return the whole words of ``span``; where there are none, the place where they would be."""
    shown = text.whole_words(span) if there else span
    return {**position_of(text, shown), "text": text.at(shown)}


def _entry_lines(old: Account, new: Account, entry: _Entry) -> Iterator[str]:
    where = _place_of_change(old, new, entry.change)
    yield f"  {where}  {_in_words(old, new, entry.change)}"
    for touched in entry.touched:
        yield f"      {touched.quoted.id}: its quotation {_sentence(touched.stands)}"
    if entry.numbered:
        yield f"      locators: {', '.join(entry.numbered)}"
    if entry.register:
        yield f"      register: {', '.join(entry.register)}"
    for span in entry.open:
        yield f"      nobody accounts for: {shortened(new.text.at(span), 200)}"
