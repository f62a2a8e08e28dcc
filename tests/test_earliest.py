"""The record over time: examples worked out by hand, and equality with asking day by day."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from decimal import Decimal
from itertools import pairwise
from pathlib import Path

import pytest

from sarc_kb.assess import clause_outcomes, fold
from sarc_kb.assessment import Outcome, Verdict
from sarc_kb.dates import iso, months_before, parse_date
from sarc_kb.earliest import Change, Opening, OverTime, over_time
from sarc_kb.engines.prepared_graph import prepared_graph
from sarc_kb.engines.shacl_engine import ShaclEngine
from sarc_kb.explain import explain
from sarc_kb.facts import Fact, PatientRecord
from sarc_kb.kb import KnowledgeBase
from sarc_kb.namespaces import SARC
from sarc_kb.prepare import Prepared
from sarc_kb.prepare.turns import Turns
from sarc_kb.rules import Trial
from sarc_kb.sources.read import read_sources

EXAMPLES = Path(__file__).resolve().parent.parent / "examples"
STATEMENT = str(SARC.CompletenessStatement)


def term(name: str) -> str:
    return str(SARC[name])


def fact(concept: str, start: str | None = None, end: str | None = None, **rest: object) -> Fact:
    """Return a fact of one day, or from ``start`` to ``end``, or ``ongoing``."""
    first = parse_date(start) if start else None
    last = parse_date(end) if end else None if rest.get("ongoing") else first
    name = f"{concept}-{start}-{end}"
    return Fact(
        **{"id": name, "source": name, "concepts": (term(concept),), "start": first, "end": last}
        | rest  # type: ignore[arg-type]
    )


def read(kb: KnowledgeBase, trial: Trial, name: str) -> PatientRecord:
    records, _ = read_sources([EXAMPLES / name], kb.reading_terms(trial))
    (record,) = records
    return record


@pytest.fixture(scope="module")
def eligible(kb: KnowledgeBase, trial: Trial) -> PatientRecord:
    """The eligible example: entry on 2024-03-01, laboratory of 21 February, MRI of the 12th."""
    return read(kb, trial, "eligible")


def dated(record: PatientRecord, sources: Callable[[str], bool], day: str) -> PatientRecord:
    """Return the record with the dates that some facts have moved to another day."""
    date = parse_date(day)
    facts = [
        replace(f, start=f.start and date, end=f.end and date) if sources(f.source) else f
        for f in record.facts
    ]
    return replace(record, facts=tuple(facts))


def fresh(record: PatientRecord, day: str) -> PatientRecord:
    """Return the record with all results and images of one day."""
    kept = ("childbearing", "histology", "grade")
    return dated(
        record, lambda s: s.startswith("Observation/") and not any(k in s for k in kept), day
    )


def plus(record: PatientRecord, *facts: Fact) -> PatientRecord:
    return replace(record, facts=(*record.facts, *facts))


def without(record: PatientRecord, *sources: str) -> PatientRecord:
    return replace(record, facts=tuple(f for f in record.facts if f.source not in sources))


def entering(record: PatientRecord, day: str) -> PatientRecord:
    return replace(record, entry=parse_date(day))


# -- by hand, from the protocol ----------------------------------------------------------------
def test_the_verdict_expires_with_the_laboratory(
    kb: KnowledgeBase, trial: Trial, eligible: PatientRecord
) -> None:
    # 14 days before entry: 20 February counts up to 5 March.
    record = dated(eligible, lambda s: s == "Observation/hb-1", "2024-02-20")
    found = over_time(kb, record, trial)
    assert found.verdict_now is Verdict.ELIGIBLE
    assert found.earliest == Opening("2024-03-01")
    assert found.expires == Change("2024-03-06", Verdict.UNDETERMINED, ("I07a",))
    assert (found.now, found.horizon) == ("2024-03-01", "2026-03-01")


def test_a_failing_value_expires_too_and_waiting_does_not_help(
    kb: KnowledgeBase, trial: Trial
) -> None:
    found = over_time(kb, read(kb, trial, "anaemic"), trial)  # 8.6 g/dL on 26 February
    assert found.verdict_now is Verdict.INELIGIBLE
    assert found.earliest is None
    assert found.if_repeated is None
    assert found.blocked_by == ("I07a",)
    assert found.expires == Change("2024-03-12", Verdict.UNDETERMINED, ("I07a",))


def test_a_transfusion_holds_up_to_the_day_after_its_window(
    kb: KnowledgeBase, trial: Trial, eligible: PatientRecord
) -> None:
    # 25 February and 14 days is 10 March, the last day on which it counts.
    transfused = plus(eligible, fact("BloodTransfusion", "2024-02-25"))
    found = over_time(kb, fresh(transfused, "2024-02-28"), trial)
    assert found.verdict_now is Verdict.INELIGIBLE
    assert found.earliest == Opening("2024-03-11", ("I07b", "E12"))
    assert found.expires == Change("2024-03-11", Verdict.ELIGIBLE, ("I07b", "E12"))
    assert found.blocked_by == ()


def test_what_grows_old_meanwhile_is_to_be_repeated(
    kb: KnowledgeBase, trial: Trial, eligible: PatientRecord
) -> None:
    # The laboratory of 21 February has left its window by then, the MRI of the 12th is in it.
    transfused = plus(eligible, fact("BloodTransfusion", "2024-02-25"))
    found = over_time(kb, transfused, trial)
    assert found.earliest is None
    assert found.if_repeated is not None
    assert found.if_repeated.date == "2024-03-11"
    assert found.if_repeated.held_by == ("I07b", "E12")
    assert {"I05", "I07a", "I07k", "E11a1"} <= set(found.if_repeated.repeat)
    assert not {"I04a", "I06b", "I03", "E07b"} & set(found.if_repeated.repeat)
    assert found.blocked_by == ()


@pytest.mark.parametrize(
    ("onset", "earliest"),
    [
        # 3 months before 28 and 29 February are 28 and 29 November; before 1 March, 1 December.
        ("2023-11-28", "2024-02-29"),
        ("2023-11-29", "2024-03-01"),
        ("2023-11-30", "2024-03-01"),
        ("2023-12-01", "2024-03-02"),
    ],
)
def test_months_and_their_ends(
    kb: KnowledgeBase, trial: Trial, eligible: PatientRecord, onset: str, earliest: str
) -> None:
    asked = dated(eligible, lambda s: s == "AllergyIntolerance/none-1", "2024-02-28")
    record = entering(plus(asked, fact("MyocardialInfarction", onset)), "2024-02-28")
    found = over_time(kb, record, trial)
    opening = found.earliest or found.if_repeated
    assert opening is not None
    assert (opening.date, opening.held_by) == (earliest, ("E07b",))


def test_a_month_is_over_with_its_last_day(kb: KnowledgeBase, trial: Trial) -> None:
    # Transfused some day in February: 29 February and 14 days is 14 March.
    found = over_time(kb, read(kb, trial, "imprecise-date"), trial)
    assert found.verdict_now is Verdict.UNDETERMINED
    assert found.if_repeated is not None
    assert (found.if_repeated.date, found.if_repeated.held_by) == ("2024-03-15", ("I07b", "E12"))


def test_seventeen_years_old(kb: KnowledgeBase, trial: Trial, eligible: PatientRecord) -> None:
    record = dated(fresh(eligible, "2024-03-01"), lambda s: s == "Patient/birth", "2006-03-15")
    found = over_time(kb, record, trial)
    assert found.verdict_now is Verdict.INELIGIBLE
    assert found.earliest == Opening("2024-03-15", ("I03",))
    sooner = over_time(kb, record, trial, horizon_days=13)
    assert sooner.earliest is None
    assert sooner.expires is None
    assert sooner.horizon == "2024-03-14"


def test_what_goes_on_goes_on_and_what_ends_ends(
    kb: KnowledgeBase, trial: Trial, eligible: PatientRecord
) -> None:
    going_on = fact("UnableToSwallow", "2024-02-01", ongoing=True)
    found = over_time(kb, plus(eligible, going_on), trial)
    assert found.blocked_by == ("E04a",)
    assert found.earliest is found.if_repeated is found.expires is None
    ending = fact("UnableToSwallow", "2024-02-01", "2024-03-03")
    found = over_time(kb, plus(eligible, ending), trial)
    assert found.earliest == Opening("2024-03-04", ("E04a",))


def test_the_future_is_not_seen(kb: KnowledgeBase, trial: Trial, eligible: PatientRecord) -> None:
    later = plus(
        eligible,
        fact("BloodTransfusion", "2024-03-02"),
        fact("Haemoglobin", "2024-03-03", value=Decimal("13"), unit="g/dL"),
    )
    assert over_time(kb, later, trial) == over_time(kb, eligible, trial)


@pytest.mark.parametrize(("said", "reaches"), [("2024-03-01", True), ("2024-02-29", False)])
@pytest.mark.parametrize("source", ["List/procedures", "AllergyIntolerance/none-1"])
def test_what_reaches_entry_is_carried_and_nothing_else(
    kb: KnowledgeBase,
    trial: Trial,
    eligible: PatientRecord,
    source: str,
    said: str,
    reaches: bool,
) -> None:
    record = dated(eligible, lambda s: s == source, said)
    found = over_time(kb, record, trial)
    assert (found.earliest == Opening("2024-03-01")) is reaches
    assert bool(found.blocked_by) is not reaches
    if not reaches and source.startswith("Allergy"):
        assert found.blocked_by == ("E18",)


def test_a_negative_test_runs_out(kb: KnowledgeBase, trial: Trial, eligible: PatientRecord) -> None:
    # Only the test speaks of HIV: it holds for 28 days, from 5 February up to 4 March.
    record = without(fresh(eligible, "2024-02-28"), "List/conditions", "Observation/hiv-1")
    record = plus(record, fact("HIVTest", "2024-02-05", value_concepts=(term("Negative"),)))
    now = kb.prepare(record, trial)
    assert not explain(now, trial.clauses[clause(trial, "E05a1")]).unproven
    for day, passes in (("2024-03-04", True), ("2024-03-05", False)):
        later = kb.prepare(entering(record, day), trial, unchanged_since=record.entry)
        ground = explain(later, trial.clauses[clause(trial, "E05a1")])
        assert (not ground.unproven) is passes
    # A refuted record has no such limit: it says how it was at entry, and nothing has happened.
    refuted = fact("HIVInfection", "2024-03-01", status=term("Refuted"))
    record = plus(without(record, "HIVTest-2024-02-05-None"), refuted)
    later = kb.prepare(entering(record, "2024-09-01"), trial, unchanged_since=record.entry)
    assert not explain(later, trial.clauses[clause(trial, "E05a1")]).unproven


def test_a_history_vouched_for_is_carried_where_the_source_watched(
    kb: KnowledgeBase, trial: Trial, eligible: PatientRecord
) -> None:
    silent = without(eligible, "List/procedures")
    entry = parse_date("2024-03-01").first
    for until, carried in ((entry, True), (entry - 1, False)):
        record = replace(silent, observed=((0, until),))
        found = over_time(kb, record, trial, complete=["procedures"])
        assert (found.earliest is not None) is carried
        if carried:
            assert found.expires is not None
            assert found.expires.date == "2024-03-07"


def test_this_enrolment_moves_along_and_another_does_not(
    kb: KnowledgeBase, trial: Trial, eligible: PatientRecord
) -> None:
    # The example joins this very study on the day of entry; that is no earlier enrolment.
    found = over_time(kb, eligible, trial)
    assert found.expires is not None
    assert "E17" not in found.expires.by
    before = fact(
        "InterventionalStudy",
        "2024-02-29",
        ongoing=True,
        kind=term("StudyParticipation"),
        axes=((term("study"), trial.iri),),
    )
    found = over_time(kb, plus(without(eligible, "ResearchSubject/this-study"), before), trial)
    assert "E17" in found.blocked_by


def test_a_planned_start_stays_where_it_is(
    kb: KnowledgeBase, trial: Trial, eligible: PatientRecord
) -> None:
    # Exclusion 12 counts from the planned start; inclusion 7 from entry, and opens on 11 March.
    record = plus(
        fresh(eligible, "2024-02-28"),
        fact("BloodTransfusion", "2024-02-25"),
        fact("PlannedTreatmentStart", "2024-03-05", kind=term("Plan")),
    )
    found = over_time(kb, record, trial)
    assert found.earliest is None
    assert found.blocked_by == ("E12",)


def test_an_answer_stands(kb: KnowledgeBase, trial: Trial) -> None:
    found = over_time(kb, read(kb, trial, "unwilling"), trial)
    assert found.verdict_now is Verdict.INELIGIBLE
    assert found.expires is None
    assert {c[:3] for c in found.blocked_by} == {"I08"}


def clause(trial: Trial, name: str) -> str:
    found = trial.clause_by_id(name)
    assert found is not None
    return found.iri


# -- against asking day by day -----------------------------------------------------------------
@dataclass(frozen=True)
class Day:
    """What is asked of one day: every clause, every criterion, the verdict."""

    date: str
    clauses: dict[str, Outcome]
    criteria: dict[str, Outcome]
    verdict: Verdict


def judged(prepared: Prepared, date: str, met: Iterable[str] = ()) -> Day:
    """Judge one prepared patient by explanation and fold alone; ``met`` are taken as passing."""
    trial = prepared.trial
    clauses = {}
    for iri, rule in trial.clauses.items():
        ground = explain(prepared, rule)
        clauses[iri] = (
            Outcome.FAIL
            if ground.refuted
            else Outcome.UNDETERMINED
            if ground.unproven
            else Outcome.PASS
        )
    return folded(prepared, date, {**clauses, **dict.fromkeys(met, Outcome.PASS)})


def folded(prepared: Prepared, date: str, clauses: dict[str, Outcome]) -> Day:
    criteria = {
        c.iri: Outcome.FAIL if c.iri in prepared.denied else fold(prepared.trial, c.root, clauses)
        for c in prepared.trial.criteria
    }
    outcomes = set(criteria.values())
    verdict = (
        Verdict.INELIGIBLE
        if Outcome.FAIL in outcomes
        else Verdict.UNDETERMINED
        if Outcome.UNDETERMINED in outcomes
        else Verdict.ELIGIBLE
    )
    return Day(date, clauses, criteria, verdict)


def day_by_day(
    kb: KnowledgeBase, record: PatientRecord, trial: Trial, days: int, complete: tuple[str, ...]
) -> tuple[list[Day], list[Day]]:
    """Return every day from the present entry on; and the same if what was met on an earlier day,
    and is open, had been repeated."""
    assert record.entry is not None
    real, hoped = [], []
    met: set[str] = set()
    for number in range(days + 1):
        date = iso(record.entry.first + number)
        if number == 0:
            prepared = kb.prepare(record, trial, complete=complete)
        else:
            text = date + record.entry.text[10:]
            prepared = kb.prepare(
                entering(record, text), trial, complete=complete, unchanged_since=record.entry
            )
        today = judged(prepared, date)
        real.append(today)
        old = {c for c in met if today.clauses[c] is Outcome.UNDETERMINED}
        hoped.append(folded(prepared, date, {**today.clauses, **dict.fromkeys(old, Outcome.PASS)}))
        met |= {c for c, o in today.clauses.items() if o is Outcome.PASS}
    return real, hoped


def held(trial: Trial, before: Day, after: Day) -> set[str]:
    """Return the clauses that newly pass in criteria that did not pass."""
    return {
        trial.clauses[iri].id
        for c in trial.criteria
        if before.criteria[c.iri] is not Outcome.PASS
        for iri in c.clauses
        if before.clauses[iri] is not Outcome.PASS and after.clauses[iri] is Outcome.PASS
    }


def check(trial: Trial, found: OverTime, real: list[Day], hoped: list[Day]) -> None:
    """Hold what was found against every single day."""
    now = real[0]
    assert (found.now, found.horizon, found.verdict_now) == (now.date, real[-1].date, now.verdict)
    can = [n for n, d in enumerate(real) if d.verdict is Verdict.ELIGIBLE]
    could = [n for n, d in enumerate(hoped) if d.verdict is Verdict.ELIGIBLE]
    other = [n for n, d in enumerate(real) if d.verdict is not now.verdict]
    if can:
        assert found.earliest is not None
        assert found.earliest.date == real[can[0]].date
        if can[0]:
            assert set(found.earliest.held_by) == held(trial, real[can[0] - 1], real[can[0]])
        assert not found.blocked_by
        assert not found.apart
    else:
        assert found.earliest is None
    if could and (not can or could[0] < can[0]):
        assert found.if_repeated is not None
        n = could[0]
        assert found.if_repeated.date == hoped[n].date
        assert set(found.if_repeated.held_by) == held(trial, hoped[n - 1], hoped[n])
        assert set(found.if_repeated.repeat) == held(trial, real[n], hoped[n])
    else:
        assert found.if_repeated is None
    if other:
        assert found.expires is not None
        assert (found.expires.date, found.expires.verdict) == (
            real[other[0]].date,
            real[other[0]].verdict,
        )
        before, after = real[other[0] - 1], real[other[0]]
        turned = {
            trial.clauses[i].id for i, o in after.clauses.items() if o is not before.clauses[i]
        }
        answered = {
            c.id for c in trial.criteria if before.criteria[c.iri] is not after.criteria[c.iri]
        }
        assert found.expires.by
        assert set(found.expires.by) <= turned | answered
    else:
        assert found.expires is None
    if not can and not could:
        never = [
            c for c in trial.criteria if all(d.criteria[c.iri] is not Outcome.PASS for d in hoped)
        ]
        assert bool(found.blocked_by) is bool(never)
        assert bool(found.apart) is not bool(never)
        names = {trial.clauses[i].id for c in never for i in c.clauses} | {c.id for c in never}
        assert set(found.blocked_by) <= names


def check_turns(
    kb: KnowledgeBase,
    record: PatientRecord,
    trial: Trial,
    real: list[Day],
    complete: tuple[str, ...],
) -> int:
    """Hold every clause against the days on which it may turn; return how many did."""
    begun = kb.begin(record, trial, complete=complete)
    now = kb.prepare(record, trial, complete=complete)
    turns = Turns(begun, now.statements, begun.entry.last + len(real) - 1)
    turned = 0
    for iri, rule in trial.clauses.items():
        days = {iso(d) for d in turns.of(rule)}
        for before, after in pairwise(real):
            if before.clauses[iri] is not after.clauses[iri]:
                turned += 1
                assert after.date in days, f"{rule.id} turned on {after.date}"
    return turned


CONDITIONS = (
    "MyocardialInfarction",
    "SpinalCordCompression",
    "UnableToSwallow",
    "VentricularArrhythmia",
    "MalignantNeoplasm",
    "Pregnancy",
    "BeforeMenarche",
    "LocalRecurrence",
    "HIVInfection",
    "InactiveHepatitisC",
    "SeizureDisorder",
    "Metastasis",
)
EVENTS = (
    "BloodTransfusion",
    "MajorSurgery",
    "TumourResection",
    "Doxorubicin",
    "Radiotherapy",
    "Anlotinib",
    "InterventionalStudy",
    "PlannedTreatmentStart",
    "InformedConsent",
    "StudySpecificProcedure",
)
TESTS = ("HBsAg", "HCVAntibody", "HCVRNA", "HIVTest", "PregnancyTest")
PASSING = (
    ("BloodTransfusion", 0, 14),
    ("MyocardialInfarction", 3, 0),
    ("MajorSurgery", 6, 0),
    ("Doxorubicin", 6, 0),
    ("MalignantNeoplasm", 24, 0),
)
"""What excludes for so many months, or days, and no longer."""
SCOPES = ("procedures", "conditions", "medications", "studies", "treatments", "lesions")


def waiting(rng: random.Random, record: PatientRecord) -> PatientRecord:
    """Return an eligible patient but for something that time heals before the results are old."""
    assert record.entry is not None
    entry = record.entry.first
    name, months, days = rng.choice(PASSING)
    day = months_before(entry + rng.randint(0, 12), months) - days + rng.randint(-1, 1)
    return plus(fresh(record, iso(entry - rng.randint(0, 3))), fact(name, iso(day)))


def generated(
    rng: random.Random, records: list[PatientRecord], days: int
) -> tuple[PatientRecord, tuple[str, ...]]:
    """Return an example whose days lie about the edges of windows, with more facts, and the
    histories vouched for."""
    if rng.random() < 0.25:
        return waiting(rng, records[0]), ()
    base = rng.choice(records)
    assert base.entry is not None
    entry = rng.choice(
        [base.entry, *map(parse_date, ("2024-02-28", "2024-03-30", "2024-08-31", "2023-12-31"))]
    )
    if rng.random() < 0.2:
        entry = parse_date(f"{iso(entry.first)}T09:30:00+08:00")

    def edge() -> int:
        """A day that leaves or enters some window on an entry to come."""
        turn = entry.first + rng.randint(0, days)
        months, day = rng.choice(
            [(0, 0), (0, 14), (0, 28), (0, 28), (0, 294), (3, 0), (6, 0), (12, 0), (24, 0)]
        )
        return months_before(turn, months) - day + rng.randint(-2, 2)

    def written(day: int) -> str:
        text = iso(day)
        return rng.choice([text] * 8 + [text[:7], f"{text}T23:30:00-10:00", f"{text}T08:00:00Z"])

    shift = entry.first - base.entry.first
    dropped, displaced = rng.choice([(0, 0), (0, 0), (0, 0.02), (0.01, 0.04), (0.03, 0.12)])
    newest = entry.first - rng.randint(0, 6) if rng.random() < 0.7 else None
    facts = []
    for old in base.facts:
        new = old
        moved = {
            name: parse_date(iso(value.first + shift))
            for name in ("start", "end", "recorded")
            if (value := getattr(old, name)) is not None and value.exact
        }
        if old.start is old.end and "start" in moved:
            moved["end"] = moved["start"]
        if term("Birth") not in old.concepts:
            new = replace(old, **moved)
        if (
            newest is not None
            and old.start is not None
            and 0 < base.entry.first - old.start.first < 21
        ):
            date = parse_date(iso(newest))
            new = replace(new, start=date, end=date if old.start is old.end else new.end)
        roll = rng.random()
        if roll < dropped:
            continue
        if roll < dropped + displaced and old.kind == STATEMENT:
            date = parse_date(iso(entry.first + rng.randint(-20, 5)))
            new = replace(new, end=date)
        elif (
            roll < dropped + displaced
            and old.start is old.end is not None
            and term("Birth") not in old.concepts
        ):
            date = parse_date(written(edge()))
            new = replace(new, start=date, end=date)
        facts.append(new)
    if rng.random() < 0.15:
        birth = months_before(entry.first + rng.randint(-2, days), 18 * 12)
        date = parse_date(written(birth))
        facts = [
            replace(f, start=date, end=date) if term("Birth") in f.concepts else f for f in facts
        ]
    for number in range(rng.choice((0, 1, 1, 2, 3))):
        name = rng.choice(CONDITIONS + EVENTS + EVENTS + TESTS)
        more: dict[str, object] = {"id": f"more-{number}", "source": f"more-{number}"}
        if name in TESTS:
            more["value_concepts"] = (term(rng.choice(("Negative", "Negative", "Positive"))),)
        if name == "InformedConsent":
            more["value_concepts"] = (term("ConsentInForce"),)
        more["status"] = rng.choice([None] * 6 + [term("Refuted")] * 2 + [term("Suspected")])
        start = edge()
        form = rng.random()
        if form < 0.15:
            more["ongoing"] = True
        text = written(start)
        end = iso(max(start + 40, edge())) if 0.15 < form < 0.4 else None
        facts.append(fact(name, text, end, **more))
    observed = None
    complete: tuple[str, ...] = ()
    if rng.random() < 0.25:
        complete = tuple(rng.sample(SCOPES, rng.randint(1, 3)))
        if rng.random() < 0.7:
            cut = entry.first + rng.choice((-400, -30, 20))
            observed = ((cut - 3000, cut), (cut + 1, entry.first + rng.randint(-3, 3)))
    return replace(base, entry=entry, facts=tuple(facts), observed=observed), complete


@pytest.fixture(scope="module")
def records(kb: KnowledgeBase, trial: Trial) -> list[PatientRecord]:
    """The examples that are nearest to eligible: the more can turn."""
    names = ("eligible", "unit-surprise", "childbearing-potential", "recurrent-after-chemotherapy")
    return [read(kb, trial, n) for n in (*names, "imprecise-date", "hepatitis-c-antibody")]


def against_every_day(
    kb: KnowledgeBase, trial: Trial, records: list[PatientRecord], seed: int, days: int
) -> int:
    record, complete = generated(random.Random(seed), records, days)
    real, hoped = day_by_day(kb, record, trial, days, complete)
    turned = check_turns(kb, record, trial, real, complete)
    found = over_time(kb, record, trial, horizon_days=days, complete=complete)
    check(trial, found, real, hoped)
    return turned


@pytest.mark.parametrize("seed", range(8))
def test_equal_to_asking_day_by_day(
    kb: KnowledgeBase, trial: Trial, records: list[PatientRecord], seed: int
) -> None:
    against_every_day(kb, trial, records, seed, 60)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(100, 110))
def test_equal_to_asking_day_by_day_for_longer(
    kb: KnowledgeBase, trial: Trial, records: list[PatientRecord], seed: int
) -> None:
    against_every_day(kb, trial, records, seed, 120)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(200, 202))
def test_equal_to_asking_day_by_day_for_two_years(
    kb: KnowledgeBase, trial: Trial, records: list[PatientRecord], seed: int
) -> None:
    against_every_day(kb, trial, records, seed, 730)


# -- the supposition itself --------------------------------------------------------------------
def test_nothing_is_supposed_about_the_present_day(
    kb: KnowledgeBase, trial: Trial, records: list[PatientRecord]
) -> None:
    for record in records:
        plain = kb.prepare(record, trial)
        same = kb.prepare(record, trial, unchanged_since=record.entry)
        assert same.statements == plain.statements
        assert same.windows == plain.windows
        assert same.items == plain.items
        assert (same.cleared, same.denied) == (plain.cleared, plain.denied)


def test_carrying_is_the_same_as_saying_it_again(
    kb: KnowledgeBase, trial: Trial, eligible: PatientRecord
) -> None:
    """Statements that reach entry, written anew with the later day, give the same outcomes."""
    day = "2024-03-05"
    date = parse_date(day)
    again = tuple(
        replace(f, end=date, start=date if f.start else None)
        if f.kind == STATEMENT
        else replace(f, start=date, end=date)
        if f.source == "AllergyIntolerance/none-1"
        else replace(f, start=date)
        if f.source == "ResearchSubject/this-study"
        else f
        for f in eligible.facts
    )
    carried = judged(
        kb.prepare(entering(eligible, day), trial, unchanged_since=eligible.entry), day
    )
    said = judged(kb.prepare(replace(entering(eligible, day), facts=again), trial), day)
    assert carried == said
    assert carried.verdict is Verdict.ELIGIBLE


def test_the_processor_agrees_about_later_days(
    kb: KnowledgeBase, trial: Trial, engine: ShaclEngine, eligible: PatientRecord
) -> None:
    record = fresh(plus(eligible, fact("BloodTransfusion", "2024-02-25")), "2024-02-28")
    for day, verdict in (("2024-03-10", Verdict.INELIGIBLE), ("2024-03-11", Verdict.ELIGIBLE)):
        prepared = kb.prepare(entering(record, day), trial, unchanged_since=record.entry)
        readings = engine.run(prepared_graph(prepared))
        shown = judged(prepared, day)
        assert clause_outcomes(trial, readings.refuted, readings.unproven) == shown.clauses
        assert shown.verdict is verdict
