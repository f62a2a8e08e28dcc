"""``sarc-kb audit``: what a rule auditor needs, a part at a time or all on one page."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Any

from sarc_kb import cli
from sarc_kb.cli.terminal import Line, width
from sarc_kb.errors import Finding, UsageError

if TYPE_CHECKING:
    from sarc_kb.kb import KnowledgeBase
    from sarc_kb.reports.audit_report import Audit

FORMATS = ("text", "json", "html", "sarif", "junit")
PARTS = (
    "rules",
    "source",
    "codes",
    "cases",
    "boundaries",
    "mutation",
    "logic",
    "agreement",
    "register",
)
"""The names of the parts, here so that asking for help loads none of them."""


def add_parser(commands: Any) -> None:
    """Add the command to the parser."""
    audit = commands.add_parser(
        "audit",
        help="what the rule base is worth, for an auditor",
        epilog="Exit codes: 0 every part is passed, 1 one is not, 2 one could not run.",
    )
    audit.add_argument(
        "section",
        nargs="*",
        metavar="PART",
        help=f"one or some of: {', '.join(PARTS)} (default: all of them)",
    )
    cli.trial_options(audit)
    audit.add_argument(
        "--against", metavar="FILE", help="another version of the source record: what changed"
    )
    audit.add_argument("--full", action="store_true", help="also what takes long")
    audit.add_argument(
        "--workers",
        metavar="N",
        type=cli.positive,
        default=1,
        help="processes for parts side by side (default: 1); the report is the same",
    )
    audit.add_argument("--format", choices=FORMATS, default="text")
    audit.add_argument(
        "--output", "-o", metavar="FILE", help="write the report there, whole or not at all"
    )
    audit.add_argument("--verbose", "-v", action="store_true", help="the details of every part")


def run(options: argparse.Namespace) -> int:
    """Run the command: 0 when every part is passed, 1 when one is not, 2 when one could not run."""
    unknown = [name for name in options.section if name not in PARTS]
    if unknown:
        raise UsageError(
            Finding(
                "USE060",
                "error",
                f"audit {unknown[0]}",
                "no such part",
                "nothing would be looked at",
                "choose from: " + ", ".join(PARTS),
            )
        )
    from sarc_kb.audit.run import run_parts
    from sarc_kb.audit.section import Request
    from sarc_kb.kb import KnowledgeBase
    from sarc_kb.reports.audit_report import Audit

    kb = KnowledgeBase.load(options.rules)
    trial = (options.trial or kb.default_trial()).upper()
    kb.trial_folder(trial)
    against = Path(options.against) if options.against else None
    wanted = tuple(dict.fromkeys(options.section)) or PARTS
    begun = monotonic()
    with Line() as line:

        def tell(names: Sequence[str], done: int) -> None:
            # Parts take from a second to minutes each: what is left of them is no time.
            since = f"{monotonic() - begun:.0f} s"
            line.write(f"{done}/{len(wanted)} parts, {since}, now {', '.join(names)}")

        parts = run_parts(
            kb,
            Request(trial=trial, against=against, full=options.full),
            wanted,
            workers=options.workers,
            tell=tell,
        )
    title, version = _of_trial(kb, trial)
    audit = Audit(trial, title, version, kb.info, tuple(parts))
    cli.write(_rendered(audit, kb, options), options.output)
    for part in audit.parts:
        for finding in part.not_run:
            cli.complain(finding)
    return {"passed": cli.PASS, "failed": cli.FAIL, "could not run": cli.COULD_NOT}[audit.status]


def _rendered(audit: Audit, kb: KnowledgeBase, options: argparse.Namespace) -> str:
    from sarc_kb.reports import audit_report
    from sarc_kb.rule_places import Places

    if options.format == "json":
        return audit_report.render_json(audit)
    if options.format == "html":
        return audit_report.render_html(audit)
    if options.format in ("sarif", "junit"):
        places = Places(kb.root, audit.trial)
        return audit_report.render_findings(audit, options.format, places.of)
    verbose = options.verbose or bool(options.section)
    return audit_report.render_text(audit, verbose=verbose, width=width(options.output))


def _of_trial(kb: KnowledgeBase, trial: str) -> tuple[str, str]:
    """Return the title and the version that a trial's rules give themselves; texts that say so
    where they give none, or cannot be read."""
    from rdflib import URIRef

    from sarc_kb.errors import RuleBaseError
    from sarc_kb.namespaces import DCTERMS, OWL, RDF, TRIAL_BASE

    try:
        graph = kb.trial_graph(trial)
    except RuleBaseError:  # the parts tell why
        return trial, "(not readable)"
    named = sorted(str(s) for s in graph.subjects(RDF.type, OWL.Ontology))
    own = [URIRef(iri) for iri in named if iri.startswith(TRIAL_BASE)]
    title = graph.value(own[0], DCTERMS.title) if own else None
    version = graph.value(own[0], OWL.versionInfo) if own else None
    return str(title or trial), str(version or "without a version")
