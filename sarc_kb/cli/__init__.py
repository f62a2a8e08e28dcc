"""The command line: thin, and quick to start. Exit codes are the contract with pipelines.

0 all pass; 1 some criterion fails, or the course of treatment breaks an order or a prohibition; 3
neither, but something is undetermined; 2 could not run, or could not judge some patient; 130
interrupted. A deviation of the course is a warning and changes no exit code.
"""

from __future__ import annotations

import argparse
import math
import os
import re
import signal
import sys
import threading
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from sarc_kb import __version__
from sarc_kb.cli.terminal import Progress as Progress
from sarc_kb.cli.terminal import coloured as coloured
from sarc_kb.cli.terminal import width as width
from sarc_kb.errors import Finding, SarcError, UsageError
from sarc_kb.options import pairs as pairs
from sarc_kb.reports.formats import MEDIA_TYPES
from sarc_kb.whole_file import whole_file

if TYPE_CHECKING:
    from sarc_kb.assessment import Assessment, AssessmentSet, Conclusion, Outcome, Verdict
    from sarc_kb.facts import PatientRecord
    from sarc_kb.kb import KnowledgeBase
    from sarc_kb.readiness import Readiness
    from sarc_kb.rules import Trial

PASS, FAIL, COULD_NOT, UNDETERMINED, INTERRUPTED = 0, 1, 2, 3, 130
_STANDARD_OUTPUT = "standard output"
FORMATS = tuple(MEDIA_TYPES)


