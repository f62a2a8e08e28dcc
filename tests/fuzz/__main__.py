"""Coverage-guided fuzzing of the readers: python -m tests.fuzz [READER ...] [--seconds 60].

Each reader runs by itself for so many seconds. What was reached is kept in the folder, so that a
later run goes on from there. Bytes that break the law are kept in its `found`, named by the reader;
exit 1 then, 2 where atheris is not installed, else 0. With --replay FILE one file is given to the
readers named, or to the one that its folder is called by; what breaks the law is raised.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.util
import json
import re
import subprocess
import sys
from pathlib import Path

from tests.fuzz.targets import ROOT, TARGETS

SLOWEST = 30
"""Seconds after which an input counts as one that never ends."""
MEMORY = 3_000
"""Megabytes."""
LONGEST = 20_000
"""Bytes of an input that is made."""
WORKED = re.compile(r"^#(\d+)\s.*?cov: (\d+)", re.MULTILINE)


def arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description="Fuzz the readers.")
    parser.add_argument(
        "readers",
        nargs="*",
        metavar="READER",
        help=f"of {', '.join(TARGETS)}; all if none is named",
    )
    parser.add_argument("--seconds", type=int, default=60, help="for each reader (default: 60)")
    parser.add_argument(
        "--folder", type=Path, default=Path("build/fuzz"), help="what is kept from run to run"
    )
    parser.add_argument(
        "--replay", type=Path, metavar="FILE", help="give one file to the readers instead"
    )
    return parser


def main(words: list[str] | None = None) -> int:
    given = arguments().parse_args(words)
    unknown = [name for name in given.readers if name not in TARGETS]
    if unknown:
        arguments().error(f"no reader {', '.join(unknown)}; there are {', '.join(TARGETS)}")
    if given.replay:
        for name in given.readers or [given.replay.parent.name]:
            TARGETS[name].check(given.replay.read_bytes(), True)
            print(f"{name}: the law held of {given.replay}")
        return 0
    if importlib.util.find_spec("atheris") is None:
        print("fuzzing needs atheris (Linux): pip install '.[fuzz]'", file=sys.stderr)
        return 2
    broken = [
        name for name in given.readers or TARGETS if not fuzz(name, given.seconds, given.folder)
    ]
    return 1 if broken else 0


def fuzz(name: str, seconds: int, folder: Path) -> bool:
    """Fuzz one reader, tell what came of it, and return whether the law held."""
    folder = folder.resolve()
    corpus, found = folder / name, folder / "found"
    corpus.mkdir(parents=True, exist_ok=True)
    found.mkdir(exist_ok=True)
    for seed in TARGETS[name].seeds():
        (corpus / hashlib.sha256(seed).hexdigest()[:40]).write_bytes(seed)
    words = folder / f"{name}.dict"
    words.write_text("".join(f"{json.dumps(word)}\n" for word in TARGETS[name].words), "utf-8")
    before = set(found.iterdir())
    options = [
        f"-max_total_time={seconds}",
        f"-timeout={SLOWEST}",
        f"-rss_limit_mb={MEMORY}",
        f"-max_len={LONGEST}",
        *([f"-dict={words}"] if TARGETS[name].words else ()),
        f"-artifact_prefix={found}/{name}-",
    ]
    done = subprocess.run(
        [sys.executable, "-m", "tests.fuzz.one", name, *options, str(corpus)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
    )
    worked = WORKED.findall(done.stderr)
    inputs, reached = worked[-1] if worked else ("0", "0")
    kept = sorted(
        p for p in set(found.iterdir()) - before if not p.name.startswith(f"{name}-slow-unit")
    )
    told = f"{name:<12} {int(inputs):>9,} inputs, {int(reached):>6,} places reached"
    if done.returncode == 0 and not kept:
        print(f"{told}, the law held", flush=True)
        return True
    print(f"{told}, BROKEN", flush=True)
    for path in kept:
        print(f"  kept as {path}", flush=True)
    _, _, trace = done.stderr.partition("Uncaught Python exception")
    print("  " + "\n  ".join((trace or done.stderr).strip().splitlines()[-40:]), flush=True)
    return False


if __name__ == "__main__":
    sys.exit(main())
