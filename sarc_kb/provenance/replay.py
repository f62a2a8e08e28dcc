"""The reports of a pack, made in a folder that is laid out as the pack is."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from contextlib import chdir
from importlib import metadata
from pathlib import Path

from rdflib import URIRef

from sarc_kb import __version__
from sarc_kb.assessment import AssessmentSet
from sarc_kb.entry_dates import read_entry_dates
from sarc_kb.errors import Finding, InputError
from sarc_kb.kb import KnowledgeBase
from sarc_kb.namespaces import OWL, RDF
from sarc_kb.provenance.manifest import Input, Options
from sarc_kb.reports import json_report, shacl_report, text_report

RULES, REPORTS = "rules", "reports"
_LIBRARIES = ("rdflib", "pyshacl")


def reports(
    folder: Path, options: Options, inputs: tuple[Input, ...]
) -> tuple[KnowledgeBase, dict[str, bytes]]:
    """Return the rule base below ``folder``, and the reports on the inputs there, by their names.

    Everything is named as it is in the pack, wherever ``folder`` is: reports hold those names.

    Raises:
        SarcError: an option, the rule base or an input is at fault, or there is nobody to judge.
    """

    def of_role(role: str) -> list[Path]:
        return [Path(each.name) for each in inputs if each.role == role]

    with chdir(folder):
        kb = KnowledgeBase.load(folder.resolve() / RULES).with_mappings(
            *of_role("mappings"),
            concept_ancestors=of_role("concept ancestors"),
            value_sets=[(each.term, each.name) for each in inputs if each.role == "value set"],
        )
        dates: dict[str, str] = {}
        for path in of_role("entry dates"):
            dates |= read_entry_dates(path)
        result = kb.validate(
            *of_role("record"),
            trial=options.trial,
            entry_date=options.entry_date,
            entry_dates=dates,
            as_of=options.as_of,
            complete=options.complete,
            attested=dict(options.attest),
            policies=dict(options.policy),
            readings=dict(options.reading),
            relaxed=dict(options.relax),
            engine=options.engine,
            only=options.only,
        )
        if not result.assessments:
            raise InputError(*(result.run_findings or (_nobody(),)))
        return kb, _rendered(kb, options, result)


def _rendered(kb: KnowledgeBase, options: Options, result: AssessmentSet) -> dict[str, bytes]:
    trial = kb.compile(options.trial)
    components = {c.iri: c.component_iri for part in trial.parts for c in part.clauses.values()}
    texts = {
        "assessments.json": json_report.render_json(result),
        "assessments.txt": text_report.render_text(result, width=100, verbose=True),
        "report.ttl": shacl_report.render_turtle(result, components=components),
    }
    return {f"{REPORTS}/{name}": text.encode() for name, text in texts.items()}


def _nobody() -> Finding:
    return Finding(
        "DATA000",
        "error",
        "the inputs",
        "no patient",
        "there is nothing to report on",
        "check what was named",
    )


def versions(options: Options, inputs: tuple[Input, ...]) -> dict[str, str]:
    """Return the versions of what judges: the program, Python, and the libraries of this run."""
    names = {*_LIBRARIES, options.engine}
    if any(each.name.endswith(".parquet") for each in inputs):
        names.add("pyarrow")
    found = {"python": platform.python_version(), "sarc-kb": __version__}
    for name in sorted(names):
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue  # an engine that is not installed is refused when it is asked to judge
    return found


def vocabularies(kb: KnowledgeBase, trial: str) -> list[tuple[str, str | None]]:
    """Return the IRIs of the ontology and of a trial's rules, each with its version IRI."""
    found: Mapping[str, str | None] = {
        str(node): str(version) if (version := graph.value(node, OWL.versionIRI)) else None
        for graph in (kb.terms.graph, kb.trial_graph(trial))
        for node in graph.subjects(RDF.type, OWL.Ontology)
        if isinstance(node, URIRef)
    }
    return sorted(found.items())
