"""Workers that may fail: one task is lost, with a message that says why, and nothing else."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError, Future
from pathlib import Path

import pytest

from sarc_kb.workers import (
    IsolatedWorkers,
    OutOfMemory,
    OutOfTime,
    WorkerDied,
    WorkerFailed,
    memory_is_limited,
)

ROOT = Path(__file__).resolve().parent.parent
MB = 1 << 20
_kept: list[object] = []


def double(number: int) -> int:
    return 2 * number


def take(megabytes: int) -> int:
    return len(bytearray(megabytes * MB))


def take_little_by_little(megabytes: int) -> int:
    return len([str(n % 10) * 100_000 for n in range(megabytes * 10)])


def keep(thing: object) -> None:
    _kept.append(thing)


def kept() -> tuple[int, list[object]]:
    return os.getpid(), _kept


def turn_for_ever() -> None:
    while True:
        pass


def die(number: int) -> None:
    os.kill(os.getpid(), number)
    time.sleep(60)


def leave() -> None:
    os._exit(7)


def raise_(error: BaseException) -> None:
    raise error


def nap(seconds: float) -> int:
    time.sleep(seconds)
    return os.getpid()


class OnlyOutError(Exception):
    """Can be sent, cannot be put together again."""

    def __init__(self, one: int, two: int) -> None:
        super().__init__("of two")


def raise_only_out() -> None:
    raise OnlyOutError(1, 2)


@pytest.fixture
def workers() -> Iterator[IsolatedWorkers]:
    with_limits = IsolatedWorkers(2, seconds=1, memory=200 * MB)
    yield with_limits
    with_limits.close()


def alive(pid: int) -> bool:
    """Return whether there is such a process that has not ended."""
    try:
        status = Path(f"/proc/{pid}/stat").read_text("ascii")
    except OSError:
        return False
    return status.rpartition(")")[2].split()[0] not in {"Z", "X"}


def wait_until_gone(pids: set[int]) -> None:
    for _ in range(600):
        if not any(map(alive, pids)):
            return
        time.sleep(0.05)
    raise AssertionError("they are still there")


def test_a_result_comes_back_and_so_does_what_was_raised(workers: IsolatedWorkers) -> None:
    answers = [workers.submit(double, n) for n in range(20)]
    assert [a.result(30) for a in answers] == [2 * n for n in range(20)]
    with pytest.raises(KeyError, match="gone"):
        workers.submit(raise_, KeyError("gone")).result(30)
    with pytest.raises(TimeoutError, match="of its own"):
        workers.submit(raise_, TimeoutError("of its own")).result(30)
    assert workers.submit(double, 4).result(30) == 8


def test_what_cannot_travel_costs_that_task_alone(workers: IsolatedWorkers) -> None:
    with pytest.raises((AttributeError, TypeError), match="pickle"):
        workers.submit(double, lambda: None)
    with pytest.raises(TypeError, match="missing 1 required"):
        workers.submit(raise_only_out).result(30)
    assert workers.submit(double, 4).result(30) == 8


@pytest.mark.threat("B5", "G1")
def test_a_task_without_end_is_stopped_and_the_others_are_done(workers: IsolatedWorkers) -> None:
    endless = workers.submit(turn_for_ever)
    others = [workers.submit(double, n) for n in range(20)]
    with pytest.raises(OutOfTime) as told:
        endless.result(30)
    assert "longer than 1 s" in str(told.value)
    assert "--time-limit" in str(told.value)
    assert [o.result(30) for o in others] == [2 * n for n in range(20)]


@pytest.mark.threat("G1")
@pytest.mark.skipif(not memory_is_limited(), reason="the system limits no memory")
@pytest.mark.parametrize("how", [take, take_little_by_little])
def test_a_task_that_is_greedy_fails_alone(how: Callable[[int], int]) -> None:
    """Twice over: what it had before it failed is given back."""
    one = IsolatedWorkers(1, seconds=120, memory=200 * MB)
    try:
        for _ in range(2):
            with pytest.raises(OutOfMemory) as told:
                one.submit(how, 1000).result(120)
            assert "more memory than 200 MB" in str(told.value)
            assert "--memory-limit" in str(told.value)
            assert one.submit(take, 100).result(120) == 100 * MB
    finally:
        one.close()


@pytest.mark.skipif(not memory_is_limited(), reason="the system limits no memory")
def test_the_limit_is_what_one_task_may_take() -> None:
    """Above what the worker has, however much that is."""
    # Not forked: what a large process has freed and kept would do for the task.
    one = IsolatedWorkers(
        1,
        seconds=30,
        memory=50 * MB,
        initializer=keep,
        initargs=(bytearray(300 * MB),),
        context=multiprocessing.get_context("spawn"),
    )
    try:
        assert one.submit(take, 30).result(30) == 30 * MB
        with pytest.raises(OutOfMemory):
            one.submit(take, 80).result(30)
        with pytest.raises(OutOfMemory):
            one.submit(len, bytearray(80 * MB)).result(30)
    finally:
        one.close()


@pytest.mark.threat("G1")
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV, signal.SIGABRT])
def test_a_worker_that_dies_costs_one_task(
    number: signal.Signals, workers: IsolatedWorkers
) -> None:
    answers: list[Future[object]] = []
    for n in range(20):
        answers.append(workers.submit(double, n))
        if n % 5 == 0:
            answers.append(workers.submit(die, number))
    failures = [a.exception(60) for a in answers]
    assert [f is None for f in failures] == [n % 6 != 1 for n in range(24)]
    for failure in filter(None, failures):
        assert isinstance(failure, WorkerDied)
        assert f"by signal {number.value}" in str(failure)


def test_a_worker_may_not_leave_either(workers: IsolatedWorkers) -> None:
    with pytest.raises(WorkerDied):
        workers.submit(leave).result(30)
    assert workers.submit(double, 4).result(30) == 8


@pytest.mark.threat("G1")
def test_workers_that_are_killed_at_rest_are_replaced(workers: IsolatedWorkers) -> None:
    pids = {child.pid for child in multiprocessing.active_children()}
    assert len(pids) >= 2
    for pid in pids:
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
    answers = [workers.submit(double, n) for n in range(20)]
    assert [a.result(90) for a in answers] == [2 * n for n in range(20)]
    time.sleep(0.5)
    assert workers.submit(double, 4).result(90) == 8


def test_an_initializer_that_fails_is_an_answer(caplog: pytest.LogCaptureFixture) -> None:
    none = IsolatedWorkers(1, seconds=5, memory=None, initializer=raise_, initargs=(OSError(),))
    try:
        assert isinstance(none.submit(double, 1).exception(60), WorkerFailed)
    finally:
        none.close()


def test_workers_keep_what_they_were_started_with() -> None:
    one = IsolatedWorkers(1, seconds=30, memory=None, initializer=keep, initargs=("kb",))
    try:
        first, second = one.submit(kept).result(30), one.submit(kept).result(30)
    finally:
        one.close()
    assert first == second == (first[0], ["kb"])
    assert first[0] != os.getpid()
    wait_until_gone({first[0]})


def test_closing_cancels_and_ends_all() -> None:
    two = IsolatedWorkers(2, seconds=60, memory=None)
    pids = {two.submit(nap, 0.2).result(30) for _ in range(4)}
    waiting = [two.submit(nap, 60) for _ in range(50)]
    two.close()
    for future in waiting:
        with pytest.raises(CancelledError):
            future.result(30)
    wait_until_gone(pids)
    with pytest.raises(RuntimeError, match="closed"):
        two.submit(double, 1)
    two.close()


ORPHANS = """
import os, sys, time
from sarc_kb.workers import IsolatedWorkers
sys.path.insert(0, sys.argv[1])
from test_workers import nap
workers = IsolatedWorkers(2, seconds=600, memory=None)
first = [workers.submit(nap, 0.3) for _ in range(2)]
print(*{f.result() for f in first}, flush=True)
for _ in range(2):
    workers.submit(nap, 600)
time.sleep(600)
"""


@pytest.mark.threat("G3")
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_no_worker_outlives_the_run(number: signal.Signals) -> None:
    run = subprocess.Popen(
        [sys.executable, "-c", ORPHANS, str(ROOT / "tests")],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert run.stdout is not None
    pids = set(map(int, run.stdout.readline().split()))
    assert pids
    run.send_signal(number)
    run.wait(60)
    run.stdout.close()
    wait_until_gone(pids)


def test_processes_made_anew_work_as_well() -> None:
    fresh = IsolatedWorkers(
        1,
        seconds=60,
        memory=200 * MB,
        initializer=keep,
        initargs=("sent",),
        context=multiprocessing.get_context("spawn"),
    )
    try:
        assert fresh.submit(kept).result(60)[1] == ["sent"]
    finally:
        fresh.close()
