"""What `sarc-kb export` writes of the rules: well-formed for libraries that nobody here wrote, with
values that were worked out by hand, and an account that leaves no rule out."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fhir.resources.bundle import Bundle as BundleR5
from fhir.resources.R4B.bundle import Bundle as BundleR4
from rdflib import RDF

from sarc_kb.cli import main
from sarc_kb.export import account, circe, fhir_r4, fhir_r5
from sarc_kb.export.account import Account, Carried
from sarc_kb.export.codes import Codebook
from sarc_kb.kb import KnowledgeBase
from sarc_kb.namespaces import SARC
from sarc_kb.rules import Trial
from tests.tiny_trial import build_tiny

FORMATS = {"fhir-r4": fhir_r4.export, "fhir-r5": fhir_r5.export, "circe": circe.export}
LOINC, SNOMED, UCUM = "http://loinc.org", "http://snomed.info/sct", "http://unitsofmeasure.org"
OURS = "https://w3id.org/sarc-kb/ontology"

Exported = dict[str, tuple[Any, Account]]


def exported(kb: KnowledgeBase, trial: Trial) -> Exported:
    book = Codebook(kb.terms, kb.root)
    made = {name: export(trial, book, kb.info) for name, export in FORMATS.items()}
    return {name: (json.loads(text), found) for name, (text, found) in made.items()}


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> KnowledgeBase:
    return KnowledgeBase.load(build_tiny(tmp_path_factory.mktemp("tiny")))


@pytest.fixture(scope="module")
def real_out(kb: KnowledgeBase, trial: Trial) -> Exported:
    return exported(kb, trial)


@pytest.fixture(scope="module")
def tiny_out(tiny: KnowledgeBase) -> Exported:
    return exported(tiny, tiny.compile())


@pytest.fixture(params=["real", "tiny"])
def out(request: pytest.FixtureRequest) -> Exported:
    return request.getfixturevalue(f"{request.param}_out")


def carriage(found: Account, name: str) -> tuple[Carried, tuple[str, ...]]:
    (entry,) = (e for e in found.entries if e.id == name)
    return entry.carriage.carried, entry.carriage.lost


def resource(document: Any, kind: str) -> Any:
    (found,) = (e["resource"] for e in document["entry"] if e["resource"]["resourceType"] == kind)
    return found


def characteristic(document: Any, name: str) -> Any:
    """Return the characteristic of R4's Group with that id."""
    (found,) = (c for c in resource(document, "Group")["characteristic"] if c["id"] == name)
    return found


def linked(value: Any) -> Iterator[Any]:
    """Yield the characteristics of R5's EvidenceVariable, however deep they lie."""
    for one in value:
        yield one
        yield from linked(one.get("definitionByCombination", {}).get("characteristic", ()))


def variable(document: Any, name: str) -> Any:
    every = linked(resource(document, "EvidenceVariable")["characteristic"])
    (found,) = (c for c in every if c.get("linkId") == name)
    return found


def inclusion(document: Any, name: str) -> Any:
    (found,) = (r for r in document["InclusionRules"] if r["name"].split()[0] == name)
    return found


# -- the account leaves nothing out ---------------------------------------------------------------
@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("which", ["kb", "tiny"])
def test_every_rule_and_clause_is_accounted_for_once(
    name: str, which: str, request: pytest.FixtureRequest
) -> None:
    base = request.getfixturevalue(which)
    _, found = request.getfixturevalue("real_out" if which == "kb" else "tiny_out")[name]
    graph = base.trial_graph(base.default_trial())
    kinds = (SARC.InclusionCriterion, SARC.ExclusionCriterion, SARC.TreatmentRule, SARC.Clause)
    # A clause that is no rule counts where some rule leads to it, in the readings chosen; asked of
    # the files themselves.
    rules = {str(s) for kind in kinds[:3] for s in graph.subjects(RDF.type, kind)}
    reached = {
        str(row[0])
        for row in graph.query(
            "SELECT DISTINCT ?clause WHERE { ?rule (sh:and/rdf:rest*/rdf:first|sh:or/rdf:rest*/rdf:first|sarc:compares)*"
            " ?clause . ?clause a sarc:Clause . ?rule a ?kind . VALUES ?kind { sarc:InclusionCriterion"
            " sarc:ExclusionCriterion sarc:TreatmentRule } }",
            initNs={"sh": "http://www.w3.org/ns/shacl#", "sarc": SARC, "rdf": RDF},
        )
    }
    assert Counter(e.iri for e in found.entries) == Counter(rules | reached)
    assert len(found.entries) > 100 if which == "kb" else len(found.entries) == 3


