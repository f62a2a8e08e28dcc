"""Where in the files of a rule base stands what a finding is about."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from sarc_kb.namespaces import TRIAL_BASE, local_name

# A node that a file of ours describes begins a line, and so does `@prefix`, which is none.
_SUBJECT = re.compile(r"^(?:[A-Za-z][\w-]*)?:([A-Za-z0-9][\w.-]*)(?=\s)|^<([^<>\s]+)>(?=\s)", re.M)
_FILE = re.compile(r"[^\s,:]+\.(?:ttl|tsv|txt|rq)(?=$|[\s,:])")
_LINE = re.compile(r":(\d+)(?::(\d+))?|,? line (\d+)(?:,? column (\d+))?")
_WRITTEN = ("ontology/inferred.ttl",)
_SUFFIXES = (".ttl", ".tsv", ".txt", ".rq")


@dataclass(frozen=True, slots=True)
class Place:
    """A file of the rule base (its path from the root, with ``/``), and where in it, from 1."""

    path: str
    line: int | None = None
    column: int | None = None


class Places:
    """The files below ``root``, and the nodes that they describe, as one trial sees them.

    Lines are read off the text: a node is found where a line begins with its name, as all files of
    ours are written. What is not found so has no place; a wrong one is never given on purpose.
    """

    def __init__(self, root: Path, trial: str) -> None:
        self.root = root
        self._own = f"shapes/trials/{trial.lower()}/"

    def of(self, where: str) -> Place | None:
        """Return the place of what a finding calls ``where``: a file with or without its line, a
        rule, a case or any other node by its name or IRI, alone or with something behind it."""
        named = _FILE.search(where)
        if named is not None:
            path = self._path(named[0])
            if path is not None:
                numbered = _LINE.match(where, named.end())
                if numbered is not None:
                    line, column, *words = numbered.groups()
                    line, column = (line, column) if line else (words[0], words[1])
                    return Place(path, int(line), int(column) if column else None)
                return self._in(path, where[: named.start()]) or Place(path)
        name = _name(where)
        return self._nodes.get(name) if name else None

    def _in(self, path: str, before: str) -> Place | None:
        """Return the place of a node that is named before its file, if it stands in it."""
        place = self._nodes.get(_name(before))
        return place if place is not None and place.path == path else None

    def _path(self, named: str) -> str | None:
        """Return the path of a file by its path or by its end; None where several end so."""
        found = [p for p in self._files if p == named or p.endswith("/" + named)]
        own = [p for p in found if p.startswith(self._own)] or found
        return own[0] if len(own) == 1 else None

    @cached_property
    def _files(self) -> tuple[str, ...]:
        return tuple(
            path.relative_to(self.root).as_posix()
            for part in ("ontology", "shapes")
            for path in sorted((self.root / part).rglob("*"))
            if path.suffix in _SUFFIXES
        )

    @cached_property
    def _nodes(self) -> dict[str, Place]:
        """The first line of each node; the trial's own files go first, and nothing that a program
        wrote counts."""
        found: dict[str, Place] = {}
        own = [p for p in self._files if p.startswith(self._own)]
        others = [
            p for p in self._files if not p.startswith("shapes/trials/") and p not in _WRITTEN
        ]
        for path in (*own, *others):
            if path.endswith(".ttl"):
                for name, line in _subjects((self.root / path).read_text("utf-8", "replace")):
                    found.setdefault(name, Place(path, line))
        return found


def _subjects(text: str) -> Iterator[tuple[str, int]]:
    for match in _SUBJECT.finditer(text):
        yield match[1] or local_name(match[2]), text.count("\n", 0, match.start()) + 1


def _name(where: str) -> str:
    """Return the local name that ``where`` begins with; empty where it begins otherwise.

    >>> _name("trial:I07a"), _name("I07a:atLeast=9.1"), _name("I07a in I07b-case"), _name("A-01=x")
    ('I07a', 'I07a', 'I07a', 'A-01')
    """
    if where.startswith(TRIAL_BASE):
        return local_name(where)
    text = re.sub(r"^(?:trial|sarc|policy):", "", where)
    match = re.match(r"[A-Za-z0-9][\w-]*(?:\.\w[\w-]*)*", text)
    return match[0] if match else ""
