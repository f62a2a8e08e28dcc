"""When a rule's own file changed, as the git repository that holds the rules remembers it.

Days and subjects alone, and no names: a book says what happened to a rule and not who did it. What
a repository says belongs to one commit, so that the same commit gives the same book.
"""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from pathlib import Path

from sarc_kb.errors import Finding, UsageError

_MARK = "\x01"


@dataclass(frozen=True, slots=True)
class Change:
    """One commit that touched a file: its day (YYYY-MM-DD), its subject, and its short name."""

    day: str
    subject: str
    commit: str


def history_of(folder: Path) -> dict[str, tuple[Change, ...]]:
    """Return, for each file below ``folder`` by its path relative to it, the commits that touched
    it, newest first; merges are left out.

    Raises:
        UsageError: the folder is not in a git repository, or git is not there.
    """
    try:
        done = subprocess.run(  # noqa: S603 - a list of arguments, no shell; all of it is ours
            [
                *("git", "-c", "core.quotePath=false", "-C", str(folder), "log", "--no-merges"),
                *("--no-color", "--no-renames", "--relative", "--name-only"),
                *(f"--format={_MARK}%as%x09%h%x09%s", "--abbrev=12", "--", "."),
            ],
            capture_output=True,
            check=False,
        )
        found = done.stdout.decode("utf-8", "replace") if done.returncode == 0 else None
    except FileNotFoundError:
        found = None
    if not found:
        raise UsageError(
            Finding(
                "USE081",
                "error",
                "--history",
                f"no history of {folder} could be read",
                "it is read from the git repository that holds the rules",
                "leave the option out, or build from a checkout where git is installed",
            )
        )
    changes: dict[str, list[Change]] = {}
    for entry in found.split(_MARK)[1:]:
        head, _, names = entry.partition("\n")
        day, commit, subject = head.split("\t", 2)
        for name in filter(None, names.splitlines()):
            changes.setdefault(name, []).append(Change(day, subject, commit))
    return {name: tuple(found) for name, found in changes.items()}