@pytest.mark.parametrize("name", FORMATS)
def test_what_is_not_carried_exactly_says_why(name: str, out: Exported) -> None:
    _, found = out[name]
    for entry in found.entries:
        assert (entry.carriage.carried is Carried.EXACTLY) == (not entry.carriage.lost), entry.id
    assert found.notes


@pytest.mark.parametrize("name", FORMATS)
def test_the_account_can_be_read(name: str, out: Exported) -> None:
    _, found = out[name]
    document = json.loads(account.render_json(found))
    text = account.render_text(found)
    assert [e["id"] for e in document["entries"]] == [e.id for e in found.entries]
    for entry in found.entries:
        assert text.count(f"\n  {entry.id}  ") == 1
    for counts in document["counts"].values():
        assert set(counts) == {"exactly", "in part", "not"}
    assert sum(n for c in document["counts"].values() for n in c.values()) == len(found.entries)


def test_rules_about_treatment_are_told_as_not_carried(trial: Trial, real_out: Exported) -> None:
    rules = set(trial.graph.subjects(RDF.type, SARC.TreatmentRule))
    for _, found in real_out.values():
        told = {e.id: e for e in found.entries if e.kind == "treatment"}
        assert len(told) == len(rules) > 20
        assert {e.carriage.carried for e in told.values()} == {Carried.NOT}
        # A clause on eligibility that a treatment rule judges again stands as on eligibility.
        assert "treatment" not in " ".join(carriage(found, "I04d")[1])


def test_what_the_account_calls_carried_is_in_the_document(out: Exported) -> None:
    document, found = out["fhir-r4"]
    ids = [c["id"] for c in resource(document, "Group")["characteristic"]]
    assert len(ids) == len(set(ids))
    carried = {e.id for e in found.entries if e.carriage.carried is not Carried.NOT}
    clauses = {e.id for e in found.entries if e.kind == "clause"}
    assert carried & clauses <= set(ids)
    document, found = out["fhir-r5"]
    links = [
        c.get("linkId") for c in linked(resource(document, "EvidenceVariable")["characteristic"])
    ]
    named = Counter(filter(None, links))
    assert set(named.values()) == {1}
    every = {e.id for e in found.entries if "treatment" not in " ".join(e.carriage.lost)}
    assert len(every) > 2
    assert every <= set(named)
    document, found = out["circe"]
    rules = {r["name"].split()[0] for r in document["InclusionRules"]}
    assert rules == {
        e.id
        for e in found.entries
        if e.kind in ("inclusion", "exclusion") and e.carriage.carried is not Carried.NOT
    }


# -- libraries that nobody here wrote ----------------------------------------------------------------
def test_fhir_r4_is_well_formed(out: Exported) -> None:
    bundle = BundleR4.model_validate(out["fhir-r4"][0])
    kinds = Counter(entry.resource.__resource_type__ for entry in bundle.entry)
    assert kinds["ResearchStudy"] == kinds["Group"] == 1


def test_fhir_r5_is_well_formed(out: Exported) -> None:
    bundle = BundleR5.model_validate(out["fhir-r5"][0])
    kinds = Counter(entry.resource.__resource_type__ for entry in bundle.entry)
    assert kinds["ResearchStudy"] == kinds["EvidenceVariable"] == 1


