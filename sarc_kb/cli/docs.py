"""``sarc-kb docs``: the rule book of a trial, as a site that works from a file."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from sarc_kb import cli
from sarc_kb.cli.terminal import Line


def add_parser(commands: Any) -> None:
    """Add the command to the parser."""
    docs = commands.add_parser(
        "docs",
        help="write the rule book: the protocol's text beside the rules it became",
    )
    cli.trial_options(docs)
    docs.add_argument(
        "--audit",
        metavar="FILE.json",
        help="what `sarc-kb audit --format json` wrote of these rules: shown on the page on coverage",
    )
    docs.add_argument(
        "--history",
        action="store_true",
        help="tell the commits that touched each rule's file (from the git repository of the rules)",
    )
    docs.add_argument(
        "--output",
        "-o",
        metavar="FOLDER",
        required=True,
        help="the folder to write, whole or not at all; one that holds a rule book is replaced",
    )


def run(options: argparse.Namespace) -> int:
    """Run the command: 0 when the book was written, 2 when not."""
    from sarc_kb.kb import KnowledgeBase
    from sarc_kb.rulebook.build import build_book
    from sarc_kb.rulebook.site import refuse_foreign, write_site

    folder = Path(options.output)
    refuse_foreign(folder)
    kb = KnowledgeBase.load(options.rules)
    trial = (options.trial or kb.default_trial()).upper()
    audit = Path(options.audit) if options.audit else None
    with Line() as line:
        files = build_book(kb, trial, audit=audit, history=options.history, progress=line.write)
        write_site(folder, files)
    pages = sum(name.endswith(".html") for name in files)
    cli.write(f"{folder / 'index.html'}: {pages} pages on {trial}", None)
    return cli.PASS
