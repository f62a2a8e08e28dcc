"""`sarc-kb screen` reads what `validate` reads: the same patients from every kind of source."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from sarc_kb.cli import main
from sarc_kb.earliest import over_time
from sarc_kb.kb import KnowledgeBase
from sarc_kb.sources.read import read_sources
from tests.omop_tables import FORMS, Tables, source_of

EXAMPLES = Path(__file__).resolve().parent.parent / "examples"
STORIES = ("fhir-eligible", "fhir-anaemic", "fhir-pelvis", "fhir-missing-data")

Rows = dict[tuple[str, ...], dict[str, str]]


def screened(folder: Path, *arguments: str) -> tuple[Rows, Rows]:
    """Run the command; return the rows of patients and of clauses, by what they are about."""
    code = main(["screen", *arguments, "-o", str(folder), "--format", "csv", "--workers", "1"])
    assert code == 0
    with (folder / "patients.csv").open(newline="", encoding="utf-8") as handle:
        patients = {(row["patient"], row["trial"]): row for row in csv.DictReader(handle)}
    with (folder / "clauses.csv").open(newline="", encoding="utf-8") as handle:
        clauses = {
            (row["patient"], row["trial"], row["criterion"], row["clause"]): row
            for row in csv.DictReader(handle)
        }
    return patients, clauses


def verdicts(kb: KnowledgeBase, *sources: Path | str, **options: str) -> dict[str, str]:
    return {a.patient: a.verdict.value for a in kb.validate(*sources, **options).assessments}


def resources_of(story: str) -> Iterator[dict[str, object]]:
    """Yield the resources of a bundle with ids that no other bundle has, as in an export."""
    text = (EXAMPLES / story / "bundle.json").read_text("utf-8")
    resources = [entry["resource"] for entry in json.loads(text)["entry"]]
    names = {f"{r['resourceType']}/{r['id']}" for r in resources if r["resourceType"] != "Patient"}
    for resource in resources:
        own = json.dumps(resource)
        for name in names:
            kind, _, id_ = name.partition("/")
            own = own.replace(json.dumps(name), json.dumps(f"{kind}/{story}-{id_}"))
        resource = json.loads(own)
        if resource["resourceType"] != "Patient":
            resource["id"] = f"{story}-{resource['id']}"
        yield resource


def test_fhir_lines_in_a_folder(kb: KnowledgeBase, tmp_path: Path) -> None:
    """The bundles of several patients as a bulk export, one file a type."""
    export = tmp_path / "export"
    export.mkdir()
    by_type: dict[str, list[str]] = {}
    for story in STORIES:
        for resource in resources_of(story):
            by_type.setdefault(str(resource["resourceType"]), []).append(json.dumps(resource))
    for kind, lines in by_type.items():
        (export / f"{kind}.ndjson").write_text("\n".join(lines) + "\n", encoding="utf-8")
    patients, _ = screened(tmp_path / "out", str(export))
    bundles = [EXAMPLES / story / "bundle.json" for story in STORIES]
    assert {p: row["verdict"] for (p, _), row in patients.items()} == verdicts(kb, *bundles)


def test_facts_of_a_source_are_screened_as_the_source(tmp_path: Path) -> None:
    paths = [str(EXAMPLES / story) for story in (*STORIES, "course-ladder", "unwilling")]
    facts = tmp_path / "facts.parquet"
    assert main(["facts", *paths, "-o", str(facts)]) == 0
    from_sources = screened(tmp_path / "sources", *paths)
    from_facts = screened(tmp_path / "facts", str(facts))
    assert from_facts == from_sources
    assert len(from_facts[0]) == len(paths)


def example_tables() -> Tables:
    """Return the tables of the OMOP examples as one CDM; persons have numbers of their own.

    Without the vocabulary: no standard concept of the examples needs it.
    """
    tables: dict[str, list[dict[str, object]]] = {}
    for folder in sorted(EXAMPLES.glob("omop-*")):
        for path in sorted(folder.glob("*.csv")):
            if path.name in ("expected.csv", "concept.csv"):
                continue
            with path.open(newline="", encoding="utf-8") as handle:
                rows = [{k: v or None for k, v in row.items()} for row in csv.DictReader(handle)]
            known = tables.setdefault(path.stem, [])
            known += [row for row in rows if row not in known]
    tables["cdm_source"] = tables["cdm_source"][:1]
    return {name: rows for name, rows in tables.items() if rows}


@contextmanager
def example_source(form: str, folder: Path) -> Iterator[tuple[str, str | None]]:
    with source_of(form, example_tables(), folder) as source:
        yield source


@pytest.mark.parametrize("form", FORMS)
def test_omop_in_every_form(form: str, kb: KnowledgeBase, tmp_path: Path) -> None:
    """On PostgreSQL the plan runs on the server, too."""
    with example_source(form, tmp_path) as (source, schema):
        arguments = ["--omop", source, "--entry-date", "2024-03-01"]
        arguments += ["--omop-schema", schema] if schema else []
        arguments += ["--engine", "postgres"] if form == "postgres" else []
        patients, clauses = screened(tmp_path / "out", *arguments)
        found = {p: row["verdict"] for (p, _), row in patients.items()}
        options = {"omop": source, "entry_date": "2024-03-01"} | (
            {"omop_schema": schema} if schema else {}
        )
        assert found == verdicts(kb, **options)
    assert len(found) == len(list(EXAMPLES.glob("omop-*")))
    assert len(set(found.values())) > 1
    assert len(clauses) >= 75 * len(found)


def test_waiting_is_followed(kb: KnowledgeBase, tmp_path: Path) -> None:
    """The rows of ``--earliest`` say what `sarc_kb.earliest` says of each patient; the counts, what
    was worked out by hand."""
    stories = ("eligible", "recurrent-after-chemotherapy", "anaemic", "excluded-histology")
    paths = [str(EXAMPLES / story) for story in stories]
    screened(tmp_path / "out", *paths, "--earliest")
    with (tmp_path / "out" / "earliest.csv").open(newline="", encoding="utf-8") as handle:
        rows = {row["patient"]: row for row in csv.DictReader(handle)}
    trial = kb.compile()
    records, _ = read_sources([Path(p) for p in paths], kb.reading_terms(trial))
    for record in records:
        found, row = over_time(kb, record, trial), rows.pop(record.label)
        assert row["verdict"] == found.verdict_now.value
        assert row["earliest"] == (found.earliest.date if found.earliest else "")
        assert row["if_repeated"] == (found.if_repeated.date if found.if_repeated else "")
        assert row["expires"] == (found.expires.date if found.expires else "")
        assert row["blocked_by"].split() == list(found.blocked_by)
        assert not row["problem"]
        if record.label == "sarc-example-09":
            assert row["if_repeated"] == "2024-04-03"
    assert not rows
    summary = json.loads((tmp_path / "out" / "summary.json").read_text("utf-8"))
    (counts,) = summary["over_time"]
    # Chemotherapy that ended on 2023-10-02 lies within six months up to an entry on 2024-04-02;
    # nobody outlives an excluded histology or a low haemoglobin.
    assert counts == {
        "trial": trial.id,
        "horizon_days": 730,
        "eligible_now": 1,
        "by_waiting": 0,
        "if_repeated": 1,
        "expiring": 3,
        "not_followed": 0,
    }


def test_waiting_needs_a_day_of_entry_to_move(tmp_path: Path) -> None:
    arguments = ["screen", str(EXAMPLES / "eligible"), "-o", str(tmp_path / "out"), "--earliest"]
    assert main([*arguments, "--as-of", "2024-03-01"]) == 2
    assert main([*arguments, "--only", "treatment"]) == 2
    assert not (tmp_path / "out").exists()
