"""Assessments as a piece of HTML for notebooks: short, and at home on a page of others.

It has no script, no ids and no addresses; its style sheet is about what is inside it alone, and
without it the same is told by words. Colours are those of the page around it, light or dark.

Source: IPython's rich display (``_repr_html_``); HTML living standard.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import TYPE_CHECKING

from sarc_kb.assessment import Assessment, Outcome
from sarc_kb.errors import Finding
from sarc_kb.reports import pages, telling
from sarc_kb.reports.escaping import all_visible

if TYPE_CHECKING:
    from jinja2 import Environment

_STYLE = "notebook.css"
_MOST = 50
"""Patients that are shown; the rest is counted."""


def render_fragment(assessments: Sequence[Assessment], findings: Sequence[Finding] = ()) -> str:
    """Return the piece: of one patient what decides, of several a row each.

    ``findings``: those of the run; what is no error or warning is not told.
    """
    told = all_visible(tuple(assessments))
    template = _environment().get_template("notebook.html.j2")
    return template.render(
        assessments=told,
        shown=told[:_MOST],
        findings=[f for f in all_visible(tuple(findings)) if f.severity != "info"],
        style=pages.style(_STYLE),
    )


@cache
def _environment() -> Environment:
    environment = pages.environment()
    environment.filters |= {
        "tone": lambda outcome: pages.TONES[outcome][0],
        "sign": lambda outcome: pages.TONES[outcome][1],
        "word": lambda outcome: outcome.word if isinstance(outcome, Outcome) else outcome.value,
        "ids": lambda parts: ", ".join(part.id for part in parts),
    }
    environment.globals |= {
        "fail": Outcome.FAIL,
        "undetermined": Outcome.UNDETERMINED,
        "attention": telling.ATTENTION,
        "explained": telling.explained,
        "evidence_in": telling.evidence_in,
        "found_text": telling.found_text,
        "message_of": telling.message_of,
        "verdict_sentence": telling.verdict_sentence,
        "where_text": telling.where_text,
    }
    return environment
