"""``sarc-kb audit``: what a rule auditor needs, a part at a time or all on one page."""

from __future__ import annotations

import argparse
import json
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sarc_kb import cli
from sarc_kb.errors import Finding, UsageError

if TYPE_CHECKING:
    from sarc_kb.audit.section import Request, Section
    from sarc_kb.kb import KnowledgeBase

SECTIONS: dict[str, str] = {
    "source": "is every word of the record accounted for, and what does another version change",
    "agreement": "the engines on the boundary cases",
    "register": "the register of ambiguities, its readings and what they change",
    "logic": "what can be met, what follows, what conflicts (extra audit)",
    "mutation": "do the cases hold every number, word and join of the rules",
    "boundaries": "are there cases at every limit and every edge of a window",
}
"""The parts, in the order in which they are told, and what each is about; a part is the module of
its name in `sarc_kb.audit`."""


def add_parser(commands: Any) -> None:
    """Add the command to the parser."""
    audit = commands.add_parser("audit", help="what the rule base is worth, for an auditor")
    audit.add_argument(
        "section",
        nargs="*",
        metavar="PART",
        help="; ".join(f"{name}: {about}" for name, about in SECTIONS.items())
        + " (default: all of them)",
    )
    cli.trial_options(audit)
    audit.add_argument(
        "--against", metavar="FILE", help="another version of the source record: what changed"
    )
    audit.add_argument("--full", action="store_true", help="also what takes long")
    audit.add_argument("--format", choices=("text", "json"), default="text")
    audit.add_argument("--output", "-o", metavar="FILE")
    audit.add_argument("--verbose", "-v", action="store_true", help="the details of every part")


def run(options: argparse.Namespace) -> int:
    """Run the command: 0 when every part is passed, 1 when one is not, 2 when one could not run."""
    from sarc_kb.audit.section import Request
    from sarc_kb.kb import KnowledgeBase

    unknown = [name for name in options.section if name not in SECTIONS]
    if unknown:
        raise UsageError(
            Finding(
                "USE060",
                "error",
                f"audit {unknown[0]}",
                "no such part",
                "nothing would be looked at",
                "choose from: " + ", ".join(SECTIONS),
            )
        )
    kb = KnowledgeBase.load(options.rules)
    trial = (options.trial or kb.default_trial()).upper()
    kb.trial_folder(trial)
    against = Path(options.against) if options.against else None
    request = Request(trial=trial, against=against, full=options.full)
    found = [_part(name, kb, request) for name in options.section or SECTIONS]
    if options.format == "json":
        text = _as_json(trial, kb.info.sha256, found)
    else:
        text = _as_text(trial, found, verbose=options.verbose or bool(options.section))
    cli.write(text, options.output)
    return cli.PASS if all(section.passed for section in found) else cli.FAIL


def _part(name: str, kb: KnowledgeBase, request: Request) -> Section:
    try:
        section: Section = import_module(f"sarc_kb.audit.{name}").audit(kb, request)
    except ImportError as absent:
        raise UsageError(
            Finding(
                "USE061",
                "error",
                f"audit {name}",
                f"the package {absent.name} is not installed",
                "this part needs an optional extra",
                "install it with: pip install 'sarc-kb[audit,cohort]'",
            )
        ) from None
    return section


def _as_json(trial: str, sha256: str, found: list[Section]) -> str:
    from sarc_kb.reports.escaping import visible_in_json
    from sarc_kb.reports.json_report import plain

    document = {
        "trial": trial,
        "knowledge_base": sha256,
        "passed": all(section.passed for section in found),
        "parts": [
            {
                "name": section.name,
                "passed": section.passed,
                "summary": section.summary,
                "findings": [plain(f) for f in section.findings],
                **section.document,
            }
            for section in found
        ],
    }
    return visible_in_json(json.dumps(document, ensure_ascii=False, indent=2)) + "\n"


def _as_text(trial: str, found: list[Section], *, verbose: bool) -> str:
    from sarc_kb.reports.escaping import visible

    lines = [f"AUDIT  {trial}", ""]
    for section in found:
        word = "passed" if section.passed else "FAILED"
        lines.append(f"{section.name:<12} {word}  {visible(section.summary)}")
        shown = [f for f in section.findings if verbose or f.severity != "info"]
        for finding in shown:
            lines.append(f"  {finding.severity} {finding.code} {visible(finding.where)}")
            for name in ("found", "why", "fix"):
                lines.append(f"    {name:<5} {visible(getattr(finding, name))}")
        if verbose and section.lines:
            lines += ["", *(visible(line) for line in section.lines), ""]
    return "\n".join(lines) + "\n"
