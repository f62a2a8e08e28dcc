"""Run every benchmark, or those named: ``python -m benchmarks patient growth``."""

from __future__ import annotations

import sys

from benchmarks import cohort, fhir, growth, memory, patient, service, startup
from benchmarks.common import machine

ALL = {
    "patient": patient.main,
    "startup": startup.main,
    "growth": growth.main,
    "fhir": fhir.main,
    "cohort": cohort.main,
    "memory": memory.main,
    "service": service.main,
}


def run(names: list[str]) -> int:
    unknown = [n for n in names if n not in ALL]
    if unknown:
        print(
            f"no such benchmark: {', '.join(unknown)}; there are: {', '.join(ALL)}", file=sys.stderr
        )
        return 2
    machine()
    for name in names or ALL:
        ALL[name]()
    return 0


sys.exit(run(sys.argv[1:]))
