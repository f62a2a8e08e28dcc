"""The server: a socket, the application, its workers, and an end in which what runs is answered."""

from __future__ import annotations

import json
import logging
import math
import multiprocessing
import os
import signal
import socket
from asyncio import TimerHandle, Transport
from collections.abc import Callable
from dataclasses import asdict, dataclass
from ipaddress import ip_address
from typing import Any

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from sarc_kb.errors import Finding, RuleBaseError, UsageError
from sarc_kb.service import judge
from sarc_kb.service.app import application
from sarc_kb.service.desk import Desk, Limits
from sarc_kb.service.guard import LOG, Rights
from sarc_kb.service.question import KNOWLEDGE_VARIABLE, Knowledge
from sarc_kb.workers import IsolatedWorkers, WorkerFailed

CONNECTIONS = 256
"""At most, whatever they do; each may hold some kilobytes."""
HEADER_BYTES = 16_384
LOOPBACK = ("localhost", "127.0.0.1", "[::1]")


@dataclass(frozen=True, slots=True)
class Place:
    """Where the service listens: ``port`` 0 takes any that is free. ``names``: further names under
    which it is reached."""

    host: str = "127.0.0.1"
    port: int = 8000
    names: tuple[str, ...] = ()


def serve(
    knowledge: Knowledge,
    place: Place,
    token: str | None,
    limits: Limits,
    *,
    seconds: float,
    memory: int | None,
    ready: Callable[[str], None],
) -> None:
    """Serve until the process is asked to end.

    Args:
        seconds, memory: what one request may take of a worker.
        ready: is called with the address when requests are answered.
    Raises:
        RuleBaseError, UsageError: the knowledge base is broken.
        OSError: nobody can listen there.
    """
    family = socket.AF_INET6 if ":" in place.host else socket.AF_INET
    with socket.socket(family) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((place.host, place.port))
        shown = f"[{place.host}]" if family == socket.AF_INET6 else place.host
        rights = Rights(frozenset(n.lower() for n in (*LOOPBACK, shown, *place.names)), token)
        _log()
        workers = _workers(knowledge, limits.workers, seconds, memory)
        try:
            if faults := _faults(workers):
                raise RuleBaseError(*faults)
            app = application(Desk(workers, limits), rights)
            server = _Server(_config(app, limits.upload, seconds))
            # uvicorn answers what is running and then sends itself the signal again; asked to end
            # is no failure.
            signal.signal(signal.SIGTERM, lambda *_: None)
            server.when_started = lambda: ready(f"http://{shown}:{listener.getsockname()[1]}/")
            server.run(sockets=[listener])
        finally:
            workers.close()


def _faults(workers: IsolatedWorkers) -> tuple[Finding, ...]:
    """Return what keeps workers from judging."""
    try:
        return workers.submit(judge.warm).result()
    except WorkerFailed as failure:
        return (failure.finding("a worker"),)


def is_loopback(host: str) -> bool:
    """Return whether only this machine reaches it."""
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def _workers(
    knowledge: Knowledge, count: int, seconds: float, memory: int | None
) -> IsolatedWorkers:
    """Return workers that have the knowledge base.

    They are forked from a process that has loaded it and does nothing else: this one has threads,
    and a fork of it might inherit a lock that nobody opens. Where there is no such process, each
    loads it.
    """
    methods = multiprocessing.get_all_start_methods()
    context = multiprocessing.get_context("forkserver" if "forkserver" in methods else "spawn")
    context.set_forkserver_preload(["sarc_kb.service.preloaded"])
    # That process takes no arguments; it is started anew with the same, should it ever die.
    os.environ[KNOWLEDGE_VARIABLE] = json.dumps(asdict(knowledge))
    return IsolatedWorkers(
        count,
        seconds=seconds,
        memory=memory,
        initializer=judge.begin,
        initargs=(knowledge,),
        context=context,
    )


class _Server(uvicorn.Server):
    when_started: Callable[[], None]

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.when_started()


def _config(app: Any, patience: float, seconds: float) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        http=type("_PatientConnection", (_Connection,), {"patience": patience}),
        ws="none",
        lifespan="off",
        loop="asyncio",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        limit_concurrency=CONNECTIONS,
        h11_max_incomplete_event_size=HEADER_BYTES,
        timeout_graceful_shutdown=None if math.isinf(seconds) else math.ceil(seconds) + 5,
    )


class _Connection(H11Protocol):
    """A connection that may be neither slow to ask nor slow to read.

    ``patience``: seconds in which the line and the headers of a request must have come, and after
    which somebody who reads nothing of an answer is cut off.
    """

    patience: float
    _patience: TimerHandle | None = None
    _reading: TimerHandle | None = None

    def connection_made(self, transport: Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._wait()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self._asking and self._patience is None:
            self._wait()
        elif not self._asking:
            self._stop("_patience")

    @property
    def _asking(self) -> bool:
        """Whether a request is on its way whose headers have not all come."""
        return self.cycle is None or self.cycle.response_complete

    def _wait(self) -> None:
        self._patience = self.loop.call_later(self.patience, self._cut, "_patience")

    def pause_writing(self) -> None:
        super().pause_writing()
        self._reading = self.loop.call_later(self.patience, self._cut, "_reading")

    def resume_writing(self) -> None:
        super().resume_writing()
        self._stop("_reading")

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop("_patience")
        self._stop("_reading")
        super().connection_lost(exc)

    def _cut(self, timer: str) -> None:
        setattr(self, timer, None)
        if timer == "_reading" or self._asking:
            self.transport.abort()

    def _stop(self, timer: str) -> None:
        running: TimerHandle | None = getattr(self, timer)
        if running is not None:
            running.cancel()
            setattr(self, timer, None)


class _NoTraceback(logging.Formatter):
    """Tells of an exception its kind and place; its text might be a patient's."""

    def formatException(self, ei: Any) -> str:  # noqa: N802 - of the library
        return judge.failed(ei[1]).found


def _log() -> None:
    """Write the log to standard error: a line a request, and what goes wrong in the server."""
    handler = logging.StreamHandler()
    handler.setFormatter(_NoTraceback("%(asctime)s %(levelname)s %(message)s"))
    for logger, level in ((LOG, logging.INFO), (logging.getLogger("uvicorn"), logging.ERROR)):
        logger.handlers[:] = [handler]
        logger.propagate = False
        logger.setLevel(level)
    logging.getLogger("asyncio").setLevel(logging.CRITICAL)


def token_of(file: str | None, variable: str | None) -> str | None:
    """Return the token out of a file, or of the environment.

    Raises:
        UsageError: it is too short to be a secret, or cannot be sent in a header.
        OSError: the file cannot be read.
    """
    if file is not None:
        with open(file, encoding="utf-8") as handle:  # noqa: PTH123 - may be a pipe of the shell
            token, where = handle.read().strip(), f"--token-file {file}"
    elif variable is not None:
        token, where = variable.strip(), "SARC_KB_TOKEN"
    else:
        return None
    if len(token) < 16 or not token.isascii() or not token.isprintable() or " " in token:
        raise UsageError(
            Finding(
                "USE121",
                "error",
                where,
                "no token of at least 16 printable ASCII characters without spaces",
                "it could be guessed, or not be sent",
                "make one, for example with: openssl rand -hex 32",
            )
        )
    return token
