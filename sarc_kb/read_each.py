"""Files read one after the other, where asked for in a worker within limits."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from sarc_kb.errors import Finding
from sarc_kb.kb import KnowledgeBase
from sarc_kb.rules import Trial
from sarc_kb.sources.apart import Run, T, UnreadError
from sarc_kb.sources.patients import Patients
from sarc_kb.sources.read import ReadingTerms, read_sources
from sarc_kb.workers import IsolatedWorkers, WorkerFailed


def read_each(
    kb: KnowledgeBase,
    files: Iterable[Path],
    trials: tuple[Trial, ...],
    seconds: float = math.inf,
    memory: int | None = None,
) -> tuple[Patients, list[Finding]]:
    """Return the patients of all ``files``, and what could not be read, as `read_sources` does.

    Where ``seconds`` or ``memory`` (bytes) limit what reading one file, or one patient of NDJSON,
    may take, that is done in a process of its own. Facts tables are read as they are without.
    """
    terms = kb.reading_terms(*trials)
    if math.isinf(seconds) and memory is None:
        return read_sources(files, terms)

    @contextmanager
    def apart() -> Iterator[Run]:
        workers = IsolatedWorkers(
            1, seconds=seconds, memory=memory, initializer=_start, initargs=(kb, trials)
        )

        def run(function: Callable[..., T], *args: object) -> T:
            try:
                found: T = workers.submit(_read, function, *args).result()
            except WorkerFailed as failed:
                told = (failed.code, failed.found, failed.why, failed.fix)
                raise UnreadError(*told) from None
            return found

        try:
            yield run
        finally:
            workers.close()

    return read_sources(files, terms, apart)


_terms: ReadingTerms | None = None


def _start(kb: KnowledgeBase, trials: tuple[Trial, ...]) -> None:
    global _terms  # noqa: PLW0603 - what all tasks of a worker share
    _terms = kb.reading_terms(*trials)


def _read(function: Callable[..., T], *args: object) -> T:
    return function(*args, _terms)
