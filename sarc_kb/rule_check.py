"""Is the rule base itself well-formed? Every fault is found before any patient is read.

Structure is checked with SHACL (`shapes/rule.ttl`); what SHACL cannot see is checked here: terms
nobody declared, quotations that are not in the source, limits in the wrong unit, rules without
cases. The world is closed: an unknown term is a fault, never a remark.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from rdflib import Graph, URIRef
from rdflib.term import Node

from sarc_kb.assessment import KnowledgeBaseInfo
from sarc_kb.engines.shacl_engine import meta_results
from sarc_kb.errors import Finding, RuleBaseError
from sarc_kb.namespaces import OA, OWL, RDF, RDFS, SARC, SH, SKOS, TRIAL_BASE, compact, local_name
from sarc_kb.rules import ANY, EVER, Trial, apply_readings, compile_trial
from sarc_kb.rules.queries import query_faults
from sarc_kb.source_text import Quote, SourceText, fold_space
from sarc_kb.terminology import Terminology
from sarc_kb.turtle_files import parse_files

# Every term of SHACL that rule files may use; what is not here is misspelt or not wanted.
_SHACL_TERMS = {"NodeShape", "targetClass", "and", "or", "message"}
_SELECTING = (
    *("hasSource", "hasSelector", "exact", "prefix", "suffix"),
    *("hasStartSelector", "hasEndSelector"),
)
_OTHER_PREDICATES = {
    *(RDF[n] for n in ("type", "first", "rest")),
    *(RDFS[n] for n in ("label", "comment", "seeAlso", "isDefinedBy", "subClassOf")),
    *(OA[n] for n in _SELECTING),
    *(
        SKOS[n]
        for n in (
            "exactMatch",
            "definition",
            "altLabel",
            "note",
            "prefLabel",
            "closeMatch",
            "notation",
        )
    ),
}
_OTHER_NAMESPACES = ("http://purl.org/dc/terms/", "http://www.w3.org/ns/prov#", str(OWL))
_OTHER_CLASSES = {OA.TextQuoteSelector, OA.RangeSelector, OA.SpecificResource}


class RuleBase(Protocol):
    """What the check reads of a knowledge base."""

    root: Path
    terms: Terminology
    info: KnowledgeBaseInfo

    def trial_folder(self, trial: str) -> Path: ...

    def trial_graph(self, trial: str) -> Graph: ...


@dataclass(frozen=True, slots=True)
class CheckReport:
    """What was checked, and every fault that was found."""

    findings: tuple[Finding, ...]
    summary: str


def check_rule_base(kb: RuleBase, trial: str, *, cases: bool = True) -> CheckReport:
    """Return every fault of one trial's rule base; none means well-formed.

    Without ``cases`` the proof is left out: what remains is what must hold before a patient is
    judged.
    """
    folder = kb.trial_folder(trial)
    findings: list[Finding] = []
    try:
        graph = kb.trial_graph(trial)
    except RuleBaseError as error:
        return CheckReport(error.findings, "not readable")
    try:
        own, proof = _own_files(folder, cases=cases)
    except RuleBaseError as error:
        return CheckReport(error.findings, "not readable")
    # Cases too: a misspelt term would give their patient another record, and prove something else.
    declared = declared_terms(kb)
    subjects = {str(s) for files in (own, proof) for s in files.subjects()}
    for files in (own, proof):
        findings += unknown_terms(files, declared, subjects)
    findings += _structure(kb, own, proof)
    findings += query_faults(kb.root / "shapes")
    source = folder / "source.txt"
    findings += _quotations(own, source)
    findings += _selves(own)
    try:
        readings = apply_readings(graph, {})
        compiled = compile_trial(graph, kb.terms, readings)
    except RuleBaseError as error:
        return CheckReport(tuple(findings) + error.findings, "does not compile")
    for part in compiled.parts:
        findings += list(_references(kb, part))
        findings += list(_units(kb, part))
        if cases:
            findings += list(_cases(part, proof))
        findings += list(_mappings(kb, part))
    if cases:
        findings += list(_register(kb, trial, compiled))
    count = len(set(proof.subjects(RDF.type, SARC.BoundaryCase)))
    rules = 0 if compiled.treatment is None else len(compiled.treatment.criteria)
    also = f" and {rules} treatment rules" if rules else ""
    clauses = {iri for part in compiled.parts for iri in part.clauses}
    summary = (
        f"{len(compiled.criteria)} criteria{also}, {len(clauses)} clauses, {count} cases, "
        f"{len(compiled.ambiguities)} register entries, {len(compiled.questions)} questions; "
        + (f"{len(findings)} faults" if findings else "no fault")
    )
    return CheckReport(tuple(findings), summary)


def _fault(code: str, where: object, found: str, why: str, fix: str) -> Finding:
    return Finding(code, "error", compact(str(where)), found, why, fix)


def _own_files(folder: Path, *, cases: bool) -> tuple[Graph, Graph]:
    files = sorted(folder.rglob("*.ttl"))
    proof = [path for path in files if path.name.endswith(".cases.ttl")]
    rules = [path for path in files if not path.name.endswith(".cases.ttl")]
    return parse_files(rules), parse_files(proof if cases else ())


def declared_terms(kb: RuleBase) -> frozenset[str]:
    """Return every term that the ontology declares."""
    return frozenset(
        str(s) for s in kb.terms.graph.subjects(RDF.type, None) if isinstance(s, URIRef)
    )


def unknown_terms(own: Graph, declared: frozenset[str], subjects: set[str]) -> list[Finding]:
    """Return a fault for every sarc:, sh: and trial: term that nobody declares, and for every
    foreign predicate; ``subjects`` are the nodes that the trial's files describe."""
    found: dict[tuple[str, str], Finding] = {}
    for s, p, o in own:
        for term, role in ((p, "predicate"), (o, "object")):
            if not isinstance(term, URIRef):
                continue
            iri = str(term)
            if iri.startswith(str(SARC)):
                wrong = iri not in declared
            elif iri.startswith(str(SH)):
                wrong = local_name(iri) not in _SHACL_TERMS
            elif iri.startswith(TRIAL_BASE):
                wrong = iri not in subjects
            else:
                wrong = (
                    role == "predicate"
                    and term not in _OTHER_PREDICATES
                    and not iri.startswith(_OTHER_NAMESPACES)
                ) or (
                    p == RDF.type
                    and role == "object"
                    and term not in _OTHER_CLASSES
                    and not iri.startswith(_OTHER_NAMESPACES)
                )
            if wrong:
                found[(str(s), iri)] = _fault(
                    "RULE010",
                    _owner(own, s),
                    f"unknown term {compact(iri)}",
                    "an unknown term is ignored in silence by every processor",
                    "correct the spelling, or declare it",
                )
    return [found[k] for k in sorted(found)]