def test_references_lead_somewhere(real_out: Exported) -> None:
    for name in ("fhir-r4", "fhir-r5"):
        document, _ = real_out[name]
        ids = {f"{e['resource']['resourceType']}/{e['resource']['id']}" for e in document["entry"]}
        assert len(ids) == len(document["entry"])
        urls = [e["fullUrl"] for e in document["entry"]]
        assert len(set(urls)) == len(urls)
    study = resource(real_out["fhir-r4"][0], "ResearchStudy")
    assert study["enrollment"] == [{"reference": "Group/eligibility-NCT05602415"}]
    assert "Group/eligibility-NCT05602415" in {
        f"{e['resource']['resourceType']}/{e['resource']['id']}"
        for e in real_out["fhir-r4"][0]["entry"]
    }


def test_circe_reads_it(out: Exported) -> None:
    import circe as ohdsi

    document, _ = out["circe"]
    expression = ohdsi.cohort_expression_from_json(json.dumps(document))
    assert len(expression.inclusion_rules) == len(document["InclusionRules"])
    assert [s.id for s in expression.concept_sets] == [s["id"] for s in document["ConceptSets"]]
    ids = {s["id"] for s in document["ConceptSets"]}
    assert set(circe._codeset_ids(document["InclusionRules"])) == ids


PEOPLE = {
    # name: (day and value and unit concept of the haemoglobin, day and concept of a transfusion)
    "at the limit": (("2024-02-21", 9.0, 8713), None),
    "below it": (("2024-02-21", 8.9, 8713), None),
    "in g/L": (("2024-02-21", 90.0, 8636), None),
    "in g/L below": (("2024-02-21", 89.0, 8636), None),
    "on the first day": (("2024-02-16", 9.4, 8713), None),
    "a day too early": (("2024-02-15", 9.4, 8713), None),
    "after entry": (("2024-03-02", 9.4, 8713), None),
    "without a unit": (("2024-02-21", 9.4, None), None),
    "nothing on record": (None, None),
    "transfused": (("2024-02-21", 9.4, 8713), ("2024-02-16", 4201540)),
    "given red cells": (("2024-02-21", 9.4, 8713), ("2024-03-01", 4022173)),
    "given something below": (("2024-02-21", 9.4, 8713), ("2024-02-20", 999)),
    "transfused too long ago": (("2024-02-21", 9.4, 8713), ("2024-02-15", 4201540)),
}
TABLES = """
CREATE TABLE concept (concept_id BIGINT, invalid_reason VARCHAR);
CREATE TABLE concept_ancestor (ancestor_concept_id BIGINT, descendant_concept_id BIGINT);
CREATE TABLE observation_period (observation_period_id BIGINT, person_id BIGINT,
    observation_period_start_date DATE, observation_period_end_date DATE);
CREATE TABLE visit_occurrence (visit_occurrence_id BIGINT, person_id BIGINT, visit_concept_id BIGINT,
    visit_start_date DATE, visit_end_date DATE);
CREATE TABLE measurement (measurement_id BIGINT, person_id BIGINT, measurement_concept_id BIGINT,
    measurement_date DATE, value_as_number DOUBLE, unit_concept_id BIGINT, range_low DOUBLE,
    range_high DOUBLE, visit_occurrence_id BIGINT);
CREATE TABLE procedure_occurrence (procedure_occurrence_id BIGINT, person_id BIGINT,
    procedure_concept_id BIGINT, procedure_date DATE, quantity BIGINT, visit_occurrence_id BIGINT);
CREATE TABLE cohort (cohort_definition_id BIGINT, subject_id BIGINT, cohort_start_date DATE,
    cohort_end_date DATE);
INSERT INTO concept VALUES (3000963, NULL), (4201540, NULL), (4022173, NULL), (999, NULL);
INSERT INTO concept_ancestor VALUES (4201540, 999);
"""


