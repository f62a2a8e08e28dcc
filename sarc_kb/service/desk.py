"""Between requests and workers: who is let in, how long anything may take, and what may wait."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Protocol

from starlette.requests import ClientDisconnect, Request

from sarc_kb.errors import Finding
from sarc_kb.service import judge
from sarc_kb.service.judge import Answer
from sarc_kb.service.problems import ProblemError, problem
from sarc_kb.service.question import Question
from sarc_kb.workers import OutOfMemory, OutOfTime, WorkerFailed

_RETRY = {"retry-after": "1"}
_PROBE_SECONDS = 5


@dataclass(frozen=True, slots=True)
class Limits:
    """What requests may ask of the machine.

    ``size``: bytes of a body. ``upload``: seconds in which it must have come, as
    must the headers before it. ``workers``: records
    that are judged at once; ``waiting``: records that may wait for a worker.
    """

    size: int = 10_000_000
    upload: float = 30.0
    workers: int = 2
    waiting: int = 16

    @property
    def held(self) -> int:
        """Bytes of bodies that may be in memory at once."""
        return self.size * (self.workers + self.waiting)


class Workers(Protocol):
    """What judges: `sarc_kb.workers.IsolatedWorkers`, or in a test something simpler."""

    def submit(self, function: Callable[..., object], *args: object) -> Future[object]: ...


class Desk:
    """Takes bodies in, and has workers answer."""

    def __init__(self, workers: Workers, limits: Limits) -> None:
        self.limits = limits
        self._workers = workers
        self._held = 0
        self._asked = 0
        self._works = True

    async def body(self, request: Request) -> bytes:
        """Return the body of a request.

        Raises:
            ProblemError: it is too large, comes too slowly, or too many wait.
        """
        declared = request.headers.get("content-length", "0")
        if int(declared) > self.limits.size:
            raise await self._too_large(request, f"{declared} bytes")
        chunks: list[bytes] = []
        size = 0
        try:
            async with asyncio.timeout(self.limits.upload):
                async for chunk in request.stream():
                    size += len(chunk)
                    self._held += len(chunk)
                    if size > self.limits.size:
                        raise await self._too_large(request, "more")
                    if self._held > self.limits.held:
                        raise problem(
                            503, "the body", "too many are sent", "send it again", headers=_RETRY
                        )
                    chunks.append(chunk)
            return b"".join(chunks)
        except TimeoutError:
            raise problem(
                408,
                "the body",
                f"it was not whole after {self.limits.upload:g} s",
                "send it faster, or a smaller one",
            ) from None
        finally:
            # Of what is whole, `ask` says how many may wait.
            self._held -= size

    async def _too_large(self, request: Request, found: str) -> ProblemError:
        """Return the problem; part of what still comes is taken off the line, since a sender who is
        cut off does not read the answer."""
        left = self.limits.size
        try:
            async with asyncio.timeout(2):
                async for chunk in request.stream():
                    left -= len(chunk)
                    if left < 0:
                        break
        except (TimeoutError, ClientDisconnect, RuntimeError):
            pass
        fix = "send fewer patients at once, or start the service with a larger --size-limit"
        return problem(413, "the body", f"{found}; at most {self.limits.size} are read", fix)

    async def ask(self, operation: str, question: Question, request: Request) -> Answer:
        """Return a worker's answer.

        Raises:
            ProblemError: no worker is free, or the one that took it broke a limit.
            ClientDisconnect: who asked is gone; the work is given up.
        """
        if self._asked >= self.limits.workers + self.limits.waiting:
            raise problem(503, "the service", "all workers are busy", "ask again", headers=_RETRY)
        self._asked += 1
        try:
            work = asyncio.wrap_future(self._workers.submit(judge.answer, operation, question))
            gone = asyncio.ensure_future(_gone(request))
            await asyncio.wait((work, gone), return_when=asyncio.FIRST_COMPLETED)
            gone.cancel()
            if not work.done():
                work.cancel()
                raise ClientDisconnect
            answer = work.result()
        except WorkerFailed as failure:
            self._works = isinstance(failure, OutOfTime | OutOfMemory)
            raise ProblemError(*_of_worker(failure)) from None
        except RuntimeError:
            raise problem(503, "the service", "it is about to end", "ask again later") from None
        finally:
            self._asked -= 1
        self._works = True
        assert isinstance(answer, Answer)
        return answer

    async def health(self) -> tuple[bool, str]:
        """Return whether a record can be judged now, and a word for it.

        While records are judged, that is seen from them; else a worker is asked for a sign of life.
        """
        if self._asked and self._works:
            return True, "busy" if self._asked >= self.limits.workers else "ready"
        try:
            sign = asyncio.wrap_future(self._workers.submit(judge.warm))
            faults = await asyncio.wait_for(sign, _PROBE_SECONDS)
        except (WorkerFailed, RuntimeError, TimeoutError):
            return False, "no worker answers"
        self._works = not faults
        return self._works, "ready" if self._works else "the knowledge base is broken"


async def _gone(request: Request) -> None:
    """Return when the one who sent the request is no longer there."""
    while (await request.receive())["type"] != "http.disconnect":
        pass


def _of_worker(failure: WorkerFailed) -> tuple[int, tuple[Finding, ...]]:
    status = (
        504 if isinstance(failure, OutOfTime) else 507 if isinstance(failure, OutOfMemory) else 500
    )
    return status, (failure.finding("the request"),)
