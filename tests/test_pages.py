"""Everything that the pages of ``docs/`` show to be run runs, page by page."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import nbformat
import pytest
import yaml
from nbclient import NotebookClient

from tests import pages
from tests.omop_tables import SERVER, source_of

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs"
USE = sorted((DOCS / "use").glob("*.md"))
NOTEBOOK = DOCS / "use" / "notebook.md"
# What these show is run by `test_service_docs` and `test_testing_page`.
ELSEWHERE = {DOCS / "service.md", DOCS / "testing.md"}
PAGES = [
    p
    for p in sorted(DOCS.rglob("*.md"))
    if p not in ELSEWHERE and any(k in pages.RUN for k, _ in pages.blocks(p))
]
MARKS = {
    "omop-database.md": [
        pytest.mark.postgres,
        pytest.mark.skipif(not SERVER, reason="no server: SARC_KB_TEST_POSTGRES is not set"),
    ],
    "spark.md": [pytest.mark.java, pytest.mark.slow],
}


# -- what the pages speak to ---------------------------------------------------------------------
class Server(BaseHTTPRequestHandler):
    """A FHIR server that exports the patient of an example, once it was asked twice."""

    asked: list[str]
    resources: dict[str, list[dict[str, Any]]]

    def do_GET(self) -> None:
        host = f"http://{self.headers['Host']}"
        self.asked.append(self.path)
        if self.path == "/fhir/Patient/$export":
            assert self.headers["Prefer"] == "respond-async"
            assert self.headers["Authorization"] == "Bearer s3cr3t"
            self.answer(202, {"Content-Location": f"{host}/fhir/job/1"})
        elif self.path == "/fhir/job/1" and self.asked.count(self.path) == 1:
            self.answer(202, {"Retry-After": "0"})
        elif self.path == "/fhir/job/1":
            output = [{"type": t, "url": f"{host}/files/{t}"} for t in sorted(self.resources)]
            manifest = {"request": f"{host}/fhir/Patient/$export", "output": output, "error": []}
            self.answer(200, {"Content-Type": "application/json"}, json.dumps(manifest))
        else:
            lines = map(json.dumps, self.resources[self.path.removeprefix("/files/")])
            self.answer(200, {"Content-Type": "application/fhir+ndjson"}, "\n".join(lines))

    def answer(self, status: int, headers: dict[str, str], body: str = "") -> None:
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(body.encode()))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body.encode())

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@contextmanager
def fhir_server() -> Iterator[dict[str, str]]:
    resources: dict[str, list[dict[str, Any]]] = {}
    bundle = json.loads((ROOT / "examples" / "fhir-anaemic" / "bundle.json").read_bytes())
    for entry in bundle["entry"]:
        resource = entry["resource"]
        resources.setdefault(resource["resourceType"], []).append(resource)
    handler = type("Handler", (Server,), {"asked": [], "resources": resources})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield {"FHIR": f"http://127.0.0.1:{server.server_port}/fhir", "FHIR_TOKEN": "s3cr3t"}
        assert handler.asked.count("/fhir/job/1") == 2
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@contextmanager
def omop_database() -> Iterator[dict[str, str]]:
    tables: dict[str, list[dict[str, object]]] = {}
    for path in sorted((ROOT / "examples" / "omop-eligible").glob("*.csv")):
        with path.open(encoding="utf-8", newline="") as handle:
            rows = [{k: v or None for k, v in row.items()} for row in csv.DictReader(handle)]
        if path.stem != "expected" and rows:
            tables[path.stem] = rows
    with source_of("postgres", tables, ROOT) as (url, schema):
        yield {"OMOP": url, "OMOP_SCHEMA": str(schema)}


SPEAKS_TO = {"fhir-server.md": fhir_server, "omop-database.md": omop_database}


def where_the_reader_is(tmp_path: Path) -> dict[str, str]:
    """Make a folder with the examples, so that what a page writes stays out of the repository;
    return the reader's environment."""
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return {**os.environ, "PATH": path, "PYTHONHASHSEED": "0", "PYTHONPATH": str(ROOT)}


@pytest.mark.parametrize(
    "page",
    [pytest.param(p, id=p.name, marks=MARKS.get(p.name, [])) for p in PAGES if p != NOTEBOOK],
)
def test_everything_shown_runs(page: Path, tmp_path: Path) -> None:
    environment = where_the_reader_is(tmp_path)
    with ExitStack() as stack:
        if page.name in SPEAKS_TO:
            environment |= stack.enter_context(SPEAKS_TO[page.name]())
        done = subprocess.run(
            [sys.executable, str(ROOT / "tests" / "pages.py"), str(page)],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            timeout=600,
            check=False,
        )
    assert done.returncode == 0, done.stderr


def test_every_command_of_a_page_is_known() -> None:
    shown = {(p.name, c) for p in PAGES for b in pages.blocks(p) for c in pages.commands(*b)}
    others = {c for _, c in shown if not c.startswith("sarc-kb ")}
    assert others == {"pip install '.[omop]'", "pip install '.[audit]'"}
    assert all(pages.INSTALLS.fullmatch(command) for command in others)
    assert {"mapping-guide.md", "omop.md", *(p.name for p in USE)} - {"README.md"} <= {
        p.name for p in PAGES
    }


@pytest.mark.parametrize("page", USE, ids=lambda p: p.name)
def test_a_page_on_use_fits_a_screen(page: Path) -> None:
    text = page.read_text("utf-8")
    assert len(text.splitlines()) <= 60
    assert len(text.split()) <= 450
    assert f"]({page.name})" in (DOCS / "use" / "README.md").read_text("utf-8") or (
        page.name == "README.md"
    )


def test_the_page_on_notebooks_in_a_notebook(tmp_path: Path) -> None:
    where_the_reader_is(tmp_path)
    sources = [text for kind, text in pages.blocks(NOTEBOOK) if kind == "python"]
    notebook = nbformat.v4.new_notebook(
        cells=[nbformat.v4.new_code_cell(source.strip()) for source in sources]
    )
    NotebookClient(
        notebook,
        timeout=300,
        kernel_name="python3",
        resources={"metadata": {"path": str(tmp_path)}},
    ).execute()
    several, one, *_ = (
        output.data["text/html"]
        for cell in notebook.cells
        for output in cell.outputs
        if output.output_type == "execute_result" and "text/html" in output.data
    )
    assert "<td>✗ ineligible</td>" in several
    assert "sarc-example-02" in one
    assert "I07a" in one
    assert "8.6 g/dL" in one


def test_the_pipeline_shown_is_well_formed() -> None:
    hooks, workflow = (
        yaml.safe_load(text)
        for kind, text in pages.blocks(DOCS / "use" / "ci.md")
        if kind == "yaml"
    )
    manifest = yaml.safe_load((ROOT / ".pre-commit-hooks.yaml").read_text("utf-8"))
    shown = {hook["id"] for repository in hooks["repos"] for hook in repository["hooks"]}
    assert shown == {hook["id"] for hook in manifest}
    steps = workflow["jobs"]["rules"]["steps"]
    (upload,) = (s for s in steps if s.get("uses", "").startswith("github/codeql-action/upload-"))
    assert workflow["permissions"]["security-events"] == "write"
    # It takes every SARIF file of the folder that the steps write into.
    assert upload["with"]["sarif_file"] == "."
    assert sum(".sarif" in s.get("run", "") for s in steps[: steps.index(upload)]) == 2