def _owner(graph: Graph, node: Node) -> Node | str:
    """Return the named thing that a nested node belongs to."""
    seen: set[Node] = set()
    while not isinstance(node, URIRef):
        seen.add(node)
        above = next((s for s in graph.subjects(None, node) if s not in seen), None)
        if above is None:
            return "a nested node"
        node = above
    return node


def _structure(kb: RuleBase, own: Graph, cases: Graph) -> list[Finding]:
    """Faults that shapes/rule.ttl finds over rules, cases and the ontology's declarations."""
    data = Graph()
    for graph in (own, cases):
        for triple in graph:
            data.add(triple)
    for cls in (SARC.Axis, SARC.Anchor, SARC.Scope):
        for s in kb.terms.graph.subjects(RDF.type, cls):
            data.add((s, RDF.type, cls))
    for s in kb.terms.graph.subjects(RDF.type, SARC.DerivedAxis):
        data.add((s, RDF.type, SARC.Axis))
    shapes = Graph().parse(kb.root / "shapes" / "rule.ttl", format="turtle")
    found = []
    for focus, path, message, value in meta_results(data, shapes):
        what = f"{compact(path)}: " if path else ""
        shown = f" (found {compact(value)})" if value else ""
        found.append(
            _fault(
                "RULE011",
                focus,
                f"{what}{message}{shown}",
                "shapes/rule.ttl says what a well-formed rule is",
                "see docs/rule-language.md",
            )
        )
    return sorted(set(found), key=lambda f: (f.where, f.found))


