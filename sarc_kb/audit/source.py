"""Source accounting: does every word of the record belong to a rule, or to a stated reason?

What must be accounted for, and what no rule quotes and why, is data of the trial
(`sarc:AccountedSection`, `sarc:AccountedPassage`). A design fact's quotation counts like a passage.
Layout accounts for itself: white space, numbers and bullets that begin a line, and punctuation
that ends a word, where no quotation holds them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import groupby, pairwise
from pathlib import Path

from rdflib import Graph, URIRef
from rdflib.term import Node

from sarc_kb.audit.section import Request, Section
from sarc_kb.audit.source_changes import Change, changes_between
from sarc_kb.errors import Finding, UsageError
from sarc_kb.kb import KnowledgeBase
from sarc_kb.namespaces import OA, RDF, RDFS, SARC, local_name
from sarc_kb.rule_check import quote_of, text_quotes
from sarc_kb.source_text import Quote, SourceText, Span, fold_space

_RULES = ("InclusionCriterion", "ExclusionCriterion", "TreatmentRule", "Clause", "DefinitionRule")
_JUDGED = ("Clause", "DefinitionRule")
_LAYOUT, _RULE, _FACT, _OPEN = "layout", "rule", "design fact", "not accounted"
_NOBODY = "a word that nobody accounts for may be a rule that is missing"


@dataclass(frozen=True, slots=True)
class _Quoted:
    """A rule, a design fact or a passage, and its words in the record.

    ``judged``: its words are decided, not only held together with others.
    """

    iri: str
    id: str
    kind: str
    category: str
    reason: str
    quote: Quote
    places: tuple[Span, ...]
    judged: bool = False

    @property
    def place(self) -> Span | None:
        return self.places[0] if len(self.places) == 1 else None


@dataclass(frozen=True, slots=True)
class _Part:
    """A section that must be accounted for."""

    name: str
    starts: Quote
    ends: Quote | None


@dataclass(frozen=True, slots=True)
class _Segment:
    """Words with the same account."""

    section: str
    span: Span
    category: str
    rules: tuple[str, ...] = ()
    others: tuple[str, ...] = ()
    reason: str = ""
    judged: bool = False


@dataclass(frozen=True, slots=True)
class _Account:
    """All of one text."""

    text: SourceText
    file: str
    quoted: tuple[_Quoted, ...]
    sections: tuple[tuple[str, Span], ...]
    segments: tuple[_Segment, ...]
    findings: list[Finding] = field(default_factory=list)


def audit(kb: KnowledgeBase, request: Request) -> Section:
    """Account for the source record of a trial, and compare it with another version.

    Raises:
        UsageError: the other version cannot be read.
    """
    folder = kb.trial_folder(request.trial)
    graph = kb.trial_graph(request.trial)
    record = _record(graph)
    # Beside the rules and nowhere else: what it says is shown.
    if record is None or Path(record[1]).name != record[1] or not (folder / record[1]).is_file():
        return _without_record(record[1] if record else None)
    path = folder / record[1]
    raw = path.read_bytes()
    text = SourceText(path.read_text(encoding="utf-8"))
    findings = _as_noted(graph, record[0], path.name, raw)
    quoted, faults = _quotations(graph, record[0], text, _Files(folder), path.name, kb.terms.graph)
    findings += faults
    parts = _parts(graph)
    account = _account(text, path.name, quoted, parts)
    findings += account.findings
    if not parts:
        findings.append(
            _error(
                "SRC001",
                path.name,
                "no section is to be accounted for",
                "nobody can tell whether a rule is missing",
                "describe the sections (sarc:AccountedSection)",
            )
        )
    findings += _open_passages(account)
    findings += _needless(account)
    compared = None
    if request.against is not None:
        compared = _compare(graph, account, parts, request.against)
        findings += compared.findings
    document: dict[str, object] = {
        "record": {"file": path.name, "sha256": hashlib.sha256(raw).hexdigest()},
        "sections": [_section_document(account, name, span) for name, span in account.sections],
        "categories": _categories(account),
        "places": _place_documents(account),
        "segments": [_segment_document(text, segment) for segment in account.segments],
    }
    if compared is not None:
        document["against"] = compared.document
    lines = [*_coverage_lines(account), *_place_lines(account), *_annotated(account)]
    if compared is not None:
        lines = [*compared.lines, "", *lines]
    return Section(
        "source",
        _summary(account, compared, bool(parts)),
        tuple(lines),
        document,
        tuple(findings),
    )


# -- what the trial says -------------------------------------------------------------------------
def _record(graph: Graph) -> tuple[Node, str] | None:
    for node in sorted(graph.subjects(RDF.type, SARC.SourceRecord), key=str):
        name = graph.value(node, SARC.sourceFile)
        if name is not None:
            return node, str(name)
    return None


def _without_record(name: str | None) -> Section:
    fault = _error(
        "SRC001",
        name or "the trial",
        "no source record" if name is None else "the source record is missing",
        "every rule quotes it",
        "describe it (sarc:SourceRecord with sarc:sourceFile), and put it beside the rules",
    )
    return Section("source", "no source record", findings=(fault,))


def _as_noted(graph: Graph, record: Node, name: str, raw: bytes) -> list[Finding]:
    noted = graph.value(record, SARC.sha256)
    found = hashlib.sha256(raw).hexdigest()
    if noted is None or str(noted) == found:
        return []
    return [
        _error(
            "SRC009",
            name,
            f"its SHA-256 is {found}, noted is {noted}",
            "the rules were read from another text",
            "restore the record, or compare (--against), correct the rules and note the new digest",
        )
    ]


class _Files:
    """Which file of the trial describes a rule; looked up only for what is faulty."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._files: dict[str, str] = {}

    def __getitem__(self, iri: str) -> str:
        if not self._files:
            for path in sorted(self._folder.rglob("*.ttl")):
                if not path.name.endswith(".cases.ttl"):
                    graph = Graph().parse(path, format="turtle")
                    name = path.relative_to(self._folder).as_posix()
                    for subject in graph.subjects(RDF.type, None):
                        self._files.setdefault(str(subject), name)
        return self._files.get(iri, "")


