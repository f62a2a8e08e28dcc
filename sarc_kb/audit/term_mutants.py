"""Mutants of the named things that rules use: sets, qualifiers, windows, anchors, derivations,
questions and ladders of doses."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Any

from sarc_kb.audit.mutant import Change, Maker, Mutant, plain
from sarc_kb.namespaces import SARC, local_name
from sarc_kb.rules import (
    ANY,
    EVER,
    ConceptSet,
    Derivation,
    DoseSeries,
    Qualifier,
    Selection,
    Trial,
    Window,
)

_YES, _NO = str(SARC.Yes), str(SARC.No)
_ENTRY, _AS_OF = str(SARC.StudyEntry), str(SARC.AsOf)


@dataclass(frozen=True, slots=True)
class OfTerms(Maker):
    """Makes the mutants of what a trial names."""

    def concept_set(self, concepts: ConceptSet) -> Iterator[Mutant]:
        name, terms = local_name(concepts.iri), self.terms
        inside = frozenset(t for m in concepts.members for t in terms.down(m))
        for member in sorted(concepts.members):
            rest = concepts.members - {member}
            above = sorted(terms.up(member) & rest)
            yield self.made(
                f"{name}:without-{local_name(member)}",
                "concept",
                f"{name} without {local_name(member)}",
                concepts.iri,
                _with_set(replace(concepts, members=rest)),
                concepts=terms.down(member),
                equivalent=f"{local_name(above[0])} of the set holds it" if above else "",
                prepares=None,
            )
        for excluded in sorted(concepts.excluding):
            rest = concepts.excluding - {excluded}
            above = sorted(terms.up(excluded) & rest)
            reason = f"{local_name(above[0])}, left out too, holds it" if above else ""
            if not terms.down(excluded) & inside:
                reason = "nothing below it is below a member"
            yield self.made(
                f"{name}:with-{local_name(excluded)}",
                "concept",
                f"{name} with {local_name(excluded)}, which it leaves out",
                concepts.iri,
                _with_set(replace(concepts, excluding=rest)),
                concepts=terms.down(excluded),
                equivalent=reason,
                prepares=None,
            )
        if concepts.excluding:
            yield self.made(
                f"{name}:byName",
                "concept",
                f"{name} byName {str(concepts.by_name).lower()} -> "
                f"{str(not concepts.by_name).lower()}",
                concepts.iri,
                _with_set(replace(concepts, by_name=not concepts.by_name)),
                concepts={a for e in concepts.excluding for a in terms.up(e) - {e}} & inside,
                prepares=None,
            )
        if concepts.kind is not None:
            yield self.made(
                f"{name}:factKind",
                "concept",
                f"{name} of the kind {local_name(concepts.kind)} -> as it is usually recorded",
                concepts.iri,
                _with_set(replace(concepts, kind=None)),
                prepares=None,
            )

    def qualifier(self, qualifier: Qualifier) -> Iterator[Mutant]:
        name = local_name(qualifier.iri)
        for place, required in enumerate(qualifier.requires):
            rest = (*qualifier.requires[:place], *qualifier.requires[place + 1 :])
            turned = replace(required, among=required.not_among, not_among=required.among)
            wanted = local_name(required.among or required.not_among or "")
            axis = local_name(required.axis)
            among = "among" if required.among is not None else "not among"
            yield self.made(
                f"{name}:without-{axis}-{wanted}",
                "qualifier",
                f"{name} {axis} {among} {wanted} -> whatever it is",
                qualifier.iri,
                _with_qualifier(replace(qualifier, requires=rest)),
                prepares=None,
            )
            yield self.made(
                f"{name}:not-{axis}-{wanted}",
                "qualifier",
                f"{name} {axis} {among} {wanted} -> the opposite",
                qualifier.iri,
                _with_qualifier(
                    replace(
                        qualifier,
                        requires=(
                            *qualifier.requires[:place],
                            turned,
                            *qualifier.requires[place + 1 :],
                        ),
                    )
                ),
                prepares=None,
            )

    def window(self, window: Window) -> Iterator[Mutant]:
        name = local_name(window.iri)
        start_unread = "" if self.reads_start(window) else "only its end is read"
        end_unread = "" if self.reads_end(window) else "only its start is read"

        def made(words: str, changed: Mapping[str, Any], equivalent: str = "") -> Mutant:
            new = replace(window, **changed)
            mark = words.replace(" -> ", "=").replace(" ", "-")
            return self.made(
                f"{name}:{mark}",
                "window",
                f"{name} {words}",
                window.iri,
                _with_window(new),
                equivalent=equivalent,
                prepares=None,
            )

        for field, back in (("days", "days back"), ("months", "months back")):
            number = getattr(window, field)
            if number is not None and window.starts_after is None:
                for moved in (number + 1, number - 1):
                    yield made(f"start {number} -> {moved} {back}", {field: moved}, start_unread)
        if window.ends_before is None and not window.open_end:
            field, unit = "ends_days_before", "days"
            if window.ends_months_before and not window.ends_days_before:
                field, unit = "ends_months_before", "months"
            number = getattr(window, field)
            for moved in (number + 1, number - 1):
                yield made(f"end {number} -> {moved} {unit} back", {field: moved}, end_unread)
        if window.ends_before is not None:
            yield made(
                f"ends before {local_name(window.ends_before)} -> at its anchor",
                {"ends_before": None},
                end_unread,
            )
        if window.starts_after is not None:
            yield made(
                f"starts after {local_name(window.starts_after)} -> open start",
                {"starts_after": None},
                start_unread,
            )
        if window.end_anchor is not None:
            yield made(
                f"end anchor {local_name(window.end_anchor)} -> {local_name(window.anchor)}",
                {"end_anchor": None},
                end_unread,
            )
        yield made(
            f"open end {str(window.open_end).lower()} -> {str(not window.open_end).lower()}",
            {"open_end": not window.open_end},
            end_unread,
        )
        looks = "start alone", "whole extent"
        alike = ""
        if window.iri not in self.looked_in:
            alike = "no fact is looked for in it"
        elif window.calendar is None and self.no_start(window):
            alike = "it is open to the past: what reaches into it begins in it"
        yield made(
            " -> ".join(looks if window.start_only else reversed(looks)),
            {"start_only": not window.start_only},
            alike,
        )
        unread = ""
        starts = window.starts_after is None and (
            window.days is not None or window.months is not None
        )
        ends = not window.open_end and window.ends_before is None and window.end_anchor is None
        if not starts and not ends and window.calendar is None:
            unread = "neither of its ends counts from its anchor"
        other = self._other_anchor(window.anchor)
        yield made(
            f"anchor {local_name(window.anchor)} -> {local_name(other)}", {"anchor": other}, unread
        )
        if window.calendar is not None:
            for field in ("period", "first", "last"):
                number = getattr(window.calendar, field)
                for moved in (number - 1, number + 1):
                    calendar = replace(window.calendar, **{field: moved})
                    same = all(
                        calendar.holds(d, 0) == window.calendar.holds(d, 0)
                        for d in range(calendar.period * window.calendar.period)
                    )
                    yield made(
                        f"{field} day of the calendar {number} -> {moved}",
                        {"calendar": calendar},
                        "it holds the same days" if same else "",
                    )

    @staticmethod
    def no_start(window: Window) -> bool:
        return window.days is None and window.months is None and window.starts_after is None

    def reads_start(self, window: Window) -> bool:
        """Whether anything depends on when ``window`` starts."""
        others = self.part.windows.values()
        return window.iri in self.looked_in or any(w.ends_before == window.iri for w in others)

    def reads_end(self, window: Window) -> bool:
        """Whether anything depends on when ``window`` ends."""
        others = self.part.windows.values()
        due = {
            w
            for part in (self.part, self.part.treatment)
            if part is not None
            for rule in part.criteria
            for w in rule.due
        }
        return window.iri in self.looked_in | due or any(
            w.starts_after == window.iri for w in others
        )

    @property
    def looked_in(self) -> set[str | None]:
        """The windows in which some fact is looked for; others only say when something ends."""
        found: set[str | None] = {series.window for series in self.part.series}
        found |= {d.window for d in self.part.derivations}
        found |= {d.during for d in self.part.derivations}
        found |= {a.window for attempts in self.part.anchors.values() for a in attempts}
        for part in (self.part, self.part.treatment):
            if part is not None:
                found |= {c.role.window for c in part.clauses.values() if c.role is not None}
                found |= {part.course.window} if part.course is not None else set()
        return found

    def _other_anchor(self, anchor: str) -> str:
        if anchor != _ENTRY:
            return _ENTRY
        # One that entry does not stand in for, so that it is another day in every record.
        anchors = self.part.anchors
        given = {_ENTRY, _AS_OF}
        while True:
            more = {
                iri
                for iri, attempts in anchors.items()
                if any(given & set(attempt.targets) for attempt in attempts)
            }
            if more <= given:
                break
            given |= more
        own = {iri for iri, attempts in anchors.items() if attempts} - given
        others = sorted({w.anchor for w in self.part.windows.values()} & own) or sorted(own)
        return others[0] if others else _AS_OF

    def anchor(self, iri: str) -> Iterator[Mutant]:
        name, attempts = local_name(iri), self.part.anchors[iri]
        for place, attempt in enumerate(attempts):

            def other(*changed: Selection, at: int = place) -> Change:
                return _with_anchor(iri, (*attempts[:at], *changed, *attempts[at + 1 :]))

            number = place + 1
            yield self.made(
                f"{name}:without-attempt-{number}",
                "anchor",
                f"{name} without its attempt {number}",
                iri,
                other(),
            )
            turned = {"earliestOf": "latestOf", "latestOf": "earliestOf"}.get(attempt.pick)
            if turned:
                yield self.made(
                    f"{name}:attempt-{number}-{turned}",
                    "anchor",
                    f"{name} attempt {number} {attempt.pick} -> {turned}",
                    iri,
                    other(replace(attempt, pick=turned)),
                )
            if len(attempt.targets) > 1:
                for target in attempt.targets:
                    rest = tuple(t for t in attempt.targets if t != target)
                    yield self.made(
                        f"{name}:attempt-{number}-without-{local_name(target)}",
                        "anchor",
                        f"{name} attempt {number} without {local_name(target)}",
                        iri,
                        other(replace(attempt, targets=rest)),
                        concepts=self.terms.down(target),
                    )
            for words, changed in (
                ("accepted", {"accepted": ANY} if attempt.accepted != ANY else {}),
                ("qualifier", {"qualifier": ANY} if attempt.qualifier != ANY else {}),
                ("window", {"window": EVER} if attempt.window != EVER else {}),
                ("before", {"before": None} if attempt.before is not None else {}),
                ("endOfDay", {"end_of_day": False} if attempt.end_of_day else {}),
                ("unless", {"unless": ()} if attempt.unless else {}),
            ):
                if changed:
                    yield self.made(
                        f"{name}:attempt-{number}-any-{words}",
                        "anchor",
                        f"{name} attempt {number} whatever its {words}",
                        iri,
                        other(replace(attempt, **changed)),
                    )

    def derivation(self, position: int, rule: Derivation) -> Iterator[Mutant]:
        name = local_name(rule.iri)
        concepts = {t for n in (rule.source, rule.gives) if n for t in self._terms(n)}
        yield self.made(
            f"{name}:dropped",
            "derivation",
            f"{name} dropped",
            rule.iri,
            _without(position),
            concepts=concepts,
        )
        for words, changed in (
            ("accepted", {"accepted": ANY} if rule.accepted != ANY else {}),
            ("qualifier", {"qualifier": ANY} if rule.qualifier != ANY else {}),
            ("unless", {"unless": ()} if rule.unless else {}),
            ("asDefault", {"as_default": False} if rule.as_default else {}),
            ("asSuspected", {"as_suspected": False} if rule.as_suspected else {}),
        ):
            if changed:
                yield self.made(
                    f"{name}:without-{words}",
                    "derivation",
                    f"{name} without its {words}",
                    rule.iri,
                    _without(position, replace(rule, **changed)),
                    concepts=concepts,
                )
        if rule.holds_for:
            for moved in (rule.holds_for - 1, rule.holds_for + 1):
                yield self.made(
                    f"{name}:holdsFor={moved}",
                    "window",
                    f"{name} holds for {rule.holds_for} -> {moved} days",
                    rule.iri,
                    _without(position, replace(rule, holds_for=moved)),
                    concepts=concepts,
                )

    def _terms(self, name: str) -> frozenset[str]:
        """Return every term of a set, or below a term."""
        members = self.part.sets[name].members if name in self.part.sets else (name,)
        return frozenset(t for m in members for t in self.terms.down(m))

    # -- answers and ladders -------------------------------------------------------------------
    def questions(self) -> Iterator[Mutant]:
        for place, question in enumerate(self.part.questions):
            name = local_name(question.iri)

            def other(at: int = place, **changed: Any) -> Change:
                new = replace(self.part.questions[at], **changed)
                return lambda part: replace(
                    part, questions=(*part.questions[:at], new, *part.questions[at + 1 :])
                )

            turned = _NO if question.clearing == _YES else _YES
            yield self.made(
                f"{name}:{local_name(turned)}",
                "polarity",
                f"{name} clearing answer {local_name(question.clearing)} -> {local_name(turned)}",
                question.iri,
                other(clearing=turned),
                concepts=(question.iri,),
            )
            for clause in question.covers:
                rest = tuple(c for c in question.covers if c != clause)
                yield self.made(
                    f"{name}:without-{local_name(clause)}",
                    "polarity",
                    f"{name} no longer covers {local_name(clause)}",
                    question.iri,
                    other(covers=rest),
                    concepts=(question.iri,),
                )
            if question.asked_of is not None:
                yield self.made(
                    f"{name}:of-all",
                    "polarity",
                    f"{name} asked of {local_name(question.asked_of)} -> of everybody",
                    question.iri,
                    other(asked_of=None),
                    concepts=(question.iri,),
                )

    def ladders(self) -> Iterator[Mutant]:
        for place, series in enumerate(self.part.series):
            for at, level in enumerate(series.levels):
                step = Decimal(1)
                for field in ("least", "most"):
                    bound: Decimal = getattr(level, field)
                    for moved in (bound - step, bound + step):
                        number: dict[str, Any] = {field: moved}
                        new = replace(level, **number)
                        levels = (*series.levels[:at], new, *series.levels[at + 1 :])
                        changed = replace(series, levels=levels)
                        name = local_name(level.iri)
                        yield self.made(
                            f"{name}:{field}={plain(moved)}",
                            "threshold",
                            f"{name} {field} {plain(bound)} -> {plain(moved)}",
                            series.iri,
                            _with_series(place, changed),
                        )


def _with_series(at: int, series: DoseSeries) -> Change:
    return lambda part: replace(part, series=(*part.series[:at], series, *part.series[at + 1 :]))


def _with_set(concepts: ConceptSet) -> Change:
    return lambda part: replace(part, sets={**part.sets, concepts.iri: concepts})


def _with_qualifier(qualifier: Qualifier) -> Change:
    return lambda part: replace(part, qualifiers={**part.qualifiers, qualifier.iri: qualifier})


def _with_window(window: Window) -> Change:
    return lambda part: replace(part, windows={**part.windows, window.iri: window})


def _with_anchor(iri: str, attempts: tuple[Selection, ...]) -> Change:
    return lambda part: replace(part, anchors={**part.anchors, iri: attempts})


def _without(position: int, other: Derivation | None = None) -> Change:
    def change(part: Trial) -> Trial:
        kept = list(part.derivations)
        kept[position : position + 1] = [other] if other is not None else []
        return replace(part, derivations=tuple(kept))

    return change
