"""The Turtle files of a rule base, read so that none is left out in silence."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from rdflib import Graph

from sarc_kb.errors import Finding, RuleBaseError


def parse_files(files: Iterable[Path]) -> Graph:
    """Return one graph of all ``files``.

    Raises:
        RuleBaseError: some cannot be read as Turtle; all of them are named.
    """
    graph = Graph()
    faults = []
    for path in files:
        try:
            graph.parse(path, format="turtle")
        except Exception as error:
            faults.append(
                Finding(
                    "RULE000",
                    "error",
                    str(path),
                    f"not readable as Turtle: {str(error).splitlines()[0][:160]}",
                    "a rule that cannot be read would be left out in silence",
                    "mend the file",
                )
            )
    if faults:
        raise RuleBaseError(*faults)
    return graph
