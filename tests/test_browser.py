"""The browser that other tests look at pages with sees what is wrong with a page."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.browser import visit

if TYPE_CHECKING:
    from playwright.sync_api import Browser

pytestmark = pytest.mark.browser

_HEAD = """<!doctype html><html lang="en"><head><meta charset="utf-8"><title>a page</title>
<meta name="viewport" content="width=device-width">"""


def page(folder: Path, head: str, body: str) -> str:
    path = folder / "page.html"
    path.write_text(f"{_HEAD}{head}</head><body><main><h1>A page</h1>{body}</main></body></html>")
    return path.as_uri()


def test_a_good_page_has_no_faults(chromium: Browser, tmp_path: Path) -> None:
    url = page(tmp_path, "", "<p>Words.</p>")
    with visit(chromium, url, width=390) as shown:
        assert shown.loaded == [url]
        assert shown.strayed == shown.complaints == shown.refused_by_policy() == []
        assert shown.barriers() == []
        assert not shown.scrolls_sideways()


def test_faults_are_seen(chromium: Browser, tmp_path: Path) -> None:
    (tmp_path / "script.js").write_text("missing();")
    head = """<meta http-equiv="Content-Security-Policy" content="script-src 'self'">
        <script src="script.js"></script><script>document.title = "taken";</script>"""
    body = '<img src="https://example.org/dot.png"><div style="width: 2000px">wide</div>'
    with visit(chromium, page(tmp_path, head, body), width=390) as shown:
        assert shown.strayed == ["https://example.org/dot.png"]
        assert shown.refused_by_policy() == ["script-src-elem: inline"]
        assert shown.page.title() == "a page"
        assert any("missing is not defined" in text for text in shown.complaints)
        assert [b.partition(":")[0] for b in shown.barriers()] == ["image-alt"]
        assert shown.scrolls_sideways()