def _quotations(
    graph: Graph, record: Node, text: SourceText, files: _Files, file: str, ontology: Graph
) -> tuple[tuple[_Quoted, ...], list[Finding]]:
    """Return every quotation with its places, and the faults among them."""
    found: list[_Quoted] = []
    faults: list[Finding] = []
    rules = {s for name in _RULES for s in graph.subjects(RDF.type, SARC[name])}
    judged = {s for name in _JUDGED for s in graph.subjects(RDF.type, SARC[name])}
    facts = set(graph.subjects(RDF.type, SARC.DesignFact))
    passages = set(graph.subjects(RDF.type, SARC.AccountedPassage))
    for node in sorted(rules | facts | passages, key=str):
        iri = str(node)
        label = str(graph.value(node, RDFS.label) or "")
        id_ = str(graph.value(node, SARC.notation) or local_name(iri))
        if node in rules:
            kind, category, reason = "rule", _RULE, label
        elif node in facts:
            kind, category, reason = "fact", _FACT, f"{id_}: {label}"
        else:
            named = graph.value(node, SARC.passageCategory)
            category = str(ontology.value(named, SARC.notation) or local_name(str(named)))
            kind, reason = "passage", str(graph.value(node, SARC.because) or "")
        quotes: list[Quote] = []
        for origin in sorted(graph.objects(node, SARC.source), key=lambda o: _key(graph, o)):
            if graph.value(origin, OA.hasSource) != record:
                faults.append(
                    _error(
                        "SRC004",
                        _where(id_, files[iri]),
                        f"its quotation is not from {file}",
                        "a rule must lead back to the record's words",
                        "name the record (oa:hasSource)",
                    )
                )
                continue
            quotes += [quote_of(graph, s) for s in text_quotes(graph, origin)]
        quotes = [quote for quote in quotes if quote.exact]
        if not quotes and node not in facts:
            faults.append(
                _error(
                    "SRC007",
                    _where(id_, files[iri]),
                    "no quotation",
                    "nobody can tell which words it comes from",
                    "quote the words (sarc:source)",
                )
            )
        for quote in quotes:
            places = tuple(text.places(quote))
            found.append(
                _Quoted(iri, id_, kind, category, reason, quote, places, judged=node in judged)
            )
            if len(places) != 1:
                where = _where(id_, files[iri])
                faults.append(_misplaced(where, quote, places, text, file))
    return tuple(found), faults


def _key(graph: Graph, origin: Node) -> str:
    quotes = [quote_of(graph, selector) for selector in text_quotes(graph, origin)]
    return "\n".join(f"{q.exact}\t{q.prefix}\t{q.suffix}" for q in quotes)


