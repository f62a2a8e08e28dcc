"""Source accounting: every word of the record has an owner, and another version is told apart."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from sarc_kb.audit.section import Request, Section
from sarc_kb.audit.source import audit
from sarc_kb.cli import main
from sarc_kb.errors import Finding, UsageError
from sarc_kb.kb import KnowledgeBase, data_folder
from sarc_kb.rule_check import check_rule_base
from sarc_kb.source_text import Quote, SourceText
from tests.tiny_trial import build_tiny

ROOT = data_folder()
TRIAL = "NCT05602415"
FOLDER = Path("shapes/trials/nct05602415")
RECORD = (ROOT / FOLDER / "source.txt").read_text(encoding="utf-8")
ACCOUNTING = FOLDER / "accounting.ttl"
TRANSFUSION = FOLDER / "exclusion" / "E12-transfusion.ttl"


@pytest.fixture(scope="module")
def real(kb: KnowledgeBase) -> Section:
    return audit(kb, Request(TRIAL))


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    shutil.copytree(
        ROOT / "shapes", tmp_path / "shapes", ignore=shutil.ignore_patterns("*.cases.ttl")
    )
    (tmp_path / "ontology").symlink_to(ROOT / "ontology")
    return tmp_path


def swap(root: Path, path: Path, old: str, new: str) -> None:
    """Replace the first place of ``old``, whose spaces stand for any white space."""
    text = (root / path).read_text(encoding="utf-8")
    found = re.search(re.escape(old).replace(r"\ ", r"\s+"), text)
    assert found, f"{old!r} is not in {path}"
    changed = text[: found.start()] + new + text[found.end() :]
    (root / path).write_text(changed, encoding="utf-8")


def audited(root: Path, against: Path | None = None) -> Section:
    return audit(KnowledgeBase.load(root), Request(TRIAL, against))


def only(section: Section, code: str) -> Finding:
    found = [f for f in section.findings if f.code == code]
    assert len(found) == 1, [str(f) for f in section.findings]
    return found[0]


# -- the record as it is --------------------------------------------------------------------------
@pytest.mark.threat("E10")
def test_every_character_of_the_record_is_accounted_for(real: Section) -> None:
    assert real.findings == ()
    assert real.passed
    assert real.summary.startswith("100.0 % ")
    sections: Any = real.document["sections"]
    assert [s["name"] for s in sections] == [
        "intervention",
        "summary and detailed description",
        "criteria for eligibility",
    ]
    for section in sections:
        assert section["not_accounted"] == 0
        assert section["coverage"] == 100.0
        parts = ("in_rules", "in_design_facts", "in_passages", "layout")
        assert sum(section[p] for p in parts) == section["characters"]
    assert RECORD[sections[0]["start"] :].startswith("Intervention:\nIntervention type:\nDrug")
    assert RECORD[: sections[2]["end"]].endswith("Healthy volunteers:\nNo\n")


def test_the_segments_are_the_text(real: Section) -> None:
    segments: Any = real.document["segments"]
    for section in real.document["sections"]:  # type: ignore[attr-defined]
        here = [s for s in segments if s["section"] == section["name"]]
        assert "".join(s["text"] for s in here) == RECORD[section["start"] : section["end"]]
    for segment in segments:
        assert segment["text"] == RECORD[segment["start"] : segment["end"]]
        if segment["category"] == "layout":
            assert re.fullmatch(r"[\s,;:.]*(\d{1,2}\.)?\s*", segment["text"]), segment
        else:
            assert segment["rules"] or len(segment["reason"]) >= 10
    haemoglobin = next(s for s in segments if s["text"] == "Haemoglobin ≥ 9 g/dL")
    assert haemoglobin["rules"] == ["I07", "I07a"]


def test_every_category_and_every_place_is_told(real: Section, kb: KnowledgeBase) -> None:
    rows: Any = real.document["categories"]
    counts = {row["category"]: row["passages"] for row in rows}
    assert counts["not accounted"] == 0
    for name in ("rule", "design fact", "heading", "administrative", "not computable"):
        assert counts[name] > 0, name
    trial = kb.compile(TRIAL)
    ids = {c.id for part in trial.parts for c in (*part.clauses.values(), *part.criteria)}
    places: Any = real.document["places"]
    assert ids <= {p["id"] for p in places}
    transfusion = next(p for p in places if p["id"] == "E12")
    assert RECORD.splitlines()[transfusion["line"] - 1].startswith("12. Blood transfusions")
    assert transfusion["column"] == 5


def test_the_annotated_text_names_the_rules_line_by_line(real: Section) -> None:
    text = "\n".join(real.lines)
    assert "3. [I03] Age ≥ 18 years[/]," in text
    assert re.search(
        r"\n *109  \[I07 I07a\] Haemoglobin ≥ 9 g/dL \[I07\] and \[I07 I07b\] no", text
    )
    assert "[heading: passage-criteria-headings] Inclusion Criteria:" in text


def test_it_is_told_the_same_twice(real: Section, kb: KnowledgeBase) -> None:
    again = audit(KnowledgeBase.load(ROOT), Request(TRIAL))
    assert json.dumps(again.document) == json.dumps(real.document)
    assert again.lines == real.lines


# -- planted faults -------------------------------------------------------------------------------
@pytest.mark.threat("E10")
def test_a_quotation_altered_by_one_character(copy: Path) -> None:
    swap(copy, TRANSFUSION, "Blood transfusions within 14", "Blood transfusions within 15")
    found = audited(copy)
    fault = only(found, "SRC004")
    assert fault.where == "E12, exclusion/E12-transfusion.ttl"
    assert "nearest is source.txt:151:5" in fault.found
    assert "character 28 differs: quoted “15 " in fault.found
    assert "printed “14 " in fault.found
    assert "(source.txt:151:32)" in fault.found
    # Its words then belong to nobody.
    left = only(found, "SRC003")
    assert left.where == "source.txt:151:5"
    assert "Blood transfusions within 14 days prior to study start" in left.found
    assert "after E11, E11b" in left.found
    assert not found.passed


def test_a_wrong_prefix(copy: Path) -> None:
    swap(copy, ACCOUNTING, 'oa:prefix "gross positive."', 'oa:prefix "grossly positive."')
    fault = only(audited(copy), "SRC004")
    assert "stands at source.txt:" in fault.found
    assert "but not after “grossly positive.”" in fault.found


def test_a_quotation_that_stands_twice(copy: Path) -> None:
    swap(copy, ACCOUNTING, ' ; oa:prefix "gross positive."', "")
    fault = only(audited(copy), "SRC005")
    assert fault.where == "passage-intervention-headings, accounting.ttl"
    assert "source.txt:44:1, source.txt:58:1, source.txt:66:1" in fault.found


def test_a_rule_without_a_quotation(copy: Path) -> None:
    path = copy / TRANSFUSION
    text = path.read_text(encoding="utf-8")
    path.write_text(re.sub(r"(?s)\n\s+sarc:source .*?\] \] ;", "", text), encoding="utf-8")
    found = audited(copy)
    assert only(found, "SRC007").where == "E12, exclusion/E12-transfusion.ttl"
    assert only(found, "SRC003").where == "source.txt:151:5"


def test_a_passage_that_is_not_marked(copy: Path) -> None:
    swap(copy, ACCOUNTING, "Names no treatment and no dose", "It names no treatment and no dose")
    path = copy / ACCOUNTING
    text = path.read_text(encoding="utf-8")
    path.write_text(re.sub(r"(?s)trial:passage-start-and-.*? \.\n\n", "", text), encoding="utf-8")
    found = audited(copy)
    fault = only(found, "SRC003")
    assert fault.where == "source.txt:37:34"
    assert "“and” (intervention, after T04, T04a)" in fault.found
    assert not found.summary.startswith("100.0 %")


def test_a_mark_over_a_rules_quotation_is_a_warning(copy: Path) -> None:
    swap(
        copy,
        ACCOUNTING,
        'oa:exact "Inclusion Criteria:"',
        'oa:exact "Inclusion Criteria: 1. Diagnosed"',
    )
    found = audited(copy)
    fault = only(found, "SRC006")
    assert fault.severity == "warning"
    assert fault.where == "passage-criteria-headings, source.txt:90:1"
    assert "I01" in fault.found
    assert found.passed


def test_a_mark_outside_the_sections_is_a_warning(copy: Path) -> None:
    swap(
        copy,
        ACCOUNTING,
        'oa:exact "Inclusion Criteria:" ] ]',
        'oa:exact "Inclusion Criteria:" ] ] , [ oa:hasSource trial:record ; oa:hasSelector [ a oa:TextQuoteSelector ; oa:exact "Overall status:" ] ]',
    )
    codes = {f.code for f in audited(copy).findings}
    assert codes == {"SRC006", "SRC010"}, "D8 quotes it"


def test_a_section_whose_words_are_not_there(copy: Path) -> None:
    swap(copy, ACCOUNTING, 'oa:exact "Locations:"', 'oa:exact "Location:"')
    found = audited(copy)
    fault = only(found, "SRC002")
    assert fault.where == "source.txt, section criteria for eligibility"
    assert "“Location:”, which it ends before, stands there nowhere" in fault.found


def test_no_section_at_all(copy: Path) -> None:
    path = copy / ACCOUNTING
    text = path.read_text(encoding="utf-8")
    path.write_text(re.sub(r"(?s)trial:section-.*? \.\n\n", "", text), encoding="utf-8")
    found = audited(copy)
    assert only(found, "SRC001").severity == "error"
    assert "no section" in found.summary


def test_the_record_itself_altered(copy: Path) -> None:
    swap(copy, FOLDER / "source.txt", "Age ≥ 18 years", "Age ≥ 16 years")
    found = audited(copy)
    assert only(found, "SRC009").where == "source.txt"
    assert only(found, "SRC004").where == "I03, inclusion/I03-age.ttl"


def test_no_record(copy: Path) -> None:
    (copy / FOLDER / "source.txt").unlink()
    assert only(audited(copy), "SRC001").where == "source.txt"


@pytest.mark.parametrize("place", ["/etc/passwd", "../../../elsewhere.txt", "sub/../../x.txt"])
@pytest.mark.threat("A17")
def test_a_record_that_lies_elsewhere_is_not_read(place: str, copy: Path) -> None:
    (copy / "elsewhere.txt").write_text("CANARY")
    (copy / FOLDER.parent / "x.txt").write_text("CANARY")
    (copy / FOLDER / "sub").mkdir()
    swap(copy, FOLDER / "trial.ttl", 'sarc:sourceFile "source.txt"', f'sarc:sourceFile "{place}"')
    section = audited(copy)
    assert only(section, "SRC001").found == "the source record is missing"
    assert "CANARY" not in str(section)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("sarc:HeadingPassage", "sarc:Heading"),
        ("sarc:because", "rdfs:comment"),
        ("oa:hasStartSelector", "oa:hasStart"),
        ("Inclusion Criteria:", "Inclusion criteria:"),
        ('oa:exact "Locations:"', 'oa:exact "Location:"'),
    ],
)
def test_the_check_of_the_rule_base_knows_the_accounting(copy: Path, old: str, new: str) -> None:
    swap(copy, ACCOUNTING, old, new)
    assert check_rule_base(KnowledgeBase.load(copy), TRIAL, cases=False).findings


# -- another version ------------------------------------------------------------------------------
Edit = Callable[[str], str]


def replaced(*pairs: tuple[str, str]) -> Edit:
    def edit(text: str) -> str:
        for old, new in pairs:
            assert text.count(old) == 1, old
            text = text.replace(old, new)
        return text

    return edit


@pytest.fixture
def against(tmp_path: Path, kb: KnowledgeBase) -> Callable[[Edit], Section]:
    def compare(edit: Edit) -> Section:
        path = tmp_path / "new.txt"
        path.write_text(edit(RECORD), encoding="utf-8")
        return audit(kb, Request(TRIAL, path))

    return compare


def changes(section: Section) -> list[Mapping[str, Any]]:
    compared: Any = section.document["against"]
    return list(compared["changes"])


def told(change: Mapping[str, Any]) -> dict[str, bool]:
    return {r["id"]: r["stands"] for r in change["rules"]}


@pytest.mark.parametrize(
    "edit",
    [
        lambda text: text,
        lambda text: " ".join(text.split()),
        lambda text: "\ufeff" + text.replace("\n", "\r\n") + "\n\n",
        lambda text: text.replace(" ", "  \n "),
    ],
    ids=["same", "one line", "line ends", "wide"],
)
def test_white_space_alone_is_no_change(against: Callable[[Edit], Section], edit: Edit) -> None:
    found = against(edit)
    assert changes(found) == []
    assert found.findings == ()
    assert "no changes" in found.summary


def test_a_number_that_changed(against: Callable[[Edit], Section]) -> None:
    found = against(
        replaced(("the 14 days prior to study entry", "the 28 days prior to study entry"))
    )
    (change,) = changes(found)
    assert (change["old"]["text"], change["new"]["text"]) == ("14", "28")
    assert (change["old"]["line"], change["old"]["column"]) == (109, 55)
    assert change["section"] == "criteria for eligibility"
    assert told(change) == {"I07": False, "I07b": False}
    assert change["register"] == ["A-12"]
    assert {f.where for f in found.findings} == {
        "I07, source.txt:109:55",
        "I07b, source.txt:109:55",
    }
    assert {f.code for f in found.findings} == {"SRC021"}
    assert not found.passed


def test_one_letter(against: Callable[[Edit], Section]) -> None:
    found = against(replaced(("uncontrolled seizures", "uncontrolled seizure")))
    (change,) = changes(found)
    assert (change["old"]["text"], change["new"]["text"]) == ("seizures,", "seizure,")
    assert told(change) == {"E08": False}


def test_punctuation_after_a_quotation_does_not_touch_it(
    against: Callable[[Edit], Section],
) -> None:
    found = against(replaced(("Age ≥ 18 years,", "Age ≥ 18 years;")))
    (change,) = changes(found)
    assert told(change) == {}
    assert found.passed
    assert [f.code for f in found.findings] == ["SRC025"]


def test_a_number_grows_at_the_edge_of_a_quotation(against: Callable[[Edit], Section]) -> None:
    """ "(50 Gy in …" becomes "(150 Gy in …": the quoted words are still there, in another number."""
    (change,) = changes(against(replaced(("(50 Gy in", "(150 Gy in"))))
    assert told(change)["T12b"] is False


def test_words_behind_a_quotation_are_told_though_it_stands(
    against: Callable[[Edit], Section],
) -> None:
    found = against(replaced(("Age ≥ 18 years,", "Age ≥ 18 years and ≤ 70 years,")))
    (change,) = changes(found)
    assert told(change) == {"I03": True}
    assert only(found, "SRC022").where.startswith("I03, ")
    fault = only(found, "SRC023")
    assert fault.where == "new.txt:97:19"
    assert "“and ≤ 70 years” (criteria for eligibility, after I03)" in fault.found


def test_a_criterion_that_is_new(against: Callable[[Edit], Section]) -> None:
    new = "8. Patients with claustrophobia,\n"
    edit = replaced(
        ("8. Patients with uncontrolled", f"{new}9. Patients with uncontrolled"),
        ("9. Women of", "10. Women of"),
    )
    found = against(edit)
    fault = only(found, "SRC023")
    assert fault.where == "new.txt:145:4"
    assert "nobody accounts for “Patients with claustrophobia” " in fault.found
    assert all(not told(change) for change in changes(found))
    renumbered = [c for c in changes(found) if c["kind"] == "renumbered"]
    assert any("E09" in c["renumbered"] for c in renumbered)


def test_a_criterion_that_is_gone(against: Callable[[Edit], Section]) -> None:
    found = against(replaced(("8. Patients with uncontrolled seizures,\n", "")))
    (change,) = changes(found)
    assert change["kind"] == "removed"
    assert change["old"]["text"] == "8. Patients with uncontrolled seizures,"
    assert told(change) == {"E08": False}
    assert "is removed" in only(found, "SRC021").found


def test_a_mark_that_changed(against: Callable[[Edit], Section]) -> None:
    found = against(
        replaced(("standard treatment and recommended", "standard therapy and recommended"))
    )
    fault = only(found, "SRC024")
    assert fault.where == "passage-recommended-dose, source.txt:85:42"
    assert changes(found)[0]["register"] == ["A-26"]


def test_a_change_elsewhere_is_told_and_passes(against: Callable[[Edit], Section]) -> None:
    found = against(replaced(("Phone:", "Telephone:")))
    (change,) = changes(found)
    assert change["section"] is None
    assert only(found, "SRC025").severity == "info"
    assert found.passed


def test_a_version_that_cannot_be_read(kb: KnowledgeBase, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="USE061"):
        audit(kb, Request(TRIAL, tmp_path / "nothing.txt"))


# -- another trial, and the command ---------------------------------------------------------------
_TINY = """
@prefix sarc: <https://w3id.org/sarc-kb/ontology#> .
@prefix oa: <http://www.w3.org/ns/oa#> .
@prefix rdfs: <http://www.w3.org/2000/01/rdf-schema#> .
@prefix trial: <https://w3id.org/sarc-kb/trial/TINY/> .
trial:all a sarc:AccountedSection ; rdfs:label "all" ; sarc:source [ oa:hasSource trial:record ;
    oa:hasSelector [ a oa:RangeSelector ; oa:hasStartSelector [ oa:exact "Inclusion:" ] ] ] .
