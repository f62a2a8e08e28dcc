"""What a record says in free text stays in the record: a canary in every such field of a FHIR Bundle
comes out in no report, no log and no error."""

from __future__ import annotations

import json
import logging
import re
import zipfile
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from sarc_kb import cli
from sarc_kb.kb import KnowledgeBase

EXAMPLES = Path(__file__).resolve().parent.parent / "examples"
CANARY = "qzxcanary"
ANSWERER = "qzxanswerer"
"""Who gave an answer that decides, by name or role, is told on purpose: "answered by", and nowhere
else."""

_ANSWERS = "QuestionnaireResponse"
# Elements of FHIR that hold words of people, by their names (R4, datatypes and the resources that
# are read). Codes, identifiers, units and dates are no free text.
FREE_TEXT = (
    *("text", "display", "title", "description", "comment", "conclusion", "label", "detail"),
    *("family", "given", "prefix", "suffix", "line", "city", "district", "state", "postalCode", "country"),
    *("valueString", "valueMarkdown", "patientInstruction", "authorString", "userSelectedText"),
)  # fmt: skip


def marked(value: Any, numbers: Iterator[int], bird: str = CANARY) -> Any:
    """Return a part of a resource with a canary of its own in every free text."""
    if isinstance(value, list):
        return [marked(item, numbers, bird) for item in value]
    if not isinstance(value, dict):
        return value
    made = {}
    for name, member in value.items():
        if name in FREE_TEXT and isinstance(member, str):
            made[name] = f"{member} {bird}{next(numbers)}"
        elif (
            name in FREE_TEXT
            and isinstance(member, list)
            and all(isinstance(m, str) for m in member)
        ):
            made[name] = [f"{m} {bird}{next(numbers)}" for m in member]
        else:
            told = value.get("resourceType") in ("Practitioner", "PractitionerRole")
            told = told or (value.get("resourceType") == _ANSWERS and name in ("author", "source"))
            made[name] = marked(member, numbers, ANSWERER if told else bird)
    return made


def with_canaries(bundle: dict[str, Any]) -> tuple[dict[str, Any], int]:
    """Return the Bundle with canaries in the free text that it has, and in free text that any
    resource may have; and how many there are."""
    numbers = count()
    whole = marked(bundle, numbers)
    for entry in whole["entry"]:
        resource = entry["resource"]
        resource["text"] = {
            "status": "generated",
            "div": f'<div xmlns="http://www.w3.org/1999/xhtml">{CANARY}{next(numbers)}</div>',
        }
        resource.setdefault("extension", []).append(
            {"url": "https://example.org/remark", "valueString": f"{CANARY}{next(numbers)}"}
        )
        if resource["resourceType"] == "Patient":
            resource["name"] = [{"family": f"{CANARY}{next(numbers)}", "given": [f"{CANARY}{next(numbers)}"]}]  # fmt: skip
            resource["telecom"] = [{"system": "phone", "value": f"{CANARY}{next(numbers)}"}]
            resource["address"] = [{"line": [f"{CANARY}{next(numbers)}"], "city": f"{CANARY}{next(numbers)}"}]  # fmt: skip
            resource["contact"] = [{"name": {"text": f"{CANARY}{next(numbers)}"}}]
        elif resource["resourceType"] in ("Observation", "Condition", "Procedure", "AllergyIntolerance"):  # fmt: skip
            resource["note"] = [{"text": f"{CANARY}{next(numbers)}", "authorString": f"{CANARY}{next(numbers)}"}]  # fmt: skip
    return whole, next(numbers)


def words_of(report: Path) -> str:
    """Return the text of a report; of a workbook, that of its parts."""
    if not zipfile.is_zipfile(report):
        return report.read_text("utf-8")
    with zipfile.ZipFile(report) as book:
        return "".join(book.read(name).decode("utf-8") for name in book.namelist())


@pytest.fixture(autouse=True)
def loaded_once(kb: KnowledgeBase, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(KnowledgeBase, "load", classmethod(lambda _, root=None: kb))


@pytest.mark.parametrize("name", ["fhir-eligible", "fhir-course", "local-codes"])
@pytest.mark.threat("F1", "F2")
def test_free_text_comes_out_nowhere(
    name: str, tmp_path: Path, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    source = json.loads((EXAMPLES / name / "bundle.json").read_text("utf-8"))
    bundle, number = with_canaries(source)
    assert number > 2 * len(bundle["entry"])
    record = tmp_path / "bundle.json"
    record.write_text(json.dumps(bundle), encoding="utf-8")
    for form in cli.FORMATS:
        report = tmp_path / form
        assert cli.main(["validate", str(record), "--format", form, "-o", str(report)]) in (0, 1, 3)
        found = words_of(report)
        at = found.find(CANARY)
        assert at == -1, f"{form}: {found[max(0, at - 200) : at + 40]}"
        for place in re.finditer(ANSWERER, found):
            assert "answered by " in found[max(0, place.start() - 80) : place.start()]
    told = capfd.readouterr()
    assert CANARY not in told.out + told.err
    assert CANARY not in caplog.text


@pytest.mark.threat("F2")
def test_errors_tell_no_free_text(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    source = json.loads((EXAMPLES / "fhir-eligible" / "bundle.json").read_text("utf-8"))
    text = json.dumps(with_canaries(source)[0])
    (tmp_path / "cut.json").write_text(text[: len(text) // 2], encoding="utf-8")
    assert cli.main(["validate", str(tmp_path / "cut.json"), "--verbose"]) == 2

    def broken(*_: object) -> None:
        raise ValueError(f"the note says {CANARY}")

    # A fault of the program, whose message holds what it was looking at.
    monkeypatch.setattr("sarc_kb.kb.assess", broken)
    (tmp_path / "whole.json").write_text(text, encoding="utf-8")
    for form in ("text", "html", "fhir", "junit"):
        given = [str(tmp_path / "whole.json"), "--format", form, "--verbose"]
        assert cli.main(["validate", *given]) == 2
    told = capfd.readouterr()
    assert "ENGINE005" in told.out
    assert CANARY not in told.out + told.err
