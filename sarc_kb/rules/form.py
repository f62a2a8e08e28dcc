"""Is a rule base fit to be walked through? Lists end, joins are shallow, queries stay at home.

All that reads rules relies on it, so it is looked at as soon as the files are read.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from pathlib import Path

from rdflib import BNode, Graph
from rdflib.plugins.sparql.parser import parseQuery
from rdflib.plugins.sparql.parserutils import CompValue
from rdflib.term import Node

from sarc_kb.errors import Finding, RuleBaseError
from sarc_kb.namespaces import RDF, SH, compact
from sarc_kb.turtle_files import parse_files

MAX_JOINS = 15
"""How deep joins may be nested; an author's are two or three deep, and pySHACL gives up at 30."""
_QUERIES = ("select", "ask", "construct", "update")
_REACHING_OUT = {
    "ServiceGraphPattern": "SERVICE",
    "DatasetClause": "FROM",
}


def form_faults(graph: Graph) -> list[Finding]:
    """Return the faults that would stop whoever walks through ``graph``, or lead them astray."""
    lists = [_list_fault(graph, node, why) for node, why in _broken_lists(graph)]
    # Joins are lists: how deep they are can be told once those are sound.
    return lists or list(_deep_joins(graph))


def _broken_lists(graph: Graph) -> Iterator[tuple[Node, str]]:
    cells = {
        *graph.subjects(RDF.first, None),
        *graph.subjects(RDF.rest, None),
        *(o for o in graph.objects(None, RDF.rest) if o != RDF.nil),
    }
    rests: dict[Node, Node] = {}
    for cell in sorted(cells, key=str):
        for name in ("first", "rest"):
            count = len(set(graph.objects(cell, RDF[name])))
            if count != 1:
                yield cell, f"a list with {count} of rdf:{name} in one place"
                break
        else:
            rests[cell] = next(graph.objects(cell, RDF.rest))
    ends: set[Node] = {RDF.nil, *(cells - rests.keys())}
    for cell in sorted(rests, key=str):
        path: dict[Node, None] = {}
        while cell not in ends and cell not in path:
            path[cell] = None
            cell = rests[cell]
        if cell in path:
            yield cell, "a list that goes in a circle"
        ends.update(path)


def _list_fault(graph: Graph, node: Node, what: str) -> Finding:
    return _fault(
        "RULE024",
        _owner(graph, node),
        what,
        "what stands in it would depend on who reads it",
        "write the list with ( … )",
    )


def _owner(graph: Graph, node: Node) -> Node:
    """Return the named thing that a nested node belongs to, or the node where there is none."""
    seen: set[Node] = set()
    above: Node | None = node
    while isinstance(above, BNode):
        node = above
        seen.add(node)
        found = (s for s in sorted(graph.subjects(None, node), key=str) if s not in seen)
        above = next(found, None)
    return node if above is None else above


def _deep_joins(graph: Graph) -> Iterator[Finding]:
    parts: dict[Node, set[Node]] = {}
    for operator in (SH["and"], SH["or"]):
        for join, head in graph.subject_objects(operator):
            parts.setdefault(join, set()).update(graph.items(head))
    depth = 0
    # From below: first what joins no joins. What is in a circle is never reached, and the compiler
    # tells of it.
    while shallow := {join for join, below in parts.items() if not below & parts.keys()}:
        depth += 1
        if depth > MAX_JOINS:
            yield _fault(
                "RULE025",
                min(shallow, key=str),
                f"joins nested deeper than {MAX_JOINS}",
                "nobody reads such a rule, and processors give up",
                "join the clauses in fewer steps",
            )
            return
        parts = {join: below for join, below in parts.items() if join not in shallow}


def query_faults(folder: Path) -> list[Finding]:
    """Return the queries of the shapes in ``folder`` and of its components that are none, or that
    reach beyond the one graph they are put to. Each is parsed, no text is searched. The files of
    trials hold none: SHACL's words for them are unknown there."""
    found: list[Finding] = []
    for path in sorted([*folder.glob("*.ttl"), *folder.glob("components/*.ttl")]):
        try:
            graph = parse_files([path])
        except RuleBaseError as error:
            found += error.findings
            continue
        for name in _QUERIES:
            for shape, text in graph.subject_objects(SH[name]):
                what = _reach(str(text))
                if what:
                    found.append(
                        _fault(
                            "RULE026",
                            f"{path.name} {compact(str(_owner(graph, shape)))}",
                            what,
                            "the rules are put to one patient's graph, and to nothing else",
                            "ask only for what the prepared patient has",
                        )
                    )
    return found


@cache
def _reach(text: str) -> str | None:
    try:
        parsed = parseQuery(text)
    except RecursionError:
        return "a query nested too deep"
    except Exception:  # whatever the parser of rdflib raises
        return "a query that cannot be read"
    names = {_REACHING_OUT.get(n) for n in _names(parsed)} - {None}
    return f"a query with {', '.join(sorted(map(str, names)))}" if names else None


def _names(parsed: object) -> Iterator[str]:
    todo = [parsed]
    while todo:
        node = todo.pop()
        if isinstance(node, CompValue):
            yield node.name
            todo.extend(node.values())
        elif not isinstance(node, str) and hasattr(node, "__iter__"):
            todo.extend(node)


def _fault(code: str, where: object, found: str, why: str, fix: str) -> Finding:
    return Finding(code, "error", compact(str(where)), found, why, fix)
