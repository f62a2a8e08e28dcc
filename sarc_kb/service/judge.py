"""What the workers of the service do: read a record, judge it, and write the report.

Here run the parsers and the rules, on data of unknown origin. Nothing but bytes goes in, and nothing
but bytes and findings comes out.
"""

from __future__ import annotations

import json
import logging
import os
import signal
import sys
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from sarc_kb import __version__
from sarc_kb.assessment import AssessmentSet
from sarc_kb.dates import parse_date
from sarc_kb.engines.shacl_engine import ShaclEngine
from sarc_kb.errors import Finding, InputError, SarcError, UsageError
from sarc_kb.facts import PatientRecord
from sarc_kb.kb import KnowledgeBase, option_date, with_entry_dates
from sarc_kb.readiness import readiness
from sarc_kb.reports import checklist_report, readiness_report, rule_report
from sarc_kb.reports.formats import render
from sarc_kb.reports.rule_json import render_rule_json, render_rules_json
from sarc_kb.rules import Trial
from sarc_kb.service.fhir import with_parameters
from sarc_kb.service.question import Knowledge, Question
from sarc_kb.sources.read import read_bytes

STANDARD_INPUT = "standard input"
_NOBODY = PatientRecord("urn:nobody", "nobody", parse_date("2000-01-01"), ())


@dataclass(frozen=True, slots=True)
class Answer:
    """The report, or findings that tell why there is none."""

    status: int
    body: bytes = b""
    findings: tuple[Finding, ...] = ()


@cache
def load(knowledge: Knowledge) -> KnowledgeBase:
    """Return the knowledge base, ready to judge by each of its trials.

    Raises:
        SarcError: it is broken, or a file that is added to it.
    """
    kb = KnowledgeBase.load(knowledge.rules).with_mappings(
        *knowledge.mappings,
        concept_ancestors=knowledge.concept_ancestors,
        value_sets=knowledge.value_sets,
    )
    for name in kb.trial_folders:
        trial, engine = kb.engine(name, name=knowledge.engine)
        # The queries of the rules are parsed when the first patient is judged: this one, of whom
        # nothing is known.
        kb.assess_record(_NOBODY, trial, engine)
    return kb


_mine: dict[str, Knowledge] = {}


def begin(knowledge: Knowledge) -> None:
    """Make this process a worker for a knowledge base."""
    # Whoever ends the service ends it there: what is running is answered.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # Libraries write what they could not read to their logs, and the interpreter what it died of.
    # None of it may hold a patient's data; what went wrong is told in the answer.
    logging.disable()
    sys.stdout = sys.stderr = open(os.devnull, "w", encoding="utf-8")  # noqa: PTH123, SIM115 - for good
    _mine["knowledge"] = knowledge


def warm() -> tuple[Finding, ...]:
    """Return what is wrong with the knowledge base; nothing if this worker can judge."""
    try:
        load(_mine["knowledge"])
    except SarcError as error:
        return error.findings
    return ()


def answer(name: str, question: Question) -> Answer:
    """Return the answer of one operation; whatever goes wrong is one."""
    try:
        return _WORK[name](load(_mine["knowledge"]), question)
    except UsageError as error:
        return Answer(404 if question.rule else 400, findings=error.findings)
    except InputError as error:
        return Answer(422, findings=error.findings)
    except SarcError as error:
        return Answer(500, findings=error.findings)
    except MemoryError:
        raise
    except Exception as bug:
        return Answer(500, findings=(failed(bug),))


def failed(bug: BaseException) -> Finding:
    """Return what is told of a fault of the program: where it lies, and nothing that it held."""
    places = traceback.extract_tb(bug.__traceback__)
    where = f" in {Path(places[-1].filename).name}:{places[-1].lineno}" if places else ""
    return Finding(
        "ENGINE005",
        "error",
        "the request",
        f"{type(bug).__name__}{where}",
        "the program failed on it; a failure is never a verdict",
        "report it with these names",
    )


def _trial(kb: KnowledgeBase, question: Question) -> Trial:
    return _engine(kb, question)[0]


def _engine(kb: KnowledgeBase, question: Question) -> tuple[Trial, ShaclEngine]:
    trial = question.one("trial") or kb.default_trial()
    return kb.engine(
        trial.upper(),
        policies=question.pairs("policy"),
        readings=question.pairs("reading"),
        relaxed=question.pairs("relax"),
        name=_mine["knowledge"].engine,
    )