def build_parser() -> argparse.ArgumentParser:
    """Return the parser; also the source of shell completion."""
    parser = argparse.ArgumentParser(
        prog="sarc-kb",
        description="Judge patient records by clinical-trial rules that are held as data.",
        epilog="Exit codes: 0 all pass, 1 a criterion fails or treatment breaks an order, 3 neither but something is undetermined, 2 could not run or judge.",
    )
    parser.add_argument("--version", action="version", version=f"sarc-kb {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)

    validate = commands.add_parser("validate", help="judge patients and report")
    source_options(validate)
    common_options(validate)
    mapping_options(validate)
    judging_options(validate)
    limit_options(validate, "none", "none")
    validate.add_argument(
        "--format", choices=FORMATS, default="text", help="report format (default: text)"
    )
    validate.add_argument(
        "--output", "-o", metavar="FILE", help="write the report there, whole or not at all"
    )
    told = validate.add_mutually_exclusive_group()
    told.add_argument("--quiet", "-q", action="store_true", help="verdicts only")
    told.add_argument("--verbose", "-v", action="store_true", help="every criterion and finding")

    rules = commands.add_parser("rules", help="list the rules of a trial")
    common_options(rules)
    rules.add_argument("--policies", action="store_true", help="list the policies instead")
    rules.add_argument(
        "--ambiguities", action="store_true", help="list the register and its readings instead"
    )

    explain = commands.add_parser("explain", help="explain one rule")
    explain.add_argument("rule", metavar="RULE", help="such as I07a")
    common_options(explain)

    from sarc_kb.cli import audit, check, diff, docs, export, pack, readings, screen, serve

    check.add_parser(commands)

    shapes = commands.add_parser("shapes", help="write the rules as one self-contained SHACL file")
    common_options(shapes, readings=False, relax=False)
    shapes.add_argument(
        "--reading",
        dest="component_reading",
        choices=("refuted", "unproven"),
        default="refuted",
        help="which of the two readings of the components",
    )
    shapes.add_argument(
        "--register",
        dest="reading",
        metavar="ENTRY=READING",
        action="append",
        default=[],
        help="choose a reading of the register of ambiguities",
    )
    _rules_part(shapes)
    shapes.add_argument("--output", "-o", metavar="FILE")

    prepare = commands.add_parser("prepare", help="write the prepared graph that those shapes read")
    prepare.add_argument("files", nargs=1, metavar="FILE")
    common_options(prepare)
    _rules_part(prepare)
    mapping_options(prepare)
    prepare.add_argument("--entry-date", metavar="DATE")
    prepare.add_argument("--as-of", metavar="DATE")
    prepare.add_argument("--complete", metavar="KIND[,KIND]", default="")
    prepare.add_argument("--attest", metavar="RULE=ANSWER", action="append", default=[])
    prepare.add_argument("--output", "-o", metavar="FILE")

    facts = commands.add_parser(
        "facts", help="write the facts of all patients as one table (Parquet)"
    )
    source_options(facts)
    trial_options(facts)
    mapping_options(facts)
    _entry_options(facts)
    facts.add_argument(
        "--output",
        "-o",
        metavar="FILE.parquet",
        required=True,
        help="write the table there, whole or not at all",
    )

    ready = commands.add_parser("readiness", help="what a data set can decide, and what blocks it")
    source_options(ready)
    common_options(ready)
    mapping_options(ready)
    record_options(ready)
    ready.add_argument("--format", choices=("text", "json", "csv"), default="text")
    ready.add_argument("--output", "-o", metavar="FILE")
    ready.add_argument("--verbose", "-v", action="store_true", help="every clause, code and unit")

    mapping = commands.add_parser("map", help="what is unmapped, as an SSSOM file to fill in")
    source_options(mapping)
    common_options(mapping)
    mapping_options(mapping)
    mapping.add_argument(
        "--suggest",
        action="store_true",
        help="write the SSSOM file; without it, the list for reading",
    )
    mapping.add_argument("--output", "-o", metavar="FILE")

    checklist = commands.add_parser("checklist", help="what a person has to answer, as a form")
    common_options(checklist)
    checklist.add_argument("--format", choices=("text", "fhir", "json"), default="text")
    checklist.add_argument("--output", "-o", metavar="FILE")

    screen.add_parser(commands)
    docs.add_parser(commands)
    export.add_parser(commands)
    audit.add_parser(commands)
    diff.add_parser(commands)
    readings.add_parser(commands)
    pack.add_parsers(commands)
    serve.add_parser(commands)

    completion = commands.add_parser("completion", help="print a shell completion script")
    completion.add_argument("shell", choices=("bash", "zsh", "tcsh"))
    return parser


def positive(text: str) -> int:
    if not text.isascii() or not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 1 on")
    return int(text)


def seconds(text: str) -> float:
    """Return a limit of time; ``none`` is no limit."""
    if text.lower() == "none":
        return math.inf
    if not re.fullmatch(r"\d{1,9}(\.\d{1,3})?", text, re.ASCII) or float(text) == 0:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds above 0, nor none")
    return float(text)


def memory(text: str) -> float:
    """Return a limit of memory in bytes, such as of 2GB; ``none`` is no limit."""
    if text.lower() == "none":
        return math.inf
    found = re.fullmatch(r"(\d{1,6})([MG])B", text, re.ASCII | re.IGNORECASE)
    size = int(found[1]) << (20 if found[2] in "Mm" else 30) if found else 0
    if size < 64 << 20:
        raise argparse.ArgumentTypeError(f"{text!r} is not 64MB or more, such as 2GB, nor none")
    return size


def limit_options(parser: argparse.ArgumentParser, time_limit: str, memory_limit: str) -> None:
    """Add what judging a patient, or reading a file, may take, and say what that is by default. By
    default reading has no limit: one file may hold many patients."""
    judging = (
        "none" if x == "none" else f"{x}, none for a file" for x in (time_limit, memory_limit)
    )
    parser.add_argument(
        "--time-limit",
        metavar="SECONDS",
        type=seconds,
        help=f"what judging one patient, or reading one file, may take, or none (default: {next(judging)})",
    )
    parser.add_argument(
        "--memory-limit",
        metavar="SIZE",
        type=memory,
        help=f"the same of memory, or none (default: {next(judging)})",
    )


def limits(
    options: argparse.Namespace, time_limit: str = "none", memory_limit: str = "none"
) -> tuple[float, int | None]:
    """Return what a task may take: seconds, and bytes or None for what there is.

    Raises:
        UsageError: a limit of memory is asked for where the system keeps none.
    """
    from sarc_kb.workers import memory_is_limited

    taken = options.memory_limit
    if taken is not None and not math.isinf(taken) and not memory_is_limited():
        raise UsageError(
            Finding(
                "USE075",
                "error",
                "--memory-limit",
                "this system does not limit the memory of a process",
                "the limit would not be kept; Linux can",
                "leave the option out",
            )
        )
    time_ = seconds(time_limit) if options.time_limit is None else options.time_limit
    most = memory(memory_limit) if taken is None else taken
    return time_, None if math.isinf(most) else int(most)


def source_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "files",
        nargs="*",
        metavar="FILE",
        help="patient graphs, FHIR JSON, facts tables; folders; - is standard input",
    )
    parser.add_argument(
        "--omop",
        metavar="SOURCE",
        help="an OMOP CDM 5.4: a DuckDB file, a folder of Parquet or CSV, or postgresql://…",
    )
    parser.add_argument(
        "--person",
        metavar="ID",
        action="append",
        default=[],
        help="person_id in the OMOP source; may be repeated (default: everybody)",
    )
    parser.add_argument(
        "--omop-schema", metavar="NAME", help="schema of the OMOP tables in the database"
    )


