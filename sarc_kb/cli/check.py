"""``sarc-kb check``: is the rule base itself well-formed?"""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from sarc_kb import cli

if TYPE_CHECKING:
    from sarc_kb.kb import KnowledgeBase
    from sarc_kb.rule_check import CheckReport

FORMATS = ("text", "sarif", "junit")


def add_parser(commands: Any) -> None:
    """Add the command to the parser."""
    check = commands.add_parser("check", help="check the rule base itself")
    cli.common_options(check, relax=False)
    check.add_argument(
        "--stamp",
        action="store_true",
        help="note that this content has no fault, so that judging need not check it again",
    )
    check.add_argument(
        "--format", choices=FORMATS, default="text", help="for people, or for code scanning and CI"
    )
    check.add_argument("--output", "-o", metavar="FILE", help="write the report there")


def run(options: argparse.Namespace) -> int:
    """Run the command: 0 no fault, 2 some."""
    from sarc_kb.rule_check import check_rule_base, stamp_path

    kb = cli.knowledge_base(options)
    names = [options.trial.upper()] if options.trial else sorted(kb.trial_folders)
    reports = {name: check_rule_base(kb, name) for name in names}
    faults = [finding for report in reports.values() for finding in report.findings]
    if options.format == "text":
        for finding in faults:
            cli.complain(finding)
        text = "".join(f"{name}: {report.summary}\n" for name, report in reports.items())
    else:
        text = _rendered(kb, reports, options.format)
    cli.write(text, options.output)
    if options.stamp and not faults:
        cli.write(kb.info.sha256, str(stamp_path(kb)))
    return cli.COULD_NOT if faults else cli.PASS


def _rendered(kb: KnowledgeBase, reports: dict[str, CheckReport], form: str) -> str:
    from sarc_kb.reports.findings_report import Checked, Located, render_junit, render_sarif
    from sarc_kb.rule_places import Places

    checks = [
        Checked(name, f"the rule base of {name} is well-formed", report.summary, report.findings)
        for name, report in reports.items()
    ]
    about = {"knowledge_base": kb.info.sha256}
    if form == "junit":
        return render_junit("sarc-kb.check", checks, about)
    places = [Places(kb.root, name) for name in reports]

    def locate(where: str) -> Located | None:
        return next((place for p in places if (place := p.of(where)) is not None), None)

    return render_sarif(checks, locate, about)
