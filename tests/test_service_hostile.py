"""The service under slow, huge, malformed, concurrent and hostile requests, and how it starts and ends."""

from __future__ import annotations

import asyncio
import io
import json
import logging
import os
import re
import signal
import socket
import sys
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from starlette.requests import ClientDisconnect, Request
from test_canaries import with_canaries

from sarc_kb import cli
from sarc_kb.service import judge
from sarc_kb.service.desk import Desk, Limits
from sarc_kb.service.guard import LOG, Guard, Rights
from sarc_kb.service.judge import Answer
from sarc_kb.service.problems import ProblemError
from sarc_kb.service.question import Question
from sarc_kb.workers import OutOfMemory, OutOfTime, WorkerDied
from tests.service import Reply, Service, started

EXAMPLES = Path(__file__).resolve().parent.parent / "examples"
TURTLE = (EXAMPLES / "anaemic" / "patient.ttl").read_bytes()
CANARY = "qzxcanary"
TOKEN = "a-token-for-the-tests-alone"

pytestmark = pytest.mark.xdist_group("service")


@pytest.fixture(scope="module")
def narrow(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A service of little patience, memory and room, which asks for a token."""
    limits = ("--workers", "1", "--waiting", "3", "--upload-limit", "2", "--size-limit", "3")
    limits += ("--time-limit", "6", "--memory-limit", "64MB")
    with started(tmp_path_factory.mktemp("narrow"), *limits, token=TOKEN) as running:
        yield running


def validate(service: Service, body: bytes | Iterator[bytes], **headers: str) -> Reply:
    given = {"content_type": "text/turtle", "authorization": f"Bearer {TOKEN}", **headers}
    return service.ask("POST", "/validate", body, **given)


def told(reply: Reply, status: int) -> str:
    """Return the text of a problem, after a look at its status."""
    assert reply.status == status, reply.text
    assert json.loads(reply.body)["status"] == status
    return reply.text


def still_judges(service: Service) -> None:
    for _ in range(40):
        if service.ask("GET", "/health").status == 200:
            break
        time.sleep(0.5)
    assert json.loads(validate(service, TURTLE).body)["assessments"][0]["verdict"] == "ineligible"


def raw(service: Service, sent: bytes, seconds: float = 30) -> bytes:
    """Send bytes, and return what comes until the other side closes."""
    with socket.create_connection(("127.0.0.1", service.port), timeout=seconds) as line:
        received = b""
        with suppress(BrokenPipeError, ConnectionResetError):
            line.sendall(sent)
            while part := line.recv(65_536):
                received += part
    return received


def many_results(count: int) -> bytes:
    """Return a record with so many haemoglobin values, each of another minute."""
    facts = ",\n".join(
        f'[ sarc:concept sarc:Haemoglobin ; sarc:value 12.{n % 10} ; sarc:unit "g/dL" ;'
        f' sarc:date "2024-02-{n % 28 + 1:02}T{n // 28 % 24:02}:{n // 672 % 60:02}:00"^^xsd:dateTime ]'
        for n in range(count)
    )
    return TURTLE.rstrip().removesuffix(b".") + f" ; sarc:fact {facts} .".encode()


# -- slow ------------------------------------------------------------------------------------------
@pytest.mark.threat("G9")
def test_who_is_slow_is_cut_off(narrow: Service) -> None:
    """Headers, bodies and readers that do not come to an end, side by side: each is given two
    seconds, and others are answered meanwhile."""

    def trickle(start: bytes) -> tuple[float, bytes]:
        began = time.monotonic()
        with socket.create_connection(("127.0.0.1", narrow.port), timeout=30) as line:
            line.sendall(start)
            line.settimeout(0.2)
            received = b""
            while time.monotonic() - began < 30:
                try:
                    line.sendall(b"a")
                    part = line.recv(65_536)
                    received += part
                    if not part:
                        break
                except TimeoutError:
                    continue
                except OSError:
                    break
        return time.monotonic() - began, received

    def deaf() -> float:
        """Ask for the description again and again, and read none."""
        ask = b"GET /fhir/metadata HTTP/1.1\r\nHost: localhost\r\n\r\n"
        began = time.monotonic()
        with socket.create_connection(("127.0.0.1", narrow.port), timeout=1) as line:
            while time.monotonic() - began < 30:
                try:
                    line.sendall(ask * 200)
                except TimeoutError:
                    continue
                except OSError:
                    break
        return time.monotonic() - began

    head = b"POST /validate HTTP/1.1\r\nHost: localhost\r\nContent-Type: text/turtle\r\n"
    head += f"Authorization: Bearer {TOKEN}\r\n".encode()
    starts = [
        b"",
        b"POST /validate HTTP/1.1\r\nX-Slow: ",
        head + b"Content-Length: 5000\r\n\r\n",
        head + b"Transfer-Encoding: chunked\r\n\r\n",
    ]
    with ThreadPoolExecutor(20) as pool:
        slow = [pool.submit(trickle, start) for start in starts * 4]
        unread = pool.submit(deaf)
        assert narrow.ask("GET", "/health").status == 200
        ends = [s.result() for s in slow]
        assert unread.result() < 30
    assert all(seconds < 15 for seconds, _ in ends)
    assert {received[:12] for _, received in ends[2::4]} == {b"HTTP/1.1 408"}
    still_judges(narrow)


# -- huge ------------------------------------------------------------------------------------------
def memory_of(pid: int) -> int:
    """Return the resident bytes of a process."""
    told = Path(f"/proc/{pid}/status").read_text("utf-8")
    found = re.search(r"VmRSS:\s+(\d+) kB", told)
    assert found is not None
    return int(found[1]) * 1000


@pytest.mark.threat("G8")
def test_a_large_body_is_refused(narrow: Service) -> None:
    before = memory_of(narrow.process.pid)
    # Declared: nothing of it is waited for.
    began = time.monotonic()
    start = f"POST /validate HTTP/1.1\r\nHost: localhost\r\nContent-Type: text/turtle\r\nAuthorization: Bearer {TOKEN}\r\nContent-Length: 1000000000000\r\n\r\n"
    assert raw(narrow, start.encode()).startswith(b"HTTP/1.1 413")
    assert time.monotonic() - began < 15
    # Not declared, and without an end: the sender is cut off.
    sent = 0

    def endless() -> Iterator[bytes]:
        nonlocal sent
        while sent < 400_000_000:
            sent += 100_000
            yield b"#" * 100_000

    with suppress(BrokenPipeError, ConnectionResetError):  # cut off before it reads the answer
        told(validate(narrow, endless()), 413)
    assert sent < 100_000_000
    # A little too large: the sender reads why.
    assert "at most 3000000" in told(validate(narrow, b"#" * 3_000_001), 413)
    assert told(validate(narrow, b"#" * 3_000_000), 422)
    assert memory_of(narrow.process.pid) - before < 40_000_000


# -- malformed -------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    "sent",
    [
        b"\x00\x01\x02qzxcanary\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET qzxcanary HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"POST /validate HTTP/1.1\r\nHost: localhost\r\nContent-Length: -5\r\n\r\n",
        b"POST /validate HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n",
        b"POST /validate HTTP/1.1\r\nHost: localhost\r\nHost: elsewhere\r\n\r\n",
        b"POST /validate HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\nqzxcanary\r\n",
        b"GET / HTTP/1.1\r\nHost: localhost\r\nX: " + b"a" * 1_000_000 + b"\r\n\r\n",
        b"GET /\xff\xfe%00%0d%0aX: HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    ],
)
@pytest.mark.threat("G11")
def test_what_is_no_request(sent: bytes, narrow: Service) -> None:
    answer = raw(narrow, sent)
    assert answer == b"" or re.match(rb"HTTP/1.1 (400|401|404|421|431) ", answer)
    assert CANARY.encode() not in answer
    assert CANARY not in narrow.told()
    assert narrow.ask("GET", "/health").status == 200


# -- many at once, too long, too much ---------------------------------------------------------------
@pytest.mark.threat("G9")
def test_many_at_once(narrow: Service) -> None:
    """One worker and three places: whoever is not judged is told so at once, and nothing is lost."""
    with ThreadPoolExecutor(16) as pool:
        replies = list(pool.map(lambda _: validate(narrow, TURTLE), range(16)))
    counts = Counter(r.status for r in replies)
    assert set(counts) <= {200, 503}
    assert counts[200] >= 4
    assert counts[503] >= 1
    assert len({r.body for r in replies if r.status == 200}) == 1
    assert all(r.headers["retry-after"] == "1" for r in replies if r.status == 503)
    still_judges(narrow)


@pytest.mark.threat("B2", "G9")
def test_a_record_that_takes_too_long(narrow: Service) -> None:
    began = time.monotonic()
    text = told(validate(narrow, many_results(9_000)), 504)
    assert "--time-limit" in text
    assert "Haemoglobin" not in text
    assert time.monotonic() - began < 40
    still_judges(narrow)


@pytest.mark.threat("B12", "G8")
def test_a_record_that_takes_too_much_memory(narrow: Service) -> None:
    nothing = b"".join(b"<urn:%d> <urn:b> <urn:c%d> .\n" % (n, n) for n in range(80_000))
    text = told(validate(narrow, nothing), 507)
    assert "--memory-limit" in text
    still_judges(narrow)


def children_of(pid: int) -> list[int]:
    listed = Path(f"/proc/{pid}/task/{pid}/children").read_text("utf-8")
    found = [int(child) for child in listed.split()]
    return found + [grandchild for child in found for grandchild in children_of(child)]


@pytest.mark.threat("G1")
def test_a_worker_that_is_killed(narrow: Service) -> None:
    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(validate, narrow, many_results(6_000))
        time.sleep(1.5)
        # The youngest is the worker: what it was forked from came before it.
        os.kill(max(children_of(narrow.process.pid)), signal.SIGKILL)
        text = told(asked.result(), 500)
    assert "died" in text
    still_judges(narrow)


# -- who may ask -----------------------------------------------------------------------------------
@pytest.mark.threat("G10")
def test_only_who_has_the_token(narrow: Service) -> None:
    for given in ("", "Bearer", "Bearer x", f"Basic {TOKEN}", f"Bearer {TOKEN}x", "Bearer \xff"):
        reply = validate(narrow, TURTLE, authorization=given)
        told(reply, 401)
        assert reply.headers["www-authenticate"] == "Bearer"
    for path in ("/rules", "/version", "/checklist", "/openapi.json", "/qzx"):
        assert narrow.ask("GET", path).status == 401
    for path in ("/", "/page.css", "/health", "/fhir/metadata"):
        assert narrow.ask("GET", path).status == 200
    assert "password" in narrow.ask("GET", "/").text
    form = b'--b\r\nContent-Disposition: form-data; name="record"; filename="p.ttl"\r\n\r\n%s\r\n--b--\r\n'
    sent = narrow.ask(
        "POST", "/page", form % TURTLE, content_type="multipart/form-data; boundary=b"
    )
    assert sent.status == 401
    assert "sarc-example-02" not in sent.text


@pytest.mark.threat("G10")
def test_no_other_site_may_ask(service: Service) -> None:
    """A page of another site can neither send a record with a reader's browser, nor read what it
    gets, nor take this service for its own under another name (DNS rebinding)."""
    told(service.ask("GET", "/rules", host="attacker.example"), 421)
    told(service.ask("GET", "/rules", host=f"attacker.example:{service.port}"), 421)
    assert service.ask("GET", "/rules", host=f"LOCALHOST:{service.port}").status == 200
    assert service.ask("GET", "/health", host="10.0.0.1").status == 200
    for origin in ("https://attacker.example", "null", f"http://127.0.0.1:{service.port + 1}"):
        told(
            service.ask("POST", "/validate", TURTLE, content_type="text/turtle", origin=origin), 403
        )
    asked = service.ask(
        "OPTIONS", "/validate", origin=service.url, access_control_request_method="POST"
    )
    assert asked.status == 405
    own = service.ask("GET", "/version", origin=service.url)
    assert own.status == 200
    for reply in (asked, own):
        assert not [name for name in reply.headers if name.startswith("access-control-")]
        assert "server" not in reply.headers
        assert reply.headers["x-content-type-options"] == "nosniff"
        assert reply.headers["cache-control"] == "no-store"
        assert reply.headers["content-security-policy"].startswith("default-src 'none'")


def refused(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    assert cli.main(["serve", *arguments]) == 2
    return capsys.readouterr().err


@pytest.mark.threat("G10")
def test_others_are_not_let_in_without_a_token(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("SARC_KB_TOKEN", raising=False)
    for host in ("0.0.0.0", "::", "192.0.2.1", "example.org"):
        assert "USE123" in refused(["--host", host], capsys)
    (tmp_path / "token").write_text("short\n")
    assert "USE121" in refused(["--token-file", str(tmp_path / "token")], capsys)
    monkeypatch.setenv("SARC_KB_TOKEN", "with a space in it")
    assert "USE121" in refused([], capsys)
    monkeypatch.delenv("SARC_KB_TOKEN")
    assert "USE020" in refused(["--token-file", str(tmp_path / "nothing")], capsys)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        assert "USE124" in refused(["--port", str(taken.getsockname()[1])], capsys)
    assert "RULE000" in refused(["--port", "0", "--rules", str(tmp_path)], capsys)


def test_without_the_extra(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in [n for n in sys.modules if n.startswith(("sarc_kb.service", "uvicorn"))]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    text = refused([], capsys)
    assert "USE122" in text
    assert "pip install 'sarc-kb[service]'" in text


# -- nothing of a patient stays --------------------------------------------------------------------
@pytest.mark.threat("F2")
def test_no_patient_is_in_the_log(narrow: Service) -> None:
    bundle, number = with_canaries(
        json.loads((EXAMPLES / "fhir-eligible" / "bundle.json").read_text("utf-8"))
    )
    assert number > 50
    whole = json.dumps(bundle).encode()
    ill = re.sub(rb"sarc:value 8.6", b'sarc:value "qzxcanary"^^xsd:decimal', TURTLE)
    assert ill != TURTLE
    fhir = {"content_type": "application/fhir+json"}
    replies = [
        validate(narrow, whole, **fhir),
        validate(narrow, whole[:-1], **fhir),
        validate(narrow, ill),
        validate(narrow, many_results(9_000).replace(b"hb-2", b"qzxcanary")),
        narrow.ask("GET", f"/rules/{CANARY}", authorization=f"Bearer {TOKEN}"),
        narrow.ask("GET", f"/{CANARY}", query={CANARY: CANARY}, authorization=f"Bearer {CANARY}"),
        narrow.ask(CANARY, "/validate", authorization=f"Bearer {TOKEN}", x_id=CANARY),
        narrow.ask(
            "POST", "/fhir/ResearchStudy/qzxcanary/$evaluate-eligibility", whole,
            authorization=f"Bearer {TOKEN}", **fhir,
        ),
    ]  # fmt: skip
    assert [r.status for r in replies] == [200, 422, 200, 504, 404, 401, 405, 400]
    log = narrow.told()
    for secret in (CANARY, TOKEN, "sarc-example", "2024-03-01"):
        assert secret not in log
    assert re.search(r"[0-9a-f]{16} POST /validate 200 \d+ ms, \d+ bytes in, \d+ out", log)
    assert re.search(r"GET /rules/\{rule\} 404 ", log)


async def called(app: Any, path: str = "/") -> list[dict[str, Any]]:
    """Return what an application sends when it is asked for a path."""
    sent: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    headers = [(b"host", b"localhost")]
    await app(
        {"type": "http", "method": "GET", "path": path, "headers": headers, "query_string": b""},
        receive,
        send,
    )
    return sent


@pytest.mark.threat("F2")
def test_a_fault_of_the_program_tells_nothing_of_the_record() -> None:
    async def broken(*_: object) -> None:
        raise KeyError(CANARY)

    handler = logging.StreamHandler(io.StringIO())
    LOG.addHandler(handler)
    try:
        sent = asyncio.run(called(Guard(broken, Rights(frozenset({"localhost"})))))
    finally:
        LOG.removeHandler(handler)
    assert sent[0]["status"] == 500
    text = sent[1]["body"].decode() + handler.stream.getvalue()
    assert "KeyError in test_service_hostile.py" in text
    assert CANARY not in text


def test_a_fault_on_one_record_tells_where(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> Answer:
        raise ValueError(CANARY)

    monkeypatch.setattr(judge, "load", lambda _: None)
    monkeypatch.setattr(judge, "_mine", {"knowledge": None})
    monkeypatch.setattr(judge, "_WORK", {"validate": broken})
    answer = judge.answer("validate", Question("json"))
    assert answer.status == 500
    assert "ValueError in test_service_hostile.py" in str(answer.findings)
    assert CANARY not in str(answer.findings)


# -- the desk --------------------------------------------------------------------------------------
class Promised:
    """Workers whose answers a test gives."""

    def __init__(self, *outcomes: object) -> None:
        self.outcomes = list(outcomes)
        self.futures: list[Future[object]] = []

    def submit(self, *_: object) -> Future[object]:
        future: Future[object] = Future()
        self.futures.append(future)
        if self.outcomes:
            outcome = self.outcomes.pop(0)
            if isinstance(outcome, BaseException):
                future.set_exception(outcome)
            else:
                future.set_result(outcome)
        return future


def request_of(*messages: dict[str, Any]) -> Request:
    left = list(messages)

    async def receive() -> Any:
        if left:
            return left.pop(0)
        return await asyncio.Event().wait()

    return Request({"type": "http", "headers": [], "path": "/", "method": "POST"}, receive)


@pytest.mark.parametrize(
    ("failure", "status"),
    [
        (OutOfTime("a", "b", "c"), 504),
        (OutOfMemory("a", "b", "c"), 507),
        (WorkerDied("a", "b", "c"), 500),
        (RuntimeError("closed"), 503),
    ],
)
def test_health_follows_the_workers(failure: Exception, status: int) -> None:
    """After a worker has died, another one is asked for a sign of life before records are."""

    async def scenario() -> None:
        workers = Promised(failure, (), WorkerDied("a", "b", "c"), ("broken",))
        desk = Desk(workers, Limits(workers=1))
        with pytest.raises(ProblemError) as raised:
            await desk.ask("validate", Question("json"), request_of())
        assert raised.value.status == status
        assert await desk.health() == (True, "ready")
        assert await desk.health() == (False, "no worker answers")
        assert await desk.health() == (False, "the knowledge base is broken")

    asyncio.run(scenario())


def test_who_goes_away_is_not_worked_for() -> None:
    async def scenario() -> None:
        workers = Promised()
        desk = Desk(workers, Limits(workers=1, waiting=1))
        with pytest.raises(ClientDisconnect):
            await desk.ask("validate", Question("json"), request_of({"type": "http.disconnect"}))
        await asyncio.sleep(0)
        assert workers.futures[0].cancelled()
        waiting = [
            asyncio.ensure_future(desk.ask("validate", Question("json"), request_of()))
            for _ in range(2)
        ]
        await asyncio.sleep(0)
        assert await desk.health() == (True, "busy")
        with pytest.raises(ProblemError) as raised:
            await desk.ask("validate", Question("json"), request_of())
        assert raised.value.status == 503
        for future in workers.futures[1:]:
            future.set_result(Answer(200))
        assert [a.status for a in await asyncio.gather(*waiting)] == [200, 200]

    asyncio.run(scenario())


# -- the end ---------------------------------------------------------------------------------------
@pytest.mark.threat("G6")
def test_what_is_running_is_answered(tmp_path: Path) -> None:
    """Asked to end, the service lets nobody in any more, answers what it has, and leaves no
    process."""
    with started(tmp_path, "--workers", "1") as service, ThreadPoolExecutor(1) as pool:
        processes = children_of(service.process.pid)
        assert len(processes) >= 2
        asked = pool.submit(validate, service, many_results(3_000))
        time.sleep(0.7)
        assert not asked.done()
        service.process.send_signal(signal.SIGTERM)
        assert asked.result().status == 200
        assert service.process.wait(30) == 0
        with pytest.raises(ConnectionRefusedError):
            service.ask("GET", "/health")
    for _ in range(100):
        if not any(Path(f"/proc/{pid}").exists() for pid in processes):
            break
        time.sleep(0.1)
    else:
        pytest.fail("a process is left")
