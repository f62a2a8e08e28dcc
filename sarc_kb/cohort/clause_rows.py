"""What a screening run writes of each patient and clause: outcome, reason, evidence, missing data.

The database tells clauses in numbers (the patient, the *place* of the clause in `Places`, the
outcome, what it rests on, a bit for each kind of missing data) and, apart from them, a row for each
source that decides. Names and lists are put to them here, in Arrow: as texts and lists of every
row they would be most of what the database sorts and hands over.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import ibis
import pyarrow as pa
import pyarrow.compute as pc

from sarc_kb.cohort.evaluate import FAIL, PASS, UNDETERMINED, Column, Table, bit_at, doubts
from sarc_kb.cohort.plan import BASE, Frame, Plan, place
from sarc_kb.cohort.rows import KINDS
from sarc_kb.cohort.tables import COMPONENT

CLAUSE_ROWS = pa.schema(
    [
        ("pid", pa.int64()),
        ("frame", pa.int32()),
        ("patient", pa.string()),
        ("trial", pa.string()),
        ("criterion", pa.string()),
        ("clause", pa.string()),
        ("outcome", pa.string()),
        ("reason", pa.string()),
        ("basis", pa.string()),
        ("evidence", pa.list_(pa.string())),
        ("missing", pa.string()),
    ]
)
CLAUSE_COLUMNS = tuple(name for name in CLAUSE_ROWS.names if name not in ("pid", "frame"))
"""What is written; the rest is for the program."""

_OUTCOMES = {FAIL: "fail", UNDETERMINED: "undetermined", PASS: "pass"}
_BASES = ("facts", "answer", "statement")
_FACTS, _BY_ANSWER, _BY_STATEMENT = range(len(_BASES))
_DENIED = "an answer denies it"
_ANSWER, _STATEMENT = KINDS.index("answer"), KINDS.index("statement")
_CODE, _OLD = KINDS.index("code"), KINDS.index("old")
_ATTESTED = len(COMPONENT)
_NO_TEST = -1
_PLACES = pa.schema(
    [
        ("place", pa.int32()),
        ("frame", pa.int32()),
        ("variant", pa.int32()),
        ("slot", pa.int32()),
        ("word", pa.int32()),
        ("bit", pa.int64()),
        ("test", pa.int32()),
        ("component", pa.int32()),
        ("attestable", pa.bool_()),
    ]
)
_NUMBERS = pa.schema(
    [
        ("pid", pa.int64()),
        ("place", pa.int32()),
        ("outcome", pa.int32()),
        ("basis", pa.int32()),
        ("missing", pa.int64()),
    ]
)


@dataclass(frozen=True, slots=True)
class Places:
    """The clauses of some trials in the order in which they are written, and the criteria, each
    before its frame's clauses, for answers that deny one as a whole (slots below 0).

    ``table``: their places, frames, variants, slots, bits and tests. The lists are by place.
    """

    table: pa.Table
    frames: Sequence[int]
    trials: Sequence[str]
    criteria: Sequence[str]
    clauses: Sequence[str | None]
    reasons: Sequence[str]


def places_of(plan: Plan, names: Iterable[str]) -> Places:
    """Return the places of the named trials."""
    wanted = set(names)
    tests = {(t.frame, t.variant, t.slot): number for number, t in enumerate(plan.tests)}
    found: list[tuple[str, int, int, tuple[object, ...], str, str | None, str]] = []
    for frame in plan.frames:
        owner = {clause: rule.id for rule in frame.criteria for clause in rule.clauses}
        for variant, (part, name) in enumerate(zip(frame.variants, frame.names, strict=True)):
            if name not in wanted:
                continue
            for slot, clause in enumerate(part.clauses.values()):
                test = tests.get((frame.number, BASE, slot))
                if test is None:
                    test = tests.get((frame.number, variant, slot), _NO_TEST)
                component = COMPONENT.get(clause.component, _ATTESTED)
                row = (variant, slot, *place(slot), test, component, clause.attestable)
                told = (owner[clause.iri], clause.id, clause.text.message)
                found.append((name, frame.number, slot, row, *told))
            for number, rule in enumerate(frame.criteria):
                slot = -1 - number
                row = (variant, slot, 0, 0, _NO_TEST, _ATTESTED, True)
                found.append((name, frame.number, slot, row, rule.id, None, _DENIED))
    found.sort(key=lambda row: row[:3])
    rows = [(n, frame, *row) for n, (_, frame, _, row, *_) in enumerate(found)]
    columns: list[list[object]] = [[row[k] for row in rows] for k in range(len(_PLACES))]
    return Places(
        pa.table(columns, schema=_PLACES),
        frames=[row[1] for row in found],
        trials=[row[0] for row in found],
        criteria=[row[4] for row in found],
        clauses=[row[5] for row in found],
        reasons=[row[6] for row in found],
    )


# -- in the database -------------------------------------------------------------------------------
@dataclass(frozen=True, slots=True)
class Evidence:
    """What decides clauses: the tables of `evaluate.deciding` and `evaluate.outside`."""

    deciding: Table
    near: Table


def numbers_of(
    readings: Table, frame: Frame, places: Table, told: Evidence | None, answers: Table
) -> Table:
    """Return a row of `_NUMBERS` for each patient, variant and clause of ``frame``, and for each
    criterion that an answer denies as a whole.

    ``outcome``: that of `evaluate`; ``basis``: the place in `_BASES` of what a decided outcome
    stands on, facts, the answer of a person, or (at least also) the statement that a history is
    complete; ``missing``: a bit for each kind of data that would settle it, where it is
    undetermined. ``told``: None leaves that out.
    """
    own = places.filter((places.frame == frame.number) & (places.slot >= 0)).drop("frame")
    rows = readings.join(own, "variant")

    def bit(name: str) -> Column:
        return bit_at([rows[f"{name}_{w}"] for w in range(frame.words)], rows)

    rows = rows.select(
        "pid",
        "place",
        "test",
        "component",
        "attestable",
        outcome=ibis.ifelse(
            bit("refuted"), FAIL, ibis.ifelse(bit("proven"), PASS, UNDETERMINED)
        ).cast("int32"),
        record_refutes=bit("by_record_refuted"),
        record_proves=bit("by_record_proven"),
        is_settled=bit("settled"),
    )
    among = rows.component.isin([COMPONENT[c] for c in ("none", "noPair", "eachHas")])
    by_silence = ibis.ifelse(
        rows.record_refutes,
        rows.component.isin([COMPONENT[c] for c in ("some", "eachHas")]),
        rows.record_proves & among,
    )
    basis = ibis.cases(
        (rows.outcome == UNDETERMINED, _NO_NUMBER),
        (by_silence, _BY_STATEMENT),
        (rows.record_refutes | rows.record_proves, _FACTS),
        else_=_BY_ANSWER,
    ).cast("int32")
    missing = ibis.null("int64")
    if told is not None:
        rows, missing = _missing(rows.mutate(basis=basis), told)
        basis = rows.basis
    numbers = rows.select("pid", "place", "outcome", basis=basis, missing=missing)
    return numbers.union(_denied(readings, frame, places, answers))


def _missing(rows: Table, told: Evidence) -> tuple[Table, Column]:
    """Return the rows, and the bits of what is missing for each."""
    doubtful = doubts(told.deciding)
    doubtful = doubtful.select(
        doubt_pid=doubtful.pid, doubt_test=doubtful.test, doubts=doubtful.doubts
    )
    rows = rows.left_join(
        doubtful, [rows.pid == doubtful.doubt_pid, rows.test == doubtful.doubt_test]
    )
    near = told.near.select(near_pid=told.near.pid, near_test=told.near.test)
    rows = rows.left_join(near, [rows.pid == near.near_pid, rows.test == near.near_test])
    silent = ibis.cases(
        (
            rows.component == COMPONENT["latest"],
            ibis.ifelse(rows.near_pid.notnull(), 1 << _OLD, 1 << _CODE),
        ),
        (rows.component == COMPONENT["some"], 1 << _CODE),
        else_=0,
    )
    unsettled = (
        (rows.component >= COMPONENT["none"]) & (rows.component < _ATTESTED) & ~rows.is_settled
    )
    mask = (
        ibis.coalesce(rows.doubts, silent)
        + ibis.ifelse(unsettled, 1 << _STATEMENT, 0)
        + ibis.ifelse(rows.attestable, 1 << _ANSWER, 0)
    )
    return rows, ibis.ifelse(rows.outcome == UNDETERMINED, mask, _NO_NUMBER).cast("int64")


def _denied(readings: Table, frame: Frame, places: Table, answers: Table) -> Table:
    said = answers.filter((answers.frame == frame.number) & (answers.slot < 0))
    said = said.select("pid", "slot").distinct()
    own = places.filter(places.frame == frame.number).select("place", "variant", "slot")
    rows = readings.select("pid", "variant").join(said, "pid").join(own, ["variant", "slot"])
    return rows.select(
        "pid",
        "place",
        outcome=ibis.literal(FAIL, "int32"),
        basis=ibis.literal(_BY_ANSWER, "int32"),
        missing=ibis.null("int64"),
    )


def sources_of(
    readings: Table, frame: Frame, places: Table, deciding: Table, answers: Table
) -> Table:
    """Return ``pid``, ``place`` and ``source`` of what decides the clauses of ``frame``: facts where
    the record decides or might, and answers where they do."""
    own = places.filter(places.frame == frame.number).drop("frame", "component", "attestable")
    words = [f"{n}_{w}" for n in _STANDING for w in range(frame.words)]
    standing = readings.select("pid", "variant", *words)

    def told(rows: Table, name: str) -> Column:
        return bit_at([rows[f"{name}_{w}"] for w in range(frame.words)], rows)

    facts = deciding.filter(deciding.source != "")
    facts = facts.join(own, "test").join(standing, ["pid", "variant"])
    # What a person denied rests on the answer alone, unless the record contradicts it as well.
    facts = facts.filter(
        ibis.ifelse(
            told(facts, "by_record_refuted"), facts.if_failed, facts.if_not & ~told(facts, "denied")
        )
    )
    said = answers.filter((answers.frame == frame.number) & (answers.source != "")).drop("frame")
    said = said.join(own, "slot").join(standing, ["pid", "variant"])
    said = said.filter(
        (said.slot < 0)
        | told(said, "denied")
        | (told(said, "cleared") & ~told(said, "by_record_proven"))
    )
    columns = ("pid", "place", "source")
    return facts.select(*columns).union(said.select(*columns)).distinct()


_STANDING = ("by_record_refuted", "by_record_proven", "denied", "cleared")
_NO_NUMBER = ibis.null("int64")


# -- in Arrow --------------------------------------------------------------------------------------
def assembled(
    numbers: pa.Table, sources: pa.Table | None, patients: pa.Table, places: Places
) -> pa.Table:
    """Return rows of `CLAUSE_ROWS`, in order; texts that repeat are dictionaries.

    Args:
        numbers: rows of `_NUMBERS`, ordered by patient and place.
        sources: those of the same patients; None: not gathered.
        patients: ``pid`` and ``patient`` of all of them.
    """
    numbers = numbers.cast(_NUMBERS).combine_chunks()
    # The order of a dictionary is in the bytes of a file; a database has none of its own.
    patients = patients.sort_by("pid")
    pid, at, outcome, basis, missing = (_whole(column) for column in numbers.columns)
    reason = pc.if_else(pc.equal(outcome, FAIL), at, pa.scalar(None, pa.int32()))
    columns: Mapping[str, pa.Array] = {
        "pid": pid,
        "frame": pa.array(places.frames, pa.int32()).take(at),
        "patient": pa.DictionaryArray.from_arrays(
            pc.index_in(pid, value_set=patients["pid"]), _whole(patients["patient"])
        ),
        "trial": _texts(places.trials, at),
        "criterion": _texts(places.criteria, at),
        "clause": _texts(places.clauses, at),
        "outcome": _texts([_OUTCOMES[n] for n in sorted(_OUTCOMES)], outcome),
        "reason": _texts(places.reasons, reason),
        "basis": _texts(_BASES, basis),
        "evidence": _lists(pid, at, sources, len(places.frames)),
        "missing": _kinds(missing),
    }
    return pa.table([columns[name] for name in CLAUSE_ROWS.names], names=CLAUSE_ROWS.names)


def _texts(texts: Sequence[str | None], numbers: pa.Array) -> pa.Array:
    """Return the texts that ``numbers`` (nulls: no text) are the places of."""
    different = list(dict.fromkeys(text for text in texts if text is not None))
    place_of: dict[str | None, int] = {text: number for number, text in enumerate(different)}
    codes = pa.array([place_of.get(text) for text in texts], pa.int32())
    return pa.DictionaryArray.from_arrays(codes.take(numbers), pa.array(different, pa.string()))


def _kinds(masks: pa.Array) -> pa.Array:
    """Return the words for sets of kinds of missing data."""
    coded = masks.dictionary_encode()
    words = [
        "; ".join(kind for n, kind in enumerate(KINDS) if mask >> n & 1)
        for mask in coded.dictionary.to_pylist()
    ]
    return pa.DictionaryArray.from_arrays(coded.indices, pa.array(words, pa.string()))


def _lists(pid: pa.Array, at: pa.Array, sources: pa.Table | None, places: int) -> pa.Array:
    """Return the sources of each row in order, and nulls where none were gathered."""
    if sources is None:
        return pa.nulls(len(pid), pa.list_(pa.string()))

    def key(pid: pa.Array, at: pa.Array) -> pa.Array:
        return pc.add(pc.multiply(pid, places), pc.cast(at, pa.int64()))

    # Sorted here, since databases have orders of texts of their own; and by their ranks, since that
    # takes a fifth of the time.
    keys = key(_whole(sources["pid"]), _whole(sources["place"]))
    coded = _whole(sources["source"].dictionary_encode())
    ranks = pc.cast(pc.rank(coded.dictionary, tiebreaker="first"), pa.int64()).take(coded.indices)
    order = pc.sort_indices(
        pa.table({"key": keys, "rank": ranks}), [("key", "ascending"), ("rank", "ascending")]
    )
    runs = pc.run_end_encode(keys.take(order), pa.int64())
    ends = runs.run_ends
    sizes = pc.subtract(ends, pa.concat_arrays([pa.array([0], pa.int64()), ends])[: len(ends)])
    size = pc.fill_null(sizes.take(pc.index_in(key(pid, at), value_set=runs.values)), 0)
    offsets = pa.concat_arrays([pa.array([0], pa.int64()), pc.cumulative_sum(size)])
    assert offsets[-1].as_py() == len(keys), "a source belongs to no row"
    return pa.ListArray.from_arrays(
        offsets.cast(pa.int32()), coded.dictionary.take(coded.indices.take(order))
    )


def _whole(column: pa.ChunkedArray) -> pa.Array:
    """Return the column as one array."""
    found = column.combine_chunks()
    return found if isinstance(found, pa.Array) else found.chunk(0)
