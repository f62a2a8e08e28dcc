"""The page for people: a form that takes a record, and answers with the page of the patient.

It needs no script, so that its policy allows none: browsers let a file be dropped on the field, and
show the report as a document of its own.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterator
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import PurePath
from typing import TYPE_CHECKING

from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import Request
from starlette.responses import Response

from sarc_kb import __version__
from sarc_kb.errors import Finding
from sarc_kb.reports.escaping import visible
from sarc_kb.reports.pages import environment
from sarc_kb.service.operations import RECORDS
from sarc_kb.service.problems import ProblemError, problem
from sarc_kb.service.question import Question
from sarc_kb.service.responses import report

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from jinja2 import Environment

    from sarc_kb.service.desk import Desk
    from sarc_kb.service.guard import Rights

ENDINGS = tuple(dict.fromkeys(RECORDS.values()))
_FIELDS = ("entry-date", "trial")


class _InMemory(MultiPartParser):
    """Keeps a record in memory, never in a temporary file; the body is limited before it comes
    here."""

    spool_max_size = 2**40


@dataclass(frozen=True, slots=True)
class _Sent:
    """A form as it was filled in."""

    name: str
    body: bytes
    fields: dict[str, str]


def views(
    desk: Desk, rights: Rights
) -> Iterator[tuple[str, str, Callable[[Request], Awaitable[Response]]]]:
    """Yield the page's paths, with their methods and what answers them."""

    def shown(status: int = 200, findings: tuple[Finding, ...] = ()) -> Response:
        text = (
            _template()
            .get_template("page.html.j2")
            .render(
                asks_token=rights.token is not None,
                endings=ENDINGS,
                findings=findings,
                size=desk.limits.size // 1_000_000,
                version=__version__,
            )
        )
        headers = {"content-type": "text/html; charset=utf-8"}
        if findings:
            headers["connection"] = "close"
        return Response(text, status, headers)

    async def form(_: Request) -> Response:
        return shown()

    async def style(_: Request) -> Response:
        return Response(_style(), headers={"content-type": "text/css; charset=utf-8"})

    async def judged(request: Request) -> Response:
        try:
            sent = await _sent(request, desk)
            if not rights.is_token(sent.fields.get("token", "")):
                raise problem(401, "the form", "another token", "enter that of this service")
            ending = PurePath(sent.name).suffix.lower()
            if ending not in ENDINGS:
                found = "no file" if not sent.name else "a file of a kind that is not read"
                raise problem(415, "the form", found, "choose one of: " + ", ".join(ENDINGS))
            given = {name: (sent.fields[name],) for name in _FIELDS if sent.fields.get(name)}
            question = Question("html", {**given, "name": (sent.name,)}, sent.body, ending)
            answer = await desk.ask("validate", question, request)
            if answer.status != 200:
                raise ProblemError(answer.status, answer.findings)
        except ProblemError as raised:
            told = (
                Finding(f.code, f.severity, *map(visible, (f.where, f.found, f.why, f.fix)))
                for f in raised.findings
            )
            return shown(raised.status, tuple(told))
        return report(answer.body, "text/html")

    yield "/", "GET", form
    yield "/page", "POST", judged
    yield "/page.css", "GET", style


async def _sent(request: Request, desk: Desk) -> _Sent:
    """Return what the form brought.

    Raises:
        ProblemError: it is no such form, or too large.
    """
    body = await desk.body(request)

    async def stream() -> AsyncGenerator[bytes, None]:
        yield body

    parser = _InMemory(request.headers, stream(), max_files=1, max_fields=8, max_part_size=10_000)
    try:
        if not request.headers.get("content-type", "").startswith("multipart/form-data"):
            raise problem(415, "the form", "another media type", "send multipart/form-data")
        items = (await parser.parse()).multi_items()
    except MultiPartException:
        raise problem(400, "the form", "it cannot be taken apart", "send it again") from None
    fields = {name: value for name, value in items if isinstance(value, str)}
    for name, value in items:
        if name == "record" and isinstance(value, UploadFile):
            # Browsers of old send the whole path.
            last = PurePath((value.filename or "").replace("\\", "/")).name
            return _Sent(last, await value.read(), fields)
    return _Sent("", b"", fields)


@cache
def _template() -> Environment:
    return environment("sarc_kb.service")


@cache
def _style() -> str:
    return files("sarc_kb.service").joinpath("static", "page.css").read_text("utf-8")
