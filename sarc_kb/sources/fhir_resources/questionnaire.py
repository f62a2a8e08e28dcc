"""QuestionnaireResponse: answers to the questions of the trial."""

from __future__ import annotations

from collections.abc import Iterator

from sarc_kb.facts import Fact
from sarc_kb.sources.fhir_resources.codes import RESPONSE_STATUS
from sarc_kb.sources.fhir_resources.elements import dicts, string
from sarc_kb.sources.fhir_resources.reading import Reading
from sarc_kb.sources.fhir_resources.values import answer, who


def questionnaire_response(r: Reading) -> Iterator[Fact]:
    counts = r.status(RESPONSE_STATUS)
    authored = r.date(r.body, "authored")
    performer = who(r.body.get("author"), r.body.get("source"))
    unasked = 0
    number = 0
    todo = dicts(r.body.get("item"))[::-1]
    while todo:
        item = todo.pop()
        answers = dicts(item.get("answer"))
        todo += dicts(item.get("item"))[::-1]
        asked = r.terms.questions.get(string(item.get("linkId")) or "")
        for given in answers:
            todo += dicts(given.get("item"))[::-1]
            if asked is None:
                unasked += 1
                continue
            number += 1
            yield r.fact(
                f"#answer-{number}",
                "Attestation",
                (asked,),
                counts[0],
                start=authored,
                end=authored,
                performer=performer,
                **answer(r, given),
            )
    if unasked:
        r.note("DATA151", f"{unasked} answers to other questions")
