"""What a worker is asked, and of which knowledge base."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from sarc_kb.options import pairs

KNOWLEDGE_VARIABLE = "SARC_KB_SERVICE_KNOWLEDGE"
"""Of the environment: the knowledge as JSON, for the process that workers are forked from."""


@dataclass(frozen=True, slots=True)
class Knowledge:
    """Where the knowledge base comes from, as the command line names it."""

    rules: str | None = None
    mappings: tuple[str, ...] = ()
    concept_ancestors: tuple[str, ...] = ()
    value_sets: tuple[tuple[str | None, str], ...] = ()
    engine: str = "pyshacl"


@dataclass(frozen=True, slots=True)
class Question:
    """One request, as a worker is asked it.

    ``options``: the parameters of the query, each with all its values. ``ending``: as that of a
    file's name. ``rule``: the rule that is to be explained.
    """

    form: str
    options: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    body: bytes = b""
    ending: str = ""
    rule: str = ""

    def one(self, name: str) -> str | None:
        values = self.options.get(name, ())
        return values[0] if values else None

    def pairs(self, name: str) -> dict[str, str]:
        return pairs(f"--{name}", self.options.get(name, ()))

    @property
    def complete(self) -> tuple[str, ...]:
        return tuple(filter(None, (self.one("complete") or "").split(",")))
