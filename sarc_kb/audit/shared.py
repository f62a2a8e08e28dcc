"""What several parts of an audit need, made once a run: the cases, and who judges them."""

from __future__ import annotations

from functools import lru_cache

from sarc_kb.audit.judging import Judge
from sarc_kb.cases import Case, load_cases, part_of
from sarc_kb.kb import KnowledgeBase
from sarc_kb.rules import Trial


@lru_cache(maxsize=1)
def compiled(kb: KnowledgeBase, trial: str) -> Trial:
    """Return the rules of ``trial`` under the default readings and policies."""
    return kb.compile(trial)


@lru_cache(maxsize=1)
def cases_of(kb: KnowledgeBase, trial: str) -> tuple[Case, ...]:
    """Return every case written by hand, ordered by id.

    Raises:
        RuleBaseError: a file of cases cannot be read.
    """
    return tuple(load_cases(kb.trial_folder(trial), kb.terms.axes))


@lru_cache(maxsize=1)
def judge_of(kb: KnowledgeBase, trial: str) -> Judge:
    """Return who judges the cases by the rules as they are; what it prepared stays with it.

    Cases about another reading of the register, or about no rule that there is, are left out.
    """
    rules = compiled(kb, trial)
    cases = (c for c in cases_of(kb, trial) if not c.readings and is_about(rules, c))
    return Judge(kb, rules, cases)


def is_about(trial: Trial, case: Case) -> bool:
    """Whether there is the rule that ``case`` is about."""
    try:
        part_of(trial, case.rule)
    except KeyError:
        return False
    return True