def _rules_part(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--only",
        choices=("eligibility", "treatment"),
        default="eligibility",
        help="which part of the rules (default: eligibility)",
    )


def trial_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--trial", metavar="ID", help="trial, when the rule base holds several")
    parser.add_argument(
        "--rules",
        metavar="FOLDER",
        help="another knowledge base (a folder with ontology/ and shapes/)",
    )


def common_options(
    parser: argparse.ArgumentParser, *, readings: bool = True, relax: bool = True
) -> None:
    trial_options(parser)
    parser.add_argument(
        "--policy",
        metavar="NAME=VALUE",
        action="append",
        default=[],
        help="set a policy the record leaves open",
    )
    if readings:
        parser.add_argument(
            "--reading",
            metavar="ENTRY=READING",
            action="append",
            default=[],
            help="choose a reading of the register of ambiguities",
        )
    if relax:
        parser.add_argument(
            "--relax",
            metavar="CLAUSE:LIMIT=NUMBER",
            action="append",
            default=[],
            help="set a limit of a clause, such as I07a:atLeast=8.0, in the clause's unit and in either direction: to try out what it would change, and said in every report",
        )


def _entry_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--entry-date", metavar="DATE", help="study entry of patients whose data do not say it"
    )
    parser.add_argument("--entry-dates", metavar="FILE.csv", help="table of patient,date")


def record_options(parser: argparse.ArgumentParser) -> None:
    _entry_options(parser)
    parser.add_argument("--complete", metavar="KIND[,KIND]", default="")
    parser.add_argument("--attest", metavar="RULE=ANSWER", action="append", default=[])


def judging_options(parser: argparse.ArgumentParser) -> None:
    _entry_options(parser)
    parser.add_argument(
        "--as-of", metavar="DATE", help="later facts are not seen (default: the entry date)"
    )
    parser.add_argument(
        "--complete",
        metavar="KIND[,KIND]",
        default="",
        help="histories you vouch are complete, such as conditions,procedures",
    )
    parser.add_argument(
        "--attest",
        metavar="RULE=ANSWER",
        action="append",
        default=[],
        help="an answer for the whole study, such as I11=true",
    )
    parser.add_argument(
        "--engine",
        metavar="NAME",
        default="pyshacl",
        help="SHACL processor: pyshacl, pyshifty, pyshacl-turbo",
    )
    parser.add_argument(
        "--only",
        choices=("eligibility", "treatment"),
        help="judge and report that part alone (default: treatment too, where it is on record)",
    )


