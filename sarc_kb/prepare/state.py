"""What the passes share while one patient is prepared."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from copy import copy
from dataclasses import replace

from sarc_kb.dates import PartialDate
from sarc_kb.errors import Finding, Severity
from sarc_kb.facts import Fact, PatientRecord
from sarc_kb.namespaces import local_name
from sarc_kb.prepare.model import (
    AnchorDay,
    Item,
    Prepared,
    Span,
    Statement,
    WindowDays,
    known_degrees,
    set_degree,
)
from sarc_kb.rules import Derivation, Trial
from sarc_kb.terminology import Coded, Terminology
from sarc_kb.units import ANYTHING, Interval


class Preparation:
    """The patient as far as it is prepared; passes read and extend it."""

    def __init__(
        self,
        record: PatientRecord,
        trial: Trial,
        terms: Terminology,
        as_of: PartialDate | None,
        complete: tuple[str, ...],
        attested: Mapping[str, str],
        since: PartialDate | None = None,
    ) -> None:
        assert record.entry is not None
        self.record, self.trial, self.terms = record, trial, terms
        self.entry = record.entry
        self.as_of = (as_of or record.entry).last
        self.since = since.last if since is not None else None
        self.seen = self.as_of if self.since is None else min(self.as_of, self.since)
        self.complete, self.attested = complete, attested
        self.findings: list[Finding] = []
        self.items: list[Item] = []
        self.refuted: list[Item] = []
        self.statements: list[Statement] = []
        self.answers: list[Item] = []
        self.spoken: list[Item] = []
        self.void = self.later = 0
        self.anchors: dict[str, AnchorDay] = {}
        self.windows: dict[str, WindowDays] = {}
        self.resolving: set[str] = set()
        self.degrees: dict[str, dict[Hashable, int]] = {}
        self.narrower: dict[str, list[str]] = {}
        self.counter = 0
        offsets = {
            d.offset
            for f in record.facts
            for d in (f.start, f.end)
            if d is not None and d.offset is not None
        }
        self.offsets = (min(offsets), max(offsets)) if offsets else (0, 0)

    def moved(self, entry: PartialDate) -> Preparation:
        """Return what was read so far, for a later entry that nothing happens before.

        Only for what `sarc_kb.prepare.begin` returns: later passes depend on entry.
        """
        other = copy(self)
        other.record = replace(self.record, entry=entry)
        other.entry, other.as_of = entry, entry.last
        other.since = self.entry.last if self.since is None else self.since
        other.items, other.findings = list(self.items), list(self.findings)
        other.answers, other.statements = list(self.answers), []
        other.anchors, other.windows, other.resolving = {}, {}, set()
        return other

    def carried(self, end: int, slack: int = 0) -> int:
        """Return the day up to which something holds that was said up to ``end``: if it reaches
        the day since when nothing has happened, then up to entry."""
        if self.since is None or end + slack < self.since:
            return end
        return max(end, min(end, self.since) + self.entry.last - self.since)

    def find(
        self, code: str, severity: Severity, fact: Fact | None, found: str, why: str, fix: str
    ) -> None:
        where = self.record.origin if fact is None else (fact.source or fact.id)
        self.findings.append(Finding(code, severity, where, found, why, fix))

    def covering(self, scope: str, span: WindowDays) -> Statement | None:
        """Return what says that ``scope`` is complete over ``span``, as far as was heard so far."""
        so_far = Prepared(
            record=self.record,
            trial=self.trial,
            terms=self.terms,
            entry=self.entry,
            as_of=self.as_of,
            items=self.items,
            statements=self.statements,
            windows=self.windows,
            anchors=self.anchors,
            cleared={},
            denied={},
            findings=[],
        )
        return so_far.covering(scope, span)

    def in_set(self, item: Item, iri: str) -> int:
        """`set_degree`, with what is known of the set at hand."""
        degree = self._known(iri).get(item.coding)
        return set_degree(item, iri, self.trial, self.terms) if degree is None else degree

    def _known(self, iri: str) -> dict[Hashable, int]:
        known = self.degrees.get(iri)
        if known is None:
            known = self.degrees[iri] = known_degrees(iri, self.trial, self.terms)
        return known

    def members(self, iri: str) -> list[Item]:
        """Return the items that are possibly of the set, in order."""
        return [item for _, item in self.numbered(iri)]

    def numbered(self, iri: str) -> list[tuple[int, Item]]:
        """Return `members` with their places in ``items``."""
        degrees = self._known(iri)
        found = []
        for number, item in enumerate(self.items):
            degree = degrees.get(item.coding)
            if degree is None:
                degree = self.in_set(item, iri)
            if degree:
                found.append((number, item))
        return found

    def derived(
        self,
        rule: Derivation,
        concept: str,
        parents: tuple[Item, ...],
        *,
        span: Span,
        values: Coded | None = None,
        has_value: bool = False,
        interval: Interval = ANYTHING,
        sure: bool = True,
        axes: Mapping[str, Coded] | None = None,
        tumour: str | None = None,
    ) -> Item:
        self.counter += 1
        quantity = self.terms.quantity_of(concept)
        rests = tuple(dict.fromkeys(r for p in parents for r in p.rests_on))
        if rule.rests_on:
            rests = (*rests, rule.rests_on)
        return Item(
            id=f"derived:{self.counter}:{local_name(rule.iri)}",
            kind=self.terms.kind_of(concept),
            natural=True,
            terms=Coded(frozenset((concept,))),
            values=values or Coded(),
            has_value=has_value,
            interval=interval,
            unit=quantity.unit if quantity else "",
            span=span,
            sure=sure,
            axes=axes or {},
            tumour=tumour,
            origin=parents[0].origin if parents else None,
            parents=parents,
            derived_by=rule.iri,
            rests_on=rests,
        )
