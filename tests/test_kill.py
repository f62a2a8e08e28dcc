"""Runs that are killed at any moment: what they wrote is whole or not there, and what they leave is
in nobody's way."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from test_screen import many
from tiny_trial import build_tiny

pytest.importorskip("duckdb")
pytest.importorskip("ibis")

ROOT = Path(__file__).resolve().parent.parent
EXAMPLE = ROOT / "examples" / "anaemic" / "patient.ttl"
KILLED = {signal.SIGKILL: -9, signal.SIGTERM: 130, signal.SIGINT: 130}
TIMES = 25
"""How often each of the four commands is killed in all; once without the slow tests."""

# Loads the program once, and runs the commands that it is sent, each in a process made from it.
SERVER = """
import functools, json, os, signal, sys, time
import duckdb, ibis, pyarrow.parquet
from sarc_kb import cli
from sarc_kb.cohort import preparing, screen
from sarc_kb.kb import KnowledgeBase
from sarc_kb.reports import cohort_page, cohort_report
from sarc_kb.rulebook import build, site
from sarc_kb.provenance import pack
screen.prepare_all = functools.partial(preparing.prepare_all, size=8)
kb = KnowledgeBase.load(sys.argv[1])
kb.engine()
KnowledgeBase.load = lambda root: kb
print("ready", flush=True)
for line in sys.stdin:
    arguments, told = json.loads(line)
    pid = os.fork()
    if pid == 0:
        os.setsid()
        # Where tests run in the background, interrupts are ignored, and children inherit it.
        signal.signal(signal.SIGINT, signal.default_int_handler)
        to = os.open(told, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(to, 1)
        os.dup2(to, 2)
        code = 130
        try:
            code = cli.main(arguments)
            sys.stdout.flush()
        except SystemExit as stop:
            code = stop.code
        except KeyboardInterrupt:  # before or after the command itself
            pass
        finally:
            os._exit(code or 0)
    print(pid, flush=True)
    _, status = os.waitpid(pid, 0)
    print(os.waitstatus_to_exitcode(status), flush=True)
"""


class Server:
    """The program and a knowledge base, loaded; it runs one command at a time in a process of its own."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.process = subprocess.Popen(
            [sys.executable, "-c", SERVER, str(root)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )
        assert self.said() == "ready"

    def said(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def run(
        self, *arguments: object, told: Path, kill: Any = None, after: float = 0.0
    ) -> tuple[int, float]:
        """Run a command, end it by the signal ``kill`` after some seconds; return its exit code and
        how long it took. All its workers have ended by then."""
        assert self.process.stdin is not None
        self.process.stdin.write(
            json.dumps([[*map(str, arguments), "--rules", str(self.root)], str(told)]) + "\n"
        )
        self.process.stdin.flush()
        pid = int(self.said())
        started = time.monotonic()
        if kill is not None:
            time.sleep(after)
            with suppress(ProcessLookupError):
                os.kill(pid, kill)
        code = int(self.said())
        took = time.monotonic() - started
        for _ in range(400):
            if not of_session(pid):
                return code, took
            time.sleep(0.05)
        raise AssertionError("a worker outlives its run")


def of_session(leader: int) -> list[int]:
    """Return the processes that a process and its children have made and that have not ended."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            try:
                fields = (entry / "stat").read_text("ascii", "replace").rpartition(")")[2].split()
            except OSError:
                continue
            if int(fields[3]) == leader and fields[0] not in {"Z", "X"}:
                found.append(int(entry.name))
    return found


@pytest.fixture(scope="module")
def tiny_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_tiny(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="module")
def server(tiny_root: Path) -> Iterator[Server]:
    loaded = Server(tiny_root)
    yield loaded
    assert loaded.process.stdin is not None
    loaded.process.stdin.close()
    assert loaded.process.wait(60) == 0
    assert loaded.process.stdout is not None
    loaded.process.stdout.close()


def content(path: Path) -> dict[str, bytes] | None:
    """Return the bytes of a file, or of a folder's files; None: nothing is there."""
    if not path.exists():
        return None
    files = [path] if path.is_file() else [p for p in path.rglob("*") if p.is_file()]
    return {p.relative_to(path).as_posix(): p.read_bytes() for p in files}


def command(name: str, source: Path, output: Path) -> list[object]:
    return {
        "screen": ["screen", source, "--workers", 2, "--format", "csv", "--output", output],
        "facts": ["facts", source, "--output", output],
        "docs": ["docs", "--output", output],
        "pack": ["pack", EXAMPLE, "--output", output],
    }[name]


def moments(times: int, seed: str) -> list[tuple[Any, float]]:
    """Return signals and when each comes, as a share of a run's duration; most are SIGKILL, which
    nothing can be done about."""
    chance = random.Random(seed)
    kinds = [signal.SIGKILL] * 3 + [signal.SIGTERM, signal.SIGINT]
    return [(kinds[n % 5], chance.uniform(0, 1.1)) for n in range(times)]


@pytest.mark.threat("G3", "G6")
@pytest.mark.parametrize("times", [2, pytest.param(TIMES, marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", ["screen", "facts", "docs", "pack"])
def test_killed_at_any_moment(name: str, times: int, server: Server, tmp_path: Path) -> None:
    source = many(tmp_path / "many.ttl", 24 if name == "screen" else 200)
    told = tmp_path / "told"
    where = tmp_path / "in"
    where.mkdir()
    suffix = {"facts": ".parquet", "pack": ".zip"}.get(name, "")
    output = where / f"out{suffix}"
    code, took = server.run(*command(name, source, output), told=told)
    assert code in (0, 1, 3), told.read_text()
    whole = content(output)
    assert whole
    missed = 0
    before: set[str] = set()
    for kind, share in moments(times, name):
        if output.exists():
            output.rename(tmp_path / f"old-{kind}-{share}")
        code, _ = server.run(
            *command(name, source, output), told=told, kill=kind, after=share * took
        )
        there = content(output)
        assert there in (None, whole), (kind, share)
        assert code in (KILLED[kind], 0, 1, 3), told.read_text()
        assert "Traceback" not in told.read_text()
        missed += there is not None
        if there is None:
            assert code == KILLED[kind]
        if there is None and name == "screen":
            again = [*command(name, source, output), "--resume"]
            assert server.run(*again, told=told)[0] == 0, told.read_text()
            assert content(output) == whole, (kind, share)
        left = {p.name for p in where.iterdir()} - {output.name}
        assert kind is signal.SIGKILL or left <= before, "it could have tidied up"
        before = left
    assert missed < times
    # What was left is no hindrance, and no part of anything.
    if output.exists():
        output.rename(tmp_path / "last")
    assert server.run(*command(name, source, output), told=told)[0] in (0, 1, 3)
    assert content(output) == whole
