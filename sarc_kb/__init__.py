"""sarc_kb: clinical-trial rules held as data, and a validator for patient records.

The public names are few: load a :class:`KnowledgeBase`, validate, read the :class:`Assessment`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"
__all__ = ["Assessment", "AssessmentSet", "KnowledgeBase", "Outcome", "Verdict", "__version__"]

if TYPE_CHECKING:
    from sarc_kb.assessment import Assessment, AssessmentSet, Outcome, Verdict
    from sarc_kb.kb import KnowledgeBase


def __getattr__(name: str) -> Any:
    # Loaded on first use: the version and the small modules must not cost a SHACL processor.
    if name == "KnowledgeBase":
        from sarc_kb.kb import KnowledgeBase

        return KnowledgeBase
    if name in __all__:
        from sarc_kb import assessment

        return getattr(assessment, name)
    raise AttributeError(f"module 'sarc_kb' has no attribute {name!r}")
