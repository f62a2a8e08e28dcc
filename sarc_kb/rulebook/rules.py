"""Every rule of a trial as the facts of one page.

Also the rules that only another reading of the register uses; they are compiled under the first
reading that does, and say so.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from rdflib import Graph, URIRef

from sarc_kb.kb import KnowledgeBase
from sarc_kb.namespaces import RDF, SARC, local_name
from sarc_kb.readiness import Elements
from sarc_kb.reports.rule_report import clause_line
from sarc_kb.rule_check import quote_of, text_quotes
from sarc_kb.rulebook.named import window_words
from sarc_kb.rules import ANY, EVER, Clause, Criterion, Role, Trial
from sarc_kb.rules.model import GAP
from sarc_kb.terminology import Terminology

# Nobody needs to be told more than what a component asks for; the rule language has the rest.
_READS = {
    "latest": "The latest one counts.",
    "some": "There is at least one.",
    "none": "There is none.",
    "noPair": "No two of them lie that close together.",
    "eachHas": "Each has a partner that close to it.",
    "attested": "A person says so; no record decides it.",
}


@dataclass(frozen=True, slots=True)
class Node:
    """One node of a tree of clauses; ``operator`` is ``and`` or ``or`` for a join, else empty."""

    iri: str
    id: str
    label: str
    operator: str
    line: str
    children: tuple[Node, ...] = ()


@dataclass(frozen=True, slots=True)
class Parameter:
    """One thing that a clause says, with the things of the book that it names."""

    name: str
    text: str
    named: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Need:
    """Something a record must say, and where FHIR R4 and OMOP CDM 5.4 keep it."""

    what: str
    fhir: str
    omop: str


@dataclass(frozen=True, slots=True)
class Limit:
    """A number of a clause, by the name of its property and as an option that sets it."""

    name: str
    number: str
    unit: str


@dataclass(frozen=True, slots=True)
class Asked:
    """What a clause asks of a record; empty for what has no parameters of its own. ``reads``: the
    IRIs of the sets of terms and the qualifiers that it names."""

    component: str = ""
    words: str = ""
    parameters: tuple[Parameter, ...] = ()
    needs: tuple[Need, ...] = ()
    limits: tuple[Limit, ...] = ()
    reads: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Rule:
    """One criterion, treatment rule, clause, join or definition.

    ``tone``: inclusion, exclusion, treatment or definition. ``trial``: the part that it was
    compiled in. ``under``: a reading of the register that uses it; None if it is in force.
    """

    iri: str
    id: str
    tone: str
    kind: str
    label: str
    quotes: tuple[str, ...]
    locator: str
    interpretation: str
    executability: str
    modality: str
    message: str
    remedy: str
    resolves: tuple[str, ...]
    file: str
    line: str
    tree: Node | None
    judges_again: str | None
    due: tuple[str, ...]
    asks: Asked
    part_of: tuple[str, ...]
    under: tuple[str, str] | None
    trial: Trial

    @property
    def is_whole(self) -> bool:
        """Whether it is one of the protocol's numbered rules, not a part of one."""
        return not self.part_of


def words_of(name: str) -> str:
    """Return a name in camel case as words.

    >>> words_of("NeedsJudgement")
    'needs judgement'
    """
    return "".join(f" {c.lower()}" if c.isupper() else c for c in name).strip()


def duration_words(minutes: int) -> str:
    """Return a number of minutes in the largest unit in which it is whole.

    >>> duration_words(30), duration_words(-1440), duration_words(0)
    ('30 minutes', '-1 day', '0 minutes')
    """
    units = ((1440, "day"), (60, "hour"), (1, "minute"))
    size, unit = next(u for u in units if u[0] == 1 or (minutes and minutes % u[0] == 0))
    count = minutes // size
    return f"{count} {unit}{'' if abs(count) == 1 else 's'}"


