"""The formats that assessments are told in, by name; whoever asks for one gets the same bytes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sarc_kb.assessment import AssessmentSet

MEDIA_TYPES = {
    "text": "text/plain",
    "html": "text/html",
    "markdown": "text/markdown",
    "xlsx": "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
    "json": "application/json",
    "jsonl": "application/x-ndjson",
    "fhir": "application/fhir+json",
    "turtle": "text/turtle",
    "jsonld": "application/ld+json",
    "junit": "application/xml",
}
"""The formats, in the order in which they are offered, with what each is called on the web. JUnit
has no name of its own there."""


def render(
    result: AssessmentSet,
    form: str,
    *,
    components: Mapping[str, str],
    colour: bool = False,
    width: int = 100,
    verbose: bool = False,
    quiet: bool = False,
) -> str | bytes:
    """Return the report: text, or of ``xlsx`` the bytes of a workbook.

    Args:
        form: one of `MEDIA_TYPES`.
        components: the IRI of the constraint component that each clause (by IRI) uses.
        colour, width, verbose, quiet: of ``text`` alone.
    Raises:
        UsageError: the format needs an extra that is not installed.
    """
    # A renderer is imported when it is asked for: most runs need one of them.
    if form == "json":
        from sarc_kb.reports.json_report import render_json

        return render_json(result)
    if form == "jsonl":
        from sarc_kb.reports.json_report import render_jsonl

        return render_jsonl(result)
    if form == "html":
        from sarc_kb.reports.html_report import render_html

        return render_html(result)
    if form == "fhir":
        from sarc_kb.reports.fhir_report import render_fhir

        return render_fhir(result)
    if form == "markdown":
        from sarc_kb.reports.markdown_report import render_markdown

        return render_markdown(result)
    if form == "junit":
        from sarc_kb.reports.junit_report import render_junit

        return render_junit(result)
    if form == "xlsx":
        from sarc_kb.reports.xlsx_report import render_xlsx

        return render_xlsx(result)
    if form == "turtle":
        from sarc_kb.reports.shacl_report import render_turtle

        return render_turtle(result, components)
    if form == "jsonld":
        from sarc_kb.reports.shacl_report import render_jsonld

        return render_jsonld(result, components)
    from sarc_kb.reports.text_report import render_text

    return render_text(result, colour=colour, width=width, verbose=verbose, quiet=quiet)
