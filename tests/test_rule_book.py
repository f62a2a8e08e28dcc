"""The rule book: what stands on its pages is what the record, the rules and the tables say, and
every page works from a file, without the network."""

from __future__ import annotations

import csv
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urldefrag

import pytest
from justhtml import JustHTML
from rdflib import RDF, Graph, URIRef

from sarc_kb import cli
from sarc_kb.errors import UsageError
from sarc_kb.kb import KnowledgeBase, data_folder
from sarc_kb.namespaces import OA, SARC
from sarc_kb.rulebook.build import build_book
from sarc_kb.rulebook.site import MARK, write_site
from tests.browser import visit
from tests.tiny_trial import build_tiny

if TYPE_CHECKING:
    from playwright.sync_api import Browser

# Whoever makes the book makes it for all of these.
pytestmark = pytest.mark.xdist_group("rule book")

TRIAL = "NCT05602415"
FOLDER = data_folder() / "shapes" / "trials" / TRIAL.lower()
RULES = (
    "InclusionCriterion",
    "ExclusionCriterion",
    "TreatmentRule",
    "Clause",
    "Join",
    "DefinitionRule",
)


def audit_document(kb: KnowledgeBase) -> dict[str, object]:
    """A small audit, written by hand: one change of I07a that no case notices, one finding."""
    survivor = {
        "id": "I07a:atLeast",
        "kind": "threshold",
        "mutant": "I07a at least 9.1",
        "reason": "",
    }
    kind = {
        "kind": "threshold",
        "about": "limits",
        "mutants": 10,
        "equivalent": 2,
        "killed": 7,
        "survived": 1,
        "score": 0.875,
    }
    logic = {
        "kind": "implied",
        "severity": "info",
        "rules": ["I02", "E02"],
        "register": [],
        "text": "who passes I02 cannot fail E02",
        "supposing": "always",
        "details": [],
    }
    common = {"passed": True, "findings": []}
    mutation = {"name": "mutation", "summary": "7 of 8", "score": 0.875, "kinds": [kind]}
    return {
        "trial": TRIAL,
        "knowledge_base": {"version": kb.info.version, "sha256": kb.info.sha256},
        "passed": True,
        "parts": [
            {**common, **mutation, "survivors": [survivor]},
            {**common, "name": "logic", "summary": "one implied", "logic": [logic]},
        ],
    }