def text_quotes(own: Graph, origin: Node) -> list[Node]:
    """Return the text-quote selectors of what a rule names as its source: one, or the two ends of
    a range."""
    selector = own.value(origin, OA.hasSelector)
    if selector is None:
        return []
    ends = [own.value(selector, OA[n]) for n in ("hasStartSelector", "hasEndSelector")]
    return [end for end in ends if end is not None] or [selector]


def quote_of(own: Graph, selector: Node) -> Quote:
    """Return what a text-quote selector quotes."""
    exact, prefix, suffix = (
        fold_space(str(own.value(selector, OA[n]) or "")) for n in ("exact", "prefix", "suffix")
    )
    return Quote(exact, prefix, suffix)


def _quotations(own: Graph, source: Path) -> list[Finding]:
    if not source.exists():
        return [
            _fault(
                "RULE012",
                source.name,
                "no source record",
                "every rule quotes it",
                "put the record beside trial.ttl",
            )
        ]
    text = SourceText(source.read_text(encoding="utf-8"))
    found = []
    selected = [
        (node, selector)
        for node, origin in own.subject_objects(SARC.source)
        for selector in text_quotes(own, origin)
    ]
    for node, selector in selected:
        quote = quote_of(own, selector)
        exact = quote.exact
        places = text.places(quote)
        if not places:
            found.append(
                _fault(
                    "RULE013",
                    node,
                    f"the quotation “{exact[:60]}…” is not in the source at that place",
                    "a rule must lead back to the protocol's words",
                    "copy the words from source.txt",
                )
            )
        elif len(places) > 1:
            found.append(
                _fault(
                    "RULE014",
                    node,
                    f"the quotation “{exact[:60]}” stands {len(places)} times in the source",
                    "nobody can tell which sentence is meant",
                    "add oa:prefix or oa:suffix",
                )
            )
    for node in set(own.subjects(RDF.type, SARC.Ambiguity)):
        for passage in own.objects(node, SARC.passage):
            if fold_space(str(passage)) not in text.folded:
                found.append(
                    _fault(
                        "RULE013",
                        node,
                        "the passage is not in the source",
                        "an ambiguity quotes the words it is about",
                        "copy the words from source.txt",
                    )
                )
    return sorted(found, key=lambda f: f.where)


def _selves(own: Graph) -> list[Finding]:
    """Faults where a rule that must name itself names another."""
    found = []
    for name in ("attestedAs", "attested", "notDenied"):
        for s, o in own.subject_objects(SARC[name]):
            if o not in (s, SARC.NotAttestable):
                found.append(
                    _fault(
                        "RULE015",
                        s,
                        f"sarc:{name} names {compact(str(o))}",
                        "answers about one rule would decide another",
                        "name the rule itself",
                    )
                )
    for cls in (SARC.InclusionCriterion, SARC.ExclusionCriterion, SARC.TreatmentRule):
        for s in own.subjects(RDF.type, cls):
            notation = str(own.value(s, SARC.notation) or "")
            if local_name(str(s)) != notation:
                found.append(
                    _fault(
                        "RULE016",
                        s,
                        f"notation {notation!r}",
                        "the id in reports must be the id in the IRI",
                        "make them the same",
                    )
                )
    seen: dict[str, str] = {}
    for s, o in own.subject_objects(SARC.notation):
        if (s, RDF.type, SH.NodeShape) in own:
            if str(o) in seen and seen[str(o)] != str(s):
                found.append(
                    _fault(
                        "RULE016",
                        s,
                        f"notation {o} is taken",
                        "an id names one rule",
                        "choose another",
                    )
                )
            seen[str(o)] = str(s)
    return found


