"""What docs/service.md, the container file and the unit of systemd say is so."""

from __future__ import annotations

import configparser
import json
import re
import shlex
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from sarc_kb.cli import build_parser
from sarc_kb.reports.formats import MEDIA_TYPES
from sarc_kb.service.operations import OPERATIONS, RECORDS, VALIDATE
from sarc_kb.service.problems import STATUSES
from tests.service import Reply, Service

ROOT = Path(__file__).resolve().parent.parent
PAGE = (ROOT / "docs" / "service.md").read_text("utf-8")
LINES = [
    line
    for text in re.findall(r"```bash\n(.*?)```", PAGE, flags=re.DOTALL)
    for line in text.strip().splitlines()
]
CURL = [line for line in LINES if line.startswith("curl ")]

pytestmark = pytest.mark.xdist_group("service")


def curl(line: str, service: Service) -> Reply:
    """Do what curl does, as far as the page uses it."""
    words = iter(shlex.split(line)[1:])
    url, body, headers = "", None, {}
    for word in words:
        if word == "--data-binary":
            body = (ROOT / next(words).removeprefix("@")).read_bytes()
        elif word == "-H":
            name, _, value = next(words).partition(": ")
            headers[name] = value
        elif word == "--output":
            next(words)
        elif word != "-s":
            assert not word.startswith("-")
            url = word
    parts = urlsplit(url)
    assert (parts.scheme, parts.netloc) == ("http", "127.0.0.1:8000")
    query = dict(p.split("=", 1) for p in parts.query.split("&")) if parts.query else None
    return service.ask("GET" if body is None else "POST", parts.path, body, query, **headers)


@pytest.mark.parametrize("line", CURL)
def test_the_examples_work(line: str, service: Service) -> None:
    reply = curl(line, service)
    assert reply.status == 200, reply.text
    if "'Accept: text/plain'" in line and "validate" in line:
        assert reply.text.startswith("INELIGIBLE  sarc-example-02")
    if "format=xlsx" in line:
        assert reply.body.startswith(b"PK")
    if "$evaluate" in line:
        assert json.loads(reply.body)["entry"][0]["resource"]["resourceType"] == "GuidanceResponse"


def test_every_other_command_is_known() -> None:
    assert len(CURL) >= 8
    others = [line.split()[:2] for line in LINES if line not in CURL]
    assert others == [
        ["pip", "install"],
        ["sarc-kb", "serve"],
        ["podman", "build"],
        ["podman", "run"],
    ]


def test_the_page_tells_all() -> None:
    for operation in OPERATIONS:
        last = operation.path.rpartition("/")[2]
        assert last in PAGE, operation.path
    for status in STATUSES:
        assert status == 400 or re.search(rf"\b{status}\b", PAGE), status
    for media in (*RECORDS, *(m for m in MEDIA_TYPES.values() if "officedocument" not in m)):
        assert f"`{media}`" in PAGE, media
    for option in VALIDATE.options:
        assert f"`{option.name}`" in PAGE, option.name
    for option in re.findall(r"`(--[a-z-]+)", PAGE):
        assert option == "--format" or option in serve_options(), option


def serve_options() -> set[str]:
    parser = build_parser()
    (commands,) = [a for a in parser._actions if a.dest == "command"]
    assert commands.choices is not None
    serve = dict(commands.choices)["serve"]  # type: ignore[call-overload]
    return {name for action in serve._actions for name in action.option_strings}


def test_the_container_file() -> None:
    """There is no container engine here: what it copies is there, and what it runs is a command."""
    text = (ROOT / "docs" / "service" / "Containerfile").read_text("utf-8")
    for sources in re.findall(r"^COPY (.+) \S+$", text, flags=re.MULTILINE):
        for name in sources.split():
            assert (ROOT / name).exists(), name
    (started,) = re.findall(r"^ENTRYPOINT (.+)$", text, flags=re.MULTILINE)
    python, module, package, *arguments = json.loads(started)
    assert (python, module, package) == ("python", "-m", "sarc_kb.cli")
    (run,) = [shlex.split(line) for line in LINES if line.startswith("podman run")]
    options = build_parser().parse_args([*arguments, *run[run.index("sarc-kb") + 1 :]])
    assert (options.host, options.port) == ("0.0.0.0", 8000)
    (build,) = [shlex.split(line) for line in LINES if line.startswith("podman build")]
    assert f"#   {shlex.join(build)}" in text
    assert (ROOT / build[build.index("--file") + 1]).exists()
    assert text.index("USER 65534") < text.index("ENTRYPOINT")
    lock = (ROOT / "requirements-service.lock").read_text("utf-8")
    assert {"rdflib", "pyshacl", "starlette", "uvicorn"} <= set(
        re.findall(r"^([a-z0-9-]+)==", lock, flags=re.MULTILINE)
    )
    core = (ROOT / "requirements.lock").read_text("utf-8")
    assert set(re.findall(r"^\S+==\S+", core, flags=re.MULTILINE)) <= set(
        re.findall(r"^\S+==\S+", lock, flags=re.MULTILINE)
    )


def test_the_unit_of_systemd() -> None:
    unit = configparser.ConfigParser(interpolation=None, strict=False)
    unit.optionxform = str  # type: ignore[assignment, method-assign]
    unit.read(ROOT / "docs" / "service" / "sarc-kb.service", "utf-8")
    line = unit["Service"]["ExecStart"]
    assert f"ExecStart={line}" in PAGE
    program, *arguments = shlex.split(line)
    assert program.endswith("/sarc-kb")
    options = build_parser().parse_args(arguments)
    assert unit["Service"]["LoadCredential"].startswith("token:")
    assert options.token_file.endswith("/token")
    assert int(unit["Service"]["TimeoutStopSec"]) > 60 + 5
    assert options.time_limit is None
    assert unit["Service"]["KillMode"] == "mixed"
