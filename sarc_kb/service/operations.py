"""What the service offers, as data: the paths, their options, and what goes in and comes out.

The application is made from these tables, and so is its OpenAPI document.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from sarc_kb.reports.formats import MEDIA_TYPES

TEXT, JSON, FHIR = MEDIA_TYPES["text"], MEDIA_TYPES["json"], MEDIA_TYPES["fhir"]
PROBLEM = "application/problem+json"

RECORDS: Mapping[str, str] = {
    FHIR: ".ndjson",
    JSON: ".json",
    "application/fhir+ndjson": ".ndjson",
    "application/x-ndjson": ".ndjson",
    "text/turtle": ".ttl",
    "application/n-triples": ".nt",
    "application/ld+json": ".jsonld",
    "application/rdf+xml": ".rdf",
}
"""The media types of records, with the ending that a file of that kind has. FHIR is read in either
form; of plain JSON, the first characters tell whether it is FHIR or JSON-LD."""


@dataclass(frozen=True, slots=True)
class Option:
    """A parameter of the query, named and meant as the option of the command line.

    ``fhir``: what an operation of FHIR calls it, and the type that it has there.
    """

    name: str
    says: str
    example: str
    repeats: bool = False
    choices: tuple[str, ...] = ()
    pattern: str = ""
    fhir: tuple[str, str] | None = None


_DATE = r"^\d{4}-\d{2}-\d{2}$"
_PAIR = r"^[^=]+=[\s\S]*$"
TRIAL = Option("trial", "the trial, when the knowledge base holds several", "NCT00000000")
POLICY = Option(
    "policy",
    "NAME=VALUE: set a policy that the record leaves open",
    "laboratory-look-back=28",
    repeats=True,
    pattern=_PAIR,
    fhir=("policy", "string"),
)
READING = Option(
    "reading",
    "ENTRY=READING: choose a reading of the register of ambiguities",
    "A-11=either",
    repeats=True,
    pattern=_PAIR,
    fhir=("reading", "string"),
)
RELAX = Option(
    "relax",
    "CLAUSE:LIMIT=NUMBER: set a limit of a clause, in the clause's unit and in either direction; every report says so",
    "I07a:atLeast=8.0",
    repeats=True,
    pattern=_PAIR,
    fhir=("relax", "string"),
)
ENTRY_DATE = Option(
    "entry-date",
    "study entry of patients whose data do not say it",
    "2024-03-01",
    pattern=_DATE,
    fhir=("entryDate", "date"),
)
AS_OF = Option(
    "as-of",
    "later facts are not seen (default: the entry date)",
    "2024-03-01",
    pattern=_DATE,
    fhir=("asOf", "date"),
)
COMPLETE = Option(
    "complete",
    "KIND[,KIND]: histories that the sender vouches are complete",
    "conditions,procedures",
    fhir=("complete", "string"),
)
ATTEST = Option(
    "attest",
    "RULE=ANSWER: an answer for the whole study",
    "I11=true",
    repeats=True,
    pattern=_PAIR,
    fhir=("attest", "string"),
)
ONLY = Option(
    "only",
    "judge and report that part alone (default: treatment too, where it is on record)",
    "eligibility",
    choices=("eligibility", "treatment"),
    fhir=("only", "code"),
)
NAME = Option("name", "what the report calls the input (default: standard input)", "patient.ttl")
VERBOSE = Option(
    "verbose", "of text: every criterion and finding", "true", choices=("true", "false")
)
QUIET = Option("quiet", "of text: verdicts only", "true", choices=("true", "false"))

RULES = (TRIAL, POLICY, READING, RELAX)
RECORD = (ENTRY_DATE, COMPLETE, ATTEST, NAME)


@dataclass(frozen=True, slots=True)
class Operation:
    """One path: ``formats`` are its media types, the one that is sent to whom nothing else is said
    first, each with the name of the format; ``takes``: those of a body."""

    name: str
    method: str
    path: str
    says: str
    formats: Mapping[str, str]
    options: tuple[Option, ...] = ()
    takes: Mapping[str, str] | None = None
    open: bool = False


def _first(first: str, formats: Mapping[str, str]) -> dict[str, str]:
    """Return media type to format, with one of them first."""
    return {formats[first]: first} | {media: name for name, media in formats.items()}


VALIDATE = Operation(
    "validate",
    "POST",
    "/validate",
    "Judge the patients of a record, and report.",
    _first("json", MEDIA_TYPES),
    (*RULES, *RECORD, AS_OF, ONLY, VERBOSE, QUIET),
    takes=RECORDS,
)
READINESS = Operation(
    "readiness",
    "POST",
    "/readiness",
    "Tell what a data set can decide, and what blocks it.",
    {JSON: "json", TEXT: "text", "text/csv": "csv"},
    (*RULES, *RECORD, VERBOSE),
    takes=RECORDS,
)
LIST = Operation(
    "rules",
    "GET",
    "/rules",
    "List the rules of a trial.",
    {JSON: "json", TEXT: "text"},
    RULES,
)
EXPLAIN = Operation(
    "explain",
    "GET",
    "/rules/{rule}",
    "Explain one rule: its words, its reading, its clauses and cases.",
    {JSON: "json", TEXT: "text"},
    RULES,
)
CHECKLIST = Operation(
    "checklist",
    "GET",
    "/checklist",
    "What a person has to answer, as a form.",
    {JSON: "json", FHIR: "fhir", TEXT: "text"},
    RULES,
)
VERSION = Operation(
    "version",
    "GET",
    "/version",
    "Which program, knowledge base and trials judge here.",
    {JSON: "json"},
)
HEALTH = Operation(
    "health",
    "GET",
    "/health",
    "Tell whether a record can be judged now.",
    {JSON: "json"},
    open=True,
)
DESCRIPTION = Operation(
    "openapi",
    "GET",
    "/openapi.json",
    "This description.",
    {JSON: "json"},
)
EVALUATE = Operation(
    "evaluate-eligibility",
    "POST",
    "/fhir/ResearchStudy/{trial}/$evaluate-eligibility",
    "The operation of FHIR: a Bundle, or Parameters with one, comes out as a Bundle with a GuidanceResponse a patient.",
    {FHIR: "fhir", JSON: "fhir"},
    tuple(o for o in (POLICY, READING, RELAX, ENTRY_DATE, COMPLETE, ATTEST, AS_OF, ONLY)),
    takes={FHIR: ".ndjson", JSON: ".ndjson"},
)
CAPABILITIES = Operation(
    "capabilities",
    "GET",
    "/fhir/metadata",
    "The CapabilityStatement.",
    {FHIR: "fhir", JSON: "fhir"},
    open=True,
)
DEFINITION = Operation(
    "definition",
    "GET",
    "/fhir/OperationDefinition/evaluate-eligibility",
    "The OperationDefinition of $evaluate-eligibility.",
    {FHIR: "fhir", JSON: "fhir"},
    open=True,
)
OPERATIONS = (
    *(VALIDATE, READINESS, LIST, EXPLAIN, CHECKLIST, VERSION, HEALTH, DESCRIPTION),
    *(EVALUATE, CAPABILITIES, DEFINITION),
)
FORMAT = Option(
    "format",
    "the format by its name, whatever Accept says",
    "html",
)