def _references(kb: RuleBase, trial: Trial) -> Iterator[Finding]:
    """Faults where a name leads nowhere: sets, windows, qualifiers, anchors, questions."""
    terms = kb.terms
    for clause in trial.clauses.values():
        for role in (clause.role, clause.second):
            if role is None:
                continue
            if role.window != EVER and role.window not in trial.windows:
                yield _fault(
                    "RULE017",
                    clause.iri,
                    f"no window {compact(role.window)}",
                    "nothing would be selected",
                    "define it",
                )
            if role.qualifier != ANY and role.qualifier not in trial.qualifiers:
                yield _fault(
                    "RULE017",
                    clause.iri,
                    f"no qualifier {compact(role.qualifier)}",
                    "nothing would be selected",
                    "define it",
                )
            for name in (role.concept_set, role.accepted):
                if (
                    name != ANY
                    and name not in trial.sets
                    and not terms.known(name)
                    and not _derived(trial, name)
                ):
                    yield _fault(
                        "RULE017",
                        clause.iri,
                        f"no term or set {compact(name)}",
                        "nothing would be selected",
                        "define it",
                    )
        if (
            clause.settled_by is not None
            and clause.settled_by not in terms.scopes.values()
            and not _settles(trial, clause.settled_by)
        ):
            yield _fault(
                "RULE017",
                clause.iri,
                f"no scope {compact(clause.settled_by)}",
                "silence could never be settled",
                "use a scope of the ontology, or one that a sarc:Settling grants",
            )
    for concept_set in trial.sets.values():
        for member in (*concept_set.members, *concept_set.excluding):
            if not terms.known(member) and not _derived(trial, member):
                yield _fault(
                    "RULE017",
                    concept_set.iri,
                    f"no term {compact(member)}",
                    "the set would lack it in silence",
                    "define it",
                )
    for window in trial.windows.values():
        if window.anchor not in trial.anchors:
            yield _fault(
                "RULE017",
                window.iri,
                f"no anchor {compact(window.anchor)}",
                "the window could not be worked out",
                "define it",
            )
    for question in trial.questions:
        for covered in question.covers:
            if covered not in trial.clauses:
                yield _fault(
                    "RULE017",
                    question.iri,
                    f"no clause {compact(covered)}",
                    "the answer would clear nothing",
                    "name a clause",
                )
            elif not trial.clauses[covered].attestable:
                yield _fault(
                    "RULE018",
                    question.iri,
                    f"{trial.clauses[covered].id} cannot be cleared by an answer",
                    "only the record decides it",
                    "leave it out, or make the clause attestable",
                )
    asked = {c for q in trial.questions for c in q.covers}
    # What is judged again is asked where it is judged first.
    asked |= {c.compares for c in trial.criteria if c.compares}
    for clause in trial.clauses.values():
        if clause.attestable and clause.iri not in asked:
            yield _fault(
                "RULE018",
                clause.iri,
                "attestable, but no question asks it",
                "nobody would be asked",
                "add a question, or make it not attestable",
            )


def _derived(trial: Trial, name: str) -> bool:
    return any(name in (d.iri, d.gives) for d in trial.derivations) or any(
        name in (s.dose, s.change, s.daily, s.pause) or name in {level.iri for level in s.levels}
        for s in (trial.treatment or trial).series  # sets are shared by both parts
    )


