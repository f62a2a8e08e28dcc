"""The command line on a terminal and off one: widths, colours, progress. The terminal is a real
pseudo-terminal of a given size."""

from __future__ import annotations

import fcntl
import io
import os
import pty
import re
import struct
import sys
import termios
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from sarc_kb import cli
from sarc_kb.cli import terminal
from sarc_kb.kb import KnowledgeBase

EXAMPLES = Path(__file__).resolve().parent.parent / "examples"
COLOUR = re.compile(r"\x1b\[[0-9;]*m")


class Screen:
    """A pseudo-terminal, and all that was written to it."""

    def __init__(self, columns: int) -> None:
        self._master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
        self.stream = os.fdopen(slave, "w", encoding="utf-8")
        self._bytes = b""
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        try:
            while part := os.read(self._master, 4096):
                self._bytes += part
        except OSError:
            pass  # the other end was closed

    def text(self) -> str:
        self.stream.close()
        self._reader.join(10)
        return self._bytes.decode("utf-8").replace("\r\n", "\n")


Shown = Callable[..., tuple[str, str]]


@pytest.fixture
def run(kb: KnowledgeBase, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Shown]:
    """Run a command on a terminal of so many columns; without ``out`` or ``err``, that stream is no
    terminal. Return what stood on standard output and on standard error."""
    monkeypatch.setattr(KnowledgeBase, "load", classmethod(lambda _, root=None: kb))
    monkeypatch.setattr(terminal.Progress, "SOON", 0.0)
    monkeypatch.setattr(terminal.Progress, "OFTEN", 0.0)
    monkeypatch.chdir(tmp_path)
    for name in ("COLUMNS", "NO_COLOR", "FORCE_COLOR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm")

    def command(
        *arguments: object, columns: int = 80, out: bool = True, err: bool = True
    ) -> tuple[str, str]:
        screens = [Screen(columns) if wanted else io.StringIO() for wanted in (out, err)]
        streams = [s.stream if isinstance(s, Screen) else s for s in screens]
        with monkeypatch.context() as patch:
            patch.setattr(sys, "stdout", streams[0])
            patch.setattr(sys, "__stdout__", streams[0])
            patch.setattr(sys, "stderr", streams[1])
            assert cli.main(list(map(str, arguments))) in (0, 1, 3)
            for stream in streams:
                stream.flush()
        told = [s.text() if isinstance(s, Screen) else s.getvalue() for s in screens]
        return told[0], told[1]

    return command


# -- width ---------------------------------------------------------------------------------------
@pytest.mark.parametrize("columns", [60, 80, 132])
def test_a_report_is_as_wide_as_the_terminal(run: Shown, columns: int) -> None:
    shown, _ = run("validate", EXAMPLES / "pelvis", columns=columns)
    lines = [COLOUR.sub("", line) for line in shown.splitlines()]
    # Longer is only a single word, such as a path, behind its label.
    assert [s for s in lines if len(s) > columns and len(s.split()) > 2] == []
    fitting = [len(line) for line in lines if len(line) <= columns]
    assert max(fitting) > columns - 10


def test_columns_of_the_environment_win_on_a_terminal(
    run: Shown, monkeypatch: pytest.MonkeyPatch
) -> None:
    there, _ = run("validate", EXAMPLES / "anaemic", columns=60)
    monkeypatch.setenv("COLUMNS", "60")
    assert run("validate", EXAMPLES / "anaemic", columns=132)[0] == there


