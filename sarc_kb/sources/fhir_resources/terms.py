"""What the FHIR reader must know of the knowledge base."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from sarc_kb.sources.fhir_resources.elements import iri_safe

_ABSOLUTE = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:\S")


def _as_far_as_known(_: str, __: str) -> bool:
    return True


def _nothing(_: str) -> frozenset[str]:
    return frozenset()


@dataclass(frozen=True, slots=True)
class FhirTerms:
    """What the reader must know of the knowledge base.

    ``systems``: FHIR code-system URI to the IRI prefix of its codes. ``questions``: linkId or rule
    id to the IRI of the question or rule. ``study_ids``: registry id to the IRI of the study;
    these are the trial's own. ``term``: local name to IRI of the vocabulary. ``names``: names of
    substances (lower case) to terms, for medications and allergens whose ``text`` is just that
    name, because some substances have no code yet. ``means``: a code to every term it certainly
    stands for, with all above; an unmapped one means nothing. ``axes``: the axes of facts.
    ``absences``: terms that say that there was nothing, such as that no allergy is known.
    ``units_agree``: False where both texts are units, and not the same.
    """

    systems: Mapping[str, str]
    questions: Mapping[str, str]
    study_ids: Mapping[str, str]
    term: Callable[[str], str]
    names: Mapping[str, str] = field(default_factory=dict)
    means: Callable[[str], frozenset[str]] = _nothing
    axes: frozenset[str] = frozenset()
    absences: frozenset[str] = frozenset()
    units_agree: Callable[[str, str], bool] = _as_far_as_known

    def prefix(self, system: str | None) -> str:
        """Return what stands before the codes of ``system``; an unknown one keeps its URI."""
        base = system or ""
        if base in self.systems:
            return self.systems[base]
        if not _ABSOLUTE.match(base):
            base = "urn:x-fhir-system:" + base
        return base if base.endswith(("/", "#")) else base + "/"

    def code(self, system: str | None, code: str) -> str:
        """Return the IRI of a code."""
        return iri_safe(self.prefix(system) + code)
