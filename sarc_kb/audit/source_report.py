"""The account of a record as plain data and as text."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby

from sarc_kb.audit.source_account import (
    FACT,
    LAYOUT,
    OPEN,
    RULE,
    Account,
    Quoted,
    Segment,
    position_of,
    section_at,
    shortened,
)
from sarc_kb.source_text import SourceText, Span


def section_document(account: Account, name: str, span: Span) -> dict[str, object]:
    """Return the coverage of one section, in characters."""
    segments = [s for s in account.segments if s.section == name]

    def total(*categories: str) -> int:
        return sum(s.span.end - s.span.start for s in segments if s.category in categories)

    size = span.end - span.start
    rules, layout, open_ = total(RULE), total(LAYOUT), total(OPEN)
    return {
        "name": name,
        **position_of(account.text, span),
        "characters": size,
        "in_rules": rules,
        "in_judged_rules": sum(
            s.span.end - s.span.start for s in segments if s.category == RULE and s.judged
        ),
        "in_design_facts": total(FACT),
        "in_passages": size - rules - layout - open_ - total(FACT),
        "layout": layout,
        "not_accounted": open_,
        "coverage": percent(size - open_, size),
    }


def percent(part: int, whole: int) -> float:
    """Return the share in percent, rounded down: only all of it is 100."""
    return int(1000 * part / whole) / 10 if whole else 100.0


def category_documents(account: Account) -> list[dict[str, object]]:
    """Return, by category, the passages (neighbours of the same account are one) and characters."""
    rows: dict[str, tuple[int, int]] = {}
    for category in (RULE, FACT):
        rows[category] = (0, 0)
    runs = groupby(account.segments, key=lambda s: (s.section, s.category, s.others and s.reason))
    for (_, category, _), run in runs:
        size = sum(s.span.end - s.span.start for s in run)
        passages, characters = rows.get(category, (0, 0))
        rows[category] = (passages + 1, characters + size)
    order = [RULE, FACT, *sorted(set(rows) - {RULE, FACT, LAYOUT, OPEN}), LAYOUT, OPEN]
    return [
        {"category": c, "passages": rows.get(c, (0, 0))[0], "characters": rows.get(c, (0, 0))[1]}
        for c in order
    ]


def place_documents(account: Account) -> list[dict[str, object]]:
    """Return where every quotation stands, in the order of the text."""
    return [
        {
            "id": q.id,
            "kind": {"rule": "rule", "fact": "design fact"}.get(q.kind, "passage"),
            "section": section_at(account, place),
            **position_of(account.text, place),
            "text": account.text.at(place),
        }
        for q, place in _in_order(account)
    ]


def _in_order(account: Account) -> list[tuple[Quoted, Span]]:
    placed = [(q, q.place) for q in account.quoted if q.place is not None]
    kinds = ("rule", "fact", "passage")
    return sorted(placed, key=lambda qp: (kinds.index(qp[0].kind), qp[0].id, qp[1]))


def segment_document(text: SourceText, segment: Segment) -> dict[str, object]:
    """Return one segment with its words and who accounts for them."""
    return {
        "section": segment.section,
        **position_of(text, segment.span),
        "text": text.text[segment.span.start : segment.span.end],
        "category": segment.category,
        "rules": list(segment.rules),
        "others": list(segment.others),
        "reason": segment.reason,
    }


def coverage_lines(account: Account) -> Iterator[str]:
    """Yield the coverage by section and by category as tables."""
    yield "Coverage, in characters:"
    heads = ("section", "all", "in rules", "design", "passages", "layout", "open", "coverage")
    rows: list[tuple[str, ...]] = [heads]
    for name, span in account.sections:
        d = section_document(account, name, span)
        rows.append(
            (
                name,
                str(d["characters"]),
                str(d["in_rules"]),
                str(d["in_design_facts"]),
                str(d["in_passages"]),
                str(d["layout"]),
                str(d["not_accounted"]),
                f"{d['coverage']} %",
            )
        )
    yield from _table(rows)
    yield ""
    rows = [("category", "passages", "characters")]
    rows += [
        (str(r["category"]), str(r["passages"]), str(r["characters"]))
        for r in category_documents(account)
    ]
    yield from _table(rows)
    yield ""


def _table(rows: Sequence[Sequence[str]]) -> Iterator[str]:
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    for row in rows:
        cells = [row[0].ljust(widths[0])]
        cells += [cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True)]
        yield "  " + "  ".join(cells)


def place_lines(account: Account) -> Iterator[str]:
    """Yield the places of every rule."""
    yield "Places (line:column):"
    found = _in_order(account)
    width = max((len(q.id) for q, _ in found), default=0)
    for quoted, place in found:
        line, column = account.text.line_column(place.start)
        words = shortened(account.text.at(place))
        section = section_at(account, place) or "elsewhere"
        yield f"  {quoted.id:<{width}}  {line:>4}:{column:<3} {words}  ({section})"
    yield ""


def annotated(account: Account) -> Iterator[str]:
    """Yield the sections line by line; before each part stands who accounts for it."""
    for name, section in account.sections:
        yield f"Text of the section {name}:"
        segments = [s for s in account.segments if s.section == name]
        for line in account.text.line_spans(section):
            shown = []
            tagged = False
            for segment in segments:
                if not segment.span.overlaps(line):
                    continue
                part = Span(max(segment.span.start, line.start), min(segment.span.end, line.end))
                words = account.text.text[part.start : part.end]
                if segment.category == LAYOUT:
                    shown.append(f"[/]{words}" if tagged and words.strip() else words)
                    tagged = tagged and not words.strip()
                elif words.strip():
                    gap = " " if shown and not shown[-1].endswith(" ") else ""
                    shown.append(f"{gap}[{_tag(segment)}] {words.lstrip()}")
                    tagged = True
            number = account.text.line_column(line.start)[0]
            yield f"{number:>5}  {''.join(shown).rstrip()}"
        yield ""
    reasons = {
        s.others[-1]: (s.category, s.reason) for s in account.segments if not s.rules and s.others
    }
    if reasons:
        yield "Reasons:"
        for id_, (category, reason) in sorted(reasons.items()):
            yield f"  {id_} ({category}): {reason}"


def _tag(segment: Segment) -> str:
    if segment.category == OPEN:
        return "NOT ACCOUNTED"
    if segment.rules:
        return " ".join(segment.rules)
    return f"{segment.category}: {segment.others[-1]}"
