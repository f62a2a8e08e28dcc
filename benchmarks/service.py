"""The service at a steady rate of validations: is anything lost, how long does an answer take, and
does memory grow?

SARC_KB_SERVICE_SECONDS (default 60) and SARC_KB_SERVICE_RATE (requests a second, default 2) set it.
"""

from __future__ import annotations

import os
import signal
import statistics
import subprocess
import sys
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPConnection

from benchmarks.common import ELIGIBLE, megabytes, table

EXAMPLES = ELIGIBLE.parent.parent
RECORDS = (
    ("eligible/patient.ttl", "text/turtle"),
    ("anaemic/patient.ttl", "text/turtle"),
    ("fhir-eligible/bundle.json", "application/fhir+json"),
)
WORKERS = 2


def main() -> None:
    seconds = float(os.environ.get("SARC_KB_SERVICE_SECONDS", "60"))
    rate = float(os.environ.get("SARC_KB_SERVICE_RATE", "2"))
    bodies = [((EXAMPLES / name).read_bytes(), media) for name, media in RECORDS]
    command = [sys.executable, "-m", "sarc_kb.cli", "serve", "--port", "0"]
    command += ["--workers", str(WORKERS), "--waiting", "64"]
    began = time.monotonic()
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as process:
        assert process.stdout is not None
        port = int(process.stdout.readline().rstrip().rstrip("/").rpartition(":")[2])
        started = time.monotonic() - began
        expected = [ask(port, *body)[1] for body in bodies * WORKERS][: len(bodies)]
        outcomes: Counter[str] = Counter()
        times: list[float] = []
        memory: list[float] = []

        def once(number: int) -> None:
            body = number % len(bodies)
            clock = time.monotonic()
            try:
                status, answer = ask(port, *bodies[body])
            except OSError as lost:
                outcomes[type(lost).__name__] += 1
                return
            times.append(time.monotonic() - clock)
            same = status == 200 and answer == expected[body]
            outcomes["the expected report" if same else f"status {status}"] += 1

        first = time.monotonic()
        every = max(1, int(rate * seconds / 10))
        with ThreadPoolExecutor(64) as pool:
            for number in range(int(rate * seconds)):
                time.sleep(max(0.0, first + number / rate - time.monotonic()))
                pool.submit(once, number)
                if number % every == 0:
                    memory.append(sum(megabytes(process.pid)))
        took = time.monotonic() - first
        memory.append(sum(megabytes(process.pid)))
        process.send_signal(signal.SIGTERM)
        code = process.wait()
    sent = int(rate * seconds)
    lost = sent - sum(outcomes.values())
    cuts = statistics.quantiles(times, n=100, method="inclusive")
    table(
        f"Service: {sent} validations in {took:.0f} s, {rate:g} a second, {WORKERS} workers",
        ("", ""),
        [
            *outcomes.most_common(),
            ("without any answer", lost),
            ("ready after, s", started),
            ("ms to answer, median", 1000 * cuts[49]),
            ("ms to answer, 95 of 100", 1000 * cuts[94]),
            ("ms to answer, 99 of 100", 1000 * cuts[98]),
            ("ms to answer, at most", 1000 * max(times)),
            ("MB of all processes, tenth by tenth", ", ".join(f"{m:.0f}" for m in memory)),
            ("exit code when ended", code),
        ],
    )


def ask(port: int, body: bytes, media: str) -> tuple[int, bytes]:
    """Return the status and the body of one answer, on a connection of its own."""
    line = HTTPConnection("127.0.0.1", port, timeout=120)
    line.request("POST", "/validate", body, {"Content-Type": media})
    answer = line.getresponse()
    try:
        return answer.status, answer.read()
    finally:
        line.close()