@pytest.fixture(scope="module")
def book(kb: KnowledgeBase, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The book of the real trial, with that audit."""
    folder = tmp_path_factory.mktemp("book")
    audit = folder / "audit.json"
    audit.write_text(json.dumps(audit_document(kb)), encoding="utf-8")
    write_site(folder / "site", build_book(kb, TRIAL, audit=audit))
    return folder / "site"


@pytest.fixture(scope="module")
def pages(book: Path) -> dict[str, JustHTML]:
    """Every page as an HTML parser of its own reads it, by its path."""
    return {
        path.relative_to(book).as_posix(): parsed(path.read_bytes())
        for path in sorted(book.rglob("*.html"))
    }


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    return build_tiny(tmp_path / "tiny")


def parsed(content: bytes) -> JustHTML:
    """Return a page with every fault that the parser found; nothing is left out of it."""
    return JustHTML(content, encoding="utf-8", collect_errors=True, sanitize=False)


def words(text: str) -> str:
    return " ".join(text.split())


def text_of(page: JustHTML, selector: str) -> list[str]:
    return [words(node.to_text(separator="", strip=False)) for node in page.query(selector)]


# -- what the pages say ----------------------------------------------------------------------------
def test_every_rule_has_a_page_with_its_words(pages: dict[str, JustHTML]) -> None:
    graph = Graph()
    for path in FOLDER.rglob("*.ttl"):
        if not path.name.endswith(".cases.ttl"):
            graph.parse(path)
    rules = {s for name in RULES for s in graph.subjects(RDF.type, SARC[name])}
    assert len(rules) > 150
    assert {p for p in pages if p.startswith("rules/")} == {
        f"rules/{graph.value(rule, SARC.notation)}.html" for rule in rules
    }
    for rule in rules:
        page = pages[f"rules/{graph.value(rule, SARC.notation)}.html"]
        quoted = {
            words(str(graph.value(selector, OA.exact)))
            for origin in graph.objects(rule, SARC.source)
            for selector in graph.objects(origin, OA.hasSelector)
            if (selector, OA.exact, None) in graph
        }
        assert quoted == set(text_of(page, ".says blockquote"))
        interpretation = graph.value(rule, SARC.interpretation)
        if interpretation is not None:
            assert words(str(interpretation)) in text_of(page, ".body .reading")


def test_the_protocol_is_shown_whole_and_in_order(pages: dict[str, JustHTML]) -> None:
    shown = "".join(
        node.to_text(separator="", strip=False) for node in pages["protocol.html"].query(".text")
    )
    record = (FOLDER / "source.txt").read_text(encoding="utf-8")
    assert "".join(shown.split()) == "".join(record.split())
    # Each of the words of one clause leads to that clause first, and to the whole after it.
    (haemoglobin,) = [
        node
        for node in pages["protocol.html"].query("a.q")
        if words(node.to_text(separator="", strip=False)) == "Haemoglobin ≥ 9 g/dL"
    ]
    assert haemoglobin.attrs["data-rules"] == "I07a I07"
    assert haemoglobin.attrs["href"] == "#rule-I07a"


def test_a_page_says_what_the_rule_asks_for(pages: dict[str, JustHTML]) -> None:
    page = pages["rules/I07a.html"]
    text = words(page.to_text(separator=" ", strip=False))
    assert "--relax I07a:atLeast=9.0" in text
    assert "from 14 days before study entry (anchor) to the day of study entry" in text
    needs = text_of(page, ".needs td")
    assert "Observation.valueQuantity.code (UCUM)" in needs
    assert "measurement.unit_concept_id" in needs
    assert "../concepts/Haemoglobin.html" in {a.attrs["href"] for a in page.query(".params a")}
    assert "../register.html#A-43" in {a.attrs["href"] for a in page.query(".doubts a")}
    # The sample: the first reportable value below 9 g/dL, as the case says.
    (sample,) = text_of(page, ".sample")
    assert sample.startswith("fail I07a haemoglobin is below the lower limit: haemoglobin 8.9 g/dL")
    assert "haemoglobin ≥ 9 g/dL between 2024-02-16 and 2024-03-01" in sample
    assert [a.attrs["href"] for a in page.query(".sample a")] == ["#case-I07a-one-step-below"]
    cases = (FOLDER / "inclusion" / "I07a-haemoglobin.cases.ttl").read_text(encoding="utf-8")
    assert len(page.query(".cases li")) == cases.count("a sarc:BoundaryCase")


@pytest.mark.parametrize(
    ("window", "reaches"),
    [
        ("up-to-entry", "any time up to the day of study entry (anchor)"),
        ("from-entry", "from the day of study entry (anchor) on; only the beginning is looked at"),
        (
            "off-days-of-two-weeks-on",
            "from the day of first dose of anlotinib in the study on; days 15 to 21 of every 21",
        ),
        (
            "end-of-three-months",
            "from 2 days before 3 months after first dose of anlotinib in the study to 3 months after first dose of anlotinib in the study",
        ),
        ("at-entry", "on the day of study entry (anchor)"),
    ],
)
def test_windows_are_told_in_words(pages: dict[str, JustHTML], window: str, reaches: str) -> None:
    (thing,) = [n for n in pages["named.html"].query(".thing") if n.attrs["id"] == window]
    assert words(thing.query("dd")[0].to_text(separator="", strip=False)) == reaches


def test_what_only_another_reading_uses_says_so(pages: dict[str, JustHTML]) -> None:
    # T04 asks for three or four weeks; two days of either are a reading of A-35.
    flags = {p: text_of(page, ".rule-head .flag") for p, page in pages.items() if "rules/" in p}
    assert {p for p, flag in flags.items() if flag} == {"rules/T04b.html", "rules/T04c.html"}
    assert flags["rules/T04b.html"] == ["in use only under A-35=two-days"]


def test_the_register_tells_every_override(pages: dict[str, JustHTML]) -> None:
    (entry,) = [n for n in pages["register.html"].query(".entry") if n.attrs["id"] == "A-43"]
    readings = [
        (words(li.query("code")[0].to_text(separator="", strip=False)), len(li.query("p.line")))
        for li in entry.query(".readings li")
    ]
    # The default overrides nothing; the two others set each of the policies that they name.
    assert readings == [("two-and-four-weeks", 0), ("four-weeks", 4), ("no-limit", 7)]
    text = words(pages["register.html"].to_text(separator="", strip=False))
    assert not re.search(r"\bn[0-9a-f]{30,}", text), "a node without a name is shown by its number"


def test_most_rules_show_a_finding(pages: dict[str, JustHTML]) -> None:
    outcomes = Counter(
        text_of(page, ".sample .outcome")[0]
        for path, page in pages.items()
        if path.startswith("rules/") and page.query(".sample")
    )
    assert set(outcomes) == {"fail", "violation", "deviation"}
    assert sum(outcomes.values()) > 130


def test_codes_stand_with_their_terms_and_say_whether_they_were_checked(
    pages: dict[str, JustHTML],
) -> None:
    expected: Counter[tuple[str, bool]] = Counter()
    for path in (data_folder() / "ontology" / "mappings").glob("*.sssom.tsv"):
        lines = [x for x in path.read_text("utf-8").splitlines() if not x.startswith("#")]
        for row in csv.DictReader(lines, delimiter="\t"):
            prefix, _, name = row["object_id"].partition(":")
            if prefix == "sarc" and f"concepts/{name}.html" in pages:
                expected[f"concepts/{name}.html", row["verified"] == "yes"] += 1
    shown: Counter[tuple[str, bool]] = Counter()
    for path, page in pages.items():
        if path.startswith("concepts/"):
            for word in text_of(page, ".mapped tbody td:nth-child(4)"):
                shown[path, word == "verified"] += 1
    assert shown == expected
    assert sum(expected.values()) > 3000


def test_a_term_leads_to_the_rules_that_read_it(pages: dict[str, JustHTML]) -> None:
    def rules(term: str) -> list[list[str]]:
        lists = pages[f"concepts/{term}.html"].query(".body > section:not(.kin) .rows")
        return [[a.to_text(separator="", strip=False) for a in one.query("a.id")] for one in lists]

    assert rules("Haemoglobin") == [["I07a"]]
    # Excluded by name in E03, and a sarcoma for whoever asks for something broader.
    named, through = rules("Rhabdomyosarcoma")
    assert "E03" in named
    assert "E10a" in through
    above = pages["concepts/Rhabdomyosarcoma.html"].query(".kin a")
    assert "../concepts/SoftTissueSarcoma.html" in {a.attrs["href"] for a in above}


def test_the_audit_is_shown_beside_the_rules(pages: dict[str, JustHTML]) -> None:
    text = words(pages["coverage.html"].to_text(separator=" ", strip=False))
    assert "87.5 % of changed rules noticed" in text
    assert "100.0 % of the words accounted for" in text
    assert "who passes I02 cannot fail E02" in text
    assert "Agreement, boundaries" not in text
    assert "Boundaries, agreement, register: they take" in text
    assert "I07a at least 9.1" in text_of(pages["rules/I07a.html"], ".told li")
    assert pages["rules/E02.html"].query(".told a[href='../rules/I02.html']")


# -- the pages as HTML -----------------------------------------------------------------------------
def test_pages_are_well_formed(pages: dict[str, JustHTML]) -> None:
    titles: Counter[str] = Counter()
    for path, page in pages.items():
        assert page.errors == [], path
        assert len(page.query("h1")) == 1, path
        assert page.query("html")[0].attrs["lang"] == "en"
        ids = Counter(node.attrs["id"] for node in page.query("[id]"))
        assert [i for i, n in ids.items() if n > 1] == [], path
        titles[words(page.query("title")[0].to_text(separator="", strip=False))] += 1
    assert len(pages) > 700
    # A term and something that is named like it may share a title; rules and parts never.
    assert [t for t, n in titles.items() if n > 2] == []


def test_every_link_leads_somewhere_in_the_book(book: Path, pages: dict[str, JustHTML]) -> None:
    places = {path: {n.attrs["id"] for n in page.query("[id]")} for path, page in pages.items()}
    seen = 0
    for path, page in pages.items():
        for node in [*page.query("[href]"), *page.query("[src]")]:
            link = node.attrs.get("href") or node.attrs["src"]
            if link == "data:,":
                continue  # no picture, so that browsers do not ask for one
            target, fragment = urldefrag(link)
            file = os.path.normpath(Path(path).parent / unquote(target)) if target else path
            assert ":" not in target, f"{path}: {link} leaves the book"
            assert (book / file).is_file(), f"{path}: {link}"
            if fragment:
                assert unquote(fragment) in places[file], f"{path}: {link}"
            seen += 1
    assert seen > 15_000


@pytest.mark.threat("A1", "F4")
def test_nothing_in_a_page_runs_or_is_fetched(book: Path, pages: dict[str, JustHTML]) -> None:
    for path, page in pages.items():
        (policy,) = page.query("meta[http-equiv='Content-Security-Policy']")
        assert policy.attrs["content"].startswith("default-src 'none';")
        assert "unsafe" not in policy.attrs["content"]
        for script in page.query("script"):
            assert script.to_text(separator="", strip=False) == ""
            assert script.attrs["src"].rpartition("/")[2] in ("book.js", "search-index.js")
        assert not page.query("style"), path
        assert not page.query("[style]"), path
        assert not [a for n in page.query("*") for a in n.attrs if a.startswith("on")], path
    style = (book / "book.css").read_text(encoding="utf-8")
    assert "url(" not in style
    assert "@import" not in style


def test_no_page_is_large(book: Path) -> None:
    sizes = {p.name: p.stat().st_size for p in book.rglob("*") if p.is_file()}
    assert {name for name, size in sizes.items() if size > 300_000} == set()


# -- the command -----------------------------------------------------------------------------------
def run(arguments: list[str], **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "sarc_kb.cli", *arguments],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )


def files_of(folder: Path) -> dict[str, str]:
    return {
        p.relative_to(folder).as_posix(): hashlib.sha256(p.read_bytes()).hexdigest()
        for p in sorted(folder.rglob("*"))
        if p.is_file()
    }


@pytest.mark.threat("F8")
def test_the_same_rules_give_the_same_bytes(tiny: Path, tmp_path: Path) -> None:
    made = []
    for seed, zone in (("1", "Asia/Tokyo"), ("2", "America/Lima")):
        site = tmp_path / f"site-{seed}"
        done = run(
            ["docs", "--rules", str(tiny), "--output", str(site)], PYTHONHASHSEED=seed, TZ=zone
        )
        assert done.returncode == 0, done.stderr
        assert done.stdout.startswith(f"{site}/index.html: ")
        made.append(files_of(site))
    assert made[0] == made[1]
    assert {"rules/I01.html", "rules/I02.html", "rules/E01.html", MARK} <= set(made[0])


@pytest.mark.slow
def test_the_real_trial_too(kb: KnowledgeBase, book: Path, tmp_path: Path) -> None:
    audit, site = tmp_path / "audit.json", tmp_path / "site"
    audit.write_text(json.dumps(audit_document(kb)), encoding="utf-8")
    arguments = ["docs", "--audit", str(audit), "--output", str(site)]
    done = run(arguments, PYTHONHASHSEED="7", TZ="Pacific/Auckland")
    assert done.returncode == 0, done.stderr
    assert files_of(site) == files_of(book)


@pytest.mark.threat("F4")
def test_texts_of_the_rules_are_never_markup(tiny: Path, tmp_path: Path) -> None:
    rules = tiny / "shapes" / "trials" / "tiny" / "rules.ttl"
    evil = "</p><script>document.title='taken'</script><img src=x onerror=alert(1)>\\u202E"
    text = rules.read_text(encoding="utf-8")
    for words_of_rule in ("The latest value, as it is printed.", "how low is low", "check it"):
        text = text.replace(words_of_rule, evil)
    rules.write_text(text, encoding="utf-8")
    site = tmp_path / "site"
    assert cli.main(["docs", "--rules", str(tiny), "--output", str(site)]) == 0
    page = (site / "rules" / "I01.html").read_text(encoding="utf-8")
    assert "&lt;/p&gt;&lt;script&gt;" in page
    assert "\\u202e" in page
    for path in site.rglob("*.html"):
        whole = parsed(path.read_bytes())
        assert whole.errors == []
        assert len(whole.query("script")) == 2
        assert not whole.query("img")
    assert "<" not in (site / "search-index.js").read_text("ascii")


@pytest.mark.parametrize("there", ["a file", "a folder with something else"])
def test_what_it_did_not_make_it_does_not_replace(
    tiny: Path, tmp_path: Path, there: str, capsys: pytest.CaptureFixture[str]
) -> None:
    site = tmp_path / "site"
    if there == "a file":
        site.write_text("mine")
    else:
        site.mkdir()
        (site / "mine.txt").write_text("mine")
    before = files_of(tmp_path)
    assert cli.main(["docs", "--rules", str(tiny), "--output", str(site)]) == 2
    assert "USE080" in capsys.readouterr().err
    assert files_of(tmp_path) == before


@pytest.mark.threat("G3")
def test_a_book_is_replaced_whole_or_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    site = tmp_path / "site"
    write_site(site, {"index.html": b"one", "rules/I01.html": b"one"})
    write_site(site, {"index.html": b"two"})
    assert sorted(files_of(site)) == [MARK, "index.html"]

    def full(self: Path, data: bytes) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(OSError, match="No space left"):
        write_site(site, {"index.html": b"three"})
    assert (site / "index.html").read_text() == "two"
    assert [p.name for p in tmp_path.iterdir()] == ["site"]


def test_an_audit_of_other_rules_is_refused(kb: KnowledgeBase, tmp_path: Path) -> None:
    path = tmp_path / "audit.json"
    document = audit_document(kb)
    for changed, found in (
        ({"knowledge_base": {"sha256": "0" * 64}}, "other rules"),
        ({"trial": "OTHER"}, "about OTHER"),
        ({"parts": 3}, "not the JSON document of an audit"),
    ):
        path.write_text(json.dumps({**document, **changed}), encoding="utf-8")
        with pytest.raises(UsageError, match=found):
            build_book(kb, TRIAL, audit=path)
    path.write_text("{", encoding="utf-8")
    with pytest.raises(UsageError, match="not JSON"):
        build_book(kb, TRIAL, audit=path)


def test_an_audit_with_another_shape_is_refused(tiny: Path, tmp_path: Path) -> None:
    own = KnowledgeBase.load(tiny)
    part = {
        "name": "mutation",
        "passed": True,
        "summary": "s",
        "findings": [],
        "kinds": [{}],
        "score": 1,
    }
    document = {"trial": "TINY", "knowledge_base": {"sha256": own.info.sha256}, "parts": [part]}
    path = tmp_path / "audit.json"
    path.write_text(json.dumps(document), encoding="utf-8")
    with pytest.raises(UsageError, match="not as `sarc-kb audit` writes it"):
        build_book(own, "TINY", audit=path)


def test_history_tells_days_and_subjects_and_nobody(tiny: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no history"):
        build_book(KnowledgeBase.load(tiny), "TINY", history=True)
    rules = tiny / "shapes" / "trials" / "tiny" / "rules.ttl"

    def git(*arguments: str, day: str = "2024-03-01") -> None:
        moment = f"{day}T23:30:00-0500"
        who = {"NAME": "An Author", "EMAIL": "author@example.org", "DATE": moment}
        names = {f"GIT_{role}_{k}": v for role in ("AUTHOR", "COMMITTER") for k, v in who.items()}
        subprocess.run(
            ["git", "-C", str(tiny), "-c", "commit.gpgsign=false", *arguments],
            env={**os.environ, **names, "HOME": str(tmp_path)},
            check=True,
            capture_output=True,
        )

    git("init", "--quiet")
    git("add", ".")
    git("commit", "--quiet", "--message", "Write <b>the</b> rules")
    rules.write_text(rules.read_text("utf-8") + "\n# a remark\n", encoding="utf-8")
    git("commit", "--quiet", "--all", "--message", "Say more\n\nA body.", day="2024-05-02")
    kb = KnowledgeBase.load(tiny)
    page = parsed(build_book(kb, "TINY", history=True)["rules/I01.html"])
    told = [
        tuple(text_of(page, f".history li:nth-child({n}) {part}")[0] for part in ("time", "span"))
        for n in (1, 2)
    ]
    assert told == [
        ("2024-05-02", "Say more"),
        ("2024-03-01", "Write <b>the</b> rules"),
    ]
    assert "uthor" not in page.to_text(separator="", strip=False)
    assert b'class="history"' not in build_book(kb, "TINY")["rules/I01.html"]


# -- in a browser ----------------------------------------------------------------------------------
PAGES = ("index.html", "protocol.html", "rules.html", "rules/I07a.html", "rules/I07.html")
PAGES += ("register.html", "named.html", "vocabulary.html", "concepts/Sarcoma.html")
PAGES += ("coverage.html", "properties.html")


@pytest.mark.browser
@pytest.mark.parametrize("path", PAGES)
def test_page_in_light_dark_and_on_a_phone(chromium: Browser, book: Path, path: str) -> None:
    url = (book / path).as_uri()
    grounds = set()
    for width, dark in ((1280, False), (1280, True), (390, False)):
        with visit(chromium, url, allowed=book.as_uri() + "/", width=width, dark=dark) as shown:
            assert shown.strayed == []
            assert shown.complaints == []
            assert shown.refused_by_policy() == []
            assert not shown.scrolls_sideways(), width
            # Looking for barriers takes long; a phone has the same page and the same colours.
            assert width < 600 or shown.barriers() == [], dark
            grounds.add(shown.page.evaluate("getComputedStyle(document.body).backgroundColor"))
            assert shown.page.locator("#_search").is_visible()
    assert len(grounds) == 2, "light and dark look alike"


@pytest.fixture
def open_book(chromium: Browser, book: Path) -> Iterator[object]:
    with visit(chromium, (book / "index.html").as_uri()) as shown:
        yield shown.page
        assert shown.strayed == shown.complaints == shown.refused_by_policy() == []


@pytest.mark.browser
def test_search_by_keyboard(open_book) -> None:  # type: ignore[no-untyped-def]
    page = open_book
    page.keyboard.press("/")
    assert page.evaluate("document.activeElement.id") == "_search"
    page.keyboard.type("haemogl")
    options = page.locator("#_found [role=option]")
    options.first.wait_for()
    assert page.locator("#_search").get_attribute("aria-expanded") == "true"
    assert options.first.get_attribute("aria-selected") == "true"
    assert "I07a" in options.first.inner_text()
    page.keyboard.press("ArrowDown")
    assert page.locator("#_search").get_attribute("aria-activedescendant") == "_found-1"
    page.keyboard.press("ArrowUp")
    page.keyboard.press("Enter")
    page.wait_for_url("**/rules/I07a.html")
    # From a page below, a code leads to its term; what is not there is said to be not there.
    page.keyboard.press("/")
    page.keyboard.type("718-7")
    page.locator("#_found [role=option]").first.wait_for()
    assert page.locator("#_found [role=option]").first.inner_text().startswith("haemoglobin")
    page.keyboard.press("Escape")
    assert page.locator("#_found").is_hidden()
    page.locator("#_search").fill("zzzz")
    assert page.locator("#_found").inner_text().startswith("Nothing found")
    page.locator("#_search").fill("<img src=x onerror=alert(1)>")
    assert page.locator("#_found img").count() == 0


@pytest.mark.browser
def test_from_the_words_to_the_rule_and_back(open_book) -> None:  # type: ignore[no-untyped-def]
    page = open_book
    page.get_by_role("link", name="The protocol").click()
    words_of_rule = page.locator("a.q", has_text="Haemoglobin ≥ 9 g/dL")
    words_of_rule.click()
    assert page.url.endswith("protocol.html#rule-I07a")
    marked = page.locator(".q.on")
    assert [words(t) for t in marked.all_inner_texts()] == ["Haemoglobin ≥ 9 g/dL"]
    assert page.locator(".note.on").get_attribute("data-rule") == "I07a"
    page.keyboard.press("Enter")  # the rule beside the words has the focus
    page.wait_for_url("**/rules/I07a.html")
    page.get_by_role("link", name="in the protocol").click()
    page.wait_for_url("**/protocol.html#at-I07a")
    assert [words(t) for t in page.locator(".q.on").all_inner_texts()] == ["Haemoglobin ≥ 9 g/dL"]
    box = page.locator(".q.on").bounding_box()
    assert 0 < box["y"] < 900, "the words are not in sight"
    # A whole criterion is all of its words.
    page.locator("#rule-I07").hover()
    shown = " ".join(words(t) for t in page.locator(".q.on").all_inner_texts())
    assert shown.startswith("Adequate hematological")
    assert shown.endswith("TP, INR ≤ 1.5 x ULN")


@pytest.mark.browser
def test_without_scripts_it_reads_the_same(chromium: Browser, book: Path) -> None:
    url = (book / "protocol.html").as_uri()
    with visit(chromium, url, scripts=False) as shown:
        page = shown.page
        assert page.locator(".search").is_hidden()
        page.locator("a.q", has_text="Haemoglobin ≥ 9 g/dL").click()
        plain = page.locator("#rule-I07b").evaluate("n => getComputedStyle(n).backgroundColor")
        target = page.locator("#rule-I07a").evaluate("n => getComputedStyle(n).backgroundColor")
        assert plain != target
        page.locator("#rule-I07a .name").click()
        assert page.url.endswith("/rules/I07a.html")


@pytest.mark.browser
def test_on_paper(chromium: Browser, book: Path) -> None:
    with visit(chromium, (book / "protocol.html").as_uri(), dark=True) as shown:
        page = shown.page
        page.emulate_media(media="print", color_scheme="dark")
        assert page.locator("header.top").is_hidden()
        ink, paper = page.evaluate(
            "[getComputedStyle(document.body).color, getComputedStyle(document.body).backgroundColor]"
        )
        assert (ink, paper) == ("rgb(0, 0, 0)", "rgb(255, 255, 255)")
        # What is folded on the screen is printed.
        assert page.get_by_text("Single Group Assignment").is_visible()
        pdf = page.pdf(format="A4")
        assert len(re.findall(rb"/Type\s*/Page\b", pdf)) > 10


def test_the_site_can_be_moved(book: Path, tmp_path: Path) -> None:
    moved = tmp_path / "elsewhere"
    shutil.copytree(book, moved)
    texts = [p.read_text(encoding="utf-8") for p in moved.rglob("*.html")]
    assert not [t for t in texts if str(book) in t or "file:" in t]
    assert URIRef("https://w3id.org/sarc-kb/trial/NCT05602415/I07a") in {
        URIRef(u) for t in texts for u in re.findall(r"https://w3id[^<\s\"]+/I07a\b", t)
    }
