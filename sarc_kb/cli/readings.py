"""``sarc-kb readings``: whose verdict rests on which reading of the register."""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from sarc_kb import cli
from sarc_kb.cli.terminal import Progress
from sarc_kb.errors import Finding, SarcError, UsageError

if TYPE_CHECKING:
    from sarc_kb.facts import PatientRecord
    from sarc_kb.judging import Circumstances
    from sarc_kb.readings import Readings, Register


def add_parser(commands: Any) -> None:
    """Add the command to the parser."""
    readings = commands.add_parser(
        "readings",
        help="whose verdict rests on which reading of the register",
        epilog="Exit codes: 0 judged, whatever came out; 2 could not run, or not judge somebody.",
    )
    cli.source_options(readings)
    cli.trial_options(readings)
    cli.mapping_options(readings)
    cli.record_options(readings)
    readings.add_argument("--as-of", metavar="DATE", help="later facts are not seen")
    readings.add_argument(
        "--counts",
        action="store_true",
        help="count a cohort by the cohort engine: each reading alone, and nobody by name",
    )
    readings.add_argument(
        "--workers", metavar="N", type=int, default=None, help="processes for --counts"
    )
    readings.add_argument("--format", choices=("text", "json"), default="text")
    readings.add_argument("--output", "-o", metavar="FILE")


def run(options: argparse.Namespace) -> int:
    """Run the command and return its exit code."""
    from sarc_kb.judging import Circumstances
    from sarc_kb.kb import option_date, with_entry_dates
    from sarc_kb.readings import Register
    from sarc_kb.reports import readings_report

    cli.one_kind_of_source(options)
    kb = cli.knowledge_base(options)
    complete = tuple(filter(None, options.complete.split(",")))
    kb.scopes(complete)
    attested = cli.pairs("--attest", options.attest)
    register = Register(kb, options.trial)
    kb.answers(register.default, attested)
    given = Circumstances(option_date("--as-of", options.as_of), complete, attested)
    records, expected, problems = cli.records_of(options, kb, register.default)
    dates = cli.entry_dates(options.entry_dates) if options.entry_dates else {}
    dated = with_entry_dates(records, options.entry_date, dates)
    if options.counts:
        lost, text = _counted(options, register, dated, given)
    else:
        found, faults = _each(register, dated, given, expected)
        problems += faults
        lost = len(faults)
        if not found and not faults:
            raise _nobody()
        render = (
            readings_report.render_json if options.format == "json" else readings_report.render_text
        )
        text = render(register, found, faults)
    cli.write(text, options.output)
    for finding in problems:
        if finding.severity != "info":
            cli.complain(finding)
    broken = lost or any(f.severity == "error" for f in problems)
    return cli.COULD_NOT if broken else cli.PASS


def _each(
    register: Register, records: Iterable[PatientRecord], given: Circumstances, expected: int
) -> tuple[list[Readings], list[Finding]]:
    found: list[Readings] = []
    faults: list[Finding] = []
    with Progress(expected) as progress:
        for record in records:
            try:
                found.append(register.of(record, given))
            except SarcError as failure:
                faults += failure.findings[:1]
            progress.step()
    return found, faults


def _counted(
    options: argparse.Namespace,
    register: Register,
    records: Iterable[PatientRecord],
    given: Circumstances,
) -> tuple[int, str]:
    """Return how many could not be judged, and the counts of each reading alone."""
    from sarc_kb.reports import readings_report

    try:
        from sarc_kb.cohort.preparing import Settings
        from sarc_kb.cohort.screen import Options, screen
    except ImportError as absent:
        raise UsageError(
            Finding(
                "USE049",
                "error",
                "readings --counts",
                f"the package {absent.name or absent} is not installed",
                "the cohort engine is an optional extra",
                "install it with: pip install 'sarc-kb[cohort]'",
            )
        ) from None
    workers = options.workers or os.cpu_count() or 1
    with TemporaryDirectory(prefix="sarc-kb-readings-") as scratch:
        found = screen(
            register.kb,
            {register.name: register.default},
            _all(records),
            Path(scratch) / "counts",
            Options(workers=workers, clauses=False, evidence=False),
            Settings(as_of=given.as_of, complete=given.complete, attested=given.attested),
            what_if={s.name: s.trial for s in register.switches},
            compared_with=register.name,
        )
    text = (
        readings_report.render_counts_json(register, found)
        if options.format == "json"
        else readings_report.render_counts(register, found)
    )
    return found.not_judged, text


def _all(records: Iterable[PatientRecord]) -> Iterator[PatientRecord]:
    yield from records


def _nobody() -> UsageError:
    return UsageError(
        Finding(
            "USE072",
            "error",
            "readings",
            "no patient in the input",
            "nothing was judged",
            "check what was named",
        )
    )
