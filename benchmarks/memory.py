"""The memory of the program as its user runs it, against the number of patients.

Each command runs in a process of its own, on NDJSON made here: copies of a few examples, of which
one resource in eight is kept, named anew. Memory is that of the process and all its workers, counted as PSS: a page that
several of them share, as forked ones do, is divided among them, so that the sum counts it once.

SARC_KB_MEMORY_PATIENTS lists the sizes (default 300,1000; the figures of the README:
1000,10000,100000), SARC_KB_MEMORY_JUDGED those of `validate`, which takes longest (default 100,300;
1000,3000,10000). SARC_KB_MEMORY_DIR is where all of it is written, some 0.3 GB at 100,000 (default:
where temporary files go).
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

from benchmarks.common import ELIGIBLE, megabytes, table

EXAMPLES = ELIGIBLE.parent.parent
COPIED = ("fhir-eligible", "fhir-anaemic", "fhir-missing-data")
ENTRY = "2024-03-01"
ENGINE_MEMORY = "512MB"
WORKERS = 2
EVERY = 0.5
"""Seconds between two looks at the memory."""
KEPT = 8
"""One resource in so many is copied: what is asked is what more patients take, not longer records."""
# What no reader of facts asks for.
_LEFT_OUT = {"display", "identifier", "meta", "text"}


@dataclass(frozen=True, slots=True)
class Course:
    """How much memory a command took: megabytes of all its processes, and of the first alone, at
    times in seconds since it began."""

    seconds: float
    looks: list[tuple[float, float, float]]

    @property
    def peak(self) -> float:
        return max(whole for _, whole, _ in self.looks)

    @property
    def peak_of_first(self) -> float:
        return max(first for _, _, first in self.looks)

    @property
    def tenths(self) -> list[float]:
        """The most in each tenth of the time; in one without a look, what was last seen."""
        found: list[float] = []
        by_tenth = {
            tenth: max(whole for _, whole, _ in looks)
            for tenth, looks in groupby(
                self.looks, key=lambda look: min(9, int(10 * look[0] / self.seconds))
            )
        }
        for tenth in range(10):
            found.append(by_tenth.get(tenth, found[-1] if found else self.looks[0][1]))
        return found


# -- the input -------------------------------------------------------------------------------------
def make(folder: Path, patients: int) -> None:
    """Write NDJSON of so many patients into ``folder``, a file for each type of resource."""
    folder.mkdir(parents=True)
    lines = [_lines_of(EXAMPLES / name / "bundle.json") for name in COPIED]
    files = {kind: (folder / f"{kind}.ndjson").open("wb") for kind in {k for e in lines for k in e}}
    try:
        for number in range(patients):
            name = f"{number:07}".encode()
            for kind, text in lines[number % len(lines)].items():
                files[kind].write(text.replace(b"@", name))
    finally:
        for file in files.values():
            file.close()


def _lines_of(path: Path) -> dict[str, bytes]:
    """Return the lines of a bundle by type; names of resources have ``@`` for the patient's."""
    bodies = [entry["resource"] for entry in json.loads(path.read_text("utf-8"))["entry"]]
    (patient,) = (body["id"] for body in bodies if body["resourceType"] == "Patient")
    bodies = bodies[::KEPT]
    assert bodies[0]["id"] == patient
    named = {f"{body['resourceType']}/{body['id']}" for body in bodies}

    def name_of(name: str) -> str:
        return "p@" if name == patient else f"{name}-@"

    def copied(value: object) -> object:
        if isinstance(value, dict):
            kept = {key: copied(part) for key, part in value.items() if key not in _LEFT_OUT}
            if kept.get("reference") in named:
                kind, _, name = str(kept["reference"]).partition("/")
                kept["reference"] = f"{kind}/{name_of(name)}"
            return kept
        return [copied(part) for part in value] if isinstance(value, list) else value

    found: dict[str, bytes] = {}
    for body in bodies:
        told = copied(body | {"id": name_of(body["id"])})
        line = json.dumps(told, separators=(",", ":")).encode() + b"\n"
        assert b"@" in line
        kind = body["resourceType"]
        found[kind] = found.get(kind, b"") + line
    return found


# -- the measure -----------------------------------------------------------------------------------
def watched(arguments: Sequence[object]) -> Course:
    """Run the program and look at its memory all the while.

    Raises:
        RuntimeError: it could not run, or could not read all of the input.
    """
    command = [sys.executable, "-m", "sarc_kb.cli", *map(str, arguments)]
    looks: list[tuple[float, float, float]] = []
    began = time.monotonic()
    with tempfile.TemporaryFile() as said:
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=said)
        ended = threading.Event()

        def look() -> None:
            while not ended.is_set():
                first, below = megabytes(process.pid)
                if first:
                    looks.append((time.monotonic() - began, first + below, first))
                ended.wait(EVERY)

        watching = threading.Thread(target=look)
        watching.start()
        try:
            code = process.wait()
        finally:
            ended.set()
            watching.join()
            process.kill()
        if code not in (0, 1, 3):
            said.seek(0)
            raise RuntimeError(f"exit code {code}: {said.read(2000).decode('utf-8', 'replace')}")
    return Course(time.monotonic() - began, looks)


def sizes(variable: str, default: str) -> list[int]:
    return [int(part) for part in os.environ.get(variable, default).split(",")]


def commands(folder: Path, patients: int, *, judged: bool) -> Iterator[tuple[str, list[object]]]:
    """Yield what is measured on so many patients, and the command for each, in an order in which
    each finds what it reads."""
    source, facts = folder / "ndjson", folder / "facts.parquet"
    make(source, patients)
    entry = ["--entry-date", ENTRY]
    if judged:
        told = ["--format", "jsonl", "--engine", "pyshifty", "--quiet"]
        yield "validate", ["validate", source, *entry, *told, "--output", folder / "told.jsonl"]
        return
    screen = ["screen", "--memory", ENGINE_MEMORY, "--workers", WORKERS, "--quiet"]
    yield "facts", ["facts", source, *entry, "--output", facts]
    yield "screen, NDJSON", [*screen, source, *entry, "--output", folder / "from-ndjson"]
    yield "screen, facts table", [*screen, facts, "--output", folder / "from-facts"]


def main() -> None:
    rows = []
    with tempfile.TemporaryDirectory(dir=os.environ.get("SARC_KB_MEMORY_DIR")) as own:
        asked = [(n, False) for n in sizes("SARC_KB_MEMORY_PATIENTS", "300,1000")]
        asked += [(n, True) for n in sizes("SARC_KB_MEMORY_JUDGED", "100,300")]
        for patients, judged in asked:
            with tempfile.TemporaryDirectory(dir=own) as folder:
                for what, command in commands(Path(folder), patients, judged=judged):
                    found = watched(command)
                    course = ", ".join(f"{m:.0f}" for m in found.tenths)
                    row = (what, f"{patients:,}", found.seconds)
                    rows.append((*row, found.peak, found.peak_of_first, course))
                    print(f"{what}, {patients:,}: {found.peak:.0f} MB", file=sys.stderr)
    table(
        f"Memory of all processes, {WORKERS} workers, the engine held to {ENGINE_MEMORY}",
        ("command", "patients", "s", "peak MB", "of the first process", "MB, tenth by tenth"),
        sorted(rows, key=lambda row: row[0]),
    )


if __name__ == "__main__":
    main()
