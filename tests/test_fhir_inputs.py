"""The forms in which FHIR arrives: Bundles of every type, data sets of NDJSON, what is refused.

Section E of the list of threats is tested here by its row ids (E1 to E8); statuses (E1) one by one
in `test_fhir` and `test_fhir_resources`.
"""

from __future__ import annotations

import gzip
import io
import json
import random
import resource as system
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from test_fhir import (
    ANNA,
    LOINC,
    TERMS,
    Json,
    coded,
    codes,
    encode,
    facts_of,
    observation,
    read,
    short,
)
from test_fhir import resource as made

from sarc_kb.assessment import Assessment
from sarc_kb.engines.shacl_engine import ShaclEngine
from sarc_kb.errors import Finding, InputError
from sarc_kb.facts import Fact, PatientRecord
from sarc_kb.kb import KnowledgeBase, with_entry_dates
from sarc_kb.rules import Trial
from sarc_kb.sources.fhir import FhirDataSet, read_fhir
from sarc_kb.sources.patients import Patients
from sarc_kb.sources.rdf_writer import write_patient
from sarc_kb.sources.read import ReadingTerms, read_sources

ROOT = Path(__file__).resolve().parent.parent
READING = ReadingTerms(frozenset(), TERMS)
BORIS = {**ANNA, "id": "boris", "gender": "male"}


def entry(body: Json | None, method: str | None = None, url: str = "", **rest: Any) -> Json:
    made_of: Json = {"resource": body} if body is not None else {}
    if method:
        made_of["request"] = {"method": method, "url": url}
    return {**made_of, **rest}


def bundle(kind: str, *entries: Json, **rest: Any) -> bytes:
    return encode({"resourceType": "Bundle", "type": kind, "entry": list(entries), **rest})


def the_only(data: bytes) -> PatientRecord:
    (record,) = read_fhir(data, "x", TERMS)
    return record


def numbers(record: PatientRecord) -> list[Any]:
    return [fact.value for fact in facts_of(record)]


def said(findings: Any) -> list[tuple[str, str]]:
    return [(f.code, f.where) for f in findings]


# -- Bundles of every type ---------------------------------------------------------------------

MEASURED = observation(id="a", valueInteger=1)


@pytest.mark.parametrize("kind", ["searchset", "collection", "message", "transaction", "batch"])
def test_a_bundle_of_any_type_is_read(kind: str) -> None:
    head = entry({"resourceType": "MessageHeader", "id": "m"})
    record = the_only(bundle(kind, head, entry(ANNA, "PUT", "Patient/anna"), entry(MEASURED)))
    assert numbers(record) == [1]


@pytest.mark.parametrize("method", ["POST", "PUT"])
def test_what_a_transaction_writes_is_there(method: str) -> None:
    written = entry(MEASURED, method, "Observation/a", fullUrl="urn:uuid:1")
    assert numbers(the_only(bundle("transaction", entry(ANNA), written))) == [1]


def test_what_a_transaction_deletes_is_not() -> None:
    deleted = entry(None, "DELETE", "http://example.org/fhir/Observation/a")
    record = the_only(bundle("transaction", entry(ANNA), entry(MEASURED), deleted))
    assert numbers(record) == []
    assert codes(record.findings) == ["DATA119"]


def test_what_a_transaction_patches_is_only_possible() -> None:
    patch = entry({"resourceType": "Parameters"}, "PATCH", "Observation/a")
    record = the_only(bundle("transaction", entry(ANNA), entry(MEASURED), patch))
    assert [(f.value, short(f.status)) for f in facts_of(record)] == [(1, "Suspected")]
    assert "DATA135" in codes(record.findings)


@pytest.mark.parametrize("method", ["DELETE", "PATCH"])
def test_a_change_by_a_search_is_told(method: str) -> None:
    change = entry(None, method, "Observation?code=718-7")
    record = the_only(bundle("batch", entry(ANNA), entry(MEASURED), change))
    assert numbers(record) == [1]
    assert codes(record.findings) == ["DATA134"]


def version(value: int, day: int | None, **rest: Any) -> Json:
    meta = {"lastUpdated": f"2024-03-{day:02}T08:00:00Z"} if day else {}
    return observation(id="a", valueInteger=value, meta=meta, **rest)


