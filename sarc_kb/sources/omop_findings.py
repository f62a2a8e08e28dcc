"""The findings about OMOP sources: code, severity, why it matters, what to do."""

from __future__ import annotations

from collections.abc import Mapping

from sarc_kb.errors import Finding, Severity

FINDINGS: Mapping[str, tuple[Severity, str, str]] = {
    # About the source.
    "DATA200": ("error", "nothing in it was judged", "check the place and the permissions"),
    "DATA201": (
        "error",
        "there is nobody to assess",
        "name a CDM: its folder, file or database, and the schema with --omop-schema",
    ),
    "DATA202": ("error", "its rows are not known", "put a readable file into the folder itself"),
    "DATA203": ("warning", "the Parquet file is read, or the first", "keep one form of the table"),
    "DATA204": ("warning", "a missing table says nothing, and nothing is passed on it", "add it"),
    "DATA205": ("warning", "what it would say is not known of any row", "add the column"),
    "DATA206": (
        "info",
        "it has no episodes, and no link from a measurement to its tumour",
        "nothing; version 5.4 can say more",
    ),
    "DATA207": ("warning", "it is read as version 5.4", "fill cdm_source.cdm_version"),
    "DATA208": ("error", "only versions 5.4 and 5.3 are read", "convert the source to 5.4"),
    "DATA209": (
        "info",
        "no mapping reads them, but one reads an ancestor in concept_ancestor",
        "map them, where the ancestor says too little",
    ),
    "DATA210": ("error", "nobody of that number was judged", "check the person_id"),
    "DATA211": ("warning", "a row is never given to a person by guess", "fill person_id"),
    "DATA212": (
        "warning",
        "their sex and age are not known, and they are not judged",
        "add them to the table person",
    ),
    # About one person; an error means that the person cannot be judged.
    "DATA220": ("error", "two records under one number are never merged", "keep the right one"),
    "DATA221": (
        "warning",
        "nobody vouches for the time that was observed; --complete does not hold for this person",
        "add the observation period",
    ),
    "DATA222": ("warning", "it is read by its source code or text, if at all", "map it"),
    "DATA223": (
        "warning",
        "it stands where a valid standard concept must; only its source concept can be certain",
        "map to the concept that replaces it",
    ),
    "DATA224": (
        "warning",
        "one of the two dates is wrong; it counts as possible only",
        "correct it",
    ),
    "DATA225": ("warning", "it cannot be read, so it is read as not known", "correct it at source"),
    "DATA226": ("warning", "the day is not known", "make the two agree"),
    "DATA227": ("warning", "a number that cannot be read decides nothing", "correct it at source"),
    "DATA228": ("warning", "the value could be on either side", "use a comparison of the CDM"),
    "DATA229": ("warning", "no upper limit of normal was taken from it", "correct it at source"),
    "DATA230": ("warning", "the fact counts as possible only", "use a status that is mapped"),
    "DATA231": ("warning", "it is not used to tell which tumour is meant", "correct the link"),
    "DATA232": ("error", "a person enters a study once", "leave the one that holds"),
    "DATA234": ("warning", "links may lead to either of them", "give each row a key of its own"),
    "DATA235": (
        "warning",
        "whether it is so is not said; it counts as possible only",
        "record yes or no, or leave the value empty",
    ),
    "DATA236": (
        "error",
        "the program failed on this person; a failure is never a verdict",
        "report it with these two names; the other persons are not touched",
    ),
    "DATA237": (
        "error",
        "they would hold up all others, and take the memory of many",
        "look for rows of several persons under this number",
    ),
}


def finding(code: str, where: str, found: str) -> Finding:
    """Return the finding ``code`` with what was found ``where``."""
    severity, why, fix = FINDINGS[code]
    return Finding(code, severity, where, found, why, fix)
