"""Patient: birth, sex, death."""

from __future__ import annotations

from collections.abc import Iterator

from sarc_kb.facts import Fact
from sarc_kb.sources.fhir_resources.codes import GENDER
from sarc_kb.sources.fhir_resources.elements import dicts, string
from sarc_kb.sources.fhir_resources.reading import Reading


def patient(r: Reading) -> Iterator[Fact]:
    if any(link.get("type") == "replaced-by" for link in dicts(r.body.get("link"))):
        r.note("DATA141", "was replaced by another record of the patient")
    if r.body.get("active") is False:
        r.note("DATA142", "is not in active use")
    born = r.date(r.body, "birthDate")
    if born:
        yield r.fact("#birth", "Demographic", (r.term("Birth"),), "Confirmed", start=born, end=born)
    if gender := string(r.body.get("gender")):
        sex = (r.terms.code(GENDER, gender),)
        yield r.fact("#sex", "Demographic", (r.term("Sex"),), "Confirmed", value_concepts=sex)
    died = r.date(r.body, "deceasedDateTime")
    if r.body.get("deceasedDateTime") is not None or r.body.get("deceasedBoolean") is True:
        yield r.fact("#death", "Demographic", (r.term("Death"),), "Confirmed", start=died, end=died)
