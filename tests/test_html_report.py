"""The patient page: what it says, that it is valid and accessible, and that no text of a record can
run or load anything."""

from __future__ import annotations

import base64
import csv
import hashlib
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings

from sarc_kb.assessment import (
    AssessmentSet,
    ClauseResult,
    Evidence,
    Outcome,
    Period,
    Range,
    TimelineEvent,
    Verdict,
)
from sarc_kb.kb import KnowledgeBase
from sarc_kb.reports import plots
from sarc_kb.reports.html_report import render_html
from tests.browser import visit
from tests.html_checker import html_faults
from tests.test_reports import ALONE, ANNA, ANYTHING, COURSE, LOW, STORY, TREATED, harmless, often

if TYPE_CHECKING:
    from playwright.sync_api import Browser

ROOT = Path(__file__).resolve().parent.parent
EXAMPLES = ROOT / "examples"
# How each came out is in its expected.csv; these are the four kinds of page.
SHOWN = ("anaemic", "eligible", "missing-data", "course-skipped-level")


class Elements(HTMLParser):
    """Every element with its attributes, the text outside style, and the style."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []
        self.style = ""
        self._in_style = False
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        self._in_style = tag == "style"

    def handle_endtag(self, tag: str) -> None:
        self._in_style = False

    def handle_data(self, data: str) -> None:
        if self._in_style:
            self.style += data
        else:
            self.text.append(data)

    def words(self) -> str:
        return " ".join(" ".join(self.text).split())


def of(tag: str, page: Elements) -> list[dict[str, str | None]]:
    return [attributes for name, attributes in page.elements if name == tag]


# -- what it says ----------------------------------------------------------------------------------
def test_the_verdict_and_what_decides_it_come_first() -> None:
    words = Elements(render_html(ALONE)).words()
    beginning = words[: words.index("All criteria at a glance")]
    assert "Not eligible 2 of 3 criteria fail: I07 blood, I11 consent." in beginning
    assert "I07a haemoglobin haemoglobin is below the lower limit" in beginning
    assert "asked for haemoglobin ≥ 9 g/dL" in beginning
    assert (
        "haemoglobin: 8.60 g/dL — Observation/hb-2, 2024-02-21 (9 days before entry)" in beginning
    )
    assert "protocol Haemoglobin ≥ 9 g/dL Inclusion Criteria, item 7" in beginning
    assert "read by A-43 = window" in beginning
    assert "what to do check value and unit at source" in beginning
    assert "willing: no — Answer/1, 2024-02-29 (1 day before entry)" in beginning


def test_what_to_do_next_is_told_of_an_open_verdict() -> None:
    step = "an answer to “really?” (question) [I07b, E12]"
    open_ = replace(ANNA, verdict=Verdict.UNDETERMINED, to_decide=(step,))
    page = Elements(render_html(replace(ALONE, assessments=(open_,))))
    assert "1 thing would settle it." in page.words()
    assert "an answer to “really?” (question) settles I07b, E12" in page.words()


def test_every_criterion_stands_in_the_order_of_the_protocol() -> None:
    page = Elements(render_html(ALONE))
    marks = [a["aria-label"] for a in of("a", page) if a.get("aria-label")]
    assert marks == [
        "I07 blood: fail",
        "I11 consent: fail",
        "E12 transfusion before treatment: pass",
    ]
    targets = {f"#{d['id']}" for d in of("details", page) if "id" in d}
    assert {a["href"] for a in of("a", page)} <= targets | {"#p1-grounds"}


def test_a_course_is_told_with_what_breaks_it() -> None:
    page = Elements(render_html(TREATED))
    assert "Treatment: violation 1 violation (T07), 1 deviation (T04), 1 permitted" in page.words()
    assert "T07 first reduction the dose was reduced to something else" in page.words()
    # The table says what the drawing shows.
    assert "2024-03-29 – 2024-04-11 1 drug: 12 mg (14 times)" in page.words()


def test_several_patients_have_an_index() -> None:
    page = Elements(render_html(STORY))
    links = [a["href"] for a in of("a", page)]
    assert links[:3] == ["#p1", "#p2", "#p3"]
    assert [a["id"] for a in of("article", page)] == ["p1", "p2", "p3"]
    assert "Could not be judged" in page.words()
    assert "DATA001" in page.words()


def test_relaxed_limits_are_told_at_the_top() -> None:
    assert ANNA.provenance is not None
    changed = replace(ANNA.provenance, changed=("relax: I07a:atLeast=8.0 (was 9.0)",))
    relaxed = replace(ALONE, assessments=(replace(ANNA, provenance=changed),))
    words = Elements(render_html(relaxed)).words()
    assert words.index("Not by the protocol’s limits: I07a:atLeast=8.0") < words.index(
        "What decides"
    )


# -- drawings --------------------------------------------------------------------------------------
NINE_OR_MORE = Range("9", None, True, False, "g/dL")


def clause(allowed: Range | None, *values: Range) -> ClauseResult:
    evidence = tuple(Evidence("x", "y", "z", quantity=value) for value in values)
    return replace(LOW, allowed=allowed, evidence=evidence)


def test_a_strip_by_hand() -> None:
    # 8 and 9, a margin of 0.35 on both sides: from 7.65 to 9.35, 1.7 wide.
    drawn = plots.strip(clause(NINE_OR_MORE, Range("8", "8", True, True, "g/dL")))
    assert drawn == plots.Strip(
        room=plots.Bar("79.41%", "20.59%"),
        edges=(plots.Tick("79.41%", "≥ 9 g/dL", "middle"),),
        marks=(plots.Bar("20.59%", None),),
    )


def test_a_value_without_an_upper_end_reaches_the_margin() -> None:
    # Less than 4 of at most 6: from 3.3 to 6.7, 3.4 wide; the value begins at the left margin.
    drawn = plots.strip(clause(Range(None, "6", False, True), Range(None, "4", False, False)))
    assert drawn is not None
    assert drawn.marks == (plots.Bar("0.00%", "20.59%"),)
    assert drawn.edges == (plots.Tick("79.41%", "≤ 6", "middle"),)


def test_what_is_no_number_is_not_drawn() -> None:
    assert plots.strip(clause(None)) is None
    assert plots.strip(clause(Range("many", None, True, False))) is None
    drawn = plots.strip(clause(NINE_OR_MORE, Range("NaN", None, True, False)))
    assert drawn is not None
    assert drawn.marks == ()


def test_a_timeline_by_hand() -> None:
    # Ten days from 2 to 12 January, a day of margin on both sides: 12 days.
    first = TimelineEvent(
        "drug", "", "", 1, "12 mg, oral", 3, (), (), Period("2024-01-02", "2024-01-08")
    )
    late = TimelineEvent(
        "drug", "", "", 7, "8 mg", 1, (), ("T07", "T18"), Period("2024-01-11", "2024-01-11")
    )
    undated = TimelineEvent("surgery", "", "", None, "resection", 1, ())
    drawn = plots.timeline(replace(COURSE, as_of="2024-01-12", timeline=(first, late, undated)))
    assert drawn is not None
    assert drawn.lanes == ("drug",)
    assert [(s.bar, s.label, s.told) for s in drawn.shapes] == [
        (plots.Bar("8.33%", "50.00%"), "12 mg", None),
        (plots.Bar("83.33%", None), "", COURSE.rules[1].outcome),  # the worse of two
    ]
    assert drawn.as_of == "91.67%"
    assert [t.text for t in drawn.ticks] == ["2024-01-01", "2024-01-08"]  # the Mondays


# -- what it is made of ----------------------------------------------------------------------------
@settings(often, max_examples=30)
@given(ANYTHING)
@pytest.mark.threat("F3", "F4")
def test_no_text_becomes_markup(result: AssessmentSet) -> None:
    text = render_html(result)
    assert harmless(text)
    assert render_html(result) == text
    page = Elements(text)
    for tag, attributes in page.elements:
        assert tag not in ("script", "img", "iframe", "object", "embed", "link", "base", "form")
        assert not any(name.startswith("on") or name in ("style", "src") for name in attributes)
        assert (attributes.get("href") or "#").startswith("#")
    policy = next(m["content"] for m in of("meta", page) if "content" in m and "http-equiv" in m)
    digest = hashlib.sha256(page.style.encode("utf-8")).digest()
    assert policy == (
        f"default-src 'none'; style-src 'sha256-{base64.b64encode(digest).decode()}'; "
        "base-uri 'none'; form-action 'none'"
    )
    assert not re.search(r"url\(|@import|expression", page.style)
    ids = [a["id"] for _, a in page.elements if "id" in a]
    assert len(ids) == len(set(ids))


@pytest.mark.threat("F4")
def test_a_hostile_record_stays_text() -> None:
    hostile = "<script>alert(1)</script>\" onload='x' <img src=https://example.org/x.png>&amp;"
    told = replace(
        LOW,
        message=hostile,
        label=hostile,
        evidence=(Evidence(hostile, hostile, hostile, hostile),),
    )
    criterion = replace(ANNA.criteria[0], clauses=(told,), label=hostile, decided_by=(told.id,))
    bad = replace(ANNA, patient=hostile, criteria=(criterion,), to_decide=(hostile,))
    page = Elements(render_html(replace(ALONE, assessments=(bad,))))
    assert not {"script", "img"} & {tag for tag, _ in page.elements}
    assert hostile in "".join(page.text)


# -- in the world ----------------------------------------------------------------------------------
@pytest.fixture(scope="module")
def pages(kb: KnowledgeBase, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the page of each example that is shown, and one of several patients."""
    folder = tmp_path_factory.mktemp("pages")
    for name in SHOWN:
        result = kb.validate(EXAMPLES / name)
        (folder / f"{name}.html").write_text(render_html(result), encoding="utf-8")
    several = replace(STORY, assessments=(*STORY.assessments, *TREATED.assessments))
    (folder / "several.html").write_text(render_html(several), encoding="utf-8")
    return folder


