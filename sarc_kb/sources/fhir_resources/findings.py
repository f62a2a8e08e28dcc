"""What can be wrong with FHIR input, each with why it matters and what to do."""

from __future__ import annotations

from collections.abc import Mapping

from sarc_kb.errors import Finding, Severity

# code: (severity, why it matters, what to do)
FINDINGS: Mapping[str, tuple[Severity, str, str]] = {
    # An error means that the patient cannot be judged; a warning that something was not used, or
    # counts as possible only.
    "DATA101": ("error", "FHIR JSON is UTF-8", "convert it to UTF-8"),
    "DATA102": ("error", "it is not well-formed JSON", "export it again"),
    "DATA103": ("error", "readers would disagree on which value counts", "give each key once"),
    "DATA104": ("error", "JSON knows no such number", "leave the value out or correct it"),
    "DATA105": ("error", "no FHIR resource nests so deep", "correct it"),
    "DATA106": ("error", "such text cannot be written out again", "correct it"),
    "DATA107": ("error", "reading it could exhaust the machine", "split it, or raise the limit"),
    "DATA108": ("info", "FHIR JSON has none; it was skipped", "write UTF-8 without it"),
    "DATA110": ("error", "it cannot be told what it is", "correct the resource"),
    "DATA111": ("error", "there is nobody to assess", "add the patients' resources"),
    "DATA112": ("error", "only FHIR R4 (4.0.1) is read", "convert the resource to R4"),
    "DATA113": ("warning", "sex and date of birth are not known", "add the Patient resource"),
    "DATA114": ("error", "a resource is never given to a patient by guess", "name its patient"),
    "DATA115": ("error", "data of two patients would mix", "correct the reference or the subject"),
    "DATA116": ("warning", "references are resolved inside the input only", "add what it names"),
    "DATA117": ("warning", "each version counts as possible only", "leave the one that holds"),
    "DATA118": ("info", "a later version is in the input", "nothing"),
    "DATA119": ("warning", "the Bundle itself deletes it, so it was not used", "nothing"),
    "DATA120": ("warning", "it may reverse the meaning", "convey the meaning without it"),
    "DATA121": ("warning", "the fact counts as possible only", "use a code of FHIR R4"),
    "DATA122": ("warning", "the resource contradicts itself", "correct it at source"),
    "DATA123": ("warning", "what the fact is about cannot be read", "add a code"),
    "DATA124": ("warning", "the result counts as unreadable", "use a value that is read"),
    "DATA125": ("warning", "the fact stays without this date", "give a date or a period"),
    "DATA126": ("warning", "no upper limit of normal was taken from it", "give the one that holds"),
    "DATA127": ("warning", "it does not speak of the patient, so it was not used", "nothing"),
    "DATA128": ("warning", "it may be to another study", "name it in ResearchSubject.consent"),
    "DATA129": ("warning", "which study it is cannot be told", "give the study's identifier"),
    "DATA130": ("error", "a patient enters a study once", "leave the one that holds"),
    "DATA131": ("warning", "nothing that is read speaks of the patient", "add resources"),
    "DATA132": ("warning", "what is on the other pages is missing", "give all pages"),
    "DATA133": ("warning", "what it holds does not count", "nothing, if the status is right"),
    "DATA134": ("warning", "what the search finds there is not known", "name the resource"),
    "DATA135": (
        "warning",
        "the patch is not applied; it counts as possible only",
        "give the result",
    ),
    "DATA136": ("error", "the file is truncated: what came after is missing", "export it again"),
    "DATA137": ("error", "what could not be read may be about any patient", "see the faults told"),
    "DATA138": ("error", "two records under one name are never merged", "keep them in two folders"),
    "DATA139": ("info", "which of them is meant cannot be told", "record each by itself"),
    "DATA140": ("info", "it does not say that a record is complete", "map its code, if it does"),
    "DATA141": (
        "error",
        "FHIR says that such a record must no longer be used",
        "use the record that replaced it",
    ),
    "DATA142": (
        "warning",
        "it may be a record that is no longer kept up, or was made in error",
        "see whether it is the right one",
    ),
    "DATA150": ("info", "no fact is made from this type of resource", "nothing"),
    "DATA151": ("info", "the knowledge base asks no such question", "nothing"),
    "DATA152": ("info", "by itself it says nothing that is read", "code what a rule may ask for"),
}


def finding(code: str, where: str, found: str) -> Finding:
    """Return the finding ``code`` with what was found ``where``."""
    severity, why, fix = FINDINGS[code]
    return Finding(code, severity, where, found, why, fix)
