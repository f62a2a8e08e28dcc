"""Processes that work for one run and end with it."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from multiprocessing.context import BaseContext


def worker_context() -> BaseContext:
    """Return how processes are made: forked where that is possible, so that a worker has the
    knowledge base without loading it; else it is sent."""
    method = "fork" if "fork" in multiprocessing.get_all_start_methods() else None
    return multiprocessing.get_context(method)


def become_worker() -> None:
    """Make this process one that works for the process that started it."""
    # Whoever interrupts the run is told so once, by the process that was started.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    threading.Thread(target=_end_with_the_run, daemon=True).start()


def _end_with_the_run() -> None:
    """End this worker when the process that it works for is gone, however it went."""
    run = multiprocessing.parent_process()
    if run is not None:
        run.join()
        os._exit(1)
