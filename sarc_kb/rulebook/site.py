"""The book on disk: pages from templates, and a folder that appears whole or not at all."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Any

from jinja2 import Environment
from markupsafe import Markup

from sarc_kb.errors import Finding, UsageError
from sarc_kb.reports import pages
from sarc_kb.reports.escaping import visible

MARK = ".sarc-kb-rule-book"
"""A file of this name says that a folder was made by this program, so that it may be replaced."""

_STATIC = ("book.css", "book.js")


def templates(functions: Mapping[str, object]) -> Environment:
    """Return the templates of the book with ``functions`` known to all of them. Every value is
    escaped, and what does not print is shown as an escape; an undefined name is an error."""
    environment = pages.environment("sarc_kb.rulebook", finalize=shown)
    environment.globals.update(functions)
    return environment


def shown(value: Any) -> Any:
    """Return ``value`` as pages show it: in a text, what does not print is an escape."""
    if value is None:
        return ""
    if isinstance(value, str) and not isinstance(value, Markup) and not value.isprintable():
        return "\n".join(visible(line) for line in value.split("\n"))
    return value


def static_files() -> dict[str, bytes]:
    """Return the style sheet and the script."""
    folder = resources.files("sarc_kb.rulebook") / "static"
    return {name: (folder / name).read_bytes() for name in _STATIC}


def write_site(folder: Path, files: Mapping[str, bytes]) -> None:
    """Make ``folder`` hold exactly ``files`` (relative path to content). It is made beside its place
    and put there at the end; what was there before is only replaced if this program made it.

    Raises:
        UsageError: the folder holds something else.
        OSError: it cannot be written.
    """
    refuse_foreign(folder)
    target = folder.resolve()
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        made = Path(tempfile.mkdtemp(dir=target.parent, prefix=".sarc-kb-"))
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(folder)) from None
    try:
        mask = os.umask(0)
        os.umask(mask)
        made.chmod(0o777 & ~mask)
        for name, content in sorted(files.items()):
            path = made / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        (made / MARK).write_bytes(b"")
        _put(made, target)
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(folder)) from None
    finally:
        shutil.rmtree(made, ignore_errors=True)


def refuse_foreign(folder: Path) -> None:
    if not folder.exists() and not folder.is_symlink():
        return
    if folder.is_dir() and ((folder / MARK).is_file() or not any(folder.iterdir())):
        return
    raise UsageError(
        Finding(
            "USE080",
            "error",
            str(folder),
            "there is something else than a rule book"
            if folder.is_dir()
            else "there is something that is no folder",
            "it would be replaced as a whole",
            "name a new or an empty folder, or one that holds a rule book",
        )
    )


def _put(made: Path, target: Path) -> None:
    """Put the new folder in place of the old one, which comes back if that fails."""
    if not target.exists():
        made.rename(target)
        return
    old = Path(tempfile.mkdtemp(dir=target.parent, prefix=".sarc-kb-"))
    try:
        target.rename(old / "old")
        try:
            made.rename(target)
        except OSError:
            (old / "old").rename(target)
            raise
    finally:
        shutil.rmtree(old, ignore_errors=True)
