"""Processes that work for one run and end with it."""

from __future__ import annotations

import gc
import math
import multiprocessing
import os
import pickle
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError, Future
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.context import BaseContext
from multiprocessing.process import BaseProcess
from pathlib import Path
from queue import SimpleQueue
from typing import Any, TypeVar

from sarc_kb.errors import Finding

T = TypeVar("T")


def worker_context() -> BaseContext:
    """Return how processes are made: forked where that is possible, so that a worker has the
    knowledge base without loading it; else it is sent."""
    method = "fork" if "fork" in multiprocessing.get_all_start_methods() else None
    return multiprocessing.get_context(method)


def become_worker() -> None:
    """Make this process one that works for the process that started it."""
    # Whoever interrupts the run is told so once, by the process that was started.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    threading.Thread(target=_end_with_the_run, daemon=True).start()


def _end_with_the_run() -> None:
    """End this worker when the process that it works for is gone, however it went."""
    run = multiprocessing.parent_process()
    if run is not None:
        run.join()
        os._exit(1)


# -- workers that may fail ------------------------------------------------------------------------
class WorkerFailed(Exception):  # noqa: N818 - it and its kinds are named by what happened
    """A task has no result because of what it did to its worker.

    ``code``, ``found``, ``why`` and ``fix`` are those of a `sarc_kb.errors.Finding`; none of them
    says anything about what the task was given.
    """

    code = "ENGINE006"

    def __init__(self, found: str, why: str, fix: str) -> None:
        super().__init__(found, why, fix)
        self.found, self.why, self.fix = found, why, fix

    def __str__(self) -> str:
        return f"{self.found}; {self.why}; {self.fix}"

    def finding(self, where: str) -> Finding:
        """Return it as told of ``where``, such as the origin of a record."""
        return Finding(self.code, "error", where, self.found, self.why, self.fix)


class OutOfTime(WorkerFailed):
    """The task took longer than its limit; its worker was stopped."""

    code = "ENGINE008"


class OutOfMemory(WorkerFailed):
    """The task asked for more memory than its limit."""

    code = "ENGINE009"


class WorkerDied(WorkerFailed):
    """The worker ended during the task: the system took it for the memory of the whole machine,
    somebody stopped it, or a library failed under it."""


def memory_is_limited() -> bool:
    """Return whether this platform holds a worker to a limit of memory; Linux does."""
    return _data_size() is not None


class IsolatedWorkers:
    """Processes that each do one task at a time, within limits for each.

    A task that breaks a limit, or kills its worker, fails alone; another worker takes its place.
    Each worker has a pipe of its own. The pools of the standard library and those of others share
    one, so that a worker that is killed while it holds the pipe takes the tasks of others with it.

    Args:
        count: processes.
        seconds: what a task may take once a worker has begun it, by the clock; infinite for no
            limit.
        memory: bytes that a task may take above what its worker has when the task begins; None for
            no limit. Where `memory_is_limited` is False there is none whatever is asked for.
        initializer: is called with ``initargs`` in each new worker, without limits. Where processes
            are not forked, both must be picklable; functions, arguments and results always must.
        context: how processes are made; `worker_context` by default.
        time_option: what a message says to raise for more time.
        memory_option: what a message says to raise for more memory.

    Workers start at once. They end with `close`, and when the process that made them is gone.
    """

    def __init__(
        self,
        count: int,
        *,
        seconds: float,
        memory: int | None,
        initializer: Callable[..., object] | None = None,
        initargs: tuple[Any, ...] = (),
        context: BaseContext | None = None,
        time_option: str = "--time-limit",
        memory_option: str = "--memory-limit",
    ) -> None:
        self._seconds = seconds
        self._memory = memory
        self._options = (time_option, memory_option)
        self._context: Any = context or worker_context()
        self._starts = (memory, initializer, initargs)
        self._tasks: SimpleQueue[_Task] = SimpleQueue()
        self._closed = threading.Event()
        self._starting = threading.Lock()
        self._workers = [self._new_worker() for _ in range(count)]  # before there are threads
        self._threads = [
            threading.Thread(target=self._serve, args=(place,), daemon=True)
            for place in range(count)
        ]
        for thread in self._threads:
            thread.start()

    def submit(self, function: Callable[..., T], *args: object) -> Future[T]:
        """Have a worker call ``function``.

        Returns:
            Its result, or what it raised. Cancelling works until a worker begins.

        Raises:
            RuntimeError: these workers are closed.

        The future raises `OutOfTime`, `OutOfMemory` or `WorkerDied` where the task failed its
        worker.
        """
        if self._closed.is_set():
            raise RuntimeError("these workers are closed")
        future: Future[T] = Future()
        # Taken apart here and put together in the worker under its limit, as the result is.
        self._tasks.put((future, pickle.dumps((function, args))))
        return future

    def close(self) -> None:
        """End the workers; what they have not finished is cancelled."""
        self._closed.set()
        with self._starting:  # so that none is made meanwhile
            for worker in self._workers:
                worker.process.kill()
        for _ in self._threads:
            self._tasks.put(None)
        for thread in self._threads:
            thread.join()
        for worker in self._workers:
            worker.end()

    def _serve(self, place: int) -> None:
        """Hand tasks to the worker of one place, one after the other; a thread."""
        while (task := self._tasks.get()) is not None:
            future, work = task
            if not future.set_running_or_notify_cancel():
                continue
            try:
                value = self._answer(place, work)
            except BaseException as failure:
                future.set_exception(failure)
            else:
                future.set_result(value)

    def _answer(self, place: int, work: bytes) -> Any:
        """Return what a task comes to; raise what it raises, or how it failed its worker."""
        # Once more where the worker ended before it began: that was not the doing of the task.
        begun = self._begin(place, work) or self._begin(place, work)
        worker = self._workers[place]
        late, answer = False, None
        try:
            answer = worker.receive(self._seconds) if begun else None
        except TimeoutError:
            late = True
        if answer is None:
            if self._closed.is_set():
                raise CancelledError
            worker.end()
            self._replace(place)
            raise self._out_of_time() if late else _died(worker.process.exitcode)
        well, value = pickle.loads(answer)  # noqa: S301 - from our own worker
        if well:
            return value
        raise value if value is not None else self._out_of_memory()

    def _begin(self, place: int, work: bytes) -> bool:
        """Return whether the worker has begun; else it is another one now."""
        worker = self._workers[place]
        try:
            worker.pipe.send_bytes(work)
            if worker.receive(math.inf) is not None:
                return True
        except OSError:
            pass
        worker.end()
        self._replace(place)
        return False

    def _replace(self, place: int) -> None:
        with self._starting:
            if not self._closed.is_set():
                self._workers[place] = self._new_worker()

    def _new_worker(self) -> _Worker:
        ours, its = self._context.Pipe()
        process = self._context.Process(
            target=_work, args=(its, *self._starts), name="sarc-kb worker", daemon=True
        )
        process.start()
        # Here, under the lock: whoever is forked with it open would keep the pipe from ending.
        its.close()
        return _Worker(process, ours)

    def _out_of_time(self) -> OutOfTime:
        return OutOfTime(
            f"it took longer than {self._seconds:g} s",
            "one task may take that long, so that it cannot hold up the others",
            f"allow more with {self._options[0]}",
        )

    def _out_of_memory(self) -> OutOfMemory:
        allowed = "there is" if self._memory is None else f"{self._memory >> 20} MB"
        return OutOfMemory(
            f"it needed more memory than {allowed}",
            "one task may take that much, so that it cannot starve the others",
            f"allow more with {self._options[1]}",
        )


