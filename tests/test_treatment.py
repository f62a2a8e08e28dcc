"""The course of a treatment: every step of the ladder, courses that keep to all rules, courses with
one thing wrong, and another medicine with another ladder by data alone.

What is expected is worked out here, by plain arithmetic on days and doses; it shares nothing with
the program but the names of the rules.
"""

from __future__ import annotations

import itertools
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import date, timedelta
from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sarc_kb.assessment import Conclusion, Outcome, TreatmentOutcome
from sarc_kb.dates import parse_date
from sarc_kb.explain import explain
from sarc_kb.facts import Fact, PatientRecord
from sarc_kb.kb import KnowledgeBase, data_folder
from sarc_kb.namespaces import SARC
from sarc_kb.rules import Trial
from sarc_kb.treatment import last_day, outcomes_at_entry, rule_outcome

often = settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
ENTRY = date(2024, 3, 1)
QUIET = {TreatmentOutcome.CONFORMANT, TreatmentOutcome.PERMITTED, TreatmentOutcome.NOT_RULED}


# -- records ---------------------------------------------------------------------------------------
def fact(
    name: str,
    start: date,
    end: date | None = None,
    value: object = None,
    unit: str | None = None,
    coded: str | None = None,
    kind: str | None = None,
    **axes: str,
) -> Fact:
    first = parse_date(start.isoformat())
    return Fact(
        id=f"{name} {start} {value} {axes}",
        kind=kind,
        concepts=(str(SARC[name]),),
        value=None if value is None else Decimal(str(value)),
        unit=unit,
        value_concepts=() if coded is None else (str(SARC[coded]),),
        start=first,
        end=first if end is None else parse_date(end.isoformat()),
        axes=tuple((str(SARC[a]), str(SARC[v])) for a, v in axes.items()),
        source=f"{name}/{start}/{value}",
    )


def complete(scope: str, day: date) -> Fact:
    return replace(
        fact(scope, day, kind=str(SARC.CompletenessStatement)),
        start=None,
        end=parse_date(day.isoformat()),
    )


@dataclass
class Course:
    """A course of treatment as somebody might plan it; `facts` spells it out day by day."""

    surgery: date = ENTRY + timedelta(days=13)
    wait: int = 25
    rhythm: str = "weeks"
    margin: str = "R0"
    boost: Decimal = Decimal(0)
    # Treatment day from which a lower dose is taken, and that dose; a toxicity the day before.
    steps: tuple[tuple[int, int], ...] = ()
    fractions: int = 25
    size: Decimal = Decimal("2.0")
    technique: str = "IMRT"
    drug: str = "Anlotinib"
    first_dose: int = 12
    extra: tuple[Fact, ...] = ()
    # Treatment days on which a dose is left out, added, or doubled.
    skipped: frozenset[int] = frozenset()
    added: Mapping[int, int] = field(default_factory=dict)
    twice: frozenset[int] = frozenset()
    route: str = "OralRoute"
    triggers: bool = True
    radiotherapy_wait: int = 40

    @property
    def day_one(self) -> date:
        return self.surgery + timedelta(days=self.wait)

    def day(self, number: int) -> date:
        return self.day_one + timedelta(days=number - 1)

    def on(self, number: int) -> bool:
        return (number - 1) % 21 < 14 if self.rhythm == "weeks" else number % 3 != 0

    def dose(self, number: int) -> int:
        return next((d for n, d in reversed(self.steps) if n <= number), self.first_dose)

    @property
    def doses(self) -> list[tuple[int, int]]:
        planned = {n: self.dose(n) for n in range(1, 85) if self.on(n) and n not in self.skipped}
        taken = sorted((planned | dict(self.added)).items())
        return [pair for pair in taken for _ in range(2 if pair[0] in self.twice else 1)]

    @property
    def facts(self) -> tuple[Fact, ...]:
        radiated = self.surgery + timedelta(days=self.radiotherapy_wait)
        ended = radiated + timedelta(days=44)
        base = self.fractions * self.size
        found = [
            fact("Leiomyosarcoma", ENTRY - timedelta(days=30), bodySite="Thigh"),
            fact("TumourResection", self.surgery),
            fact("SurgicalMargin", self.surgery + timedelta(days=4), coded=f"Margin{self.margin}"),
            fact("PostoperativeRadiotherapy", radiated, ended, technique=self.technique),
            fact("BaseDose", ended, value=base, unit="Gy"),
            fact("BaseFractions", ended, value=self.fractions, unit="1"),
            fact("BaseDosePerFraction", ended, value=self.size, unit="Gy"),
            fact("BoostDose", ended, value=self.boost, unit="Gy"),
        ]
        for number, (day, amount) in enumerate(self.doses):
            one = fact(self.drug, self.day(day), value=amount, unit="mg", route=self.route)
            found.append(replace(one, id=f"dose {number}", source=f"dose {number}"))
        if self.triggers:
            found += [
                fact(
                    "ToxicityEvent",
                    self.day(n - 1),
                    coded="ToxicityGrade3",
                    relatedTo="RelatedToTreatment",
                )
                for n, _ in self.steps
            ]
        end = self.day(110)
        scopes = ("DosingRecord", "AdverseEventRecord", "FollowUpRecord", "RadiotherapyRecord")
        found += [complete(s, end) for s in (*scopes, "ProcedureHistory")]
        return (*found, *self.extra)

    @property
    def record(self) -> PatientRecord:
        return PatientRecord("urn:x", "x", parse_date(ENTRY.isoformat()), self.facts, "generated")


