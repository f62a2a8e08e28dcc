"""The application: from a request to a worker and back. It judges nothing itself.

Requests are guarded by `sarc_kb.service.guard`; bodies and workers are in `sarc_kb.service.desk`.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping

import mimeparse
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from sarc_kb.service import fhir, page
from sarc_kb.service.desk import Desk
from sarc_kb.service.guard import Guard, Rights
from sarc_kb.service.openapi import description
from sarc_kb.service.operations import (
    CAPABILITIES,
    DEFINITION,
    DESCRIPTION,
    EVALUATE,
    EXPLAIN,
    FORMAT,
    HEALTH,
    OPERATIONS,
    Operation,
    Option,
)
from sarc_kb.service.problems import ProblemError, problem
from sarc_kb.service.question import Question
from sarc_kb.service.responses import problem_response, report

Endpoint = Callable[[Request], Awaitable[Response]]


def application(desk: Desk, rights: Rights) -> Guard:
    """Return the application, with its guard before it."""
    fixed = {
        DESCRIPTION.name: lambda: description(desk.limits, rights),
        CAPABILITIES.name: fhir.capability_statement,
        DEFINITION.name: fhir.operation_definition,
    }
    routes = []
    for operation in OPERATIONS:
        if operation is HEALTH:
            endpoint = _health(desk)
        elif operation.name in fixed:
            endpoint = _fixed(operation, fixed[operation.name]())
        else:
            endpoint = _asked(operation, desk)
        routes.append(_route(operation.path, operation.method, endpoint))
    for path, method, shown in page.views(desk, rights):
        routes.append(_route(path, method, shown))
    told = {ProblemError: _told, HTTPException: _told, ClientDisconnect: _nobody}
    app = Starlette(routes=routes, exception_handlers=told)
    app.router.redirect_slashes = False
    return Guard(app, rights)


def _route(path: str, method: str, endpoint: Endpoint) -> Route:
    async def named(request: Request) -> Response:
        # The log names the path as it is written here, and so no rule, trial or patient.
        request.scope["sarc_kb.path"] = path
        return await endpoint(request)

    return Route(path, named, methods=[method])


def _asked(operation: Operation, desk: Desk) -> Endpoint:
    async def endpoint(request: Request) -> Response:
        options = options_of(operation, request)
        media, form = format_of(operation, request)
        body, ending = b"", ""
        if operation.takes is not None:
            ending = ending_of(operation, request)
            body = await desk.body(request)
        rule = request.path_params["rule"] if operation is EXPLAIN else ""
        if operation is EVALUATE:
            options["trial"] = (request.path_params["trial"],)
        question = Question(form, options, body, ending, rule)
        answer = await desk.ask(operation.name, question, request)
        if answer.status != 200:
            raise ProblemError(answer.status, answer.findings)
        return report(answer.body, media)

    return endpoint


def _fixed(operation: Operation, document: Mapping[str, object]) -> Endpoint:
    body = (json.dumps(document, ensure_ascii=False, indent=2) + "\n").encode()

    async def endpoint(request: Request) -> Response:
        options_of(operation, request)
        return report(body, format_of(operation, request)[0])

    return endpoint


def _health(desk: Desk) -> Endpoint:
    async def endpoint(request: Request) -> Response:
        options_of(HEALTH, request)
        media = format_of(HEALTH, request)[0]
        well, word = await desk.health()
        if not well:
            raise problem(503, "the service", word, "ask again", headers={"retry-after": "5"})
        return report((json.dumps({"status": word}) + "\n").encode(), media)

    return endpoint


# -- what a request says ---------------------------------------------------------------------------
def options_of(operation: Operation, request: Request) -> dict[str, tuple[str, ...]]:
    """Return the parameters of the query by the names of the options.

    Raises:
        ProblemError: one is unknown, or stands there twice and may not.
    """
    named = {_name(operation, option): option for option in operation.options}
    found: dict[str, tuple[str, ...]] = {}
    for name, value in request.query_params.multi_items():
        if name == FORMAT.name and operation.method == "POST" and operation is not EVALUATE:
            continue
        option = named.get(name)
        if option is None:
            known = ", ".join([*named, *_format_too(operation)]) or "none"
            raise problem(400, "the query", "an unknown parameter", f"known here: {known}")
        if option.name in found and not option.repeats:
            raise problem(400, f"the query: {name}", "given twice", "give it once")
        if option.choices and value not in option.choices:
            raise problem(
                400, f"the query: {name}", "another value", "choose: " + ", ".join(option.choices)
            )
        found[option.name] = (*found.get(option.name, ()), value)
    return found


def _name(operation: Operation, option: Option) -> str:
    return option.fhir[0] if operation is EVALUATE and option.fhir is not None else option.name


def _format_too(operation: Operation) -> tuple[str, ...]:
    return (FORMAT.name,) if operation.method == "POST" and operation is not EVALUATE else ()


def format_of(operation: Operation, request: Request) -> tuple[str, str]:
    """Return the media type that is sent, and the format's name.

    Raises:
        ProblemError: none is offered that the request accepts.
    Source: RFC 9110, 12.5.1 (Accept).
    """
    offered = operation.formats
    wanted = request.query_params.getlist(FORMAT.name) if _format_too(operation) else []
    if wanted:
        for media, name in offered.items():
            if wanted == [name]:
                return media, name
        names = ", ".join(dict.fromkeys(offered.values()))
        raise problem(400, "the query: format", "no such format", f"choose: {names}")
    accepted = ",".join(request.headers.getlist("accept"))
    try:
        # The last of equals is taken.
        media = mimeparse.best_match([*offered][::-1], accepted) if accepted else ""
    except mimeparse.MimeTypeParseException:
        raise problem(400, "the header Accept", "not a list of media types", "mend it") from None
    if accepted and not media:
        raise problem(
            406, "the header Accept", "nothing of it is offered", "accept: " + ", ".join(offered)
        )
    media = media or next(iter(offered))
    return media, offered[media]


def ending_of(operation: Operation, request: Request) -> str:
    """Return the ending that a file of the body's kind has.

    Raises:
        ProblemError: it is not read.
    """
    assert operation.takes is not None
    given = request.headers.get("content-type", "")
    try:
        kind, sub, parameters = mimeparse.parse_mime_type(given)
    except mimeparse.MimeTypeParseException:
        kind, sub, parameters = "", "", {}
    ending = operation.takes.get(f"{kind}/{sub}".lower())
    taken = "send one of: " + ", ".join(operation.takes)
    if ending is None:
        found = "none" if not given else "another media type"
        raise problem(
            415,
            "the header Content-Type",
            found,
            taken,
            headers={"accept": ", ".join(operation.takes)},
        )
    if parameters.get("charset", "utf-8").lower() not in ("utf-8", "utf8", "us-ascii"):
        raise problem(415, "the header Content-Type", "another charset", "send UTF-8")
    if not parameters.get("fhirversion", "4.0").startswith("4.0"):
        raise problem(415, "the header Content-Type", "another fhirVersion", "send FHIR R4 (4.0)")
    if request.headers.get("content-encoding", "identity").lower() != "identity":
        raise problem(
            415,
            "the header Content-Encoding",
            "a packed body",
            "send it as it is",
            headers={"accept-encoding": "identity"},
        )
    return ending


# -- problems --------------------------------------------------------------------------------------
async def _told(request: Request, raised: Exception) -> Response:
    """Return what is told of a problem, as FHIR where the path is FHIR's."""
    if isinstance(raised, HTTPException):
        offered = ", ".join(f"{o.method} {o.path}" for o in OPERATIONS)
        raised = problem(
            raised.status_code,
            "the path" if raised.status_code == 404 else "the method",
            "nothing is there",
            f"there are: {offered}",
            headers=raised.headers,
        )
    assert isinstance(raised, ProblemError)
    return problem_response(request.url.path, raised)


async def _nobody(_: Request, __: Exception) -> Response:
    """Return what nobody reads: who asked is gone. The log has 499, as is the custom."""
    return Response(status_code=499)
