"""Why a clause came out as it did: the facts that decide it, and what is missing.

SHACL gives outcomes alone. The deciding facts are selected here, from the clause's own parameters,
by the plain meaning of `docs/rule-language.md`; that meaning also gives both readings, and
`sarc_kb.assess` refuses a patient on whom the SHACL processor says otherwise.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from sarc_kb.dates import FOREVER, NEVER, iso
from sarc_kb.namespaces import local_name
from sarc_kb.prepare import Answer, Item, Prepared, Statement
from sarc_kb.prepare.model import gap_degree
from sarc_kb.rules import ANY, EVER, Bounds, Clause, Role
from sarc_kb.units import Interval


@dataclass(frozen=True, slots=True)
class Doubt:
    """A fact that does not decide: the role it has in the clause, the kind of thing that is missing
    (one of `BLOCKERS`), and that in words, as something somebody can mend."""

    item: Item
    role: Role
    kind: str
    words: str


@dataclass(frozen=True, slots=True)
class Explanation:
    """Both readings of one clause, and what they rest on.

    ``evidence``: the deciding facts. ``doubts``: facts that do not decide, and why. ``nearby``:
    facts of the set that lie outside the window (stale). ``lacks_statement``: silence is not
    settled. ``read``: how many facts the clause looked at.
    """

    refuted: bool
    unproven: bool
    evidence: tuple[Item, ...] = ()
    doubts: tuple[Doubt, ...] = ()
    nearby: tuple[Item, ...] = ()
    statement: Statement | None = None
    lacks_statement: bool = False
    answers: tuple[Answer, ...] = ()
    read: int = 0


def explain(prepared: Prepared, clause: Clause) -> Explanation:
    """Return both readings of ``clause`` for the prepared patient, with their grounds."""
    if clause.component == "attested":
        cleared = prepared.cleared.get(clause.iri, ())
        denied = prepared.denied.get(clause.iri, ())
        return Explanation(
            bool(denied), not cleared, answers=cleared or denied, read=len(cleared) + len(denied)
        )
    result = _COMPONENTS[clause.component](prepared, clause)
    denied = prepared.denied.get(clause.iri, ()) if clause.attestable else ()
    if denied:
        # Denied by a person: fails, whatever else the record shows; a proof is a conflict.
        evidence = result.evidence if result.refuted else ()
        return Explanation(True, True, evidence, answers=denied, read=result.read)
    cleared = prepared.cleared.get(clause.iri, ())
    if result.unproven and not result.refuted and cleared and clause.attestable:
        return Explanation(False, False, result.evidence, (), (), None, False, cleared, result.read)
    if cleared and result.refuted:
        return Explanation(
            True,
            True,
            result.evidence,
            result.doubts,
            result.nearby,
            result.statement,
            False,
            cleared,
            result.read,
        )
    return result


def possible(interval: Interval, bounds: Bounds) -> bool:
    """Whether some value of ``interval`` lies inside ``bounds``."""
    lo, hi = interval.lo, interval.hi
    return (
        (bounds.more_than is None or hi > bounds.more_than)
        and (
            bounds.at_least is None
            or hi > bounds.at_least
            or (hi == bounds.at_least and not interval.hi_open)
        )
        and (bounds.less_than is None or lo < bounds.less_than)
        and (
            bounds.at_most is None
            or lo < bounds.at_most
            or (lo == bounds.at_most and not interval.lo_open)
        )
    )


def certain(interval: Interval, bounds: Bounds) -> bool:
    """Whether every value of ``interval`` lies inside ``bounds``."""
    lo, hi = interval.lo, interval.hi
    return (
        (
            bounds.more_than is None
            or lo > bounds.more_than
            or (lo == bounds.more_than and interval.lo_open)
        )
        and (bounds.at_least is None or lo >= bounds.at_least)
        and (
            bounds.less_than is None
            or hi < bounds.less_than
            or (hi == bounds.less_than and interval.hi_open)
        )
        and (bounds.at_most is None or hi <= bounds.at_most)
    )


def _match(prepared: Prepared, item: Item, role: Role) -> int:
    """Return the degree to which ``item`` is selected, accepted and inside the bounds."""
    degree = prepared.selected(item, role)
    if degree:
        degree = min(degree, prepared.accepted(item, role.accepted))
    if not degree or not possible(item.interval, role.bounds):
        return 0
    return degree if certain(item.interval, role.bounds) else 1


def _latest(prepared: Prepared, clause: Clause) -> Explanation:
    role = clause.role
    assert role is not None
    selected = [(prepared.selected(i, role), i) for i in prepared.members(role.concept_set)]
    sure = [i for d, i in selected if d == 2]
    maybe = [i for d, i in selected if d]
    may_match = [
        i
        for i in maybe
        if prepared.accepted(i, role.accepted) and possible(i.interval, role.bounds)
    ]
    no_match = [
        i
        for i in maybe
        if prepared.accepted(i, role.accepted) < 2 or not certain(i.interval, role.bounds)
    ]
    newest = max((i.span.minute_lo for i in sure), default=None)
    refuted = newest is not None and not any(i.span.minute_hi >= newest for i in may_match)
    proven = newest is not None and not any(i.span.minute_hi >= newest for i in no_match)
    deciding = tuple(i for i in maybe if newest is None or i.span.minute_hi >= newest)
    doubts: tuple[Doubt, ...] = ()
    if not refuted and not proven:
        doubts = tuple(doubt(prepared, i, role) for i in deciding)
    nearby: tuple[Item, ...] = ()
    if not maybe:
        outside = [
            i
            for i in prepared.members(role.concept_set)
            if prepared.qualified(i, role.qualifier) and not prepared.within(i, role.window)
        ]
        outside.sort(key=lambda i: (-i.span.minute_hi, i.id))
        nearby = tuple(outside[:1])
    return Explanation(refuted, not proven, deciding, doubts, nearby, read=len(maybe))


def _some(prepared: Prepared, clause: Clause) -> Explanation:
    sure, maybe = _matches(prepared, clause.role)
    statement = prepared.settling(clause)
    refuted = statement is not None and not maybe
    assert clause.role is not None
    return Explanation(
        refuted,
        not sure,
        tuple(sure or maybe),
        () if sure else tuple(doubt(prepared, i, clause.role) for i in maybe),
        statement=statement if refuted else None,
        lacks_statement=statement is None,
        read=len(maybe),
    )


def _none(prepared: Prepared, clause: Clause) -> Explanation:
    sure, maybe = _matches(prepared, clause.role)
    statement = prepared.settling(clause)
    proven = statement is not None and not maybe
    assert clause.role is not None
    return Explanation(
        bool(sure),
        not proven,
        tuple(sure or maybe),
        () if sure else tuple(doubt(prepared, i, clause.role) for i in maybe),
        statement=statement if proven else None,
        lacks_statement=statement is None,
        read=len(maybe),
    )


def passed_over(prepared: Prepared, clause: Clause) -> list[Item]:
    """Return what a clause that asks for no value beyond a limit has looked at."""
    role = clause.role
    if clause.component != "none" or role is None or not role.bounds.used:
        return []
    return [i for i in prepared.members(role.concept_set) if prepared.selected(i, role)]


def _matches(prepared: Prepared, role: Role | None) -> tuple[list[Item], list[Item]]:
    graded = _graded(prepared, role)
    return [i for d, i in graded if d == 2], [i for _, i in graded]


def _graded(prepared: Prepared, role: Role | None) -> list[tuple[int, Item]]:
    """Return the possible matches of ``role``, each with its degree."""
    assert role is not None
    graded = ((_match(prepared, i, role), i) for i in prepared.members(role.concept_set))
    return [(d, i) for d, i in graded if d]


def _no_pair(prepared: Prepared, clause: Clause) -> Explanation:
    assert clause.role is not None
    first, second = _graded(prepared, clause.role), _graded(prepared, clause.second)
    assert clause.second is not None
    sure: dict[str, Item] = {}
    maybe: dict[str, Item] = {}
    roles: dict[str, Role] = {}
    for da, a in first:
        for db, b in second:
            degree = min(da, db, gap_degree(a, b, clause))
            if degree:
                maybe.update({a.id: a, b.id: b})
                roles[a.id] = clause.role
                roles.setdefault(b.id, clause.second)
            if degree == 2:
                sure.update({a.id: a, b.id: b})
    statement = prepared.settling(clause)
    proven = statement is not None and not maybe
    return Explanation(
        bool(sure),
        not proven,
        tuple((sure or maybe).values()),
        () if sure else tuple(doubt(prepared, i, roles[i.id]) for i in maybe.values()),
        statement=statement if proven else None,
        lacks_statement=statement is None,
        read=len(first),
    )


def _each_has(prepared: Prepared, clause: Clause) -> Explanation:
    assert clause.role is not None
    first, second = _graded(prepared, clause.role), _graded(prepared, clause.second)
    statement = prepared.settling(clause)
    lonely = [
        a for da, a in first if da == 2 and not any(gap_degree(a, b, clause) for _, b in second)
    ]
    open_ = [
        a
        for _, a in first
        if not any(db == 2 and gap_degree(a, b, clause) == 2 for db, b in second)
    ]
    partners = [b for _, b in second if any(gap_degree(a, b, clause) for _, a in first)]
    seen = {i.id: i for i in (*(a for _, a in first), *partners)}
    refuted = statement is not None and bool(lonely)
    proven = statement is not None and not open_
    return Explanation(
        refuted,
        not proven,
        tuple(lonely) if refuted else tuple(seen.values()),
        () if refuted or proven else tuple(doubt(prepared, i, clause.role) for i in open_),
        statement=statement if refuted or proven else None,
        lacks_statement=statement is None,
        read=len(first),
    )


_COMPONENTS: dict[str, Callable[[Prepared, Clause], Explanation]] = {
    "latest": _latest,
    "some": _some,
    "none": _none,
    "noPair": _no_pair,
    "eachHas": _each_has,
}


def doubt(prepared: Prepared, item: Item, role: Role) -> Doubt:
    """Return why ``item``, in ``role``, does not decide."""
    kind = doubt_kind(prepared, item, role)
    return Doubt(item, role, kind, _words(prepared, item, role, kind))


def doubt_kind(prepared: Prepared, item: Item, role: Role) -> str:
    """Return the kind of thing that is missing for ``item`` to decide: one of `BLOCKERS`."""
    bounded = role.bounds.used
    if item.problem and bounded:
        return problem_kind(item.problem)
    standing = standing_doubt(prepared, item, role)
    if standing:
        return standing
    inside = certain(item.interval, role.bounds)
    if bounded and possible(item.interval, role.bounds) and not inside:
        return "value"
    return "conflict"


def standing_doubt(prepared: Prepared, item: Item, role: Role) -> str:
    """Return what keeps ``item`` from deciding whatever its number is; empty if nothing does."""
    if not item.sure:
        return "date" if _made_of_sure(item) else "suspected"
    if prepared.in_set(item, role.concept_set) == 1:
        return "general"
    if prepared.qualified(item, role.qualifier) == 1:
        return "attribute"
    if role.window != EVER and prepared.within(item, role.window) == 1:
        return "date"
    if role.accepted != ANY and prepared.accepted(item, role.accepted) == 1:
        if not item.has_value:
            return "value"
        return "general" if item.values.readable else "mapping"
    return ""


def _made_of_sure(item: Item) -> bool:
    return bool(item.parents) and all(p.sure for p in item.parents)


def _words(prepared: Prepared, item: Item, role: Role, kind: str) -> str:
    terms, trial = prepared.terms, prepared.trial
    if item.problem and role.bounds.used:
        return f"{item.problem}: record a usable value"
    if kind == "suspected":
        return "only suspected: confirm or refute it"
    if not item.sure:
        return "possible only, by what the record leaves open: record it exactly"
    if kind == "general":
        if prepared.in_set(item, role.concept_set) == 1:
            label = trial.label(role.concept_set, terms)
            return f"recorded only in general terms: say whether it is {label}"
        label = trial.label(role.accepted, terms)
        return f"its result is more general than the rule: say whether it is {label}"
    if kind == "attribute":
        axes = open_axes(prepared, item, role.qualifier)
        names = [terms.label(axis) or local_name(axis) for axis in axes]
        label = trial.label(role.qualifier, terms)
        return f"{' and '.join(names)} not recorded: say whether it is {label}"
    if kind == "date":
        window = prepared.windows[role.window].text
        return f"its date does not tell whether it lies in {window}: record the exact day"
    if kind == "conflict":
        return "other results of the same time, or that may be later, say otherwise: settle which is right"
    if role.accepted != ANY and prepared.accepted(item, role.accepted) == 1:
        return "its result cannot be read: record a coded result"
    return "its value is not exact enough to compare with the limit"


def missing_kinds(clause: Clause, ground: Explanation) -> tuple[str, ...]:
    """Return the kinds of data (of `BLOCKERS`, in their order) that would settle an undetermined
    clause: of each fact that does not decide, of silence, and of a person who may answer."""
    found = {doubt.kind for doubt in ground.doubts}
    if clause.component in ("latest", "some"):
        if not ground.doubts:
            found.add("old" if ground.nearby else "code")
    elif clause.role is not None and ground.lacks_statement:
        found.add("statement")
    if clause.attestable:
        found.add("answer")
    return tuple(kind for kind in BLOCKERS if kind in found)


BLOCKERS = {
    "code": "not recorded",
    "mapping": "unmapped codes",
    "unit": "no usable unit",
    "range": "no upper limit of normal",
    "value": "no usable value",
    "date": "no exact date",
    "old": "outside the window",
    "suspected": "only suspected",
    "general": "only in general terms",
    "attribute": "attribute not recorded",
    "conflict": "results that contradict",
    "statement": "no completeness statement",
    "answer": "answer of a person",
}
"""What keeps a clause from being decided, and how reports call it."""


def problem_kind(problem: str) -> str:
    """Return the kind of what makes a number unusable, from its words."""
    if "upper limit" in problem:
        return "range"
    return "unit" if "unit" in problem.split(" ", 2)[:2] else "value"


def open_axes(prepared: Prepared, item: Item, qualifier: str) -> list[str]:
    """Return the axes on which ``item`` does not say enough for ``qualifier``."""
    axes = []
    for requirement in prepared.trial.qualifiers[qualifier].requires:
        coded = item.axes.get(requirement.axis)
        wanted = requirement.among or requirement.not_among or ""
        if (
            coded is None
            or not coded.readable
            or prepared.trial.set_of(wanted).degree(coded, prepared.terms) == 1
        ):
            axes.append(requirement.axis)
    return axes


def window_text(prepared: Prepared, iri: str) -> str:
    """Return the window of this patient as people write it."""
    if iri == EVER or iri not in prepared.windows:
        return "at any time"
    days = prepared.windows[iri]
    if days.start_lo <= NEVER and days.end_hi >= FOREVER:
        return "at a time that cannot be worked out yet"
    if days.calendar is not None:
        label = prepared.trial.label(iri, prepared.terms)
        return f"on {label}, from {iso(days.start_lo)}"
    if days.end_hi >= FOREVER:
        return f"from {iso(days.start_lo)} on"
    if days.start_lo <= NEVER:
        return f"up to {iso(days.end_lo)}"
    if days.start_lo != days.start_hi:
        return f"between {iso(days.start_lo)} (or {iso(days.start_hi)}) and {iso(days.end_hi)}"
    if days.start_lo == days.end_hi:
        return f"on {iso(days.end_hi)}"
    return f"between {iso(days.start_lo)} and {iso(days.end_hi)}"
