"""Assessments as JSON and JSON Lines, in the shape of ``sarc_kb/schema/assessments-1.schema.json``.

The members are the fields of `sarc_kb.assessment`, in their order, every one always present.
Numbers of the record stay strings, as recorded. A line of JSON Lines is a whole document with one
assessment, so that one schema, and one query, reads both.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import fields, is_dataclass
from enum import Enum

from sarc_kb.assessment import (
    Assessment,
    AssessmentSet,
    KnowledgeBaseInfo,
    Outcome,
    Provenance,
    TreatmentAssessment,
)
from sarc_kb.errors import Finding
from sarc_kb.namespaces import BASE
from sarc_kb.reports.escaping import visible_in_json

SCHEMA = BASE + "schema/assessments/1"

# What the members of tuples of tuples are called.
_PAIRS = {
    "policies": ("policy", "value"),
    "readings": ("ambiguity", "reading"),
    "anchors": ("anchor", "date", "how"),
}


def render_json(result: AssessmentSet) -> str:
    """Return one JSON document with all assessments, indented by two spaces."""
    return _dump(document(result.knowledge_base, result.assessments, result.run_findings), indent=2)


def render_jsonl(result: AssessmentSet) -> str:
    """Return one line an assessment; findings about the run are a last line without assessments."""
    return "".join(stream_jsonl(result.knowledge_base, result.assessments, result.run_findings))


def stream_jsonl(
    knowledge_base: KnowledgeBaseInfo,
    assessments: Iterable[Assessment],
    run_findings: Iterable[Finding],
) -> Iterator[str]:
    """Yield the lines of `render_jsonl` one by one, so that a large cohort can be written as it is
    judged; ``run_findings`` is gone through at the end."""
    none = True
    for assessment in assessments:
        none = False
        yield _dump(document(knowledge_base, (assessment,), ()))
    findings = tuple(run_findings)
    if findings or none:
        yield _dump(document(knowledge_base, (), findings))


def document(
    knowledge_base: KnowledgeBaseInfo,
    assessments: tuple[Assessment, ...],
    run_findings: tuple[Finding, ...],
) -> dict[str, object]:
    """Return the report as plain dictionaries, lists and strings."""
    return {
        "schema": SCHEMA,
        "knowledge_base": plain(knowledge_base),
        "assessments": plain(assessments),
        "run_findings": plain(run_findings),
    }


def plain(value: object) -> object:
    """Return ``value``, a part of an assessment, as what JSON knows."""
    if isinstance(value, Outcome):
        return value.word
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, tuple):
        return [plain(item) for item in value]
    if not is_dataclass(value):
        return value
    members = {field.name: plain(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, (Provenance, TreatmentAssessment)):
        for name, parts in _PAIRS.items():
            if name in members:
                members[name] = [dict(zip(parts, row, strict=True)) for row in getattr(value, name)]
    return members


def _dump(value: object, indent: int | None = None) -> str:
    separators = (",", ": ") if indent else (",", ":")
    text = json.dumps(
        value, ensure_ascii=False, allow_nan=False, indent=indent, separators=separators
    )
    return visible_in_json(text) + "\n"
