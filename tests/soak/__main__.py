"""All engines on generated patients: python -m tests.soak [--patients 100000] [--workers 1].

Exit 0: they agree on every patient; 1: they do not, and the folder holds the smallest patients on
whom they differ; 2: the folder belongs to another run; 130: interrupted, the next run goes on.
"""

from __future__ import annotations

import argparse
import sys
from functools import partial
from pathlib import Path

from tests.cohort_generator import SEED
from tests.soak.differential import OtherRunError, soak


def arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m tests.soak", description="All engines on generated patients."
    )
    parser.add_argument("--patients", type=int, default=100_000, help="default: 100000")
    parser.add_argument("--seed", type=int, default=SEED, help=f"default: {SEED}")
    parser.add_argument("--workers", type=int, default=1, help="processes (default: 1)")
    parser.add_argument(
        "--folder", type=Path, default=Path("build/soak"), help="what is kept from run to run"
    )
    parser.add_argument(
        "--engine",
        action="append",
        default=[],
        metavar="NAME",
        help="of those to compare; all that are installed if none is named",
    )
    return parser


def main(words: list[str] | None = None) -> int:
    given = arguments().parse_args(words)
    try:
        agreed = soak(
            given.folder,
            patients=given.patients,
            seed=given.seed,
            workers=given.workers,
            only=given.engine,
            tell=partial(print, flush=True),
        )
    except OtherRunError as other:
        print(other, file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted; the same command goes on from here", file=sys.stderr)
        return 130
    return 0 if agreed else 1


if __name__ == "__main__":
    sys.exit(main())
