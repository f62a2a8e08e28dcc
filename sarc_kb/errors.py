"""Everything that can go wrong, and how it is told.

    SarcError                 anything this program raises on purpose
    ├── InputError            a source cannot be read at all (file, syntax, encoding)
    ├── RuleBaseError         the rule base is not well-formed; raised before any patient is read
    ├── UsageError            an option names something that does not exist
    └── EngineError           a SHACL processor failed or contradicts itself

What is wrong with one record is never raised: it is a :class:`Finding` beside the results, and if
the record cannot be judged, the verdict is ``error`` for that patient alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Severity = Literal["error", "warning", "info"]


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing worth telling about the input, the rules or the run.

    ``code`` is stable (``DATA…``, ``RULE…``, ``ENGINE…``). ``where`` is a file, a resource or a
    rule. ``found``, ``why`` and ``fix`` complete the sentence; none of them holds a patient's data
    beyond identifiers and the one value that is faulty.
    """

    code: str
    severity: Severity
    where: str
    found: str
    why: str
    fix: str

    def __str__(self) -> str:
        return f"{self.code} {self.where}: {self.found}; {self.why}; {self.fix}"


class SarcError(Exception):
    """Base of all errors; carries one or more findings."""

    def __init__(self, *findings: Finding) -> None:
        super().__init__("\n".join(str(f) for f in findings))
        self.findings = findings


class InputError(SarcError):
    """A source could not be read at all."""


class RuleBaseError(SarcError):
    """The rule base is not well-formed."""


class UsageError(SarcError):
    """An option or argument names something that does not exist."""


class EngineError(SarcError):
    """A SHACL processor failed, or its two readings contradict each other."""
