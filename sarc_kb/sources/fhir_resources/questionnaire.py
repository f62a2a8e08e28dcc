"""QuestionnaireResponse: answers to the questions of the trial."""

from __future__ import annotations

from collections.abc import Iterator

from sarc_kb.facts import Fact
from sarc_kb.namespaces import link_id_iri
from sarc_kb.sources.fhir_resources.codes import RESPONSE_STATUS
from sarc_kb.sources.fhir_resources.elements import dicts, iri_safe, string
from sarc_kb.sources.fhir_resources.reading import Reading
from sarc_kb.sources.fhir_resources.values import answer, asked_by, who


def questionnaire_response(r: Reading) -> Iterator[Fact]:
    status, _ = r.status(RESPONSE_STATUS)
    authored = r.date(r.body, "authored")
    performer = who(r, r.body.get("author"), r.body.get("source"))
    unasked = number = 0
    todo = dicts(r.body.get("item"))[::-1]
    while todo:
        item = todo.pop()
        answers = dicts(item.get("answer"))
        todo += dicts(item.get("item"))[::-1]
        asked = _asked(r, string(item.get("linkId")) or "")
        for given in answers:
            todo += dicts(given.get("item"))[::-1]
            if not asked:
                unasked += 1
                continue
            number += 1
            yield r.fact(
                f"#answer-{number}",
                "Attestation",
                asked,
                status,
                start=authored,
                end=authored,
                performer=performer,
                **answer(r, given),
            )
    if unasked:
        r.note("DATA151", f"{unasked} answers to other questions")


def _asked(r: Reading, link_id: str) -> tuple[str, ...]:
    """Return the question or rule that an item asks: by a mapping of the item of this very
    questionnaire, by one of the linkId, or because the linkId is the trial's own."""
    questionnaire = (string(r.body.get("questionnaire")) or "").partition("|")[0]
    item = iri_safe(f"{questionnaire}#{link_id}") if questionnaire else ""
    mapped = asked_by(r, item) or asked_by(r, link_id_iri(link_id))
    own = r.terms.questions.get(link_id)
    return mapped or ((own,) if own else ())
