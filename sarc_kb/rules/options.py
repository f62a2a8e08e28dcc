"""What a caller may set before rules are compiled: readings of the register, and policies."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal, InvalidOperation

from rdflib import Graph, Literal
from rdflib.namespace import XSD
from rdflib.term import Node

from sarc_kb.errors import Finding, UsageError
from sarc_kb.namespaces import RDF, SARC, local_name

_LARGEST = Decimal(10) ** 9


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
