"""A fault of each kind, planted in a copy of the rule base, fails the audit, and what it says leads
to the place."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from sarc_kb import cli, rule_check
from sarc_kb.kb import data_folder
from sarc_kb.rule_places import Places

ROOT = data_folder()
TRIAL = "NCT05602415"
FOLDER = "shapes/trials/nct05602415"
HAEMOGLOBIN = f"{FOLDER}/inclusion/I07a-haemoglobin.ttl"
HIGH_RISK = f"{FOLDER}/inclusion/I04-high-risk.ttl"
LOINC = "ontology/mappings/loinc.sssom.tsv"
LABORATORY = "ontology/taxonomy/laboratory.ttl"
MALIGNANCY = f"{FOLDER}/exclusion/E13-myelodysplasia-and-leukaemia.ttl"

Plant = Callable[[Path], None]


def swap(path: str, old: str, new: str) -> Plant:
    """Replace the one place of ``old``, whose spaces stand for any white space."""

    def plant(root: Path) -> None:
        file = root / path
        text = file.read_text("utf-8")
        changed, count = re.subn(re.escape(old).replace(r"\ ", r"\s+"), new, text)
        assert count == 1, f"{old!r} stands {count} times in {path}"
        file.write_text(changed, "utf-8")

    return plant


def add_line(path: str, line: str) -> Plant:
    def plant(root: Path) -> None:
        with (root / path).open("a", encoding="utf-8") as file:
            file.write(line + "\n")

    return plant


def add_copy(old: str, new: str, path: str) -> Plant:
    """Add a copy of the rule in ``path`` under another id."""

    def plant(root: Path) -> None:
        text = (root / path).read_text("utf-8")
        (root / path).with_name(f"{new}-planted.ttl").write_text(
            re.sub(rf"\b{old}\b", new, text), "utf-8"
        )

    return plant


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """A copy of the rule base, with the cases of a few rules alone, so that they are soon judged."""
    shutil.copytree(ROOT / "ontology", tmp_path / "ontology")
    shutil.copytree(ROOT / "shapes", tmp_path / "shapes")
    for path in (tmp_path / FOLDER).rglob("*.cases.ttl"):
        if not path.name.startswith(("I04", "I07a")):
            path.unlink()
    return tmp_path


def audited(part: str, root: Path, tmp_path: Path) -> Audited:
    """Return the exit status, the page, and the errors as (code, where, found)."""
    output = tmp_path / "audit.json"
    status = cli.main(["audit", part, "--rules", str(root), "--format", "json", "-o", str(output)])
    document = json.loads(output.read_text("utf-8"))
    errors = [
        (f["code"], f["where"], f["found"])
        for p in document["parts"]
        for f in p["findings"]
        if f["severity"] == "error"
    ]
    assert document["status"] == ("failed" if errors else "passed")
    return status, errors


Audited = tuple[int, list[tuple[str, str, str]]]


# What is planted; the part that finds it; code, where and words of the finding; file and line that
# it leads to.
PLANTED: dict[str, tuple[Plant, str, str, str, str, str]] = {
    "a quotation altered by one character": (
        swap(HAEMOGLOBIN, "Haemoglobin ≥ 9 g/dL", "Haemoglobin ≥ 8 g/dL"),
        "source",
        "SRC004",
        "I07a, inclusion/I07a-haemoglobin.ttl",
        "character 15 differs",
        f"{HAEMOGLOBIN}:8",
    ),
    "a limit moved up": (
        swap(HAEMOGLOBIN, "sarc:atLeast 9.0", "sarc:atLeast 9.1"),
        "cases",
        "CASE001",
        f"I07a-at-limit, {FOLDER}/inclusion/I07a-haemoglobin.cases.ttl",
        "I07a: comes out as fail, and must as pass",
        f"{FOLDER}/inclusion/I07a-haemoglobin.cases.ttl:5",
    ),
    "a limit moved down": (
        swap(HAEMOGLOBIN, "sarc:atLeast 9.0", "sarc:atLeast 8.9"),
        "cases",
        "CASE001",
        f"I07a-one-step-below, {FOLDER}/inclusion/I07a-haemoglobin.cases.ttl",
        "I07a: comes out as pass, and must as fail",
        f"{FOLDER}/inclusion/I07a-haemoglobin.cases.ttl:12",
    ),
    "the unit of a limit changed": (
        swap(HAEMOGLOBIN, 'sarc:unit "g/dL"', 'sarc:unit "g/L"'),
        "rules",
        "RULE019",
        "trial:I07a",
        "limit in g/L, values in g/dL",
        f"{HAEMOGLOBIN}:8",
    ),
    "the factor of a unit changed": (
        swap(
            LABORATORY,
            '[ sarc:unit "g/L" ; sarc:factor 0.1 ] , [ sarc:unit "mg/mL" ; sarc:factor 0.1 ] , [ sarc:unit "mg/dL" ; sarc:factor 0.001 ]',
            '[ sarc:unit "g/L" ; sarc:factor 0.01 ] , [ sarc:unit "mg/mL" ; sarc:factor 0.1 ] , [ sarc:unit "mg/dL" ; sarc:factor 0.001 ]',
        ),
        "cases",
        "CASE001",
        f"I07a-other-unit, {FOLDER}/inclusion/I07a-haemoglobin.cases.ttl",
        "and must as pass",
        f"{FOLDER}/inclusion/I07a-haemoglobin.cases.ttl:31",
    ),
    "a disjunct dropped": (
        swap(HIGH_RISK, "trial:I04b trial:I04c trial:I04d", "trial:I04b trial:I04d"),
        "cases",
        "CASE001",
        f"I04-infiltrative-tumour, {FOLDER}/inclusion/I04-high-risk.cases.ttl",
        "and must as pass",
        f"{FOLDER}/inclusion/I04-high-risk.cases.ttl:16",
    ),
    "a rule twice": (
        add_copy("E13", "E20", MALIGNANCY),
        "rules",
        "AUDIT010",
        "E20",
        "it says what E13 (",
        f"{FOLDER}/exclusion/E20-planted.ttl:7",
    ),
    "a code mapped twice": (
        add_line(
            LOINC,
            "LOINC:718-7\tHemoglobin\tskos:exactMatch\tsarc:PlateletCount\tplatelets\t"
            "semapv:ManualMappingCuration\tplanted\tyes",
        ),
        "codes",
        "CODE001",
        f"{LOINC}:87",
        f"718-7 is mapped to sarc:PlateletCount (exactMatch), and at {LOINC}:71 to",
        f"{LOINC}:87",
    ),
}


@pytest.mark.parametrize("name", PLANTED)
def test_planted_fault(
    name: str,
    copy: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Every reading of the register is compiled by the check, which has nothing to do with these.
    monkeypatch.setattr(rule_check, "_register", lambda *_: ())
    plant, part, code, where, words, leads_to = PLANTED[name]
    plant(copy)
    status, errors = audited(part, copy, tmp_path)
    assert status == cli.FAIL
    told = [found for c, w, found in errors if (c, w) == (code, where)]
    assert told, errors
    assert any(words in found for found in told), told
    place = Places(copy, TRIAL).of(where)
    assert place is not None
    path, _, line = leads_to.rpartition(":")
    assert (place.path, place.line) == (path, int(line))


@pytest.mark.parametrize("part", ["cases", "codes", "source"])
def test_without_a_fault_these_parts_pass(part: str, copy: Path, tmp_path: Path) -> None:
    assert audited(part, copy, tmp_path) == (cli.PASS, [])


# -- the two that the solver finds -----------------------------------------------------------------
@pytest.mark.parametrize(
    ("plant", "asked", "code", "rules"),
    [
        pytest.param(
            swap(
                f"{FOLDER}/inclusion/I05-performance-status.ttl",
                "sarc:atMost 2.0",
                "sarc:moreThan 5.0",
            ),
            "_alone",
            "LOGIC001",
            "I05",
            id="an unreachable clause",
        ),
        pytest.param(
            lambda root: (
                add_copy("I05", "I12", f"{FOLDER}/inclusion/I05-performance-status.ttl")(root),
                swap(f"{FOLDER}/inclusion/I12-planted.ttl", "sarc:atMost 2.0", "sarc:atLeast 3.0")(
                    root
                ),
            ),
            "_never_both",
            "LOGIC004",
            "I05 and I12",
            id="two rules that can never both pass",
        ),
    ],
)
def test_planted_contradiction(
    plant: Plant,
    asked: str,
    code: str,
    rules: str,
    copy: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Of all that the solver is asked, what finds the fault is asked; `test_audit_logic` asks the
    rest."""
    for package in ("z3", "duckdb", "pyarrow"):
        pytest.importorskip(package)
    from sarc_kb.audit.logic import Study

    monkeypatch.setattr(Study, "findings", lambda study: list(getattr(study, asked)()))
    plant(copy)
    status, errors = audited("logic", copy, tmp_path)
    assert status == cli.FAIL
    assert [(c, w) for c, w, _ in errors] == [(code, rules)]
    place = Places(copy, TRIAL).of(rules)
    assert place is not None
    assert place.path.startswith(f"{FOLDER}/inclusion/I05-")
