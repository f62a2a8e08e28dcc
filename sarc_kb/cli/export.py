"""``sarc-kb export``: the rules, the vocabulary and the catalogue record for other tools."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from sarc_kb import cli
from sarc_kb.cli.terminal import width
from sarc_kb.errors import Finding, UsageError

if TYPE_CHECKING:
    from sarc_kb.kb import KnowledgeBase

RULES = ("fhir-r4", "fhir-r5", "circe")
OTHERS = ("alignments", "dcat")


def add_parser(commands: Any) -> None:
    """Add the command to the parser."""
    export = commands.add_parser(
        "export",
        help="write the rules as FHIR or as an OHDSI cohort definition, with an account of what they carry; or the catalogue record",
    )
    cli.common_options(export)
    export.add_argument(
        "--format",
        choices=(*RULES, *OTHERS),
        required=True,
        help="fhir-r4, fhir-r5, circe: a trial's rules; alignments: the vocabulary beside others; dcat: the catalogue record",
    )
    export.add_argument(
        "--output", "-o", metavar="FILE", required=True, help="written whole or not at all"
    )
    export.add_argument(
        "--account",
        metavar="FILE",
        help="write the account of every rule there, as JSON where its name ends so (default: as text on standard output)",
    )
    export.add_argument(
        "--base", metavar="IRI", help="dcat: the folder that the files are published in"
    )
    export.add_argument("--site", metavar="URL", help="dcat: where the rule book is published")


def run(options: argparse.Namespace) -> int:
    """Run the command: 0 when what was asked for is written."""
    _fitting(options)
    kb = cli.knowledge_base(options)
    if options.format in RULES:
        return _rules(options, kb)
    if options.format == "alignments":
        from sarc_kb.export import alignments

        text = alignments.render(kb.root)
    else:
        from sarc_kb.export import catalogue

        text = catalogue.render(kb, base=options.base, site=options.site)
    cli.write(text, options.output)
    cli.write(f"{options.output}: {options.format} of sarc-kb {kb.info.version}", None)
    return cli.PASS


def _rules(options: argparse.Namespace, kb: KnowledgeBase) -> int:
    from sarc_kb.export import account, circe, fhir_r4, fhir_r5
    from sarc_kb.export.codes import Codebook

    trial = kb.compile(
        options.trial,
        policies=cli.pairs("--policy", options.policy),
        readings=cli.pairs("--reading", options.reading),
        relaxed=cli.pairs("--relax", options.relax),
    )
    write = {"fhir-r4": fhir_r4.export, "fhir-r5": fhir_r5.export, "circe": circe.export}
    text, found = write[options.format](trial, Codebook(kb.terms, kb.root), kb.info)
    cli.write(text, options.output)
    if options.account is not None and options.account.endswith(".json"):
        cli.write(account.render_json(found), options.account)
    else:
        across = width(options.account)
        cli.write(account.render_text(found, width=across), options.account)
    return cli.PASS


def _fitting(options: argparse.Namespace) -> None:
    """Refuse options that would change nothing."""
    about_rules = options.trial or options.policy or options.reading or options.relax
    fault = None
    if options.format not in RULES and (about_rules or options.account):
        fault = ("--trial, --policy, --reading, --relax, --account", "fhir-r4, fhir-r5 or circe")
    elif options.format != "dcat" and (options.base or options.site):
        fault = ("--base, --site", "dcat")
    if fault is not None:
        where, fix = fault
        raise UsageError(
            Finding(
                "USE031",
                "error",
                where,
                f"--format {options.format}",
                "it would change nothing",
                f"leave it out, or choose --format {fix}",
            )
        )
