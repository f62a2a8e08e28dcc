"""What nothing maps, as an SSSOM file to fill in, and as a list to read."""

from __future__ import annotations

import csv
import io
import itertools
import re

from sarc_kb.mappings import guarded
from sarc_kb.namespaces import SARC, TEXT
from sarc_kb.readiness import UNIT, Readiness, Seen
from sarc_kb.reports.escaping import visible
from sarc_kb.reports.readiness_report import table_text
from sarc_kb.sources.fhir_resources.codes import DATA_ABSENT_REASON

_ABSENT = DATA_ABSENT_REASON + "/"
_SPACE = re.compile(r"(?:https?|urn):\S+\Z")
_COLUMNS = (
    "subject_id",
    "subject_label",
    "subject_type",
    "predicate_id",
    "object_id",
    "mapping_justification",
    "comment",
    "seen",
    "patients",
    "used_as",
    "example",
)
_HEAD = """\
#mapping_set_id: https://example.org/mappings/{trial}
#mapping_set_title: Codes, texts and units of our records that nothing maps yet
#mapping_set_description: "Fill in object_id, and the predicate where it is not exactMatch (broadMatch: our term is broader, so it certainly holds; narrowMatch: our term is narrower, so it may hold). Rows left without an object are passed over. Texts are matched without regard to case and white space, units with their case. Set mapping_set_id and license to your own."
#mapping_set_version: "1"
#license: https://creativecommons.org/publicdomain/zero/1.0/
#extension_definitions:
#  - slot_name: seen
#    property: https://w3id.org/sarc-kb/ontology#seen
#    type_hint: http://www.w3.org/2001/XMLSchema#integer
#  - slot_name: patients
#    property: https://w3id.org/sarc-kb/ontology#patients
#    type_hint: http://www.w3.org/2001/XMLSchema#integer
#  - slot_name: used_as
#    property: https://w3id.org/sarc-kb/ontology#usedAs
#    type_hint: http://www.w3.org/2001/XMLSchema#string
#  - slot_name: example
#    property: https://w3id.org/sarc-kb/ontology#source
#    type_hint: http://www.w3.org/2001/XMLSchema#string
"""


def render_sssom(found: Readiness) -> str:
    """Return an SSSOM table of everything unmapped, the most frequent first, without objects.

    A record that gives no code at all is not in it: there is nothing to map.
    Source: SSSOM 1.1; a text is a literal subject.
    """
    spaces = {
        "http://unitsofmeasure.org/": "UCUM",
        str(SARC): "sarc",
        "https://w3id.org/semapv/vocab/": "semapv",
        "http://www.w3.org/2004/02/skos/core#": "skos",
    }
    rows = [_row(s, spaces) for s in found.unmapped if not s.iri.startswith(_ABSENT)]
    out = io.StringIO()
    out.write("#curie_map:\n")
    for space, prefix in sorted(spaces.items(), key=lambda e: e[1]):
        out.write(f'#  {prefix}: "{space}"\n')
    out.write(_HEAD.format(trial=found.trial))
    table = csv.writer(out, delimiter="\t", lineterminator="\n")
    table.writerow(_COLUMNS)
    table.writerows(rows)
    return out.getvalue()


def _row(seen: Seen, spaces: dict[str, str]) -> tuple[str, ...]:
    literal = seen.role == UNIT or seen.iri.startswith(TEXT)
    called = seen.display or (seen.code if literal else "")
    # A text must stay what it is, or it is not found again; elsewhere it is only for reading.
    label = " ".join((called if literal else visible(called)).split())
    times = "once" if seen.count == 1 else f"{seen.count} times"
    patients = "1 patient" if seen.patients == 1 else f"{seen.patients} patients"
    return (
        "" if literal else guarded(_curie(seen, spaces)),
        guarded(label),
        "rdfs literal" if literal else "",
        "skos:exactMatch",
        "",
        "semapv:ManualMappingCuration",
        f"{times} as {seen.role} in {patients}, for example {visible(seen.example)}",
        str(seen.count),
        str(seen.patients),
        seen.role,
        guarded(visible(seen.example)),
    )


def _curie(seen: Seen, spaces: dict[str, str]) -> str:
    """Return a CURIE, with a new prefix for a code system that has none yet."""
    space = seen.iri.removesuffix(seen.code)
    if not space or space == seen.iri or not _SPACE.match(space):
        return seen.iri
    if space not in spaces:
        name = re.sub(r"[^A-Za-z0-9]", "", seen.system) if ":" not in seen.system else ""
        taken = set(spaces.values())
        numbered = (f"{name or 'LOCAL'}{n or ''}" for n in itertools.count(0 if name else 1))
        spaces[space] = next(n for n in numbered if n not in taken)
    return f"{spaces[space]}:{seen.code}"


def render_list(found: Readiness, *, width: int = 100) -> str:
    """Return the same as a table to read."""
    if not found.unmapped:
        return "Nothing is unmapped.\n"
    return table_text(found.unmapped, width)
