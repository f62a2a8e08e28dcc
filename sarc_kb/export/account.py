"""What an export carries of a trial's rules: every rule and clause, each exactly once.

A format that can not say what a rule says must not be silent about it. So an export is written with
an account, in which each criterion, treatment rule and clause stands as carried exactly, carried in
part (with what is lost) or not carried (with the reason).
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import Enum
from textwrap import wrap

from sarc_kb.assessment import KnowledgeBaseInfo
from sarc_kb.reports.escaping import visible, visible_in_json
from sarc_kb.rules import Trial


class Carried(Enum):
    """How much of a rule a format carries."""

    EXACTLY = "exactly"
    IN_PART = "in part"
    NOT = "not"


@dataclass(frozen=True, slots=True)
class Carriage:
    """What became of one clause: how much is carried, and what is lost, or why it is not carried."""

    carried: Carried
    lost: tuple[str, ...] = ()

    @classmethod
    def of(cls, lost: Iterable[str]) -> Carriage:
        """Return that all is carried but ``lost``."""
        told = tuple(dict.fromkeys(lost))
        return cls(Carried.IN_PART if told else Carried.EXACTLY, told)

    @classmethod
    def not_at_all(cls, *why: str) -> Carriage:
        return cls(Carried.NOT, tuple(dict.fromkeys(why)))


@dataclass(frozen=True, slots=True)
class Entry:
    """One rule or clause in the account. ``kind``: inclusion, exclusion, treatment or clause; a
    criterion that is one clause itself stands there once, as the criterion."""

    iri: str
    id: str
    kind: str
    label: str
    carriage: Carriage


@dataclass(frozen=True, slots=True)
class Account:
    """What one ``format`` carries of one trial's rules; ``notes`` hold for all of them."""

    format: str
    trial: str
    trial_iri: str
    knowledge_base: KnowledgeBaseInfo
    notes: tuple[str, ...]
    entries: tuple[Entry, ...]

    def count(self, carried: Carried, *, clauses: bool) -> int:
        """Return how many clauses, or rules, are carried so."""
        return sum(
            e.carriage.carried is carried for e in self.entries if (e.kind == "clause") == clauses
        )


def account_of(
    format_name: str,
    trial: Trial,
    knowledge_base: KnowledgeBaseInfo,
    notes: Iterable[str],
    carriages: Mapping[str, Carriage],
    *,
    treatment: str,
) -> Account:
    """Return the account of an export of the criteria of ``trial``.

    Args:
        carriages: of every clause and, where the tree that joins the clauses is not carried as it
            is, of the criterion.
        treatment: why the rules about treatment are not carried.
    Raises:
        KeyError: there is a clause that the export did not speak of.
    """
    entries: dict[str, Entry] = {}
    for criterion in trial.criteria:
        own = [carriages[c] for c in criterion.clauses]
        carriage = carriages.get(criterion.iri) or _together(own)
        entries[criterion.iri] = Entry(
            criterion.iri, criterion.id, criterion.kind, criterion.text.label, carriage
        )
    for rule in trial.treatment.criteria if trial.treatment else ():
        not_carried = Carriage.not_at_all(treatment)
        entries[rule.iri] = Entry(rule.iri, rule.id, "treatment", rule.text.label, not_carried)
    for part in trial.parts:
        for clause in part.clauses.values():
            carriage = (
                carriages[clause.iri]
                if clause.iri in trial.clauses
                else Carriage.not_at_all(treatment)
            )
            entries.setdefault(
                clause.iri, Entry(clause.iri, clause.id, "clause", clause.text.label, carriage)
            )
    told = (*set_by_caller(trial), *notes)
    return Account(format_name, trial.id, trial.iri, knowledge_base, told, tuple(entries.values()))


def set_by_caller(trial: Trial) -> tuple[str, ...]:
    """Return what the caller set, in a sentence; nothing where the rules are as they stand."""
    if not trial.changed:
        return ()
    return (f"Not the rules as they stand; set by the caller: {'; '.join(trial.changed)}.",)


def _together(clauses: list[Carriage]) -> Carriage:
    """Return how much of a rule is carried of whose clauses so much is."""
    kinds = {c.carried for c in clauses}
    if kinds == {Carried.EXACTLY}:
        return Carriage(Carried.EXACTLY)
    if kinds == {Carried.NOT}:
        return Carriage.not_at_all(*(text for c in clauses for text in c.lost))
    return Carriage(Carried.IN_PART, ("see its clauses",) if len(clauses) > 1 else clauses[0].lost)


# -- what it looks like ------------------------------------------------------------------------
def render_json(account: Account) -> str:
    """Return the account as one JSON document."""
    document = {
        "format": account.format,
        "trial": {"id": account.trial, "iri": account.trial_iri},
        "knowledge_base": {
            "version": account.knowledge_base.version,
            "sha256": account.knowledge_base.sha256,
        },
        "notes": list(account.notes),
        "counts": {
            name: {c.value: account.count(c, clauses=clauses) for c in Carried}
            for name, clauses in (("rules", False), ("clauses", True))
        },
        "entries": [
            {
                "id": e.id,
                "iri": e.iri,
                "kind": e.kind,
                "label": e.label,
                "carried": e.carriage.carried.value,
                ("why" if e.carriage.carried is Carried.NOT else "lost"): list(e.carriage.lost),
            }
            for e in account.entries
        ],
    }
    return visible_in_json(json.dumps(document, ensure_ascii=False, indent=2)) + "\n"


def render_text(account: Account, *, width: int = 100) -> str:
    """Return the account for reading: the counts, what holds for all, then rule by rule."""
    return "\n".join(_lines(account, max(width, 60))) + "\n"


def _lines(account: Account, width: int) -> Iterator[str]:
    yield f"ACCOUNT  {account.trial} as {account.format}"
    for name, clauses in (("rules", False), ("clauses", True)):
        counts = ", ".join(f"{account.count(c, clauses=clauses)} {_WORDS[c]}" for c in Carried)
        yield f"  {name:<8} {counts}"
    yield ""
    for note in account.notes:
        yield from _wrapped(note, "  - ", width)
    for carried in Carried:
        own = [e for e in account.entries if e.carriage.carried is carried]
        if own:
            yield ""
            yield _WORDS[carried].upper()
        for entry in own:
            yield from _wrapped(f"{entry.id}  {entry.label}", "  ", width)
            for text in entry.carriage.lost:
                yield from _wrapped(text, "      - ", width)


_WORDS = {
    Carried.EXACTLY: "carried exactly",
    Carried.IN_PART: "carried in part",
    Carried.NOT: "not carried",
}


def _wrapped(text: str, lead: str, width: int) -> list[str]:
    return wrap(visible(text), width, initial_indent=lead, subsequent_indent=" " * (len(lead) + 2))
