"""Run the two readings of a trial's shapes on one prepared patient graph.

The reference is pySHACL, with queries prepared once instead of parsed for every use. Two other
processors stand behind the same interface; they are optional extras.
"""

from __future__ import annotations

import importlib.metadata
from collections import Counter
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Protocol

import pyshacl
import rdflib.plugins.sparql
from rdflib import BNode, Graph, Literal, URIRef
from rdflib.plugins.sparql import prepareQuery
from rdflib.plugins.sparql.sparql import Query

from sarc_kb.engines.shapes import CANARY, READINGS, ReadingName, clause_shapes
from sarc_kb.errors import EngineError, Finding, UsageError
from sarc_kb.namespaces import RDF, SH
from sarc_kb.rules import Trial

# A FROM clause must never load anything, whatever shapes somebody supplies.
rdflib.plugins.sparql.SPARQL_LOAD_GRAPHS = False

Violations = Counter[tuple[str, str]]
"""(source shape, constraint component) with how often it was reported for the one patient."""


class Processor(Protocol):
    """A SHACL processor with one set of shapes loaded."""

    def run(self, data: Graph) -> Graph:
        """Return the W3C validation report graph for ``data``."""
        ...


class PreparedGraph(Graph):
    """A graph whose SPARQL texts are parsed once and kept."""

    _cache: ClassVar[dict[str, Query]] = {}

    def query(self, query_object: Any, *args: Any, **kwargs: Any) -> Any:
        if isinstance(query_object, str):
            prepared = self._cache.get(query_object)
            if prepared is None:
                prepared = prepareQuery(query_object)
                self._cache[query_object] = prepared
            query_object = prepared
        return super().query(query_object, *args, **kwargs)


class PySHACL:
    """pySHACL through its public ``validate``; no rules, functions, imports or inference."""

    def __init__(self, shapes: Graph) -> None:
        for predicate in (SH.select, SH.ask):
            # pySHACL checks the text of a query at every use, in a time that grows with its lines
            # times its length; on one line this takes a tenth.
            for validator, text in list(shapes.subject_objects(predicate)):
                shapes.set((validator, predicate, Literal(_one_line(str(text)))))
        self.shapes = shapes

    def run(self, data: Graph) -> Graph:
        graph = PreparedGraph()
        for triple in data:
            graph.add(triple)
        _, report, text = pyshacl.validate(
            graph,
            shacl_graph=self.shapes,
            advanced=False,
            meta_shacl=False,
            js=False,
            do_owl_imports=False,
        )
        if not isinstance(report, Graph):
            # pySHACL hands back a failure object in place of the report.
            raise EngineError(_failed("pyshacl", str(text)))
        return report


def _one_line(query: str) -> str:
    """Return ``query`` without line breaks, unless it holds a comment or a text."""
    return query if set("#'\"") & set(query) else " ".join(query.split())


class PyShifty:
    """pyshifty: shapes compiled once; data graph only, no inference.

    The data go as bytes, which are always read as Turtle; a text could be taken for a file name
    or an address.
    """

    def __init__(self, shapes: Graph) -> None:
        import shifty

        self.validator = shifty.PreparedValidator(shapes)

    def run(self, data: Graph) -> Graph:
        lines = (f"{s.n3()} {p.n3()} {o.n3()} .\n" for s, p, o in data)
        result: tuple[bool, Graph, str] = self.validator.validate(
            "".join(lines).encode(), graph_mode="data", infer=False, on_unsupported="error"
        )
        return result[1]


class PyShaclTurbo:
    """pyshacl-turbo: shapes compiled once; a graph is handed over faster than its text."""

    def __init__(self, shapes: Graph) -> None:
        import pyshacl_turbo

        # The package has no types.
        compile_shapes: Any = pyshacl_turbo.compile_shapes
        self.compiled = compile_shapes(shapes)

    def run(self, data: Graph) -> Graph:
        result: tuple[bool, Graph, str] = self.compiled.validate(data)
        return result[1]


_ENGINES: Mapping[str, tuple[Callable[[Graph], Processor], str, str]] = {
    "pyshacl": (PySHACL, "pyshacl", ""),
    "pyshifty": (PyShifty, "pyshifty", "fast"),
    "pyshacl-turbo": (PyShaclTurbo, "pyshacl-turbo", "fast"),
}
ENGINE_NAMES = tuple(_ENGINES)


@dataclass(frozen=True, slots=True)
class Readings:
    """What the two readings reported for one patient."""

    refuted: Violations
    unproven: Violations