trial:heads a sarc:AccountedPassage ; sarc:passageCategory sarc:HeadingPassage ;
    sarc:because "The names of the lists." ; sarc:source
        [ oa:hasSource trial:record ; oa:hasSelector [ a oa:TextQuoteSelector ; oa:exact "Inclusion:" ] ] ,
        [ oa:hasSource trial:record ; oa:hasSelector [ a oa:TextQuoteSelector ; oa:exact "Exclusion:" ] ] .
"""


def test_a_second_trial(tmp_path: Path) -> None:
    build_tiny(tmp_path)
    bare = audit(KnowledgeBase.load(tmp_path), Request("TINY"))
    assert only(bare, "SRC001").where == "source.txt"
    accounting = tmp_path / "shapes" / "trials" / "tiny" / "accounting.ttl"
    accounting.write_text(_TINY, encoding="utf-8")
    kb = KnowledgeBase.load(tmp_path)
    assert check_rule_base(kb, "TINY", cases=False).findings == ()
    found = audit(kb, Request("TINY"))
    assert found.findings == ()
    assert found.summary == "100.0 % of 94 characters in 1 section accounted for"
    assert (
        "    1  [heading: heads] Inclusion: [I01] Haemoglobin of at least 9 g/dL[/]; [I02] willing"
        in ("\n".join(found.lines))
    )


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["audit", "source", "--format", "json"]) == 0
    document = json.loads(capsys.readouterr().out)
    (part,) = document["parts"]
    assert part["name"] == "source"
    assert part["passed"]
    assert part["record"]["sha256"] == hashlib.sha256(RECORD.encode()).hexdigest()
    new = tmp_path / "new.txt"
    new.write_text(RECORD.replace("Age ≥ 18", "Age ≥ 16"), encoding="utf-8")
    assert main(["audit", "source", "--against", str(new)]) == 1
    text = capsys.readouterr().out
    assert "changed: “18” is now “16”; its quotation is no longer verbatim" in text


# -- the text -------------------------------------------------------------------------------------
def test_a_quotation_is_whole_words() -> None:
    text = SourceText("a 150 Gy, then\n50  Gy; 50 Gym")
    (place,) = text.places(Quote("50 Gy"))
    assert text.text[place.start : place.end] == "50  Gy"
    assert text.line_column(place.start) == (2, 1)
    assert text.places(Quote("50 Gy", prefix="then", suffix=";")) == [place]
    assert text.places(Quote("50 Gy", prefix="than")) == []
    assert text.places(Quote("")) == []


@pytest.mark.parametrize(
    ("exact", "at", "printed"),
    [
        ("the cat sut here", 9, "sat here"),
        ("tha cat sat", 2, "the cat"),
        ("cat sat there", 8, "here"),
        ("a dog ran", 2, "red"),
    ],
)
def test_the_nearest_place(exact: str, at: int, printed: str) -> None:
    nearest = SourceText("One day\nthe cat sat here. A red dog, a red dog ran.").nearest(exact)
    assert nearest is not None
    assert nearest.at == at
    assert nearest.printed.startswith(printed)


def test_nothing_is_nearest_in_no_text() -> None:
    assert SourceText(" \n").nearest("words") is None