def _misplaced(
    where: str, quote: Quote, places: Sequence[Span], text: SourceText, file: str
) -> Finding:
    why = "a rule must lead back to the record's words"
    words = f"“{_short(quote.exact)}”"
    if places:
        at = ", ".join(_at(file, text, p.start) for p in places)
        return _error(
            "SRC005",
            where,
            f"the quotation {words} stands {len(places)} times: {at}",
            "nobody can tell which words are meant",
            "add oa:prefix or oa:suffix",
        )
    elsewhere = text.places(Quote(quote.exact))
    if elsewhere:
        at = ", ".join(_at(file, text, p.start) for p in elsewhere)
        context = " and ".join(
            f"{side} “{context}”"
            for side, context in (("after", quote.prefix), ("before", quote.suffix))
            if context
        )
        return _error(
            "SRC004",
            where,
            f"the quotation {words} stands at {at}, but not {context}",
            why,
            "correct oa:prefix or oa:suffix",
        )
    nearest = text.nearest(quote.exact)
    if nearest is None:
        return _error("SRC004", where, f"{words} is not in {file}, which is empty", why, "see file")
    return _error(
        "SRC004",
        where,
        f"the quotation {words} is not in the record; nearest is {_at(file, text, nearest.span.start)},"
        f" where character {nearest.at + 1} differs: quoted “{nearest.quoted}”, printed"
        f" “{nearest.printed}” ({_at(file, text, nearest.position)})",
        why,
        f"copy the words from {file}",
    )


def _parts(graph: Graph) -> tuple[_Part, ...]:
    found = []
    for node in graph.subjects(RDF.type, SARC.AccountedSection):
        origin = graph.value(node, SARC.source)
        selector = graph.value(origin, OA.hasSelector) if origin is not None else None
        if selector is None:
            continue
        start = graph.value(selector, OA.hasStartSelector)
        end = graph.value(selector, OA.hasEndSelector)
        name = str(graph.value(node, RDFS.label) or local_name(str(node)))
        found.append(
            _Part(
                name,
                quote_of(graph, start) if start is not None else Quote(""),
                quote_of(graph, end) if end is not None else None,
            )
        )
    return tuple(sorted(found, key=lambda p: p.name))


# -- the account ---------------------------------------------------------------------------------
def _account(
    text: SourceText, file: str, quoted: tuple[_Quoted, ...], parts: tuple[_Part, ...]
) -> _Account:
    sections: list[tuple[str, Span]] = []
    findings = []
    for part in parts:
        starts = text.places(part.starts)
        ends = [Span(len(text.text), len(text.text))] if part.ends is None else []
        ends = ends or text.places(part.ends or Quote(""))
        told = [
            (what, quote, places)
            for what, quote, places in (
                ("starts with", part.starts, starts),
                ("ends before", part.ends, ends),
            )
            if len(places) != 1
        ]
        for what, quote, places in told:
            words = quote.exact if quote is not None else ""
            findings.append(
                _error(
                    "SRC002",
                    f"{file}, section {part.name}",
                    f"“{_short(words)}”, which it {what}, stands there {_times(len(places))}",
                    "nobody can tell what must be accounted for",
                    "correct its words, or add oa:prefix or oa:suffix",
                )
            )
        if told:
            continue
        span = Span(starts[0].start, ends[0].start)
        if span.end <= span.start:
            findings.append(
                _error(
                    "SRC002",
                    f"{file}, section {part.name}",
                    "it ends before it starts",
                    "nothing would be accounted for",
                    "correct its words",
                )
            )
            continue
        sections.append((part.name, span))
    sections.sort(key=lambda s: s[1])
    for (name, span), (other, next_) in pairwise(sections):
        if span.overlaps(next_):
            findings.append(
                _error(
                    "SRC002",
                    f"{file}, section {other}",
                    f"it starts inside the section {name}",
                    "its words would count twice",
                    "correct where the one ends or the other starts",
                )
            )
    segments = [s for name, span in sections for s in _segments(text, quoted, name, span)]
    return _Account(text, file, quoted, tuple(sections), tuple(segments), findings)


