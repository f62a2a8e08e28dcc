"""What is told when a request cannot be answered, and by which status.

    400  the query, the path or the body breaks the rules of the interface
    401  no token, or another one
    403  sent by a page of another site
    404, 405  no such path, another method
    406, 415  a media type that is not offered, or not read
    408  the body came too slowly
    413  it is too large
    421  the request is for another host
    422  no patient in the record could be read
    500  the program, or a rule base, failed
    503  too many requests wait; none is taken while the service ends
    504  judging took longer than the time limit
    507  judging took more memory than the limit

A verdict, whatever it is, is no error, and a patient who cannot be judged is told in the report.

Source: RFC 9110 (statuses), RFC 9457 (problem details), FHIR R4 OperationOutcome.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from http import HTTPStatus

from sarc_kb.errors import Finding
from sarc_kb.reports.escaping import visible_in_json

STATUSES: Mapping[int, str] = {
    400: "the query, the path or the body breaks the rules of the interface",
    401: "no token, or not the token of this service",
    403: "the request was sent by a page of another site",
    404: "there is no such path or rule",
    405: "the path has another method",
    406: "no format is offered that the request accepts",
    408: "the body came too slowly",
    413: "the body is too large",
    415: "the body is of a media type that is not read",
    421: "the request is for another host",
    422: "no patient in the record could be read",
    500: "the program or the rule base failed",
    503: "too many requests wait, or the service is about to end",
    504: "judging took longer than the time limit",
    507: "judging took more memory than the limit",
}
"""The statuses of problems, with what each means."""

_ISSUE_TYPES = {
    400: "invalid",
    401: "login",
    403: "forbidden",
    404: "not-found",
    405: "not-supported",
    406: "not-supported",
    408: "timeout",
    413: "too-long",
    415: "not-supported",
    421: "invalid",
    422: "invalid",
    500: "exception",
    503: "transient",
    504: "timeout",
    507: "too-costly",
}


@dataclass(slots=True)
class ProblemError(Exception):
    """A request that is not answered as it was meant to be."""

    status: int
    findings: tuple[Finding, ...]
    headers: Mapping[str, str] = field(default_factory=dict)


def problem(
    status: int, where: str, found: str, fix: str, *, headers: Mapping[str, str] | None = None
) -> ProblemError:
    """Return a problem with the interface itself."""
    finding = Finding(f"HTTP{status}", "error", where, found, STATUSES[status], fix)
    return ProblemError(status, (finding,), headers or {})


def problem_json(status: int, findings: Sequence[Finding]) -> bytes:
    """Return the problem details: the first finding is the detail, all of them stand in `findings`."""
    told = [
        {
            "code": f.code,
            "severity": f.severity,
            "where": f.where,
            "found": f.found,
            "why": f.why,
            "fix": f.fix,
        }
        for f in findings
    ]
    document = {
        "type": "about:blank",
        "title": HTTPStatus(status).phrase,
        "status": status,
        "detail": STATUSES[status],
        "findings": told,
    }
    return _dump(document)


def operation_outcome(status: int, findings: Sequence[Finding]) -> bytes:
    """Return the problem as FHIR tells it."""
    issues = [
        {
            "severity": "information" if f.severity == "info" else f.severity,
            "code": _ISSUE_TYPES[status] if f.severity == "error" else "informational",
            "details": {"text": f"{f.code}: {f.found}"},
            "diagnostics": f"{f.where}: {f.found}; {f.why}; {f.fix}",
        }
        for f in findings
    ]
    return _dump({"resourceType": "OperationOutcome", "issue": issues})


def _dump(document: object) -> bytes:
    text = json.dumps(document, ensure_ascii=False, indent=2, allow_nan=False)
    return (visible_in_json(text) + "\n").encode()