def judged(
    kb: KnowledgeBase, trial: Trial, record: PatientRecord, as_of: date | None = None
) -> dict[str, TreatmentOutcome]:
    """Return the outcome of every treatment rule by the deciding facts (that the processors agree
    with them is shown on cases and examples)."""
    part = trial.treatment
    assert part is not None
    day = parse_date(as_of.isoformat()) if as_of else last_day(record)
    prepared = kb.prepare(record, part, as_of=day)
    grounds = {iri: explain(prepared, clause) for iri, clause in part.clauses.items()}
    outcomes = {
        iri: Outcome.FAIL if g.refuted else Outcome.UNDETERMINED if g.unproven else Outcome.PASS
        for iri, g in grounds.items()
    }
    at_entry = outcomes_at_entry(kb.prepare(record, trial), part.criteria)
    return {r.id: rule_outcome(prepared, r, outcomes, grounds, at_entry) for r in part.criteria}


def wrong(outcomes: Mapping[str, TreatmentOutcome]) -> dict[str, str]:
    return {name: o.value for name, o in outcomes.items() if o not in QUIET}


# -- the ladder ------------------------------------------------------------------------------------
LEVELS = (12, 10, 8)
DOSES = (12, 10, 8, 9)


def broken(path: Iterable[int]) -> set[str]:
    """Which rules of the ladder a sequence of doses breaks, by a table of the protocol's words."""
    found = set()
    for a, b in itertools.pairwise(path):
        if b > a:
            found.add("T17")  # a step back up
        if a == 12 and b < a and b != 10:
            found.add("T07")  # the first step leads to 10 mg
        if a == 10 and b < a and b != 8:
            found.add("T08")  # the second to 8 mg
    if any(dose not in LEVELS for dose in path):
        found.add("T10")
    if path[0] != 12:
        found.add("T01")  # the course starts with 12 mg
    return found


PATHS = [p for n in (1, 2, 3) for p in itertools.product(DOSES, repeat=n)]


@pytest.mark.parametrize("path", PATHS, ids=lambda p: "-".join(map(str, p)))
def test_every_walk_on_the_ladder(path: tuple[int, ...], kb: KnowledgeBase, trial: Trial) -> None:
    """All 84 walks of up to three doses over the levels and a dose that is none."""
    steps = tuple((1 + 21 * n, dose) for n, dose in enumerate(path))
    course = Course(steps=steps[1:], first_dose=path[0])
    outcomes = judged(kb, trial, course.record)
    ladder = ("T01", "T07", "T08", "T10", "T17")
    assert {r for r in ladder if outcomes[r] not in QUIET} == broken(path)
    assert {outcomes[r] for r in broken(path)} <= {TreatmentOutcome.VIOLATION}


