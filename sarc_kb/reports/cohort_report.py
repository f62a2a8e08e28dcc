"""What a screening run comes to, as text and as the JSON of ``summary.json``.

The JSON has the shape of ``sarc_kb/schema/screening-1.schema.json``. No patient is named in either.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from textwrap import wrap
from typing import Any

from sarc_kb import __version__
from sarc_kb.assessment import KnowledgeBaseInfo
from sarc_kb.cohort.screen import Screening
from sarc_kb.cohort.summary import CriterionCount, RuleCount, TrialCount, Worth
from sarc_kb.cohort.waiting import WaitCount
from sarc_kb.errors import Finding
from sarc_kb.namespaces import BASE
from sarc_kb.reports.escaping import visible, visible_in_json
from sarc_kb.reports.json_report import plain
from sarc_kb.rules import Trial

SCHEMA = BASE + "schema/screening/1"


def document(
    found: Screening,
    kb: KnowledgeBaseInfo,
    trials: Mapping[str, Trial],
    options: Mapping[str, object],
    findings: Iterable[Finding],
) -> dict[str, Any]:
    """Return the summary as plain dictionaries, lists and strings.

    ``options``: what the caller set, as given.
    """
    told = []
    for count in found.trials:
        trial = trials[count.trial]
        members = plain(count)
        assert isinstance(members, dict)
        for name in ("verdicts", "conclusions"):
            members[name] = dict(getattr(count, name))
        for rule, one in zip(members["rules"], count.rules, strict=True):
            rule["outcomes"] = dict(one.outcomes)
        told.append(
            {
                **members,
                "policies": {p.name: p.value for p in trial.policies},
                "readings": dict(trial.chosen_readings),
                "changed": list(trial.changed),
            }
        )
    changes = []
    for worth in found.changes:
        members = plain(worth)
        assert isinstance(members, dict)
        for name in ("flips", "treatment_flips"):
            members[name] = [
                {"from": a, "to": b, "patients": n} for a, b, n in getattr(worth, name)
            ]
        changes.append(members)
    return {
        "schema": SCHEMA,
        "knowledge_base": plain(kb),
        "program_version": __version__,
        "engine": found.engine,
        "engine_version": found.engine_version,
        "options": dict(options),
        "patients": found.patients,
        "not_judged": found.not_judged,
        "trials": told,
        "what_if": changes,
        "over_time": [plain(count) for count in found.waiting],
        "findings": [plain(f) for f in findings],
    }


def render_json(
    found: Screening,
    kb: KnowledgeBaseInfo,
    trials: Mapping[str, Trial],
    options: Mapping[str, object],
    findings: Iterable[Finding],
) -> str:
    """Return `document` as JSON."""
    told = document(found, kb, trials, options, findings)
    return visible_in_json(json.dumps(told, ensure_ascii=False, indent=2)) + "\n"


def render_text(found: Screening, *, width: int = 100, quiet: bool = False) -> str:
    """Return the summary as text; ``quiet``: the counts of verdicts alone."""
    page = _Page(max(width, 60))
    for trial in found.trials:
        _verdicts(page, trial, found.patients)
        if quiet:
            continue
        if trial.criteria:
            _attrition(page, trial)
        if trial.treated:
            _course(page, trial)
    if not quiet:
        for count in found.waiting:
            _waiting(page, count)
    if found.changes and not quiet:
        _what_if(page, found.changes)
    return "\n".join(page.lines) + "\n"


def _verdicts(page: _Page, trial: TrialCount, patients: int) -> None:
    counts = ", ".join(f"{n:,} {word}" for word, n in trial.verdicts)
    page.paragraph(f"SCREENING  {trial.trial}: {patients:,} patients; {counts}")
    if trial.eligible_at_least != trial.eligible_at_most:
        page.paragraph(
            f"At least {trial.eligible_at_least:,} and at most {trial.eligible_at_most:,} are eligible."
        )


def _attrition(page: _Page, trial: TrialCount) -> None:
    page.gap()
    head = (
        "criterion",
        "pass",
        "fail",
        "undet.",
        "only one",
        "out here",
        "left",
        "all pass",
        "subject",
    )
    rows = [_criterion(c) for c in trial.criteria]
    page.table(head, rows, right=range(1, 8))
    page.gap()
    page.paragraph(
        "only one: fails nothing else; out here: fails this and nothing before it; left: failed nothing so far; all pass: passed everything so far."
    )


def _criterion(c: CriterionCount) -> tuple[str, ...]:
    numbers = (c.passes, c.fails, c.undetermined, c.sole, c.excluded_here, c.remaining)
    return (c.id, *(f"{n:,}" for n in numbers), f"{c.passed_so_far:,}", c.label)


def _course(page: _Page, trial: TrialCount) -> None:
    page.gap()
    counts = ", ".join(f"{n:,} {word}" for word, n in trial.conclusions)
    page.paragraph(f"TREATMENT  {trial.treated:,} patients with treatment on record; {counts}")
    page.gap()
    page.table(("rule", "outcomes", "subject"), [_rule(r) for r in trial.rules])


def _rule(rule: RuleCount) -> tuple[str, ...]:
    told = ", ".join(f"{n:,} {word}" for word, n in rule.outcomes if n)
    return rule.id, told, rule.label


def _waiting(page: _Page, count: WaitCount) -> None:
    page.gap()
    page.paragraph(
        f"OVER TIME  {count.trial}: {count.eligible_now:,} eligible now; within {count.horizon_days:,} days {count.by_waiting:,} become so by waiting alone, {count.if_repeated:,} more if what has grown old by then is repeated; {count.expiring:,} verdicts expire"
    )


def _what_if(page: _Page, changes: Iterable[Worth]) -> None:
    page.gap()
    page.paragraph("WHAT IF  compared with the protocol as it is read by default")
    page.gap()
    rows = []
    for change in changes:
        told = [f"{n:,} {a} to {b}" for a, b, n in change.flips]
        told += [
            f"treatment: {n:,} {a or 'not told'} to {b or 'not told'}"
            for a, b, n in change.treatment_flips
        ]
        flips = ", ".join(told) or "nobody flips"
        rows.append((change.change, f"{change.eligible:,}", f"{change.eligible_change:+,}", flips))
    page.table(("change", "eligible", "more", "flips"), rows, right=(1, 2))


class _Page:
    """Lines of at most ``width`` columns."""

    def __init__(self, width: int) -> None:
        self.width = width
        self.lines: list[str] = []

    def gap(self) -> None:
        self.lines.append("")

    def paragraph(self, text: str) -> None:
        self.lines += wrap(visible(text), self.width)

    def table(
        self, head: tuple[str, ...], rows: Sequence[tuple[str, ...]], *, right: Iterable[int] = ()
    ) -> None:
        """Add a table; columns in ``right`` are set to the right, the last one is wrapped."""
        to_right = set(right)
        shown = [tuple(map(visible, row)) for row in (head, *rows)]
        widths = [max(len(row[k]) for row in shown) for k in range(len(head) - 1)]
        room = max(self.width - sum(widths) - 2 * len(widths), 20)
        for row in shown:
            cells = [
                cell.rjust(w) if k in to_right else cell.ljust(w)
                for k, (cell, w) in enumerate(zip(row[:-1], widths, strict=True))
            ]
            first, *rest = wrap(row[-1], room) or [""]
            self.lines.append("  ".join([*cells, first]).rstrip())
            indent = " " * (sum(widths) + 2 * len(widths))
            self.lines += [indent + line for line in rest]
