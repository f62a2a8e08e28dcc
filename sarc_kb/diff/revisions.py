"""The two sides of a comparison: folders, or revisions of the git repository that holds the rules."""

from __future__ import annotations

import io
import subprocess
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from sarc_kb.errors import Finding, UsageError

PARTS = ("ontology", "shapes")


@contextmanager
def knowledge_base_of(side: str, home: Path) -> Iterator[Path]:
    """Give the folder with ``ontology/`` and ``shapes/`` that ``side`` names: a folder, or else a
    git revision of the knowledge base in ``home``. What was taken out of git is removed after.

    Raises:
        UsageError: it is neither.
    """
    folder = Path(side)
    if side and folder.is_dir():
        missing = [name for name in PARTS if not (folder / name).is_dir()]
        if missing:
            raise _fault(
                side,
                f"a folder without {' and '.join(f'{name}/' for name in missing)}",
                "name the folder that holds ontology/ and shapes/",
            )
        yield folder
        return
    if not side or side.startswith("-"):
        raise _fault(side, "no folder, and no name of a revision", "name a folder or a revision")
    with TemporaryDirectory(prefix="sarc-kb-diff-") as scratch:
        target = Path(scratch)
        _take_out(side, home, target)
        yield target


def _take_out(revision: str, home: Path, target: Path) -> None:
    found = _git(revision, home, "rev-parse", "--is-inside-work-tree")
    if found.returncode:
        raise _fault(
            revision,
            f"no folder of that name, and {home} is not in a git repository",
            "name a folder, or with --rules a knowledge base that is in a repository",
        )
    asked = f"{revision}^{{commit}}"
    found = _git(revision, home, "rev-parse", "--verify", "--quiet", "--end-of-options", asked)
    if found.returncode:
        raise _fault(
            revision,
            "no folder and no revision of that name",
            "see `git log` and `git tag` for what there is",
        )
    commit = found.stdout.decode("ascii", "replace").strip()
    # Below a folder of the repository, git takes out what the folder holds.
    found = _git(revision, home, "archive", "--format=tar", commit, *PARTS)
    if found.returncode:
        raise _fault(
            revision,
            "that revision has no ontology/ and shapes/ there",
            "name a later revision, or with --rules where the knowledge base is",
        )
    with tarfile.open(fileobj=io.BytesIO(found.stdout)) as archive:
        archive.extractall(target, filter="data")


def _git(revision: str, home: Path, *arguments: str) -> subprocess.CompletedProcess[bytes]:
    try:
        return subprocess.run(  # noqa: S603 - a list of arguments, no shell; the name is checked
            ["git", *arguments],  # noqa: S607 - the git that the caller uses
            cwd=home,
            capture_output=True,
            check=False,
        )
    except FileNotFoundError:
        raise _fault(
            revision,
            "no folder of that name, and git is not installed",
            "install git, or name a folder",
        ) from None


def _fault(side: str, found: str, fix: str) -> UsageError:
    return UsageError(
        Finding("USE070", "error", f"diff {side}", found, "there is nothing to compare with", fix)
    )
