"""Faults planted in a copy of the rule base are found before any patient is read."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from rdflib import Graph

from sarc_kb.errors import RuleBaseError
from sarc_kb.kb import KnowledgeBase, data_folder
from sarc_kb.rule_check import check_rule_base, declared_terms, stamp_path, unknown_terms
from sarc_kb.rules.queries import query_faults

ROOT = data_folder()
TRIAL = "NCT05602415"
FOLDER = Path("shapes/trials/nct05602415")
HAEMOGLOBIN = FOLDER / "inclusion" / "I07a-haemoglobin.ttl"
FUNCTION = FOLDER / "inclusion" / "I07-adequate-function.ttl"
TRANSFUSION = FOLDER / "exclusion" / "E12-transfusion.ttl"


def test_the_rule_base_has_no_fault(kb: KnowledgeBase) -> None:
    for trial in kb.trial_folders:
        report = check_rule_base(kb, trial)
        assert not report.findings, "\n".join(map(str, report.findings[:20]))


def test_the_stamp_names_this_very_content(kb: KnowledgeBase) -> None:
    """Stale: run `make rules`. A stale stamp only costs a check before the first patient."""
    assert stamp_path(kb).read_text(encoding="ascii").strip() == kb.info.sha256


def test_a_changed_rule_base_is_checked_before_any_patient(copy: Path) -> None:
    swap(HAEMOGLOBIN, "Haemoglobin ≥ 9 g/dL", "Haemoglobin ≥ 8 g/dL")(copy)
    with pytest.raises(RuleBaseError) as caught:
        KnowledgeBase.load(copy).validate("nobody.ttl")
    assert "RULE013" in {f.code for f in caught.value.findings}


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    shutil.copytree(ROOT / "shapes", tmp_path / "shapes")
    (tmp_path / "ontology").symlink_to(ROOT / "ontology")
    return tmp_path


def swap(path: Path, old: str, new: str) -> Callable[[Path], None]:
    """Replace the first place of ``old``, whose spaces stand for any white space."""

    def plant(root: Path) -> None:
        text = (root / path).read_text(encoding="utf-8")
        found = re.search(re.escape(old).replace(r"\ ", r"\s+"), text)
        assert found, f"{old!r} is not in {path}"
        changed = text[: found.start()] + new + text[found.end() :]
        (root / path).write_text(changed, encoding="utf-8")

    return plant


def add(path: Path, text: str) -> Callable[[Path], None]:
    def plant(root: Path) -> None:
        with (root / path).open("a", encoding="utf-8") as handle:
            handle.write("\n" + text + "\n")

    return plant


def drop(pattern: str) -> Callable[[Path], None]:
    def plant(root: Path) -> None:
        found = list(root.glob(pattern))
        assert found
        for path in found:
            path.unlink()

    return plant


RDF_PREFIX = "@prefix rdf: <http://www.w3.org/1999/02/22-rdf-syntax-ns#> .\n"
FAULTS: dict[str, tuple[Callable[[Path], None], str, str]] = {
    "misspelt component": (swap(HAEMOGLOBIN, "sarc:latest ", "sarc:lates "), "RULE010", "I07a"),
    "misspelt parameter": (swap(HAEMOGLOBIN, "sarc:atLeast", "sarc:atLeats"), "RULE010", "I07a"),
    "misspelt target": (swap(HAEMOGLOBIN, "sh:targetClass", "sh:targetClas"), "RULE010", "I07a"),
    "a SHACL term rules do not use": (
        add(HAEMOGLOBIN, "trial:I07a sh:deactivated true ."),
        "RULE010",
        "I07a",
    ),
    "undefined term": (
        swap(HAEMOGLOBIN, "sarc:Haemoglobin ", "sarc:Haemoglobine "),
        "RULE010",
        "I07a",
    ),
    "undefined window": (
        swap(HAEMOGLOBIN, "policy:laboratory-look-back", "policy:laboratory-lookback"),
        "RULE010",
        "I07a",
    ),
    "two values of a parameter": (
        add(HAEMOGLOBIN, "trial:I07a sarc:atLeast 8.0 ."),
        "RULE011",
        "I07a",
    ),
    "two components": (
        add(HAEMOGLOBIN, "trial:I07a sarc:none sarc:Haemoglobin ."),
        "RULE004",
        "I07a",
    ),
    "missing parameter": (
        swap(TRANSFUSION, "sarc:settledBy sarc:ProcedureHistory ;", ""),
        "RULE011",
        "E12",
    ),
    "a double in place of a decimal": (
        swap(HAEMOGLOBIN, "sarc:atLeast 9.0", "sarc:atLeast 9.0e0"),
        "RULE011",
        "I07a",
    ),
    "sh:not": (add(FUNCTION, "trial:I07 sh:not trial:I07a ."), "RULE010", "I07"),
    "recursion": (
        add(
            FUNCTION,
            'trial:I07x a sarc:Join , sh:NodeShape ; rdfs:label "x"@en ; sarc:partOf trial:I07 ; sh:and ( trial:I07x ) . trial:I99 a sarc:InclusionCriterion , sh:NodeShape ; sh:and ( trial:I07x ) .',
        ),
        "RULE003",
        "I07x",
    ),
    "altered quotation": (
        swap(HAEMOGLOBIN, "Haemoglobin ≥ 9 g/dL", "Haemoglobin ≥ 8 g/dL"),
        "RULE013",
        "I07a",
    ),
    "limit in another unit": (
        swap(HAEMOGLOBIN, 'sarc:unit "g/dL"', 'sarc:unit "g/L"'),
        "RULE019",
        "I07a",
    ),
    "answers about another rule": (
        swap(TRANSFUSION, "sarc:attestedAs trial:E12", "sarc:attestedAs trial:E13"),
        "RULE015",
        "E12",
    ),
    "no message": (swap(HAEMOGLOBIN, "sh:message", "rdfs:comment"), "RULE011", "I07a"),
    "cases taken away": (drop("shapes/trials/*/inclusion/I07a-*.cases.ttl"), "RULE021", "I07a"),
    "register entry taken away": (
        swap(
            FOLDER / "ambiguities.ttl", "trial:A-43 a sarc:Ambiguity", "trial:A-44 a sarc:Ambiguity"
        ),
        "RULE010",
        "I07a",
    ),
    "a question about a clause that only the record decides": (
        add(
            FOLDER / "questions.ttl",
            'trial:question-x a sarc:Question ; rdfs:label "x"@en ; sarc:linkId "x" ; sarc:covers trial:I07a ; sarc:clearingAnswer sarc:Yes .',
        ),
        "RULE018",
        "question-x",
    ),
    "a list without an end": (
        add(FUNCTION, RDF_PREFIX + "trial:I07 sh:and [ rdf:first trial:I07a ] ."),
        "RULE024",
        "I07",
    ),
    "a list in a circle": (
        add(
            FUNCTION,
            RDF_PREFIX + "trial:I07 sh:and _:l . _:l rdf:first trial:I07a ; rdf:rest _:l .",
        ),
        "RULE024",
        "I07",
    ),
    "a list with two members in one place": (
        add(
            FUNCTION,
            RDF_PREFIX + "trial:I07 sh:and [ rdf:first trial:I07a , trial:I07c ; rdf:rest () ] .",
        ),
        "RULE024",
        "I07",
    ),
    "a list that parts": (
        add(
            FUNCTION,
            RDF_PREFIX
            + "trial:I07 sh:and [ rdf:first trial:I07a ; rdf:rest () , ( trial:I07c ) ] .",
        ),
        "RULE024",
        "I07",
    ),
    "joins nested deeper than anybody reads": (
        add(
            FUNCTION,
            " ".join(f"trial:deep-{n} sh:and ( trial:deep-{n + 1} ) ." for n in range(40)),
        ),
        "RULE025",
        "deep-",
    ),
    "joins nested beyond the stack": (
        add(
            FUNCTION,
            " ".join(f"trial:deep-{n} sh:and ( trial:deep-{n + 1} ) ." for n in range(2000)),
        ),
        "RULE025",
        "deep-",
    ),
    "unreadable file of cases": (
        add(FOLDER / "inclusion" / "I07a-haemoglobin.cases.ttl", "trial:x a a a ."),
        "RULE000",
        "I07a",
    ),
    "unreadable file": (add(HAEMOGLOBIN, "trial:I07a a a a ."), "RULE000", "I07a"),
}


@pytest.mark.parametrize("name", FAULTS)
@pytest.mark.threat("D1", "D12", "B7", "B9", "E10")
def test_planted_fault(name: str, copy: Path) -> None:
    plant, code, where = FAULTS[name]
    plant(copy)
    report = check_rule_base(KnowledgeBase.load(copy), TRIAL, cases=code in ("RULE021", "RULE000"))
    assert any(f.code == code and where in f.where for f in report.findings), "\n".join(
        map(str, report.findings[:10])
    )


def in_a_component(text: str, after: str = "{") -> Callable[[Path], None]:
    """Put ``text`` into the first query of a component."""
    path = Path("shapes/components/refuted.ttl")

    def plant(root: Path) -> None:
        whole = (root / path).read_text(encoding="utf-8")
        at = whole.index(after, whole.index("SELECT DISTINCT")) + len(after)
        (root / path).write_text(whole[:at] + f" {text} " + whole[at:], encoding="utf-8")

    return plant


_ELSEWHERE = "<http://127.0.0.1:9/> { ?a ?b ?c }"


@pytest.mark.parametrize(
    ("plant", "found"),
    [
        (in_a_component(f"SERVICE {_ELSEWHERE}"), "a query with SERVICE"),
        (in_a_component(f"SERVICE SILENT {_ELSEWHERE}"), "a query with SERVICE"),
        (in_a_component(f"SeRvIcE {_ELSEWHERE}"), "a query with SERVICE"),
        (in_a_component(f"{{ SELECT ?a {{ SERVICE {_ELSEWHERE} }} }}"), "a query with SERVICE"),
        (in_a_component(f"FILTER EXISTS {{ SERVICE {_ELSEWHERE} }}"), "a query with SERVICE"),
        (in_a_component("FROM <http://127.0.0.1:9/>", "$this"), "a query with FROM"),
        (in_a_component("FROM NAMED <file:///etc/passwd>", "$this"), "a query with FROM"),
        (in_a_component("this is no query"), "a query that cannot be read"),
    ],
)
@pytest.mark.threat("A6", "A8", "B3")
def test_a_query_of_the_shapes_reaches_nothing_else(
    plant: Callable[[Path], None], found: str, copy: Path
) -> None:
    plant(copy)
    (told,) = query_faults(copy / "shapes")
    assert (told.code, told.where, told.found) == (
        "RULE026",
        "refuted.ttl:30 sarc:LatestConstraintComponent",
        found,
    )


@pytest.mark.threat("B4")
@pytest.mark.parametrize(
    ("text", "alone"),
    [
        ("?a ?b ?c .", "?a"),
        ("?a sarc:lo ?b . ?c sarc:lo ?d .", "?a, ?c"),
        ("?a sarc:lo ?b . ?c sarc:lo ?b .", "?a"),
        ("[] sarc:lo [] .", "[]"),
        ("?a sarc:lo ?b . $this sarc:fact ?c . FILTER (?b < ?c)", "?a"),
        ("VALUES ?a { sarc:x } ?a sarc:lo ?b .", "?a"),
        ("BIND (1 AS ?a) ?a sarc:lo ?b .", "?a"),
        ("OPTIONAL { ?a sarc:lo ?b }", "?a"),
        ("FILTER NOT EXISTS { ?a sarc:lo ?b }", "?a"),
        ("$this sarc:fact ?c . MINUS { ?a sarc:lo ?b }", "?a"),
        ("{ $this sarc:fact ?a } UNION { ?a sarc:lo ?b }", "?a"),
        ("{ SELECT ?a { ?a sarc:lo ?b } }", "?a"),
        ("GRAPH ?g { ?a sarc:lo ?b }", "?a"),
        ("?a sarc:in/sarc:lo ?b .", "?a"),
        ("sarc:x sarc:lo ?a .", "?a"),
    ],
)
def test_a_pattern_that_nothing_ties_to_the_patient_is_told(
    text: str, alone: str, copy: Path
) -> None:
    in_a_component(text)(copy)
    (told,) = query_faults(copy / "shapes")
    # The query stands from line 30 on, and what was put in, in the line below.
    assert (told.code, told.severity, told.where) == (
        "RULE027",
        "error",
        f"refuted.ttl:{30 if alone == '[]' else 31} sarc:LatestConstraintComponent",
    )
    assert told.found == f"a query that ties {alone} to nothing of the patient"


@pytest.mark.parametrize(
    "text",
    [
        "$this ?b ?c .",
        "?a sarc:within $window .",
        "?a sarc:lo ?b . ?c sarc:lo ?b . $this sarc:fact ?c .",
        "$this sarc:fact ?a . BIND (?a AS ?b) ?b sarc:lo ?c .",
        "$this sarc:fact ?a . FILTER NOT EXISTS { ?b sarc:lo ?a }",
        "$this sarc:fact ?a . OPTIONAL { ?a sarc:lo ?b . ?c sarc:lo ?b }",
        "{ ?a sarc:lo ?b } { $this sarc:fact ?a }",
        "{ ?a sarc:lo ?b } UNION { ?a sarc:hi ?b } $this sarc:fact ?a .",
        "$this sarc:fact [ sarc:lo [] ] .",
        "sarc:x sarc:lo sarc:y .",
    ],
)
def test_a_pattern_that_leads_back_to_the_patient_is_no_fault(text: str, copy: Path) -> None:
    in_a_component(text)(copy)
    assert query_faults(copy / "shapes") == []


@pytest.mark.threat("A6")
def test_such_a_query_stops_before_any_patient(copy: Path) -> None:
    in_a_component(f"SERVICE {_ELSEWHERE}")(copy)
    with pytest.raises(RuleBaseError) as caught:
        KnowledgeBase.load(copy).engine()
    assert {f.code for f in caught.value.findings} == {"RULE026"}


def test_the_words_of_queries_are_no_fault_elsewhere(copy: Path) -> None:
    in_a_component('FILTER ("SERVICE FROM" != "") # SERVICE <urn:x> { }\n')(copy)
    assert not query_faults(copy / "shapes")


@pytest.mark.threat("D1")
def test_a_misspelt_term_of_a_case_is_told_by_the_case(copy: Path) -> None:
    """Else its patient would have another record, and the case would prove something else."""
    cases = HAEMOGLOBIN.with_suffix(".cases.ttl")
    for old, new in (
        ("sarc:AtLimit", "sarc:AtLimits"),
        ("sarc:Haemoglobin ;", "sarc:Haemoglobine ;"),
    ):
        swap(cases, old, new)(copy)
    found = check_rule_base(KnowledgeBase.load(copy), TRIAL).findings
    told = {f.found for f in found if f.code == "RULE010" and f.where == "trial:I07a-at-limit"}
    assert told == {"unknown term sarc:AtLimits", "unknown term sarc:Haemoglobine"}


_TERM = re.compile(r"\b(sarc|sh):([A-Za-z][A-Za-z0-9-]*)")


def rule_files() -> list[Path]:
    return [p for p in sorted((ROOT / FOLDER).rglob("*.ttl")) if not p.name.endswith(".cases.ttl")]


@pytest.mark.parametrize("path", rule_files(), ids=lambda p: p.stem)
@pytest.mark.threat("D1")
def test_every_one_letter_mutant_of_a_term_is_caught(path: Path, kb: KnowledgeBase) -> None:
    """Each sarc: or sh: term of the file, with its last letter changed, is an unknown term."""
    text = path.read_text(encoding="utf-8")
    declared = declared_terms(kb)
    subjects = {str(s) for s in kb.trial_graph(TRIAL).subjects()}
    found = sorted({m.group(0) for m in _TERM.finditer(re.sub(r'"[^"]*"|<[^>]*>', '""', text))})
    assert found
    survivors = []
    for term in found:
        changed = term[:-1] + ("x" if term[-1] != "x" else "y")
        mutant = re.sub(rf"(?<![\w:-]){re.escape(term)}(?![\w-])", changed, text, count=0)
        graph = Graph().parse(data=mutant, format="turtle")
        if not any(changed in f.found for f in unknown_terms(graph, declared, subjects)):
            survivors.append(term)
    assert not survivors
