"""Independent SHACL processors agree, and a processor that fails, skips or contradicts is caught.

Boundary cases run with the rules of their own criterion, examples with the whole rule base. To
stay fast the cases are a sample with a fixed stride; a test holds that it meets every criterion.
"""

from __future__ import annotations

from collections import Counter
from decimal import Decimal
from functools import cache
from pathlib import Path
from random import Random

import pytest
from rdflib import RDF, BNode, Graph, URIRef

from sarc_kb.assess import clause_outcomes, fold
from sarc_kb.assessment import Outcome, Verdict
from sarc_kb.cases import Case, criterion_of, load_cases, part_of
from sarc_kb.dates import PartialDate, parse_date
from sarc_kb.engines import shacl_engine
from sarc_kb.engines.prepared_graph import PLACES, prepared_graph
from sarc_kb.engines.shacl_engine import ENGINE_NAMES, PySHACL, Readings, ShaclEngine, violations
from sarc_kb.engines.shapes import CANARY, READINGS, exported_shapes
from sarc_kb.errors import EngineError, UsageError
from sarc_kb.facts import Fact, PatientRecord
from sarc_kb.kb import KnowledgeBase, data_folder
from sarc_kb.namespaces import SARC, SH
from sarc_kb.rules import Trial
from sarc_kb.sources.read import read_sources
from sarc_kb.treatment import last_day

COMPONENTS = data_folder() / "shapes" / "components"
EXAMPLES = Path(__file__).resolve().parent.parent / "examples"
STORIES = sorted(p for p in EXAMPLES.glob("*/*") if p.stem in ("patient", "bundle"))
STRIDE = 7
OTHERS = {"pyshifty": "shifty", "pyshacl-turbo": "pyshacl_turbo"}
_KB = KnowledgeBase.load()
_ALL = [
    (name, case)
    for name, folder in _KB.trial_folders.items()
    for case in load_cases(folder, _KB.terms.axes)
]
SAMPLE = _ALL[::STRIDE]

others = pytest.mark.parametrize("other", sorted(OTHERS))


@cache
def compiled(name: str, readings: tuple[tuple[str, str], ...]) -> Trial:
    return _KB.compile(name, readings=dict(readings))


@cache
def criterion_engine(
    engine: str, name: str, readings: tuple[tuple[str, str], ...], criterion: str
) -> ShaclEngine:
    part = part_of(compiled(name, readings), criterion)
    return ShaclEngine(part, COMPONENTS, engine, only=(criterion,))


@cache
def example_graphs(path: Path) -> tuple[Graph, Graph]:
    """The prepared graphs of an example: for eligibility, and for treatment."""
    trial = compiled(_KB.default_trial(), ())
    records, problems = read_sources([path], _KB.reading_terms(trial))
    assert not problems
    (record,) = records
    assert trial.treatment is not None
    course = _KB.prepare(record, trial.treatment, as_of=last_day(record))
    return prepared_graph(_KB.prepare(record, trial)), prepared_graph(course)


def example_graph(path: Path) -> Graph:
    return example_graphs(path)[0]


@cache
def example_readings(path: Path) -> Readings:
    return whole_engine("pyshacl").run(example_graph(path))


@cache
def course_readings(path: Path, engine: str) -> Readings:
    treatment = whole_engine(engine).treatment
    assert treatment is not None
    return treatment.run(example_graphs(path)[1])


@cache
def whole_engine(engine: str) -> ShaclEngine:
    return ShaclEngine(compiled(_KB.default_trial(), ()), COMPONENTS, engine)


@cache
def case_graph(number: int) -> tuple[Graph, tuple[tuple[str, str], ...], str, str]:
    name, case = SAMPLE[number]
    chosen = tuple(sorted(case.readings.items()))
    trial = part_of(compiled(name, chosen), case.rule)
    graph = prepared_graph(_KB.prepare(case.record, trial, as_of=day_of(trial, case)))
    return graph, chosen, name, criterion_of(trial, case.rule)


