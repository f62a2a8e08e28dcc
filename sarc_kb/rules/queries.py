"""The queries of shapes and components: they stay at home, and all they ask for hangs together.

Each is parsed; no text is searched.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path

from rdflib import BNode, Graph, Variable
from rdflib.plugins.sparql.parser import parseQuery
from rdflib.plugins.sparql.parserutils import CompValue
from rdflib.term import Node

from sarc_kb.errors import Finding, RuleBaseError
from sarc_kb.namespaces import SH, compact, local_name
from sarc_kb.rules.form import owner
from sarc_kb.turtle_files import parse_files

_QUERIES = ("select", "ask", "construct", "update")
_REACHING_OUT = {
    "ServiceGraphPattern": "SERVICE",
    "DatasetClause": "FROM",
}
_BOUND = frozenset({"this", "currentShape", "shapesGraph"})
"""What SHACL binds before any query is run (SHACL 5.3.1); an ASK has $value besides."""
_BINDS_NOTHING = ("Filter", "MinusGraphPattern")

Names = frozenset[str]
"""The variables, and blank nodes, that stand together in a pattern."""


def query_faults(folder: Path) -> list[Finding]:
    """Return the faults of the queries of the shapes in ``folder`` and of its components: what is
    no query, what reaches beyond the one graph that it is put to, and patterns that nothing ties to
    the patient. The files of trials hold none: SHACL's words for them are unknown there."""
    found: list[Finding] = []
    for path in sorted([*folder.glob("*.ttl"), *folder.glob("components/*.ttl")]):
        try:
            graph = parse_files([path])
        except RuleBaseError as error:
            found += error.findings
            continue
        file = path.read_text(encoding="utf-8")
        for name in _QUERIES:
            queries = [
                (file.find(str(query)), compact(str(owner(graph, shape))), str(query), shape)
                for shape, query in graph.subject_objects(SH[name])
            ]
            for _, told, text, shape in sorted(queries):
                if what := _reach(text):
                    found.append(
                        _fault(
                            "RULE026",
                            f"{path.name}{_line(file, text)} {told}",
                            what,
                            "the rules are put to one patient's graph, and to nothing else",
                            "ask only for what the prepared patient has",
                        )
                    )
                elif alone := _alone(text, _bound(graph, shape, name)):
                    found.append(
                        _fault(
                            "RULE027",
                            f"{path.name}{_line(file, text, alone[0])} {told}",
                            f"a query that ties {', '.join(alone)} to nothing of the patient",
                            "each such pattern is multiplied with all that the others find",
                            "lead from $this or a parameter to it, by variables that they share",
                        )
                    )
    return found


def _line(file: str, text: str, variable: str = "") -> str:
    """Return ``:`` and the line of ``file`` where a query stands, or a variable in it; nothing where
    the query is written with escapes."""
    at = file.find(text)
    if at < 0:
        return ""
    inside = re.search(rf"[?$]{re.escape(variable[1:])}\b", text) if variable else None
    return f":{file.count(chr(10), 0, at + (inside.start() if inside else 0)) + 1}"


@cache
def _parsed(text: str) -> object:
    return parseQuery(text)


@cache
def _reach(text: str) -> str | None:
    try:
        parsed = _parsed(text)
    except RecursionError:
        return "a query nested too deep"
    except Exception:  # whatever the parser of rdflib raises
        return "a query that cannot be read"
    names = {_REACHING_OUT.get(n.name) for n in _nodes(parsed) if isinstance(n, CompValue)} - {None}
    return f"a query with {', '.join(sorted(map(str, names)))}" if names else None


def _nodes(parsed: object) -> Iterator[object]:
    """Yield everything in a parsed query."""
    todo = [parsed]
    while todo:
        node = todo.pop()
        yield node
        if isinstance(node, CompValue):
            todo.extend(node.values())
        elif not isinstance(node, str) and hasattr(node, "__iter__"):
            todo.extend(node)


