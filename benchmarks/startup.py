"""A cold `sarc-kb validate` of one example, as somebody at a prompt waits for it."""

from __future__ import annotations

import subprocess
import sys

from benchmarks.common import ELIGIBLE, milliseconds, table

AIM = 1500.0


def main() -> None:
    validate = [sys.executable, "-m", "sarc_kb.cli", "validate", "--quiet", str(ELIGIBLE)]
    runs = {
        "python, nothing else": [sys.executable, "-c", "pass"],
        "sarc-kb --version": [sys.executable, "-m", "sarc_kb.cli", "--version"],
        "sarc-kb validate": validate,
        "sarc-kb validate --engine pyshifty": [*validate, "--engine", "pyshifty"],
    }
    rows = []
    for name, command in runs.items():
        taken = milliseconds(
            lambda command=command: subprocess.run(command, capture_output=True, check=False),
            repeat=5,
        )
        # 2: it could not run.
        code = subprocess.run(command, capture_output=True, check=False).returncode
        rows.append((name, "could not run" if code == 2 else taken))
    table(
        f"Start to end of a cold process; the aim of validate is {AIM:.0f} ms",
        ("command", "ms"),
        rows,
    )


if __name__ == "__main__":
    main()
