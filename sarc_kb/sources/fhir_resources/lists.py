"""List: a record that somebody keeps complete.

Its code, by the mappings, names the kind of record. Only a whole and current list says that there
was no more than it has, and only if all that it has is in the input.
"""

from __future__ import annotations

from collections.abc import Iterator

from sarc_kb.facts import Fact
from sarc_kb.sources.fhir_resources.codes import EMPTY_LIST, EMPTY_REASON, LIST_STATUS, WHOLE_LIST
from sarc_kb.sources.fhir_resources.elements import dicts
from sarc_kb.sources.fhir_resources.reading import Reading
from sarc_kb.sources.fhir_resources.values import who


def completeness_list(r: Reading) -> Iterator[Fact]:
    codes = r.codings(r.body.get("code"))
    scopes = tuple(code for code in codes if r.term("Scope") in r.terms.means(code))
    if not scopes:
        r.note("DATA140", "its code names no kind of record")
        return
    status, _ = r.status(LIST_STATUS)
    mode = r.body.get("mode")
    whole = WHOLE_LIST.get(mode) if isinstance(mode, str) else None
    if whole is None:
        r.note("DATA121", "has no mode that FHIR knows")
        status = "Suspected" if status == "Confirmed" else status
    elif not whole:
        r.note("DATA140", "it lists changes")
        return
    items = [entry for entry in dicts(r.body.get("entry")) if entry.get("deleted") is not True]
    empty = r.coded_status("emptyReason", EMPTY_REASON, EMPTY_LIST)
    if items and empty:
        r.note("DATA122", "has entries and a reason for having none")
        return
    if not items and not (empty and EMPTY_LIST[empty]):
        r.note("DATA140", "it is empty, and does not say that nothing is known")
        return
    targets = [r.target(reference) for item in items for reference in dicts(item.get("item"))]
    if None in targets or len(targets) < len(items):
        r.note("DATA140", "not all that it lists is in the input")
        return
    said = r.date(r.body, "date")
    performer = who(r, r.body.get("source"))
    kind = "CompletenessStatement"
    yield r.fact("", kind, scopes, status, start=said, end=said, performer=performer)
