"""sarc_kb: clinical-trial rules held as data, and a validator for patient records.

The public names are these: load a :class:`KnowledgeBase`, validate, read each :class:`Assessment`;
or screen a cohort, and read the tables. Whatever goes wrong on purpose is a :class:`SarcError`.
Everything else in the package may change with any version.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"
__all__ = [
    "Assessment",
    "AssessmentSet",
    "ClauseResult",
    "Conclusion",
    "CriterionResult",
    "EngineError",
    "Evidence",
    "Finding",
    "InputError",
    "KnowledgeBase",
    "KnowledgeBaseInfo",
    "Outcome",
    "Period",
    "Provenance",
    "Range",
    "RuleBaseError",
    "SarcError",
    "Screened",
    "TimelineEvent",
    "TreatmentAssessment",
    "TreatmentOutcome",
    "TreatmentResult",
    "UsageError",
    "Verdict",
    "__version__",
]

if TYPE_CHECKING:
    from sarc_kb.assessment import (
        Assessment,
        AssessmentSet,
        ClauseResult,
        Conclusion,
        CriterionResult,
        Evidence,
        KnowledgeBaseInfo,
        Outcome,
        Period,
        Provenance,
        Range,
        TimelineEvent,
        TreatmentAssessment,
        TreatmentOutcome,
        TreatmentResult,
        Verdict,
    )
    from sarc_kb.errors import (
        EngineError,
        Finding,
        InputError,
        RuleBaseError,
        SarcError,
        UsageError,
    )
    from sarc_kb.kb import KnowledgeBase
    from sarc_kb.screening import Screened

_ELSEWHERE = {"KnowledgeBase": "kb", "Screened": "screening"}


def __getattr__(name: str) -> Any:
    # Loaded on first use: the version and the small modules must not cost a SHACL processor.
    from importlib import import_module

    if name in __all__:
        homes = [_ELSEWHERE[name]] if name in _ELSEWHERE else ["errors", "assessment"]
        for home in homes:
            module = import_module(f"sarc_kb.{home}")
            if hasattr(module, name):
                return getattr(module, name)
    raise AttributeError(f"module 'sarc_kb' has no attribute {name!r}")
