"""The screening checklist of a trial: what a person has to answer, as text, JSON, and FHIR.

Every question of the trial is asked once; an item of the FHIR Questionnaire is answered yes or no,
and left out where nobody knows. A response to it is read by its linkIds.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from textwrap import wrap

from rdflib import URIRef

from sarc_kb.assessment import KnowledgeBaseInfo
from sarc_kb.namespaces import RDFS, SARC, TRIAL_BASE
from sarc_kb.reports.escaping import visible_in_json
from sarc_kb.rules import Question, Trial
from sarc_kb.terminology import Terminology

_YES = str(SARC.Yes)


def render_text(trial: Trial, terms: Terminology, *, width: int = 100) -> str:
    """Return the questions, each with its linkId, what it is about, and the answer that clears."""
    lines = [f"CHECKLIST  {trial.id}, {len(trial.questions)} questions", ""]
    size = max(len(q.link_id) for q in trial.questions)
    for question in questions_in_order(trial):
        clears = f"“{terms.label(question.clearing)}” clears {_names(trial, question)}."
        told = [question.text, clears]
        other = _after(trial, question)
        if other is not None:
            told.append(f"Not needed after “{terms.label(other.clearing)}” to {other.link_id}.")
        lines += wrap(
            " ".join(told),
            max(width, 60),
            initial_indent=f"  {question.link_id:<{size}}  ",
            subsequent_indent=" " * (size + 4),
            break_on_hyphens=False,
        )
    return "\n".join(lines) + "\n"


def render_json(trial: Trial, knowledge_base: KnowledgeBaseInfo) -> str:
    """Return the questions as one JSON document."""
    questions = [
        {
            "link_id": q.link_id,
            "iri": q.iri,
            "text": q.text,
            "clearing_answer": q.clearing == _YES,
            "criteria": list(_criteria(trial, q)),
            "clauses": [trial.clauses[c].id for c in q.covers],
            "not_needed_after": other.link_id if (other := _after(trial, q)) else None,
            "comment": _comment(trial, q),
        }
        for q in questions_in_order(trial)
    ]
    return _dump(
        {
            "knowledge_base": {
                "version": knowledge_base.version,
                "sha256": knowledge_base.sha256,
            },
            "trial": trial.id,
            "questions": questions,
        }
    )


def render_fhir(trial: Trial, knowledge_base: KnowledgeBaseInfo) -> str:
    """Return the checklist as a FHIR Questionnaire.

    ``url`` and ``identifier`` come from the trial, ``version`` is the knowledge base's with the
    start of its content hash. A question that another one's clearing answer makes needless is
    enabled by any other answer, and by none.
    Source: FHIR R4 (4.0.1), Questionnaire.
    """
    base = trial.iri.rpartition("/")[0]
    items = []
    for q in questions_in_order(trial):
        item: dict[str, object] = {
            "linkId": q.link_id,
            "code": [{"system": TRIAL_BASE.rstrip("/"), "code": q.iri.removeprefix(TRIAL_BASE)}],
            "prefix": ", ".join(_criteria(trial, q)),
            "text": q.text,
            "type": "boolean",
        }
        other = _after(trial, q)
        if other is not None:
            item["enableWhen"] = [
                {
                    "question": other.link_id,
                    "operator": "!=",
                    "answerBoolean": other.clearing == _YES,
                }
            ]
        items.append(item)
    return _dump(
        {
            "resourceType": "Questionnaire",
            "id": f"checklist-{trial.id}",
            "url": f"{base}/checklist",
            "identifier": [{"system": "https://clinicaltrials.gov", "value": trial.id}],
            "version": f"{knowledge_base.version}-{knowledge_base.sha256[:12]}",
            "name": f"Checklist{trial.id}",
            "title": f"Screening checklist of {trial.id}: {trial.title}",
            "status": "active",
            "experimental": False,
            "subjectType": ["Patient"],
            "description": "What the record cannot say and a person has to. Yes or no; an item that nobody can answer is left out. The answer is dated by the response's authored, and the response names its author.",
            "item": items,
        }
    )


def questions_in_order(trial: Trial) -> list[Question]:
    """Return the questions in the order of the protocol, one that another makes needless after it."""
    places = {iri: n for n, iri in enumerate(c for k in trial.criteria for c in k.clauses)}

    def place(question: Question) -> tuple[int, int, str]:
        first = min(places[c] for c in question.covers)
        other = _after(trial, question)
        after = min(places[c] for c in other.covers) if other else first
        return max(first, after), int(other is not None), question.link_id

    return sorted(trial.questions, key=place)


def _criteria(trial: Trial, question: Question) -> Iterator[str]:
    """Yield the criteria that a question is about, in their order."""
    for criterion in trial.criteria:
        if set(criterion.clauses) & set(question.covers):
            yield criterion.id


def _names(trial: Trial, question: Question) -> str:
    return ", ".join(trial.clauses[c].id for c in question.covers)


def _after(trial: Trial, question: Question) -> Question | None:
    """Return the question whose clearing answer makes this one needless."""
    found = trial.graph.value(URIRef(question.iri), SARC.mootAfter)
    return next((q for q in trial.questions if q.iri == str(found)), None)


def _comment(trial: Trial, question: Question) -> str | None:
    found = trial.graph.value(URIRef(question.iri), RDFS.comment)
    return None if found is None else str(found)


def _dump(value: object) -> str:
    return visible_in_json(json.dumps(value, ensure_ascii=False, indent=2)) + "\n"
