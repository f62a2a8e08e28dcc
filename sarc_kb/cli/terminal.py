"""What a terminal is like, and the one line of progress on it.

Colours and widths are for people: what goes into a file or a pipe has no colours and 100 columns,
whatever the environment says, unless colours are asked for.

Source: no-color.org, force-color.org; the order in which CPython asks the environment.
"""

from __future__ import annotations

import os
import shutil
import sys
from time import monotonic
from typing import Self

WIDTH = 100
"""Columns where there is no terminal."""


def width(output: str | None) -> int:
    """Return the columns to use: those of the terminal (or ``COLUMNS``), else `WIDTH`.

    ``output``: the file that is written instead, if any.
    """
    if output is not None or not sys.stdout.isatty():
        return WIDTH
    return shutil.get_terminal_size((WIDTH, 24)).columns


def coloured(output: str | None) -> bool:
    """Return whether to use colours: ``NO_COLOR`` says no, else ``FORCE_COLOR`` yes, else a
    terminal that is not dumb. A file has none."""
    if output is not None or os.environ.get("NO_COLOR"):
        return False
    if os.environ.get("FORCE_COLOR"):
        return True
    return sys.stdout.isatty() and os.environ.get("TERM") != "dumb"


class Line:
    """A line on standard error that is written over and is gone in the end; nothing where standard
    error is no terminal, or one that cannot go back in a line."""

    def __init__(self, *, quiet: bool = False) -> None:
        self.shown = not quiet and sys.stderr.isatty() and os.environ.get("TERM") != "dumb"
        self._length = 0

    def __enter__(self) -> Self:
        return self

    def write(self, text: str) -> None:
        """Show a text in place of the one before, cut to the terminal."""
        if self.shown:
            try:
                most = os.get_terminal_size(sys.stderr.fileno()).columns or WIDTH
            except (OSError, ValueError):
                most = WIDTH
            text = text[: most - 1]
            print(f"\r{text:<{min(self._length, most - 1)}}", end="", file=sys.stderr, flush=True)
            self._length = len(text)

    def __exit__(self, *_: object) -> None:
        if self.shown and self._length:
            self.write("")
            print("\r", end="", file=sys.stderr, flush=True)


class Progress(Line):
    """How many patients are done, how fast, and how long the rest will take; for runs of more than
    a second.

    ``total`` 0: nobody knows how many there are.
    """

    SOON, OFTEN = 1.0, 0.2
    """Seconds before the first text, and between two."""

    def __init__(self, total: int, *, quiet: bool = False) -> None:
        super().__init__(quiet=quiet)
        self.total, self.done = total, 0
        self._start = monotonic()
        self._next = self._start + self.SOON

    def step(self, count: int = 1) -> None:
        """Count patients as done."""
        self.done += count
        now = monotonic()
        if not self.shown or now < self._next:
            return
        self._next = now + self.OFTEN
        rate = self.done / (now - self._start)
        of, left = "", ""
        if self.total:
            of, left = f"/{self.total}", f", {_time((self.total - self.done) / rate)} left"
        self.write(f"{self.done}{of} patients, {rate:.{0 if rate >= 10 else 1}f} a second{left}")


def _time(seconds: float) -> str:
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"
