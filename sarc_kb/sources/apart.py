"""Reading that may be done apart: in another process, within limits."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Protocol, TypeVar

from sarc_kb.errors import Finding

T = TypeVar("T")


class UnreadError(Exception):
    """Reading came to nothing apart, for a reason that is not in the input's form.

    ``code``, ``found``, ``why`` and ``fix`` are those of a `Finding`.
    """

    def __init__(self, code: str, found: str, why: str, fix: str) -> None:
        super().__init__(code, found, why, fix)
        self.code, self.found, self.why, self.fix = code, found, why, fix

    def finding(self, where: str, instead: str = "") -> Finding:
        """Return it as told of ``where``; ``instead``: what else may be done about it."""
        fix = f"{self.fix}; {instead}" if instead else self.fix
        found = f"while it was read, {self.found}"
        return Finding(self.code, "error", where, found, self.why, fix)


class Run(Protocol):
    """Calls a reading function with ``args``, and behind them what readers need of the knowledge
    base; both ways of it return what the function does, and raise what it raises.

    Raises:
        UnreadError: it was done apart, and came to nothing there.
    """

    def __call__(self, function: Callable[..., T], *args: object) -> T: ...


Apart = Callable[[], AbstractContextManager[Run]]
"""Opens a place to read in, and closes it."""
