"""Which test holds which threat: the table in docs/security.md.

    python tests/threat_table.py          writes the table
    python tests/threat_table.py --check  writes nothing, fails if it is stale

The threats stand in threats.csv, with the reason where one does not apply. The rest is read from the
tests' marks, ``@pytest.mark.threat("A1", …)``, in their source: what a machine cannot run is in the
table all the same.
"""

from __future__ import annotations

import ast
import csv
import sys
from collections.abc import Iterator
from pathlib import Path

TESTS = Path(__file__).resolve().parent
PAGE = TESTS.parent / "docs" / "security.md"
START, END = "<!-- threats: written by tests/threat_table.py -->", "<!-- threats: end -->"


def threats() -> dict[str, tuple[str, str]]:
    """Return each threat by its id: what goes wrong, and why it does not apply (else empty)."""
    with (TESTS / "threats.csv").open(encoding="utf-8", newline="") as handle:
        rows = list(csv.reader(handle))[1:]
    return {name: (fault, reason) for name, fault, reason in rows}


def marks() -> Iterator[tuple[str, str, str]]:
    """Yield (threat, file, test) for every mark, in the order of files and lines."""
    for path in sorted(TESTS.glob("test_*.py")):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            for decorator in getattr(node, "decorator_list", ()):
                if isinstance(decorator, ast.Call) and ast.unparse(decorator.func).endswith(
                    "mark.threat"
                ):
                    assert isinstance(node, ast.FunctionDef)
                    for argument in decorator.args:
                        yield str(ast.literal_eval(argument)), path.name, node.name


def table() -> str:
    """Return the table in Markdown: a row a threat, with its tests or the reason."""
    tests: dict[str, list[str]] = {}
    for threat, file, test in marks():
        short = f"`{file.removeprefix('test_').removesuffix('.py')}`: {test.removeprefix('test_')}"
        tests.setdefault(threat, []).append(short)
    lines = ["| | fault | held by |", "|---|---|---|"]
    for name, (fault, reason) in threats().items():
        held = "<br>".join(tests.get(name, ())) or f"does not apply: {reason or '?'}"
        lines.append(f"| {name} | {fault} | {held} |")
    return "\n".join(lines)


def page() -> str:
    """Return the page with the table as it should be."""
    before, _, rest = PAGE.read_text("utf-8").partition(START)
    return f"{before}{START}\n{table()}\n{END}{rest.partition(END)[2]}"


def main() -> int:
    fresh = page()
    if "--check" in sys.argv[1:]:
        return int(fresh != PAGE.read_text("utf-8"))
    PAGE.write_text(fresh, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