def mapping_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--mappings",
        metavar="FILE.sssom.tsv",
        action="append",
        default=[],
        help="your own SSSOM rows: local codes, texts, units; they win over the project's",
    )
    parser.add_argument(
        "--concept-ancestor",
        metavar="FILE",
        action="append",
        default=[],
        help="OMOP CONCEPT_ANCESTOR (CSV or Parquet): what is below a mapped concept is read too",
    )
    parser.add_argument(
        "--valueset",
        metavar="[TERM=]FILE",
        action="append",
        default=[],
        help="FHIR ValueSet whose codes are below TERM (or below the term that is its url)",
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    parser = build_parser()
    options = parser.parse_args(arguments)
    if threading.current_thread() is threading.main_thread():
        # Whoever ends a job asks it like this: what is half written goes, and workers end.
        signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        return _COMMANDS[options.command](options)
    except SarcError as error:
        for finding in error.findings:
            complain(finding)
        return COULD_NOT
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:
        # Somebody closed the pipe, as `head` does; there is nothing left to say it to.
        _abandon_standard_output()
        return COULD_NOT
    except OSError as error:
        if error.filename == _STANDARD_OUTPUT:
            _abandon_standard_output()
        complain(
            Finding(
                "USE020",
                "error",
                str(error.filename or "output"),
                error.strerror or type(error).__name__,
                "the report could not be written",
                "check the place and the space on it",
            )
        )
        return COULD_NOT


def complain(finding: Finding) -> None:
    from sarc_kb.reports.escaping import visible

    print(f"sarc-kb: {finding.code} {visible(finding.where)}", file=sys.stderr)
    for name in ("found", "why", "fix"):
        print(f"  {name:<5} {visible(getattr(finding, name))}", file=sys.stderr)


def knowledge_base(options: argparse.Namespace) -> KnowledgeBase:
    from sarc_kb.kb import KnowledgeBase

    kb = KnowledgeBase.load(options.rules)
    if not hasattr(options, "mappings"):
        return kb
    sets = [(given, *given.rpartition("=")) for given in options.valueset]
    return kb.with_mappings(
        *options.mappings,
        concept_ancestors=options.concept_ancestor,
        value_sets=[
            (term, file) if equals else (None, given) for given, term, equals, file in sets
        ],
    )


def _validate(options: argparse.Namespace) -> int:
    from sarc_kb.assess_each import Circumstances, assess_each
    from sarc_kb.assessment import AssessmentSet
    from sarc_kb.kb import option_date, with_entry_dates

    one_kind_of_source(options)
    if options.format == "xlsx" and options.output is None:
        raise UsageError(
            Finding(
                "USE090",
                "error",
                "--format xlsx",
                "no --output",
                "a workbook is no text that could be shown",
                "add --output FILE.xlsx",
            )
        )
    kb = knowledge_base(options)
    trial, engine = kb.engine(
        options.trial,
        policies=pairs("--policy", options.policy),
        readings=pairs("--reading", options.reading),
        relaxed=pairs("--relax", options.relax),
        name=options.engine,
    )
    complete = tuple(filter(None, options.complete.split(",")))
    kb.scopes(complete)
    attested = pairs("--attest", options.attest)
    kb.answers(trial, attested)
    as_of = option_date("--as-of", options.as_of)
    records, expected, problems = records_of(options, kb, trial)
    dated = with_entry_dates(
        records,
        options.entry_date,
        entry_dates(options.entry_dates) if options.entry_dates else {},
    )
    seen = _Seen()

    how = Circumstances(as_of, complete, attested, options.only)
    within = limits(options)

    def judged() -> Iterator[Assessment]:
        with Progress(expected, quiet=options.quiet) as progress:
            for assessment in assess_each(kb, dated, trial, engine, how, *within):
                seen.add(assessment)
                yield assessment
                progress.step()

    if options.format == "jsonl":
        from sarc_kb.reports.json_report import stream_jsonl

        # Written as it is judged: a cohort of any size needs the memory of one patient.
        write(stream_jsonl(kb.info, judged(), problems), options.output)
    else:
        result = AssessmentSet(kb.info, tuple(judged()), tuple(problems))
        report = _render(result, options, trial)
        if isinstance(report, bytes):
            with whole_file(Path(options.output)) as stream:
                stream.write(report)
        else:
            write(report, options.output)
    for finding in problems:
        if finding.severity != "info":
            complain(finding)
    return seen.exit_code(problems)


def records_of(
    options: argparse.Namespace, kb: KnowledgeBase, *trials: Trial
) -> tuple[Iterable[PatientRecord], int, list[Finding]]:
    """Return the patients of all sources, as they are read for ``trials``, how many are expected
    (0: nobody knows before all are read), and the findings of the run.

    The list of findings grows while the patients are read: what a source tells last is told too.
    """
    from itertools import chain

    from sarc_kb.read_each import read_each

    within = limits(options) if hasattr(options, "time_limit") else ()
    found, problems = read_each(kb, [Path(f) for f in options.files], trials, *within)
    problems[:0] = kb.added_findings
    if not options.omop:
        return found, len(found), problems
    tables = kb.omop_records(
        options.omop, trials, problems, persons=options.person, schema=options.omop_schema
    )
    expected = len(found) + len(options.person) if options.person else 0
    return chain(found, tables), expected, problems


def counted(records: Iterable[PatientRecord], expected: int) -> Iterator[PatientRecord]:
    """Yield the records, and show how many were gone through."""
    with Progress(expected) as progress:
        for record in records:
            yield record
            progress.step()


def one_kind_of_source(options: argparse.Namespace) -> None:
    """Refuse options that would change nothing, and a run without any patient."""
    fault = None
    if not options.files and not options.omop:
        fault = (options.command, "no FILE and no --omop", "name the patients' records")
    elif not options.omop and (options.person or options.omop_schema):
        fault = ("--person and --omop-schema", "no --omop to read", "add --omop SOURCE")
    if fault is not None:
        where, found, fix = fault
        raise UsageError(Finding("USE031", "error", where, found, "nothing would be judged", fix))


class _Seen:
    """What the exit code depends on, of all assessments."""

    def __init__(self) -> None:
        self.outcomes: set[Outcome] = set()
        self.verdicts: set[Verdict] = set()
        self.courses: set[Conclusion] = set()

    def add(self, assessment: Assessment) -> None:
        self.verdicts.add(assessment.verdict)
        self.outcomes.update(c.outcome for c in assessment.criteria)
        if assessment.treatment is not None:
            self.courses.add(assessment.treatment.conclusion)

    def exit_code(self, problems: Sequence[Finding]) -> int:
        from sarc_kb.assessment import Conclusion, Outcome, Verdict

        if any(f.severity == "error" for f in problems) or not self.verdicts:
            return COULD_NOT
        if Verdict.ERROR in self.verdicts:
            return COULD_NOT
        if Outcome.FAIL in self.outcomes or Conclusion.VIOLATION in self.courses:
            return FAIL
        if Outcome.UNDETERMINED in self.outcomes or Conclusion.UNDETERMINED in self.courses:
            return UNDETERMINED
        return PASS


def _render(result: AssessmentSet, options: argparse.Namespace, trial: Trial) -> str | bytes:
    from sarc_kb.reports.formats import render

    return render(
        result,
        options.format,
        components=trial.components,
        colour=coloured(options.output),
        width=width(options.output),
        verbose=options.verbose,
        quiet=options.quiet,
    )


def entry_dates(name: str) -> dict[str, str]:
    from sarc_kb.entry_dates import read_entry_dates

    return read_entry_dates(Path(name))


def write(text: str | Iterable[str], output: str | None) -> None:
    """Write a text, or its lines one by one, to standard output, or to a file that appears whole
    or not at all."""
    lines = (text if text.endswith("\n") else text + "\n",) if isinstance(text, str) else text
    if output is not None:
        with whole_file(Path(output)) as stream:
            stream.writelines(line.encode() for line in lines)
        return
    try:
        sys.stdout.writelines(lines)
        sys.stdout.flush()
    except OSError as error:
        raise OSError(error.errno, error.strerror, _STANDARD_OUTPUT) from None


def _abandon_standard_output() -> None:
    """Keep Python from writing what is left to a place that takes nothing, as it ends."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _rules(options: argparse.Namespace) -> int:
    from sarc_kb.reports.rule_report import render_ambiguities, render_policies, render_rules

    kb = knowledge_base(options)
    trial = kb.compile(
        options.trial,
        policies=pairs("--policy", options.policy),
        readings=pairs("--reading", options.reading),
        relaxed=pairs("--relax", options.relax),
    )
    render = (
        render_policies
        if options.policies
        else render_ambiguities
        if options.ambiguities
        else render_rules
    )
    write(render(trial, kb.terms), None)
    return PASS


def _explain(options: argparse.Namespace) -> int:
    from sarc_kb.reports.rule_report import render_rule

    kb = knowledge_base(options)
    trial = kb.compile(
        options.trial,
        policies=pairs("--policy", options.policy),
        readings=pairs("--reading", options.reading),
        relaxed=pairs("--relax", options.relax),
    )
    write(render_rule(trial, kb.terms, options.rule, kb.trial_folder(trial.id.upper())), None)
    return PASS


def _check(options: argparse.Namespace) -> int:
    from sarc_kb.cli import check

    return check.run(options)


def _shapes(options: argparse.Namespace) -> int:
    from sarc_kb.engines.shapes import exported_shapes
    from sarc_kb.reports.turtle import stable_turtle

    kb = knowledge_base(options)
    trial = kb.compile(
        options.trial,
        policies=pairs("--policy", options.policy),
        readings=pairs("--reading", options.reading),
    )
    part = _part(trial, options.only)
    graph = exported_shapes(part, kb.root / "shapes" / "components", options.component_reading)
    write(stable_turtle(graph), options.output)
    return PASS


def _prepare(options: argparse.Namespace) -> int:
    from sarc_kb.engines.prepared_graph import prepared_graph
    from sarc_kb.errors import InputError
    from sarc_kb.kb import option_date, with_entry_dates
    from sarc_kb.reports.turtle import stable_turtle
    from sarc_kb.sources.read import read_sources
    from sarc_kb.treatment import last_day

    kb = knowledge_base(options)
    trial = kb.compile(
        options.trial,
        policies=pairs("--policy", options.policy),
        readings=pairs("--reading", options.reading),
        relaxed=pairs("--relax", options.relax),
    )
    found, problems = read_sources([Path(f) for f in options.files], kb.reading_terms(trial))
    if told := [f for f in problems if f.severity != "info"]:
        raise InputError(*told)
    for finding in kb.added_findings:
        complain(finding)
    records = list(with_entry_dates(found, options.entry_date, {}))
    if len(records) != 1:
        raise InputError(
            Finding(
                "DATA000",
                "error",
                options.files[0],
                f"{len(records)} patients",
                "a prepared graph holds one",
                "give one patient a file",
            )
        )
    part = _part(trial, options.only)
    as_of = option_date("--as-of", options.as_of)
    if part.course is not None and as_of is None:
        as_of = last_day(records[0])
    prepared = kb.prepare(
        records[0],
        part,
        as_of=as_of,
        complete=tuple(filter(None, options.complete.split(","))),
        attested=pairs("--attest", options.attest),
    )
    write(stable_turtle(prepared_graph(prepared)), options.output)
    return PASS


def _part(trial: Trial, only: str) -> Trial:
    """Return the part of a trial's rules that is asked for.

    Raises:
        UsageError: the trial has no such part.
    """
    part = trial if only == "eligibility" else trial.treatment
    if part is None:
        raise UsageError(
            Finding(
                "USE014",
                "error",
                f"--only {only}",
                "this trial has no rules about treatment",
                "there is nothing to write",
                "leave the option out",
            )
        )
    return part


def _facts(options: argparse.Namespace) -> int:
    from sarc_kb.kb import with_entry_dates
    from sarc_kb.sources.facts_table import need_pyarrow, write_facts

    one_kind_of_source(options)
    need_pyarrow(options.command)
    kb = knowledge_base(options)
    records, expected, problems = records_of(options, kb, kb.compile(options.trial))
    # What is told of the options is no part of the table; what is told of the sources is.
    del problems[: len(kb.added_findings)]
    dated = with_entry_dates(
        records,
        options.entry_date,
        entry_dates(options.entry_dates) if options.entry_dates else {},
    )

    written = write_facts(counted(dated, expected), options.output, findings=problems)
    broken = f" ({written.broken} with an error)" if written.broken else ""
    counts = ((written.patients, "patient"), (written.facts, "fact"), (written.files, "source"))
    patients, facts, sources = (f"{n} {word}{'' if n == 1 else 's'}" for n, word in counts)
    write(f"{options.output}: {patients}{broken}, {facts}, {sources}", None)
    for finding in (*kb.added_findings, *problems):
        if finding.severity != "info":
            complain(finding)
    lost = any(f.severity == "error" for f in problems)
    return COULD_NOT if lost or not written.patients else PASS


def _readiness(options: argparse.Namespace) -> int:
    from sarc_kb.reports import readiness_report

    found = _counted(
        options,
        entry_date=options.entry_date,
        entry_dates=entry_dates(options.entry_dates) if options.entry_dates else {},
        complete=tuple(filter(None, options.complete.split(","))),
        attested=pairs("--attest", options.attest),
    )
    if options.format == "json":
        text = readiness_report.render_json(found)
    elif options.format == "csv":
        text = readiness_report.render_csv(found)
    else:
        across = width(options.output)
        text = readiness_report.render_text(found, width=across, verbose=options.verbose)
    write(text, options.output)
    return _read_whole(found)


def _map(options: argparse.Namespace) -> int:
    from sarc_kb.reports import mapping_skeleton

    found = _counted(options)
    if options.suggest:
        write(mapping_skeleton.render_sssom(found), options.output)
    else:
        write(mapping_skeleton.render_list(found, width=width(options.output)), options.output)
    return _read_whole(found)


def _counted(
    options: argparse.Namespace,
    *,
    entry_date: str | None = None,
    entry_dates: dict[str, str] | None = None,
    complete: tuple[str, ...] = (),
    attested: dict[str, str] | None = None,
) -> Readiness:
    from sarc_kb.kb import with_entry_dates
    from sarc_kb.readiness import readiness

    one_kind_of_source(options)
    kb = knowledge_base(options)
    trial = kb.compile(
        options.trial,
        policies=pairs("--policy", options.policy),
        readings=pairs("--reading", options.reading),
        relaxed=pairs("--relax", options.relax),
    )
    kb.scopes(complete)
    kb.answers(trial, attested or {})
    records, expected, problems = records_of(options, kb, trial)
    found = readiness(
        kb,
        trial,
        counted(with_entry_dates(records, entry_date, entry_dates or {}), expected),
        complete=complete,
        attested=attested,
        findings=problems,
    )
    for finding in found.findings:
        complain(finding)
    return found


def _read_whole(found: Readiness) -> int:
    broken = any(f.severity == "error" for f in found.findings)
    return COULD_NOT if broken or not found.patients else PASS


def _checklist(options: argparse.Namespace) -> int:
    from sarc_kb.reports import checklist_report

    kb = knowledge_base(options)
    trial = kb.compile(
        options.trial,
        policies=pairs("--policy", options.policy),
        readings=pairs("--reading", options.reading),
        relaxed=pairs("--relax", options.relax),
    )
    if options.format == "fhir":
        text = checklist_report.render_fhir(trial, kb.info)
    elif options.format == "json":
        text = checklist_report.render_json(trial, kb.info)
    else:
        text = checklist_report.render_text(trial, kb.terms, width=width(options.output))
    write(text, options.output)
    return PASS


def _completion(options: argparse.Namespace) -> int:
    import shtab

    write(shtab.complete(build_parser(), shell=options.shell), None)
    return PASS


def _screen(options: argparse.Namespace) -> int:
    from sarc_kb.cli import screen

    return screen.run(options)


def _audit(options: argparse.Namespace) -> int:
    from sarc_kb.cli import audit

    return audit.run(options)


def _pack(options: argparse.Namespace) -> int:
    from sarc_kb.cli import pack

    return pack.run(options)


def _diff(options: argparse.Namespace) -> int:
    from sarc_kb.cli import diff

    return diff.run(options)


def _docs(options: argparse.Namespace) -> int:
    from sarc_kb.cli import docs

    return docs.run(options)


def _serve(options: argparse.Namespace) -> int:
    from sarc_kb.cli import serve

    return serve.run(options)


def _export(options: argparse.Namespace) -> int:
    from sarc_kb.cli import export

    return export.run(options)


def _readings(options: argparse.Namespace) -> int:
    from sarc_kb.cli import readings

    return readings.run(options)


_COMMANDS = {
    "audit": _audit,
    "diff": _diff,
    "pack": _pack,
    "verify": _pack,
    "docs": _docs,
    "export": _export,
    "readings": _readings,
    "serve": _serve,
    "validate": _validate,
    "screen": _screen,
    "rules": _rules,
    "explain": _explain,
    "check": _check,
    "shapes": _shapes,
    "prepare": _prepare,
    "facts": _facts,
    "readiness": _readiness,
    "map": _map,
    "checklist": _checklist,
    "completion": _completion,
}

if __name__ == "__main__":
    sys.exit(main())
