"""What is sent: reports, and problems."""

from __future__ import annotations

from starlette.responses import Response

from sarc_kb.service.operations import FHIR, PROBLEM
from sarc_kb.service.problems import ProblemError, operation_outcome, problem_json

_REPORT_POLICY = "sandbox; default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
"""Of a report as a page: its own policy, which allows one style sheet by its hash, holds besides."""


def report(body: bytes, media: str) -> Response:
    """Return a report as it is sent."""
    headers = {"content-type": media, "vary": "Accept"}
    if media.startswith("text/"):
        headers["content-type"] = f"{media}; charset=utf-8"
    if media == "text/html":
        headers["content-security-policy"] = _REPORT_POLICY
    return Response(body, headers=headers)


def problem_response(path: str, raised: ProblemError) -> Response:
    """Return what is told of a problem: as FHIR does where the path is FHIR's."""
    in_fhir = path.startswith("/fhir/")
    write = operation_outcome if in_fhir else problem_json
    media = FHIR if in_fhir else PROBLEM
    # What is still to come of the body is not waited for.
    headers = {"content-type": media, "connection": "close", **raised.headers}
    return Response(write(raised.status, raised.findings), raised.status, headers)