@pytest.mark.parametrize(
    ("versions", "expected"),
    [
        ((version(3, 9), version(1, 7), version(2, 8)), [3]),
        ((version(1, 7), version(3, 9), version(2, 8)), [3]),  # sorted wrongly, but dated
        ((version(3, None), version(2, None), version(1, None)), [3]),  # the first is the newest
        ((version(3, None), version(2, 8)), [3]),
    ],
)
def test_of_a_history_the_newest_version_counts(
    versions: tuple[Json, ...], expected: list[int]
) -> None:
    record = the_only(bundle("history", *map(entry, versions), entry(ANNA)))
    assert numbers(record) == expected
    assert {short(f.status) for f in facts_of(record)} == {"Confirmed"}
    assert codes(record.findings) == ["DATA118"]


def removal(day: int) -> Json:
    answer = {"lastModified": f"2024-03-{day:02}T08:00:00Z"}
    return entry(None, "DELETE", "Observation/a", response=answer)


@pytest.mark.parametrize(("deleted", "expected"), [(9, []), (7, [1])])
def test_a_history_may_end_with_a_deletion_or_go_on_after_it(
    deleted: int, expected: list[int]
) -> None:
    record = the_only(bundle("history", removal(deleted), entry(version(1, 8)), entry(ANNA)))
    assert numbers(record) == expected


def test_a_document_entered_in_error_says_nothing() -> None:
    for status, expected in (("final", [1]), ("entered-in-error", [])):
        head = {"resourceType": "Composition", "id": "c", "status": status}
        record = the_only(bundle("document", entry(head), entry(ANNA), entry(MEASURED)))
        assert numbers(record) == expected
        assert ("DATA133" in codes(record.findings)) == (not expected)


def test_one_page_of_a_search_is_told() -> None:
    pages = [{"relation": "next", "url": "http://example.org/fhir?page=2"}]
    record = the_only(bundle("searchset", entry(ANNA), entry(MEASURED), link=pages))
    assert numbers(record) == [1]
    assert codes(record.findings) == ["DATA132"]


# -- data sets of NDJSON -------------------------------------------------------------------------


def lines(*bodies: Json) -> bytes:
    return b"".join(encode(body) + b"\n" for body in bodies)


def of(person: Json, **rest: Any) -> Json:
    return observation(subject={"reference": f"Patient/{person['id']}"}, **rest)


def export(folder: Path, *bodies: Json, packed: bool = False) -> Path:
    """Write one NDJSON file a resource type, as Bulk Data does."""
    folder.mkdir(exist_ok=True)
    by_type: dict[str, list[Json]] = {}
    for body in bodies:
        by_type.setdefault(body["resourceType"], []).append(body)
    for kind, some in by_type.items():
        data = lines(*some)
        if packed:
            (folder / f"{kind}.000.ndjson.gz").write_bytes(gzip.compress(data))
        else:
            (folder / f"{kind}.000.ndjson").write_bytes(data)
    return folder


def sources(
    *paths: Path, terms: ReadingTerms = READING
) -> tuple[list[PatientRecord], list[Finding]]:
    patients, problems = read_sources(paths, terms)
    records = list(patients)
    assert len(records) == len(patients)
    return records, problems


@pytest.mark.parametrize("packed", [False, True])
def test_one_file_a_type_is_one_data_set(tmp_path: Path, packed: bool) -> None:
    folder = export(
        tmp_path / "export",
        ANNA,
        BORIS,
        of(ANNA, id="a", valueInteger=1),
        of(BORIS, id="b", valueInteger=2),
        made("Condition", code=coded("1")),
        packed=packed,
    )
    records, problems = sources(folder)
    assert problems == []
    assert [(r.label, len(facts_of(r)), r.origin) for r in records] == [
        ("anna", 2, str(folder)),
        ("boris", 1, str(folder)),
    ]
    assert all(codes(r.findings) == [] for r in records)


def test_the_files_may_be_given_one_by_one(tmp_path: Path) -> None:
    folder = export(tmp_path / "x", ANNA, of(ANNA, id="a", valueInteger=1))
    files = sorted(folder.iterdir())
    whole, _ = sources(folder)
    assert sources(*files)[0] == whole
    assert sources(*files[::-1])[0] == whole


