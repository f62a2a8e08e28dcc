"""The inside of the program: imports point one way, and nothing about a trial is in Python."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from rdflib import Graph, URIRef

import sarc_kb
from sarc_kb.namespaces import SARC

PACKAGE = Path(sarc_kb.__file__).parent
ONTOLOGY = PACKAGE.parent / "ontology"
MODULES = {
    ".".join(path.relative_to(PACKAGE).with_suffix("").parts)
    .removesuffix("__init__")
    .removesuffix("."): path
    for path in sorted(PACKAGE.rglob("*.py"))
}

# From the bottom to the top. A module imports from lower layers, and a package from within itself;
# a name stands for a module, or for a package with all its modules that are not named themselves.
LAYERS = (
    {"namespaces", "errors", "dates", "reports.escaping", "whole_file", "source_text"},
    {"facts", "assessment", "turtle_files", "options", "workers"},
    {"terminology"},
    {"units"},
    {"sources"},
    {"mappings"},
    {"rules"},
    {"prepare"},
    {"engines"},
    {"explain", "record_kinds"},
    {"wording"},
    {"to_decide"},
    {"assess"},
    {"treatment"},
    {"reports", "reports.rule_report", "reports.checklist_report"},
    {"reports.rule_json"},
    {"rule_check", "rule_places"},
    {"kb"},
    {"cases", "readiness", "earliest", "judging", "entry_dates", "assess_each", "read_each"},
    {"diff", "readings"},
    {"cohort"},
    {"audit"},
    {
        *("reports.readiness_report", "reports.cohort_report", "reports.diff_report"),
        *("reports.audit_report", "reports.cohort_page"),
    },
    {"reports.readings_report"},
    {"screening"},
    {"reports.mapping_skeleton"},
    {"provenance"},
    {"rulebook"},
    {"export"},
    {"service"},
    {"cli", "ontology_build"},
)
# Some know less than their place would allow.
NARROWER = {
    "sources": {"namespaces", "errors", "dates", "facts", "reports.escaping", "whole_file"},
    "reports": {"namespaces", "errors", "assessment", "reports.escaping"},
    "ontology_build": set(),
}
# What an object offers to do with itself is loaded when it is asked for, and lies above it.
ASKED_FOR = {("assessment", "reports"), ("kb", "screening")}
# Packages of others: who may import them. rdflib is the common ground of all.
THIRD_PARTIES = {
    "rdflib": None,
    "pyshacl": ("engines",),
    "pyshacl_turbo": ("engines",),
    "shifty": ("engines",),
    "owlready2": ("ontology_build",),
    "shtab": ("cli",),
    "ibis": ("sources", "cohort"),
    "duckdb": ("sources", "cohort"),
    "pyarrow": ("sources", "cohort", "screening"),
    "pyspark": ("cohort",),
    "psycopg": ("sources",),
    "z3": ("audit",),
    "jinja2": ("reports", "reports.audit_report", "rulebook", "service"),
    "markupsafe": ("rulebook",),  # of jinja2
    "xlsxwriter": ("reports",),
    "mimeparse": ("service",),
    "starlette": ("service",),
    "uvicorn": ("service",),
}
# The taxonomies that are about medicine; those about persons and records hold what every record
# has, and readers of records name some of it.
MEDICAL = ("condition", "course", "histology", "laboratory", "site", "treatment")


def unit_of(module: str) -> str:
    """Return the name in `LAYERS` that ``module`` falls under, the longest if several do."""
    names = [n for layer in LAYERS for n in layer if module == n or module.startswith(n + ".")]
    return max(names, key=len, default="")


def layer_of(unit: str) -> int:
    return next(n for n, layer in enumerate(LAYERS) if unit in layer)


def imports_of(path: Path) -> Iterator[tuple[str, str]]:
    """Yield (top-level package, module) of every import, wherever in the file it stands."""
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            for alias in node.names:
                top, _, rest = alias.name.partition(".")
                yield top, rest
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: a relative import"
            top, _, rest = str(node.module).partition(".")
            for alias in node.names:
                inner = f"{rest}.{alias.name}".removeprefix(".")
                yield top, inner if top == "sarc_kb" and inner in MODULES else rest


def texts_of(path: Path) -> Iterator[str]:
    """Yield every string of the code but docstrings, and ``sarc:Name`` for every ``SARC.Name``."""
    tree = ast.parse(path.read_text("utf-8"))
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    docstrings = {
        id(n.body[0].value)
        for n in ast.walk(tree)
        if isinstance(n, documented) and ast.get_docstring(n)
    }
    for node in ast.walk(tree):
        if (
            isinstance(node, ast.Constant)
            and isinstance(node.value, str)
            and id(node) not in docstrings
        ):
            yield node.value
        if (
            isinstance(node, ast.Attribute)
            and isinstance(node.value, ast.Name)
            and node.value.id == "SARC"
        ):
            yield f"sarc:{node.attr}"


def test_modules_are_found() -> None:
    assert len(MODULES) >= 20
    assert {"cli", "prepare", "reports.text_report", "sources.rdf"} <= set(MODULES)


@pytest.mark.parametrize("module", [m for m in MODULES if m])
def test_imports_point_down(module: str) -> None:
    unit = unit_of(module)
    if MODULES[module].name == "__init__.py" and module not in (
        "",
        "cli",
        "prepare",
        "rules",
    ):
        # `cli` is the program; `prepare` is one step and `rules` one model: who imports a part
        # needs the whole.
        assert not MODULES[module].read_text("utf-8").strip(), (
            f"{module}/__init__.py is empty, so that importing one module loads one"
        )
        return
    assert unit, f"{module} has no place in LAYERS: give it one"
    for top, inner in imports_of(MODULES[module]):
        if top != "sarc_kb" or not inner:
            continue
        other = unit_of(inner)
        assert other, f"{module} imports {inner}, which has no place in LAYERS"
        if other == unit or (unit, other) in ASKED_FOR:
            continue
        assert layer_of(other) < layer_of(unit), f"{module} imports {inner}, which is not below it"
        if unit in NARROWER:
            assert other in NARROWER[unit], f"{module} need not know {inner}"


@pytest.mark.parametrize("module", list(MODULES))
def test_packages_of_others_are_imported_in_one_place(module: str) -> None:
    for top, _ in imports_of(MODULES[module]):
        if top in sys.stdlib_module_names or top == "sarc_kb":
            continue
        assert top in THIRD_PARTIES, (
            f"{module} imports {top}: declare it in pyproject.toml and here"
        )
        owners = THIRD_PARTIES[top]
        assert owners is None or unit_of(module) in owners, (
            f"{module} imports {top}, which is for {owners}"
        )


def test_the_package_itself_loads_nothing() -> None:
    program = "import sarc_kb, sys; sys.exit('rdflib' in sys.modules or 'pyshacl' in sys.modules)"
    subprocess.run([sys.executable, "-c", program], cwd=PACKAGE.parent, check=True)


@pytest.mark.parametrize("module", list(MODULES))
def test_no_trial_is_in_python(module: str) -> None:
    text = MODULES[module].read_text("utf-8")
    for pattern in (
        r"NCT[0-9]{8}",
        r"\bg/dL\b",
        r"\b10\*9/L\b",
        r"(?i)anlotinib",
        r"\b[0-9]{3,5}-[0-9]\b",
    ):
        found = re.search(pattern, text)
        assert found is None, f"{module}: {found[0]}" if found else ""


@pytest.fixture(scope="module")
def medical_terms() -> frozenset[str]:
    terms = set()
    for name in MEDICAL:
        graph = Graph().parse(ONTOLOGY / "taxonomy" / f"{name}.ttl", format="turtle")
        subjects = {
            s for s in graph.subjects() if isinstance(s, URIRef) and s.startswith(str(SARC))
        }
        assert subjects, name
        terms |= {s.removeprefix(str(SARC)) for s in subjects}
    assert {"Haemoglobin", "Leiomyosarcoma", "Thigh", "Doxorubicin", "Hepatitis"} <= terms
    return frozenset(terms)


@pytest.mark.parametrize("module", list(MODULES))
def test_no_term_of_medicine_is_in_python(module: str, medical_terms: frozenset[str]) -> None:
    named = {
        word.removeprefix("sarc:")
        for text in texts_of(MODULES[module])
        for word in (text, *re.findall(r"sarc:[A-Za-z0-9-]+", text))
    }
    assert sorted(named & medical_terms) == []
