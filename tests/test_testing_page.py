"""The commands of docs/testing.md run; those of make, which may take a day, are known to make."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.fuzz.targets import TARGETS
from tests.test_fuzz import SECONDS

ROOT = Path(__file__).resolve().parent.parent
PAGE = (ROOT / "docs" / "testing.md").read_text("utf-8")
COMMANDS = [
    line for text in re.findall(r"```sh\n(.*?)```", PAGE, re.DOTALL) for line in text.splitlines()
]


def run(command: str, folder: Path) -> subprocess.CompletedProcess[str]:
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return subprocess.run(
        ["bash", "-c", command],
        cwd=folder,
        env={**os.environ, "PATH": path},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


@pytest.mark.slow
@pytest.mark.parametrize("command", [c for c in COMMANDS if not c.startswith("make")])
def test_command(command: str, tmp_path: Path) -> None:
    """In a folder of its own, so that nothing is written into the repository."""
    if "--seconds" in command:
        pytest.importorskip("atheris", reason="the extra fuzz is not installed")
    for name in ("tests", "pyproject.toml"):
        (tmp_path / name).symlink_to(ROOT / name)
    done = run(command, tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    told = {"soak": "all engines agree", "fuzz": "the law held", "pytest": " passed"}
    (word,) = {w for name, w in told.items() if f"-m {name}" in command.replace("tests.", "")}
    assert word in done.stdout


@pytest.mark.parametrize("command", [c for c in COMMANDS if c.startswith("make")])
def test_target(command: str) -> None:
    done = run(f"{command} -n", ROOT)
    assert done.returncode == 0, done.stderr
    assert "python -m tests." in done.stdout


def test_the_page_names_the_readers_and_the_tests() -> None:
    assert {name for name in TARGETS if f"`{name}`" not in PAGE} == set()
    named = set(re.findall(r"`(test_\w+)`", PAGE))
    assert len(named) > 15
    assert {name for name in named if not (ROOT / "tests" / f"{name}.py").is_file()} == set()
    assert f"fuzzed for {SECONDS} seconds" in PAGE