def test_two_folders_are_two_data_sets_and_a_name_in_both_is_an_error(tmp_path: Path) -> None:
    export(tmp_path / "x", ANNA)
    export(tmp_path / "y", ANNA)
    records, _ = sources(tmp_path)
    assert [codes(r.findings) for r in records] == [["DATA003"], ["DATA003"]]


def test_files_that_describe_a_patient_differently_are_never_merged(tmp_path: Path) -> None:
    (tmp_path / "a.ndjson").write_bytes(lines(ANNA, of(ANNA, id="1", valueInteger=1)))
    (tmp_path / "b.ndjson").write_bytes(lines({**ANNA, "birthDate": "1980"}))
    ((record,), _) = sources(tmp_path)
    assert "DATA138" in [f.code for f in record.findings if f.severity == "error"]


def test_shared_resources_reach_the_patients_that_refer_to_them(tmp_path: Path) -> None:
    rxnorm = "http://www.nlm.nih.gov/research/umls/rxnorm"
    drug = {"resourceType": "Medication", "id": "m", "code": coded("3639", rxnorm)}
    uses = [
        made(
            "MedicationStatement",
            id=person["id"],
            status="active",
            subject={"reference": f"Patient/{person['id']}"},
            medicationReference={"reference": "Medication/m"},
        )
        for person in (ANNA, BORIS)
    ]
    records, problems = sources(export(tmp_path / "x", ANNA, BORIS, drug, *uses))
    assert problems == []
    for record in records:
        assert [f.concepts for f in facts_of(record)] == [(f"{rxnorm}/3639",)]


@pytest.mark.threat("E3")
def test_a_reference_to_another_patient_is_an_error_of_both(tmp_path: Path) -> None:
    """E3: in a data set as in a Bundle."""
    diagnosis = made("Condition", id="c", code=coded("1"))
    result = of(BORIS, id="o", valueInteger=1, focus=[{"reference": "Condition/c"}])
    records, _ = sources(export(tmp_path / "x", ANNA, BORIS, diagnosis, result))
    (tmp_path / "bundle.json").write_bytes(
        bundle("collection", *map(entry, (ANNA, BORIS, diagnosis, result)))
    )
    together, _ = sources(tmp_path / "bundle.json")
    for found in (records, together):
        assert [[c for c in codes(r.findings) if c == "DATA115"] for r in found] == [
            ["DATA115"]
        ] * 2
        assert [len(facts_of(r)) for r in found] == [1, 0]


def test_a_bulk_deletion_is_applied(tmp_path: Path) -> None:
    """A Bulk-Data export lists what is gone as transactions of deletions."""
    folder = export(tmp_path / "x", ANNA, MEASURED)
    (folder / "deleted.ndjson").write_bytes(
        bundle("transaction", entry(None, "DELETE", "Observation/a")) + b"\n"
    )
    ((record,), _) = sources(folder)
    assert numbers(record) == []
    assert codes(record.findings) == ["DATA119"]


@pytest.mark.parametrize(
    ("patient_url", "reference"),
    [
        (None, "http://example.org/fhir/Patient/anna"),
        ("http://example.org/fhir/Patient/anna", "Patient/anna"),
        ("http://example.org/fhir/Patient/anna", "http://example.org/fhir/Patient/anna"),
        (None, "Patient/anna/_history/3"),
        ("urn:uuid:7", "Patient/anna"),
    ],
)
@pytest.mark.threat("E3")
def test_reference_forms_between_lines(patient_url: str | None, reference: str) -> None:
    """E3: what one line says of a patient in another line."""
    person = bundle("collection", entry(ANNA, fullUrl=patient_url)) if patient_url else encode(ANNA)
    result = encode(observation(valueInteger=1, subject={"reference": reference}))
    for data in (person + b"\n" + result, result + b"\n" + person):
        record = the_only(data)
        assert (record.patient, numbers(record)) == ("Patient/anna", [1])
        assert codes(record.findings) == []


def test_the_same_id_on_two_servers_is_two_patients_in_lines_too() -> None:
    parts = []
    for n, server in enumerate(("http://a.example/", "http://b.example/")):
        about = {"reference": server + "Patient/anna"}
        result = observation(id=f"o{n}", valueInteger=n, subject=about)
        inner = entry(ANNA, fullUrl=server + "Patient/anna"), entry(result, fullUrl=f"urn:uuid:{n}")
        parts.append(bundle("collection", *inner))
    records = read_fhir(b"\n".join(parts), "x", TERMS)
    assert [(r.patient, [v for v in numbers(r) if v is not None]) for r in records] == [
        ("http://a.example/Patient/anna", [0]),
        ("http://b.example/Patient/anna", [1]),
    ]