@pytest.mark.parametrize("stop", ["DiseaseProgression", "UnacceptableToxicity", "Death"])
@pytest.mark.parametrize("level", LEVELS)
def test_nothing_follows_a_state_without_a_way_out(
    stop: str, level: int, kb: KnowledgeBase, trial: Trial
) -> None:
    steps = tuple((1 + 21 * n, d) for n, d in enumerate(LEVELS[1 : LEVELS.index(level) + 1], 1))
    for after, expected in ((0, TreatmentOutcome.CONFORMANT), (1, TreatmentOutcome.VIOLATION)):
        # The event on the day of the last dose, or on the day before it.
        course = Course(steps=steps, skipped=frozenset(range(72, 85)))
        last = max(n for n, _ in course.doses)
        event = fact(stop, course.day(last - after))
        outcomes = judged(kb, trial, replace(course, extra=(event,)).record)
        assert outcomes["T03"] is expected
        assert outcomes["T05"] is TreatmentOutcome.CONFORMANT  # a reason to stop was there


def test_after_the_lowest_level_was_not_tolerated_nothing_follows(
    kb: KnowledgeBase, trial: Trial
) -> None:
    course = Course(steps=((22, 10), (43, 8)), skipped=frozenset(range(51, 85)))
    stopped = fact("DoseNotTolerated", course.day(50), value=8, unit="mg")
    kept = judged(kb, trial, replace(course, extra=(stopped,)).record)
    assert wrong(kept) == {}
    went_on = replace(course, extra=(stopped,), added={53: 8})
    assert wrong(judged(kb, trial, went_on.record)) == {"T09": "violation"}


# -- courses ---------------------------------------------------------------------------------------
@st.composite
def courses(draw: st.DrawFn) -> Course:
    margin, least, most = draw(st.sampled_from([("R0", 0, 0), ("R1", 10, 16), ("R2", 16, 18)]))
    reduced = draw(st.integers(0, 2))
    rhythm = draw(st.sampled_from(["weeks", "days"]))
    on = (15 + 7, 43) if rhythm == "weeks" else (20, 41)
    return Course(
        surgery=ENTRY + timedelta(days=draw(st.integers(0, 40))),
        wait=draw(st.integers(21, 28)),
        rhythm=rhythm,
        margin=margin,
        boost=draw(st.decimals(least, most, places=1)),
        steps=tuple(zip(on, (10, 8), strict=True))[:reduced],
        technique=draw(st.sampled_from(["IMRT", "VMAT"])),
        radiotherapy_wait=draw(st.integers(20, 60)),
    )


@often
@given(courses())
def test_a_course_that_keeps_to_the_protocol_is_conformant(
    kb: KnowledgeBase, trial: Trial, course: Course
) -> None:
    outcomes = judged(kb, trial, course.record)
    assert wrong(outcomes) == {}
    assert (outcomes["T06"] is TreatmentOutcome.PERMITTED) == bool(course.steps)
    assert (outcomes["T19"] is TreatmentOutcome.PERMITTED) == (course.technique == "VMAT")


# Day 18 is off in both rhythms, so that neither fits.
MUTATIONS: dict[str, tuple[dict[str, object], dict[str, str]]] = {
    "a day too early": ({"wait": 20}, {"T04": "deviation"}),
    "a day too late": ({"wait": 29}, {"T04": "deviation"}),
    "a dose on a day off": ({"added": {18: 12}}, {"T01": "violation"}),
    "two doses on one day": ({"twice": frozenset({4})}, {"T01": "violation"}),
    "not by mouth": ({"route": "OtherRoute"}, {"T01": "violation"}),
    "a dose that is no level": ({"added": {1: 12, 2: 11}}, None),  # type: ignore[dict-item]
    "ended after three cycles": ({"skipped": frozenset(range(64, 85))}, {"T05": "deviation"}),
    "a dose after three months": ({"added": {106: 12}}, {"T05": "deviation"}),
    "fractions of 2.5 Gy": (
        {"fractions": 20, "size": Decimal("2.5")},
        {"T12": "violation"},
    ),
    "24 fractions": ({"fractions": 24}, {"T12": "violation"}),
    "another technique": ({"technique": "ConformalRadiotherapy"}, {"T12": "violation"}),
    "radiotherapy before surgery": ({"radiotherapy_wait": -10}, {"T11": "deviation"}),
}