def _segments(
    text: SourceText, quoted: Iterable[_Quoted], name: str, section: Span
) -> Iterator[_Segment]:
    """Yield the section's words by who accounts for them; together they are all of it."""
    here = [q for q in quoted if q.place is not None and q.place.overlaps(section)]
    numbers = {i for s in text.list_numbers for i in range(s.start, s.end)}
    separators = {i for s in text.separators for i in range(s.start, s.end)}
    holding: list[list[int]] = [[] for _ in range(section.start, section.end)]
    for index, quotation in enumerate(here):
        assert quotation.place is not None
        for i in range(
            max(quotation.place.start, section.start), min(quotation.place.end, section.end)
        ):
            holding[i - section.start].append(index)

    def key(i: int) -> tuple[tuple[int, ...], str]:
        holders = tuple(holding[i - section.start])
        if holders:
            return holders, ""
        plain = text.text[i].isspace() or i in numbers or i in separators
        return (), _LAYOUT if plain else _OPEN

    for (holders, category), run in groupby(range(section.start, section.end), key=key):
        inside = list(run)
        span = Span(inside[0], inside[-1] + 1)
        if not holders:
            kinds = {
                "list number": any(i in numbers for i in inside),
                "punctuation": any(i in separators - numbers for i in inside),
                "white space": any(text.text[i].isspace() for i in inside),
            }
            reason = ", ".join(k for k, there in kinds.items() if there)
            yield _Segment(name, span, category, reason=reason if category == _LAYOUT else "")
            continue
        holds = [here[i] for i in holders]
        rules = tuple(sorted({q.id for q in holds if q.kind == "rule"}))
        others = sorted((q for q in holds if q.kind != "rule"), key=lambda q: (q.kind, q.id))
        yield _Segment(
            name,
            span,
            _RULE if rules else others[-1].category,
            rules,
            tuple(dict.fromkeys(q.id for q in others)),
            "" if rules else others[-1].reason,
            any(q.judged for q in holds),
        )


def _open_spans(account: _Account) -> list[tuple[str, Span]]:
    """Return the passages that nobody accounts for; layout inside one does not end it."""
    found: list[tuple[str, Span]] = []
    numbers = account.text.list_numbers
    pending = False
    for segment in account.segments:
        if segment.category == _OPEN:
            if pending and found and found[-1][0] == segment.section:
                found[-1] = (segment.section, Span(found[-1][1].start, segment.span.end))
            else:
                found.append((segment.section, segment.span))
            pending = True
        elif segment.category != _LAYOUT or any(segment.span.holds(n) for n in numbers):
            pending = False
    return found


def _open_passages(account: _Account) -> list[Finding]:
    return [
        _error(
            "SRC003",
            _at(account.file, account.text, span.start),
            f"nobody accounts for “{_short(account.text.at(span), 200)}” ({name}"
            f"{_beside(account, span)})",
            _NOBODY,
            "quote it in a rule, or give the reason why none does (sarc:AccountedPassage)",
        )
        for name, span in _open_spans(account)
    ]


def _beside(account: _Account, span: Span) -> str:
    """Return which account ends last before ``span``, in words."""
    before = [q for q in account.quoted if q.place is not None and q.place.end <= span.start]
    if not before:
        return ""
    last = max(q.place.end for q in before if q.place is not None)
    ids = sorted({q.id for q in before if q.place is not None and q.place.end == last})
    return f", after {', '.join(ids)}"


def _needless(account: _Account) -> Iterator[Finding]:
    """Yield warnings for passages that a rule quotes as well, and for those outside all sections."""
    placed = [(q, q.place) for q in account.quoted if q.place is not None]
    for passage, place in placed:
        if passage.kind != "passage":
            continue
        over = sorted(
            {
                q.id
                for q, p in placed
                if p.overlaps(place) and (q.kind != "passage" or (q.iri, p) != (passage.iri, place))
            }
        )
        where = f"{passage.id}, {_at(account.file, account.text, place.start)}"
        words = _short(account.text.at(place))
        if over:
            yield Finding(
                "SRC006",
                "warning",
                where,
                f"“{words}” is also quoted by {', '.join(over)}",
                "words that are quoted need no other reason",
                "shorten the passage, or the quotation",
            )
        if account.sections and not any(span.holds(place) for _, span in account.sections):
            yield Finding(
                "SRC010",
                "warning",
                where,
                f"“{words}” is in no section that is accounted for",
                "it accounts for nothing",
                "leave it out, or correct the sections",
            )