# -- truncated, faulty, hostile ------------------------------------------------------------------


@pytest.mark.threat("E5")
def test_e5_a_file_that_is_cut_off_is_said_to_be(tmp_path: Path) -> None:
    folder = export(tmp_path / "x", ANNA, MEASURED, observation(id="b", valueInteger=2))
    cut = folder / "Observation.000.ndjson"
    cut.write_bytes(cut.read_bytes()[:-9])
    ((record,), problems) = sources(folder)
    assert numbers(record) == [1]
    assert said(problems) == [("DATA102", f"{cut} line 2"), ("DATA136", str(cut))]
    assert {f.severity for f in problems} == {"error"}
    # Something about this patient may be missing, but what is there can be judged.
    assert {f.severity for f in record.findings} == {"warning"}


@pytest.mark.threat("E5")
def test_e5_a_packed_file_that_is_cut_off_is_said_to_be(tmp_path: Path) -> None:
    bodies = [of(ANNA, id=f"o{n}", valueInteger=n) for n in range(300)]
    folder = export(tmp_path / "x", ANNA, *bodies, packed=True)
    cut = folder / "Observation.000.ndjson.gz"
    cut.write_bytes(cut.read_bytes()[:-20])
    ((record,), problems) = sources(folder)
    assert 0 < len(numbers(record)) < 300
    assert ("DATA136", str(cut)) in said(problems)
    junk = folder / "Condition.000.ndjson.gz"
    junk.write_bytes(b"not packed")
    ((_,), problems) = sources(folder)
    assert ("DATA136", str(junk)) in said(problems)


@pytest.mark.parametrize("separator", ["\u2028", "\u2029", "\u0085", "\x0b", "\x0c"])
@pytest.mark.threat("E5")
def test_e5_other_separators_in_texts_are_no_line_ends(separator: str, tmp_path: Path) -> None:
    body = observation(id="a", valueInteger=1, note=[{"text": f"a{separator}b"}])
    text = json.dumps(body, ensure_ascii=False)
    (tmp_path / "all.ndjson").write_text(
        "\n".join(["", json.dumps(ANNA), "", text, ""]), encoding="utf-8", newline="\r\n"
    )
    ((record,), problems) = sources(tmp_path)
    assert (numbers(record), problems) == ([1], [])


@pytest.mark.threat("E5")
def test_e5_a_byte_order_mark_is_skipped_and_told(tmp_path: Path) -> None:
    (tmp_path / "all.ndjson").write_bytes(b"\xef\xbb\xbf" + lines(ANNA, MEASURED))
    ((record,), problems) = sources(tmp_path)
    assert numbers(record) == [1]
    assert codes(problems) == ["DATA108"]


BAD_LINES = {
    "E4": (
        b'{"resourceType":"Observation","status":"final","status":"entered-in-error"}',
        "DATA103",
    ),
    "E5": (b'{"resourceType":', "DATA102"),
    "E6 UTF-8": (b'{"resourceType":"Obs\xff"}', "DATA101"),
    "E6 UTF-16": ('{"resourceType":"Observation"}'.encode("utf-16-le"), "DATA102"),
    "E6 surrogate": (rb'{"resourceType":"Observation","id":"\ud800"}', "DATA106"),
    "E6 NUL": (rb'{"resourceType":"Observation","id":"\u0000"}', "DATA106"),
    "E7": (b'{"resourceType":"Observation","valueInteger":NaN}', "DATA104"),
    "E8": (b'{"resourceType":"observation","id":"1"}', "DATA110"),
    "depth": (b'{"a":' * 70 + b"1" + b"}" * 70, "DATA105"),
}


@pytest.mark.parametrize("row", BAD_LINES)
@pytest.mark.threat("E4", "E5", "E6", "E7", "E8")
def test_a_bad_line_is_numbered_and_the_others_go_on(row: str, tmp_path: Path) -> None:
    """E4 to E8: one line each, in the middle of a file."""
    bad, code = BAD_LINES[row]
    (tmp_path / "all.ndjson").write_bytes(lines(ANNA) + bad + b"\n" + lines(MEASURED))
    ((record,), problems) = sources(tmp_path)
    assert numbers(record) == [1]
    assert [(f.code, f.severity) for f in problems] == [(code, "error")]
    assert problems[0].where.startswith(f"{tmp_path / 'all.ndjson'} line 2")


