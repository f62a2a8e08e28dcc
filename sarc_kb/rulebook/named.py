"""The named things that the rules of a trial use: sets, qualifiers, windows, anchors, policies,
questions, and what is derived before any rule looks."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, fields, replace
from decimal import Decimal

from rdflib import URIRef

from sarc_kb.namespaces import RDFS, SARC, compact, local_name
from sarc_kb.rules import ANY, EVER, ConceptSet, Qualifier, Trial, Window
from sarc_kb.rules.model import Question
from sarc_kb.terminology import Terminology

Names = tuple[tuple[str, str], ...]
"""Things that a text names: their IRIs and labels."""

GROUPS = (
    ("sets", "Sets of terms"),
    ("qualifiers", "Qualifiers"),
    ("windows", "Windows"),
    ("anchors", "Anchors"),
    ("policies", "Policies"),
    ("questions", "Questions"),
    ("derivations", "Derivations"),
)


@dataclass(frozen=True, slots=True)
class Said:
    """One line about a named thing: what is said, in words or by other things."""

    name: str
    text: str = ""
    named: Names = ()


@dataclass(frozen=True, slots=True)
class NamedThing:
    """One named thing; ``group`` is one of `GROUPS`. ``makes``: the IRIs of what a derivation
    gives, which may have no other description."""

    iri: str
    group: str
    name: str
    label: str
    comment: str
    says: tuple[Said, ...]
    makes: tuple[str, ...] = ()


def named_things(trial: Trial, terms: Terminology) -> tuple[NamedThing, ...]:
    """Return the named things of a trial with what the ontology derives, by group and label."""
    return tuple(_Naming(trial, terms).all())


def window_words(window: Window, trial: Trial, terms: Terminology) -> str:
    """Return from when to when a window reaches."""

    def moment(days: int | None, months: int, anchor: str) -> str:
        text = trial.label(anchor, terms)
        for count, unit in ((months, "month"), (days or 0, "day")):
            if count:
                side = "before" if count > 0 else "after"
                text = f"{abs(count)} {unit}{'' if abs(count) == 1 else 's'} {side} {text}"
        return text if months or days else f"the day of {text}"

    start: str | None = None
    if window.starts_after is not None:
        start = f"the day after {trial.label(window.starts_after, terms)} ends"
    elif window.days is not None or window.months is not None:
        start = moment(window.days, window.months or 0, window.anchor)
    end: str | None = None
    if window.ends_before is not None:
        end = f"the day before {trial.label(window.ends_before, terms)} begins"
    elif not window.open_end:
        end = moment(
            window.ends_days_before, window.ends_months_before, window.end_anchor or window.anchor
        )
    if start is None:
        text = "at any time" if end is None else f"any time up to {end}"
    else:
        text = f"from {start} on" if end is None else f"from {start} to {end}"
        text = f"on {start}" if start == end else text
    if window.calendar is not None:
        c = window.calendar
        text += f"; days {c.first} to {c.last} of every {c.period}"
    return text + ("; only the beginning is looked at" if window.start_only else "")


class _Naming:
    def __init__(self, trial: Trial, terms: Terminology) -> None:
        self.trial, self.terms = trial, terms

    def all(self) -> Iterator[NamedThing]:
        trial = self.trial
        for one in self._in_order(trial.sets):
            yield self._thing(one, "sets", self._set(trial.sets[one]))
        for one in self._in_order(q for q in trial.qualifiers if q != ANY):
            yield self._thing(one, "qualifiers", self._qualifier(trial.qualifiers[one]))
        policies = {p.iri for p in trial.policies}
        for one in self._in_order(w for w in trial.windows if w != EVER and w not in policies):
            yield self._thing(one, "windows", self._window(trial.windows[one]))
        for one in self._in_order(trial.anchors):
            yield self._thing(one, "anchors", self._anchor(one))
        for policy in trial.policies:
            says = [Said("default", policy.value)]
            decides = self._text(policy.iri, SARC.decides)
            if decides:
                says.append(Said("decides", decides))
            if policy.iri in trial.windows:
                says += self._window(trial.windows[policy.iri])
            if policy.parameter is not None:
                says.append(Said("set it with", f"--policy {policy.name}={_number(policy.value)}"))
            yield self._thing(policy.iri, "policies", says)
        for question in sorted(trial.questions, key=lambda q: q.link_id):
            yield self._thing(question.iri, "questions", self._question(question))
        series = {s.iri: s for part in trial.parts for s in part.series}
        made = {d.iri: d for part in trial.parts for d in part.derivations}
        for one in self._in_order({*made, *series}):
            if one in made:
                thing = self._thing(one, "derivations", self._fields(made[one]))
                given: tuple[str | None, ...] = (made[one].gives, made[one].adds_concept)
            else:
                thing = self._thing(one, "derivations", self._fields(series[one]))
                of = series[one]
                given = (of.dose, of.change, of.daily, of.pause)
            yield replace(thing, makes=tuple(iri for iri in given if iri is not None))

    def _thing(self, iri: str, group: str, says: Iterable[Said]) -> NamedThing:
        return NamedThing(
            iri=iri,
            group=group,
            name=compact(iri),
            label=self._label(iri),
            comment=self._text(iri, RDFS.comment),
            says=tuple(says),
        )

    # -- what each kind says -------------------------------------------------------------------
    def _set(self, concepts: ConceptSet) -> list[Said]:
        says = [Said("all of", named=self._names(concepts.members))]
        if concepts.excluding:
            says.append(Said("without", named=self._names(concepts.excluding)))
        if concepts.kind is not None:
            says.append(Said("recorded as", named=self._names((concepts.kind,))))
        if concepts.by_name:
            says.append(Said("wider codes", "are inside; only what is left out by name is outside"))
        return says

    def _qualifier(self, qualifier: Qualifier) -> list[Said]:
        says = []
        for required in qualifier.requires:
            axis = self._label(required.axis)
            for how, value in (("is", required.among), ("is not", required.not_among)):
                if value is not None:
                    says.append(Said(f"{axis} {how}", named=self._names((value,))))
        return says

    def _window(self, window: Window) -> list[Said]:
        anchors = dict.fromkeys(a for a in (window.anchor, window.end_anchor) if a)
        return [
            Said("reaches", window_words(window, self.trial, self.terms)),
            Said("counted from", named=self._names(anchors)),
        ]

    def _anchor(self, iri: str) -> list[Said]:
        says = []
        for number, attempt in enumerate(self.trial.anchors[iri], 1):
            pick = {
                "earliestOf": "the earliest of",
                "latestOf": "the latest of",
                "agreementOf": "the day on which all agree, of",
                "sameAs": "the same as",
            }.get(attempt.pick, attempt.pick)
            says.append(Said(f"{number}. {pick}", named=self._names(attempt.targets, kept=True)))
            conditions = [
                Said(f"{number}. {s.name}", s.text, s.named)
                for s in self._fields(attempt)
                if s.name not in ("pick", "targets")
            ]
            says += conditions
        return says or [Said("given", "with the patient")]

    def _question(self, question: Question) -> list[Said]:
        says = [
            Said("link id", question.link_id),
            Said("settles", named=tuple((c, self._rule(c)) for c in question.covers)),
            Said("cleared by", named=self._names((question.clearing,))),
        ]
        if question.asked_of is not None:
            says.append(
                Said("asked where there is none of", named=self._names((question.asked_of,)))
            )
        if question.asked_when is not None:
            says.append(Said("or where it may be", named=self._names((question.asked_when,))))
        return says

    def _fields(self, value: object) -> Iterator[Said]:
        """Yield what the fields of a derivation say, but for those that say nothing."""
        for field in fields(value):  # type: ignore[arg-type]  # always one of our dataclasses
            held = getattr(value, field.name)
            if field.name == "iri" or held in (None, False, "", (), 0, ANY):
                continue
            name = field.name.replace("_", " ")
            if held is True:
                yield Said(name, "yes")
            elif isinstance(held, int | Decimal):
                yield Said(name, str(held))
            elif isinstance(held, str):
                yield self._held(name, held)
            else:
                yield from self._many(name, held)

    def _held(self, name: str, held: str) -> Said:
        if held.startswith(("http://", "https://")):
            return Said(name, named=self._names((held,)))
        return Said(name, held)

    def _many(self, name: str, held: Iterable[object]) -> Iterator[Said]:
        texts: list[str] = []
        for one in held:
            if isinstance(one, str):
                texts.append(one)
            elif isinstance(one, tuple):
                yield Said(f"{name}: {one[0]}", named=self._names(map(str, one[1:])))
            else:
                texts.append(str(getattr(one, "iri", one)))
        if texts:
            yield Said(name, named=self._names(texts, kept=True))

    # -- small things --------------------------------------------------------------------------
    def _text(self, iri: str, predicate: URIRef) -> str:
        """Return what the trial, or else the ontology, says of a thing in words."""
        for graph in (self.trial.graph, self.terms.graph):
            found = sorted(" ".join(str(o).split()) for o in graph.objects(URIRef(iri), predicate))
            if found:
                return " ".join(found)
        return ""

    def _label(self, iri: str) -> str:
        return self.trial.label(iri, self.terms)

    def _rule(self, iri: str) -> str:
        return local_name(iri)

    def _names(self, iris: Iterable[str], *, kept: bool = False) -> Names:
        """Return the things with their labels, ordered by them unless their order is ``kept``."""
        found = [(iri, self._label(iri)) for iri in iris]
        return tuple(found if kept else sorted(found, key=lambda n: (n[1].casefold(), n[0])))

    def _in_order(self, iris: Iterable[str]) -> list[str]:
        return sorted(iris, key=lambda iri: (self._label(iri).casefold(), iri))


def _number(value: str) -> str:
    return value.partition(" ")[0]