def day_of(part: Trial, case: Case) -> PartialDate | None:
    """The day a case is judged by: a course as far as it is known."""
    return case.as_of or (None if part.course is None else last_day(case.record))


@cache
def case_readings(number: int) -> Readings:
    graph, chosen, name, criterion = case_graph(number)
    return criterion_engine("pyshacl", name, chosen, criterion).run(graph)


def need(other: str) -> None:
    pytest.importorskip(OTHERS[other], reason=f"{other} is not installed (extra fast)")


# -- agreement -------------------------------------------------------------------------------------
@pytest.mark.engines
@others
@pytest.mark.threat("D14")
def test_boundary_cases_agree(other: str) -> None:
    need(other)
    differ = []
    for number, (_, case) in enumerate(SAMPLE):
        graph, chosen, name, criterion = case_graph(number)
        if criterion_engine(other, name, chosen, criterion).run(graph) != case_readings(number):
            differ.append(case.id)
    assert not differ
    assert len(SAMPLE) > 50


def test_the_sample_of_cases_meets_every_criterion() -> None:
    trial = compiled(_KB.default_trial(), ())
    sampled = {
        criterion_of(part_of(trial, case.rule), case.rule)
        for _, case in SAMPLE
        if not case.readings
    }
    assert sampled == {c.iri for part in trial.parts for c in part.criteria}


@pytest.mark.engines
@others
@pytest.mark.parametrize("path", STORIES, ids=lambda p: p.parent.name)
@pytest.mark.threat("D14")
def test_examples_agree(path: Path, other: str) -> None:
    need(other)
    assert whole_engine(other).run(example_graph(path)) == example_readings(path)


@pytest.mark.engines
@others
@pytest.mark.parametrize(
    "path", [p for p in STORIES if "course" in p.parent.name], ids=lambda p: p.parent.name
)
@pytest.mark.threat("D14")
def test_courses_agree(path: Path, other: str) -> None:
    need(other)
    assert course_readings(path, other) == course_readings(path, "pyshacl")


@cache
def exported_processor(engine: str, reading: str) -> shacl_engine.Processor:
    build = shacl_engine._ENGINES[engine][0]
    return build(exported_shapes(compiled(_KB.default_trial(), ()), COMPONENTS, reading))  # type: ignore[arg-type]


@pytest.mark.engines
@pytest.mark.parametrize("engine", ENGINE_NAMES)
def test_exported_joins_come_out_as_our_fold(engine: str) -> None:
    """The processor evaluates ``sh:and`` and ``sh:or`` itself; a criterion's own shape also stands
    for the answer that denies it."""
    if engine in OTHERS:
        need(engine)
    trial = compiled(_KB.default_trial(), ())
    # pySHACL evaluates nested shapes again for each parent: a few stories show enough of it.
    stories = STORIES[::5] if engine == "pyshacl" else STORIES
    seen = set()
    for path in stories:
        violated = {
            reading: violations(exported_processor(engine, reading).run(example_graph(path)))
            for reading in READINGS
        }
        readings = example_readings(path)
        folded = clause_outcomes(trial, readings.refuted, readings.unproven)
        shapes = {
            r: {s for s, c in violated[r] if c != str(SARC.NotDeniedConstraintComponent)}
            for r in READINGS
        }
        for node in (*trial.clauses, *trial.joins):
            outcome = (
                Outcome.FAIL
                if node in shapes["refuted"]
                else Outcome.UNDETERMINED
                if node in shapes["unproven"]
                else Outcome.PASS
            )
            assert outcome is fold(trial, node, folded), f"{path.parent.name}: {node}"
            seen.add((node in trial.joins, outcome))
        for reading, found in (("refuted", readings.refuted), ("unproven", readings.unproven)):
            denied = str(SARC.NotDeniedConstraintComponent)
            assert {k for k in violated[reading] if k[1] == denied} == {
                k for k in found if k[1] == denied
            }
    assert len(seen) == 6