def read_rules(kb: KnowledgeBase, trial: Trial) -> tuple[Rule, ...]:
    """Return every rule, each criterion before its parts, in the order of the trial; after them
    what only other readings of the register use."""
    files = _files(kb.trial_folder(trial.id.upper()))
    reading = _Reading(kb.terms, files)
    for part in trial.parts:
        for criterion in part.criteria:
            reading.criterion(part, criterion)
    if trial.treatment is not None:
        reading.definitions(trial.treatment)
    for name in _readings_of(trial, _unused(trial, reading.found)):
        if not _unused(trial, reading.found):
            break
        other = kb.compile(trial.id, readings=dict((name,)))
        for part in other.parts:
            for criterion in part.criteria:
                reading.criterion(part, criterion, under=name)
    return tuple(reading.found.values())


def _unused(trial: Trial, found: Mapping[str, Rule]) -> list[str]:
    """Return the clauses that no rule in force uses."""
    return sorted(
        str(c) for c in trial.graph.subjects(RDF.type, SARC.Clause) if str(c) not in found
    )


def _readings_of(trial: Trial, clauses: list[str]) -> list[tuple[str, str]]:
    """Return the readings that are no default: first those of entries that the clauses name."""
    named = {
        local_name(str(entry))
        for clause in clauses
        for entry in trial.graph.objects(URIRef(clause), SARC.resolves)
    }
    found = [
        (entry.id, reading)
        for entry in trial.ambiguities
        for reading, _ in entry.readings
        if reading != entry.default
    ]
    barred = {
        (local_name(str(entry)), str(trial.graph.value(reading, SARC.notation)))
        for reading in trial.graph.subjects(SARC.notRunnableBecause)
        for entry in trial.graph.subjects(SARC.hasReading, reading)
    }
    return sorted((r for r in found if r not in barred), key=lambda r: r[0] not in named)


def _files(folder: Path) -> dict[str, str]:
    """Return which file of the trial describes a thing, by its path in the folder."""
    found: dict[str, str] = {}
    for path in sorted(folder.rglob("*.ttl")):
        if not path.name.endswith(".cases.ttl"):
            for subject in Graph().parse(path, format="turtle").subjects(unique=True):
                if isinstance(subject, URIRef):
                    found.setdefault(str(subject), path.relative_to(folder).as_posix())
    return found


