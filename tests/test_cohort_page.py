"""The cohort page: its numbers, that it is valid and accessible, and that no text can run anything."""

from __future__ import annotations

import base64
import hashlib
import re
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

pytest.importorskip("duckdb", reason="the extra cohort is not installed")

from sarc_kb import cli
from sarc_kb.assessment import KnowledgeBaseInfo
from sarc_kb.cohort.screen import Screening
from sarc_kb.cohort.summary import CriterionCount, RuleCount, TrialCount, Worth
from sarc_kb.cohort.waiting import WaitCount
from sarc_kb.errors import Finding
from sarc_kb.kb import KnowledgeBase
from sarc_kb.reports.cohort_page import render_page, shares
from sarc_kb.rules import Trial
from tests.browser import visit
from tests.html_checker import html_faults
from tests.test_html_report import Elements, of

if TYPE_CHECKING:
    from playwright.sync_api import Browser

KB = KnowledgeBaseInfo("0.9.0", "ab" * 32)


def criterion(name: str, fails: int, undetermined: int, left: int, passed: int) -> CriterionCount:
    return CriterionCount(
        id=name,
        label=f"about {name}",
        kind="inclusion" if name.startswith("I") else "exclusion",
        passes=2000 - fails - undetermined,
        fails=fails,
        undetermined=undetermined,
        sole=fails // 2,
        sole_certain=0,
        excluded_here=fails,
        remaining=left,
        passed_so_far=passed,
    )


# 2,001 patients, of whom one could not be judged.
COUNT = TrialCount(
    trial="TINY",
    verdicts=(("eligible", 9), ("undetermined", 391), ("ineligible", 1600), ("error", 1)),
    eligible_at_least=9,
    eligible_at_most=400,
    criteria=(
        criterion("I01", 600, 0, 1400, 1400),
        criterion("I02", 0, 300, 1400, 1100),
        criterion("E01", 1000, 91, 400, 9),
    ),
    treated=3,
    conclusions=(("violation", 1), ("conformant", 2)),
    rules=(RuleCount("T01", "dose", "obligation", (("violation", 1), ("conformant", 2))),),
)
FOUND = Screening(
    patients=2001,
    not_judged=1,
    trials=(COUNT,),
    changes=(Worth("I01 up", 12, 3, 388, (("ineligible", "eligible", 3),), ()),),
    waiting=(WaitCount("TINY", 730, 9, 4, 5, 6, 7),),
    engine="duckdb",
    engine_version="1.0",
)


@pytest.fixture(scope="module")
def trial() -> Trial:
    return KnowledgeBase.load().compile()


def page_of(trial: Trial, found: Screening = FOUND, findings: tuple[Finding, ...] = ()) -> str:
    return render_page(found, KB, {"TINY": trial}, {"as_of": None, "horizon": 730}, findings)


# -- what it says ----------------------------------------------------------------------------------
def test_the_numbers_of_the_run_are_told(trial: Trial) -> None:
    words = Elements(page_of(trial)).words()
    assert (
        "At least 9 and at most 400 of 2,001 patients are eligible: 391 cannot be told yet" in words
    )
    assert "9 ✓ eligible under 1 % 391 ? undetermined 20 % 1,600 ✗ ineligible 80 %" in words
    assert "1 ! could not be judged under 1 %" in words
    assert "patients, of 2,000 judged" in words
    assert "✗ 1 violation ✓ 2 conformant" in words
    assert "I01 up 12 +3 3 ineligible → eligible" in words
    for told in ("9 eligible now", "4 become eligible", "5 more would", "6 present", "7 could not"):
        assert told in words
    assert "--horizon 730" in words
    assert "--as-of" not in words


