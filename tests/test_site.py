"""The documentation site: it is built without a warning, its links lead somewhere, it loads nothing
from elsewhere, and it can be read wide and narrow."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.browser import visit

if TYPE_CHECKING:
    from playwright.sync_api import Browser

ROOT = Path(__file__).resolve().parent.parent
CHECK = ROOT / "docs" / "site" / "check_links.py"


def check(site: Path) -> tuple[int, list[str]]:
    done = subprocess.run(
        [sys.executable, str(CHECK), str(site)], capture_output=True, text=True, check=False
    )
    assert not done.stderr
    return done.returncode, done.stdout.splitlines()


def test_a_broken_link_is_found(tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "index.html").write_text("<p id='there'>")
    (tmp_path / "s.css").write_text(
        "@import 'https://fonts.example.org/f'; a {background: url(x.png)}"
    )
    good = "<a href='b/#there'>1</a><a href='#'>2</a><a href='https://example.org/'>3</a>"
    bad = (
        "<a href='b/#gone'>1</a><a href='c.html'>2</a><a href='../up.html'>3</a>"
        "<script src='https://example.org/x.js'></script><p style='background: url(//e.org/y)'>"
    )
    (tmp_path / "a.html").write_text(good + bad)
    assert check(tmp_path) == (
        1,
        [
            "a.html: b/#gone names no place there",
            "a.html: c.html leads nowhere",
            "a.html: ../up.html leads nowhere",
            "a.html: loads https://example.org/x.js",
            "a.html: loads //e.org/y",
            "s.css: loads https://fonts.example.org/f",
            "2 pages, 6 broken links",
        ],
    )
    (tmp_path / "a.html").write_text(good)
    (tmp_path / "s.css").unlink()
    assert check(tmp_path) == (0, ["2 pages, 0 broken links"])
    (tmp_path / "none").mkdir()
    assert check(tmp_path / "none")[0] == 1


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site without the rule book, which has tests of its own."""
    pytest.importorskip("furo", reason="the packages for the site are not installed")
    out = tmp_path_factory.mktemp("site")
    trees = tmp_path_factory.mktemp("trees")
    command = ["-b", "html", "-c", "docs/site", "-q", "-W", "-n", "--keep-going", "-d", str(trees)]
    done = subprocess.run(
        [sys.executable, "-m", "sphinx", *command, ".", str(out)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    (out / "rule-book").mkdir()
    (out / "rule-book" / "index.html").write_text("<p>the rule book")
    return out


@pytest.mark.slow
@pytest.mark.browser
@pytest.mark.xdist_group("site")
def test_the_site(site: Path, chromium: Browser) -> None:
    assert check(site)[0] == 0
    pages = {p.relative_to(site).as_posix() for p in site.rglob("*.html")}
    written = set((ROOT / "docs").rglob("*.md"))
    assert {p.relative_to(ROOT).with_suffix(".html").as_posix() for p in written} <= pages
    assert (site / "index.html").read_bytes() == (site / "README.html").read_bytes()
    reference = (site / "docs" / "api.html").read_text("utf-8")
    assert 'id="sarc_kb.KnowledgeBase.screen"' in reference
    assert 'id="sarc_kb.ClauseResult"' in reference
    for page in ("index.html", "docs/api.html", "docs/use/ci.html", "docs/cohort.html"):
        for width in (1400, 390):
            with visit(
                chromium, f"file://{site}/{page}", allowed=f"file://{site}/", width=width
            ) as shown:
                assert shown.strayed == []
                assert shown.complaints == []
                assert not shown.scrolls_sideways()
                assert shown.barriers() == []
