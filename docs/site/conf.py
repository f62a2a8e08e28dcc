"""Joins the pages of the repository into one site; ``make site`` builds it and puts the rule book beside it.

The pages are read where they lie, so that their links work in the repository too. A link to a folder
leads to the folder's README, one to a file that is no page gives the file.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx import addnodes
from sphinx.application import Sphinx

from sarc_kb import __version__

ROOT = Path(__file__).resolve().parent.parent.parent

project = "sarc_kb"
author = "the authors of sarc_kb"
version = release = __version__
html_title = f"sarc_kb {__version__}"

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
root_doc = "README"
include_patterns = [
    "README.md",
    "CHANGELOG.md",
    "docs/**.md",
    "benchmarks/README.md",
    "examples/**.md",
    "shapes/**/README.md",
    "ontology/**/README.md",
]
exclude_patterns = [".*", "build", "dist", "docs/site"]
source_suffix = {".md": "markdown"}

myst_heading_anchors = 4
myst_enable_extensions = ["attrs_inline"]
# Commands and reports are not of a language that could be coloured.
highlight_language = "none"

autodoc_typehints = "signature"
autodoc_member_order = "bysource"
autodoc_class_signature = "separated"
autodoc_preserve_defaults = True
python_use_unqualified_type_names = True
# Only the public names are held to lead somewhere: the site is built without a network, and what a
# signature names besides is of Python or of the inside of the program.
nitpick_ignore_regex = [
    (r"py:.*", r"(?!sarc_kb\.[A-Z]).*"),
]
# The examples in the language of rules leave out what does not matter.
suppress_warnings = ["misc.highlighting_failure"]

html_theme = "furo"
templates_path = ["templates"]
html_static_path: list[str] = []
html_copy_source = False
html_show_sphinx = False
html_permalinks_icon = "#"
html_sidebars = {
    "**": [
        "sidebar/brand.html",
        "sidebar/search.html",
        "sidebar/scroll-start.html",
        "sidebar/navigation.html",
        "sidebar/rule-book.html",
        "sidebar/scroll-end.html",
    ]
}

CONTENTS = {
    "In other tools": [
        "docs/use/README",
        *(
            f"docs/use/{n}"
            for n in (
                "python",
                "notebook",
                "dataframes",
                "ci",
                "fhir-server",
                "omop-database",
                "spark",
            )
        ),
        "docs/service",
    ],
    "Data": ["docs/data-model", "docs/facts-table", "docs/fhir", "docs/omop", "docs/mapping-guide"],
    "Answers": ["docs/reports", "docs/cohort", "docs/over-time", "docs/provenance"],
    "Rules": [
        "docs/rule-language",
        "docs/rule-book",
        "docs/audit",
        "docs/diff",
        "docs/knowledge-out",
    ],
    "Reference": [
        "docs/api",
        "docs/security",
        "docs/testing",
        "docs/licences",
        "benchmarks/README",
        "CHANGELOG",
    ],
}
"""The contents, in their order; a page of ``docs/`` that is not named stands at the end."""


def add_contents(_app: Sphinx, docname: str, source: list[str]) -> None:
    """Put the contents into the first page, where the repository has none."""
    if docname == "README":
        named = [page for part in CONTENTS.values() for page in part]
        others = _pages("docs/*.md") - set(named)
        parts = {**CONTENTS, "More": sorted(others)} if others else dict(CONTENTS)
        parts["Decisions"] = sorted(_pages("docs/decisions/*.md"))
        parts["Examples"] = sorted(_pages("examples/**/*.md"))
        for caption, pages in parts.items():
            listed = "\n".join(pages)
            source[0] += f"\n\n```{{toctree}}\n:hidden:\n:caption: {caption}\n\n{listed}\n```\n"


def _pages(pattern: str) -> set[str]:
    return {p.relative_to(ROOT).with_suffix("").as_posix() for p in ROOT.glob(pattern)}


def follow_folders(app: Sphinx, doctree: nodes.document) -> None:
    """Let a link to a folder lead to its README, or to its first page; of one that has no pages the
    name is enough."""
    for link in list(doctree.findall(addnodes.pending_xref)):
        place = Path(app.env.doc2path(app.env.docname)).parent / str(link["reftarget"])
        if link["reftype"] != "myst" or link["refdomain"] or not place.is_dir():
            continue
        folder = place.resolve().relative_to(ROOT).as_posix()
        inside = sorted(name for name in app.env.found_docs if name.startswith(f"{folder}/"))
        first = f"{folder}/README" if f"{folder}/README" in inside else (*inside, "")[0]
        if first:
            link.attributes |= {"refdomain": "doc", "reftarget": first, "reftargetid": None}
        else:
            link.replace_self(link.children)


def open_to_keyboards(
    _app: Sphinx, _page: str, _template: str, context: dict[str, Any], _tree: object
) -> None:
    """Say the level of the headings beside the page, and let keys scroll what is too wide for it."""
    name, level = "furo_navigation_tree", 'role="heading" aria-level="2"'
    context[name] = context.get(name, "").replace('role="heading"', level)
    body = context.get("body", "")
    body = body.replace("<pre>", '<pre tabindex="0">')
    context["body"] = body.replace(
        '<div class="table-wrapper', '<div tabindex="0" class="table-wrapper'
    )


def copy_first_page(app: Sphinx, failure: Exception | None) -> None:
    """Let the site begin at ``index.html``."""
    if failure is None and app.builder.name == "html":
        shutil.copyfile(Path(app.outdir, "README.html"), Path(app.outdir, "index.html"))


def setup(app: Sphinx) -> dict[str, Any]:
    """Join what is above to Sphinx."""
    app.connect("source-read", add_contents)
    app.connect("doctree-read", follow_folders)
    app.connect("html-page-context", open_to_keyboards, priority=900)  # after the theme's own
    app.connect("build-finished", copy_first_page)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