def test_the_cohort_definition_selects_whom_the_rules_let_in(tiny_out: Exported) -> None:
    """OHDSI's own SQL, made from the exported definition, run on a database of OMOP tables."""
    import circe as ohdsi
    import duckdb
    from circe import sqlrender
    from circe.cohortdefinition import BuildExpressionQueryOptions

    database = duckdb.connect()
    database.execute(TABLES)
    for number, (blood, transfusion) in enumerate(PEOPLE.values()):
        database.execute(
            "INSERT INTO observation_period VALUES (?, ?, '2024-01-01', '2024-12-31')", [number] * 2
        )
        database.execute(
            "INSERT INTO visit_occurrence VALUES (?, ?, 9202, '2024-03-01', '2024-03-01')",
            [number] * 2,
        )
        if blood is not None:
            database.execute(
                "INSERT INTO measurement VALUES (?, ?, 3000963, ?, ?, ?, NULL, NULL, NULL)",
                [number, number, *blood],
            )
        if transfusion is not None:
            day, concept = transfusion
            database.execute(
                "INSERT INTO procedure_occurrence VALUES (?, ?, ?, ?, 1, NULL)",
                [number, number, concept, day],
            )
    options = BuildExpressionQueryOptions()
    options.cdm_schema = options.vocabulary_schema = options.result_schema = "main"
    options.target_table, options.cohort_id = "cohort", 1
    expression = ohdsi.cohort_expression_from_json(json.dumps(tiny_out["circe"][0]))
    sql = sqlrender.render(
        ohdsi.build_cohort_query(expression, options),
        target_database_schema="main",
        target_cohort_table="cohort",
        cohort_id_field_name="cohort_definition_id",
    )
    database.execute(sqlrender.translate(sql, "duckdb"))
    names = list(PEOPLE)
    rows = database.execute("SELECT subject_id, cohort_start_date FROM cohort").fetchall()
    assert {names[number]: str(day) for number, day in rows} == dict.fromkeys(
        ("at the limit", "in g/L", "on the first day", "transfused too long ago"), "2024-03-01"
    )


# -- by hand ---------------------------------------------------------------------------------------
HAEMOGLOBIN = {
    "coding": [
        {"system": LOINC, "code": "718-7", "display": "Hemoglobin [Mass/volume] in Blood"},
        {"system": OURS, "code": "Haemoglobin", "display": "haemoglobin"},
    ],
    "text": "haemoglobin",
}


def gram_per_decilitre(value: float) -> dict[str, object]:
    return {"value": value, "unit": "g/dL", "system": UCUM, "code": "g/dL"}


def test_haemoglobin_in_r4(real_out: Exported) -> None:
    document, found = real_out["fhir-r4"]
    assert characteristic(document, "I07a") == {
        "id": "I07a",
        "code": HAEMOGLOBIN,
        "valueRange": {"low": gram_per_decilitre(9)},
        "exclude": False,
    }
    carried, lost = carriage(found, "I07a")
    assert carried is Carried.IN_PART
    assert lost == ("when: look-back for laboratory tests, days", "that the latest value counts")


def test_haemoglobin_in_r5(real_out: Exported) -> None:
    document, found = real_out["fhir-r5"]
    made = variable(document, "I07a")
    assert made["definitionByTypeAndValue"] == {
        "type": HAEMOGLOBIN,
        "valueRange": {"low": gram_per_decilitre(9)},
    }
    (time,) = made["timeFromEvent"]
    assert time["eventCodeableConcept"]["coding"][0]["code"] == "StudyEntry"
    assert [time["range"][end]["value"] for end in ("low", "high")] == [-14, 0]
    assert time["range"]["low"]["code"] == "d"
    assert carriage(found, "I07a") == (Carried.IN_PART, ("that the latest value counts",))