def _records(
    kb: KnowledgeBase, trial: Trial, question: Question
) -> tuple[list[PatientRecord], list[Finding]]:
    """Return the patients of the body, and what is told of it.

    Raises:
        InputError: there is none in it.
    """
    name = question.one("name") or STANDARD_INPUT
    terms = kb.reading_terms(trial)
    found, problems = read_bytes(question.body, name, question.ending, terms)
    if not len(found):
        raise InputError(*problems)
    problems[:0] = kb.added_findings
    return list(with_entry_dates(found, question.one("entry-date"), {})), problems


def _validate(kb: KnowledgeBase, question: Question) -> Answer:
    trial, engine = _engine(kb, question)
    kb.scopes(question.complete)
    attested = question.pairs("attest")
    kb.answers(trial, attested)
    as_of = option_date("--as-of", question.one("as-of"))
    records, problems = _records(kb, trial, question)
    assessments = tuple(
        kb.assess_record(
            record,
            trial,
            engine,
            as_of=as_of,
            complete=question.complete,
            attested=attested,
            only=question.one("only"),
        )
        for record in records
    )
    report = render(
        AssessmentSet(kb.info, assessments, tuple(problems)),
        question.form,
        components=trial.components,
        verbose=question.one("verbose") == "true",
        quiet=question.one("quiet") == "true",
    )
    return Answer(200, _whole(report))


def _evaluate(kb: KnowledgeBase, question: Question) -> Answer:
    return _validate(kb, with_parameters(question))


def _readiness(kb: KnowledgeBase, question: Question) -> Answer:
    trial = _trial(kb, question)
    kb.scopes(question.complete)
    attested = question.pairs("attest")
    kb.answers(trial, attested)
    records, problems = _records(kb, trial, question)
    found = readiness(
        kb, trial, records, complete=question.complete, attested=attested, findings=problems
    )
    if question.form == "json":
        return Answer(200, _whole(readiness_report.render_json(found)))
    if question.form == "csv":
        return Answer(200, _whole(readiness_report.render_csv(found)))
    verbose = question.one("verbose") == "true"
    return Answer(200, _whole(readiness_report.render_text(found, verbose=verbose)))


def _rules(kb: KnowledgeBase, question: Question) -> Answer:
    trial = _trial(kb, question)
    if question.form == "text":
        return Answer(200, _whole(rule_report.render_rules(trial, kb.terms)))
    return Answer(200, _whole(render_rules_json(trial, kb.terms, kb.info)))


def _explain(kb: KnowledgeBase, question: Question) -> Answer:
    try:
        trial = _trial(kb, question)
    except UsageError as error:
        return Answer(400, findings=error.findings)
    folder = kb.trial_folder(trial.id.upper())
    page = rule_report.render_rule(trial, kb.terms, question.rule, folder)
    if question.form == "text":
        return Answer(200, _whole(page))
    return Answer(
        200, _whole(render_rule_json(trial, kb.terms, kb.info, question.rule, folder, page))
    )


def _checklist(kb: KnowledgeBase, question: Question) -> Answer:
    trial = _trial(kb, question)
    if question.form == "fhir":
        return Answer(200, _whole(checklist_report.render_fhir(trial, kb.info)))
    if question.form == "json":
        return Answer(200, _whole(checklist_report.render_json(trial, kb.info)))
    return Answer(200, _whole(checklist_report.render_text(trial, kb.terms)))


def _whole(report: str | bytes) -> bytes:
    """Return the bytes of a report as the command line writes them."""
    if isinstance(report, bytes):
        return report
    return (report if report.endswith("\n") else report + "\n").encode()


def _version(kb: KnowledgeBase, _: Question) -> Answer:
    document = {
        "program": __version__,
        "knowledge_base": {"version": kb.info.version, "sha256": kb.info.sha256},
        "trials": sorted(kb.trial_folders),
        "engine": _mine["knowledge"].engine,
    }
    return Answer(200, _whole(json.dumps(document, indent=2)))


_WORK: Mapping[str, Callable[[KnowledgeBase, Question], Answer]] = {
    "validate": _validate,
    "evaluate-eligibility": _evaluate,
    "readiness": _readiness,
    "rules": _rules,
    "explain": _explain,
    "checklist": _checklist,
    "version": _version,
}
