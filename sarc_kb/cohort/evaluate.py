"""The relational plan: from facts and clauses as tables to outcomes, in a fixed number of steps.

1. `matches`: join facts with what their profiles are to the tests; is each match certain, possible?
2. `words`: group by patient; each match gives a bit of its clause in machine words, and "or" is all
   that joins them: what a later fact supersedes was left out while preparing. Tests about pairs join
   the few rows that possibly match with themselves first.
3. `readings`: what is settled, cleared and denied joins in, and the words of both readings follow.
   Clauses without any fact need no row: their bits are 0.
4. `rule_outcomes`: the trees of ``and`` and ``or`` are folded as expressions over the words.

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
_BITS = ("sure", "may", "unfit", "sourced")
"""What facts tell of a clause, a bit each; see `words`."""
_PLACE = ("pid", "frame", "variant", "word", "bit")
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
    variants: Table


def matches(facts: Table, tests: Table) -> Table:
    """Return a row for each fact and each of the ``tests`` (rows of `PROFILE_TESTS`) that may read
    it, with how it matches.

    ``surely``: the selection takes it certainly, else possibly. ``may``: it is possibly a match,
    results and limits included; ``fits``: certainly, if it is taken; ``sure``: certainly.
    """
    joined = facts.join(tests, "profile")
    inside = (joined.lo >= joined.least) & (joined.hi <= joined.most)
    overlaps = (joined.hi >= joined.least) & (joined.lo <= joined.most)
    surely = joined.degree == 2
    fits = (joined.accepted == 2) & inside
    # Why the fact does not decide, if it does not; `sarc_kb.explain.doubt_kind` says the same.
    doubt_kind = ibis.cases(
        (joined.bounded & (joined.problem != NO_DOUBT), joined.problem),
        (joined.doubt != NO_DOUBT, joined.doubt),
        (joined.bounded & overlaps & ~inside, _VALUE),
        else_=_CONFLICT,
    ).cast("int32")
    return joined.mutate(
        surely=surely,
        fits=fits,
        sure=surely & fits,
        may=(joined.accepted >= 1) & overlaps,
        doubt_kind=doubt_kind,
    )


def singles(facts: Table, inputs: Inputs) -> Table:
    """Return the matches of the tests that look at one fact at a time."""
    tests = inputs.profile_tests
    return matches(facts, tests.filter((tests.degree >= 1) & (tests.component <= _NONE)))


def outside(facts: Table, inputs: Inputs) -> Table:
    """Return the patients and tests for which some fact lies outside the window, ``near`` it."""
    tests = inputs.profile_tests
    old = tests.filter(tests.degree == 0).select("profile", "test")
    return facts.select("pid", "profile").join(old, "profile").select("pid", "test").distinct()


def _bit_or(bits: int) -> int:
    """Stand for the aggregate of that name. DuckDB, PostgreSQL and Spark all have it, though Ibis
    itself writes it for the first two alone."""
    raise NotImplementedError


bit_or: Any = ibis.udf.agg.builtin(_bit_or, name="bit_or")


def words(single: Table, pairs: Table, plan: Plan) -> Table:
    """Return a row for each patient, frame and variant (`BASE`: for all) with what facts tell of
    its clauses, a bit for each, in columns such as ``sure_0``.

    ``sure``: `latest`: its moment is certain; `some`, `none`: a certain match; pairs: the facts
    refute it (`eachHas`: if its history is complete). ``may``: something possibly matches
    (`eachHas`: something lacks a certain partner), so that silence is no answer. ``unfit``:
    `latest`: one that may be the latest is no certain match; `eachHas`: there is something to have
    partners. ``sourced``: what speaks against it stands on record.

    Args:
        single: the rows of `singles`.
        pairs: the rows of `paired`.
    """
    latest = single.component == _LATEST
    told = single.select(
        *_PLACE,
        sure=single.surely & (latest | single.fits),
        may=single.may,
        unfit=latest & ~single.fits,
        sourced=single.sourced & (latest | single.sure),
    ).union(_of_pairs(pairs))
    bits = {
        f"{name}_{word}": bit_or(ibis.ifelse(told[name] & (told.word == word), told.bit, 0))
        for name in _BITS
        for word in range(plan.words)
    }
    return told.group_by(["pid", "frame", "variant"]).agg(**bits)


def paired(facts: Table, inputs: Inputs) -> Table:
    """Return each first of a pair with each second that there may be (none: nulls), and ``gap``,
    the degree to which the second lies within the gap."""
    tests = inputs.profile_tests
    rows = matches(facts, tests.filter((tests.degree >= 1) & (tests.component >= _NO_PAIR)))
    rows = rows.filter(rows.may)
    columns = ["pid", "test", "fact", "first_minute", "last_minute"]
    columns += ["sure", "sourced", "source", "doubt_kind"]
    first = rows.filter(rows.role == 0).select(
        *columns, *_PLACE[1:], "component", "gap_from", "gap_to", "of_one_set"
    )
    second = rows.filter(rows.role == 1).select(
        "pid", "test", **{f"second_{name}": rows[name] for name in columns[2:]}
    )
    joined = first.left_join(second, ["pid", "test"])
    moment = (
        joined.of_one_set
        & (joined.first_minute == joined.last_minute)
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


def _of_pairs(pairs: Table) -> Table:
    firsts = pairs.group_by([*_PLACE, "component", "fact"]).agg(
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
    return firsts.select(
        *_PLACE,
        sure=ibis.ifelse(no_pair, firsts.paired, lonely),
        may=ibis.ifelse(no_pair, firsts.may_have, ~firsts.has),
        unfit=~no_pair,
        sourced=ibis.ifelse(no_pair, firsts.paired_sourced, lonely & firsts.sourced),
    )


def _true(condition: Column) -> Column:
    """Return the condition, false where it is not known."""
    return ibis.coalesce(condition, False)


def deciding(single: Table, pairs: Table, packed: Table, plan: Plan) -> Table:
    """Return the facts that decide: a row for each patient, test and fact with its ``source``, a text.

    ``if_failed``: it decides where the record refutes the clause; ``if_not``: where it does not.
    ``doubt``: why it does not settle the clause, a place in `KINDS` (`NO_DOUBT`: it does).
    ``packed``: the table of `words`. `sarc_kb.explain` selects the same facts for one patient.
    """
    found = _deciding_singles(_with_told(single, packed, plan))
    return found.union(_deciding_of_pairs(_with_told(pairs, packed, plan)))


def doubts(facts: Table) -> Table:
    """Return ``doubts`` of each patient and test of `deciding` that has any, a bit for each kind."""
    rows = facts.filter(facts.doubt != NO_DOUBT)
    kinds = ((rows.doubt == kind, 1 << kind) for kind in range(len(KINDS)))
    rows = rows.mutate(kind=ibis.cases(*kinds, else_=0).cast("int64"))
    return rows.group_by(["pid", "test"]).agg(doubts=bit_or(rows.kind))


def _with_told(rows: Table, packed: Table, plan: Plan) -> Table:
    """Return the rows with what the facts together tell of their tests: columns of `_TOLD`."""
    words_of = packed.select(
        told_pid=packed.pid,
        told_frame=packed.frame,
        told_variant=packed.variant,
        **{f"{n}_{w}": packed[f"{n}_{w}"] for n in _TOLD.values() for w in range(plan.words)},
    )
    joined = rows.join(
        words_of,
        [
            rows.pid == words_of.told_pid,
            rows.frame == words_of.told_frame,
            rows.variant == words_of.told_variant,
        ],
    )
    return joined.mutate(
        **{
            name: bit_at([joined[f"{of}_{w}"] for w in range(plan.words)], joined)
            for name, of in _TOLD.items()
        }
    )


_TOLD = {"is_sure": "sure", "is_possible": "may", "is_unfit": "unfit"}


def bit_at(of_words: Sequence[Column], place_of: Table) -> Column:
    """Return whether the bit is set that the columns ``word`` and ``bit`` of a table name."""
    chosen = of_words[0]
    for number, word in enumerate(of_words[1:], 1):
        chosen = ibis.ifelse(place_of.word == number, word, chosen)
    return (chosen & place_of.bit) != 0


def _deciding_singles(rows: Table) -> Table:
    latest = rows.component == _LATEST
    decides = rows.is_sure & ~(latest & rows.is_possible & rows.is_unfit)
    # What certainly matches, where something does; all that may be the latest.
    chosen = latest | ibis.ifelse(rows.is_sure, rows.sure, rows.may)
    rows = rows.mutate(doubt=_doubt(~decides, rows.doubt_kind)).filter(chosen)
    facts = rows.group_by(["pid", "test", "fact"]).agg(
        source=rows.source.max(), doubt=rows.doubt.max()
    )
    always = ibis.literal(True)
    return facts.select("pid", "test", "source", if_failed=always, if_not=always, doubt=facts.doubt)


def _deciding_of_pairs(pairs: Table) -> Table:
    rows = _deciding_pairs(pairs).union(_partners_of_each(pairs))
    # A fact may stand in a pair as the first and as the second; its doubt is that of the first.
    facts = rows.group_by(["pid", "test", "fact", "source"]).agg(
        if_failed=rows.if_failed.any(),
        if_not=rows.if_not.any(),
        first_doubt=rows.doubt_kind.max(where=rows.role == 0),
        any_doubt=rows.doubt_kind.max(),
    )
    doubt = ibis.ifelse(facts.if_not, facts.first_doubt.fill_null(facts.any_doubt), NO_DOUBT)
    return facts.select("pid", "test", "source", "if_failed", "if_not", doubt=doubt.cast("int32"))


_EVIDENCE = ("pid", "test", "fact", "source", "role", "if_failed", "if_not", "doubt_kind")


def _deciding_pairs(pairs: Table) -> Table:
    rows = pairs.filter(pairs.component == _NO_PAIR)
    in_pair = ibis.ifelse(rows.is_sure, _true(rows.surely_paired), rows.gap >= 1)
    rows = rows.mutate(if_failed=in_pair, if_not=in_pair)
    rows = rows.filter(rows.if_not)
    first = rows.mutate(
        role=ibis.literal(0, "int32"), doubt_kind=_doubt(~rows.is_sure, rows.doubt_kind)
    )
    second = rows.mutate(
        fact=rows.second_fact,
        source=rows.second_source,
        role=ibis.literal(1, "int32"),
        doubt_kind=_doubt(~rows.is_sure, rows.second_doubt_kind),
    )
    return first.select(*_EVIDENCE).union(second.select(*_EVIDENCE))


def _partners_of_each(pairs: Table) -> Table:
    """Return the evidence of `eachHas`: those without a partner if that refutes it, else all."""
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
    )
    partners = pairs.filter(pairs.gap >= 1)
    second = partners.mutate(
        fact=partners.second_fact,
        source=partners.second_source,
        role=ibis.literal(1, "int32"),
        if_failed=ibis.literal(False),
        if_not=ibis.literal(True),
        doubt_kind=ibis.literal(NO_DOUBT, "int32"),
    )
    return first.select(*_EVIDENCE).union(second.select(*_EVIDENCE))


def _doubt(condition: Column, kind: Column) -> Column:
    return ibis.ifelse(condition, kind, NO_DOUBT).cast("int32")


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
        sure, may, unfit, settled = bits("sure"), bits("may"), bits("unfit"), bits("settled")
        latest, silent = sure & masks["latest"], _without(settled, may)
        refuted = (
            _without(latest, may)
            | (sure & (masks["none"] | masks["noPair"]))
            | (sure & settled & masks["eachHas"])
            | (silent & masks["some"])
        )
        proven = (
            _without(latest, unfit)
            | (sure & masks["some"])
            | (silent & (masks["none"] | masks["noPair"] | masks["eachHas"]))
        )
        # There are deciding facts; and where the latest has no certain moment, none speaks against.
        found[f"read_{w}"] = may | unfit
        found[f"shown_{w}"] = bits("sourced") | (_without(may | unfit, sure) & masks["latest"])
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
    shown = _any_bit(table, ("refuted", "shown"), frame, rule)
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