def test_haemoglobin_in_circe(real_out: Exported) -> None:
    document, found_account = real_out["circe"]
    groups = inclusion(document, "I07")["expression"]["Groups"]
    names = {s["id"]: s["name"] for s in document["ConceptSets"]}
    (group,) = (
        g
        for g in groups
        if names[g["CriteriaList"][0]["Criteria"]["Measurement"]["CodesetId"]] == "haemoglobin"
    )
    assert group["Type"] == "ANY"
    found = {}
    for criteria in group["CriteriaList"]:
        measured = criteria["Criteria"]["Measurement"]
        (unit,) = measured["Unit"]
        found[unit["CONCEPT_ID"], unit["CONCEPT_NAME"]] = measured["ValueAsNumber"]
        assert criteria["StartWindow"]["Start"] == {"Days": 14, "Coeff": -1}
        assert criteria["StartWindow"]["End"] == {"Days": 0, "Coeff": 1}
        assert criteria["Occurrence"] == {"Type": 2, "Count": 1}  # at least one
    assert found == {
        (8713, "g/dL"): {"Value": 9, "Op": "gte"},
        (8636, "g/L"): {"Value": 90, "Op": "gte"},
        (8840, "mg/dL"): {"Value": 9000, "Op": "gte"},
    }
    assert "results in mg/mL: they count as not there" in carriage(found_account, "I07a")[1]
    (own,) = (s for s in document["ConceptSets"] if s["name"] == "haemoglobin")
    (item,) = own["expression"]["items"]
    assert (item["concept"]["CONCEPT_ID"], item["includeDescendants"]) == (3000963, True)


def test_age(real_out: Exported) -> None:
    eighteen = {"value": 18, "unit": "a", "system": UCUM, "code": "a"}
    made = characteristic(real_out["fhir-r4"][0], "I03")
    assert made["code"]["coding"][0] == {"system": LOINC, "code": "30525-0", "display": "Age"}
    assert made["valueRange"] == {"low": eighteen}
    assert carriage(real_out["fhir-r4"][1], "I03") == (Carried.EXACTLY, ())
    assert carriage(real_out["fhir-r5"][1], "I03") == (Carried.EXACTLY, ())
    expression = inclusion(real_out["circe"][0], "I03")["expression"]
    assert expression["DemographicCriteriaList"] == [{"Age": {"Value": 18, "Op": "gte"}}]
    assert carriage(real_out["circe"][1], "I03")[0] is Carried.IN_PART


def test_a_strict_limit_is_no_range(real_out: Exported) -> None:
    made = characteristic(real_out["fhir-r4"][0], "I04a")
    assert made["valueQuantity"] == {
        "value": 5,
        "comparator": ">",
        "unit": "cm",
        "system": UCUM,
        "code": "cm",
    }


def test_a_transfusion_before_treatment(real_out: Exported) -> None:
    """R4 has no window, and without one everybody ever transfused would be turned away."""
    made = characteristic(real_out["fhir-r4"][0], "E12")
    assert [c["system"] for c in made["code"]["coding"]] == ["https://w3id.org/sarc-kb/trial"]
    assert made["exclude"] is False
    assert "14 days before study treatment starts" in made["code"]["text"]
    assert carriage(real_out["fhir-r4"][1], "E12")[0] is Carried.NOT
    made = variable(real_out["fhir-r5"][0], "E12")
    assert made["exclude"] is True
    assert made["description"] == "Blood transfusions within 14 days prior to study start"
    assert made["definitionByTypeAndValue"]["valueBoolean"] is True
    coding = made["definitionByTypeAndValue"]["type"]["coding"]
    assert (coding[0]["system"], coding[0]["code"]) == (SNOMED, "301842006")
    (time,) = made["timeFromEvent"]
    event = time["eventCodeableConcept"]["coding"][0]["code"]
    assert event == "NCT05602415/treatment-start"
    assert [time["range"][end]["value"] for end in ("low", "high")] == [-14, 0]
    (criteria,) = inclusion(real_out["circe"][0], "E12")["expression"]["CriteriaList"]
    assert criteria["Occurrence"] == {"Type": 0, "Count": 0}  # exactly none
    assert criteria["StartWindow"]["Start"] == {"Days": 14, "Coeff": -1}


