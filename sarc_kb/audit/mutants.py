"""Mutants of a compiled trial: one thing about a rule changed at a time.

Nothing here knows what a trial is about: what there is to change comes from the compiled rules, and
how far a limit moves from the step in which the ontology says that results are reported.
"""

from __future__ import annotations

from dataclasses import replace

from sarc_kb.audit.mutant import Mutant
from sarc_kb.audit.rule_mutants import OfRules
from sarc_kb.audit.term_mutants import OfTerms
from sarc_kb.rules import Trial
from sarc_kb.terminology import Terminology


def mutants_of(trial: Trial, terms: Terminology) -> list[Mutant]:
    """Return every mutant of ``trial``, in an order that depends on the rules alone."""
    found: list[Mutant] = []
    for number, part in enumerate(trial.parts):
        own = OfRules(part, (number,), terms)
        for clause in part.clauses.values():
            found += own.clause(clause)
        for join in part.joins.values():
            found += own.join(join.iri)
        for criterion in part.criteria:
            found += own.criterion(criterion)
    # Named things stand in every part: they are changed in all of them.
    shared = OfTerms(trial, tuple(range(len(trial.parts))), terms)
    for concepts in trial.sets.values():
        found += shared.concept_set(concepts)
    for qualifier in trial.qualifiers.values():
        found += shared.qualifier(qualifier)
    for window in trial.windows.values():
        found += shared.window(window)
    for iri in trial.anchors:
        found += shared.anchor(iri)
    for position, derivation in enumerate(trial.derivations):
        found += shared.derivation(position, derivation)
    for part_number, part in enumerate(trial.parts):
        alone = OfTerms(part, (part_number,), terms)
        found += alone.questions()
        found += alone.ladders()
    taken: dict[str, int] = {}
    return [replace(m, id=_once(m.id, taken)) for m in found]


def _once(name: str, taken: dict[str, int]) -> str:
    taken[name] = taken.get(name, 0) + 1
    return name if taken[name] == 1 else f"{name}.{taken[name]}"
