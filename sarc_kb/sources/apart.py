"""Reading that may be done apart: in another process, within limits."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Protocol, TypeVar

from sarc_kb.errors import Finding
from sarc_kb.workers import WorkerFailed

T = TypeVar("T")


class Run(Protocol):
    """Calls a reading function with ``args``, and behind them what readers need of the knowledge
    base; both ways of it return what the function does, and raise what it raises.

    Raises:
        WorkerFailed: it was done apart, and came to nothing there.
    """

    def __call__(self, function: Callable[..., T], *args: object) -> T: ...


Apart = Callable[[], AbstractContextManager[Run]]
"""Opens a place to read in, and closes it."""


def not_read(failure: WorkerFailed, where: str, instead: str = "") -> Finding:
    """Return what is told of input that its reader came to nothing on; ``instead``: what else may
    be done about it."""
    fix = f"{failure.fix}; {instead}" if instead else failure.fix
    return Finding(
        failure.code, "error", where, f"while it was read, {failure.found}", failure.why, fix
    )