# -- another version -----------------------------------------------------------------------------
@dataclass(frozen=True, slots=True)
class _Compared:
    document: dict[str, object]
    lines: tuple[str, ...]
    findings: tuple[Finding, ...]
    summary: str


@dataclass(frozen=True, slots=True)
class _Touched:
    """A quotation that a change touches, and whether it stands in the other version."""

    quoted: _Quoted
    stands: str

    @property
    def broken(self) -> bool:
        return self.stands not in _STANDING


_VERBATIM, _CONTEXT = "stands verbatim", "stands verbatim, but the words around it differ"
_SEVERAL, _GONE, _CHANGED = "stands several times", "removed", "no longer verbatim"
_STANDING = (_VERBATIM, _CONTEXT)
_REMEDY = {
    **dict.fromkeys(_STANDING, "read whether it means the same"),
    _GONE: "withdraw it, or quote where it is said now",
}


def _compare(graph: Graph, old: _Account, parts: tuple[_Part, ...], path: Path) -> _Compared:
    try:
        text = SourceText(path.read_text(encoding="utf-8-sig"))
    except (OSError, UnicodeDecodeError) as error:
        what = error.strerror if isinstance(error, OSError) else "not UTF-8"
        raise UsageError(
            Finding(
                "USE061",
                "error",
                f"--against {path}",
                f"cannot be read: {what}",
                "there is nothing to compare with",
                "name another version of the record, as text in UTF-8",
            )
        ) from None
    file = path.name
    changes = changes_between(old.text, text)
    placed = [(q, q.place) for q in old.quoted if q.place is not None]
    standing = tuple(
        _Quoted(q.iri, q.id, q.kind, q.category, q.reason, q.quote, tuple(found))
        for q, _ in placed
        if (found := text.places(q.quote) or text.places(Quote(q.quote.exact)))
    )
    new = _account(text, file, standing, parts)
    register = _register(graph, old.text)
    findings = list(new.findings)
    told: set[tuple[str, Quote]] = set()
    entries = []
    for change in changes:
        touched = [
            _Touched(q, _stands(q.quote, place, change, text))
            for q, place in placed
            if change.touches(place, old.text, text)
        ]
        open_ = _open_in(new, change) if not any(t.broken for t in touched) else []
        entry = _Entry(
            change,
            _section_at(old, change.old) or _section_at(new, change.new),
            touched,
            sorted({i for i, p in register if change.touches(p, old.text, text)}),
            _numbered(old, change),
            open_,
        )
        entries.append(entry)
        findings += _change_findings(old, new, entry, told)
    # What no change touches can still have lost its place: its prefix or suffix differs.
    for q, _ in placed:
        if (q.iri, q.quote) not in told and len(text.places(q.quote)) != 1:
            findings.append(
                Finding(
                    "SRC022",
                    "warning",
                    q.id,
                    f"“{_short(q.quote.exact)}” stands in {file}, but not in the place that its"
                    " prefix and suffix name",
                    "it could be taken from another sentence",
                    "correct oa:prefix or oa:suffix when the new record is taken over",
                )
            )
    ids = sorted({t.quoted.id for e in entries for t in e.touched if t.quoted.kind == "rule"})
    broken = sorted(
        {t.quoted.id for e in entries for t in e.touched if t.broken and t.quoted.kind == "rule"}
    )
    count = len(entries)
    summary = f"{file}: {count or 'no'} change{'' if count == 1 else 's'}" + (
        f", {len(ids)} rules touched, {len(broken)} quotations lost" if count else ""
    )
    document: dict[str, object] = {
        "file": file,
        "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        "changes": [_entry_document(old, new, entry) for entry in entries],
        "rules_touched": ids,
        "quotations_lost": broken,
    }
    lines = [summary, *(line for entry in entries for line in _entry_lines(old, new, entry))]
    return _Compared(document, tuple(lines), tuple(findings), summary)


@dataclass(frozen=True, slots=True)
class _Entry:
    change: Change
    section: str | None
    touched: list[_Touched]
    register: list[str]
    numbered: list[str]
    open: list[Span]


def _stands(quote: Quote, place: Span, change: Change, text: SourceText) -> str:
    there = text.places(quote)
    if len(there) == 1:
        return _VERBATIM
    if there:
        return _SEVERAL
    anywhere = text.places(Quote(quote.exact))
    if anywhere:
        return _CONTEXT if len(anywhere) == 1 else _SEVERAL
    return _GONE if change.kind == "removed" and change.old.holds(place) else _CHANGED


