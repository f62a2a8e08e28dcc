"""Every command and every line of Python in the README runs, and the report it shows is real."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```(\w+)\n(.*?)```", README, flags=re.DOTALL)
COMMANDS = [line for kind, text in BLOCKS if kind == "sh" for line in text.strip().splitlines()]
PROGRAM = [c for c in COMMANDS if c.startswith("sarc-kb")]


def run(command: str, folder: Path) -> subprocess.CompletedProcess[str]:
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return subprocess.run(
        ["bash", "-c", command],
        cwd=folder,
        env={**os.environ, "PATH": path, "PYTHONHASHSEED": "0"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with the examples, so that outputs of the commands stay out of the repository."""
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    return tmp_path


def test_every_command_is_known() -> None:
    others = set(COMMANDS) - set(PROGRAM)
    assert others == {"make validate", "make test", ". .venv/bin/activate"}
    assert len(PROGRAM) > 10


@pytest.mark.parametrize("command", PROGRAM)
def test_command(command: str, folder: Path) -> None:
    done = run(command, folder)
    assert done.returncode in (0, 1, 3), done.stderr
    assert done.stdout or "--output" in command
    for name in re.findall(r"--output (\S+)", command):
        files = [p for p in (folder / name, *(folder / name).rglob("*")) if p.is_file()]
        assert sum(p.stat().st_size for p in files) > 1000


def test_the_mapping_guide_shows_what_is_there(folder: Path) -> None:
    guide = (ROOT / "docs" / "mapping-guide.md").read_text(encoding="utf-8")
    rows, verdict = re.findall(r"```text\n(.*?)```", guide, flags=re.DOTALL)
    table = (ROOT / "examples" / "local-codes" / "our-hospital.sssom.tsv").read_text("utf-8")
    lines = [line.split("\t")[:5] for line in table.splitlines() if not line.startswith("#")]
    assert [[c.strip() for c in row.split("|")] for row in rows.splitlines()] == lines
    shown = re.findall(r"```sh\n(.*?)```", guide, flags=re.DOTALL)
    commands = [c for text in shown for c in text.splitlines() if " validate " in c]
    first, last = (run(command, folder).stdout.splitlines()[0] for command in commands)
    assert last == verdict.strip()
    assert "3 undetermined" in first


@pytest.mark.parametrize("target", ["validate", "test"])
def test_make_targets_exist(target: str) -> None:
    # What they do is run by the tests' own caller; here only that make knows the way.
    assert run(f"make -n {target}", ROOT).returncode == 0


def test_python(folder: Path) -> None:
    (code,) = [text for kind, text in BLOCKS if kind == "python"]
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "eligible" in done.stdout


def test_the_report_shown_is_what_comes_out(folder: Path) -> None:
    shown, course = [text for kind, text in BLOCKS if kind == "text"]
    out = run("sarc-kb validate examples/anaemic", folder).stdout
    assert shown.strip().splitlines() == out.splitlines()[: len(shown.strip().splitlines())]
    # Of the course some lines are shown, in their order.
    told = iter(run("sarc-kb validate examples/course-skipped-level", folder).stdout.splitlines())
    assert [line for line in course.strip("\n").splitlines() if line not in told] == []
