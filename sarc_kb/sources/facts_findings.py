"""The findings about facts tables: code, severity, why it matters, what to do."""

from __future__ import annotations

from collections.abc import Mapping

from sarc_kb.errors import Finding, Severity

_ANEW = "write the table again with sarc-kb facts"

FINDINGS: Mapping[str, tuple[Severity, str, str]] = {
    # About the table.
    "DATA300": ("error", "nothing in it was judged", _ANEW),
    "DATA301": (
        "error",
        "its columns may mean anything",
        "make one with sarc-kb facts; an OMOP CDM is read with --omop",
    ),
    "DATA302": (
        "error",
        "a later version may mean something else by the same column",
        "update sarc-kb, or write the table again with this version",
    ),
    "DATA303": ("error", "what it would say is not known of any fact", _ANEW),
    "DATA304": ("warning", "the facts table has no such column; it was ignored", "leave it out"),
    "DATA305": ("error", "the patients in it were not judged", _ANEW),
    "DATA306": ("error", "a row is never given to a patient by guess", "fill the column patient"),
    "DATA307": (
        "error",
        "what its rows would say is not known",
        "see the columns in docs/facts-table.md; patient and concepts are needed",
    ),
    "DATA310": (
        "warning",
        "they were left out",
        "nothing, if they are no patients' data; an OMOP CDM is read with --omop",
    ),
    "DATA311": (
        "info",
        "reports name the sources from which the facts were taken, as the table tells",
        "nothing",
    ),
    # About one patient, who cannot be judged then.
    "DATA320": (
        "error",
        "what belongs to the patient is not known, or other facts are elsewhere",
        "put the facts right behind their patient's row, in one row group",
    ),
    "DATA321": ("error", "the fact would be lost, or be another one", "correct the row at source"),
    "DATA322": (
        "error",
        "what it says of the patient would be lost, or be something else",
        "correct the row at source",
    ),
    "DATA323": ("error", "no record needs them", "split the record"),
}


def finding(code: str, where: str, found: str) -> Finding:
    """Return the finding ``code`` with what was found ``where``."""
    severity, why, fix = FINDINGS[code]
    return Finding(code, severity, where, found, why, fix)
