"""Rules as JSON: the list of a trial, and one of them with its clauses and cases."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from sarc_kb.assessment import KnowledgeBaseInfo
from sarc_kb.namespaces import local_name
from sarc_kb.reports.escaping import visible_in_json
from sarc_kb.reports.rule_report import clause_line, read_cases
from sarc_kb.rules import Clause, Criterion, Trial
from sarc_kb.terminology import Terminology


def render_rules_json(trial: Trial, terms: Terminology, knowledge_base: KnowledgeBaseInfo) -> str:
    """Return the criteria and treatment rules of a trial, in their order, each with its clauses."""
    return _dump(
        {
            "knowledge_base": _info(knowledge_base),
            "trial": trial.id,
            "title": trial.title,
            "rules": [_rule(part, terms, rule) for part in trial.parts for rule in part.criteria],
        }
    )


def render_rule_json(
    trial: Trial,
    terms: Terminology,
    knowledge_base: KnowledgeBaseInfo,
    name: str,
    folder: Path,
    page: str,
) -> str:
    """Return what is called ``name``: the rules that it is, or is a part of, and its cases.

    ``page``: the rule as it is explained to people.
    """
    rules = []
    iris: dict[str, None] = {}
    for part in trial.parts:
        for rule in part.criteria:
            clauses = [part.clauses[c] for c in rule.clauses]
            if name in (rule.id, *(c.id for c in clauses)) or any(
                part.joins[j].id == name for j in part.joins if j in _nodes(part, rule.root)
            ):
                rules.append(_rule(part, terms, rule))
            called = {rule.iri: rule.id} | {c.iri: c.id for c in clauses}
            iris |= {iri: None for iri, id_ in called.items() if id_ == name}
    cases = [
        {"id": case, "expected": expected, "because": because}
        for iri in iris
        for case, expected, because in read_cases(folder, iri)
    ]
    return _dump(
        {
            "knowledge_base": _info(knowledge_base),
            "trial": trial.id,
            "id": name,
            "rules": rules,
            "cases": cases,
            "page": page,
        }
    )


def _nodes(trial: Trial, root: str) -> set[str]:
    """Return the joins and clauses of a tree."""
    found = {root}
    for child in trial.children(root):
        found |= _nodes(trial, child)
    return found


def _rule(trial: Trial, terms: Terminology, rule: Criterion) -> dict[str, Any]:
    return {
        "id": rule.id,
        "iri": rule.iri,
        "part": "eligibility" if trial.course is None else "treatment",
        "kind": rule.kind,
        "modality": local_name(rule.modality) if rule.modality else None,
        "label": rule.text.label,
        "quote": rule.text.quote,
        "locator": rule.text.locator,
        "interpretation": rule.text.interpretation,
        "remedy": rule.text.remedy,
        "resolves": list(rule.text.resolves),
        "clauses": [_clause(trial, terms, trial.clauses[c]) for c in rule.clauses],
    }


def _clause(trial: Trial, terms: Terminology, clause: Clause) -> dict[str, Any]:
    return {
        "id": clause.id,
        "iri": clause.iri,
        "label": clause.text.label,
        "demands": clause_line(trial, terms, clause),
        "limits": {name: str(value) for name, value in clause.limits.items()},
        "unit": clause.unit or None,
        "relaxed": list(clause.relaxed),
    }


def _info(knowledge_base: KnowledgeBaseInfo) -> dict[str, str]:
    return {"version": knowledge_base.version, "sha256": knowledge_base.sha256}


def _dump(document: object) -> str:
    text = json.dumps(document, ensure_ascii=False, indent=2, allow_nan=False)
    return visible_in_json(text) + "\n"
