"""One part of an audit: what was looked at, what was found, and how it is told."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from sarc_kb.errors import Finding
from sarc_kb.kb import KnowledgeBase


@dataclass(frozen=True, slots=True)
class Request:
    """What an audit is asked: the trial, and what its parts may need.

    ``against``: another version of the source record. ``full``: also what takes long.
    """

    trial: str
    against: Path | None = None
    full: bool = False


Status = Literal["passed", "failed", "could not run"]


@dataclass(frozen=True, slots=True)
class Section:
    """What one part of an audit comes to.

    ``summary`` is one line; ``lines`` are the details as text; ``document`` is the same as plain
    dictionaries, lists, strings and numbers. ``findings``: an error means that the part is not
    passed, a warning is to be looked at, an info is worth knowing. ``not_run``: why the part could
    not run; then nothing is known about what it looks at, and the rest is empty.
    """

    name: str
    summary: str
    lines: tuple[str, ...] = ()
    document: Mapping[str, object] = field(default_factory=dict)
    findings: tuple[Finding, ...] = ()
    not_run: tuple[Finding, ...] = ()

    @property
    def passed(self) -> bool:
        return self.status == "passed"

    @property
    def status(self) -> Status:
        if self.not_run:
            return "could not run"
        return "failed" if any(f.severity == "error" for f in self.findings) else "passed"


Audit = Callable[[KnowledgeBase, Request], Section]
"""A part of the audit; each module of this package has one, called ``audit``."""