class _Reading:
    """The rules found so far."""

    def __init__(self, terms: Terminology, files: Mapping[str, str]) -> None:
        self.terms, self.files = terms, files
        self.found: dict[str, Rule] = {}
        self._elements: dict[int, Elements] = {}

    def criterion(
        self, part: Trial, criterion: Criterion, under: tuple[str, str] | None = None
    ) -> None:
        """Add a criterion and its parts, if they are new; ``under``: the reading they are from."""
        made: list[Rule] = []
        if criterion.iri not in self.found:
            made.append(self._criterion(part, criterion))
        for node in _nodes(part, criterion.root):
            if node not in self.found and node != criterion.iri:
                made.append(
                    self._join(part, criterion, node)
                    if node in part.joins
                    else self._clause(part, criterion, part.clauses[node])
                )
        for rule in made:
            self.found[rule.iri] = replace(rule, under=under)

    # -- kinds of rules ------------------------------------------------------------------------
    def _criterion(self, part: Trial, criterion: Criterion) -> Rule:
        clause = part.clauses.get(criterion.root) if criterion.root == criterion.iri else None
        text = criterion.text
        treats = part.course is not None
        kind = (
            f"treatment rule: {words_of(criterion.modality)}"
            if treats
            else f"{criterion.kind} criterion"
        )
        return Rule(
            iri=criterion.iri,
            id=criterion.id,
            tone="treatment" if treats else criterion.kind,
            kind=kind,
            label=text.label,
            quotes=self._quotes(part, criterion.iri) or ((text.quote,) if text.quote else ()),
            locator=text.locator,
            interpretation=text.interpretation,
            executability=words_of(text.executability),
            modality=words_of(criterion.modality),
            message=text.message,
            remedy=text.remedy,
            resolves=text.resolves,
            file=self.files.get(criterion.iri, ""),
            line=self._line(part, criterion, clause),
            tree=None
            if clause is not None or criterion.compares
            else self._tree(part, criterion.root),
            judges_again=criterion.compares,
            due=tuple(part.label(w, self.terms) for w in criterion.due),
            part_of=(),
            under=None,
            trial=part,
            asks=self._of_clause(part, clause),
        )

    def _line(self, part: Trial, criterion: Criterion, clause: Clause | None) -> str:
        if criterion.compares is not None:
            return f"judges {part.clauses[criterion.compares].id} again"
        if clause is not None:
            return clause_line(part, self.terms, clause)
        join = part.joins.get(criterion.root)
        if join is None:
            return clause_line(part, self.terms, part.clauses[criterion.root])
        return ("all of " if join.operator == "and" else "any of ") + ", ".join(
            self._name(part, c) for c in join.children
        )

    def _clause(self, part: Trial, criterion: Criterion, clause: Clause) -> Rule:
        text = clause.text
        treats = part.course is not None
        return Rule(
            iri=clause.iri,
            id=clause.id,
            tone="treatment" if treats else criterion.kind,
            kind="clause",
            label=text.label,
            quotes=self._quotes(part, clause.iri) or ((text.quote,) if text.quote else ()),
            locator=text.locator,
            interpretation=text.interpretation,
            executability=words_of(text.executability),
            modality="",
            message=text.message,
            remedy=text.remedy,
            resolves=text.resolves,
            file=self.files.get(clause.iri, ""),
            line=clause_line(part, self.terms, clause),
            tree=None,
            judges_again=None,
            due=(),
            part_of=(criterion.iri,),
            under=None,
            trial=part,
            asks=self._of_clause(part, clause),
        )

    def _join(self, part: Trial, criterion: Criterion, iri: str) -> Rule:
        join = part.joins[iri]
        graph, node = part.graph, URIRef(iri)
        notes = sorted(" ".join(str(o).split()) for o in graph.objects(node, SARC.interpretation))
        names = sorted(local_name(str(o)) for o in graph.objects(node, SARC.resolves))
        operator = "all of" if join.operator == "and" else "any of"
        return Rule(
            iri=iri,
            id=join.id,
            tone="treatment" if part.course is not None else criterion.kind,
            kind="clauses joined",
            label=join.label,
            quotes=self._quotes(part, iri),
            locator="",
            interpretation=" ".join(notes),
            executability="",
            modality="",
            message="",
            remedy="",
            resolves=tuple(names),
            file=self.files.get(iri, ""),
            line=f"{operator} " + ", ".join(self._name(part, c) for c in join.children),
            tree=self._tree(part, iri),
            judges_again=None,
            due=(),
            part_of=(criterion.iri,),
            under=None,
            trial=part,
            asks=Asked(),
        )

    def definitions(self, part: Trial) -> None:
        """Add the sentences that define something."""
        for definition in part.definitions:
            text = definition.text
            self.found[definition.iri] = Rule(
                iri=definition.iri,
                id=definition.id,
                tone="definition",
                kind=f"definition of {part.label(definition.defines, self.terms)}",
                label=text.label,
                quotes=self._quotes(part, definition.iri),
                locator=text.locator,
                interpretation=text.interpretation,
                executability=words_of(text.executability),
                modality="",
                message=text.message,
                remedy=text.remedy,
                resolves=text.resolves,
                file=self.files.get(definition.iri, ""),
                line=f"defines {part.label(definition.defines, self.terms)}",
                tree=None,
                judges_again=None,
                due=(),
                part_of=(),
                under=None,
                trial=part,
                asks=Asked(),
            )

    # -- what a clause says --------------------------------------------------------------------
    def _of_clause(self, part: Trial, clause: Clause | None) -> Asked:
        if clause is None:
            return Asked()
        roles = [r for r in (clause.role, clause.second) if r is not None]
        named = [iri for r in roles for iri in (r.concept_set, r.accepted, r.qualifier)]
        unit = "" if clause.unit == "1" else clause.unit
        return Asked(
            component=clause.component,
            words=_READS[clause.component],
            parameters=tuple(self._parameters(part, clause)),
            needs=tuple(self._needs(part, clause)),
            limits=tuple(
                Limit(name, number, "min" if name in GAP else unit)
                for name, number in clause.limits.items()
            ),
            reads=tuple(dict.fromkeys(i for i in named if i != ANY)),
        )

    def _parameters(self, part: Trial, clause: Clause) -> Iterator[Parameter]:
        if clause.role is not None:
            yield from self._role(part, clause.role, clause.unit, "")
        if clause.second is not None and clause.gap is not None:
            yield from self._role(part, clause.second, clause.unit, "partner: ")
            least, most = clause.gap
            yield Parameter("apart", f"{duration_words(least)} to {duration_words(most)}")
        if clause.settled_by is not None:
            label = part.label(clause.settled_by, self.terms)
            yield Parameter("silence counts", "once it is complete", ((clause.settled_by, label),))
        asked = [q for q in part.questions if clause.iri in q.covers]
        if clause.attestable:
            for question in asked:
                yield Parameter("or an answer to", "", ((question.iri, f"“{question.text}”"),))
            if not asked:
                yield Parameter("or an answer about", clause.id)

    def _role(self, part: Trial, role: Role, unit: str, before: str) -> Iterator[Parameter]:
        def link(iri: str) -> tuple[tuple[str, str], ...]:
            return ((iri, part.label(iri, self.terms)),)

        yield Parameter(f"{before}of", "", link(role.concept_set))
        if role.accepted != ANY:
            yield Parameter(f"{before}result", "", link(role.accepted))
        if role.bounds.used:
            yield Parameter(f"{before}value", role.bounds.text(unit))
        if role.qualifier != ANY:
            yield Parameter(f"{before}with", "", link(role.qualifier))
        if role.window != EVER:
            reach = window_words(part.windows[role.window], part, self.terms)
            yield Parameter(f"{before}when", reach, link(role.window))

    def _needs(self, part: Trial, clause: Clause) -> Iterator[Need]:
        elements = self._elements.setdefault(id(part), Elements(part, self.terms))
        told: set[tuple[str, str, str]] = set()

        def need(what: str, key: tuple[str, str, str]) -> Iterator[Need]:
            fhir, omop = elements.of(key)
            if (fhir or omop) and (what, fhir, omop) not in told:
                told.add((what, fhir, omop))
                yield Need(what, fhir, omop)

        for role in (clause.role, clause.second):
            if role is None:
                continue
            about = role.concept_set
            yield from need(part.label(about, self.terms), ("code", about, ""))
            if role.bounds.used:
                yield from need("its value", ("value", about, ""))
            if role.bounds.used and clause.unit not in ("", "1"):
                yield from need("its unit", ("unit", about, ""))
            if role.window != EVER:
                yield from need("its date", ("date", about, ""))
            qualifier = part.qualifiers.get(role.qualifier)
            for required in qualifier.requires if qualifier is not None else ():
                label = self.terms.label(required.axis)
                yield from need(f"its {label}", ("attribute", about, required.axis))
        if clause.settled_by is not None:
            scope = part.label(clause.settled_by, self.terms)
            yield from need(f"that {scope} is complete", ("statement", clause.settled_by, ""))
        if clause.attestable:
            yield from need("an answer", ("answer", clause.iri, ""))

    # -- small things --------------------------------------------------------------------------
    def _name(self, part: Trial, iri: str) -> str:
        return part.joins[iri].id if iri in part.joins else part.clauses[iri].id

    def _tree(self, part: Trial, iri: str) -> Node:
        if iri in part.joins:
            join = part.joins[iri]
            children = tuple(self._tree(part, c) for c in join.children)
            return Node(iri, join.id, join.label, join.operator, "", children)
        clause = part.clauses[iri]
        return Node(iri, clause.id, clause.text.label, "", clause_line(part, self.terms, clause))

    def _quotes(self, part: Trial, iri: str) -> tuple[str, ...]:
        """Return the words of the record, in their order there as far as the graph tells."""
        graph = part.graph
        found = [
            quote_of(graph, selector).exact
            for origin in graph.objects(URIRef(iri), SARC.source)
            for selector in text_quotes(graph, origin)
        ]
        return tuple(sorted(dict.fromkeys(q for q in found if q)))


def _nodes(part: Trial, root: str) -> Iterator[str]:
    """Yield the joins and clauses of a tree, each before what is below it, each once."""
    seen: set[str] = set()
    stack = [root]
    while stack:
        node = stack.pop()
        if node not in seen:
            seen.add(node)
            yield node
            stack.extend(reversed(part.children(node)))
