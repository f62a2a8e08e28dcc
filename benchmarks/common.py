"""What the benchmarks share: the machine, the clock, the example patient, tables."""

from __future__ import annotations

import gc
import importlib.metadata
import os
import platform
import statistics
from collections.abc import Callable, Iterable
from pathlib import Path
from time import perf_counter

from sarc_kb import __version__
from sarc_kb.facts import PatientRecord
from sarc_kb.kb import KnowledgeBase
from sarc_kb.rules import Trial
from sarc_kb.sources.read import read_sources

ELIGIBLE = Path(__file__).resolve().parent.parent / "examples" / "eligible" / "patient.ttl"


def read(kb: KnowledgeBase, trial: Trial, path: Path = ELIGIBLE) -> PatientRecord:
    """Return the one patient of ``path``."""
    (record,), _ = read_sources([path], kb.reading_terms(trial))
    return record


def milliseconds(work: Callable[[], object], *, repeat: int = 7, warm: bool = True) -> float:
    """Return the median time of ``work``; the first, cold run does not count if ``warm``."""
    if warm:
        work()
    times = []
    for _ in range(repeat):
        gc.collect()
        start = perf_counter()
        work()
        times.append(perf_counter() - start)
    return statistics.median(times) * 1000


def megabytes(pid: int) -> tuple[float, float]:
    """Return the memory of a process, and that of all below it: PSS, so that what they share is
    counted once in the sum. Nothing of one that is gone."""
    folder = Path("/proc") / str(pid)
    try:
        told = (folder / "smaps_rollup").read_text("ascii")
        threads = [task / "children" for task in (folder / "task").iterdir()]
        below = {int(child) for thread in threads for child in thread.read_text("ascii").split()}
    except (FileNotFoundError, ProcessLookupError):
        return 0.0, 0.0
    own = [int(line.split()[1]) for line in told.splitlines() if line.startswith("Pss:")]
    return sum(own) * 1024 / 1e6, sum(sum(megabytes(child)) for child in below)


def table(title: str, head: Iterable[str], rows: Iterable[Iterable[object]]) -> None:
    """Print a Markdown table; numbers to three digits."""

    def text(cell: object) -> str:
        return (
            f"{cell:,.0f}"
            if isinstance(cell, float) and abs(cell) >= 100
            else f"{cell:.3g}"
            if isinstance(cell, float)
            else str(cell)
        )

    print(f"\n## {title}\n")
    head = list(head)
    for row in (head, ["---"] * len(head), *rows):
        print("| " + " | ".join(text(c) for c in row) + " |", flush=True)


def machine() -> None:
    """Print what the figures depend on."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    rows: list[tuple[str, str]] = [
        (
            "cores",
            str(
                len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
            ),
        ),
        ("load before", f"{os.getloadavg()[0]:.1f}"),
        ("memory", f"{memory:.0f} GiB"),
        ("system", f"{platform.system()} {platform.machine()}"),
        ("Python", platform.python_version()),
        ("sarc-kb", __version__),
    ]
    for package in ("rdflib", "pyshacl", "pyshifty", "pyshacl-turbo"):
        try:
            rows.append((package, importlib.metadata.version(package)))
        except importlib.metadata.PackageNotFoundError:
            rows.append((package, "not installed"))
    table("Machine", ("", ""), rows)
