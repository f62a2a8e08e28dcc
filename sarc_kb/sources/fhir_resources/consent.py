"""Consent: to take part in the trial."""

from __future__ import annotations

from collections.abc import Iterator

from sarc_kb.facts import Fact
from sarc_kb.sources.fhir_resources.codes import CONSENT_STATUS, CONSENT_VALUE
from sarc_kb.sources.fhir_resources.elements import dicts
from sarc_kb.sources.fhir_resources.reading import Reading
from sarc_kb.sources.fhir_resources.research import study_of


def consent(r: Reading) -> Iterator[Fact]:
    """Yield the consent to take part, if it is one.

    A consent to treatment or to the use of data says nothing about the trial. Which study a
    research consent belongs to is known from the ResearchSubject that names it.
    """
    status, _ = r.status(CONSENT_STATUS)
    value = CONSENT_VALUE.get(str(r.body.get("status")), "ConsentInForce")
    refusals = [p for p in dicts(r.body.get("provision")) if p.get("type") == "deny"]
    rule = [c.get("code") for p in dicts(r.body.get("policyRule")) for c in dicts(p.get("coding"))]
    if value == "ConsentInForce" and (refusals or "OPTOUT" in rule):
        value = "ConsentNotSigned"
    scope = [c.get("code") for s in dicts(r.body.get("scope")) for c in dicts(s.get("coding"))]
    studies = {
        study_of(r, reference, subject).iri
        for subject in r.ties.enrolments.get(r.entry.name, ())
        for reference in dicts(subject.body.get("study"))
    } - {None}
    own = set(r.terms.study_ids.values())
    concepts: tuple[str, ...] = (r.term("InformedConsent"),)
    if not studies & own and (studies or "research" not in scope):
        concepts = r.concepts(r.body.get("category"))
    elif not studies:
        r.note("DATA128", "no ResearchSubject of a known study names this research consent")
        status = "Suspected" if status == "Confirmed" else status
    given = r.date(r.body, "dateTime")
    yield r.fact(
        "",
        "Consent",
        concepts,
        status,
        start=given,
        end=given,
        value_concepts=(r.term(value),),
        axes=tuple((r.term("study"), study) for study in sorted(filter(None, studies))),
    )