def _register(graph: Graph, text: SourceText) -> list[tuple[str, Span]]:
    """Return the ambiguous passages of the register with their places."""
    return [
        (local_name(str(node)), place)
        for node, passage in sorted(graph.subject_objects(SARC.passage))
        if isinstance(node, URIRef)
        for place in text.places(Quote(fold_space(str(passage))))
    ]


def _section_at(account: _Account, span: Span) -> str | None:
    for name, section in account.sections:
        if section.start <= span.start < section.end or section.overlaps(span):
            return name
    return None


def _numbered(account: _Account, change: Change) -> list[str]:
    """Return the rules of the list item whose number changed: their locators may name it."""
    if change.kind != "renumbered":
        return []
    numbers = [n.start for n in account.text.list_numbers]
    after = min((n for n in numbers if n > change.old.start), default=len(account.text.text))
    section = next((s for _, s in account.sections if s.overlaps(change.old)), None)
    item = Span(change.old.start, min(after, section.end) if section else after)
    return sorted(
        {
            q.id
            for q in account.quoted
            if q.kind == "rule" and q.place is not None and item.holds(q.place)
        }
    )


def _open_in(account: _Account, change: Change) -> list[Span]:
    """Return what the change brings that nobody accounts for."""
    return [span for _, span in _open_spans(account) if span.overlaps(change.new)]


def _change_findings(
    old: _Account, new: _Account, entry: _Entry, told: set[tuple[str, Quote]]
) -> Iterator[Finding]:
    change = entry.change
    where = _place_of_change(old, new, change)
    words = _in_words(old, new, change)
    for touched in entry.touched:
        key = (touched.quoted.iri, touched.quoted.quote)
        if key in told:
            continue
        told.add(key)
        lost = touched.broken
        is_passage = touched.quoted.kind == "passage"
        yield Finding(
            ("SRC024" if is_passage else "SRC021") if lost else "SRC022",
            "error" if lost else "warning",
            f"{touched.quoted.id}, {where}",
            f"{words}; its quotation {_sentence(touched.stands)}",
            "its words are not those of the other version"
            if lost
            else "the change stands in or beside its words",
            _REMEDY.get(touched.stands, "read the new words, and correct it and its quotation"),
        )
    for span in entry.open:
        yield _error(
            "SRC023",
            _at(new.file, new.text, span.start),
            f"new: nobody accounts for “{_short(new.text.at(span), 200)}”"
            f" ({_section_at(new, span)}{_beside(new, span)})",
            _NOBODY,
            "write the rule, or give the reason why there is none (sarc:AccountedPassage)",
        )
    if not entry.touched and not entry.open:
        numbers = f"; locators of {', '.join(entry.numbered)}" if entry.numbered else ""
        yield Finding(
            "SRC026" if change.kind == "renumbered" else "SRC025",
            "warning" if entry.numbered else "info",
            where,
            words + numbers,
            "the item that they name has another number"
            if entry.numbered
            else "no rule quotes the words that changed",
            "correct them when the new record is taken over"
            if entry.numbered
            else "read whether a rule should",
        )


def _sentence(stands: str) -> str:
    return {_GONE: "is removed", _CHANGED: "is no longer verbatim"}.get(stands, stands)


def _place_of_change(old: _Account, new: _Account, change: Change) -> str:
    if change.kind == "added":
        return _at(new.file, new.text, change.new.start)
    return _at(old.file, old.text, old.text.whole_words(change.old).start)


def _in_words(old: _Account, new: _Account, change: Change) -> str:
    before = f"“{_short(old.text.at(old.text.whole_words(change.old)), 200)}”"
    after = f"“{_short(new.text.at(new.text.whole_words(change.new)), 200)}”"
    if change.kind == "added":
        return f"added: {after}"
    if change.kind == "removed":
        return f"removed: {before}"
    return f"{change.kind}: {before} is now {after}"


# -- as plain data and as text -------------------------------------------------------------------
def _position(text: SourceText, span: Span) -> dict[str, int]:
    line, column = text.line_column(span.start)
    return {"start": span.start, "end": span.end, "line": line, "column": column}


