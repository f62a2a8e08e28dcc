"""What an assessment shows of itself in a notebook: short, safe, and about itself alone."""

from __future__ import annotations

import re
from dataclasses import replace

import html5lib
import pytest
from hypothesis import given

from sarc_kb.assessment import Assessment, AssessmentSet, Outcome, Verdict
from sarc_kb.errors import Finding
from tests.test_reports import ALONE, ANNA, ANYTHING, BOB, HOSTILE, STORY, TREATED, often

SHOWN = {
    "div",
    "style",
    "p",
    "strong",
    "br",
    "table",
    "thead",
    "tbody",
    "tr",
    "th",
    "td",
    "ul",
    "li",
}


def fragment(text: str) -> tuple[set[str], set[str], str]:
    """Return the elements and the attributes of a fragment, and what a reader sees of it; one that
    is not well-formed is an error."""
    parser = html5lib.HTMLParser(strict=True, namespaceHTMLElements=False)
    (root,) = list(parser.parseFragment(text))
    elements = list(root.iter())
    seen = "".join(root.itertext())
    return {str(e.tag) for e in elements}, {a for e in elements for a in e.attrib}, seen


@pytest.mark.parametrize(
    "told", [ANNA, BOB, ALONE, STORY, TREATED, replace(STORY, assessments=())], ids=range(6)
)
def test_it_is_plain_html_with_nothing_to_load(told: Assessment | AssessmentSet) -> None:
    shown = told._repr_html_()
    elements, attributes, _ = fragment(shown)
    assert elements <= SHOWN
    assert attributes <= {"class", "scope"}
    style = re.search(r"<style>(.*?)</style>", shown, re.DOTALL)[1]
    assert "url(" not in style
    assert "@import" not in style
    selectors = [s.strip() for s in re.findall(r"([^{}]+)\{", style)]
    assert selectors
    assert all(one.strip().startswith(".sarc-kb-told") for s in selectors for one in s.split(","))


def test_one_patient_shows_what_decides() -> None:
    _, _, seen = fragment(ANNA._repr_html_())
    assert "✗ ineligible" in seen
    assert "haemoglobin: 8.60 g/dL (Observation/hb-2, 2024-02-21 (9 days before entry))" in seen
    assert ANNA.criteria[-1].outcome is Outcome.PASS
    assert ANNA.criteria[-1].label not in seen


def test_several_patients_are_a_row_each_and_few() -> None:
    many = replace(ALONE, assessments=tuple(replace(ANNA, patient=f"p{n}") for n in range(120)))
    shown = many._repr_html_()
    _, _, seen = fragment(shown)
    assert shown.count("<tr>") == 51
    assert "120 patients" in seen
    assert "120 ineligible" in seen
    assert "and 70 more" in seen
    assert len(shown) < 20_000


def test_who_could_not_be_judged_and_what_could_not_be_read_are_told() -> None:
    lost = Finding("DATA002", "error", "a.ttl", "cannot be opened", "nothing was judged", "look")
    told = replace(STORY, run_findings=(lost, replace(lost, severity="info", code="DATA311")))
    _, _, seen = fragment(told._repr_html_())
    assert "DATA002 a.ttl: cannot be opened; look" in seen
    assert "DATA311" not in seen
    assert BOB.error is not None
    assert BOB.error.code in seen
    assert "No patient was found." in replace(STORY, assessments=())._repr_html_()


@pytest.mark.parametrize("text", HOSTILE)
def test_texts_of_a_record_are_texts(text: str) -> None:
    hostile = replace(
        ANNA, patient=text, entry_date=text, to_decide=(text,), verdict=Verdict.UNDETERMINED
    )
    for told in (hostile, replace(ALONE, assessments=(hostile, replace(BOB, patient=text)))):
        elements, attributes, _ = fragment(told._repr_html_())
        assert elements <= SHOWN
        assert attributes <= {"class", "scope"}


@often
@given(ANYTHING)
def test_whatever_an_assessment_holds(result: AssessmentSet) -> None:
    elements, attributes, _ = fragment(result._repr_html_())
    assert elements <= SHOWN
    assert attributes <= {"class", "scope"}
