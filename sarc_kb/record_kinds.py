"""The kinds of record in which what a rule reads is kept."""

from __future__ import annotations

from collections.abc import Iterator

from sarc_kb.rules import Trial
from sarc_kb.terminology import Terminology


def kinds_of_record(
    trial: Trial, terms: Terminology, concept_set: str, seen: frozenset[str] = frozenset()
) -> frozenset[str]:
    """Return the kinds of record (IRIs) in which facts of a set stand; those a derived fact is made
    from, where it is not recorded itself. ``seen``: the sets asked about on the way here."""
    if concept_set in seen:  # a ring of derivations ends here
        return frozenset()
    return frozenset(_found(trial, terms, concept_set, seen | {concept_set}))


def _found(
    trial: Trial, terms: Terminology, concept_set: str, seen: frozenset[str]
) -> Iterator[str]:
    wanted = trial.set_of(concept_set)
    if wanted.kind is not None:
        yield wanted.kind
        return
    for member in wanted.members:
        below = {k for t in terms.down(member) if (k := terms.kind_of(t))}
        kind = terms.kind_of(member)
        yield from (kind,) if kind else below
        if kind or below:
            continue
        for rule in trial.derivations:
            if member in (rule.iri, rule.gives):
                sources = [rule.source, *rule.of, *(s for _, s in rule.inputs)]
                for anchor in (rule.from_anchor, rule.to_anchor):
                    for attempt in trial.anchors.get(anchor or "", ()):
                        sources += attempt.targets
                for source in filter(None, sources):
                    if source not in trial.anchors:
                        yield from kinds_of_record(trial, terms, source, seen)
