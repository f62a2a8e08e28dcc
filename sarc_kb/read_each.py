"""Files read one after the other, where asked for in a worker within limits."""

from __future__ import annotations

import math
from collections.abc import Iterable
from pathlib import Path

from sarc_kb.errors import Finding, InputError
from sarc_kb.kb import KnowledgeBase
from sarc_kb.rules import Trial
from sarc_kb.sources.patients import Patients
from sarc_kb.sources.read import Found, ReadingTerms, read_sources, read_whole
from sarc_kb.workers import IsolatedWorkers, WorkerFailed


def read_each(
    kb: KnowledgeBase,
    files: Iterable[Path],
    trials: tuple[Trial, ...],
    seconds: float = math.inf,
    memory: int | None = None,
) -> tuple[Patients, list[Finding]]:
    """Return the patients of all ``files``, and what could not be read, as `read_sources` does.

    Where ``seconds`` or ``memory`` (bytes) limit what reading one file may take, that is done in a
    process of its own; a file that breaks a limit is one that cannot be read. What is never held
    whole in memory (NDJSON, facts tables) is no such file.
    """
    terms = kb.reading_terms(*trials)
    if math.isinf(seconds) and memory is None:
        return read_sources(files, terms)
    workers = IsolatedWorkers(
        1, seconds=seconds, memory=memory, initializer=_start, initargs=(kb, trials)
    )

    def read_one(source: Path | bytes, origin: str) -> Found:
        try:
            return workers.submit(_read, source, origin).result()
        except WorkerFailed as failure:
            raise InputError(_beyond(failure.finding(origin))) from None

    try:
        return read_sources(files, terms, read_one)
    finally:
        workers.close()


def _beyond(told: Finding) -> Finding:
    return Finding(
        told.code,
        told.severity,
        told.where,
        f"while it was read, {told.found}",
        told.why,
        f"{told.fix}; or split the file by patient",
    )


_terms: ReadingTerms | None = None


def _start(kb: KnowledgeBase, trials: tuple[Trial, ...]) -> None:
    global _terms  # noqa: PLW0603 - what all tasks of a worker share
    _terms = kb.reading_terms(*trials)


def _read(source: Path | bytes, origin: str) -> Found:
    assert _terms is not None
    return read_whole(source, origin, _terms)
