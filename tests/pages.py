"""Runs what a page of the documentation shows, in order and in one folder: the lines of its ``sh``
blocks, the ``run`` steps of its ``yaml`` blocks, and its ``python`` blocks, which share their names
as the cells of a notebook do.

As a program: ``python tests/pages.py PAGE.md``, in the folder where the page's reader would be.
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

RUN = ("sh", "yaml", "python")
INSTALLS = re.compile(r"pip install '\.\[[a-z,]+\]'")


def blocks(page: Path) -> list[tuple[str, str]]:
    """Return the fenced blocks of a page: language and text."""
    return re.findall(r"^```(\w+)\n(.*?)^```", page.read_text("utf-8"), re.DOTALL | re.MULTILINE)


def commands(kind: str, text: str) -> list[str]:
    """Return the commands of a block for a shell, or for a pipeline that runs steps."""
    if kind == "sh":
        return text.strip().splitlines()
    return re.findall(r"^ *- run: (.*)$", text, re.MULTILINE) if kind == "yaml" else []


def run_command(command: str) -> None:
    """Run a command in this folder; what it says it writes must be there."""
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False)
    assert done.returncode in (0, 1, 3), f"{command}\n{done.stderr}"
    assert done.stdout or "--output" in command, command
    for name in re.findall(r"--output (\S+)", command):
        files = [p for p in (Path(name), *Path(name).rglob("*")) if p.is_file()]
        assert sum(p.stat().st_size for p in files) > 500, f"{command}: {name} is not there"


if __name__ == "__main__":
    for number, (language, source) in enumerate(blocks(Path(sys.argv[1]))):
        if language == "python":
            exec(compile(source, f"{sys.argv[1]}, block {number + 1}", "exec"), globals())
        for line in commands(language, source):
            if not INSTALLS.fullmatch(line):
                run_command(line)