def _section_document(account: _Account, name: str, span: Span) -> dict[str, object]:
    segments = [s for s in account.segments if s.section == name]

    def total(*categories: str) -> int:
        return sum(s.span.end - s.span.start for s in segments if s.category in categories)

    size = span.end - span.start
    rules, layout, open_ = total(_RULE), total(_LAYOUT), total(_OPEN)
    return {
        "name": name,
        **_position(account.text, span),
        "characters": size,
        "in_rules": rules,
        "in_judged_rules": sum(
            s.span.end - s.span.start for s in segments if s.category == _RULE and s.judged
        ),
        "in_design_facts": total(_FACT),
        "in_passages": size - rules - layout - open_ - total(_FACT),
        "layout": layout,
        "not_accounted": open_,
        "coverage": _percent(size - open_, size),
    }


def _percent(part: int, whole: int) -> float:
    """Return the share in percent, rounded down: only all of it is 100."""
    return int(1000 * part / whole) / 10 if whole else 100.0


def _categories(account: _Account) -> list[dict[str, object]]:
    """Return, by category, the passages (neighbours of the same account are one) and characters."""
    rows: dict[str, tuple[int, int]] = {}
    for category in (_RULE, _FACT):
        rows[category] = (0, 0)
    runs = groupby(account.segments, key=lambda s: (s.section, s.category, s.others and s.reason))
    for (_, category, _), run in runs:
        size = sum(s.span.end - s.span.start for s in run)
        passages, characters = rows.get(category, (0, 0))
        rows[category] = (passages + 1, characters + size)
    order = [_RULE, _FACT, *sorted(set(rows) - {_RULE, _FACT, _LAYOUT, _OPEN}), _LAYOUT, _OPEN]
    return [
        {"category": c, "passages": rows.get(c, (0, 0))[0], "characters": rows.get(c, (0, 0))[1]}
        for c in order
    ]


def _place_documents(account: _Account) -> list[dict[str, object]]:
    return [
        {
            "id": q.id,
            "kind": {"rule": "rule", "fact": "design fact"}.get(q.kind, "passage"),
            "section": _section_at(account, place),
            **_position(account.text, place),
            "text": account.text.at(place),
        }
        for q, place in _in_order(account)
    ]


def _in_order(account: _Account) -> list[tuple[_Quoted, Span]]:
    placed = [(q, q.place) for q in account.quoted if q.place is not None]
    kinds = ("rule", "fact", "passage")
    return sorted(placed, key=lambda qp: (kinds.index(qp[0].kind), qp[0].id, qp[1]))


def _segment_document(text: SourceText, segment: _Segment) -> dict[str, object]:
    return {
        "section": segment.section,
        **_position(text, segment.span),
        "text": text.text[segment.span.start : segment.span.end],
        "category": segment.category,
        "rules": list(segment.rules),
        "others": list(segment.others),
        "reason": segment.reason,
    }


def _entry_document(old: _Account, new: _Account, entry: _Entry) -> dict[str, object]:
    change = entry.change

    def names(kind: str) -> list[dict[str, object]]:
        return [
            {"id": t.quoted.id, "stands": not t.broken, "how": t.stands}
            for t in entry.touched
            if t.quoted.kind == kind
        ]

    return {
        "kind": change.kind,
        "section": entry.section,
        "old": _words_document(old.text, change.old, there=change.kind != "added"),
        "new": _words_document(new.text, change.new, there=change.kind != "removed"),
        "rules": names("rule"),
        "design_facts": names("fact"),
        "passages": names("passage"),
        "register": entry.register,
        "renumbered": entry.numbered,
        "not_accounted": [new.text.at(span) for span in entry.open],
    }


def _words_document(text: SourceText, span: Span, *, there: bool) -> dict[str, object]:
    """Return the whole words of ``span``; where there are none, the place where they would be."""
    shown = text.whole_words(span) if there else span
    return {**_position(text, shown), "text": text.at(shown)}


def _entry_lines(old: _Account, new: _Account, entry: _Entry) -> Iterator[str]:
    where = _place_of_change(old, new, entry.change)
    yield f"  {where}  {_in_words(old, new, entry.change)}"
    for touched in entry.touched:
        yield f"      {touched.quoted.id}: its quotation {_sentence(touched.stands)}"
    if entry.numbered:
        yield f"      locators: {', '.join(entry.numbered)}"
    if entry.register:
        yield f"      register: {', '.join(entry.register)}"
    for span in entry.open:
        yield f"      nobody accounts for: {_short(new.text.at(span), 200)}"


