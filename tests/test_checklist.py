"""The checklist: every question is asked, in FHIR too, and its answers decide what they cover."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from fhir.resources.R4B.questionnaire import Questionnaire
from fhir.resources.R4B.questionnaireresponse import QuestionnaireResponse

from sarc_kb import cli
from sarc_kb.assessment import Outcome
from sarc_kb.dates import parse_date
from sarc_kb.explain import explain
from sarc_kb.facts import PatientRecord
from sarc_kb.kb import KnowledgeBase
from sarc_kb.namespaces import SARC
from sarc_kb.reports.checklist_report import (
    questions_in_order,
    render_fhir,
    render_json,
    render_text,
)
from sarc_kb.rules import Trial

# linkId, wording and clearing answer as the study's staff have them on paper.
with (Path(__file__).parent / "data" / "checklist.csv").open(encoding="utf-8", newline="") as table:
    PRINTED = {row["linkId"]: row for row in csv.DictReader(table)}


@pytest.fixture(scope="module")
def questionnaire(kb: KnowledgeBase, trial: Trial) -> dict[str, Any]:
    parsed = json.loads(render_fhir(trial, kb.info))
    assert isinstance(parsed, dict)
    return parsed


def test_questions_are_those_of_the_printed_checklist(
    kb: KnowledgeBase, trial: Trial, questionnaire: dict[str, Any]
) -> None:
    assert len(PRINTED) > 30
    asked = {item["linkId"]: item["text"] for item in questionnaire["item"]}
    assert asked == {link_id: row["text"] for link_id, row in PRINTED.items()}
    listed = json.loads(render_json(trial, kb.info))["questions"]
    clearing = {q["link_id"]: str(q["clearing_answer"]).lower() for q in listed}
    assert clearing == {link_id: row["clearing_answer"] for link_id, row in PRINTED.items()}


def test_criteria_are_those_of_the_printed_checklist(kb: KnowledgeBase, trial: Trial) -> None:
    """The table writes I8 and "E9 (b, c)" for I08 and E09."""
    for question in json.loads(render_json(trial, kb.info))["questions"]:
        printed = PRINTED[question["link_id"]]["criterion"]
        numbers = [part.split("(")[0].strip() for part in printed.replace("(b, c)", "").split(",")]
        assert question["criteria"] == [f"{n[0]}{int(n[1:]):02}" for n in numbers]


def test_it_is_a_questionnaire(questionnaire: dict[str, Any]) -> None:
    """Checked by a model of FHIR that is not ours."""
    read = Questionnaire.model_validate(questionnaire)
    assert len(read.item) == len(questionnaire["item"])
    assert read.url == "https://w3id.org/sarc-kb/trial/NCT05602415/checklist"
    with pytest.raises(ValueError, match="linkId"):
        Questionnaire.model_validate({**questionnaire, "item": [{"text": "?", "type": "boolean"}]})


def test_version_changes_with_the_knowledge_base(kb: KnowledgeBase, trial: Trial) -> None:
    other = json.loads(render_fhir(trial, replace(kb.info, sha256="0" * 64)))
    same = json.loads(render_fhir(trial, kb.info))
    assert other["version"] != same["version"]
    assert {**other, "version": ""} == {**same, "version": ""}


def test_items_are_enabled_by_items_before_them(questionnaire: dict[str, Any]) -> None:
    seen: set[str] = set()
    conditions = {}
    for item in questionnaire["item"]:
        assert item["linkId"] not in seen
        for condition in item.get("enableWhen", ()):
            assert condition["question"] in seen
            conditions[item["linkId"]] = condition
        seen.add(item["linkId"])
    # Contraception matters unless there is no childbearing potential; silence hides nothing.
    assert conditions == {
        "effective-contraception": {
            "question": "childbearing-potential",
            "operator": "!=",
            "answerBoolean": False,
        }
    }


def test_questions_follow_the_protocol(trial: Trial) -> None:
    order = [c for criterion in trial.criteria for c in criterion.clauses]
    firsts = [min(map(order.index, q.covers)) for q in questions_in_order(trial)]
    assert firsts == sorted(firsts)
    assert len(firsts) == len(trial.questions)


def test_every_clause_that_a_person_may_settle_has_a_question(trial: Trial) -> None:
    asked = {clause for q in trial.questions for clause in q.covers}
    judged = [c for c in trial.clauses.values() if c.component == "attested"]
    silent = [c for c in trial.clauses.values() if c.attestable]
    assert len(judged) > 5
    assert len(silent) > 40
    assert [c.id for c in (*judged, *silent) if c.iri not in asked] == []


def test_clearing_every_question_leaves_nothing_attestable_open(
    kb: KnowledgeBase, trial: Trial
) -> None:
    """On a record that says nothing else at all."""
    record = PatientRecord("p", "p", parse_date("2024-03-01"), ())
    answers = {q.link_id: "yes" if q.clearing == str(SARC.Yes) else "no" for q in trial.questions}
    prepared = kb.prepare(record, trial, attested=answers)
    grounds = {c.id: explain(prepared, c) for c in trial.clauses.values()}
    open_ = {name for name, ground in grounds.items() if ground.unproven and not ground.refuted}
    assert [c.id for c in trial.clauses.values() if c.attestable and c.id in open_] == []
    assert not any(ground.refuted for ground in grounds.values())
    # What only a record can say stays open: age, size, laboratory values, histology and so on.
    assert {"I03", "I05", "I07a", "I06b"} <= open_
    # Without the answers, all of it is open.
    silent = kb.prepare(record, trial)
    assert all(explain(silent, c).unproven for c in trial.clauses.values() if c.attestable)


def response(questionnaire: dict[str, Any], answers: dict[str, bool]) -> dict[str, Any]:
    """Fill in the form as a form filler does: an item that is not enabled has no answer."""
    items = []
    for item in questionnaire["item"]:
        enabled = all(
            answers.get(c["question"]) is not c["answerBoolean"] for c in item.get("enableWhen", ())
        )
        if enabled and item["linkId"] in answers:
            given = {"valueBoolean": answers[item["linkId"]]}
            items.append({"linkId": item["linkId"], "text": item["text"], "answer": [given]})
    filled = {
        "resourceType": "QuestionnaireResponse",
        "id": "screening",
        "questionnaire": f"{questionnaire['url']}|{questionnaire['version']}",
        "status": "completed",
        "subject": {"reference": "Patient/p"},
        "authored": "2024-02-28",
        "author": {"display": "study nurse"},
        "item": items,
    }
    QuestionnaireResponse.model_validate(filled)
    return filled


def outcomes(
    kb: KnowledgeBase, folder: Path, filled: dict[str, Any], gender: str = "male"
) -> tuple[dict[str, Outcome], dict[str, Outcome]]:
    """Judge a patient of whom nothing but the response is known; return criteria and clauses."""
    patient = {"resourceType": "Patient", "id": "p", "gender": gender, "birthDate": "1990-01-01"}
    bundle = {
        "resourceType": "Bundle",
        "type": "collection",
        "entry": [
            {"fullUrl": f"https://example.org/fhir/{r['resourceType']}/{r['id']}", "resource": r}
            for r in (patient, filled)
        ],
    }
    path = folder / "bundle.json"
    path.write_text(json.dumps(bundle), encoding="utf-8")
    (assessment,) = kb.validate(path, entry_date="2024-03-01").assessments
    assert assessment.error is None
    return (
        {c.id: c.outcome for c in assessment.criteria},
        {c.id: c.outcome for criterion in assessment.criteria for c in criterion.clauses},
    )


def test_a_response_to_it_is_read(
    kb: KnowledgeBase, trial: Trial, questionnaire: dict[str, Any], tmp_path: Path
) -> None:
    clearing = {q.link_id: q.clearing == str(SARC.Yes) for q in trial.questions}
    criteria, clauses = outcomes(kb, tmp_path, response(questionnaire, clearing), "female")
    cleared = {
        trial.clauses[c].id
        for q in trial.questions
        for c in q.covers
        if trial.clauses[c].attestable or trial.clauses[c].component == "attested"
    }
    # Not asked, because there is no childbearing potential; the criterion passes all the same.
    assert {c for c in cleared if clauses[c] is not Outcome.PASS} == {"E09k"}
    assert criteria["E09"] is Outcome.PASS
    assert Outcome.FAIL not in criteria.values()
    assert all(criteria[c] is Outcome.PASS for c in ("I08", "I11", "E07", "E12", "E16", "E19"))


def test_a_denying_response_fails_what_it_is_about(
    kb: KnowledgeBase, questionnaire: dict[str, Any], tmp_path: Path
) -> None:
    answers = {"willing-and-able": False, "metastasis": True, "uncontrolled-seizures": False}
    criteria, _ = outcomes(kb, tmp_path, response(questionnaire, answers))
    assert criteria["I08"] is criteria["E19"] is Outcome.FAIL
    assert criteria["E08"] is Outcome.PASS
    assert criteria["E16"] is Outcome.UNDETERMINED, "an item left out says nothing"


def test_contraception_is_asked_unless_it_cannot_matter(
    questionnaire: dict[str, Any],
) -> None:
    for potential, asked in ((True, True), (None, True), (False, False)):
        answers = {"effective-contraception": True}
        if potential is not None:
            answers["childbearing-potential"] = potential
        links = {i["linkId"] for i in response(questionnaire, answers)["item"]}
        assert ("effective-contraception" in links) is asked


@pytest.mark.parametrize("form", ["text", "fhir", "json"])
def test_command(
    form: str,
    kb: KnowledgeBase,
    trial: Trial,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(KnowledgeBase, "load", classmethod(lambda _, root=None: kb))
    assert cli.main(["checklist", "--format", form]) == 0
    out = capsys.readouterr().out
    expected = {
        "text": render_text(trial, kb.terms),
        "fhir": render_fhir(trial, kb.info),
        "json": render_json(trial, kb.info),
    }
    assert out == expected[form]
    for link_id in PRINTED:
        assert link_id in out