def test_alternatives(real_out: Exported) -> None:
    """Creatinine at most 150, or above it a clearance of at least 50: a tree in R5, words in R4."""
    document, found = real_out["fhir-r5"]
    ids = ("I07h", "I07l", "I07i")
    trees = [
        c["definitionByCombination"]
        for c in linked(resource(document, "EvidenceVariable")["characteristic"])
        if c.get("definitionByCombination", {}).get("code") == "any-of"
        and c["definitionByCombination"]["characteristic"][0].get("linkId") == "I07h"
    ]
    (tree,) = trees
    high, both = tree["characteristic"]
    assert high["definitionByTypeAndValue"]["valueRange"]["high"]["value"] == 150
    assert both["definitionByCombination"]["code"] == "all-of"
    assert [c["linkId"] for c in both["definitionByCombination"]["characteristic"]] == [
        "I07l",
        "I07i",
    ]
    assert {carriage(found, name)[0] for name in ids} == {Carried.IN_PART}
    document, found = real_out["fhir-r4"]
    assert {carriage(found, name)[0] for name in ids} == {Carried.NOT}
    assert "or" in " ".join(carriage(found, "I07")[1])
    told = [
        c for c in resource(document, "Group")["characteristic"] if "≤ 150" in c["code"]["text"]
    ]
    (words,) = told
    assert " or " in words["code"]["text"]
    assert "≥ 50" in words["code"]["text"]


def test_times_the_upper_limit_is_a_ratio_in_circe(real_out: Exported) -> None:
    document, _ = real_out["circe"]
    names = {s["id"]: s["name"] for s in document["ConceptSets"]}
    ratios = {
        names[m["CodesetId"]]: m["RangeHighRatio"]
        for c in inclusion(document, "I07")["expression"]["Groups"]
        for m in (x["Criteria"].get("Measurement", {}) for x in c["CriteriaList"])
        if "RangeHighRatio" in m
    }
    assert ratios == {
        "alanine aminotransferase": {"Value": 2.5, "Op": "lte"},
        "aspartate aminotransferase": {"Value": 2.5, "Op": "lte"},
    }


def test_an_exclusion_loses_no_condition(real_out: Exported) -> None:
    """What is denied only under a condition that the format lacks is never denied without it."""
    for name, (_, found) in real_out.items():
        for clause in ("E04b", "E07f", "E10a"):  # interferes with…, prohibits…, another tumour
            assert carriage(found, clause)[0] is Carried.NOT, (name, clause)
    made = variable(real_out["fhir-r5"][0], "E07f")
    assert "exclude" not in made
    assert set(made) == {"linkId", "description", "definitionCodeableConcept"}


def test_months_never_turn_anybody_away(real_out: Exported) -> None:
    """Six calendar months have 181 days at least: 31 August to 28 February of a common year."""
    (time,) = variable(real_out["fhir-r5"][0], "E14a")["timeFromEvent"]
    assert [time["range"][end]["value"] for end in ("low", "high")] == [-181, -1]
    (criteria,) = inclusion(real_out["circe"][0], "E14")["expression"]["CriteriaList"]
    assert criteria["StartWindow"]["Start"] == {"Days": 181, "Coeff": -1}
    assert criteria["StartWindow"]["End"] == {"Days": 1, "Coeff": -1}


def test_an_alternative_without_its_other_is_given_up(real_out: Exported) -> None:
    """E05: HIV infection alone has a concept id; under treatment is the other way to pass."""
    document, found = real_out["circe"]
    assert carriage(found, "E05a1")[0] is Carried.NOT
    assert "alternative" in carriage(found, "E05a1")[1][0]
    assert "HIV" not in json.dumps([s["name"] for s in document["ConceptSets"]])


def test_the_tiny_trial(tiny_out: Exported) -> None:
    carried = {
        name: {e.id: e.carriage.carried for e in found.entries}
        for name, (_, found) in tiny_out.items()
    }
    part, exactly, not_ = Carried.IN_PART, Carried.EXACTLY, Carried.NOT
    assert carried == {
        "fhir-r4": {"I01": part, "I02": not_, "E01": not_},
        "fhir-r5": {"I01": part, "I02": not_, "E01": exactly},
        "circe": {"I01": part, "I02": not_, "E01": exactly},
    }
    study = resource(tiny_out["fhir-r4"][0], "ResearchStudy")
    assert study["identifier"][0]["value"] == "TINY"
    assert "arm" not in study