@pytest.mark.parametrize("first", ["final", "entered-in-error"])
@pytest.mark.threat("E4")
def test_e4_a_key_given_twice_is_refused_in_either_order(first: str) -> None:
    second = {"final": "entered-in-error", "entered-in-error": "final"}[first]
    text = (
        encode(MEASURED)
        .decode()
        .replace('"status": "final"', f'"status": "{first}", "status": "{second}"')
    )
    with pytest.raises(InputError) as caught:
        read_fhir(text.encode(), "x", TERMS)
    assert codes(caught.value.findings) == ["DATA103"]


@pytest.mark.threat("E6")
def test_e6_bidirectional_marks_come_through_as_text() -> None:
    record = read(observation(valueString="\u202egnp.exe", id="a"))
    assert [f.value_text for f in facts_of(record)] == ["\u202egnp.exe"]


E8_SHAPES = {
    "R5": made("MedicationStatement", status="recorded", medication={"concept": coded("1")}),
    "STU3": made("Condition", clinicalStatus="active", code=coded("1")),
    "DSTU2": {"resourceType": "Condition", "id": "x", "patient": {"reference": "Patient/anna"}},
}


@pytest.mark.parametrize("release", E8_SHAPES)
@pytest.mark.threat("E8")
def test_e8_another_release_is_told_apart_from_no_data(release: str) -> None:
    record = read(E8_SHAPES[release])
    assert facts_of(record) == []
    (told,) = [f for f in record.findings if f.code == "DATA112"]
    assert f"FHIR {release}" in told.found
    assert "R4 (4.0.1)" in told.why
    assert "DATA112" not in codes(read().findings)


@pytest.mark.threat("E2")
def test_e2_an_unknown_modifier_means_not_used() -> None:
    for place in ({"modifierExtension": [{"url": "urn:x"}]}, {"implicitRules": "urn:x"}):
        record = read({**MEASURED, **place})
        assert (numbers(record), codes(record.findings)) == ([], ["DATA120"])


@pytest.mark.threat("E2")
def test_e2_an_absent_value_is_unknown_and_no_number() -> None:
    absent = observation(dataAbsentReason=coded("unknown"), valueInteger=4)
    assert [f.value for f in facts_of(read(absent))] == [None]


def test_many_faults_are_summed_up_in_each_record(tmp_path: Path) -> None:
    (tmp_path / "all.ndjson").write_bytes(lines(ANNA) + b"nothing\n" * 1500 + lines(MEASURED))
    ((record,), problems) = sources(tmp_path)
    assert [(f.code, f.severity) for f in record.findings] == [("DATA137", "warning")]
    assert "1500 faults" in record.findings[0].found
    assert len(problems) == 1001
    assert (problems[-1].code, problems[-1].found) == ("DATA137", "500 more faults like these")


def test_a_file_that_cannot_be_opened_leaves_the_others(tmp_path: Path) -> None:
    folder = export(tmp_path / "x", ANNA, MEASURED)
    (folder / "Gone.ndjson").symlink_to(folder / "nowhere")
    ((record,), problems) = sources(folder)
    assert numbers(record) == [1]
    assert said(problems) == [("DATA002", str(folder / "Gone.ndjson"))]


def test_a_full_disk_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise sqlite3.OperationalError("database or disk is full")

    monkeypatch.setattr(FhirDataSet, "add_file", full)
    (tmp_path / "a.json").write_bytes(encode([ANNA, MEASURED]))
    records, problems = sources(export(tmp_path / "x", BORIS), tmp_path / "a.json")
    assert [r.label for r in records] == ["anna"]
    assert said(problems) == [("DATA002", str(tmp_path / "x" / "Patient.000.ndjson"))]


def test_nobody_in_a_data_set_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "log.ndjson").write_bytes(b'{"exportId":"1"}\n')
    records, problems = sources(tmp_path)
    assert records == []
    assert codes(problems) == ["DATA111", "DATA110"]


