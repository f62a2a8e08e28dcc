"""Source accounting: does every word of the record belong to a rule, or to a stated reason?

What must be accounted for, and what no rule quotes and why, is data of the trial
(`sarc:AccountedSection`, `sarc:AccountedPassage`). A design fact's quotation counts like a passage.
Layout accounts for itself: white space, numbers and bullets that begin a line, and punctuation
that ends a word, where no quotation holds them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

from rdflib import Graph
from rdflib.term import Node

from sarc_kb.audit.section import Request, Section
from sarc_kb.audit.source_account import (
    FACT,
    OPEN,
    RULE,
    Account,
    Part,
    Quoted,
    account_of,
    error_of,
    needless,
    open_passages,
    open_spans,
    shortened,
    spot,
    where_of,
)
from sarc_kb.audit.source_report import (
    annotated,
    category_documents,
    coverage_lines,
    percent,
    place_documents,
    place_lines,
    section_document,
    segment_document,
)
from sarc_kb.audit.source_versions import Compared, compare
from sarc_kb.errors import Finding
from sarc_kb.kb import KnowledgeBase
from sarc_kb.namespaces import OA, RDF, RDFS, SARC, local_name
from sarc_kb.rule_check import quote_of, text_quotes
from sarc_kb.source_text import Quote, SourceText, Span

_RULES = ("InclusionCriterion", "ExclusionCriterion", "TreatmentRule", "Clause", "DefinitionRule")
_JUDGED = ("Clause", "DefinitionRule")


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
    account = account_of(text, path.name, quoted, parts)
    findings += account.findings
    if not parts:
        findings.append(
            error_of(
                "SRC001",
                path.name,
                "no section is to be accounted for",
                "nobody can tell whether a rule is missing",
                "describe the sections (sarc:AccountedSection)",
            )
        )
    findings += open_passages(account)
    findings += needless(account)
    compared = None
    if request.against is not None:
        compared = compare(graph, account, parts, request.against)
        findings += compared.findings
    document: dict[str, object] = {
        "record": {"file": path.name, "sha256": hashlib.sha256(raw).hexdigest()},
        "sections": [section_document(account, name, span) for name, span in account.sections],
        "categories": category_documents(account),
        "places": place_documents(account),
        "segments": [segment_document(text, segment) for segment in account.segments],
    }
    if compared is not None:
        document["against"] = compared.document
    lines = [*coverage_lines(account), *place_lines(account), *annotated(account)]
    if compared is not None:
        lines = [*compared.lines, "", *lines]
    return Section(
        "source",
        _summary(account, compared, bool(parts)),
        tuple(lines),
        document,
        tuple(findings),
    )


def _record(graph: Graph) -> tuple[Node, str] | None:
    for node in sorted(graph.subjects(RDF.type, SARC.SourceRecord), key=str):
        name = graph.value(node, SARC.sourceFile)
        if name is not None:
            return node, str(name)
    return None


def _without_record(name: str | None) -> Section:
    fault = error_of(
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
        error_of(
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
) -> tuple[tuple[Quoted, ...], list[Finding]]:
    """Return every quotation with its places, and the faults among them."""
    found: list[Quoted] = []
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
            kind, category, reason = "rule", RULE, label
        elif node in facts:
            kind, category, reason = "fact", FACT, f"{id_}: {label}"
        else:
            named = graph.value(node, SARC.passageCategory)
            category = str(ontology.value(named, SARC.notation) or local_name(str(named)))
            kind, reason = "passage", str(graph.value(node, SARC.because) or "")
        quotes: list[Quote] = []
        for origin in sorted(graph.objects(node, SARC.source), key=lambda o: _key(graph, o)):
            if graph.value(origin, OA.hasSource) != record:
                faults.append(
                    error_of(
                        "SRC004",
                        where_of(id_, files[iri]),
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
                error_of(
                    "SRC007",
                    where_of(id_, files[iri]),
                    "no quotation",
                    "nobody can tell which words it comes from",
                    "quote the words (sarc:source)",
                )
            )
        for quote in quotes:
            places = tuple(text.places(quote))
            found.append(
                Quoted(iri, id_, kind, category, reason, quote, places, judged=node in judged)
            )
            if len(places) != 1:
                where = where_of(id_, files[iri])
                faults.append(_misplaced(where, quote, places, text, file))
    return tuple(found), faults


def _key(graph: Graph, origin: Node) -> str:
    quotes = [quote_of(graph, selector) for selector in text_quotes(graph, origin)]
    return "\n".join(f"{q.exact}\t{q.prefix}\t{q.suffix}" for q in quotes)


def _misplaced(
    where: str, quote: Quote, places: Sequence[Span], text: SourceText, file: str
) -> Finding:
    why = "a rule must lead back to the record's words"
    words = f"“{shortened(quote.exact)}”"
    if places:
        at = ", ".join(spot(file, text, p.start) for p in places)
        return error_of(
            "SRC005",
            where,
            f"the quotation {words} stands {len(places)} times: {at}",
            "nobody can tell which words are meant",
            "add oa:prefix or oa:suffix",
        )
    elsewhere = text.places(Quote(quote.exact))
    if elsewhere:
        at = ", ".join(spot(file, text, p.start) for p in elsewhere)
        context = " and ".join(
            f"{side} “{context}”"
            for side, context in (("after", quote.prefix), ("before", quote.suffix))
            if context
        )
        return error_of(
            "SRC004",
            where,
            f"the quotation {words} stands at {at}, but not {context}",
            why,
            "correct oa:prefix or oa:suffix",
        )
    nearest = text.nearest(quote.exact)
    if nearest is None:
        return error_of(
            "SRC004", where, f"{words} is not in {file}, which is empty", why, "see file"
        )
    return error_of(
        "SRC004",
        where,
        f"the quotation {words} is not in the record; nearest is {spot(file, text, nearest.span.start)},"
        f" where character {nearest.at + 1} differs: quoted “{nearest.quoted}”, printed"
        f" “{nearest.printed}” ({spot(file, text, nearest.position)})",
        why,
        f"copy the words from {file}",
    )


def _parts(graph: Graph) -> tuple[Part, ...]:
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
            Part(
                name,
                quote_of(graph, start) if start is not None else Quote(""),
                quote_of(graph, end) if end is not None else None,
            )
        )
    return tuple(sorted(found, key=lambda p: p.name))


def _summary(account: Account, compared: Compared | None, wanted: bool) -> str:
    open_ = open_spans(account)
    size = sum(span.end - span.start for _, span in account.sections)
    missing = sum(s.span.end - s.span.start for s in account.segments if s.category == OPEN)
    if not wanted or not account.sections:
        told = "no section is accounted for"
    else:
        count = len(account.sections)
        told = (
            f"{percent(size - missing, size)} % of {size} characters in"
            f" {count} section{'' if count == 1 else 's'} accounted for"
        )
        if open_:
            told += f", {len(open_)} passage{'' if len(open_) == 1 else 's'} not"
    return told + (f"; {compared.summary}" if compared else "")