def test_the_study(real_out: Exported) -> None:
    for name in ("fhir-r4", "fhir-r5"):
        study = resource(real_out[name][0], "ResearchStudy")
        assert study["title"] == "Anlotinib and Radiotherapy in Resectable Soft Tissue Sarcoma"
        assert study["period"] == {"start": "2022-11", "end": "2024-05"}
        (phase,) = study["phase"]["coding"]
        assert (phase["code"], phase["display"]) == ("C15601", "Phase II Trial")
    assert "status" not in resource(real_out["fhir-r4"][0], "ResearchStudy")


def test_unverified_codes_stay_out(kb: KnowledgeBase, real_out: Exported) -> None:
    unverified = set()
    for path in (kb.root / "ontology" / "mappings").glob("*.sssom.tsv"):
        for line in path.read_text("utf-8").splitlines():
            if line.endswith("\tno"):
                unverified.add(line.partition("\t")[0].partition(":")[2])
    assert len(unverified) > 10
    for name in ("fhir-r4", "fhir-r5"):
        codes = {c["code"] for c in codings(real_out[name][0])}
        assert len(codes) > 50
        assert not codes & unverified


def codings(value: Any) -> Iterator[Any]:
    if isinstance(value, dict):
        if isinstance(value.get("coding"), list):
            yield from value["coding"]
        for held in value.values():
            yield from codings(held)
    elif isinstance(value, list):
        for held in value:
            yield from codings(held)


# -- the command -----------------------------------------------------------------------------------
def test_the_same_bytes_each_time(tiny: KnowledgeBase, tmp_path: Path) -> None:
    program = (
        "import sys\nfrom sarc_kb.cli import main\n"
        "for f in ('fhir-r4', 'fhir-r5', 'circe', 'dcat', 'alignments'):\n"
        "    assert main(['export', '--rules', sys.argv[1], '--format', f, '--output', f'{sys.argv[2]}.{f}']) == 0\n"
    )
    for seed in ("1", "2"):
        subprocess.run(
            [sys.executable, "-c", program, str(tiny.root), str(tmp_path / seed)],
            env={**os.environ, "PYTHONHASHSEED": seed, "TZ": f"UTC+{seed}"},
            check=True,
            capture_output=True,
        )
    for name in (*FORMATS, "dcat", "alignments"):
        first, second = ((tmp_path / f"{seed}.{name}").read_bytes() for seed in ("1", "2"))
        assert first == second
        assert len(first) > 1000


def test_what_the_caller_sets_is_carried_and_told(
    tiny: KnowledgeBase, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    where, told = tmp_path / "group.json", tmp_path / "account.json"
    code = main(
        [
            *("export", "--rules", str(tiny.root), "--format", "fhir-r4"),
            *("--relax", "I01:atLeast=8.5", "--output", str(where), "--account", str(told)),
        ]
    )
    assert code == 0
    assert capsys.readouterr().out == ""
    made = characteristic(json.loads(where.read_text("utf-8")), "I01")
    assert made["valueRange"]["low"]["value"] == 8.5
    assert "I01:atLeast=8.5" in json.loads(told.read_text("utf-8"))["notes"][0]
    assert "relaxed" in where.read_text("utf-8")


@pytest.mark.parametrize(
    "options",
    [
        ("--format", "dcat", "--trial", "TINY"),
        ("--format", "alignments", "--account", "a.json"),
        ("--format", "circe", "--site", "https://example.org/"),
        ("--format", "fhir-r4", "--trial", "NONE"),
    ],
)
def test_what_cannot_be_is_refused(
    options: tuple[str, ...],
    tiny: KnowledgeBase,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    where = tmp_path / "out"
    assert main(["export", "--rules", str(tiny.root), *options, "--output", str(where)]) == 2
    assert options[2] in capsys.readouterr().err
    assert not where.exists()
