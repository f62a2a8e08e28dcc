"""``sarc-kb diff``: what moved between two versions of the rules, and who flips."""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sarc_kb import cli
from sarc_kb.errors import Finding, UsageError

if TYPE_CHECKING:
    from sarc_kb.facts import PatientRecord
    from sarc_kb.kb import KnowledgeBase
    from sarc_kb.rules import Trial

FORMATS = ("text", "json", "markdown")


def add_parser(commands: Any) -> None:
    """Add the command to the parser."""
    diff = commands.add_parser(
        "diff",
        help="what moved between two versions of the rules, and who flips",
        epilog="Exit codes: 0 no semantic change, 1 changes, 2 could not run.",
    )
    diff.add_argument(
        "old", metavar="OLD", help="a folder with ontology/ and shapes/, or a revision"
    )
    diff.add_argument("new", metavar="NEW", help="the same, of what it is held against")
    cli.trial_options(diff)
    diff.add_argument(
        "--cohort",
        dest="files",
        metavar="FILE",
        nargs="+",
        default=[],
        help="patients of whom to tell who flips: whatever validate reads",
    )
    diff.add_argument("--omop", metavar="SOURCE", help="patients from an OMOP CDM 5.4, as validate")
    diff.add_argument("--person", metavar="ID", action="append", default=[])
    diff.add_argument("--omop-schema", metavar="NAME")
    cli.mapping_options(diff)
    cli.record_options(diff)
    diff.add_argument("--as-of", metavar="DATE", help="later facts of the cohort are not seen")
    diff.add_argument("--format", choices=FORMATS, default="text")
    diff.add_argument("--output", "-o", metavar="FILE")


def run(options: argparse.Namespace) -> int:
    """Run the command: 0 no semantic change, 1 changes, 2 could not run."""
    from sarc_kb.diff.revisions import knowledge_base_of
    from sarc_kb.diff.run import difference
    from sarc_kb.judging import Circumstances
    from sarc_kb.kb import KnowledgeBase, data_folder, option_date, with_entry_dates
    from sarc_kb.reports import diff_report

    has_cohort = bool(options.files or options.omop)
    if has_cohort:
        cli.one_kind_of_source(options)
    elif options.person or options.omop_schema or options.attest or options.complete:
        raise UsageError(
            Finding(
                "USE071",
                "error",
                "--person, --omop-schema, --attest, --complete",
                "no --cohort and no --omop",
                "they speak of patients, and there are none",
                "add --cohort FILE",
            )
        )
    home = Path(options.rules) if options.rules else data_folder()
    problems: dict[tuple[str, str, str], Finding] = {}
    dates = cli.entry_dates(options.entry_dates) if options.entry_dates else {}
    with knowledge_base_of(options.old, home) as one, knowledge_base_of(options.new, home) as two:
        sides = [KnowledgeBase.load(folder) for folder in (one, two)]
        if has_cohort:
            sides = [_with_mappings(options, kb) for kb in sides]
        complete = tuple(filter(None, options.complete.split(",")))
        for kb in sides:
            kb.scopes(complete)
        given = Circumstances(
            option_date("--as-of", options.as_of), complete, cli.pairs("--attest", options.attest)
        )

        def cohort(kb: KnowledgeBase, trial: Trial) -> Iterable[PatientRecord]:
            records, _, found = cli.records_of(options, kb, trial)
            yield from with_entry_dates(records, options.entry_date, dates)
            problems.update({(f.code, f.where, f.found): f for f in found})

        told = difference(
            *sides,
            names=(options.old, options.new),
            trial=options.trial,
            cohort=cohort if has_cohort else None,
            given=given,
        )
    render = {
        "text": diff_report.render_text,
        "json": diff_report.render_json,
        "markdown": diff_report.render_markdown,
    }[options.format]
    cli.write(render(told), options.output)
    for finding in problems.values():
        if finding.severity != "info":
            cli.complain(finding)
    if any(f.severity == "error" for f in problems.values()):
        return cli.COULD_NOT
    return cli.FAIL if told.changed else cli.PASS


def _with_mappings(options: argparse.Namespace, kb: KnowledgeBase) -> KnowledgeBase:
    sets = [(given, *given.rpartition("=")) for given in options.valueset]
    return kb.with_mappings(
        *options.mappings,
        concept_ancestors=options.concept_ancestor,
        value_sets=[
            (term, file) if equals else (None, given) for given, term, equals, file in sets
        ],
    )