def _unit_of(kb: RuleBase, trial: Trial, name: str) -> str | None:
    """Return the canonical unit of the values of a term or of a derived fact; None without one."""
    quantity = kb.terms.quantity_of(name)
    if quantity is not None:
        return quantity.unit
    for series in trial.series:
        if name == series.dose:
            return _unit_of(kb, trial, series.source)
        if name == series.daily:
            return "1"
        if name == series.pause:
            return ""
    for rule in trial.derivations:
        if name == rule.gives and rule.kind == "IntervalBetween":
            return ""
        if name == rule.gives and rule.kind == "Difference":
            return _unit_of(kb, trial, rule.operands[0])
    return None


def _settles(trial: Trial, scope: str) -> bool:
    return any(scope in d.settles for d in trial.derivations)


def _units(kb: RuleBase, trial: Trial) -> Iterator[Finding]:
    for clause in trial.clauses.values():
        for role in (clause.role, clause.second):
            if role is None or not role.bounds.used:
                continue
            measured = next(
                (
                    d.measured_in
                    for d in trial.derivations
                    if d.iri == role.concept_set and d.measured_in
                ),
                None,
            )
            if measured is not None:
                continue
            units = {
                unit
                for m in trial.set_of(role.concept_set).members
                if (unit := _unit_of(kb, trial, m)) is not None
            }
            if units != {clause.unit}:
                yield _fault(
                    "RULE019",
                    clause.iri,
                    f"limit in {clause.unit or 'no unit'}, values in {', '.join(sorted(units)) or 'no unit'}",
                    "a limit is compared with values in the canonical unit",
                    "write the limit in the canonical unit, and name it in sarc:unit",
                )


# What is only told has two outcomes; a treatment outcome stands for one of the three others.
_TOLD = {
    "NotRuled": ("Conformant", "NotRuled"),
    "Discretion": ("Conformant", "Permitted"),
    "Agreement": ("Conformant", "Deviation"),
}
_KLEENE = {
    "Conformant": "Pass",
    "Permitted": "Pass",
    "Violation": "Fail",
    "Deviation": "Fail",
    "NotYetApplicable": "Undetermined",
}


def _cases(trial: Trial, cases: Graph) -> Iterator[Finding]:
    """Faults in the proof: a clause without a case of each outcome that the record decides."""
    by_rule: dict[str, list[tuple[str, bool]]] = {}
    for case in cases.subjects(RDF.type, SARC.BoundaryCase):
        rule = str(cases.value(case, SARC.forRule))
        patient = cases.value(case, SARC.patient)
        answered = any(
            (fact, RDF.type, SARC.Attestation) in cases
            for fact in cases.objects(patient, SARC.fact)
        )
        by_rule.setdefault(rule, []).append(
            (local_name(str(cases.value(case, SARC.expected))), answered)
        )
    told = {c.iri: _TOLD[c.modality] for c in trial.criteria if c.modality in _TOLD}
    for rule, words in told.items():
        for word in words:
            if not any(o == word for o, _ in by_rule.get(rule, ())):
                yield _fault(
                    "RULE021",
                    rule,
                    f"no case that expects {word}",
                    "an outcome that no case reaches is not shown to be reachable",
                    "write the case from the source sentence",
                )
    for clause in trial.clauses.values():
        if clause.iri in told:
            continue
        given = [(_KLEENE.get(o, o), a) for o, a in by_rule.get(clause.iri, ())]
        judgement = clause.component == "attested" or clause.text.executability == "NeedsJudgement"
        never = (URIRef(clause.iri), SARC.neverFailsBecause, None) in trial.graph
        for outcome in ("Pass", "Undetermined") if never else ("Pass", "Fail", "Undetermined"):
            if not any(o == outcome and (judgement or not answered) for o, answered in given):
                yield _fault(
                    "RULE021",
                    clause.iri,
                    f"no case that expects {outcome.lower()}"
                    + ("" if judgement else " on recorded data"),
                    "an outcome that no case reaches is not shown to be reachable",
                    "write the case from the source sentence",
                )
    for criterion in trial.criteria:
        if criterion.root in trial.joins and criterion.iri not in by_rule:
            yield _fault(
                "RULE021",
                criterion.iri,
                "no case of its own",
                "a join is proven by cases of the whole",
                "write one",
            )


