"""Is a rule base fit to be walked through? Lists end, and joins are shallow.

All that reads rules relies on it, so it is looked at as soon as the files are read.
"""

from __future__ import annotations

from collections.abc import Iterator

from rdflib import BNode, Graph
from rdflib.term import Node

from sarc_kb.errors import Finding
from sarc_kb.namespaces import RDF, SH, compact

MAX_JOINS = 15
"""How deep joins may be nested; an author's are two or three deep, and pySHACL gives up at 30."""


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
        owner(graph, node),
        what,
        "what stands in it would depend on who reads it",
        "write the list with ( … )",
    )


def owner(graph: Graph, node: Node) -> Node:
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


def _fault(code: str, where: object, found: str, why: str, fix: str) -> Finding:
    return Finding(code, "error", compact(str(where)), found, why, fix)
