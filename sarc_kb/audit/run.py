"""The parts of an audit one by one, or side by side; one that cannot run does not stop the others."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from importlib import import_module
from pathlib import Path

from sarc_kb.audit.section import Request, Section
from sarc_kb.errors import Finding, SarcError
from sarc_kb.kb import KnowledgeBase
from sarc_kb.workers import become_worker, worker_context

PARTS: dict[str, str] = {
    "rules": "are the files of the rule base well-formed, and is no rule written twice",
    "source": "is every word of the record accounted for, and what does another version change",
    "codes": "which codes lead where, which of them are unverified, is none mapped twice",
    "cases": "do the cases written by hand come out as they say",
    "boundaries": "are there cases at every limit and every edge of a window",
    "mutation": "do the cases hold every number, word and join of the rules",
    "logic": "what can be met, what follows, what conflicts (extra audit)",
    "agreement": "the engines on the boundary cases",
    "register": "the register of ambiguities, its readings and what they change",
}
"""The parts, in the order in which they are told, and what each is about; a part is the module of
its name in `sarc_kb.audit`."""

# What looks at the same prepared patients belongs into one process; what takes longest goes first.
_TOGETHER = ("cases", "mutation")
_LONG = ("mutation", "logic", "boundaries")

Tell = Callable[[Sequence[str], int], None]
"""Is told which parts are being looked at, and how many are done."""


def run_parts(
    kb: KnowledgeBase,
    request: Request,
    names: Sequence[str],
    *,
    workers: int = 1,
    tell: Tell = lambda _names, _done: None,
) -> list[Section]:
    """Return what the parts ``names`` come to, in their order, whatever ``workers`` is."""
    jobs = _jobs(names)
    found: dict[str, Section] = {}
    if workers < 2 or len(jobs) < 2:
        for name in names:
            tell((name,), len(found))
            found[name] = run_part(name, kb, request)
    else:
        for sections in _side_by_side(kb, request, jobs, workers, tell):
            found |= {section.name: section for section in sections}
    return [found[name] for name in names]


def run_part(name: str, kb: KnowledgeBase, request: Request) -> Section:
    """Return what one part comes to; or why it could not run, which never raises."""
    try:
        section: Section = import_module(f"sarc_kb.audit.{name}").audit(kb, request)
    except ImportError as absent:
        return _not_run(name, _absent(name, absent))
    except SarcError as failure:
        return _not_run(name, *failure.findings)
    except Exception as bug:
        return _not_run(name, _bug(name, bug))
    return section


def _not_run(name: str, *why: Finding) -> Section:
    more = f" (and {len(why) - 1} more)" if len(why) > 1 else ""
    return Section(name, f"could not run: {why[0].found}{more}", not_run=why)


def _absent(name: str, absent: ImportError) -> Finding:
    return Finding(
        "USE062",
        "error",
        f"audit {name}",
        f"the package {absent.name or absent} is not installed",
        "this part needs an optional extra",
        "install it with: pip install 'sarc-kb[audit,cohort]'",
    )


def _bug(name: str, bug: Exception) -> Finding:
    where = traceback.extract_tb(bug.__traceback__)[-1]
    return Finding(
        "AUDIT001",
        "error",
        f"audit {name}",
        f"{type(bug).__name__} in {Path(where.filename).name}:{where.lineno}",
        "the program failed, so that nothing is known about this part",
        "look at what `sarc-kb check` says; if it finds no fault, report it with these two names",
    )


# -- side by side ----------------------------------------------------------------------------------
def _jobs(names: Sequence[str]) -> list[tuple[str, ...]]:
    """Return what one process does at a time, the longest first."""
    together = tuple(name for name in names if name in _TOGETHER)
    jobs: list[tuple[str, ...]] = [(name,) for name in names if name not in _TOGETHER]
    jobs += [together] if together else []
    rank = {name: number for number, name in enumerate(_LONG)}
    return sorted(jobs, key=lambda job: min(rank.get(name, len(rank)) for name in job))


def _side_by_side(
    kb: KnowledgeBase,
    request: Request,
    jobs: Sequence[tuple[str, ...]],
    workers: int,
    tell: Tell,
) -> list[list[Section]]:
    found: list[list[Section]] = []
    pool = ProcessPoolExecutor(
        min(workers, len(jobs)),
        mp_context=worker_context(),
        initializer=_start_worker,
        initargs=(kb, request),
    )
    try:
        asked: dict[Future[list[Section]], tuple[str, ...]] = {
            pool.submit(_job, job): job for job in jobs
        }
        open_jobs = list(asked.values())
        tell([n for job in open_jobs[:workers] for n in job], 0)
        for future in as_completed(asked):
            job = asked[future]
            try:
                found.append(future.result())
            except BrokenProcessPool:
                found.append([_not_run(name, _lost(name)) for name in job])
            open_jobs.remove(job)
            done = sum(map(len, found))
            tell([n for job in open_jobs[:workers] for n in job], done)
    finally:
        pool.shutdown(cancel_futures=True)
    return found


def _lost(name: str) -> Finding:
    return Finding(
        "AUDIT002",
        "error",
        f"audit {name}",
        "the process that looked at it ended without an answer",
        "nothing is known about this part",
        "see that there is memory enough, or run with --workers 1",
    )


_worker: tuple[KnowledgeBase, Request] | None = None


def _start_worker(kb: KnowledgeBase, request: Request) -> None:
    global _worker  # noqa: PLW0603 - a process pool has no other way to keep what all tasks share
    _worker = (kb, request)
    become_worker()


def _job(names: Sequence[str]) -> list[Section]:
    assert _worker is not None
    return [run_part(name, *_worker) for name in names]