def _mappings(kb: RuleBase, trial: Trial) -> Iterator[Finding]:
    """Faults for named terms that no code leads to and that give no reason."""
    terms = kb.terms
    mapped = {term for rows in terms.mappings.values() for term, _ in rows}
    for clause in trial.clauses.values():
        for role in (clause.role, clause.second):
            if role is None:
                continue
            for member in trial.set_of(role.concept_set).members:
                if _derived(trial, member) or any(member in terms.up(t) for t in mapped):
                    continue
                if (URIRef(member), SARC.unmappedBecause, None) in terms.graph or (
                    URIRef(member),
                    SARC.unmappedBecause,
                    None,
                ) in trial.graph:
                    continue
                yield _fault(
                    "RULE022",
                    clause.iri,
                    f"no code leads to {terms.label(member)}",
                    "no record in codes could ever decide the clause",
                    "map a code, or say why there is none (sarc:unmappedBecause)",
                )


def _register(kb: RuleBase, name: str, trial: Trial) -> Iterator[Finding]:
    """Faults in the register: a reading that changes nothing or does not compile."""
    entries = {a.id for a in trial.ambiguities}
    for clause in trial.clauses.values():
        for resolved in clause.text.resolves:
            if resolved not in entries:
                yield _fault(
                    "RULE023",
                    clause.iri,
                    f"resolves {resolved}, which is not in the register",
                    "the doubt has no readings",
                    "add the entry",
                )
    for entry in trial.ambiguities:
        node = URIRef(entry.iri)
        for reading, _ in entry.readings:
            if not reading:
                yield _fault(
                    "RULE023",
                    entry.iri,
                    "a reading without a notation",
                    "nobody could choose it",
                    "describe the reading and give it a notation",
                )
                continue
            if reading == entry.default:
                continue
            nodes = [
                r
                for r in trial.graph.objects(node, SARC.hasReading)
                if str(trial.graph.value(r, SARC.notation)) == reading
            ]
            if any((r, SARC.notRunnableBecause, None) in trial.graph for r in nodes):
                continue
            if any((r, SARC.override, None) not in trial.graph for r in nodes):
                if (node, SARC.touches, None) not in trial.graph:
                    yield _fault(
                        "RULE023",
                        entry.iri,
                        f"reading {reading} changes nothing",
                        "a reading must be runnable",
                        "give it overrides, or say why it has none",
                    )
                continue
            graph = kb.trial_graph(name)
            try:
                chosen = apply_readings(graph, {entry.id: reading})
                compile_trial(graph, kb.terms, chosen)
            except RuleBaseError as error:
                yield _fault(
                    "RULE023",
                    entry.iri,
                    f"reading {reading} does not compile: {error.findings[0].found}",
                    "a reading must be runnable",
                    "correct its overrides",
                )


STAMP = "shapes/checked.sha256"
"""Where a rule base keeps the hash of the content in which the check found no fault."""


def stamp_path(kb: RuleBase) -> Path:
    """Return the file that names the content for which the check found no fault."""
    return kb.root / STAMP


def ensure_checked(kb: RuleBase, trial: str) -> None:
    """Check the rule base before any patient is read, unless exactly this content was checked.

    Raises:
        RuleBaseError: it has faults; all of them are in the error.
    """
    stamp = stamp_path(kb)
    if (
        stamp.exists()
        and stamp.read_text(encoding="ascii", errors="replace").strip() == kb.info.sha256
    ):
        return
    report = check_rule_base(kb, trial, cases=False)
    if report.findings:
        raise RuleBaseError(*report.findings)
