"""The page for people, as they see it: a record is dropped on it, and the patient's page is read."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import html5lib
import pytest

from tests.browser import visit
from tests.service import Service

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

EXAMPLES = Path(__file__).resolve().parent.parent / "examples"
ANAEMIC = EXAMPLES / "anaemic" / "patient.ttl"

pytestmark = [pytest.mark.browser, pytest.mark.xdist_group("service")]


def drop(page: Page, file: Path) -> None:
    """Drop a file on the field, as the browser gets it from the system."""
    box = page.locator("#record").bounding_box()
    assert box is not None
    at = {"x": box["x"] + box["width"] / 2, "y": box["y"] + box["height"] / 2}
    session = page.context.new_cdp_session(page)
    dragged = {"items": [], "files": [str(file)], "dragOperationsMask": 1}
    for kind in ("dragEnter", "dragOver", "drop"):
        session.send("Input.dispatchDragEvent", {"type": kind, **at, "data": dragged})


def test_the_page_is_valid_html(service: Service) -> None:
    pages = [service.ask("GET", "/").text]
    pages.append(service.ask("POST", "/page", b"", content_type="multipart/form-data").text)
    assert "Not judged" in pages[1]
    for page in pages:
        html5lib.HTMLParser(strict=True).parse(page)
        assert "<script" not in page


@pytest.mark.parametrize("width", [1280, 360])
def test_a_record_is_dropped_and_the_report_is_read(
    chromium: Browser, service: Service, width: int
) -> None:
    """With no script at all, by a policy that allows none."""
    with visit(chromium, f"{service.url}/", width=width, scripts=False) as seen:
        drop(seen.page, ANAEMIC)
        assert seen.page.locator("#record").input_value().endswith("patient.ttl")
        seen.page.get_by_role("button", name="Judge").click()
        seen.page.wait_for_selector(".verdict")
        heading = seen.page.get_by_role("heading", level=1)
        assert "sarc-example-02" in heading.inner_text()
        assert "patient.ttl" in seen.page.content()
        assert seen.page.get_by_text("haemoglobin is below the lower limit").first.is_visible()
        assert seen.page.locator(".verdict").first.is_visible()
    assert (seen.strayed, seen.complaints) == ([], [])


@pytest.mark.parametrize("dark", [False, True])
def test_the_page_stops_nobody(chromium: Browser, service: Service, dark: bool) -> None:
    """By keyboard alone, from the file to the report; what is wrong is told where it is heard."""
    with visit(chromium, f"{service.url}/", width=360, dark=dark) as seen:
        assert seen.barriers() == []
        assert not seen.scrolls_sideways()
        names = []
        for _ in range(8):
            seen.page.keyboard.press("Tab")
            names.append(
                seen.page.evaluate("document.activeElement.id || document.activeElement.type")
            )
        assert [n for n in dict.fromkeys(names) if n in ("record", "entry", "submit")] == [
            "record",
            "entry",
            "submit",
        ]
        seen.page.set_input_files("#record", EXAMPLES / "README.md")
        seen.page.focus("button")
        seen.page.keyboard.press("Enter")
        told = seen.page.get_by_role("alert")
        assert "a file of a kind that is not read" in told.inner_text()
        assert seen.barriers() == []
        assert not seen.scrolls_sideways()
        seen.page.set_input_files("#record", ANAEMIC)
        seen.page.focus("button")
        seen.page.keyboard.press("Enter")
        seen.page.wait_for_selector(".verdict")
        assert "sarc-example-02" in seen.page.get_by_role("heading", level=1).inner_text()
    # The browser's own console tells of the status of the refused form.
    assert seen.strayed == []
    assert all(re.search(r"status of 415", c) for c in seen.complaints), seen.complaints