def test_what_keeps_most_out_comes_first(trial: Trial) -> None:
    words = Elements(page_of(trial)).words()
    out, open_ = words.index("What keeps patients out"), words.index("What is not known")
    order = words.index("In the protocol's order")
    assert re.findall(r"\b([IE]\d\d) about", words[out:open_]) == ["E01", "I01"]
    assert re.findall(r"\b([IE]\d\d) about", words[open_:order]) == ["I02", "E01"]
    rows = re.findall(
        r"\b([IE]\d\d) about \1 ([\d,·]+) ([\d,·]+) ([\d,·]+) ([\d,·]+) ([\d,·]+)", words[order:]
    )
    assert rows == [
        ("I01", "1,400", "1,400", "600", "600", "·"),
        ("I02", "1,400", "1,100", "·", "·", "300"),
        ("E01", "400", "9", "1,000", "1,000", "91"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("count", "total", "words"),
    [(0, 0, None), (1, 2000, "under 1 %"), (1999, 2000, "over 99 %"), (2000, 2000, "100 %"), (1, 8, "12 %")],
)  # fmt: skip
def test_nobody_is_rounded_away(count: int, total: int, words: str | None) -> None:
    found = shares([("eligible", count)], total)
    assert [share.percent for share in found] == ([] if words is None else [words])


def test_a_run_with_nothing_to_tell_says_so(trial: Trial) -> None:
    nothing = tuple(replace(c, fails=0, undetermined=0) for c in COUNT.criteria)
    count = replace(COUNT, criteria=nothing, treated=0, conclusions=(), rules=())
    found = replace(FOUND, trials=(count,), changes=(), waiting=())
    words = Elements(page_of(trial, found)).words()
    assert "Nobody fails a criterion." in words
    assert "Every criterion is decided for everybody." in words
    assert re.search("Treatment|What if|Over time", words) is None


@pytest.mark.threat("F4")
def test_no_text_becomes_markup(trial: Trial) -> None:
    hostile = "<script>alert(1)</script>\"'>\x1b[31m"
    told = Finding("DATA001", "warning", hostile, hostile, hostile, hostile)
    criteria = tuple(replace(c, label=hostile) for c in COUNT.criteria)
    found = replace(FOUND, trials=(replace(COUNT, criteria=criteria),))
    page = page_of(trial, found, (told,))
    assert "\x1b" not in page
    elements = Elements(page)
    assert of("script", elements) == []
    assert "<script>alert(1)</script>" in elements.words()


@pytest.mark.threat("F4")
def test_the_policy_lets_the_style_through_and_nothing_else(trial: Trial) -> None:
    elements = Elements(page_of(trial))
    (policy,) = [m["content"] for m in of("meta", elements) if m.get("http-equiv")]
    digest = base64.b64encode(hashlib.sha256(elements.style.encode()).digest()).decode()
    assert policy == (
        f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
    )
    assert not [a for _, a in elements.elements if {"src", "href", "style"} & set(a)]


# -- as others see it ------------------------------------------------------------------------------
@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of a real run."""
    folder = tmp_path_factory.mktemp("run") / "out"
    examples = [f"examples/{name}" for name in ("eligible", "anaemic", "pregnant", "course-ladder")]
    given = [
        "screen",
        *examples,
        "--output",
        str(folder),
        "--relax",
        "I07a:atLeast=8.0",
        "--earliest",
    ]
    assert cli.main([*given, "--workers", "1", "--no-clauses"]) == 0
    return folder / "summary.html"


@pytest.mark.java
def test_the_nu_html_checker_finds_no_fault(page: Path) -> None:
    assert html_faults(page.parent) == []


@pytest.mark.browser
@pytest.mark.parametrize(("width", "dark"), [(1280, False), (1280, True), (390, False)])
def test_the_page_in_a_browser(chromium: Browser, page: Path, width: int, dark: bool) -> None:
    url = page.as_uri()
    with visit(chromium, url, width=width, dark=dark) as shown:
        assert shown.loaded == [url]
        assert shown.strayed == shown.complaints == shown.refused_by_policy() == []
        assert not shown.scrolls_sideways()
        assert shown.barriers() == []
        tiles = shown.page.locator(".tiles li")
        assert tiles.first.evaluate("e => getComputedStyle(e).borderLeftStyle") == "solid"
        bars = shown.page.locator("table svg.bars .left")
        assert bars.first.bounding_box()["width"] > bars.last.bounding_box()["width"] > 0
        assert shown.page.pdf(format="A4").startswith(b"%PDF")
