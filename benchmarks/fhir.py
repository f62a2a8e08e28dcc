"""FHIR: one Synthea bundle read and prepared; NDJSON streamed, time and memory against patients.

The bundle is the first of the public Synthea bundles (folder of SARC_KB_DATA, else ../shared/data)
with 2.5 to 3 MB; without that folder only the streamed part runs, on made-up patients.
"""

from __future__ import annotations

import gzip
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from time import perf_counter

from benchmarks.common import milliseconds, table
from sarc_kb.kb import KnowledgeBase, with_entry_dates
from sarc_kb.sources.fhir import FhirDataSet, read_fhir
from sarc_kb.sources.patients import Patients

ROOT = Path(__file__).resolve().parent.parent
DATA = Path(os.environ.get("SARC_KB_DATA") or ROOT.parent / "shared" / "data")
SIZES = (100, 1_000, 10_000)
RESULTS = 20
ENTRY = "2020-06-01"


class Made:
    """The NDJSON of so many patients: all Patients first, then their results, patient by patient
    in turn, as far apart as they can be."""

    def __init__(self, patients: int) -> None:
        self.bytes = 0
        self._lines = self._made(patients)

    def _made(self, patients: int) -> Iterator[bytes]:
        for n in range(patients):
            yield _line(resourceType="Patient", id=str(n), gender="female", birthDate="1970-05-02")
        quantity = {
            "value": 9.4,
            "unit": "g/dL",
            "system": "http://unitsofmeasure.org",
            "code": "g/dL",
        }
        for n in range(patients * RESULTS):
            yield _line(
                resourceType="Observation",
                id=str(n),
                status="final",
                code={"coding": [{"system": "http://loinc.org", "code": "718-7"}]},
                subject={"reference": f"Patient/{n % patients}"},
                effectiveDateTime="2020-05-20",
                valueQuantity=quantity,
                note=[{"text": "x" * 300}],
            )

    def readline(self, _size: int, /) -> bytes:
        line = next(self._lines, b"")
        self.bytes += len(line)
        return line


def _line(**body: object) -> bytes:
    return json.dumps(body).encode() + b"\n"


def streamed(patients: int) -> None:
    """Read and prepare so many made-up patients, and print the time of both and the peak memory."""
    import resource

    kb = KnowledgeBase.load()
    trial = kb.compile()
    base = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    made = Made(patients)
    start = perf_counter()
    with FhirDataSet(kb.reading_terms(trial).fhir, "made") as dataset:
        dataset.add(made, "made", "")
        found = Patients()
        found.add_dataset(dataset)
        grouped = perf_counter()
        for record in with_entry_dates(found, ENTRY, {}):
            kb.prepare(record, trial)
    end = perf_counter()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(json.dumps([made.bytes, grouped - start, end - grouped, base / 1024, peak / 1024]))


def main() -> None:
    _bundle()
    rows = []
    for patients in SIZES:
        command = [
            sys.executable,
            "-c",
            f"from benchmarks.fhir import streamed; streamed({patients})",
        ]
        done = subprocess.run(command, capture_output=True, check=True, text=True, cwd=ROOT)
        size, grouping, preparing, base, peak = json.loads(done.stdout)
        rows.append((f"{patients:,}", size / 1e6, grouping, preparing, base, peak))
    table(
        f"NDJSON, {RESULTS} results a patient: grouped on disk, then read and prepared one by one",
        ("patients", "MB", "group s", "read and prepare s", "memory before, MB", "at most, MB"),
        rows,
    )


def _bundle() -> None:
    folder = DATA / "synthea-r4" / "bundles"
    sizes = {path: len(gzip.decompress(path.read_bytes())) for path in sorted(folder.glob("*.gz"))}
    chosen = [path for path, size in sizes.items() if 2_500_000 < size < 3_000_000]
    if not chosen:
        print(f"\nno Synthea bundle of 2.5 to 3 MB in {folder}")
        return
    data = gzip.decompress(chosen[0].read_bytes())
    kb = KnowledgeBase.load()
    trial = kb.compile()
    terms = kb.reading_terms(trial).fhir
    (record,) = with_entry_dates(read_fhir(data, "bundle", terms), ENTRY, {})
    reading = milliseconds(lambda: read_fhir(data, "bundle", terms))
    preparing = milliseconds(lambda: kb.prepare(record, trial))
    table(
        f"A Synthea bundle of {len(data) / 1e6:.1f} MB, {len(record.facts)} facts; the aim is well under 500 ms",
        ("step", "ms"),
        [("read", reading), ("prepare", preparing), ("both", reading + preparing)],
    )


if __name__ == "__main__":
    main()