# -- processors that cannot be trusted -------------------------------------------------------------
def report(*results: tuple[str, str]) -> Graph:
    graph = Graph()
    for shape, component in results:
        node = BNode()
        graph.add((node, RDF.type, SH.ValidationResult))
        graph.add((node, SH.sourceShape, URIRef(shape)))
        graph.add((node, SH.sourceConstraintComponent, URIRef(component)))
    return graph


_SEEN = (CANARY, str(SARC.AttestedConstraintComponent))
_RESULT = ("urn:rule", str(SARC.NoneConstraintComponent))


class Fake:
    """A processor that reports what it is told to, or fails."""

    def __init__(self, answer: Graph | Exception) -> None:
        self.answer = answer

    def run(self, data: Graph) -> Graph:
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


def faked(
    engine: ShaclEngine, refuted: Graph | Exception, unproven: Graph | Exception
) -> ShaclEngine:
    copy = object.__new__(ShaclEngine)
    copy.name, copy.version = "fake", "1"
    copy.processors = {"refuted": Fake(refuted), "unproven": Fake(unproven)}
    return copy


def code_of(engine: ShaclEngine) -> str:
    with pytest.raises(EngineError) as caught:
        engine.run(Graph())
    return caught.value.findings[0].code


def test_a_consistent_processor_is_believed(engine: ShaclEngine) -> None:
    readings = faked(engine, report(_SEEN), report(_SEEN, _RESULT)).run(Graph())
    assert readings == Readings(Counter(), Counter([_RESULT]))


@pytest.mark.threat("D2")
def test_a_processor_that_reports_nothing_is_caught(engine: ShaclEngine) -> None:
    assert code_of(faked(engine, report(), report())) == "ENGINE004"
    assert code_of(faked(engine, report(_SEEN), report(_RESULT))) == "ENGINE004"


def test_refuted_but_not_unproven_is_caught(engine: ShaclEngine) -> None:
    assert code_of(faked(engine, report(_SEEN, _RESULT), report(_SEEN))) == "ENGINE002"


def test_an_exception_is_an_engine_error(engine: ShaclEngine) -> None:
    assert code_of(faked(engine, ZeroDivisionError("boom"), report(_SEEN))) == "ENGINE001"


@pytest.mark.threat("D2")
def test_a_graph_without_a_patient_is_no_pass(engine: ShaclEngine) -> None:
    assert code_of(engine) == "ENGINE004"


@pytest.mark.threat("D1")
def test_shapes_without_components_are_no_pass(engine: ShaclEngine, trial: Trial) -> None:
    """The SHACL standard lets a processor pass over what it does not know."""
    bare = PySHACL(
        Graph().parse(
            data=f"""
        @prefix sh: <http://www.w3.org/ns/shacl#> . @prefix sarc: <{SARC}> .
        <{CANARY}> a sh:NodeShape ; sh:targetClass sarc:Patient ; sarc:attested <{CANARY}> .""",
            format="turtle",
        )
    )
    deaf = faked(engine, report(), report())
    deaf.processors = {"refuted": bare, "unproven": bare}
    with pytest.raises(EngineError) as caught:
        deaf.run(example_graph(STORIES[0]))
    assert caught.value.findings[0].code == "ENGINE004"


@pytest.mark.threat("G2")
def test_an_engine_error_is_the_patients_verdict(
    kb: KnowledgeBase, trial: Trial, engine: ShaclEngine
) -> None:
    (record,), _ = read_sources([EXAMPLES / "eligible" / "patient.ttl"], kb.reading_terms(trial))
    assessment = kb.assess_record(record, trial, faked(engine, report(), report()))
    assert assessment.verdict is Verdict.ERROR
    assert assessment.error is not None
    assert assessment.error.code == "ENGINE004"


def test_unknown_name(trial: Trial) -> None:
    with pytest.raises(UsageError) as caught:
        ShaclEngine(trial, COMPONENTS, "nonesuch")
    (finding,) = caught.value.findings
    assert finding.code == "USE006"
    assert all(name in finding.fix for name in ENGINE_NAMES)


