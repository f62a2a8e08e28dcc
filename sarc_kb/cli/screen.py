"""``sarc-kb screen``: a cohort, from one patient to millions."""

from __future__ import annotations

import argparse
import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sarc_kb import __version__, cli
from sarc_kb.cli.terminal import Progress, width
from sarc_kb.errors import Finding, UsageError

if TYPE_CHECKING:
    from sarc_kb.cohort.screen import Screening
    from sarc_kb.facts import PatientRecord
    from sarc_kb.kb import KnowledgeBase
    from sarc_kb.rules import Trial

ENGINES = ("duckdb", "postgres", "spark")
_LIMITS = ("300", "2GB")
"""Of time and memory for one patient: far above what any record needs, so that the results of a
run do not hang on the speed of the machine."""
FORMATS = ("parquet", "csv", "jsonl", "xlsx")


def add_parser(commands: Any) -> None:
    """Add the command to the parser."""
    screen = commands.add_parser("screen", help="judge a cohort and count")
    cli.source_options(screen)
    cli.common_options(screen)
    cli.mapping_options(screen)
    cli.record_options(screen)
    screen.add_argument(
        "--as-of", metavar="DATE", help="later facts are not seen (default: the entry date)"
    )
    screen.add_argument(
        "--only", choices=("eligibility", "treatment"), help="judge that part alone"
    )
    screen.add_argument(
        "--output", "-o", metavar="FOLDER", help="where the tables go; it must not be there yet"
    )
    screen.add_argument("--format", choices=FORMATS, default="parquet", help="of the tables")
    screen.add_argument(
        "--engine", choices=ENGINES, default="duckdb", help="where the plan runs (default: duckdb)"
    )
    screen.add_argument(
        "--server",
        metavar="URL",
        help="PostgreSQL server for --engine postgres (default: that of --omop)",
    )
    screen.add_argument(
        "--memory", metavar="SIZE", default="4GB", help="what the engine may use (default: 4GB)"
    )
    screen.add_argument(
        "--workers",
        metavar="N",
        type=cli.positive,
        default=None,
        help="processes that prepare patients (default: one a core)",
    )
    cli.limit_options(screen, *_LIMITS)
    screen.add_argument(
        "--no-clauses", action="store_true", help="no table with a row a patient and clause"
    )
    screen.add_argument(
        "--no-evidence", action="store_true", help="no evidence and missing data in that table"
    )
    screen.add_argument(
        "--earliest",
        action="store_true",
        help="also when each patient could enter at the earliest, and when each verdict expires",
    )
    screen.add_argument(
        "--horizon", metavar="DAYS", type=cli.positive, default=730, help="how far --earliest looks"
    )
    screen.add_argument(
        "--explain", metavar="PATIENT", help="only that patient's full report, on the SHACL engine"
    )
    screen.add_argument(
        "--resume", action="store_true", help="go on with a run that was interrupted"
    )
    screen.add_argument(
        "--keep-prepared",
        action="store_true",
        help="keep the prepared patients beside the output, for --resume with other limits",
    )
    screen.add_argument("--quiet", "-q", action="store_true", help="the counts of verdicts only")


def run(options: argparse.Namespace) -> int:
    """Run the command and return its exit code: 0 when finished, whatever the verdicts; 2 else."""
    from sarc_kb.kb import option_date
    from sarc_kb.screening import trials_as_set

    cli.one_kind_of_source(options)
    kb = cli.knowledge_base(options)
    names = _trials(kb, options)
    set_here: dict[str, Any] = {
        "policies": cli.pairs("--policy", options.policy),
        "readings": cli.pairs("--reading", options.reading),
        "relaxed": cli.pairs("--relax", options.relax),
    }
    trials = trials_as_set(kb, names, set_here)
    complete = tuple(filter(None, options.complete.split(",")))
    kb.scopes(complete)
    attested = cli.pairs("--attest", options.attest)
    for trial in trials.values():
        kb.answers(trial, attested)
    option_date("--as-of", options.as_of)
    if options.only == "treatment" and not any(t.treatment for t in trials.values()):
        raise UsageError(
            Finding(
                "USE014",
                "error",
                "--only treatment",
                "no trial here has rules about treatment",
                "nothing would be judged",
                "leave the option out",
            )
        )
    if options.earliest and (options.as_of or options.only == "treatment"):
        raise UsageError(
            Finding(
                "USE053",
                "error",
                "--earliest",
                "with --as-of or --only treatment",
                "it moves the day of entry, by which eligibility is judged",
                "leave one of them out",
            )
        )
    problems: list[Finding] = []
    try:
        if options.explain is not None:
            return _explain(kb, names, set_here, options, problems)
        return _to_folder(kb, trials, set_here, options, problems)
    finally:
        for finding in problems:
            if finding.severity != "info":
                cli.complain(finding)