class ShaclEngine:
    """Both readings of one trial, or of some of its criteria, loaded into one processor."""

    def __init__(
        self,
        trial: Trial,
        components: Path,
        name: str = "pyshacl",
        only: Collection[str] | None = None,
    ) -> None:
        if name not in _ENGINES:
            raise UsageError(
                Finding(
                    "USE006",
                    "error",
                    f"--engine {name}",
                    "not a known SHACL processor",
                    "the name selects the processor",
                    "choose one of: " + ", ".join(ENGINE_NAMES),
                )
            )
        build, package, extra = _ENGINES[name]
        self.name, self.trial, self.components = name, trial, components
        try:
            self.version = importlib.metadata.version(package)
            self.processors: dict[ReadingName, Processor] = {
                reading: build(clause_shapes(trial, components, reading, only))
                for reading in READINGS
            }
        except ImportError:
            raise UsageError(
                Finding(
                    "USE007",
                    "error",
                    f"--engine {name}",
                    f"the package {package} is not installed",
                    "this processor is an optional extra",
                    f"install it with: pip install 'sarc-kb[{extra}]'",
                )
            ) from None

    @cached_property
    def treatment(self) -> ShaclEngine | None:
        """The same processor with the rules about treatment; loaded when first asked for."""
        part = self.trial.treatment
        return None if part is None else ShaclEngine(part, self.components, self.name)

    def run(self, data: Graph) -> Readings:
        """Return what both readings report on a prepared patient graph.

        Raises:
            EngineError: the processor failed, or contradicts itself: a shape that is refuted must
                also be unproven.
        """
        found = {}
        for reading in READINGS:
            try:
                found[reading] = self._seen(violations(self.processors[reading].run(data)))
            except EngineError:
                raise
            except MemoryError:
                raise
            except Exception as failure:
                raise EngineError(_failed(self.name, type(failure).__name__)) from failure
        result = Readings(found["refuted"], found["unproven"])
        broken = sorted(result.refuted.keys() - result.unproven.keys())
        if broken:
            raise EngineError(
                Finding(
                    "ENGINE002",
                    "error",
                    broken[0][0],
                    "refuted, yet not unproven",
                    "the two readings of a component contradict each other",
                    "the queries of shapes/components disagree; report it with this rule's id",
                )
            )
        return result

    def _seen(self, found: Violations) -> Violations:
        """Return the results without the canary, which every run must report: a run that selected
        nobody, or a processor that skips our components, would look like a pass."""
        ours = [key for key in found if key[0] == CANARY]
        if len(ours) != 1:
            raise EngineError(
                Finding(
                    "ENGINE004",
                    "error",
                    self.name,
                    "the shape that must always be violated was not",
                    "the processor ran on nobody, or does not know custom components; silence is not a pass",
                    "use another --engine",
                )
            )
        del found[ours[0]]
        return found


def violations(report: Graph) -> Violations:
    """Return the results of the validation report of one patient as a multiset."""
    return Counter(
        (
            str(report.value(result, SH.sourceShape)),
            str(report.value(result, SH.sourceConstraintComponent)),
        )
        for result in report.subjects(RDF.type, SH.ValidationResult)
    )


def _failed(name: str, what: str) -> Finding:
    return Finding(
        "ENGINE001",
        "error",
        name,
        f"the SHACL processor failed ({what})",
        "a failure is never a verdict",
        "run again with another --engine; if it stays, report it",
    )


def meta_results(data: Graph, shapes: Graph) -> list[tuple[str, str, str, str]]:
    """Return (focus node, path, message, value) of every result of ``shapes`` over ``data``.

    For shapes about rules and about patient graphs; pySHACL, no imports, no inference.
    Raises:
        EngineError: the processor failed.
    """
    graph = PreparedGraph()
    for triple in data:
        graph.add(triple)
    _, report, text = pyshacl.validate(
        graph, shacl_graph=shapes, advanced=False, meta_shacl=False, js=False, do_owl_imports=False
    )
    if not isinstance(report, Graph):
        raise EngineError(_failed("pyshacl", str(text)))
    found = []
    for result in report.subjects(RDF.type, SH.ValidationResult):
        path, value = report.value(result, SH.resultPath), report.value(result, SH.value)
        found.append(
            (
                str(report.value(result, SH.focusNode)),
                str(path) if isinstance(path, URIRef) else "",
                str(
                    report.value(result, SH.resultMessage)
                    or report.value(result, SH.sourceConstraintComponent)
                ),
                str(value) if value is not None and not isinstance(value, BNode) else "",
            )
        )
    return sorted(found)
