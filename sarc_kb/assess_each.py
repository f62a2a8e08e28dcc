"""Patients judged one after the other, where asked for in a worker within limits."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from sarc_kb.assessment import Assessment
from sarc_kb.dates import PartialDate
from sarc_kb.engines.shacl_engine import ShaclEngine
from sarc_kb.facts import PatientRecord
from sarc_kb.kb import KnowledgeBase, not_judged
from sarc_kb.rules import Trial
from sarc_kb.workers import IsolatedWorkers, OutOfMemory, WorkerFailed


@dataclass(frozen=True, slots=True)
class Circumstances:
    """What besides the record and the rules an assessment depends on: the arguments of
    `KnowledgeBase.assess_record`."""

    as_of: PartialDate | None = None
    complete: tuple[str, ...] = ()
    attested: Mapping[str, str] = field(default_factory=dict)
    only: str | None = None

    def arguments(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in self.__dataclass_fields__}


def assess_each(
    kb: KnowledgeBase,
    records: Iterable[PatientRecord],
    trial: Trial,
    engine: ShaclEngine,
    how: Circumstances,
    seconds: float = math.inf,
    memory: int | None = None,
) -> Iterator[Assessment]:
    """Yield an assessment for each record, in order.

    Where ``seconds`` or ``memory`` (bytes) limit what judging one patient may take, that is done in
    a process of its own; a patient who breaks a limit has the verdict ``error``, which says so.
    """
    if math.isinf(seconds) and memory is None:
        for record in records:
            yield kb.assess_record(record, trial, engine, **how.arguments())
        return
    workers = IsolatedWorkers(
        1,
        seconds=seconds,
        memory=memory,
        initializer=_start,
        initargs=(kb, trial, engine, how),
    )
    try:
        for record in records:
            try:
                yield workers.submit(_assess, record).result()
            except WorkerFailed as failure:
                yield not_judged(record, trial, failure.finding(record.origin))
    finally:
        workers.close()


_given: tuple[KnowledgeBase, Trial, ShaclEngine, Circumstances] | None = None


def _start(*given: Any) -> None:
    global _given  # noqa: PLW0603 - what all tasks of a worker share
    _given = given


def _assess(record: PatientRecord) -> Assessment:
    assert _given is not None
    kb, trial, engine, how = _given
    assessment = kb.assess_record(record, trial, engine, **how.arguments())
    error = assessment.error
    if error is not None and error.code == OutOfMemory.code and error not in record.findings:
        raise MemoryError  # told by whoever holds the limit, with its size and its option
    return assessment