def _to_folder(
    kb: KnowledgeBase,
    trials: Mapping[str, Trial],
    set_here: Mapping[str, Mapping[str, str]],
    options: argparse.Namespace,
    problems: list[Finding],
) -> int:
    from sarc_kb.screening import extra_absent

    if options.output is None:
        raise UsageError(
            Finding(
                "USE048",
                "error",
                "screen",
                "no --output and no --explain",
                "there is nowhere to write to",
                "add --output FOLDER",
            )
        )
    if options.resume and "-" in options.files:
        raise UsageError(
            Finding(
                "USE052",
                "error",
                "--resume -",
                "standard input",
                "nobody can tell whether it is what the interrupted run read",
                "name files, or leave --resume out",
            )
        )
    try:
        _screen(kb, trials, set_here, options, problems)
    except ImportError as absent:
        raise extra_absent(absent) from None
    return cli.COULD_NOT if any(f.severity == "error" for f in problems) else cli.PASS


def _trials(kb: KnowledgeBase, options: argparse.Namespace) -> list[str]:
    if options.trial is None:
        return sorted(kb.trial_folders)
    names = [name.strip().upper() for name in options.trial.split(",")]
    for name in names:
        kb.trial_folder(name)
    return list(dict.fromkeys(names))


def _screen(
    kb: KnowledgeBase,
    trials: Mapping[str, Trial],
    set_here: Mapping[str, Mapping[str, str]],
    options: argparse.Namespace,
    problems: list[Finding],
) -> None:
    from sarc_kb.cohort.preparing import Limits, Settings
    from sarc_kb.cohort.screen import Options, screen
    from sarc_kb.kb import option_date
    from sarc_kb.reports.cohort_page import render_page
    from sarc_kb.reports.cohort_report import render_json, render_text

    changes = _changes(kb, next(iter(trials)), set_here)
    compared_with = PROTOCOL if changes else None
    settings = Settings(
        as_of=option_date("--as-of", options.as_of),
        complete=tuple(filter(None, options.complete.split(","))),
        attested=cli.pairs("--attest", options.attest),
        only=options.only,
        wait=trials if options.earliest else {},
        horizon_days=options.horizon,
    )
    workers = options.workers or os.cpu_count() or 1
    limits = cli.limits(options, *_LIMITS)
    records, expected = _records(kb, trials.values(), options, problems)
    given = {name: getattr(options, name) for name in _OPTIONS}
    if options.omop is not None:
        given["omop"] = re.sub(r"(?<=://)([^/@:]*):[^/@]*@", r"\1@", options.omop)
    made = {
        "program": __version__,
        "knowledge_base": kb.info.sha256,
        "options": given,
        "input": _identities(options),
    }

    def describe(found: Screening) -> Mapping[str, str]:
        told = (found, kb.info, trials, given, problems)
        return {"summary.json": render_json(*told), "summary.html": render_page(*told)}

    with Progress(expected, quiet=options.quiet) as progress:

        def step(count: int) -> None:
            progress.step(count)

        found = screen(
            kb,
            trials,
            records,
            Path(options.output),
            Options(
                engine=options.engine,
                server=options.server or _server(options.omop),
                memory=options.memory,
                workers=workers,
                limits=Limits(*limits),
                format=options.format,
                clauses=not options.no_clauses,
                evidence=not options.no_evidence,
                resume=options.resume,
                keep_prepared=options.keep_prepared,
            ),
            settings,
            what_if=changes,
            compared_with=compared_with,
            made_with=made,
            progress=step,
            describe=describe,
        )
    cli.write(render_text(found, width=width(None), quiet=options.quiet), None)


