"""Put the book together: what stands on which page, and what leads to what."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import Any

from jinja2 import Environment, UndefinedError
from markupsafe import Markup

from sarc_kb.cases import Case, load_cases
from sarc_kb.kb import KnowledgeBase
from sarc_kb.namespaces import compact
from sarc_kb.rulebook.addresses import Addresses, safe_name
from sarc_kb.rulebook.audited import Part, read_audit, source_part, wrong_shape
from sarc_kb.rulebook.cases import CaseText, Sample, Samples, case_text
from sarc_kb.rulebook.history import Change, history_of
from sarc_kb.rulebook.named import GROUPS, NamedThing, named_things
from sarc_kb.rulebook.protocol import Block, Protocol, read_protocol
from sarc_kb.rulebook.register import Entry, read_register
from sarc_kb.rulebook.rules import Rule, read_rules, words_of
from sarc_kb.rulebook.site import shown, static_files, templates
from sarc_kb.rulebook.vocabulary import Mapped, Term, Vocabulary, read_vocabulary
from sarc_kb.rules import Trial

PAGES = (
    ("protocol.html", "Protocol"),
    ("rules.html", "Rules"),
    ("register.html", "Register"),
    ("named.html", "Named things"),
    ("vocabulary.html", "Vocabulary"),
    ("coverage.html", "Coverage"),
)
"""The pages that the head of every page leads to."""

Files = dict[str, bytes]


@dataclass(slots=True)
class Book:
    """All that the pages show."""

    kb: KnowledgeBase
    trial: Trial
    rules: Mapping[str, Rule]
    cases: Mapping[str, Sequence[Case]]
    protocol: Protocol | None
    register: tuple[Entry, ...]
    named: tuple[NamedThing, ...]
    vocabulary: Vocabulary
    audit: Mapping[str, Part]
    history: Mapping[str, tuple[Change, ...]] | None
    address: Addresses = field(default_factory=Addresses)

    @property
    def by_id(self) -> dict[str, Rule]:
        return {rule.id: rule for rule in self.rules.values()}


def build_book(
    kb: KnowledgeBase,
    trial: str,
    *,
    audit: Path | None = None,
    history: bool = False,
    progress: Callable[[str], None] = lambda _: None,
) -> Files:
    """Return the files of the rule book of one trial, by their paths in its folder.

    Args:
        audit: the JSON document of ``sarc-kb audit`` of these rules.
        history: whether to tell the commits that touched each rule's file.
        progress: told what is being done.
    Raises:
        UsageError: no such trial; the audit is of other rules; there is no history.
        RuleBaseError: the rules are broken, or a case does not hold.
    """
    compiled = kb.compile(trial)
    folder = kb.trial_folder(trial)
    parts = read_audit(audit, kb, trial) if audit is not None else {}
    changes = history_of(folder) if history else None
    progress("cases")
    cases: dict[str, list[Case]] = {}
    for case in load_cases(folder, kb.terms.axes):
        cases.setdefault(case.rule, []).append(case)
    progress("rules")
    rules = {rule.iri: rule for rule in read_rules(kb, compiled)}
    register = read_register(compiled, kb.terms, (c for own in cases.values() for c in own))
    book = Book(
        kb=kb,
        trial=compiled,
        rules=rules,
        cases=cases,
        protocol=None,
        register=register,
        named=named_things(compiled, kb.terms),
        vocabulary=read_vocabulary(kb.terms, kb.root / "ontology" / "mappings"),
        audit={"source": source_part(kb, trial), **parts},
        history=changes,
    )
    book.protocol = _protocol(book, folder)
    _give_addresses(book)
    progress("pages")
    try:
        return _Pages(book, progress).all()
    except UndefinedError:
        if audit is None:
            raise
        raise wrong_shape(audit, "coverage") from None


def _protocol(book: Book, folder: Path) -> Protocol | None:
    """Return the record, None where there is none to read."""
    source = book.audit["source"]
    name = source.get("record", {}).get("file")
    path = folder / str(name)
    if name is None or path.parent != folder or not path.is_file():
        return None
    judged = [r.id for r in book.rules.values() if r.asks.component or r.tone == "definition"]
    return read_protocol(
        path.read_text(encoding="utf-8"),
        source,
        [r.id for r in book.rules.values()],
        judged,
        {entry.id: entry.passages for entry in book.register},
    )


def _give_addresses(book: Book) -> None:
    give = book.address
    for rule in book.rules.values():
        give.page(rule.iri, "rules", rule.id)
    for term in book.vocabulary.concepts.values():
        give.page(term.iri, "concepts", term.name.partition(":")[2] or term.name)
    for entry in book.register:
        give.place(entry.iri, "register.html", entry.id)
    for thing in book.named:
        if give(thing.iri) is None:
            give.place(thing.iri, "named.html", thing.name.partition(":")[2] or thing.name)
    for page, found in (
        ("properties.html", book.vocabulary.properties),
        ("values.html", book.vocabulary.values),
    ):
        for term in found.values():
            if give(term.iri) is None:
                give.place(term.iri, page, term.name.partition(":")[2] or term.name)
    for thing in book.named:
        for iri in thing.makes:
            give.also(iri, str(give(thing.iri)))


class _Pages:
    """The pages, rendered one by one."""

    def __init__(self, book: Book, progress: Callable[[str], None]) -> None:
        self.book, self.progress = book, progress
        self.files: Files = {}
        ids = {r.id: r.iri for r in book.rules.values()} | {e.id: e.iri for e in book.register}
        self._ids = ids
        longest = sorted(map(re.escape, ids), key=lambda i: (-len(i), i))
        self._id = re.compile(rf"(?<![\w-])({'|'.join(longest)})(?![\w-])")
        kb, trial = book.kb, book.trial
        self.templates: Environment = templates(
            {
                "address": book.address,
                "anchor": safe_name,
                "place": self._place,
                "compact": compact,
                "words_of": words_of,
                "label": lambda iri: trial.label(iri, kb.terms),
                "pages": PAGES,
                "prose": self._prose,
                "breakable": _breakable,
                "trial": trial,
                "knowledge_base": kb.info,
                "rule_of": book.by_id.get,
                "rules": book.rules,
                "entry_of": {e.id: e for e in book.register}.get,
                "at": self._at,
                "passage_at": self._passage_at,
            }
        )

    def all(self) -> Files:
        book = self.book
        self.files |= static_files()
        self.files["search-index.js"] = self._index()
        self._page("index.html", "front.html", counts=self._counts())
        self._page("protocol.html", "protocol.html", runs=self._runs(), protocol=book.protocol)
        self._page("rules.html", "rules.html", groups=self._groups())
        self._page("register.html", "register.html", entries=book.register)
        uses = self._uses()
        self._page("named.html", "named.html", groups=self._named(), uses=uses)
        self._vocabulary(uses)
        self._page("coverage.html", "coverage.html", audit=book.audit, counts=self._counts())
        samples = Samples(book.kb, book.trial, book.kb.root / "shapes" / "components")
        ordered = list(book.rules.values())
        for n, rule in enumerate(ordered):
            self.progress(f"rule {n + 1} of {len(ordered)}")
            own = book.cases.get(rule.iri, ())
            texts: list[CaseText] = [case_text(c, rule.trial, book.kb) for c in own]
            sample: Sample | None = None
            if rule.under is None and rule.tone != "definition":
                sample = samples.of(rule.iri, own)
            self._page(
                str(book.address(rule.iri)),
                "rule.html",
                rule=rule,
                cases=texts,
                sample=sample,
                codes=self._codes(rule),
                survivors=[
                    m
                    for m in book.audit.get("mutation", {}).get("survivors", ())
                    if str(m.get("id", "")).partition(":")[0] == rule.id
                ],
                logic=[
                    told
                    for told in book.audit.get("logic", {}).get("logic", ())
                    if rule.id in told.get("rules", ()) and told.get("kind") != "reachable"
                ],
                history=None if book.history is None else book.history.get(rule.file, ()),
                before=ordered[n - 1] if n else None,
                after=ordered[n + 1] if n + 1 < len(ordered) else None,
            )
        return self.files

    def _page(self, path: str, template: str, **values: Any) -> None:
        root = "../" * path.count("/")
        text = self.templates.get_template(template).render(root=root, path=path, **values)
        self.files[path] = text.encode()

    def _prose(self, text: str, root: str) -> Markup:
        """Return ``text`` with the ids of rules and of entries of the register as links."""
        parts = self._id.split(shown(text))
        for n in range(1, len(parts), 2):
            to = self.book.address(self._ids[parts[n]])
            parts[n] = Markup('<a href="{}{}">{}</a>').format(root, to, parts[n])
        return Markup("").join(parts)

    def _place(self, iri: str, page: str, name: str) -> str:
        """Return the anchor of a thing on ``page``."""
        own, _, fragment = str(self.book.address(iri)).partition("#")
        return fragment if own == page and fragment else safe_name(name.partition(":")[2] or name)

    def _at(self, id_: str) -> str | None:
        """Return where the words of a rule stand in the protocol."""
        protocol = self.book.protocol
        anchor = protocol.at.get(id_) if protocol is not None else None
        return None if anchor is None else f"protocol.html#{safe_name(anchor)}"

    def _passage_at(self, entry: str, passage: str) -> str | None:
        """Return where a passage of the register stands in the protocol."""
        protocol = self.book.protocol
        anchor = protocol.passages.get((entry, passage)) if protocol is not None else None
        return None if anchor is None else f"protocol.html#{safe_name(anchor)}"

    # -- what pages are made of ----------------------------------------------------------------
    def _counts(self) -> dict[str, int]:
        book = self.book
        whole = [r for r in book.rules.values() if r.is_whole]
        return {
            "inclusion": sum(r.tone == "inclusion" for r in whole),
            "exclusion": sum(r.tone == "exclusion" for r in whole),
            "treatment": sum(r.tone == "treatment" for r in whole),
            "definitions": sum(r.tone == "definition" for r in whole),
            "clauses": sum(bool(r.asks.component) for r in book.rules.values()),
            "cases": sum(len(own) for own in book.cases.values()),
            "entries": len(book.register),
            "readings": sum(len(e.readings) for e in book.register),
            "concepts": len(book.vocabulary.concepts),
            "codes": len({row.code for row in book.vocabulary.rows}),
            "judged": sum(
                bool(r.asks.component) and r.executability == words_of("NeedsJudgement")
                for r in book.rules.values()
            ),
        }

    def _runs(self) -> list[tuple[str, bool, list[Block]]]:
        """Return the blocks of the protocol by section, and whether nobody need read them: what is
        in no section and has no rule."""
        blocks = self.book.protocol.blocks if self.book.protocol is not None else ()
        sections = any(b.section for b in blocks)
        runs = groupby(
            blocks, key=lambda b: (b.section, sections and not b.section and not b.rules)
        )
        return [(section, folded, list(own)) for (section, folded), own in runs]

    def _groups(self) -> list[tuple[str, str, list[tuple[Rule, list[Rule], int]]]]:
        """Return the whole rules by their tone, each with its parts and the number of cases of them
        all."""
        titles = (
            ("inclusion", "Inclusion criteria"),
            ("exclusion", "Exclusion criteria"),
            ("treatment", "Treatment rules"),
            ("definition", "Definitions"),
        )
        rules, cases = self.book.rules.values(), self.book.cases
        groups = []
        for tone, title in titles:
            own = [r for r in rules if r.is_whole and r.tone == tone]
            rows = []
            for rule in own:
                parts = [p for p in rules if rule.iri in p.part_of]
                count = sum(len(cases.get(r.iri, ())) for r in (rule, *parts))
                rows.append((rule, parts, count))
            if rows:
                groups.append((tone, title, rows))
        return groups

    def _named(self) -> list[tuple[str, str, list[NamedThing]]]:
        return [
            (group, title, own)
            for group, title in GROUPS
            if (own := [t for t in self.book.named if t.group == group])
        ]

    def _uses(self) -> dict[str, list[Rule]]:
        """Return the rules that name a thing in one of their parameters, by its IRI."""
        found: dict[str, dict[str, Rule]] = {}
        for rule in self.book.rules.values():
            for parameter in rule.asks.parameters:
                for iri, _ in parameter.named:
                    found.setdefault(iri, {})[rule.iri] = rule
        return {iri: list(rules.values()) for iri, rules in found.items()}

    def _codes(self, rule: Rule) -> list[tuple[str, list[Mapped]]]:
        """Return the codes that a record may use for what a rule reads, by code system."""
        clause = rule.trial.clauses.get(rule.iri)
        if clause is None or clause.role is None or not rule.asks.component:
            return []
        terms = self.book.kb.terms
        wanted = rule.trial.set_of(clause.role.concept_set)
        inside: dict[str, bool] = {}
        groups: dict[str, dict[str, Mapped]] = {}
        for row in self.book.vocabulary.rows:
            if row.predicate not in ("exactMatch", "broadMatch"):
                continue
            if row.term not in inside:
                inside[row.term] = wanted.degree_of_term(row.term, terms) == 2
            if inside[row.term]:
                groups.setdefault(row.system, {}).setdefault(row.code, row)
        return [(system, list(rows.values())) for system, rows in sorted(groups.items())]

    # -- the vocabulary ------------------------------------------------------------------------
    def _vocabulary(self, uses: Mapping[str, list[Rule]]) -> None:
        vocabulary = self.book.vocabulary
        named_by, read_by = self._readers()
        sets: dict[str, list[NamedThing]] = {}
        for thing in self.book.named:
            for said in thing.says:
                for iri, _ in said.named:
                    if thing not in sets.setdefault(iri, []):
                        sets[iri].append(thing)
        self._page("vocabulary.html", "vocabulary.html", vocabulary=vocabulary)
        for page, title, found in (
            ("properties.html", "Properties", vocabulary.properties),
            ("values.html", "Named values", vocabulary.values),
        ):
            own = [t for t in found.values() if self.book.address(t.iri) is not None]
            self._page(page, "terms.html", heading=title, terms=own, uses=uses)
        for term in vocabulary.concepts.values():
            self._page(
                str(self.book.address(term.iri)),
                "concept.html",
                term=term,
                named_by=named_by.get(term.iri, []),
                read_by=read_by.get(term.iri, []),
                sets=sets.get(term.iri, []),
                made_by=[t for t in self.book.named if t.iri == term.iri],
                path_up=self._path_up(term),
            )

    def _path_up(self, term: Term) -> list[Term]:
        """Return one way from the top to the term, without it."""
        concepts = self.book.vocabulary.concepts
        path: list[Term] = []
        above = [a for a in term.above if a in concepts]
        while above and concepts[above[0]] not in path:
            path.insert(0, concepts[above[0]])
            above = [a for a in concepts[above[0]].above if a in concepts]
        return path

    def _readers(self) -> tuple[dict[str, list[Rule]], dict[str, list[Rule]]]:
        """Return, by term, the rules that name it (in a set or a qualifier, or to leave it out), and
        those that read it because they name something above it."""
        named: dict[str, dict[str, Rule]] = {}
        read: dict[str, dict[str, Rule]] = {}
        down = self.book.kb.terms.down
        for rule in self.book.rules.values():
            tops: set[str] = set()
            for iri in rule.asks.reads:
                qualifier = rule.trial.qualifiers.get(iri)
                sets = (
                    [v for r in qualifier.requires for v in (r.among, r.not_among) if v]
                    if qualifier is not None
                    else [iri]
                )
                for one in map(rule.trial.set_of, sets):
                    tops |= one.members | one.excluding
            for top in tops:
                named.setdefault(top, {})[rule.iri] = rule
            for term in {b for top in tops for b in down(top)} - tops:
                read.setdefault(term, {})[rule.iri] = rule
        return (
            {iri: list(rules.values()) for iri, rules in named.items()},
            {iri: list(rules.values()) for iri, rules in read.items()},
        )

    # -- search --------------------------------------------------------------------------------
    def _index(self) -> bytes:
        """Return the index of the search: kind, name, title, address and further words of each
        thing. It is a script, since a page that is read from a file may load nothing else."""
        book = self.book
        rows: list[tuple[str, str, str, str, str]] = []
        for rule in book.rules.values():
            words = " ".join((*rule.quotes, rule.message))
            rows.append((rule.kind, rule.id, rule.label, str(book.address(rule.iri)), words))
        for entry in book.register:
            words = " ".join((*entry.passages, entry.because))
            address = str(book.address(entry.iri))
            rows.append(("register", entry.id, entry.label, address, words))
        for thing in book.named:
            address = str(book.address(thing.iri))
            rows.append((_ONE[thing.group], thing.name, thing.label, address, ""))
        found = book.vocabulary
        for kind, terms in (
            ("concept", found.concepts),
            ("property", found.properties),
            ("value", found.values),
        ):
            for term in terms.values():
                words = " ".join((*term.other_names, *(m.text for m in term.mapped[:20])))
                address = str(book.address(term.iri))
                rows.append((kind, term.name, term.label, address, words))
        rows = list(dict.fromkeys(rows))
        # A "<" could begin a tag where a script stands in a page; this one does not, and has none.
        text = json.dumps(rows, ensure_ascii=True, separators=(",", ":")).replace("<", "\\u003c")
        return f"window.BOOK_INDEX = {text};\n".encode("ascii")


def _breakable(text: str) -> Markup:
    """Return names of elements and fields with places where a line may end."""
    return Markup("<wbr>").join(re.split(r"(?<=[._])(?=\w)", shown(text)))


_ONE = {
    "sets": "set of terms",
    "qualifiers": "qualifier",
    "windows": "window",
    "anchors": "anchor",
    "policies": "policy",
    "questions": "question",
    "derivations": "derivation",
}
