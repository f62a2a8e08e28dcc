"""What a screening run comes to, as one HTML page that needs nothing beside itself.

It names no patient. Every drawing has its numbers beside it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby

from sarc_kb import __version__
from sarc_kb.assessment import KnowledgeBaseInfo, Outcome, Verdict
from sarc_kb.cohort.screen import Screening
from sarc_kb.cohort.summary import CriterionCount, TrialCount
from sarc_kb.errors import Finding
from sarc_kb.reports.escaping import all_visible, visible
from sarc_kb.reports.pages import TONES, environment, style, style_hash
from sarc_kb.rules import Trial

_STYLES = ("patient.css", "cohort.css")
_TONES = {said.value: tone for said, tone in TONES.items() if not isinstance(said, Outcome)}
"""By the words that counts go by."""
_BEST_FIRST = (
    Verdict.ELIGIBLE.value,
    Verdict.UNDETERMINED.value,
    Verdict.INELIGIBLE.value,
    Verdict.NOT_ASKED.value,
    Verdict.ERROR.value,
)
_WORST = 10
"""Criteria in the lists of those that keep most patients out, or open."""


@dataclass(frozen=True, slots=True)
class Share:
    """So many of all, as text and as per cent of a width."""

    name: str
    tone: str
    sign: str
    count: int
    percent: str
    width: str


def render_page(
    found: Screening,
    kb: KnowledgeBaseInfo,
    trials: Mapping[str, Trial],
    options: Mapping[str, object],
    findings: Iterable[Finding],
) -> str:
    """Return the page; the arguments are those of `sarc_kb.reports.cohort_report.document`."""
    page = environment()
    page.filters["n"] = lambda number: f"{number:,}"
    page.globals |= {"shares": shares, "bar": bar, "most": most, "by_kind": by_kind}
    given = {visible(k): visible(_text(v)) for k, v in options.items() if v not in _NOTHING}
    return page.get_template("cohort.html.j2").render(
        found=all_visible(found),
        kb=kb,
        trials=trials,
        options=given,
        findings=[all_visible(f) for f in findings],
        program=__version__,
        style=style(*_STYLES),
        style_hash=style_hash(*_STYLES),
    )


_NOTHING: tuple[object, ...] = (None, "", [], (), False)


def _text(value: object) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def shares(counts: Iterable[tuple[str, int]], total: int) -> list[Share]:
    """Return the counts that are not 0 as parts of ``total``, those of verdicts the best first."""
    given = {name: count for name, count in counts if count}
    order = [name for name in _BEST_FIRST if name in given]
    order += [name for name in given if name not in order]
    return [Share(name, *_TONES[name], given[name], *_parts(given[name], total)) for name in order]


def bar(count: int, total: int) -> str:
    """Return the width of a bar."""
    return _parts(count, total)[1]


def _parts(count: int, total: int) -> tuple[str, str]:
    """Return a share in words and as a width. Whoever is there is never told as none, and never as
    all as long as somebody else is."""
    if not total:
        return "–", "0%"
    share = 100 * count / total
    words = f"{share:.0f} %"
    if count and share < 1:
        words = "under 1 %"
    elif count < total and share > 99:
        words = "over 99 %"
    return words, f"{share:.2f}%"


def by_kind(criteria: Iterable[CriterionCount]) -> list[tuple[str, list[CriterionCount]]]:
    """Return criteria that follow each other in groups of one kind."""
    return [(kind, list(group)) for kind, group in groupby(criteria, key=lambda c: c.kind)]


def most(trial: TrialCount, what: str) -> Sequence[CriterionCount]:
    """Return the criteria that most patients fail (``fails``) or are open for (``undetermined``),
    in order; none that nobody does."""
    told = [c for c in trial.criteria if getattr(c, what)]
    return sorted(told, key=lambda c: -int(getattr(c, what)))[:_WORST]
