"""Before the application: who may ask, from where; what every answer says to browsers; the log.

The log has a line a request: method, path as the program writes it, status, time, bytes. Neither the
query nor the body, nor a name out of the path, is in it.
"""

from __future__ import annotations

import hmac
import logging
import secrets
from dataclasses import dataclass
from time import monotonic

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from sarc_kb.service.judge import failed
from sarc_kb.service.operations import OPERATIONS
from sarc_kb.service.problems import ProblemError, problem
from sarc_kb.service.responses import problem_response

LOG = logging.getLogger("sarc_kb.service")
_OPEN = {"/", "/page", "/page.css", *(o.path for o in OPERATIONS if o.open)}
"""Paths that need no token: those that tell nothing of a record, and that of the page, whose form
brings the token along."""
_PAGE_POLICY = "default-src 'none'; style-src 'self'; img-src data:; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
_HEADERS = {
    "x-content-type-options": "nosniff",
    "cache-control": "no-store",
    "referrer-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "x-frame-options": "DENY",
}


@dataclass(frozen=True, slots=True)
class Rights:
    """Who may ask: under which names of this host (without ports), and with which token."""

    hosts: frozenset[str]
    token: str | None = None

    def is_token(self, given: str) -> bool:
        """Return whether this is the token, in a time that does not tell how much of it is."""
        return self.token is None or hmac.compare_digest(given.encode(), self.token.encode())


class Guard:
    """An ASGI application around another one."""

    def __init__(self, app: ASGIApp, rights: Rights) -> None:
        self._app = app
        self._rights = rights

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began = monotonic()
        request = secrets.token_hex(8)
        status, sent, received = 0, 0, 0

        async def counted() -> Message:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            return message

        async def marked(message: Message) -> None:
            nonlocal status, sent
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = MutableHeaders(raw=message["headers"])
                for name, value in _HEADERS.items():
                    headers[name] = value
                headers.setdefault("content-security-policy", _PAGE_POLICY)
                headers["x-request-id"] = request
            sent += len(message.get("body", b""))
            await send(message)

        try:
            await self._guarded(scope, counted, marked)
        except Exception as bug:
            finding = failed(bug)
            LOG.error("%s %s", request, finding.found)
            if not status:
                await self._say(ProblemError(500, (finding,)), scope, counted, marked)
        finally:
            LOG.info(
                "%s %s %s %d %.0f ms, %d bytes in, %d out",
                request,
                scope["method"] if scope["method"] in ("GET", "HEAD", "POST") else "other",
                scope.get("sarc_kb.path", "-"),
                status,
                (monotonic() - began) * 1000,
                received,
                sent,
            )

    async def _guarded(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            self._check(scope)
        except ProblemError as raised:
            await self._say(raised, scope, receive, send)
            return
        await self._app(scope, receive, send)

    def _check(self, scope: Scope) -> None:
        """Raise a `ProblemError` unless the request may be answered."""
        headers = Headers(scope=scope)
        path = scope["path"]
        # A name that leads here today, and yesterday led to another site's page, is not ours; the
        # sign of life tells nothing, and is asked for by address.
        if path != "/health" and _name_of(headers.get("host", "")) not in self._rights.hosts:
            fix = "use the name it was started with, or start it with --allow-host NAME"
            raise problem(421, "the header Host", "another host", fix)
        origin = headers.get("origin")
        if origin is not None and origin.partition("://")[2] != headers.get("host"):
            fix = "send it from a program, or from the page of this service"
            raise problem(403, "the header Origin", "another site", fix)
        length = headers.get("content-length", "0")
        if not (length.isascii() and length.isdecimal()):
            raise problem(400, "the header Content-Length", "no number", "leave it out, or mend it")
        if self._rights.token is not None and path not in _OPEN:
            kind, _, given = headers.get("authorization", "").partition(" ")
            if kind.lower() != "bearer" or not self._rights.is_token(given.strip()):
                raise problem(
                    401,
                    "the header Authorization",
                    "another token" if kind else "none",
                    "send: Authorization: Bearer TOKEN",
                    headers={"www-authenticate": "Bearer"},
                )

    async def _say(self, raised: ProblemError, scope: Scope, receive: Receive, send: Send) -> None:
        await problem_response(scope["path"], raised)(scope, receive, send)


def _name_of(host: str) -> str:
    """Return a Host header without its port, in lower case."""
    name = host.rpartition(":")[0] if not host.endswith("]") and ":" in host else host
    return name.lower()
