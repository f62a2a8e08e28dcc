"""`make soak`: a planted wrong engine is caught, and the patient it is wrong on is made minimal."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from rdflib import BNode, Graph, Literal, URIRef

from sarc_kb.facts import Fact, PatientRecord
from sarc_kb.kb import KnowledgeBase
from sarc_kb.namespaces import RDF, SARC
from sarc_kb.sources.rdf import read_rdf
from tests.cohort_generator import SEED, generate
from tests.cohort_shacl import shared
from tests.soak import differential
from tests.soak.__main__ import main
from tests.soak.engines import (
    BY_HAND,
    COHORT,
    CONCLUSION,
    FACTS,
    MISSING,
    NOTHING,
    OUTCOME,
    Answers,
    Case,
    Difference,
    Engine,
    case_of,
    compared,
    differences,
    engines_of,
)
from tests.soak.shrink import fewest, shrunk

SOME = 3
ROOT = Path(__file__).resolve().parent.parent
STORY = Path(__file__).resolve().parent.parent / "examples" / "anaemic" / "patient.ttl"
"""Her haemoglobin is 8.6 g/dL, as its README tells."""
HAEMOGLOBIN = {str(SARC.Haemoglobin), "http://loinc.org/718-7"}


# -- the smallest ----------------------------------------------------------------------------------
@given(st.lists(st.integers(0, 30), unique=True, max_size=25), st.data())
def test_of_many_parts_only_those_that_matter_stay(parts: list[int], data: st.DataObject) -> None:
    matter = set(data.draw(st.lists(st.sampled_from(parts), unique=True) if parts else st.just([])))
    asked = []

    def holds(some: Sequence[int]) -> bool:
        asked.append(len(some))
        return matter <= set(some)

    assert set(fewest(parts, holds)) == matter
    assert len(asked) <= 4 * (len(parts) + 1) ** 2


def test_either_of_two_parts_is_enough() -> None:
    assert len(fewest(range(20), lambda some: bool({3, 17} & set(some)))) == 1


NAMES = st.sampled_from(["value", "unit", "date", "status", "basis"])
FACTS_DRAWN = st.lists(
    st.dictionaries(NAMES, st.sampled_from(["1.25", "x", "2024-02-21T08:30:00Z"]), min_size=1),
    min_size=1,
    max_size=8,
)


@given(FACTS_DRAWN, st.data())
def test_a_graph_shrinks_to_the_one_fact_and_the_properties_that_matter(
    drawn: list[dict[str, str]], data: st.DataObject
) -> None:
    graph, patient = Graph(), URIRef("urn:p")
    graph.add((patient, RDF.type, SARC.Patient))
    graph.add((patient, SARC.entryDate, Literal("2024-03-01")))
    nodes = [BNode(f"f{n}") for n in range(len(drawn))]
    for node, properties in zip(nodes, drawn, strict=True):
        graph.add((patient, SARC.fact, node))
        for name, text in properties.items():
            graph.add((node, SARC[name], Literal(text)))
    at = data.draw(st.integers(0, len(drawn) - 1))
    needed = data.draw(st.lists(st.sampled_from(sorted(drawn[at])), unique=True, min_size=1))

    def holds(some: Graph) -> bool:
        return all((nodes[at], SARC[name], None) in some for name in needed)

    small = shrunk(graph, holds)
    assert {(s, p) for s, p, _ in small} - {(patient, RDF.type)} == {
        (nodes[at], SARC[name]) for name in needed
    }
    # Values are as plain as they can be: no value matters here.
    plain = {"1.25": "1", "x": "x", "2024-02-21T08:30:00Z": "2024-02-21"}
    for name in needed:
        assert str(small.value(nodes[at], SARC[name])) == plain[drawn[at][name]]


# -- a wrong engine --------------------------------------------------------------------------------
def wrong(right: Engine) -> Engine:
    """An engine that passes I07a where the haemoglobin is too low."""

    def judge(cases: Sequence[Case]) -> list[Answers]:
        told = right(cases)
        return [
            {
                k: "pass" if k == ("I07a", OUTCOME) and word == "fail" else word
                for k, word in answers.items()
            }
            for answers in told
        ]

    return judge


def anaemic(number: int) -> PatientRecord:
    """Return a generated patient whose only haemoglobin is too low, on the day of entry."""
    own = shared()
    (record,) = generate(own.trial, own.kb.terms, SEED, 1, number)
    others = [f for f in record.facts if not HAEMOGLOBIN & set(f.concepts)]
    low = Fact(
        id="low",
        concepts=(str(SARC.Haemoglobin),),
        value=Decimal("8.25"),
        unit="g/dL",
        start=record.entry,
        end=record.entry,
        status=str(SARC.Confirmed),
        source="the low one",
    )
    return replace(record, facts=(*others, low))


@settings(deadline=None, max_examples=3)
@given(number=st.integers(0, 50))
@pytest.mark.threat("D14")
def test_a_patient_shrinks_to_the_one_fact_on_which_an_engine_is_wrong(
    number: int,
) -> None:
    own = shared()
    facts = engines_of(own)[FACTS]
    engines = {FACTS: facts, "wrong": wrong(facts)}
    record = anaemic(number)
    (told,) = facts([case_of(own, record)])
    # A patient about whom something measured could be anything cannot fail.
    assume(told["I07a", OUTCOME] == "fail")
    ((*found,),), _ = compared(own, [record], engines)
    (difference,) = [d for d in found if d.aspect == OUTCOME]
    assert (difference.name, difference.said) == ("I07a", {FACTS: "fail", "wrong": "pass"})
    small = differential.minimal_patient(own, engines, record, difference)
    (left,) = read_rdf(
        small.serialize(format="turtle", encoding="utf-8"), "x", "turtle", own.kb.terms.axes
    )
    assert left.entry is not None
    (fact,) = left.facts
    assert set(fact.concepts) <= HAEMOGLOBIN
    (node,) = small.objects(None, SARC.fact)
    assert set(small.predicates(node)) == {SARC[n] for n in ("concept", "value", "unit", "date")}
    assert fact.value is not None


# -- what counts as a difference -------------------------------------------------------------------
def test_differences_are_of_those_who_speak() -> None:
    clause, why, rule = ("I07a", OUTCOME), ("I07a", MISSING), ("I07", CONCLUSION)
    one = {clause: "pass", why: "", rule: "pass"}
    shacl = {clause: "pass", rule: "pass"}
    same = {FACTS: one, COHORT: one, "pyshacl": shacl, BY_HAND: {}}
    assert differences(same) == []
    assert differences({**same, BY_HAND: {clause: "fail"}}) == [
        Difference(
            "I07a", OUTCOME, {FACTS: "pass", COHORT: "pass", "pyshacl": "pass", BY_HAND: "fail"}
        )
    ]
    (silent,) = differences({**same, "pyshacl": {clause: "pass"}})
    assert (silent.name, silent.said["pyshacl"], silent.two) == ("I07", NOTHING, (FACTS, "pyshacl"))
    (other,) = differences({**same, COHORT: {**one, why: "haemoglobin"}})
    assert (other.aspect, other.said) == (MISSING, {FACTS: "", COHORT: "haemoglobin"})


def test_an_engine_that_fails_on_one_patient_differs_on_that_one() -> None:
    own = shared()
    records = list(generate(own.trial, own.kb.terms, SEED, 3))
    facts = engines_of(own)[FACTS]

    def fails(cases: Sequence[Case]) -> list[Answers]:
        if any(case.record is records[1] for case in cases):
            raise ZeroDivisionError
        return facts(cases)

    found, answers = compared(own, records, {FACTS: facts, "fails": fails})
    assert [bool(some) for some in found] == [False, True, False]
    assert {d.said["fails"] for d in found[1]} == {NOTHING, "ZeroDivisionError"}
    assert answers > 300


@pytest.mark.engines
@pytest.mark.threat("D14")
def test_all_engines_agree_on_some_patients() -> None:
    own = shared()
    engines = engines_of(own)
    assert {FACTS, COHORT, BY_HAND, "pyshacl"} <= engines.keys()
    records = list(generate(own.trial, own.kb.terms, SEED + 1, SOME))
    found, answers = compared(own, records, engines)
    assert found == [[]] * len(records)
    assert answers > len(records) * len(own.trial.clauses) * (len(engines) - 1)


# -- the command -----------------------------------------------------------------------------------
Told = tuple[int, str]


@pytest.fixture
def run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., Told]:
    def command(*words: str) -> Told:
        fast = ["--engine", FACTS, "--engine", BY_HAND, "--folder", str(tmp_path)]
        code = main([*fast, *words])
        told = capsys.readouterr()
        return code, told.out + told.err

    return command


def test_a_run_that_is_begun_again_goes_on(
    run: Callable[..., Told], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(differential, "CHUNK", 2)
    code, told = run("--patients", "4")
    assert code == 0
    assert "all engines agree on all patients" in told
    judged: list[int] = []
    honest = differential.judge

    def judge(*given: object) -> differential.Judged:
        judged.append(given[3])  # type: ignore[arg-type]
        return honest(*given)  # type: ignore[arg-type]

    monkeypatch.setattr(differential, "judge", judge)
    assert run("--patients", "7")[0] == 0
    assert judged == [4, 6]
    assert run("--patients", "8")[0] == 0
    assert judged == [4, 6, 6]
    code, told = run("--patients", "8", "--seed", "7")
    assert (code, judged) == (2, [4, 6, 6])
    assert "another seed" in told


def test_a_wrong_engine_is_told_and_kept(
    run: Callable[..., Told],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    kb: KnowledgeBase,
) -> None:
    def planted(own: object) -> dict[str, Engine]:
        honest = engines_of(own)  # type: ignore[arg-type]
        return {**honest, FACTS: wrong(honest[FACTS])}

    def made(
        trial: object, terms: object, seed: int, count: int, first: int
    ) -> list[PatientRecord]:
        return [story for _ in range(count)]

    (story,) = read_rdf(STORY.read_bytes(), "x", "turtle", kb.terms.axes)
    monkeypatch.setattr(differential, "engines_of", planted)
    monkeypatch.setattr(differential, "generate", made)
    code, told = run("--patients", "3", "--seed", "4")
    assert code == 1
    assert "engines differ on 3 patients, in 1 ways" in told
    assert "I07a outcome: deciding facts: pass, by hand: fail" in told
    (place,) = (tmp_path / "differences").iterdir()
    (left,) = read_rdf((place / "patient.ttl").read_bytes(), "x", "turtle", kb.terms.axes)
    assert [set(f.concepts) <= HAEMOGLOBIN for f in left.facts] == [True]
    noted = json.loads((place / "difference.json").read_text("utf-8"))
    assert (noted["name"], noted["seed"], noted["patient"]) == ("I07a", 4, 0)
    assert noted["facts"] == len(story.facts) > 20


TOGETHER = """
import sys
from tests.soak import differential
from tests.soak.__main__ import main
differential.CHUNK = 2
sys.exit(main(sys.argv[1:]))
"""


def test_workers_say_the_same(tmp_path: Path) -> None:
    """In a process of its own: workers are forked, and this one may have threads of libraries."""
    command = ["--engine", FACTS, "--engine", BY_HAND, "--folder", str(tmp_path)]
    command += ["--patients", "4", "--workers", "2"]
    ran = subprocess.run(
        [sys.executable, "-c", TOGETHER, *command],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    own = shared()
    engines = {name: engines_of(own)[name] for name in (FACTS, BY_HAND)}
    expected = {n: differential.judge(own, engines, SEED, n, 2) for n in (0, 2)}
    assert differential._kept(tmp_path) == expected
