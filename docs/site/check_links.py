"""Crawls a built site: every link inside it leads somewhere, and nothing is loaded from elsewhere.

As a program: ``python docs/site/check_links.py build/site``; exit status 1 if something is broken.
"""

from __future__ import annotations

import re
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

LOADS = {("script", "src"), ("img", "src"), ("iframe", "src"), ("source", "src"), ("link", "href")}
LEADS = {("a", "href"), ("form", "action")}
NOT_LOADED = {"canonical", "license", "next", "prev", "search", "index", "author", "copyright"}


class _Page(HTMLParser):
    """What a page links to and loads, and the places in it that a link can name."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.places: set[str] = set()
        self.links: list[str] = []
        self.loads: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        self.places |= {given[name] for name in ("id", "name") if name in given}
        loaded = tag != "link" or not NOT_LOADED & set(given.get("rel", "").split())
        for name, value in given.items():
            if (tag, name) in LOADS and loaded:
                self.loads.append(value)
            elif (tag, name) in LOADS | LEADS:
                self.links.append(value)
            elif name == "style":
                self.loads += _addresses(value)


def _addresses(css: str) -> list[str]:
    found = re.findall(r"""url\(\s*['"]?([^'")]+)""", css)
    return found + re.findall(r"""@import\s+['"]([^'"]+)""", css)


def broken(site: Path) -> list[str]:
    """Return what is wrong with the links of a site, a line each, in order."""
    pages = {path: _Page(path.read_text("utf-8")) for path in sorted(site.rglob("*.html"))}
    found = []
    for path, page in pages.items():
        for link in [*page.links, *page.loads]:
            parts = urlsplit(link)
            if parts.scheme in ("http", "https", "mailto") or parts.netloc:
                if link in page.loads:
                    found.append(f"{path.relative_to(site)}: loads {link}")
                continue
            if parts.scheme:
                continue  # data: holds what it shows
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path.resolve()
            if target.is_dir():
                target /= "index.html"
            if not target.is_file() or site.resolve() not in target.parents:
                found.append(f"{path.relative_to(site)}: {link} leads nowhere")
            elif parts.fragment and target.suffix == ".html":
                places = next(p for other, p in pages.items() if other.resolve() == target).places
                if unquote(parts.fragment) not in places and parts.fragment != "top":
                    found.append(f"{path.relative_to(site)}: {link} names no place there")
    for path in sorted(site.rglob("*.css")):
        for address in _addresses(path.read_text("utf-8")):
            if urlsplit(address).scheme in ("http", "https") or address.startswith("//"):
                found.append(f"{path.relative_to(site)}: loads {address}")
    return found


if __name__ == "__main__":
    site = Path(sys.argv[1])
    faults = broken(site)
    sys.stdout.writelines(f"{fault}\n" for fault in faults)
    pages = sum(1 for _ in site.rglob("*.html"))
    sys.stdout.write(f"{pages} pages, {len(faults)} broken links\n")
    sys.exit(bool(faults) or not pages)
