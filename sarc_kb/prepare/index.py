"""Which facts are about the index tumour."""

from __future__ import annotations

from dataclasses import replace

from sarc_kb.prepare.model import (
    Item,
)
from sarc_kb.prepare.state import Preparation
from sarc_kb.rules import IndexRule
from sarc_kb.terminology import Coded


def mark_index(p: Preparation) -> None:
    for rule in p.trial.index_rules:
        groups: dict[str | None, list[Item]] = {}
        described = []
        for item in p.items:
            if p.in_set(item, rule.describes):
                described.append(item)
                groups.setdefault(item.tumour, []).append(item)
        marked = {
            t
            for t, members in groups.items()
            if any(on_axis(p, i, rule.axis, rule.index) == 2 for i in members)
        }
        candidate = p.trial.set_of(rule.candidate)
        candidates = {
            t
            for t, members in groups.items()
            if any(
                (i.terms.readable and candidate.degree(i.terms, p.terms) > 0 and i.natural)
                or (i.has_value and i.values.readable and candidate.degree(i.values, p.terms) > 0)
                for i in members
            )
        }
        index: set[str | None] | None = None
        if marked:
            index = {t for t in marked if t is not None}
        elif len(candidates) == 1:
            index = set(candidates)
            if candidates != {None} and None not in candidates:
                index.add(None)
        elif described:
            p.find(
                "DATA018",
                "warning",
                None,
                f"{len(candidates)} tumours could be the index tumour and none is marked",
                "clauses about the index tumour stay undetermined",
                "mark the index tumour in the record",
            )
        others = (groups.keys() - (index or set()) - {None}) if index is not None else set()
        replaced: dict[str, Item] = {}
        for item in described:
            if rule.axis in item.axes:
                continue
            value = None
            if rivals(p, item.terms, rule) and item.natural:
                value = rule.other
            elif item.has_value and rivals(p, item.values, rule):
                # A report of another cancer that names no tumour may be about either.
                value = None
            elif index is not None and item.tumour in index:
                value = rule.index
            elif item.tumour in others:
                value = rule.other
            if value is not None:
                replaced[item.id] = replace(
                    item, axes={**item.axes, rule.axis: Coded(frozenset((value,)))}
                )
        p.items = [replaced.get(i.id, i) for i in p.items]


def on_axis(p: Preparation, item: Item, axis: str, value: str) -> int:
    coded = item.axes.get(axis)
    if coded is None or not coded.readable:
        return 1
    return p.trial.set_of(value).degree(coded, p.terms)


def rivals(p: Preparation, coded: Coded, rule: IndexRule) -> bool:
    """Whether ``coded`` names something of the rival kind that cannot be a candidate."""
    if rule.rival is None or not coded.certain:
        return False
    rival, candidate = p.trial.set_of(rule.rival), p.trial.set_of(rule.candidate)
    return rival.degree(coded, p.terms) == 2 and candidate.degree(coded, p.terms) == 0