_OPTIONS = (
    "entry_date",
    "entry_dates",
    "as_of",
    "complete",
    "attest",
    "only",
    "omop",
    "omop_schema",
    "person",
    "mappings",
    "concept_ancestor",
    "valueset",
    "earliest",
    "horizon",
)
"""What preparing depends on besides the data and the rules."""
PROTOCOL = "as the protocol is read by default"


def _changes(
    kb: KnowledgeBase, trial: str, set_here: Mapping[str, Mapping[str, str]]
) -> dict[str, Trial]:
    """Return what the run is compared with: the trial with nothing changed, and, where several
    things are, with each of them alone."""
    single = [
        (kind, name, value) for kind, pairs in set_here.items() for name, value in pairs.items()
    ]
    if not single:
        return {}
    found = {PROTOCOL: kb.compile(trial)}
    if len(single) > 1:
        for kind, name, value in single:
            changed: dict[str, Any] = {kind: {name: value}}
            found[f"{name}={value}"] = kb.compile(trial, **changed)
    return found


def _records(
    kb: KnowledgeBase,
    trials: Iterable[Trial],
    options: argparse.Namespace,
    problems: list[Finding],
) -> tuple[Iterable[PatientRecord], int]:
    from sarc_kb.kb import with_entry_dates

    records, expected, found = cli.records_of(options, kb, *trials)
    # The list grows while patients are read; what was told is passed on at the end.
    dates = cli.entry_dates(options.entry_dates) if options.entry_dates else {}

    def all_of_them() -> Iterable[PatientRecord]:
        try:
            yield from with_entry_dates(records, options.entry_date, dates)
        finally:
            problems.extend(found)

    return all_of_them(), expected


def _server(omop: str | None) -> str | None:
    return omop if omop is not None and omop.startswith(("postgresql:", "postgres:")) else None


def _identities(options: argparse.Namespace) -> list[list[object]]:
    """Return what tells whether the input is still the same: names, sizes and times of its files."""
    named = [*options.files, *options.mappings, *options.concept_ancestor]
    if options.omop and _server(options.omop) is None:
        named.append(options.omop)
    named += [v.rpartition("=")[2] for v in options.valueset]
    named += [options.entry_dates] if options.entry_dates else []
    found: list[list[object]] = []
    for path in (Path(name) for name in named):
        inside = sorted(path.rglob("*")) if path.is_dir() else [path]
        for file in inside:
            if file.is_file():
                status = file.stat()
                found.append([str(file), status.st_size, status.st_mtime_ns])
    return found


def _explain(
    kb: KnowledgeBase,
    trials: list[str],
    set_here: Mapping[str, Mapping[str, str]],
    options: argparse.Namespace,
    problems: list[Finding],
) -> int:
    """Write the full report of one patient, judged by the SHACL engine, under every trial."""
    from sarc_kb.assess_each import Circumstances, assess_each
    from sarc_kb.assessment import AssessmentSet
    from sarc_kb.kb import option_date
    from sarc_kb.reports.text_report import render_text

    given: dict[str, Any] = dict(set_here)
    engines = [kb.engine(trial, **given) for trial in trials]
    records, _ = _records(kb, [trial for trial, _ in engines], options, problems)
    wanted = options.explain
    how = Circumstances(
        option_date("--as-of", options.as_of),
        tuple(filter(None, options.complete.split(","))),
        cli.pairs("--attest", options.attest),
        options.only,
    )
    within = cli.limits(options, *_LIMITS)
    for record in records:
        if wanted in (record.label, record.patient):
            assessments = tuple(
                assessment
                for compiled, engine in engines
                for assessment in assess_each(kb, [record], compiled, engine, how, *within)
            )
            result = AssessmentSet(kb.info, assessments, ())
            cli.write(render_text(result, width=width(None), verbose=True), None)
            return cli.PASS
    raise UsageError(
        Finding(
            "USE050",
            "error",
            f"--explain {wanted}",
            "no such patient in the input",
            "nothing would be explained",
            "use the patient as the tables of the run name it",
        )
    )
