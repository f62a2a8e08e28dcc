"""A headless browser for tests of pages: the machine's Chromium, driven through Playwright.

Nothing reaches the network: a page may load only what it was told it may, everything else is
aborted and noted. A test uses the fixture `chromium` and is marked `browser`.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page, Route

PROGRAMS = ("chromium", "chromium-browser", "google-chrome")
"""What a Chromium is called on different systems; the first that is found is used."""

_SWITCHES = (
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
)
_NOTE_REFUSALS = """
window.refusedByPolicy = [];
document.addEventListener("securitypolicyviolation", (event) => {
  window.refusedByPolicy.push(`${event.violatedDirective}: ${event.blockedURI}`);
});
"""
_PHONE = 600


# One a module and not one a run: while Playwright is open, asyncio.run() fails everywhere else.
@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    """Return a running Chromium; without one, or without Playwright, the test is skipped."""
    api = pytest.importorskip(
        "playwright.sync_api", reason="the package playwright is not installed"
    )
    path = next(filter(None, map(shutil.which, PROGRAMS)), None)
    if path is None:
        pytest.skip(f"no Chromium: none of {', '.join(PROGRAMS)} is on the PATH")
    with api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=path, headless=True, chromium_sandbox=False, args=list(_SWITCHES)
        )
        yield browser
        browser.close()


@dataclass(slots=True)
class Visit:
    """A page in a context of its own, and what happened while it was looked at.

    ``loaded``: the URLs that it was allowed to load. ``strayed``: those that were aborted.
    ``complaints``: errors of its scripts and on its console.
    """

    page: Page
    loaded: list[str] = field(default_factory=list)
    strayed: list[str] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)

    def refused_by_policy(self) -> list[str]:
        """Return what the Content-Security-Policy of the page now shown has refused."""
        return list(self.page.evaluate("window.refusedByPolicy"))

    def scrolls_sideways(self) -> bool:
        """Whether the page is wider than the window that shows it."""
        return bool(
            self.page.evaluate(
                "document.scrollingElement.scrollWidth > document.scrollingElement.clientWidth"
            )
        )

    def barriers(self) -> list[str]:
        """Return what axe-core calls a serious or critical barrier on the page now shown: the rule,
        what it is about, and the first three places."""
        from axe_playwright_python.sync_playwright import Axe

        found = Axe().run(self.page).response["violations"]
        return [
            f"{v['id']}: {v['help']}: {[node['target'] for node in v['nodes'][:3]]}"
            for v in found
            if v["impact"] in ("serious", "critical")
        ]


@contextmanager
def visit(
    browser: Browser,
    url: str,
    *,
    allowed: str | None = None,
    width: int = 1280,
    height: int = 900,
    dark: bool = False,
    scripts: bool = True,
) -> Iterator[Visit]:
    """Open ``url`` in a window of that many CSS pixels; below 600 it is a phone's.

    ``allowed``: what URLs may begin with (default: the folder that ``url`` is in, and data URLs).
    ``scripts``: whether the page's own scripts run.
    """
    home = allowed or url.rpartition("/")[0] + "/"
    context = browser.new_context(
        viewport={"width": width, "height": height},
        color_scheme="dark" if dark else "light",
        java_script_enabled=scripts,
        has_touch=width < _PHONE,
        reduced_motion="reduce",
        locale="en-GB",
        timezone_id="UTC",
    )
    context.set_default_timeout(10_000)
    shown = Visit(context.new_page())

    def decide(route: Route) -> None:
        asked = route.request.url
        if asked.startswith((home, "data:")):
            shown.loaded.append(asked)
            route.continue_()
        else:
            shown.strayed.append(asked)
            route.abort()

    context.route("**/*", decide)
    shown.page.add_init_script(_NOTE_REFUSALS)
    shown.page.on(
        "console",
        lambda message: shown.complaints.append(message.text) if message.type == "error" else None,
    )
    shown.page.on("pageerror", lambda error: shown.complaints.append(str(error)))
    try:
        shown.page.goto(url)
        yield shown
    finally:
        context.close()
