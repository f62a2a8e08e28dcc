"""What a data set can decide: as text, as JSON, and as one table to sort.

The JSON has the shape of ``sarc_kb/schema/readiness-1.schema.json``. The table has one row a
clause; a cell that a spreadsheet would take for a formula gets an apostrophe in front.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Sequence
from textwrap import wrap

from sarc_kb.explain import BLOCKERS
from sarc_kb.mappings import guarded
from sarc_kb.namespaces import BASE
from sarc_kb.readiness import Readiness, Seen
from sarc_kb.reports.escaping import visible, visible_in_json
from sarc_kb.reports.json_report import plain
from sarc_kb.reports.text_report import columns

SCHEMA = BASE + "schema/readiness/1"
_FEW = 12
_UNMAPPED = ("count", "as", "code", "as the record calls it, for example")


def render_text(found: Readiness, *, width: int = 100, verbose: bool = False) -> str:
    """Return the report as text of ``width`` columns; ``verbose`` shows every clause and row."""
    page = _Page(max(width, 60))
    judged = found.patients - found.unreadable
    whole = sum(c.decided == judged for c in found.criteria)
    page.paragraph(
        f"READINESS  {found.trial}: {found.patients} patients; {whole} of {len(found.criteria)} criteria can be decided for all of them"
    )
    if found.windows_unknown:
        page.paragraph(
            f"{found.windows_unknown} patients have no entry date: their windows are unknown, so a record counts whenever it was. With --entry-date fewer will be decided."
        )
    if found.unreadable:
        page.paragraph(f"{found.unreadable} patients could not be read; see validate.")
    if found.changed:
        page.paragraph("Set by the caller: " + visible(", ".join(found.changed)))
    page.gap()
    rows: list[tuple[str, ...]] = []
    for criterion in found.criteria:
        share = _share(criterion.decided, judged)
        rows.append((criterion.id, share, criterion.label, _blocked(criterion.blocked)))
        if verbose:
            rows += [
                (f"  {c.id}", _share(c.decided, judged), c.label, _blocked(c.blocked))
                for c in found.clauses
                if c.criterion == criterion.id
            ]
    page.table(("criterion", "decided", "subject", "blocked by (patients)"), rows)
    gains = found.gains if verbose else found.gains[:_FEW]
    if gains:
        page.heading("To gain most: clauses of patients that it may open")
    for gain in gains:
        places = [f"FHIR {gain.fhir_element}"] if gain.fhir_element else []
        places += [f"OMOP {gain.omop_field}"] if gain.omop_field else []
        page.numbered(
            gain.opens,
            f"{BLOCKERS[gain.blocker]}: {gain.what} [{', '.join(gain.clauses)}]"
            + "".join(f"; {p}" for p in places),
        )
    page.more(found.gains, gains, "--verbose shows all")
    shown = found.unmapped if verbose else found.unmapped[:_FEW]
    if shown:
        page.heading(
            "Unmapped, most frequent first (sarc-kb map SOURCE --suggest writes them down)"
        )
        page.table(_UNMAPPED, map(_row, shown))
    page.more(found.unmapped, shown, "sarc-kb map lists all")
    units = [u for u in found.units if verbose or u.problem]
    if units:
        page.heading("Units" if verbose else "Units that cannot be used")
        page.table(
            ("count", "unit", "of", "problem, for example"),
            [
                (
                    str(u.count),
                    visible(u.unit) or "(none)",
                    u.of,
                    f"{visible(u.problem) or 'read'}, {visible(u.example)}",
                )
                for u in units
            ],
        )
    if verbose and found.codes:
        page.heading("Codes seen")
        page.table(
            ("count", "as", "code", "leads to"),
            [(*_row(c)[:3], c.term or "nothing") for c in found.codes],
        )
    return "\n".join(page.lines).rstrip("\n") + "\n"


def table_text(unmapped: Sequence[Seen], width: int) -> str:
    """Return what is unmapped as a table of ``width`` columns."""
    page = _Page(max(width, 60))
    page.table(_UNMAPPED, map(_row, unmapped))
    return "\n".join(page.lines) + "\n"


def render_json(found: Readiness) -> str:
    """Return one JSON document, indented by two spaces."""
    return visible_in_json(json.dumps(document(found), ensure_ascii=False, indent=2)) + "\n"


def document(found: Readiness) -> dict[str, object]:
    """Return the report as plain dictionaries, lists and strings."""
    members = plain(found)
    assert isinstance(members, dict)
    for name in ("criteria", "clauses"):
        for member, one in zip(members[name], getattr(found, name), strict=True):
            member["decided"] = one.decided
            member["blocked"] = dict(one.blocked)
    return {"schema": SCHEMA, **members}


def render_csv(found: Readiness) -> str:
    """Return one table with a row a clause: counts of patients, the share decided (0 to 1), one
    column for each thing that may block, and where FHIR and OMOP keep what blocks most."""
    out = io.StringIO()
    table = csv.writer(out, lineterminator="\r\n")
    judged = found.patients - found.unreadable
    head = ("criterion", "clause", "subject", "patients", "decided", "share", "passes", "fails")
    table.writerow((*head, *BLOCKERS, "fhir_element", "omop_field"))
    for clause in found.clauses:
        blocked = dict(clause.blocked)
        table.writerow(
            (
                guarded(clause.criterion),
                guarded(clause.id),
                guarded(clause.label),
                judged,
                clause.decided,
                f"{clause.decided / judged:.4f}" if judged else "",
                clause.passes,
                clause.fails,
                *(blocked.get(b, 0) for b in BLOCKERS),
                guarded(clause.fhir_element),
                guarded(clause.omop_field),
            )
        )
    return out.getvalue()


def _row(seen: Seen) -> tuple[str, ...]:
    called = visible(" ".join(seen.display.split()))
    code = visible(" ".join(seen.code.split()))
    example = visible(seen.example)
    if not seen.system:
        return str(seen.count), seen.role, f"“{called or code}”", example
    return (
        str(seen.count),
        seen.role,
        f"{visible(seen.system)} {code}",
        f"{called or '(no name)'}, {example}",
    )


def _share(part: int, whole: int) -> str:
    """Return a share in per cent; only nothing is 0, and only everything 100."""
    if not whole:
        return "-"
    rounded = round(100 * part / whole)
    return f"{min(max(rounded, int(part > 0)), 99) if part < whole else 100} %"


def _blocked(blocked: Iterable[tuple[str, int]]) -> str:
    return ", ".join(f"{BLOCKERS[name]} {count}" for name, count in blocked)


class _Page:
    """The lines written so far."""

    def __init__(self, width: int) -> None:
        self.width = width
        self.lines: list[str] = []

    def gap(self) -> None:
        if self.lines and self.lines[-1]:
            self.lines.append("")

    def paragraph(self, text: str) -> None:
        self.lines += _wrapped(text, "", "  ", self.width)

    def heading(self, text: str) -> None:
        self.gap()
        self.lines += _wrapped(text, "", "  ", self.width)

    def numbered(self, number: int, text: str) -> None:
        self.lines += _wrapped(text, f"  {number:>7}  ", " " * 11, self.width)

    def more(self, whole: Sequence[object], shown: Sequence[object], where: str) -> None:
        if len(whole) > len(shown):
            self.lines.append(f"  and {len(whole) - len(shown)} more; {where}")

    def table(self, head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> None:
        """Write a table; the last column has the room that the others, wrapped, leave."""
        rows = list(rows)
        sizes = [max(columns(row[n]) for row in (head, *rows)) for n in range(len(head) - 1)]
        while sum(sizes) + 2 * len(sizes) > self.width - 24 and max(sizes) > 8:
            sizes[sizes.index(max(sizes))] -= 1
        hang = 2 + sum(sizes) + 2 * len(sizes)
        room = max(self.width - hang, 20)
        rule = tuple("-" * size for size in (*sizes, min(columns(head[-1]), room)))
        for row in (head, rule, *rows):
            cells = [
                _wrapped(t.lstrip(), "", "", max(n, 4)) for t, n in zip(row, sizes, strict=False)
            ]
            cells.append(_wrapped(row[-1], "", "", room))
            indents = len(row[0]) - len(row[0].lstrip())
            for n in range(max(map(len, cells))):
                parts = [cell[n] if n < len(cell) else "" for cell in cells]
                parts[0] = " " * (indents if n == 0 else 0) + parts[0]
                padded = [p + " " * (s - columns(p)) for p, s in zip(parts, sizes, strict=False)]
                self.lines.append(("  " + "  ".join([*padded, parts[-1]])).rstrip())


def _wrapped(text: str, first: str, further: str, width: int) -> list[str]:
    return wrap(
        text,
        width,
        initial_indent=first,
        subsequent_indent=further,
        break_long_words=False,
        break_on_hyphens=False,
    ) or [first.rstrip()]
