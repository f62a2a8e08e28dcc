"""Every command that writes, where it cannot: the disk is full, the place is not there, nobody
reads. Each says so, with exit code 2, and leaves what was there as it was."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from multiprocessing import get_context
from pathlib import Path

import pytest
from test_bad_input import HEAD, patient
from tiny_trial import build_tiny

from sarc_kb import cli
from sarc_kb.kb import KnowledgeBase

pytest.importorskip("duckdb")
pytest.importorskip("ibis")

COULD_NOT = 2
# What each command is given besides --rules and --output, the record standing for RECORD.
COMMANDS = {
    "validate": ["RECORD", "--format", "json"],
    "screen": ["RECORD", "--format", "csv"],
    "facts": ["RECORD"],
    "docs": [],
    "pack": ["RECORD"],
    "shapes": [],
    "prepare": ["RECORD"],
    "readiness": ["RECORD"],
    "map": ["RECORD"],
    "checklist": [],
    "check": [],
    "readings": ["RECORD"],
    "audit": ["codes"],
    "export": ["--format", "fhir-r4"],
}
# `docs` and `screen` write folders; what `facts`, `pack` and `export` write goes to no pipe.
FOLDERS = ("screen", "docs")
SUFFIX = {"facts": ".parquet", "pack": ".zip"}
Command = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> KnowledgeBase:
    return KnowledgeBase.load(build_tiny(tmp_path_factory.mktemp("tiny")))


@pytest.fixture
def write_to(
    tiny: KnowledgeBase,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Command:
    """Run a command whose output goes to a path; return exit code, standard output and error."""
    record = tmp_path / "p.ttl"
    record.write_text(HEAD + patient())
    monkeypatch.setattr(KnowledgeBase, "load", lambda root=None: tiny)

    def command(name: str, output: Path) -> tuple[int, str, str]:
        given = [str(record) if part == "RECORD" else part for part in COMMANDS[name]]
        try:
            code = cli.main([name, *given, "--rules", str(tiny.root), "--output", str(output)])
        except SystemExit as stop:
            code = int(stop.code or 0)
        told = capsys.readouterr()
        assert "Traceback" not in told.out + told.err
        return code, told.out, told.err

    return command


@pytest.fixture
def small_disk() -> Iterator[Callable[[int], None]]:
    """Let no file grow beyond some bytes, as a full disk does."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    yield lambda size: resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    resource.setrlimit(resource.RLIMIT_FSIZE, before)
    signal.signal(signal.SIGXFSZ, handler)


def test_every_command_that_writes_is_here() -> None:
    """`diff` alone is not: it asks for two versions of the rules, and writes as the others do."""
    helps = {name: cli.build_parser() for name in cli._COMMANDS}
    writing = set()
    for name, parser in helps.items():
        (commands,) = (a for a in parser._actions if hasattr(a, "choices") and a.choices)
        options = commands.choices[name]._option_string_actions  # type: ignore[index,union-attr]
        if "--output" in options:
            writing.add(name)
    assert writing - {"diff"} == set(COMMANDS)


@pytest.mark.threat("G3", "G4")
@pytest.mark.parametrize("name", COMMANDS)
def test_a_full_disk(
    name: str, write_to: Command, small_disk: Callable[[int], None], tmp_path: Path
) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    output = folder / f"out{SUFFIX.get(name, '')}"
    if name not in FOLDERS:
        output.write_text("as it was")
    small_disk(1)
    code, out, err = write_to(name, output)
    small_disk(resource.RLIM_INFINITY)
    assert (code, out) == (COULD_NOT, ""), err
    assert "too large" in err
    left = {p.name for p in folder.iterdir()} - {f"{output.name}.work"}
    if name in FOLDERS:
        assert left == set()
    else:
        assert left == {output.name}
        assert output.read_text() == "as it was"


@pytest.mark.threat("G4")
@pytest.mark.parametrize("name", COMMANDS)
def test_a_folder_that_takes_no_file(name: str, write_to: Command) -> None:
    """/proc takes no file from anybody; a read-only folder would let the superuser write."""
    code, out, err = write_to(name, Path(f"/proc/out{SUFFIX.get(name, '')}"))
    assert (code, out) == (COULD_NOT, ""), err
    assert "/proc/out" in err


@pytest.mark.threat("G4")
@pytest.mark.parametrize("name", [n for n in COMMANDS if n not in (*FOLDERS, *SUFFIX, "export")])
def test_a_closed_pipe_is_quiet(name: str, tiny: KnowledgeBase, tmp_path: Path) -> None:
    record = tmp_path / "p.ttl"
    record.write_text(HEAD + patient())
    given = [str(record) if part == "RECORD" else part for part in COMMANDS[name]]
    code = "import sys; from sarc_kb import cli; sys.exit(cli.main(sys.argv[1:]))"
    run = subprocess.Popen(
        [sys.executable, "-c", code, name, *given, "--rules", str(tiny.root)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert run.stdout is not None
    run.stdout.close()
    assert run.stderr is not None
    told = run.stderr.read()
    run.stderr.close()
    # The check of rules tells there what it finds.
    assert told == b"" or (name == "check" and b"ipe" not in told and b"Exception" not in told)
    assert run.wait(60) == COULD_NOT


@pytest.mark.threat("G7")
@pytest.mark.parametrize("name", COMMANDS)
def test_runs_into_one_place_at_once(name: str, write_to: Command, tmp_path: Path) -> None:
    """What is there afterwards is the whole output of one of them; one that must give way says so."""
    alone = tmp_path / "alone" / f"out{SUFFIX.get(name, '')}"
    alone.parent.mkdir()
    expected = write_to(name, alone)[0]
    output = tmp_path / "shared" / alone.name
    output.parent.mkdir()
    fork = get_context("fork")
    start = fork.Barrier(3)

    def run() -> None:
        start.wait()
        code, _, err = write_to(name, output)
        os._exit(code if code == expected or str(output) in err else 99)

    runs = [fork.Process(target=run) for _ in range(3)]
    for process in runs:
        process.start()
    for process in runs:
        process.join()
    codes = {process.exitcode for process in runs}
    assert expected in codes
    assert codes <= {expected, COULD_NOT}
    assert [p.name for p in output.parent.iterdir()] == [output.name]
    assert contents(output) == contents(alone) != {}


def contents(place: Path) -> dict[str, bytes]:
    """Return the files at and below a place."""
    files = [place] if place.is_file() else [p for p in place.rglob("*") if p.is_file()]
    return {str(p.relative_to(place)): p.read_bytes() for p in files}