def _coverage_lines(account: _Account) -> Iterator[str]:
    yield "Coverage, in characters:"
    heads = ("section", "all", "in rules", "design", "passages", "layout", "open", "coverage")
    rows: list[tuple[str, ...]] = [heads]
    for name, span in account.sections:
        d = _section_document(account, name, span)
        rows.append(
            (
                name,
                str(d["characters"]),
                str(d["in_rules"]),
                str(d["in_design_facts"]),
                str(d["in_passages"]),
                str(d["layout"]),
                str(d["not_accounted"]),
                f"{d['coverage']} %",
            )
        )
    yield from _table(rows)
    yield ""
    rows = [("category", "passages", "characters")]
    rows += [
        (str(r["category"]), str(r["passages"]), str(r["characters"])) for r in _categories(account)
    ]
    yield from _table(rows)
    yield ""


def _table(rows: Sequence[Sequence[str]]) -> Iterator[str]:
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    for row in rows:
        cells = [row[0].ljust(widths[0])]
        cells += [cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True)]
        yield "  " + "  ".join(cells)


def _place_lines(account: _Account) -> Iterator[str]:
    yield "Places (line:column):"
    found = _in_order(account)
    width = max((len(q.id) for q, _ in found), default=0)
    for quoted, place in found:
        line, column = account.text.line_column(place.start)
        words = _short(account.text.at(place))
        section = _section_at(account, place) or "elsewhere"
        yield f"  {quoted.id:<{width}}  {line:>4}:{column:<3} {words}  ({section})"
    yield ""


def _annotated(account: _Account) -> Iterator[str]:
    """Yield the sections line by line; before each part stands who accounts for it."""
    for name, section in account.sections:
        yield f"Text of the section {name}:"
        segments = [s for s in account.segments if s.section == name]
        for line in account.text.line_spans(section):
            shown = []
            tagged = False
            for segment in segments:
                if not segment.span.overlaps(line):
                    continue
                part = Span(max(segment.span.start, line.start), min(segment.span.end, line.end))
                words = account.text.text[part.start : part.end]
                if segment.category == _LAYOUT:
                    shown.append(f"[/]{words}" if tagged and words.strip() else words)
                    tagged = tagged and not words.strip()
                elif words.strip():
                    gap = " " if shown and not shown[-1].endswith(" ") else ""
                    shown.append(f"{gap}[{_tag(segment)}] {words.lstrip()}")
                    tagged = True
            number = account.text.line_column(line.start)[0]
            yield f"{number:>5}  {''.join(shown).rstrip()}"
        yield ""
    reasons = {
        s.others[-1]: (s.category, s.reason) for s in account.segments if not s.rules and s.others
    }
    if reasons:
        yield "Reasons:"
        for id_, (category, reason) in sorted(reasons.items()):
            yield f"  {id_} ({category}): {reason}"


def _tag(segment: _Segment) -> str:
    if segment.category == _OPEN:
        return "NOT ACCOUNTED"
    if segment.rules:
        return " ".join(segment.rules)
    return f"{segment.category}: {segment.others[-1]}"


def _summary(account: _Account, compared: _Compared | None, wanted: bool) -> str:
    open_ = _open_spans(account)
    size = sum(span.end - span.start for _, span in account.sections)
    missing = sum(s.span.end - s.span.start for s in account.segments if s.category == _OPEN)
    if not wanted or not account.sections:
        told = "no section is accounted for"
    else:
        count = len(account.sections)
        told = (
            f"{_percent(size - missing, size)} % of {size} characters in"
            f" {count} section{'' if count == 1 else 's'} accounted for"
        )
        if open_:
            told += f", {len(open_)} passage{'' if len(open_) == 1 else 's'} not"
    return told + (f"; {compared.summary}" if compared else "")


# -- small things --------------------------------------------------------------------------------
def _error(code: str, where: str, found: str, why: str, fix: str) -> Finding:
    return Finding(code, "error", where, found, why, fix)


def _where(id_: str, file: str) -> str:
    return f"{id_}, {file}" if file else id_


def _at(file: str, text: SourceText, position: int) -> str:
    line, column = text.line_column(position)
    return f"{file}:{line}:{column}"


def _short(text: str, size: int = 60) -> str:
    return text if len(text) <= size else text[: size - 1].rstrip() + "…"


def _times(count: int) -> str:
    return "nowhere" if count == 0 else f"{count} times"