@pytest.mark.java
def test_the_nu_html_checker_finds_no_fault(pages: Path) -> None:
    assert html_faults(pages) == []


@pytest.mark.browser
@pytest.mark.parametrize("name", [*SHOWN, "several"])
@pytest.mark.parametrize(("width", "dark"), [(1280, False), (1280, True), (390, False)])
def test_the_page_in_a_browser(
    chromium: Browser, pages: Path, name: str, width: int, dark: bool
) -> None:
    url = (pages / f"{name}.html").as_uri()
    with visit(chromium, url, width=width, dark=dark, scripts=True) as shown:
        assert shown.loaded == [url]
        assert shown.strayed == shown.complaints == shown.refused_by_policy() == []
        assert not shown.scrolls_sideways()
        assert shown.barriers() == []
        # The style sheet is let through by its hash.
        heading = shown.page.locator("h2").first
        assert heading.evaluate("e => getComputedStyle(e).fontWeight") == "700"
        verdict = shown.page.locator(".verdict").first
        assert name == "several" or verdict.bounding_box()["y"] < 200
        assert len(shown.page.screenshot()) > 10_000


@pytest.mark.browser
def test_the_page_is_clicked(chromium: Browser, pages: Path) -> None:
    with visit(chromium, (pages / "missing-data.html").as_uri()) as shown:
        page = shown.page
        page.get_by_role("link", name="things would settle it").click()
        assert page.evaluate("location.hash") == "#p1-next"
        page.get_by_role("link", name="I05 performance status: undetermined").click()
        criterion = page.locator(page.evaluate("location.hash"))
        answers = criterion.locator("dl").first
        assert not answers.is_visible()
        criterion.locator("summary").click()
        assert answers.is_visible()
        # Printed, what is open is told whole though it is folded on the screen.
        criterion.locator("summary").click()
        page.emulate_media(media="print")
        assert answers.is_visible()
        passed = page.locator("details.pass dl").first
        assert not passed.is_visible()
        assert page.pdf(format="A4").startswith(b"%PDF")


def test_outcomes_on_the_page_are_those_of_the_example(pages: Path) -> None:
    with (EXAMPLES / "anaemic" / "expected.csv").open(encoding="utf-8", newline="") as table:
        rows = list(csv.DictReader(table))
    outcomes = {row["id"]: row["outcome"] for row in rows if row["what"] == "criterion"}
    page = Elements((pages / "anaemic.html").read_text("utf-8"))
    marks = [a["aria-label"] or "" for a in of("a", page) if a.get("aria-label")]
    assert len(marks) == 30
    for mark in marks:
        name, outcome = mark.split(" ", 1)[0], mark.rpartition(": ")[2]
        assert outcome == outcomes[name]
        assert outcome in {o.word for o in Outcome}
