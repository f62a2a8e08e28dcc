"""The operation of FHIR: what it is called, what it takes, and how the server describes itself.

Source: FHIR R4 (4.0.1), Operations, OperationDefinition, CapabilityStatement.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from sarc_kb import __version__
from sarc_kb.errors import Finding, UsageError
from sarc_kb.namespaces import BASE
from sarc_kb.service.operations import EVALUATE, FHIR
from sarc_kb.service.question import Question
from sarc_kb.sources.fhir_json import Parser, RefusedError

NAME = EVALUATE.name
URL = f"{BASE}OperationDefinition/{NAME}"
PUBLISHED = "2026-11-26"
"""When the interface last changed; these resources change with it alone."""
_NAMES = {o.fhir[0]: o for o in EVALUATE.options if o.fhir is not None}


def with_parameters(question: Question) -> Question:
    """Return the question with the options that its body, a Parameters resource, holds. Any other
    body is left to the reader.

    Raises:
        UsageError: a parameter is unknown, has no plain value, or stands in the address too.
    """
    try:
        document = Parser().parse(question.body)
    except RefusedError:
        return question
    if not isinstance(document, dict) or document.get("resourceType") != "Parameters":
        return question
    given = {name: list(values) for name, values in question.options.items()}
    in_body: dict[str, list[str]] = {}
    parameters = document.get("parameter")
    for part in parameters if isinstance(parameters, list) else ():
        name = part.get("name") if isinstance(part, dict) else None
        if name == "record":
            continue
        option = _NAMES.get(name) if isinstance(name, str) else None
        values = [v for k, v in part.items() if k.startswith("value")] if option else []
        if option is None or len(values) != 1 or not isinstance(values[0], str):
            raise _unusable(option.fhir[0] if option and option.fhir else "parameter")
        in_body.setdefault(option.name, []).append(values[0])
        if (len(in_body[option.name]) > 1 and not option.repeats) or option.name in given:
            raise _unusable(option.fhir[0] if option.fhir else option.name)
    whole = {name: tuple(values) for name, values in (given | in_body).items()}
    return replace(question, options=whole)


def _unusable(where: str) -> UsageError:
    finding = Finding(
        "USE120",
        "error",
        f"Parameters.parameter: {where}",
        "unknown, without one value of type string, date or code, or given more than once",
        "it would change nothing, silently",
        "choose from: record, " + ", ".join(_NAMES),
    )
    return UsageError(finding)


def operation_definition() -> dict[str, Any]:
    """Return the OperationDefinition of ``$evaluate-eligibility``."""
    options = [
        {
            "name": option.fhir[0],
            "use": "in",
            "min": 0,
            "max": "*" if option.repeats else "1",
            "documentation": option.says,
            "type": option.fhir[1],
        }
        for option in EVALUATE.options
        if option.fhir is not None
    ]
    record = {
        "name": "record",
        "use": "in",
        "min": 1,
        "max": "1",
        "documentation": "The patient's record: a Bundle of any type with a Patient and what is known of it. References are resolved in the Bundle alone.",
        "type": "Bundle",
    }
    result = {
        "name": "return",
        "use": "out",
        "min": 1,
        "max": "1",
        "documentation": "A Bundle of type collection with a GuidanceResponse a patient: the verdict, every criterion and treatment rule, what decides, and what data are missing.",
        "type": "Bundle",
    }
    return {
        "resourceType": "OperationDefinition",
        "id": NAME,
        "url": URL,
        "version": __version__,
        "name": "EvaluateEligibility",
        "title": "Evaluate a record by the rules of a study",
        "status": "active",
        "kind": "operation",
        "experimental": False,
        "date": PUBLISHED,
        "description": "Judges a patient's record by the eligibility criteria of a study, and the course of treatment by its treatment rules.",
        "affectsState": False,
        "code": NAME,
        "resource": ["ResearchStudy"],
        "system": False,
        "type": False,
        "instance": True,
        "parameter": [record, *options, result],
    }


def capability_statement() -> dict[str, Any]:
    """Return the CapabilityStatement of the service."""
    return {
        "resourceType": "CapabilityStatement",
        "status": "active",
        "date": PUBLISHED,
        "kind": "instance",
        "software": {"name": "sarc-kb", "version": __version__},
        "implementation": {
            "description": "Judges records by the rules of clinical trials; keeps nothing."
        },
        "fhirVersion": "4.0.1",
        "format": [FHIR],
        "rest": [
            {
                "mode": "server",
                "resource": [
                    {
                        "type": "ResearchStudy",
                        "operation": [{"name": NAME, "definition": URL}],
                    },
                    {"type": "OperationDefinition", "interaction": [{"code": "read"}]},
                ],
            }
        ],
    }
