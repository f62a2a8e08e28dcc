"""Findings as other programs read them: SARIF 2.1.0 and JUnit XML.

Both are the same byte for byte at every run: neither time nor machine is in them.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol
from urllib.parse import quote
from xml.etree import ElementTree

from sarc_kb import __version__
from sarc_kb.errors import Finding
from sarc_kb.namespaces import BASE
from sarc_kb.reports.escaping import scalar_values, visible, visible_in_json

SARIF_SCHEMA = (
    "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json"
)
_LEVELS = {"error": "error", "warning": "warning", "info": "note"}
_ROOT = "RULEBASE"


@dataclass(frozen=True, slots=True)
class Checked:
    """What one check comes to: its findings, and why it could not run, if it could not."""

    name: str
    about: str
    summary: str
    findings: tuple[Finding, ...] = ()
    not_run: tuple[Finding, ...] = ()


class Located(Protocol):
    """A place in a file: its path from the root of the rule base, and where in it, from 1."""

    @property
    def path(self) -> str: ...
    @property
    def line(self) -> int | None: ...
    @property
    def column(self) -> int | None: ...


Locate = Callable[[str], Located | None]
"""Gives the place of what a finding calls ``where``, if it has one."""


# -- SARIF -----------------------------------------------------------------------------------------
def render_sarif(
    checks: Sequence[Checked], locate: Locate, properties: Mapping[str, object]
) -> str:
    """Return one run of SARIF 2.1.0: a result for each finding, a notification for each check that
    could not run. Paths are relative to the root of the rule base (``uriBaseId``).

    Source: OASIS SARIF 2.1.0 with Errata 01.
    """
    found = [(check, finding) for check in checks for finding in check.findings]
    codes = sorted({finding.code for _, finding in found})
    index = {code: number for number, code in enumerate(codes)}
    first = {finding.code: finding for _, finding in reversed(found)}
    broken = [(check, finding) for check in checks for finding in check.not_run]
    run: dict[str, object] = {
        "tool": {
            "driver": {
                "name": "sarc-kb",
                "semanticVersion": __version__,
                "informationUri": BASE,
                "rules": [
                    {
                        "id": code,
                        "shortDescription": {"text": _text(first[code].why)},
                        "help": {"text": _text(first[code].fix)},
                    }
                    for code in codes
                ],
            }
        },
        "originalUriBaseIds": {
            _ROOT: {"description": {"text": "the folder with ontology/ and shapes/"}}
        },
        "invocations": [
            {
                "executionSuccessful": not broken,
                "toolExecutionNotifications": [
                    {
                        "descriptor": {"id": finding.code},
                        "level": "error",
                        "message": {"text": f"{check.name}: {_sentence(finding)}"},
                    }
                    for check, finding in broken
                ],
            }
        ],
        "results": [_result(check, finding, index, locate) for check, finding in found],
        "columnKind": "unicodeCodePoints",
        "properties": dict(properties),
    }
    log = {"$schema": SARIF_SCHEMA, "version": "2.1.0", "runs": [run]}
    return visible_in_json(json.dumps(log, ensure_ascii=False, indent=2)) + "\n"


def _result(
    check: Checked, finding: Finding, index: Mapping[str, int], locate: Locate
) -> dict[str, object]:
    location: dict[str, object] = {
        "logicalLocations": [{"fullyQualifiedName": _text(finding.where)}]
    }
    place = locate(finding.where)
    if place is not None:
        physical: dict[str, object] = {
            "artifactLocation": {"uri": quote(place.path), "uriBaseId": _ROOT}
        }
        if place.line is not None:
            column = {} if place.column is None else {"startColumn": place.column}
            physical["region"] = {"startLine": place.line, **column}
        location["physicalLocation"] = physical
    told = map(_text, (finding.code, finding.where, finding.found))
    same = hashlib.sha256("\0".join(told).encode())
    return {
        "ruleId": finding.code,
        "ruleIndex": index[finding.code],
        "level": _LEVELS[finding.severity],
        "message": {"text": _sentence(finding)},
        "locations": [location],
        "partialFingerprints": {"finding/v1": same.hexdigest()},
        "properties": {"part": check.name},
    }


def _sentence(finding: Finding) -> str:
    return _text(f"{finding.where}: {finding.found}. Why: {finding.why}. Fix: {finding.fix}.")


def _text(text: str) -> str:
    return visible(scalar_values(text))


# -- JUnit -----------------------------------------------------------------------------------------
def render_junit(name: str, checks: Iterable[Checked], properties: Mapping[str, object]) -> str:
    """Return JUnit XML: a suite a check, a test case for the check as a whole and for each finding.

    An error is a failure; a warning or a remark is a test case that passes, told in ``system-out``,
    since the format knows nothing between the two. A check that could not run is an error.
    The time is always the beginning of the epoch and every duration 0.
    Source: the schema of the JUnit task of Apache Ant.
    """
    suites = ElementTree.Element("testsuites")
    for number, check in enumerate(checks):
        errors = [f for f in check.findings if f.severity == "error"]
        others = [f for f in check.findings if f.severity != "error"]
        suite = ElementTree.SubElement(
            suites,
            "testsuite",
            {
                "name": check.name,
                "package": name,
                "id": str(number),
                "timestamp": "1970-01-01T00:00:00",
                "hostname": "localhost",
                "tests": str(1 + len(errors) + len(others)),
                "failures": str(len(errors)),
                "errors": str(int(bool(check.not_run))),
                "time": "0",
            },
        )
        listed = ElementTree.SubElement(suite, "properties")
        for key, value in properties.items():
            ElementTree.SubElement(listed, "property", {"name": key, "value": _text(str(value))})
        used: set[str] = set()
        whole = _case(suite, f"{name}.{check.name}", check.about, used)
        if check.not_run:
            why = check.not_run
            problem = ElementTree.SubElement(
                whole, "error", {"type": why[0].code, "message": _text(why[0].found)}
            )
            problem.text = "\n".join(map(_sentence, why))
        for finding in errors:
            case = _case(suite, f"{name}.{check.name}", f"{finding.code} {finding.where}", used)
            problem = ElementTree.SubElement(
                case, "failure", {"type": finding.code, "message": _text(finding.found)}
            )
            problem.text = _sentence(finding)
        for finding in others:
            _case(suite, f"{name}.{check.name}", f"{finding.code} {finding.where}", used)
        lines = [check.summary, *(f"{f.severity} {f.code} {_sentence(f)}" for f in others)]
        ElementTree.SubElement(suite, "system-out").text = "\n".join(map(_text, lines))
        ElementTree.SubElement(suite, "system-err").text = ""
    ElementTree.indent(suites)
    body = ElementTree.tostring(suites, encoding="unicode")
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{body}\n'


def _case(
    suite: ElementTree.Element, classname: str, name: str, used: set[str]
) -> ElementTree.Element:
    """Add a test case; a name that is taken gets a number, since readers tell cases by it."""
    base = " ".join(_text(name).split())
    unique, number = base, 1
    while unique in used:
        number += 1
        unique = f"{base} ({number})"
    used.add(unique)
    return ElementTree.SubElement(
        suite, "testcase", {"classname": classname, "name": unique, "time": "0"}
    )