@others
def test_absent_extra(trial: Trial, other: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(package: str) -> str:
        raise shacl_engine.importlib.metadata.PackageNotFoundError(package)

    monkeypatch.setattr(shacl_engine.importlib.metadata, "version", absent)
    with pytest.raises(UsageError) as caught:
        ShaclEngine(trial, COMPONENTS, other)
    (finding,) = caught.value.findings
    assert finding.code == "USE007"
    assert "sarc-kb[fast]" in finding.fix


# -- what is left out of the prepared graph --------------------------------------------------------
def same_readings(case: Case, name: str, engine: str) -> bool:
    chosen = tuple(sorted(case.readings.items()))
    trial = part_of(compiled(name, chosen), case.rule)
    prepared = _KB.prepare(case.record, trial, as_of=day_of(trial, case))
    small, whole = prepared_graph(prepared), prepared_graph(prepared, whole=True)
    if len(small) == len(whole):
        return False
    run = criterion_engine(engine, name, chosen, criterion_of(trial, case.rule)).run
    assert run(small) == run(whole), case.id
    return True


def test_what_is_left_out_changes_no_reading() -> None:
    assert sum(same_readings(case, name, "pyshacl") for name, case in _ALL[::3]) > 20


def test_what_is_left_out_of_crowded_records_changes_no_reading(trial: Trial) -> None:
    """Results of one analyte that tie, overlap, contradict, are vague, suspected or out of date."""
    chance = Random(20240301)
    clause = next(
        c
        for c in trial.clauses.values()
        if c.component == "latest" and c.role and c.role.concept_set == str(SARC.Haemoglobin)
    )
    engine = ShaclEngine(trial, COMPONENTS, only=(clause.criterion,))
    entry = parse_date("2024-03-01")
    dates = [
        "2024",
        "2024-02",
        "2024-02-10",
        "2024-02-20",
        "2024-02-20T08:00:00",
        "2024-02-20T09:30:00+02:00",
        "2024-02-28",
        "2019-05-05",
    ]
    outcomes, shrunk = Counter[str](), 0
    for _ in range(50):
        pool = chance.choice([["8.0", "8.9"], ["9.0", "12.0"], ["8.9", "9.0", "12.0"]])
        comparators, units = chance.choice(
            [([None], ["g/dL"]), ([None, "<", ">"], ["g/dL", "furlong"])]
        )
        facts = [
            Fact(
                id=f"f{n}",
                kind=str(SARC.Measurement),
                concepts=(str(SARC.Haemoglobin),),
                value=Decimal(chance.choice(pool)),
                comparator=chance.choice(comparators),
                unit=chance.choice(units),
                start=(day := parse_date(chance.choice(dates))),
                end=day,
                status=chance.choice([None, None, None, str(SARC.Suspected)]),
                source=f"result {n}",
            )
            for n in range(chance.choice([2, 4, 9]))
        ]
        prepared = _KB.prepare(PatientRecord("urn:patient", "patient", entry, tuple(facts)), trial)
        small, whole = prepared_graph(prepared), prepared_graph(prepared, whole=True)
        readings = engine.run(small)
        assert readings == engine.run(whole)
        shrunk += len(small) < len(whole)
        outcomes[clause_outcomes(trial, readings.refuted, readings.unproven)[clause.iri].word] += 1
    assert shrunk > 15
    assert len(outcomes) == 3


def test_bounds_have_no_more_places_than_the_graph(trial: Trial) -> None:
    """On this rests that shortening a long decimal changes no comparison."""
    bounds = [
        bound
        for clause in trial.clauses.values()
        for role in (clause.role, clause.second)
        if role is not None
        for bound in (
            role.bounds.at_least,
            role.bounds.more_than,
            role.bounds.at_most,
            role.bounds.less_than,
        )
        if bound is not None
    ]
    assert bounds
    assert all(bound == round(bound, PLACES) for bound in bounds)