@pytest.mark.parametrize("name", MUTATIONS)
@settings(
    max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(course=courses())
def test_one_thing_wrong_is_reported_as_that(
    name: str, course: Course, kb: KnowledgeBase, trial: Trial
) -> None:
    change, expected = MUTATIONS[name]
    plain = replace(course, steps=(), surgery=course.surgery + timedelta(days=15))
    mutant = replace(plain, **change)  # type: ignore[arg-type]
    if expected is None:
        expected = {"T10": "violation", "T17": "violation", "T07": "violation", "T06": "deviation"}
    if name == "a dose after three months" and not plain.on(106):
        expected = {**expected, "T01": "violation"}
    if name == "radiotherapy before surgery" and plain.radiotherapy_wait < 0:
        return
    assert wrong(judged(kb, trial, mutant.record)) == expected


@often
@given(courses(), st.decimals(0, 30, places=1))
def test_the_boost_is_judged_by_the_margin(
    kb: KnowledgeBase, trial: Trial, course: Course, boost: Decimal
) -> None:
    allowed = {"R0": (0, 0), "R1": (10, 16), "R2": (16, 18)}
    expected = {}
    least, most = allowed[course.margin]
    if not least <= boost <= most:
        expected[{"R0": "T13", "R1": "T14", "R2": "T15"}[course.margin]] = "deviation"
    if boost != 0 and not 10 <= boost <= 18:
        expected["T20"] = "deviation"
    assert wrong(judged(kb, trial, replace(course, boost=boost).record)) == expected


@often
@given(courses(), st.integers(-20, 20))
def test_the_calendar_does_not_matter(
    kb: KnowledgeBase, trial: Trial, course: Course, days: int
) -> None:
    """Move the entry and every event together, and nothing changes but what counts months."""
    moved = timedelta(days=7 * days)

    def later(one: Fact) -> Fact:
        def shift(day: object) -> object:
            return day and parse_date((date.fromisoformat(day.text) + moved).isoformat())  # type: ignore[attr-defined]

        start = shift(one.start)
        return replace(one, start=start, end=start if one.end is one.start else shift(one.end))  # type: ignore[arg-type]

    record = course.record
    other = replace(
        record,
        entry=parse_date((ENTRY + moved).isoformat()),
        facts=tuple(map(later, record.facts)),
    )
    assert judged(kb, trial, other) == judged(kb, trial, record)


@often
@given(courses(), st.data())
def test_losing_facts_never_makes_a_course_worse_or_clears_it(
    kb: KnowledgeBase, trial: Trial, course: Course, data: st.DataObject
) -> None:
    """A lost statement of completeness opens rules; it never turns one into a fault, and what was
    broken stays broken or opens."""
    broken_course = replace(course, wait=29, steps=((22, 8),))
    kinds = {f.concepts[0] for f in broken_course.facts if f.kind is not None}
    lost = data.draw(st.sampled_from(sorted(kinds)))
    record = broken_course.record
    before = judged(kb, trial, record)
    less = replace(record, facts=tuple(f for f in record.facts if f.concepts[0] != lost))
    after = judged(kb, trial, less)
    bad = {TreatmentOutcome.VIOLATION, TreatmentOutcome.DEVIATION}
    assert {r for r, o in after.items() if o in bad} <= {r for r, o in before.items() if o in bad}
    for rule, outcome in before.items():
        if outcome in bad:
            assert after[rule] in (outcome, TreatmentOutcome.UNDETERMINED), rule


def test_a_course_in_progress(kb: KnowledgeBase, trial: Trial) -> None:
    course = Course()
    early = judged(kb, trial, course.record, course.surgery + timedelta(days=10))
    assert early["T16"] is TreatmentOutcome.CONFORMANT
    open_rules = {r for r, o in early.items() if o is TreatmentOutcome.NOT_YET_APPLICABLE}
    assert {"T01", "T04", "T05", "T11", "T12", "T13"} <= open_rules
    assert not set(early.values()) & {
        TreatmentOutcome.VIOLATION,
        TreatmentOutcome.DEVIATION,
        TreatmentOutcome.UNDETERMINED,
    }


# -- another medicine, by data alone ---------------------------------------------------------------
def test_a_second_medicine_with_another_ladder_is_a_matter_of_data(tmp_path: Path) -> None:
    """The same rules for pazopanib, and four levels: no line of Python."""
    root = data_folder()
    for part in ("ontology", "shapes"):
        shutil.copytree(root / part, tmp_path / part)
    folder = tmp_path / "shapes" / "trials" / "nct05602415"
    for path in folder.rglob("*.cases.ttl"):
        path.unlink()
    terms = folder / "terms" / "course.ttl"
    text = terms.read_text("utf-8")
    for old, new in (
        ('"12 mg"@en ; sarc:amount 12.0', '"800 mg"@en ; sarc:amount 800.0'),
        ('"10 mg"@en ; sarc:amount 10.0', '"600 mg"@en ; sarc:amount 600.0'),
        ('"8 mg"@en ; sarc:amount 8.0', '"400 mg"@en ; sarc:amount 400.0'),
        ("trial:level-10mg trial:level-8mg )", "trial:level-10mg trial:level-8mg trial:level-4 )"),
        ("sarc:member trial:level-8mg .", "sarc:member trial:level-4 ."),
    ):
        assert text.count(old) == 1
        text = text.replace(old, new)
    text += '\ntrial:level-4 a sarc:DoseLevel ; rdfs:label "200 mg"@en ; sarc:amount 200.0 .\n'
    terms.write_text(text, "utf-8")
    for path in folder.rglob("*.ttl"):
        changed = path.read_text("utf-8").replace("sarc:Anlotinib ", "sarc:Pazopanib ")
        changed = changed.replace("12.0 ;", "800.0 ;") if path.stem.startswith("T01a") else changed
        path.write_text(changed, "utf-8")
    kb = KnowledgeBase.load(tmp_path)
    trial = kb.compile()
    course = Course(drug="Pazopanib", first_dose=800, steps=((22, 600), (43, 400), (64, 200)))
    assert wrong(judged(kb, trial, course.record)) == {}
    skipped = replace(course, steps=((22, 400),))
    assert wrong(judged(kb, trial, skipped.record)) == {"T07": "violation"}
    none = replace(course, steps=((22, 500),))
    assert wrong(judged(kb, trial, none.record)) == {"T07": "violation", "T10": "violation"}
    # What another medicine was taken for is nothing to this course.
    mixed = replace(course, extra=(fact("Anlotinib", course.day(5), value=12, unit="mg"),))
    assert wrong(judged(kb, trial, mixed.record)) == {}


# -- the whole, once -------------------------------------------------------------------------------
def test_the_processor_and_the_timeline(kb: KnowledgeBase) -> None:
    trial, engine = kb.engine()
    course = Course(margin="R1", boost=Decimal(12), steps=((22, 8),), wait=29)
    assessment = kb.assess_record(course.record, trial, engine, only="treatment")
    treatment = assessment.treatment
    assert treatment is not None
    assert treatment.conclusion is Conclusion.VIOLATION
    assert wrong({r.id: r.outcome for r in treatment.rules}) == {
        "T04": "deviation",
        "T07": "violation",
    }
    assert assessment.criteria == ()
    doses = [e for e in treatment.timeline if e.track == "anlotinib"]
    assert sum(e.count for e in doses) == len(course.doses)
    marked = [e for e in doses if "T07" in e.rules]
    assert [(e.start, e.day) for e in marked] == [
        (course.day(14).isoformat(), 14),
        (course.day(22).isoformat(), 22),
    ]
    starts = [e.start for e in treatment.timeline]
    assert starts == sorted(starts)


def test_who_only_entered_has_no_course(kb: KnowledgeBase) -> None:
    trial, engine = kb.engine()
    record = replace(Course().record, facts=(fact("Haemoglobin", ENTRY, value=12, unit="g/dL"),))
    assert kb.assess_record(record, trial, engine).treatment is None
    asked = kb.assess_record(record, trial, engine, only="treatment").treatment
    assert asked is not None
    assert asked.conclusion is Conclusion.IN_PROGRESS
