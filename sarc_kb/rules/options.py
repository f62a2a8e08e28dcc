"""What a caller may set before rules are compiled: readings of the register, limits of clauses, and
policies; in this order, so that a limit is set as the reading left it and a tolerance is about it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from decimal import Decimal, InvalidOperation
from difflib import get_close_matches

from rdflib import Graph, Literal
from rdflib.collection import Collection
from rdflib.namespace import XSD
from rdflib.term import Node

from sarc_kb.errors import Finding, UsageError
from sarc_kb.namespaces import RDF, SARC, SH, local_name
from sarc_kb.rules.model import BOUNDS, COMPONENTS, GAP, LIMITS, PAIRED_BOUNDS, Bounds, Relaxation

_LARGEST = Decimal(10) ** 9
_NUMBER = re.compile(r"[+-]?[0-9]+(?:\.([0-9]+))?")
_PLACES, _DIGITS = 12, 15
"""Of a limit: rule files have no more places, and every SHACL processor compares so many digits."""


def apply_readings(graph: Graph, readings: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
    """Patch ``graph`` with the chosen readings of the register; return what is now in force.

    ``readings`` maps an entry's id (``A-11``) to a reading's notation.
    Raises:
        UsageError: no such entry or reading, or it cannot be run.
    """
    chosen: list[tuple[str, str]] = []
    entries = {local_name(str(a)): a for a in graph.subjects(RDF.type, SARC.Ambiguity)}
    for name in readings:
        if name not in entries:
            raise UsageError(
                _unknown("--reading", name, "an entry of the register", sorted(entries))
            )
    for name, entry in sorted(entries.items()):
        options = {
            str(graph.value(r, SARC.notation)): r for r in graph.objects(entry, SARC.hasReading)
        }
        default = graph.value(entry, SARC.default)
        notation = readings.get(name)
        if notation is None:
            chosen.append((name, str(graph.value(default, SARC.notation))))
            continue
        if notation not in options:
            raise UsageError(
                _unknown(f"--reading {name}", notation, "a reading of it", sorted(options))
            )
        reading = options[notation]
        refusal = graph.value(reading, SARC.notRunnableBecause)
        if refusal is not None and reading != default:
            raise UsageError(
                Finding(
                    "USE003",
                    "error",
                    f"--reading {name}={notation}",
                    "this reading cannot be run",
                    str(refusal),
                    "choose another reading",
                )
            )
        if reading != default:
            for patch in graph.objects(reading, SARC.override):
                _override(graph, patch)
        chosen.append((name, notation))
    return tuple(chosen)


def _override(graph: Graph, patch: Node) -> None:
    for node in list(graph.objects(patch, SARC.on)):
        parameter = graph.value(patch, SARC.parameter)
        if parameter is None:
            continue
        becomes = graph.value(patch, SARC.becomes)
        values = list(graph.objects(patch, SARC.to))
        old = list(graph.objects(node, parameter))
        graph.remove((node, parameter, None))
        if becomes is not None:
            for value in values or old:
                graph.add((node, becomes, value))
        else:
            for value in values:
                graph.add((node, parameter, value))


def apply_relaxations(graph: Graph, relaxations: Mapping[str, str]) -> tuple[Relaxation, ...]:
    """Set limits of clauses in ``graph`` to other numbers, and return those that are other now.

    ``relaxations`` maps ``CLAUSE:LIMIT`` (``I07a:atLeast``) to a decimal in the clause's unit, for
    the gap of a pair to whole minutes. The limit may become wider or narrower. One set to what it
    is changes nothing and is not returned. Call it after `apply_readings`, whose readings may have
    other limits, and before `apply_policies`, whose tolerances are about the limits set here.

    Raises:
        UsageError: no such clause or limit, no such number, or limits that leave nothing.
    """
    if not relaxations:
        return ()
    rules, clauses = _rules_in_force(graph)
    done: list[Relaxation] = []
    for name, text in relaxations.items():
        clause, _, parameter = name.partition(":")
        node = clauses.get(clause)
        if node is None:
            raise UsageError(_no_clause(graph, name, rules, clauses))
        limits = _limits(graph, node)
        if parameter not in limits:
            raise UsageError(_no_limit(name, clause, parameter, limits, clauses, graph))
        number = _limit(name, text, limits[parameter], whole=parameter in GAP)
        if number != Decimal(limits[parameter]):
            datatype = XSD.integer if parameter in GAP else XSD.decimal
            graph.set((node, SARC[parameter], Literal(f"{number:f}", datatype=datatype)))
            done.append(Relaxation(str(node), clause, parameter, f"{number:f}", limits[parameter]))
    for relaxed in done:
        _refuse_empty(relaxed, _limits(graph, clauses[relaxed.clause]))
    return tuple(done)


def _rules_in_force(graph: Graph) -> tuple[dict[str, list[str]], dict[str, Node]]:
    """Return the ids of the criteria, treatment rules and joins with those of the clauses below
    them, and the clauses that some rule uses."""
    rules: dict[str, list[str]] = {}
    clauses: dict[str, Node] = {}

    def below(node: Node, path: tuple[Node, ...]) -> list[str]:
        name = str(graph.value(node, SARC.notation) or local_name(str(node)))
        again = graph.value(node, SARC.compares)
        if again is None and any((node, SARC[c], None) in graph for c in COMPONENTS):
            clauses[name] = node
            return [name]
        parts = [again] if again is not None else list(_parts(graph, node))
        found = [n for p in parts if p not in path for n in below(p, (*path, node))]
        rules[name] = list(dict.fromkeys(found))
        return rules[name]

    for cls in (SARC.InclusionCriterion, SARC.ExclusionCriterion, SARC.TreatmentRule):
        for node in sorted(set(graph.subjects(RDF.type, cls)), key=str):
            below(node, ())
    return rules, clauses


def _parts(graph: Graph, node: Node) -> Iterator[Node]:
    for operator in (SH["and"], SH["or"]):
        for head in graph.objects(node, operator):
            yield from Collection(graph, head)


def _limits(graph: Graph, clause: Node) -> dict[str, str]:
    """Return the numbers that a clause carries, as they are written."""
    values = {name: graph.value(clause, SARC[name]) for name in LIMITS}
    return {name: f"{Decimal(str(v)):f}" for name, v in values.items() if v is not None}


def _limit(name: str, text: str, old: str, *, whole: bool) -> Decimal:
    """Return the number that ``text`` is.

    Raises:
        UsageError: it is none, or has more places or digits than a limit may have.
    """
    match = _NUMBER.fullmatch(text)
    shown = repr(text if len(text) <= 40 else text[:40] + "…")
    found = why = ""
    if match is None:
        found, why = f"{shown} is not a decimal", "the limit is a number, written in digits"
    elif len(match[1] or "") > _PLACES:
        found, why = f"{shown} has more than {_PLACES} decimal places", "no limit has more"
    elif sum(c.isdigit() for c in text) > _DIGITS:
        found = f"{shown} has more than {_DIGITS} digits"
        why = "SHACL processors would not compare all of them"
    elif whole and (match[1] or "").strip("0"):
        found, why = f"{shown} is not a whole number", "the gap counts minutes"
    if found:
        fix = f"give a number such as {old}"
        raise UsageError(Finding("USE017", "error", f"--relax {name}", found, why, fix))
    number = Decimal(text) + 0  # 0 has no sign
    return number.quantize(Decimal(1)) if whole else number


def _refuse_empty(relaxed: Relaxation, limits: Mapping[str, str]) -> None:
    """Refuse limits between which nothing lies.

    Raises:
        UsageError: they leave nothing.
    """
    numbers = {name: Decimal(number) for name, number in limits.items()}
    group = next(g for g in (BOUNDS, PAIRED_BOUNDS, GAP) if relaxed.parameter in g)
    if group == GAP:
        empty = numbers["gapFrom"] > numbers["gapTo"]
    else:
        empty = Bounds(*map(numbers.get, group)).empty
    if empty:
        raise UsageError(
            Finding(
                "USE018",
                "error",
                f"--relax {relaxed.clause}:{relaxed.parameter}={relaxed.number}",
                f"nothing lies inside {_told(relaxed.clause, limits, group)}",
                "the clause would come out the same for everybody",
                "choose another number, or set the other limit too",
            )
        )


def _told(clause: str, limits: Mapping[str, str], names: tuple[str, ...] = LIMITS) -> str:
    return ", ".join(f"{clause}:{name}={limits[name]}" for name in names if name in limits)


def _no_clause(
    graph: Graph, name: str, rules: Mapping[str, list[str]], clauses: Mapping[str, Node]
) -> Finding:
    """Return what is wrong with the name of a clause that is none."""
    clause, _, parameter = name.partition(":")
    limits = {c: _limits(graph, node) for c, node in sorted(clauses.items())}
    limited = {c: found for c, found in limits.items() if found}
    if clause in rules:
        wanted = [c for c in rules[clause] if parameter in limits[c]]
        wanted = wanted or [c for c in rules[clause] if limits[c]]
        return Finding(
            "USE015",
            "error",
            f"--relax {name}",
            f"{clause} is no clause but joins {', '.join(rules[clause])}",
            "a limit is one of a clause",
            "name one of: " + "; ".join(_told(c, limits[c]) for c in wanted)
            if wanted
            else "none of them has a limit",
        )
    unused = next(
        (n for n in graph.subjects(SARC.notation, Literal(clause)) if _limits(graph, n)), None
    )
    if unused is not None:
        entries = sorted(local_name(str(a)) for a in graph.objects(unused, SARC.resolves))
        return Finding(
            "USE015",
            "error",
            f"--relax {name}",
            f"no rule uses {clause} under the readings in force",
            "nothing would change, silently",
            f"choose another reading with --reading: {', '.join(entries) or 'see `sarc-kb rules --ambiguities`'}",
        )
    folded = {c.casefold(): c for c in limited}
    close = get_close_matches(clause.casefold(), folded, n=3)
    return Finding(
        "USE015",
        "error",
        f"--relax {name}",
        f"{clause!r} is not a clause",
        "nothing would change, silently",
        "perhaps "
        + "; ".join(_told(folded[c], limited[folded[c]]) for c in close)
        + "; clauses with limits are: "
        + ", ".join(limited)
        if close
        else "clauses with limits are: " + ", ".join(limited),
    )


def _no_limit(
    name: str,
    clause: str,
    parameter: str,
    limits: Mapping[str, str],
    clauses: Mapping[str, Node],
    graph: Graph,
) -> Finding:
    """Return what is wrong with a limit that the clause does not have."""
    with_limits = sorted(c for c, node in clauses.items() if _limits(graph, node))
    return Finding(
        "USE016",
        "error",
        f"--relax {name}",
        f"{clause} has no limit {parameter!r}" if parameter else f"no limit of {clause} is named",
        "nothing would change, silently",
        f"it has {_told(clause, limits)}"
        if limits
        else "it has none; clauses with limits are: " + ", ".join(with_limits),
    )


def apply_policies(graph: Graph, policies: Mapping[str, str]) -> None:
    """Set named policies in ``graph``.

    Raises:
        UsageError: no such policy, or the value is not of the policy's type.
    """
    known = {local_name(str(p)): p for p in graph.subjects(RDF.type, SARC.Policy)}
    for name, text in policies.items():
        if name not in known:
            raise UsageError(_unknown("--policy", name, "a policy", sorted(known)))
        node = known[name]
        parameter = graph.value(node, SARC.policyParameter)
        if parameter is None:
            raise UsageError(
                Finding(
                    "USE004",
                    "error",
                    f"--policy {name}",
                    "this policy has no value to set",
                    "it only names a choice that reports print",
                    "see `sarc-kb rules --policies`",
                )
            )
        number = _setting(name, text, graph.value(node, parameter))
        graph.set((node, parameter, Literal(number)))
    for tolerance in graph.subjects(RDF.type, SARC.BoundTolerance):
        _widen(graph, tolerance)


def _setting(name: str, text: str, old: Node | None) -> int | Decimal:
    """Return the value of a policy, of the type of its default ``old``.

    Raises:
        UsageError: it is none, or negative.
    """
    exact = isinstance(old, Literal) and old.datatype == XSD.decimal
    try:
        number: int | Decimal = Decimal(text) if exact else int(text)
        if not (Decimal(0) <= number < _LARGEST and number == round(number, 6)):
            raise ValueError
    except (ValueError, InvalidOperation):
        kind = "number" if exact else "whole number"
        raise UsageError(
            Finding(
                "USE005",
                "error",
                f"--policy {name}",
                f"{text!r} is not a {kind} of 0 or more",
                "the policy is an amount" if exact else "the policy counts days or months",
                f"give a number such as {old}",
            )
        ) from None
    return number


def _widen(graph: Graph, tolerance: Node) -> None:
    """Move the limits of the clauses that a tolerance names outwards by its amount."""
    amount = Decimal(str(graph.value(tolerance, SARC.amount) or 0))
    for clause in graph.objects(tolerance, SARC.widens):
        for predicate, sign in ((SARC.atLeast, -1), (SARC.atMost, 1)):
            bound = graph.value(clause, predicate)
            if bound is not None and amount:
                graph.set((clause, predicate, Literal(Decimal(str(bound)) + sign * amount)))


def _unknown(where: str, found: str, what: str, known: list[str]) -> Finding:
    return Finding(
        "USE002",
        "error",
        where,
        f"{found!r} is not {what}",
        "nothing would change, silently",
        "choose one of: " + ", ".join(known),
    )
