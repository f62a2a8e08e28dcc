"""Generated patients by the hundred thousand, judged by every engine; what differs is made minimal.

A run keeps in its folder which patients were judged; begun again, it goes on from there. Patient k
of a seed is always the same.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import as_completed
from dataclasses import asdict, dataclass
from pathlib import Path

from rdflib import Graph

from sarc_kb.facts import PatientRecord
from sarc_kb.sources.rdf import read_rdf
from sarc_kb.sources.rdf_writer import write_patient
from sarc_kb.whole_file import whole_file
from sarc_kb.workers import IsolatedWorkers
from tests.cohort_generator import generate
from tests.cohort_shacl import Shared, shared
from tests.soak.engines import Difference, Engine, compared, engines_of
from tests.soak.shrink import shrunk

CHUNK = 200
"""Patients that are judged together, and are judged again if the run is interrupted."""
MOST_SHRUNK = 25
"""Differences that are made minimal; more are told, and are likely the same."""


@dataclass(frozen=True)
class Run:
    """What a folder belongs to: other patients or another program need another folder."""

    seed: int
    knowledge: str
    engines: tuple[str, ...]


class OtherRunError(Exception):
    """The folder holds a run of something else."""


@dataclass(frozen=True)
class Judged:
    """What came of some patients: how many answers all engines gave, and the differences by the
    number of the patient."""

    first: int
    count: int
    answers: int
    differences: tuple[tuple[int, Difference], ...]


# -- judging ---------------------------------------------------------------------------------------
def judge(own: Shared, engines: Mapping[str, Engine], seed: int, first: int, count: int) -> Judged:
    """Judge ``count`` patients of a seed from number ``first`` on by all engines."""
    records = list(generate(own.trial, own.kb.terms, seed, count, first))
    found, answers = compared(own, records, engines)
    different = [(first + n, d) for n, some in enumerate(found) for d in some]
    return Judged(first, count, answers, tuple(different))


_ENGINES: dict[str, Engine] = {}


def _work(task: tuple[int, int, int]) -> Judged:
    return judge(shared(), _ENGINES, *task)


def _each(tasks: Sequence[tuple[int, int, int]], workers: int) -> Iterator[Judged]:
    if workers == 1 or len(tasks) < 2:
        yield from map(_work, tasks)
        return
    # Each worker has a pipe of its own: one that dies ends the run, and never leaves it waiting.
    pool = IsolatedWorkers(workers, seconds=math.inf, memory=None)
    try:
        for judged in as_completed([pool.submit(_work, task) for task in tasks]):
            yield judged.result()
    finally:
        pool.close()


# -- the folder ------------------------------------------------------------------------------------
def _begin(folder: Path, run: Run) -> None:
    """Note whose folder this is.

    Raises:
        OtherRunError: it is another run's.
    """
    note = folder / "run.json"
    text = json.dumps(asdict(run), indent=1, sort_keys=True)
    if note.exists() and note.read_text("utf-8") != text:
        raise OtherRunError(
            f"{folder} holds patients of another seed, rule base or choice of engines; name another --folder, or remove it"
        )
    (folder / "judged").mkdir(parents=True, exist_ok=True)
    _write(note, text)


def _write(path: Path, text: str) -> None:
    with whole_file(path) as stream:
        stream.write(text.encode())


def _kept(folder: Path) -> dict[int, Judged]:
    found = {}
    for path in sorted((folder / "judged").glob("*.json")):
        told = json.loads(path.read_bytes())
        different = tuple((n, Difference(**d)) for n, d in told.pop("differences"))
        found[told["first"]] = Judged(**told, differences=different)
    return found


def _keep(folder: Path, judged: Judged) -> None:
    path = folder / "judged" / f"{judged.first:09}-{judged.count}.json"
    _write(path, json.dumps(asdict(judged)))


# -- the whole -------------------------------------------------------------------------------------
def soak(
    folder: Path,
    *,
    patients: int,
    seed: int,
    workers: int = 1,
    only: Iterable[str] = (),
    tell: Callable[[str], None] = print,
) -> bool:
    """Judge patients until there are so many, and return whether all engines agree on each.

    ``only``: names of engines; all that are installed if there are none. For each kind of
    difference the folder gets the smallest patient that shows it.

    Raises:
        OtherRunError: the folder is another run's.
    """
    own = shared()
    installed = engines_of(own)
    names = tuple(only) or tuple(installed)
    _ENGINES.clear()
    _ENGINES.update({name: installed[name] for name in names})
    _begin(folder, Run(seed, own.kb.info.sha256, names))
    done = _kept(folder)
    tasks = [
        (seed, first, min(CHUNK, patients - first))
        for first in range(0, patients, CHUNK)
        if first not in done or done[first].count < min(CHUNK, patients - first)
    ]
    before = sum(j.count for j in done.values())
    tell(f"{', '.join(names)}: {before:,} of {patients:,} patients were judged before")
    began, now = time.monotonic(), 0
    for judged in _each(tasks, workers):
        _keep(folder, judged)
        done[judged.first] = judged
        now += judged.count
        rate = now / (time.monotonic() - began)
        left = sum(count for *_, count in tasks) - now
        different = len({n for j in done.values() for n, _ in j.differences})
        tell(
            f"{sum(j.count for j in done.values()):>9,} patients  {rate:5.2f} a second  {left / rate / 3600:5.1f} h to go  {different} differ"
        )
    found = sorted(
        (pair for j in done.values() for pair in j.differences),
        key=lambda p: (p[0], p[1].name, p[1].aspect),
    )
    answers = sum(j.answers for j in done.values())
    if not found:
        tell(f"all engines agree on all patients, {answers:,} answers in all")
        return True
    for line in shrink_all(own, _ENGINES, seed, found, folder / "differences"):
        tell(line)
    return False


# -- differences -----------------------------------------------------------------------------------
def shrink_all(
    own: Shared,
    engines: Mapping[str, Engine],
    seed: int,
    found: Sequence[tuple[int, Difference]],
    folder: Path,
) -> Iterator[str]:
    """Write the smallest patient for each kind of difference; yield a line for each."""
    kinds: dict[tuple[str, ...], tuple[int, Difference]] = {}
    for number, difference in found:
        kinds.setdefault(
            (difference.name, difference.aspect, *difference.two), (number, difference)
        )
    yield f"engines differ on {len({n for n, _ in found})} patients, in {len(kinds)} ways"
    for number, difference in list(kinds.values())[:MOST_SHRUNK]:
        (record,) = generate(own.trial, own.kb.terms, seed, 1, number)
        minimal = minimal_patient(own, engines, record, difference)
        place = folder / "-".join(
            word.replace(" ", "-") for word in (difference.name, difference.aspect, *difference.two)
        )
        place.mkdir(parents=True, exist_ok=True)
        _write(place / "patient.ttl", minimal.serialize(format="turtle"))
        told = {**asdict(difference), "seed": seed, "patient": number, "facts": len(record.facts)}
        _write(place / "difference.json", json.dumps(told, indent=1))
        said = ", ".join(f"{engine}: {word or 'none'}" for engine, word in difference.said.items())
        yield f"{difference.name} {difference.aspect}: {said}; see {place}"


def minimal_patient(
    own: Shared, engines: Mapping[str, Engine], record: PatientRecord, difference: Difference
) -> Graph:
    """Return the smallest graph found on which two of the engines still differ in the same thing;
    the whole patient, where they agree once it is written as a graph."""
    two = {name: engines[name] for name in difference.two if name in engines}
    axes = own.kb.terms.axes

    def differ(graph: Graph) -> bool:
        text = graph.serialize(format="nt", encoding="utf-8")
        records = read_rdf(text, "minimal", "turtle", axes)
        if len(records) != 1 or (
            records[0].entry is None and difference.said.keys() != {"preparing"}
        ):
            return False
        ((*found,),), _ = compared(own, records, two)
        return any((d.name, d.aspect) == (difference.name, difference.aspect) for d in found)

    whole = write_patient(record)
    return shrunk(whole, differ) if differ(whole) else whole
