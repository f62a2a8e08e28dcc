"""A service in a process of its own, for the tests that ask one.

A test uses the fixture `service`, one for all of them, or starts its own with `started`.
"""

from __future__ import annotations

import http.client
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote, urlencode

import pytest

TOKEN_VARIABLE = "SARC_KB_TOKEN"
_SECONDS = 120
"""More than a start or an answer takes on a machine with other work."""


@dataclass(slots=True)
class Reply:
    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def text(self) -> str:
        return self.body.decode()


@dataclass(slots=True)
class Service:
    """A running service: its process, its port, and the file that its log goes to."""

    process: subprocess.Popen[str]
    port: int
    log: Path

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def ask(
        self,
        method: str,
        path: str,
        body: bytes | Iterator[bytes] | None = None,
        query: Mapping[str, str] | Sequence[tuple[str, str]] | None = None,
        **headers: str,
    ) -> Reply:
        """Send one request on a connection of its own; ``content_type`` is a header's name."""
        address = quote(path, safe="/$%") + (f"?{urlencode(query)}" if query else "")
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=_SECONDS)
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        connection.request(method, address, body, sent)
        answer = connection.getresponse()
        try:
            return Reply(answer.status, dict(answer.getheaders()), answer.read())
        finally:
            connection.close()

    def told(self) -> str:
        return self.log.read_text("utf-8")


@contextmanager
def started(folder: Path, *arguments: str, token: str | None = None) -> Iterator[Service]:
    """Start a service on a free port, and end it as a supervisor does."""
    log = folder / "service.log"
    environment = {k: v for k, v in os.environ.items() if k != TOKEN_VARIABLE}
    if token is not None:
        environment[TOKEN_VARIABLE] = token
    with log.open("w") as handle:
        process = subprocess.Popen(
            [sys.executable, "-m", "sarc_kb.cli", "serve", "--port", "0", *arguments],
            stdout=subprocess.PIPE,
            stderr=handle,
            text=True,
            env=environment,
        )
    late = threading.Timer(_SECONDS, process.kill)
    late.start()
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        late.cancel()
        assert line.startswith("sarc-kb serves http://"), log.read_text("utf-8")
        yield Service(process, int(line.rstrip().rstrip("/").rpartition(":")[2]), log)
    finally:
        late.cancel()
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
        if process.stdout is not None:
            process.stdout.close()


@pytest.fixture(scope="session")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """Return a service with the limits that are told in the tests of limits."""
    folder = tmp_path_factory.mktemp("service")
    limits = ("--workers", "1", "--size-limit", "1")
    with started(folder, *limits) as running:
        yield running
