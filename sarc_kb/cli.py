"""The command line: thin, and quick to start. Exit codes are the contract with pipelines.

0 all pass; 1 some criterion fails; 3 none fails but something is undetermined; 2 could not run, or
could not judge some patient; 130 interrupted.
"""

from __future__ import annotations

import argparse
import csv
import os
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from sarc_kb import __version__
from sarc_kb.errors import Finding, SarcError, UsageError

if TYPE_CHECKING:
    from sarc_kb.assessment import AssessmentSet
    from sarc_kb.kb import KnowledgeBase

PASS, FAIL, COULD_NOT, UNDETERMINED, INTERRUPTED = 0, 1, 2, 3, 130
_STANDARD_OUTPUT = "standard output"
FORMATS = ("text", "json", "jsonl", "turtle", "jsonld")


def build_parser() -> argparse.ArgumentParser:
    """Return the parser; also the source of shell completion."""
    parser = argparse.ArgumentParser(
        prog="sarc-kb",
        description="Judge patient records by clinical-trial rules that are held as data.",
        epilog="Exit codes: 0 all pass, 1 a criterion fails, 3 none fails but something is undetermined, 2 could not run or judge.",
    )
    parser.add_argument("--version", action="version", version=f"sarc-kb {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)

    validate = commands.add_parser("validate", help="judge patients and report")
    validate.add_argument(
        "files",
        nargs="*",
        metavar="FILE",
        help="patient graphs or FHIR JSON; folders; - is standard input",
    )
    validate.add_argument(
        "--omop",
        metavar="SOURCE",
        help="an OMOP CDM 5.4: a DuckDB file, a folder of Parquet or CSV, or postgresql://…",
    )
    validate.add_argument(
        "--person",
        metavar="ID",
        action="append",
        default=[],
        help="person_id in the OMOP source; may be repeated (default: everybody)",
    )
    validate.add_argument(
        "--omop-schema", metavar="NAME", help="schema of the OMOP tables in the database"
    )
    _common(validate)
    validate.add_argument(
        "--entry-date", metavar="DATE", help="study entry of patients whose data do not say it"
    )
    validate.add_argument("--entry-dates", metavar="FILE.csv", help="table of patient,date")
    validate.add_argument(
        "--as-of", metavar="DATE", help="later facts are not seen (default: the entry date)"
    )
    validate.add_argument(
        "--complete",
        metavar="KIND[,KIND]",
        default="",
        help="histories you vouch are complete, such as conditions,procedures",
    )
    validate.add_argument(
        "--attest",
        metavar="RULE=ANSWER",
        action="append",
        default=[],
        help="an answer for the whole study, such as I11=true",
    )
    validate.add_argument(
        "--engine",
        metavar="NAME",
        default="pyshacl",
        help="SHACL processor: pyshacl, pyshifty, pyshacl-turbo",
    )
    validate.add_argument(
        "--format", choices=FORMATS, default="text", help="report format (default: text)"
    )
    validate.add_argument(
        "--output", "-o", metavar="FILE", help="write the report there, whole or not at all"
    )
    validate.add_argument("--quiet", "-q", action="store_true", help="verdicts only")
    validate.add_argument(
        "--verbose", "-v", action="store_true", help="every criterion and finding"
    )

    rules = commands.add_parser("rules", help="list the rules of a trial")
    _common(rules)
    rules.add_argument("--policies", action="store_true", help="list the policies instead")
    rules.add_argument(
        "--ambiguities", action="store_true", help="list the register and its readings instead"
    )

    explain = commands.add_parser("explain", help="explain one rule")
    explain.add_argument("rule", metavar="RULE", help="such as I07a")
    _common(explain)

    check = commands.add_parser("check", help="check the rule base itself")
    _common(check)
    check.add_argument(
        "--stamp",
        action="store_true",
        help="note that this content has no fault, so that judging need not check it again",
    )

    shapes = commands.add_parser("shapes", help="write the rules as one self-contained SHACL file")
    _common(shapes, readings=False)
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
    shapes.add_argument("--output", "-o", metavar="FILE")

    prepare = commands.add_parser("prepare", help="write the prepared graph that those shapes read")
    prepare.add_argument("files", nargs=1, metavar="FILE")
    _common(prepare)
    prepare.add_argument("--entry-date", metavar="DATE")
    prepare.add_argument("--as-of", metavar="DATE")
    prepare.add_argument("--complete", metavar="KIND[,KIND]", default="")
    prepare.add_argument("--attest", metavar="RULE=ANSWER", action="append", default=[])
    prepare.add_argument("--output", "-o", metavar="FILE")

    completion = commands.add_parser("completion", help="print a shell completion script")
    completion.add_argument("shell", choices=("bash", "zsh", "tcsh"))
    return parser


def _common(parser: argparse.ArgumentParser, *, readings: bool = True) -> None:
    parser.add_argument("--trial", metavar="ID", help="trial, when the rule base holds several")
    parser.add_argument(
        "--rules",
        metavar="FOLDER",
        help="another knowledge base (a folder with ontology/ and shapes/)",
    )
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


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    parser = build_parser()
    options = parser.parse_args(arguments)
    try:
        return _COMMANDS[options.command](options)
    except SarcError as error:
        for finding in error.findings:
            _complain(finding)
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
        _complain(
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


def _complain(finding: Finding) -> None:
    from sarc_kb.reports.escaping import visible

    print(f"sarc-kb: {finding.code} {visible(finding.where)}", file=sys.stderr)
    for name in ("found", "why", "fix"):
        print(f"  {name:<5} {visible(getattr(finding, name))}", file=sys.stderr)


def _pairs(option: str, given: Sequence[str]) -> dict[str, str]:
    pairs = {}
    for text in given:
        name, equals, value = text.partition("=")
        if not equals or not name:
            raise UsageError(
                Finding(
                    "USE011",
                    "error",
                    f"{option} {text}",
                    "no name and value",
                    "nothing would change, silently",
                    f"write {option} NAME=VALUE",
                )
            )
        if name in pairs:
            raise UsageError(
                Finding(
                    "USE011",
                    "error",
                    f"{option} {text}",
                    "given twice",
                    "only one can hold",
                    "give it once",
                )
            )
        pairs[name] = value
    return pairs


def _knowledge_base(options: argparse.Namespace) -> KnowledgeBase:
    from sarc_kb.kb import KnowledgeBase

    return KnowledgeBase.load(options.rules)


def _validate(options: argparse.Namespace) -> int:
    from itertools import chain

    from sarc_kb.assessment import AssessmentSet
    from sarc_kb.kb import option_date, with_entry_dates
    from sarc_kb.sources.read import read_sources

    _one_kind_of_source(options)
    kb = _knowledge_base(options)
    trial, engine = kb.engine(
        options.trial,
        policies=_pairs("--policy", options.policy),
        readings=_pairs("--reading", options.reading),
        name=options.engine,
    )
    complete = tuple(filter(None, options.complete.split(",")))
    kb.scopes(complete)
    attested = _pairs("--attest", options.attest)
    kb.answers(trial, attested)
    as_of = option_date("--as-of", options.as_of)
    records, problems = read_sources([Path(f) for f in options.files], kb.reading_terms(trial))
    tables = (
        kb.omop_records(
            options.omop, trial, problems, persons=options.person, schema=options.omop_schema
        )
        if options.omop
        else ()
    )
    dated = with_entry_dates(
        chain(records, tables),
        options.entry_date,
        _entry_dates(options.entry_dates) if options.entry_dates else {},
    )
    assessments = []
    with _Progress(len(options.person) if options.omop else len(records)) as progress:
        for record in dated:
            assessments.append(
                kb.assess_record(
                    record, trial, engine, as_of=as_of, complete=complete, attested=attested
                )
            )
            progress.step()
    result = AssessmentSet(kb.info, tuple(assessments), tuple(problems))
    _write(_render(result, options, kb), options.output)
    for finding in problems:
        if finding.severity != "info":
            _complain(finding)
    return _exit_code(result)


def _one_kind_of_source(options: argparse.Namespace) -> None:
    """Refuse options that would change nothing, and a run without any patient."""
    fault = None
    if not options.files and not options.omop:
        fault = ("validate", "no FILE and no --omop", "name the patients' records")
    elif not options.omop and (options.person or options.omop_schema):
        fault = ("--person and --omop-schema", "no --omop to read", "add --omop SOURCE")
    if fault is not None:
        where, found, fix = fault
        raise UsageError(Finding("USE031", "error", where, found, "nothing would be judged", fix))


def _exit_code(result: AssessmentSet) -> int:
    from sarc_kb.assessment import Outcome, Verdict

    if any(f.severity == "error" for f in result.run_findings) or not result.assessments:
        return COULD_NOT
    if any(a.verdict is Verdict.ERROR for a in result.assessments):
        return COULD_NOT
    outcomes = {c.outcome for a in result.assessments for c in a.criteria}
    if Outcome.FAIL in outcomes:
        return FAIL
    return UNDETERMINED if Outcome.UNDETERMINED in outcomes else PASS


def _render(result: AssessmentSet, options: argparse.Namespace, kb: KnowledgeBase) -> str:
    if options.format in ("json", "jsonl"):
        from sarc_kb.reports import json_report

        return (
            json_report.render_json(result)
            if options.format == "json"
            else json_report.render_jsonl(result)
        )
    if options.format in ("turtle", "jsonld"):
        from sarc_kb.reports import shacl_report

        render = (
            shacl_report.render_turtle if options.format == "turtle" else shacl_report.render_jsonld
        )
        trial = kb.compile(options.trial)
        return render(result, components={c.iri: c.component_iri for c in trial.clauses.values()})
    from sarc_kb.reports.text_report import render_text

    to_terminal = options.output is None and sys.stdout.isatty()
    colour = to_terminal and "NO_COLOR" not in os.environ
    try:
        width = os.get_terminal_size().columns if to_terminal else 100
    except OSError:
        width = 100
    return render_text(
        result, colour=colour, width=width, verbose=options.verbose, quiet=options.quiet
    )


def _entry_dates(name: str) -> dict[str, str]:
    from sarc_kb.kb import option_date

    def fault(where: str, found: str, why: str, fix: str) -> UsageError:
        return UsageError(Finding("USE012", "error", where, found, why, fix))

    dates: dict[str, str] = {}
    try:
        with Path(name).open(encoding="utf-8-sig", newline="") as handle:
            for number, row in enumerate(csv.reader(handle, strict=True), 1):
                cells = [cell.strip() for cell in row]
                if not any(cells) or (number == 1 and cells[-1].lower() == "date"):
                    continue
                if len(cells) != 2 or not cells[0] or cells[0] in dates:
                    raise fault(
                        f"{name}:{number}",
                        "not one patient and one date",
                        "an entry date would be guessed",
                        "write patient,YYYY-MM-DD, each patient once",
                    )
                option_date(f"{name}:{number}", cells[1])
                dates[cells[0]] = cells[1]
    except OSError as error:
        raise fault(
            name, f"cannot be opened: {error.strerror}", "entry dates are needed", "check the path"
        ) from None
    except (UnicodeDecodeError, csv.Error):
        raise fault(
            name, "not readable as a table", "entry dates are needed", "save it as CSV in UTF-8"
        ) from None
    return dates


def _write(text: str, output: str | None) -> None:
    """Write to standard output, or to a file that appears whole or not at all."""
    text = text if text.endswith("\n") else text + "\n"
    try:
        if output is None:
            sys.stdout.write(text)
            sys.stdout.flush()
        elif Path(output).exists() and not Path(output).is_file():
            # A device or a pipe has no "whole", and must not be replaced by a file.
            with Path(output).open("w", encoding="utf-8", newline="\n") as stream:
                stream.write(text)
        else:
            _replace(Path(output).resolve(), text)
    except OSError as error:
        raise OSError(error.errno, error.strerror, output or _STANDARD_OUTPUT) from None


def _replace(target: Path, text: str) -> None:
    handle, name = tempfile.mkstemp(dir=target.parent, prefix=".sarc-kb-")
    temporary = Path(name)
    try:
        with os.fdopen(handle, "w", encoding="utf-8", newline="\n") as stream:
            stream.write(text)
            stream.flush()
            os.fsync(stream.fileno())
        mask = os.umask(0)
        os.umask(mask)
        temporary.chmod(0o666 & ~mask)
        temporary.replace(target)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def _abandon_standard_output() -> None:
    """Keep Python from writing what is left to a place that takes nothing, as it ends."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


class _Progress:
    """A line on standard error for runs somebody waits for; nothing off a terminal."""

    def __init__(self, total: int) -> None:
        self.total, self.done = total, 0
        self.shown = total > 20 and sys.stderr.isatty()

    def __enter__(self) -> _Progress:
        from time import monotonic

        self.clock = monotonic
        self.start = monotonic()
        return self

    def step(self) -> None:
        self.done += 1
        if self.shown and (self.done % 10 == 0 or self.done == self.total):
            rate = self.done / max(self.clock() - self.start, 1e-6)
            left = (self.total - self.done) / rate
            print(
                f"\r{self.done}/{self.total} patients, {rate:.0f} a second, {left:.0f} s left ",
                end="",
                file=sys.stderr,
                flush=True,
            )

    def __exit__(self, *_: object) -> None:
        if self.shown:
            print("\r" + " " * 60 + "\r", end="", file=sys.stderr, flush=True)


def _rules(options: argparse.Namespace) -> int:
    from sarc_kb.reports.rule_report import render_ambiguities, render_policies, render_rules

    kb = _knowledge_base(options)
    trial = kb.compile(
        options.trial,
        policies=_pairs("--policy", options.policy),
        readings=_pairs("--reading", options.reading),
    )
    render = (
        render_policies
        if options.policies
        else render_ambiguities
        if options.ambiguities
        else render_rules
    )
    _write(render(trial, kb.terms), None)
    return PASS


def _explain(options: argparse.Namespace) -> int:
    from sarc_kb.reports.rule_report import render_rule

    kb = _knowledge_base(options)
    trial = kb.compile(
        options.trial,
        policies=_pairs("--policy", options.policy),
        readings=_pairs("--reading", options.reading),
    )
    _write(render_rule(trial, kb.terms, options.rule, kb.trial_folder(trial.id.upper())), None)
    return PASS


def _check(options: argparse.Namespace) -> int:
    from sarc_kb.rule_check import check_rule_base, stamp_path

    kb = _knowledge_base(options)
    names = [options.trial.upper()] if options.trial else sorted(kb.trial_folders)
    faults = 0
    for name in names:
        report = check_rule_base(kb, name)
        for finding in report.findings:
            _complain(finding)
        faults += len(report.findings)
        _write(f"{name}: {report.summary}", None)
    if options.stamp and not faults:
        _write(kb.info.sha256, str(stamp_path(kb)))
    return COULD_NOT if faults else PASS


def _shapes(options: argparse.Namespace) -> int:
    from sarc_kb.engines.shapes import exported_shapes
    from sarc_kb.reports.turtle import stable_turtle

    kb = _knowledge_base(options)
    trial = kb.compile(
        options.trial,
        policies=_pairs("--policy", options.policy),
        readings=_pairs("--reading", options.reading),
    )
    graph = exported_shapes(trial, kb.root / "shapes" / "components", options.component_reading)
    _write(stable_turtle(graph), options.output)
    return PASS


def _prepare(options: argparse.Namespace) -> int:
    from sarc_kb.engines.prepared_graph import prepared_graph
    from sarc_kb.errors import InputError
    from sarc_kb.kb import option_date, with_entry_dates
    from sarc_kb.reports.turtle import stable_turtle
    from sarc_kb.sources.read import read_sources

    kb = _knowledge_base(options)
    trial = kb.compile(
        options.trial,
        policies=_pairs("--policy", options.policy),
        readings=_pairs("--reading", options.reading),
    )
    records, problems = read_sources([Path(f) for f in options.files], kb.reading_terms(trial))
    if problems:
        raise InputError(*problems)
    records = list(with_entry_dates(records, options.entry_date, {}))
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
    prepared = kb.prepare(
        records[0],
        trial,
        as_of=option_date("--as-of", options.as_of),
        complete=tuple(filter(None, options.complete.split(","))),
        attested=_pairs("--attest", options.attest),
    )
    _write(stable_turtle(prepared_graph(prepared)), options.output)
    return PASS


def _completion(options: argparse.Namespace) -> int:
    import shtab

    _write(shtab.complete(build_parser(), shell=options.shell), None)
    return PASS


_COMMANDS = {
    "validate": _validate,
    "rules": _rules,
    "explain": _explain,
    "check": _check,
    "shapes": _shapes,
    "prepare": _prepare,
    "completion": _completion,
}

if __name__ == "__main__":
    sys.exit(main())