def test_a_list_of_nobody_is_no_fault() -> None:
    worklist = {"resourceType": "List", "id": "w", "status": "current", "mode": "working"}
    record = read(worklist)
    assert [(f.code, f.severity) for f in record.findings] == [("DATA150", "info")]


# -- one meaning whatever the form -----------------------------------------------------------------


def judged(
    records: Any, kb: KnowledgeBase, trial: Trial, engine: ShaclEngine
) -> dict[str, list[tuple[Any, ...]]]:
    """Return what is decided of each patient, on which values, and what is missing."""
    return {
        record.label: told(kb.assess_record(record, trial, engine))
        for record in with_entry_dates(records, "2020-06-01", {})
    }


def told(assessment: Assessment) -> list[tuple[Any, ...]]:
    assert assessment.error is None, assessment.error
    return [
        (c.id, c.outcome, [(e.concept, e.value, e.unit, e.date) for e in c.evidence], c.missing)
        for criterion in assessment.criteria
        for c in criterion.clauses
    ]


def resources_in(path: Path) -> list[Json]:
    data = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    return [entry["resource"] for entry in json.loads(data)["entry"]]


@pytest.mark.parametrize("story", ["fhir-eligible", "fhir-anaemic"])
@pytest.mark.threat("D16")
def test_bundle_lines_folder_and_graph_are_judged_alike(
    story: str, tmp_path: Path, kb: KnowledgeBase, trial: Trial, engine: ShaclEngine
) -> None:
    terms = kb.reading_terms(trial)
    path = ROOT / "examples" / story / "bundle.json"
    as_bundle = judged(read_sources([path], terms)[0], kb, trial, engine)
    bodies = resources_in(path)
    random.Random(5).shuffle(bodies)
    (tmp_path / "lines").mkdir()
    (tmp_path / "lines" / "all.ndjson").write_bytes(lines(*bodies))
    as_lines = judged(read_sources([tmp_path / "lines"], terms)[0], kb, trial, engine)
    folder = export(tmp_path / "folder", *bodies, packed=True)
    as_folder = judged(read_sources([folder], terms)[0], kb, trial, engine)
    (record,) = read_sources([path], terms)[0]
    graph = tmp_path / "patient.ttl"
    write_patient(record).serialize(graph, format="turtle", encoding="utf-8")
    as_graph = judged(read_sources([graph], terms)[0], kb, trial, engine)
    assert as_lines == as_bundle
    assert as_folder == as_bundle
    assert as_graph == as_bundle
    assert len(as_bundle) == 1


RESULT = st.builds(
    lambda n, status, value, day: {
        "id": f"o{n}",
        "status": status,
        "valueQuantity": {"value": value, "unit": "g/dL"},
        "effectiveDateTime": f"2024-02-{day:02}",
    },
    st.integers(0, 3),
    st.sampled_from(["final", "preliminary", "entered-in-error", "amended"]),
    st.integers(1, 20),
    st.integers(1, 28),
)
SPECIMEN = {"resourceType": "Specimen", "status": "available", "type": coded("119376003")}


@st.composite
def people(draw: st.DrawFn) -> list[Json]:
    """Return the resources of one or two patients, with a specimen referred to or contained."""
    bodies: list[Json] = []
    for person in (ANNA, BORIS)[: draw(st.integers(1, 2))]:
        me = person["id"]
        bodies.append(person)
        bodies.append({**SPECIMEN, "id": f"s-{me}", "subject": {"reference": f"Patient/{me}"}})
        for given_result in draw(st.lists(RESULT, max_size=4)):
            bodies.append(
                of(
                    person,
                    **{
                        **given_result,
                        "id": f"{me}-{given_result['id']}",
                        "specimen": {"reference": f"Specimen/s-{me}"},
                    },
                )
            )
    return bodies


def content(records: list[PatientRecord]) -> list[tuple[Any, ...]]:
    """Return what records say, without where it stood."""

    def plain(fact: Fact) -> tuple[Any, ...]:
        return (fact.id, fact.status, fact.concepts, fact.value, fact.start, fact.axes)

    return [(r.patient, sorted(map(plain, r.facts), key=repr)) for r in records]


