"""The description of the interface as OpenAPI 3.1, made from the same tables as the application."""

from __future__ import annotations

import json
from collections.abc import Mapping
from importlib.resources import files
from typing import Any

from sarc_kb import __version__
from sarc_kb.service.desk import Limits
from sarc_kb.service.guard import Rights
from sarc_kb.service.operations import (
    CHECKLIST,
    EVALUATE,
    EXPLAIN,
    FHIR,
    FORMAT,
    HEALTH,
    JSON,
    LIST,
    OPERATIONS,
    PROBLEM,
    READINESS,
    VALIDATE,
    VERSION,
    Operation,
    Option,
)
from sarc_kb.service.problems import STATUSES

_BINARY = {"xlsx"}
_TEXT = {"type": "string"}
_TEXTS = {"type": "array", "items": _TEXT}
_SCHEMAS = {"Assessments": "assessments-1.schema.json", "Readiness": "readiness-1.schema.json"}


def description(limits: Limits, rights: Rights) -> dict[str, Any]:
    """Return the OpenAPI document of a service with these limits."""
    paths: dict[str, Any] = {}
    for operation in OPERATIONS:
        paths.setdefault(operation.path, {})[operation.method.lower()] = _operation(
            operation, rights
        )
    schemas: dict[str, Any] = dict(_OWN)
    for name, file in _SCHEMAS.items():
        schema = json.loads(files("sarc_kb").joinpath("schema", file).read_text("utf-8"))
        parts = schema.pop("$defs", {})
        for key in ("$schema", "$id"):
            del schema[key]
        schemas |= _moved({name: schema, **{f"{name}.{k}": v for k, v in parts.items()}}, name)
    document: dict[str, Any] = {
        "openapi": "3.1.0",
        "info": {
            "title": "sarc-kb",
            "version": __version__,
            "description": f"Judges patient records by clinical-trial rules that are held as data. A verdict, whatever it is, comes with status 200; nothing is kept. Parameters of the query are named and meant as the options of the command line. A body has at most {limits.size} bytes, in UTF-8.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "paths": paths,
        "components": {"schemas": schemas},
    }
    if rights.token is not None:
        document["components"]["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
    return document


def _moved(value: Any, name: str) -> Any:
    """Return a part of a JSON Schema whose definitions stand among the components."""
    if isinstance(value, dict):
        return {
            k: f"#/components/schemas/{name}.{v.removeprefix('#/$defs/')}"
            if k == "$ref" and isinstance(v, str) and v.startswith("#/$defs/")
            else _moved(v, name)
            for k, v in value.items()
        }
    return [_moved(item, name) for item in value] if isinstance(value, list) else value


def _operation(operation: Operation, rights: Rights) -> dict[str, Any]:
    in_path = [
        {"name": part[1:-1], "in": "path", "required": True, "schema": {**_TEXT, "minLength": 1}}
        for part in operation.path.split("/")
        if part.startswith("{")
    ]
    options = [_parameter(operation, option) for option in operation.options]
    if operation.method == "POST" and operation is not EVALUATE:
        names = list(dict.fromkeys(operation.formats.values()))
        options.append(
            {
                "name": FORMAT.name,
                "in": "query",
                "description": FORMAT.says,
                "schema": {**_TEXT, "enum": names},
            }
        )
    described: dict[str, Any] = {
        "operationId": operation.name,
        "summary": operation.says,
        "parameters": [*in_path, *options],
        "responses": {
            "200": {
                "description": "the answer",
                "content": {
                    media: {"schema": _schema(operation, media, form)}
                    for media, form in operation.formats.items()
                },
            },
            **{str(status): _problem(operation, status) for status in _statuses(operation, rights)},
        },
    }
    if operation.takes is not None:
        described["requestBody"] = {
            "required": True,
            "content": {media: {"schema": _body(media)} for media in operation.takes},
        }
    if rights.token is not None and not operation.open:
        described["security"] = [{"token": []}]
    return described


def _parameter(operation: Operation, option: Option) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": "string"}
    if option.choices:
        schema["enum"] = list(option.choices)
    if option.pattern:
        schema["pattern"] = option.pattern
    named = option.fhir[0] if operation is EVALUATE and option.fhir is not None else option.name
    return {
        "name": named,
        "in": "query",
        "description": option.says,
        "schema": {"type": "array", "items": schema} if option.repeats else schema,
        "example": [option.example] if option.repeats else option.example,
    }


def _statuses(operation: Operation, rights: Rights) -> list[int]:
    found = {400, 403, 406, 421, 500}
    if rights.token is not None and not operation.open:
        found.add(401)
    if operation is EXPLAIN:
        found.add(404)
    if operation.takes is not None:
        found |= {408, 413, 415, 422}
    if operation.options or operation in (VERSION, HEALTH):
        found.add(503)
    if operation.options or operation is VERSION:
        found |= {504, 507}
    return sorted(found)


def _problem(operation: Operation, status: int) -> dict[str, Any]:
    in_fhir = operation.path.startswith("/fhir/")
    media, name = (FHIR, "OperationOutcome") if in_fhir else (PROBLEM, "Problem")
    return {"description": STATUSES[status], "content": {media: {"schema": _reference(name)}}}


def _reference(name: str) -> dict[str, str]:
    return {"$ref": f"#/components/schemas/{name}"}


def _body(media: str) -> dict[str, Any]:
    if media in (JSON, FHIR, "application/ld+json"):
        return {"type": ["object", "array"]}
    return dict(_TEXT)


def _schema(operation: Operation, media: str, form: str) -> dict[str, Any]:
    if form in _BINARY:
        return {"type": "string", "contentMediaType": media}
    if media not in (JSON, FHIR, "application/ld+json"):
        return dict(_TEXT)
    if form == "json" and operation.name in _ANSWERS:
        return _reference(_ANSWERS[operation.name])
    return {"type": "object"}


_ANSWERS: Mapping[str, str] = {
    VALIDATE.name: "Assessments",
    READINESS.name: "Readiness",
    LIST.name: "Rules",
    EXPLAIN.name: "Rule",
    CHECKLIST.name: "Checklist",
    VERSION.name: "Version",
    HEALTH.name: "Health",
}


def _object(**members: Any) -> dict[str, Any]:
    return {"type": "object", "required": list(members), "properties": members}


_KNOWLEDGE_BASE = _object(version=_TEXT, sha256=_TEXT)
_CLAUSE = _object(
    id=_TEXT,
    iri=_TEXT,
    label=_TEXT,
    demands=_TEXT,
    limits={"type": "object", "additionalProperties": _TEXT},
    unit={"type": ["string", "null"]},
    relaxed=_TEXTS,
)
_RULE = _object(
    id=_TEXT,
    iri=_TEXT,
    part={"enum": ["eligibility", "treatment"]},
    kind=_TEXT,
    modality={"type": ["string", "null"]},
    label=_TEXT,
    quote=_TEXT,
    locator=_TEXT,
    interpretation=_TEXT,
    remedy=_TEXT,
    resolves=_TEXTS,
    clauses={"type": "array", "items": _CLAUSE},
)
_RULE_LIST = {"type": "array", "items": _RULE}
_FINDING = _object(
    code=_TEXT,
    severity={"enum": ["error", "warning", "info"]},
    where=_TEXT,
    found=_TEXT,
    why=_TEXT,
    fix=_TEXT,
)
_OWN: Mapping[str, Any] = {
    "Problem": _object(
        type={"const": "about:blank"},
        title=_TEXT,
        status={"type": "integer"},
        detail=_TEXT,
        findings={"type": "array", "items": _FINDING},
    ),
    "OperationOutcome": _object(
        resourceType={"const": "OperationOutcome"}, issue={"type": "array", "minItems": 1}
    ),
    "Rules": _object(knowledge_base=_KNOWLEDGE_BASE, trial=_TEXT, title=_TEXT, rules=_RULE_LIST),
    "Rule": _object(
        knowledge_base=_KNOWLEDGE_BASE,
        trial=_TEXT,
        id=_TEXT,
        rules=_RULE_LIST,
        cases={"type": "array", "items": _object(id=_TEXT, expected=_TEXT, because=_TEXT)},
        page=_TEXT,
    ),
    "Checklist": _object(knowledge_base=_KNOWLEDGE_BASE, trial=_TEXT, questions={"type": "array"}),
    "Version": _object(program=_TEXT, knowledge_base=_KNOWLEDGE_BASE, trials=_TEXTS, engine=_TEXT),
    "Health": _object(status={"enum": ["ready", "busy"]}),
}