_Task = tuple[Future[Any], bytes] | None


@dataclass(frozen=True, slots=True)
class _Worker:
    """A process and the pipe to it."""

    process: BaseProcess
    pipe: Connection

    def receive(self, seconds: float) -> bytes | None:
        """Return what it sends, None where it ends instead.

        Raises:
            TimeoutError: it does neither in time.
        """
        within = None if math.isinf(seconds) else seconds
        ready = wait([self.pipe, self.process.sentinel], within)
        if not ready:
            raise TimeoutError
        try:
            return self.pipe.recv_bytes() if self.pipe in ready or self.pipe.poll() else None
        except (EOFError, OSError):
            return None

    def end(self) -> None:
        self.process.kill()
        self.process.join()
        self.pipe.close()


def _died(exit_code: int | None) -> WorkerDied:
    by = f" by signal {-exit_code}" if exit_code is not None and exit_code < 0 else ""
    return WorkerDied(
        f"the process that worked on it died{by}",
        "it ran out of memory or was stopped; nothing else is touched",
        "run with fewer workers or more memory; if it stays, report it",
    )


# -- in the worker ---------------------------------------------------------------------------------
def _work(
    pipe: Connection,
    memory: int | None,
    initializer: Callable[..., object] | None,
    initargs: tuple[Any, ...],
) -> None:
    """Do tasks as they come: say that one is begun, then what it comes to."""
    # An interrupted run ends its workers itself.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    threading.Thread(target=_end_with_the_run, daemon=True).start()
    if initializer is not None:
        initializer(*initargs)
    while True:
        work = pipe.recv_bytes()
        pipe.send_bytes(b"")
        pipe.send_bytes(_run(work, memory))


def _run(work: bytes, memory: int | None) -> bytes:
    """Do a task; return whether it went well, and its result or what it raised; (False, None): out
    of memory."""
    try:
        with _at_most(memory):
            function, args = pickle.loads(work)  # noqa: S301 - from the process that we work for
            return pickle.dumps((True, function(*args)))
    except MemoryError:
        pass  # what it had is let go of only when its traceback is
    except Exception as error:
        return pickle.dumps((False, error))
    gc.collect()
    return pickle.dumps((False, None))


@contextmanager
def _at_most(memory: int | None) -> Iterator[None]:
    """Let this process take only so many more bytes."""
    have = _data_size()
    if memory is None or have is None:
        yield
        return
    import resource  # not on every platform

    soft, hard = resource.getrlimit(resource.RLIMIT_DATA)
    limit = have + memory
    resource.setrlimit(
        resource.RLIMIT_DATA,
        (limit if hard == resource.RLIM_INFINITY else min(limit, hard), hard),
    )
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, (soft, hard))


def _data_size() -> int | None:
    """Return what counts towards RLIMIT_DATA, in bytes; None where the system does not tell.

    Linux counts all private writable memory there. RLIMIT_AS would count files that are mapped and
    memory that is set aside and never used as well.
    """
    try:
        status = Path("/proc/self/status").read_text("ascii", "replace")
    except OSError:
        return None
    sizes = [line.split()[1] for line in status.splitlines() if line.startswith("VmData:")]
    return int(sizes[0]) * 1024 if sizes else None
