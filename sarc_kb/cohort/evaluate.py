"""The relational plan: from facts and clauses as tables to outcomes, in a fixed number of steps.

1. `matches`: join facts with what their profiles are to the tests; is each match certain, possible?
2. `decide`: group by patient and test; a few aggregates give both readings, silence aside. Tests
   about pairs join the few rows that possibly match with themselves.
3. `words`: group by patient; one bit a clause in machine words.
4. `outcomes`: what is settled, cleared and denied joins in, and the trees of ``and`` and ``or`` are
   folded as expressions over the words. Clauses without any fact need no row: their bits are 0.

Everything is an Ibis expression, so that DuckDB, PostgreSQL and Spark run the same plan. The meaning
is that of ``docs/rule-language.md``; tests hold it against the SHACL engine.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Any

import ibis

from sarc_kb.assessment import TreatmentOutcome
from sarc_kb.cohort.plan import BASE, Frame, Plan, mask, place
from sarc_kb.cohort.rows import KINDS, NO_DOUBT
from sarc_kb.cohort.tables import COMPONENT
from sarc_kb.rules import Criterion
from sarc_kb.treatment import UNKEPT

FAIL, UNDETERMINED, PASS = 0, 1, 2
"""Outcomes as the numbers of `sarc_kb.assessment.Outcome`."""
TREATMENT = tuple(TreatmentOutcome)
"""Outcomes of treatment rules, the worst first; a column holds the place here."""
_BITS = ("against", "for", "may", "read", "sourced")
"""What a test tells of a patient, a bit each; see `decide`."""
_LATEST, _SOME, _NONE, _NO_PAIR, _EACH_HAS = (
    COMPONENT[c] for c in ("latest", "some", "none", "noPair", "eachHas")
)
_VALUE, _CONFLICT = KINDS.index("value"), KINDS.index("conflict")

# Ibis has no types that a checker could use.
Table = Any
Column = Any


@dataclass(frozen=True, slots=True)
class Inputs:
    """The tables of `sarc_kb.cohort.tables` in some database."""

    facts: Table
    standing: Table
    profile_tests: Table
    tests: Table
    variants: Table


def matches(inputs: Inputs) -> Table:
    """Return a row for each fact and each test that may read it, with how it matches.

    ``taken``: the selection takes it, possibly; ``surely``: certainly. ``may``: it is possibly a
    match, results and limits included; ``sure``: certainly; ``fits``: certainly, if it is taken.
    """
    facts, tests = inputs.facts, inputs.profile_tests
    joined = facts.join(tests, "profile")
    taken = joined.degree >= 1
    fits = (joined.accepted == 2) & (joined.lo >= joined.least) & (joined.hi <= joined.most)
    surely = joined.degree == 2
    may = taken & (joined.accepted >= 1) & (joined.hi >= joined.least) & (joined.lo <= joined.most)
    inside = (joined.lo >= joined.least) & (joined.hi <= joined.most)
    overlaps = (joined.hi >= joined.least) & (joined.lo <= joined.most)
    # Why the fact does not decide, if it does not; `sarc_kb.explain.doubt_kind` says the same.
    doubt_kind = ibis.cases(
        (joined.bounded & (joined.problem != NO_DOUBT), joined.problem),
        (joined.doubt != NO_DOUBT, joined.doubt),
        (joined.bounded & overlaps & ~inside, _VALUE),
        else_=_CONFLICT,
    ).cast("int32")
    return joined.mutate(
        taken=taken,
        surely=surely,
        fits=fits,
        sure=surely & fits,
        may=may,
        doubt_kind=doubt_kind,
    )


def decide(matched: Table) -> Table:
    """Return, for each patient and test that some fact speaks to, what the facts tell.

    ``against``: they refute it (for `eachHas`: if its history is complete). ``for``: they prove it.
    ``may``: something possibly matches (`eachHas`: something lacks a certain partner), so that
    silence is no answer. ``read``: there are deciding facts. ``sourced``: what speaks against it
    stands on record. ``newest``: the greatest minute by which a certainly selected fact began.
    ``taken``: the selection takes some fact, possibly.
    """
    return _single(matched).union(_pairs(matched))


def _single(matched: Table) -> Table:
    rows = matched.filter(matched.component <= _NONE)
    grouped = rows.group_by(["pid", "test", "component"]).agg(
        newest=rows.first_minute.max(where=rows.surely),
        last_may=rows.last_minute.max(where=rows.may),
        last_not=rows.last_minute.max(where=rows.taken & ~rows.fits),
        last_sourced=rows.last_minute.max(where=rows.taken & rows.sourced),
        sure=rows.sure.any(),
        may=rows.may.any(),
        taken=rows.taken.any(),
        sure_sourced=(rows.sure & rows.sourced).any(),
    )
    latest = grouped.component == _LATEST
    dated = grouped.newest.notnull()

    def reaches(last: Column) -> Column:
        return last.notnull() & (last >= grouped.newest)

    refuted = dated & ~reaches(grouped.last_may)
    proven = dated & ~reaches(grouped.last_not)
    return grouped.select(
        "pid",
        "test",
        "component",
        "newest",
        "taken",
        **{
            "against": ibis.ifelse(latest, refuted, (grouped.component == _NONE) & grouped.sure),
            "for": ibis.ifelse(latest, proven, (grouped.component == _SOME) & grouped.sure),
            "may": grouped.may,
            "read": ibis.ifelse(latest, grouped.taken, grouped.may),
            "sourced": ibis.ifelse(
                latest, ~dated | reaches(grouped.last_sourced), grouped.sure_sourced
            ),
        },
    )


def paired(matched: Table) -> Table:
    """Return each first of a pair with each second that there may be (none: nulls), and ``gap``,
    the degree to which the second lies within the gap."""
    rows = matched.filter((matched.component >= _NO_PAIR) & matched.may)
    columns = ["pid", "test", "fact", "first_minute", "last_minute"]
    columns += ["sure", "sourced", "source", "doubt_kind"]
    first = rows.filter(rows.role == 0).select(*columns, "component", "gap_from", "gap_to")
    second = rows.filter(rows.role == 1).select(
        "pid", "test", **{f"second_{name}": rows[name] for name in columns[2:]}
    )
    joined = first.left_join(second, ["pid", "test"])
    moment = (
        (joined.first_minute == joined.last_minute)
        & (joined.second_first_minute == joined.second_last_minute)
        & (joined.first_minute == joined.second_first_minute)
    )
    least = joined.second_first_minute - joined.last_minute
    most = joined.second_last_minute - joined.first_minute
    there = (
        joined.second_fact.notnull()
        & (joined.second_fact != joined.fact)
        & ~moment
        & (most >= joined.gap_from)
        & (least <= joined.gap_to)
    )
    inside = (least >= joined.gap_from) & (most <= joined.gap_to)
    gap = ibis.ifelse(there, ibis.ifelse(inside, 2, 1), 0)
    joined = joined.mutate(gap=ibis.coalesce(gap, 0))
    return joined.mutate(
        surely_paired=(joined.gap == 2) & joined.sure & joined.second_sure,
        has_sure=(joined.gap == 2) & joined.second_sure,
    )


def _pairs(matched: Table) -> Table:
    pairs = paired(matched)
    firsts = pairs.group_by(["pid", "test", "component", "fact"]).agg(
        sure=pairs.sure.any(),
        sourced=pairs.sourced.any(),
        may_have=(pairs.gap >= 1).any(),
        has=_true(pairs.has_sure).any(),
        paired=_true(pairs.surely_paired).any(),
        paired_sourced=_true(
            pairs.surely_paired & (pairs.sourced | _true(pairs.second_sourced))
        ).any(),
    )
    lonely = firsts.sure & ~firsts.may_have
    no_pair = firsts.component == _NO_PAIR
    grouped = firsts.group_by(["pid", "test", "component"]).agg(
        against=ibis.ifelse(no_pair, firsts.paired, lonely).any(),
        may=ibis.ifelse(no_pair, firsts.may_have, ~firsts.has).any(),
        sourced=ibis.ifelse(no_pair, firsts.paired_sourced, lonely & firsts.sourced).any(),
    )
    return grouped.select(
        "pid",
        "test",
        "component",
        newest=ibis.null("int64"),
        taken=ibis.literal(True),
        **{
            "against": grouped.against,
            "for": ibis.literal(False),
            "may": grouped.may,
            "read": ibis.ifelse(grouped.component == _NO_PAIR, grouped.may, True),
            "sourced": grouped.sourced,
        },
    )


def _true(condition: Column) -> Column:
    """Return the condition, false where it is not known."""
    return ibis.coalesce(condition, False)


def evidence(matched: Table, decided: Table) -> Table:
    """Return, for each patient and test that some fact speaks to, the sources of the deciding facts
    (``failed_by`` where the record refutes the clause, ``rests_on`` where it does not), ``doubts``,
    a bit for each kind of doubt about them, and ``near``: a fact lies outside the window.

    `sarc_kb.explain` selects the same facts for one patient.
    """
    rows = _deciding(matched, decided)
    for more in (_deciding_pairs(matched, decided), _partners_of_each(matched)):
        rows = rows.union(more)
    # A fact may stand in a pair as the first and as the second; its doubt is that of the first.
    facts = rows.group_by(["pid", "test", "fact", "source"]).agg(
        if_failed=rows.if_failed.any(),
        if_not=rows.if_not.any(),
        near=rows.near.any(),
        first_doubt=rows.doubt_kind.max(where=rows.role == 0),
        any_doubt=rows.doubt_kind.max(),
    )
    doubt = ibis.coalesce(facts.first_doubt, facts.any_doubt)
    named = facts.source != ""
    doubts = [
        ibis.ifelse((doubt == kind).any(where=facts.if_not), 1 << kind, 0)
        for kind in range(len(KINDS))
    ]
    return facts.group_by(["pid", "test"]).agg(
        failed_by=facts.source.collect(where=facts.if_failed & named, distinct=True),
        rests_on=facts.source.collect(where=facts.if_not & named, distinct=True),
        doubts=ibis.coalesce(reduce(lambda x, y: x + y, doubts), 0).cast("int64"),
        near=facts.near.any(),
    )


_EVIDENCE = ("pid", "test", "fact", "source", "role", "if_failed", "if_not", "doubt_kind", "near")


def _deciding(matched: Table, decided: Table) -> Table:
    told = decided.select("pid", "test", "newest", "against", proves=decided["for"])
    rows = matched.filter(matched.component <= _NONE).join(told, ["pid", "test"])
    latest = rows.component == _LATEST
    has_sure = ibis.ifelse(rows.component == _NONE, rows.against, rows.proves)
    at_the_end = rows.newest.isnull() | (rows.last_minute >= rows.newest)
    deciding = ibis.ifelse(
        latest, rows.taken & at_the_end, ibis.ifelse(has_sure, rows.sure, rows.may)
    )
    open_ = ibis.ifelse(latest, ~(rows.against | rows.proves), ~has_sure)
    return rows.mutate(
        if_failed=deciding,
        if_not=deciding,
        doubt_kind=_doubt(open_, rows.doubt_kind),
        near=latest & (rows.degree == 0),
    ).select(*_EVIDENCE)


def _deciding_pairs(matched: Table, decided: Table) -> Table:
    pairs = paired(matched)
    rows = pairs.filter(pairs.component == _NO_PAIR).join(
        decided.select("pid", "test", "against"), ["pid", "test"]
    )
    in_pair = ibis.ifelse(rows.against, _true(rows.surely_paired), rows.gap >= 1)
    rows = rows.mutate(if_failed=in_pair, if_not=in_pair, near=ibis.literal(False))
    rows = rows.filter(rows.if_not)
    first = rows.mutate(
        role=ibis.literal(0, "int32"), doubt_kind=_doubt(~rows.against, rows.doubt_kind)
    )
    second = rows.mutate(
        fact=rows.second_fact,
        source=rows.second_source,
        role=ibis.literal(1, "int32"),
        doubt_kind=_doubt(~rows.against, rows.second_doubt_kind),
    )
    return first.select(*_EVIDENCE).union(second.select(*_EVIDENCE))


def _partners_of_each(matched: Table) -> Table:
    """Return the evidence of `eachHas`: those without a partner if that refutes it, else all."""
    pairs = paired(matched)
    pairs = pairs.filter(pairs.component == _EACH_HAS)
    firsts = pairs.group_by(["pid", "test", "fact", "source"]).agg(
        sure=pairs.sure.any(),
        doubt_kind=pairs.doubt_kind.max(),
        may_have=(pairs.gap >= 1).any(),
        has=_true(pairs.has_sure).any(),
    )
    first = firsts.mutate(
        role=ibis.literal(0, "int32"),
        if_failed=firsts.sure & ~firsts.may_have,
        if_not=ibis.literal(True),
        doubt_kind=_doubt(~firsts.has, firsts.doubt_kind),
        near=ibis.literal(False),
    )
    partners = pairs.filter(pairs.gap >= 1)
    second = partners.mutate(
        fact=partners.second_fact,
        source=partners.second_source,
        role=ibis.literal(1, "int32"),
        if_failed=ibis.literal(False),
        if_not=ibis.literal(True),
        doubt_kind=ibis.literal(NO_DOUBT, "int32"),
        near=ibis.literal(False),
    )
    return first.select(*_EVIDENCE).union(second.select(*_EVIDENCE))


def _doubt(condition: Column, kind: Column) -> Column:
    return ibis.ifelse(condition, kind, NO_DOUBT).cast("int32")


def words(decided: Table, tests: Table, plan: Plan) -> Table:
    """Return a row for each patient, frame and variant (`BASE`: for all) with the bits of its
    clauses, columns such as ``against_0``."""
    placed = decided.select("pid", "test", *_BITS).join(
        tests.select("test", "frame", "variant", "word", "bit"), "test"
    )
    bits = {
        # Each test sets its own bit once, so that a sum is what a bitwise or would be.
        f"{name}_{word}": ibis.ifelse(placed[name] & (placed.word == word), placed.bit, 0)
        .sum()
        .cast("int64")
        for name in _BITS
        for word in range(plan.words)
    }
    return placed.group_by(["pid", "frame", "variant"]).agg(**bits)


def readings(inputs: Inputs, packed: Table, frame: Frame) -> Table:
    """Return a row for each patient and variant of ``frame`` with the words of both readings:
    ``refuted_0``, ``proven_0`` …, those by the record alone (``by_record_refuted_0`` …), and the
    standing."""
    standing = inputs.standing.filter(inputs.standing.frame == frame.number)
    columns = [f"{name}_{word}" for name in _BITS for word in range(frame.words)]

    def of(variant: Column) -> Table:
        rows = packed.filter((packed.frame == frame.number) & variant)
        return rows.select("pid", "variant", *columns)

    base = of(packed.variant == BASE)
    if len(frame.variants) == 1:
        table = standing.mutate(variant=ibis.literal(0, "int32"))
        table = _with_words(table, base.drop("variant"), ["pid"], columns, "")
    else:
        variants = inputs.variants.filter(inputs.variants.frame == frame.number)
        table = standing.join(variants.select("variant"), how="cross")
        table = _with_words(table, base.drop("variant"), ["pid"], columns, "base_")
        table = _with_words(table, of(packed.variant != BASE), ["pid", "variant"], columns, "own_")
        table = table.mutate(**{c: table[f"base_{c}"] | table[f"own_{c}"] for c in columns})
        table = table.drop(*(f"{kind}{c}" for kind in ("base_", "own_") for c in columns))
    return table.mutate(**_both_readings(table, frame))


def _with_words(
    table: Table, added: Table, keys: list[str], columns: Sequence[str], prefix: str
) -> Table:
    """Return ``table`` with the words of ``added``, 0 where it has no row."""
    renamed = added.select(
        **{f"added_{k}": added[k] for k in keys}, **{f"added_{c}": added[c] for c in columns}
    )
    joined = table.left_join(renamed, [table[k] == renamed[f"added_{k}"] for k in keys])
    filled = {f"{prefix}{c}": ibis.coalesce(joined[f"added_{c}"], 0) for c in columns}
    return joined.mutate(**filled).drop(
        *(f"added_{k}" for k in keys), *(f"added_{c}" for c in columns)
    )


def _both_readings(table: Table, frame: Frame) -> dict[str, Column]:
    found: dict[str, Column] = {}
    of = {
        component: [s for s, c in enumerate(frame.clauses) if c.component == component]
        for component in (*COMPONENT, "attested")
    }
    attestable = [s for s, c in enumerate(frame.clauses) if c.attestable]
    for w in range(frame.words):

        def bits(name: str, w: int = w) -> Column:
            return table[f"{name}_{w}"]

        masks = {component: mask(slots, w) for component, slots in of.items()}
        against, settled = bits("against"), bits("settled")
        silent = _without(settled, bits("may"))
        refuted = (
            (against & (masks["latest"] | masks["none"] | masks["noPair"]))
            | (against & settled & masks["eachHas"])
            | (silent & masks["some"])
        )
        proven = (bits("for") & (masks["latest"] | masks["some"])) | (
            silent & (masks["none"] | masks["noPair"] | masks["eachHas"])
        )
        may_answer = mask(attestable, w)
        denied = bits("denied") & may_answer
        cleared = bits("cleared") & may_answer
        found[f"by_record_refuted_{w}"] = refuted
        found[f"by_record_proven_{w}"] = _without(proven, refuted)
        # A denial by a person stands, whatever else the record shows; an answer that clears never
        # overrides what the record contradicts.
        found[f"refuted_{w}"] = refuted | denied
        found[f"proven_{w}"] = _without(proven | cleared, refuted | denied)
    return found


def _without(bits: Column, other: Column) -> Column:
    """Return the ``bits`` that are not in ``other``. Ibis 12 writes the complement of a compound
    expression without its parentheses; a difference needs no complement."""
    return bits - (bits & other)


def rule_outcomes(table: Table, frame: Frame) -> dict[str, Column]:
    """Return the outcome of each criterion or treatment rule of ``frame``, by its id, for a table
    of `readings`: the numbers of fail, undetermined and pass, or the places in `TREATMENT`."""
    found: dict[str, Column] = {}
    for number, rule in enumerate(frame.criteria):
        failed = _folded(table, frame, rule.root, "refuted") | has_bit(table, "refused", number)
        passed = _folded(table, frame, rule.root, "proven")
        if frame.is_treatment:
            outcome = _told(table, frame, number, rule, failed, passed)
        else:
            outcome = ibis.ifelse(failed, FAIL, ibis.ifelse(passed, PASS, UNDETERMINED))
        found[rule.id] = outcome.cast("int32")
    return found


def _told(
    table: Table, frame: Frame, number: int, rule: Criterion, failed: Column, passed: Column
) -> Column:
    """Return what is told of a treatment rule; `sarc_kb.treatment.rule_outcome` says the same of
    one patient."""
    conformant = ibis.literal(TREATMENT.index(TreatmentOutcome.CONFORMANT))
    if rule.compares is not None:
        turned = (has_bit(table, "before_failed", number) & passed) | (
            has_bit(table, "before_passed", number) & failed
        )
        return ibis.ifelse(turned, TREATMENT.index(TreatmentOutcome.DEVIATION), conformant)
    outcome, tells_open = UNKEPT[rule.modality]
    unkept = ibis.literal(TREATMENT.index(outcome))
    kept = conformant
    if rule.modality == "Permission":
        used = _any_bit(table, ("read",), frame, rule)
        kept = ibis.ifelse(used, TREATMENT.index(TreatmentOutcome.PERMITTED), conformant)
    if not tells_open:
        return ibis.ifelse(passed, kept, ibis.ifelse(failed, unkept, conformant))
    shown = _any_bit(table, ("refuted", "sourced"), frame, rule)
    waits = ibis.literal(False)
    if rule.due:
        waits = ~has_bit(table, "due", number) & ~(failed & shown)
    return ibis.ifelse(
        passed,
        kept,
        ibis.ifelse(
            waits,
            TREATMENT.index(TreatmentOutcome.NOT_YET_APPLICABLE),
            ibis.ifelse(failed, unkept, TREATMENT.index(TreatmentOutcome.UNDETERMINED)),
        ),
    )


def _any_bit(table: Table, names: tuple[str, ...], frame: Frame, rule: Criterion) -> Column:
    """Return whether some clause of the rule has its bit in all of the named words."""
    slots = [frame.slots[clause] for clause in rule.clauses]
    found = []
    for w in range(frame.words):
        bits = mask(slots, w)
        if bits:
            both = reduce(lambda a, b: a & b, (table[f"{name}_{w}"] for name in names))
            found.append((both & bits) != 0)
    return _or(found)


def has_bit(table: Table, name: str, slot: int) -> Column:
    word, bit = place(slot)
    return (table[f"{name}_{word}"] & bit) != 0


def _folded(table: Table, frame: Frame, node: str, reading: str) -> Column:
    """Return whether ``node`` fails (reading ``refuted``) or passes (``proven``) by Kleene's tables:
    an ``and`` fails when some child does and passes when all do, an ``or`` the other way round.
    Clauses of one join are looked at together, a mask for each word."""
    join = frame.part.joins.get(node)
    children = (node,) if join is None else join.children
    by_any = (join is None or join.operator == "and") == (reading == "refuted")
    masks: dict[int, int] = {}
    found: list[Column] = []
    for child in children:
        if child in frame.slots:
            word, bit = place(frame.slots[child])
            masks[word] = masks.get(word, 0) | bit
        else:
            found.append(_folded(table, frame, child, reading))
    for word, bits in masks.items():
        set_bits = table[f"{reading}_{word}"] & bits
        found.append(set_bits != 0 if by_any else set_bits == bits)
    return (_or if by_any else _and)(found)


def _or(conditions: Iterable[Column]) -> Column:
    return reduce(lambda a, b: a | b, conditions)


def _and(conditions: Iterable[Column]) -> Column:
    return reduce(lambda a, b: a & b, conditions)