def test_a_pipe_gets_the_same_whatever_the_terminal(
    run: Shown, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain, _ = run("validate", EXAMPLES / "anaemic", out=False)
    assert max(map(len, plain.splitlines())) in range(90, 101)
    assert "\x1b" not in plain
    monkeypatch.setenv("COLUMNS", "40")
    assert run("validate", EXAMPLES / "anaemic", columns=40, out=False)[0] == plain
    run("validate", EXAMPLES / "anaemic", "--output", "report.txt", columns=40)
    assert Path("report.txt").read_text("utf-8") == plain


# -- colour --------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("variables", "on_terminal", "off_terminal"),
    [
        ({}, True, False),
        ({"NO_COLOR": "1"}, False, False),
        ({"NO_COLOR": ""}, True, False),
        ({"TERM": "dumb"}, False, False),
        ({"FORCE_COLOR": "1"}, True, True),
        ({"FORCE_COLOR": "1", "TERM": "dumb"}, True, True),
        ({"FORCE_COLOR": "1", "NO_COLOR": "1"}, False, False),
    ],
)
def test_colours(
    run: Shown,
    monkeypatch: pytest.MonkeyPatch,
    variables: dict[str, str],
    on_terminal: bool,
    off_terminal: bool,
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    shown, _ = run("validate", EXAMPLES / "anaemic", columns=100)
    piped, _ = run("validate", EXAMPLES / "anaemic", out=False)
    assert ("\x1b[31mINELIGIBLE\x1b[0m" in shown, "\x1b" in shown) == (on_terminal, on_terminal)
    assert ("\x1b[31mINELIGIBLE\x1b[0m" in piped, "\x1b" in piped) == (off_terminal, off_terminal)
    # Colours add nothing that the words do not say.
    assert COLOUR.sub("", shown) == COLOUR.sub("", piped)
    run("validate", EXAMPLES / "anaemic", "--output", "report.txt")
    assert b"\x1b" not in Path("report.txt").read_bytes()


# -- the five parts, quiet and verbose -----------------------------------------------------------
def test_a_table_first_then_five_answers_in_order(run: Shown) -> None:
    shown, _ = run("validate", EXAMPLES / "anaemic", out=False)
    lines = shown.splitlines()
    assert lines[0].startswith("INELIGIBLE  sarc-example-02")
    assert lines[2].split() == ["criterion", "outcome", "subject", "decided", "by"]
    start = next(n for n, line in enumerate(lines) if line.startswith("FAIL  NCT05602415 I07a"))
    assert sum(bool(re.match(r"  [IE]\d\d ", line)) for line in lines[:start]) == 30
    heads = [m[1] for line in lines[start:] if (m := re.match(r"  ([a-z]+) {2,}\S", line))]
    assert heads[:6] == ["where", "found", "why", "rests", "fix", "more"]


def test_quiet_is_a_line_a_patient_and_verbose_tells_more(run: Shown) -> None:
    patients = [EXAMPLES / name for name in ("anaemic", "eligible", "pelvis")]
    quiet, _ = run("validate", *patients, "--quiet", out=False)
    usual, _ = run("validate", *patients, out=False)
    verbose, _ = run("validate", *patients, "--verbose", out=False)
    assert [line.split()[0] for line in quiet.splitlines() if line] == [
        "INELIGIBLE",
        "ELIGIBLE",
        "UNDETERMINED",
        "3",
    ]
    assert set(quiet.splitlines()) <= set(usual.splitlines())
    assert len(verbose) > len(usual)
    assert "in the register of ambiguities" in verbose
    assert "in the register of ambiguities" not in usual


def test_quiet_and_verbose_are_not_asked_together(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit) as stopped:
        cli.main(["validate", "x.ttl", "--quiet", "--verbose"])
    assert stopped.value.code == 2
    assert "not allowed with" in capsys.readouterr().err


# -- progress ------------------------------------------------------------------------------------
THREE = [EXAMPLES / name for name in ("anaemic", "eligible", "pelvis")]
RATE = re.compile(r"\r(\d)/3 patients, \d+(\.\d)? a second, \d+ s left")


@pytest.mark.parametrize(
    ("command", "steps"),
    [
        (["validate", *THREE, "--output", "report.txt"], ["1", "2", "3"]),
        (["facts", *THREE, "--output", "facts.parquet"], ["1", "2", "3"]),
        (["readiness", *THREE], ["1", "2", "3"]),
        (["map", *THREE], ["1", "2", "3"]),
        (["screen", *THREE, "--workers", "1", "--output", "screened"], ["3"]),  # in parts of 1000
    ],
    ids=lambda c: c[0] if len(c) > 3 else None,
)
def test_progress_tells_rate_and_time_left(
    run: Shown, command: list[object], steps: list[str]
) -> None:
    if command[0] in ("facts", "screen"):
        pytest.importorskip("pyarrow", reason="the extra cohort is not installed")
    _, shown = run(*command, out=False)
    assert [m[1] for m in RATE.finditer(shown)] == steps
    assert shown.rpartition("\r")[2] == ""  # and is gone in the end
    assert shown.rpartition("\r")[0].rpartition("\r")[2].strip() == ""


def test_no_progress_where_nobody_could_see_it(run: Shown, monkeypatch: pytest.MonkeyPatch) -> None:
    assert run("validate", *THREE, err=False)[1] == ""
    assert run("validate", *THREE, "--quiet")[1] == ""
    monkeypatch.setenv("TERM", "dumb")
    assert run("validate", *THREE)[1] == ""


def test_a_short_run_shows_none(run: Shown, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(terminal.Progress, "SOON", 60.0)
    assert run("validate", *THREE)[1] == ""


def test_progress_stays_in_one_line_of_a_narrow_terminal(run: Shown) -> None:
    _, shown = run("validate", *THREE, columns=20, out=False)
    assert [part[:12] for part in shown.split("\r")[1:4]] == [f"{n}/3 patients" for n in (1, 2, 3)]
    assert max(map(len, shown.split("\r"))) == 19


def test_the_audit_tells_what_it_is_at(run: Shown) -> None:
    _, shown = run("audit", "source", "codes", out=False)
    assert re.search(r"\r0/2 parts, \d+ s, now source", shown)
    assert re.search(r"\r1/2 parts, \d+ s, now codes", shown)


@pytest.mark.parametrize(
    ("seconds", "told"),
    [(7, "7 s"), (99, "99 s"), (150, "2 min"), (5400, "90 min"), (9000, "2.5 h")],
)
def test_time_left(seconds: float, told: str) -> None:
    assert terminal._time(seconds) == told