def contained(body: Json) -> Json:
    if body["resourceType"] != "Observation":
        return body
    inside = {**SPECIMEN, "id": "s"}
    return {**body, "contained": [inside], "specimen": {"reference": "#s"}}


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(people(), st.randoms(use_true_random=False))
@pytest.mark.threat("D16", "C6")
def test_form_and_order_do_not_matter(bodies: list[Json], chance: random.Random) -> None:
    expected = content(read_fhir(encode(bodies), "x", TERMS))
    shuffled = [*bodies]
    chance.shuffle(shuffled)
    forms: list[Callable[[], bytes]] = [
        lambda: encode(shuffled),
        lambda: bundle("collection", *map(entry, shuffled)),
        lambda: bundle(
            "searchset",
            *(
                entry(b, fullUrl=f"http://x.example/{b['resourceType']}/{b['id']}")
                for b in shuffled
            ),
        ),
        lambda: lines(*shuffled) + b"\n",
        lambda: encode([contained(body) for body in shuffled]),
        lambda: bundle("collection", entry(json.loads(bundle("batch", *map(entry, shuffled))))),
    ]
    for form in forms:
        assert content(read_fhir(form(), "x", TERMS)) == expected


# -- memory ----------------------------------------------------------------------------------------

PROGRAM = """
import json, resource, sys
sys.path.insert(0, {tests!r})
from test_fhir import TERMS
from sarc_kb.sources.fhir import FhirDataSet
from sarc_kb.sources.patients import Patients

class Made:
    def __init__(self, patients):
        self.lines = self.make(patients)
    def make(self, patients):
        for kind in ("Patient", "Observation"):
            for n in range(patients * (1 if kind == "Patient" else 20)):
                who = n % patients
                body = dict(resourceType=kind, id=str(n))
                if kind == "Observation":
                    body |= dict(status="final", subject=dict(reference=f"Patient/{{who}}"),
                                 valueInteger=n, note=[dict(text="x" * 400)])
                yield json.dumps(body).encode() + b"\\n"
    def readline(self, size):
        return next(self.lines, b"")

dataset = FhirDataSet(TERMS, "x")
dataset.add(Made(int(sys.argv[1])), "x", "")
patients = Patients()
patients.add_dataset(dataset)
seen = facts = 0
for record in patients:
    seen += 1
    facts += len(record.facts)
print(seen, facts, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


@pytest.mark.threat("B12")
def test_memory_does_not_grow_with_the_number_of_patients() -> None:
    """Eight times the patients, 30 MB of lines and more: no more memory than the page cache."""
    peaks = {}
    for patients in (400, 3200):
        program = PROGRAM.format(tests=str(Path(__file__).parent))
        command = [sys.executable, "-c", program, str(patients)]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        seen, facts, peak = map(int, done.stdout.split())
        assert (seen, facts) == (patients, 20 * patients)
        peaks[patients] = peak
    unit = 1024 if sys.platform != "darwin" else 1
    assert (peaks[3200] - peaks[400]) * unit < 45_000_000, peaks
    assert system.RUSAGE_SELF == 0


def test_patients_can_be_counted_and_gone_through_again(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_bytes(encode([ANNA, MEASURED]))
    export(tmp_path / "x", BORIS)
    patients, problems = read_sources(
        [tmp_path / "a.json", tmp_path / "x", tmp_path / "a.json"], READING
    )
    assert isinstance(patients, Patients)
    assert problems == []
    assert len(patients) == 3
    assert [r.label for r in patients] == [r.label for r in patients] == ["anna", "boris", "anna"]
    assert [codes(r.findings) for r in patients] == [["DATA003"], [], ["DATA003"]]


def test_a_date_and_an_instant_stay_one_moment_on_the_way_through_the_disk(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_bytes(encode([ANNA, MEASURED]))
    ((record,), _) = sources(tmp_path / "a.json")
    (fact,) = facts_of(record)
    assert fact.start is fact.end is not None
    assert record == the_only_of(tmp_path / "a.json")


def the_only_of(path: Path) -> PatientRecord:
    (record,) = read_fhir(path.read_bytes(), str(path), TERMS)
    return record


def test_a_data_set_of_no_file_has_nobody() -> None:
    with FhirDataSet(TERMS, "x") as dataset:
        assert list(dataset.records()) == []
        dataset.add(io.BytesIO(b""), "x", "")
        assert (len(dataset), dataset.problems) == (0, [])


def test_loinc_is_a_system_of_these_terms() -> None:
    assert TERMS.code(LOINC, "718-7") == "http://loinc.org/718-7"