# -- patterns that hang together -------------------------------------------------------------------
def _bound(graph: Graph, shape: Node, kind: str) -> Names:
    """Return the variables that have a value before the query of ``shape`` is run."""
    paths = [
        path
        for component in graph.subjects(None, shape)
        for parameter in graph.objects(component, SH.parameter)
        for path in graph.objects(parameter, SH.path)
    ]
    value = {"value"} if kind == "ask" else set()
    return _BOUND | value | {local_name(str(path)) for path in paths}


@cache
def _alone(text: str, bound: Names) -> tuple[str, ...]:
    """Return a variable of each group of triple patterns that shares none with ``bound``, whether
    by itself or by way of others."""
    found = (n for group in _groups(_parsed(text)) for n in _alone_in(group, bound, ()))
    return tuple(dict.fromkeys(found))


def _alone_in(group: CompValue, bound: Names, around: Iterable[Names]) -> Iterator[str]:
    """Yield as `_alone` does, of a group of patterns with those within it; ``around``: what it is
    joined with."""
    patterns, ties, within = _parts(group)
    joined = [*around, *patterns, *ties]
    there = [(part, _whole(part) if binds else []) for part, binds in within]
    everything = [*joined, *(p for _, theirs in there for p in theirs)]
    tied = _tied(bound, everything)
    rest = [p for p in patterns if p and not p & tied]
    while rest:
        names = _tied(rest[0], everything)
        rest = [p for p in rest if not p & names]
        yield min((f"?{n}" for n in names if not n.startswith("_:")), default="[]")
    for number, (alternatives, _) in enumerate(there):
        # The branches of a UNION are no company for each other.
        others = [p for k, (_, theirs) in enumerate(there) if k != number for p in theirs]
        for alternative in alternatives:
            yield from _alone_in(alternative, bound, [*joined, *others])


def _tied(names: Names, patterns: Iterable[Names]) -> Names:
    """Return ``names`` with all that ``patterns`` lead to from them."""
    rest = list(patterns)
    while near := [p for p in rest if p & names]:
        rest = [p for p in rest if not p & names]
        names = names.union(*near)
    return names


_Within = list[tuple[list[CompValue], bool]]


def _parts(group: CompValue) -> tuple[list[Names], list[Names], _Within]:
    """Return the triple patterns of a group, what else ties variables to one another (BIND and
    VALUES; a FILTER only picks from the product), and the groups within: the branches of each, and
    whether they give variables a value."""
    patterns: list[Names] = []
    ties: list[Names] = []
    within: _Within = []
    if "part" not in group:
        return patterns, ties, within
    for part in group["part"]:
        if part.name == "TriplesBlock":
            for same in part["triples"]:
                terms = list(same)
                patterns += (_names(terms[n : n + 3]) for n in range(0, len(terms), 3))
        elif part.name in ("Bind", "InlineData"):
            ties.append(_names(part))
        else:
            within.append((list(_groups(part.values())), part.name not in _BINDS_NOTHING))
    return patterns, ties, within


def _whole(alternatives: Iterable[CompValue]) -> list[Names]:
    """Return all patterns and ties in groups that give variables a value."""
    found: list[Names] = []
    for group in alternatives:
        patterns, ties, within = _parts(group)
        found += [*patterns, *ties]
        for part, binds in within:
            found += _whole(part) if binds else ()
    return found


def _groups(node: object) -> Iterator[CompValue]:
    """Yield the groups of patterns in ``node``, not those within them."""
    if isinstance(node, CompValue):
        if node.name == "GroupGraphPatternSub":
            yield node
        else:
            yield from _groups(node.values())
    elif not isinstance(node, str) and hasattr(node, "__iter__"):
        for part in node:
            yield from _groups(part)


def _names(node: object) -> Names:
    return frozenset(
        f"_:{n}" if isinstance(n, BNode) else str(n)
        for n in _nodes(node)
        if isinstance(n, Variable | BNode)
    )


def _fault(code: str, where: str, found: str, why: str, fix: str) -> Finding:
    return Finding(code, "error", where, found, why, fix)
