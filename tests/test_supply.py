"""What is installed, built and reached: the lock files, licences, bill of materials, wheel and
source distribution, and that the tests themselves can run with the network off."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

from supply import licences, offline
from supply.lowest import lowest
from supply.packages import (
    DEV_LOCK,
    ROOT,
    RUN_LOCK,
    Package,
    needs,
    of_users,
    read_lock,
    requirements,
)

# Run where the network is off or on: it tells what became of a connection, and of one on loopback.
PROBE = """
import errno, socket, sys
def what_becomes(address):
    try:
        socket.create_connection(address, timeout=2).close()
    except OSError as error:
        return errno.errorcode.get(error.errno, "no answer")
    return "connected"
with socket.create_server(("127.0.0.1", 0)) as server:
    print(what_becomes((sys.argv[1], int(sys.argv[2]))), what_becomes(server.getsockname()))
"""
OFF = os.environ.get("SARC_KB_NETWORK") == "off"
TEST_NET = ("192.0.2.1", "9")  # RFC 5737: nobody is there


def probe(address: tuple[str, str], *before: str) -> list[str]:
    done = subprocess.run(
        [*before, sys.executable, "-c", PROBE, *address],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    return done.stdout.split()


# -- the network ------------------------------------------------------------------------------------
@pytest.mark.threat("A11")
def test_the_network_is_off_where_that_is_said() -> None:
    """In CI of these tests themselves; elsewhere of a command that is run as CI runs them."""
    if OFF:
        assert probe(TEST_NET) == ["ENETUNREACH", "connected"]
    elif offline.way_off() is None:
        pytest.skip("this machine lets nobody switch the network off")
    else:
        inside = [sys.executable, "-m", "supply.offline"]
        assert probe(TEST_NET, *inside) == ["ENETUNREACH", "connected"]
        told = [*inside, "sh", "-c", "echo $SARC_KB_NETWORK; exit 7"]
        done = subprocess.run(told, cwd=ROOT, capture_output=True, text=True, check=False)
        assert (done.stdout, done.returncode) == ("off\n", 7)


def test_the_probe_tells_a_network_that_is_on() -> None:
    """Its own server stands for one that can be reached."""
    import socket

    with socket.create_server(("127.0.0.1", 0)) as server:
        host, port = server.getsockname()
        assert probe((host, str(port))) == ["connected", "connected"]


def test_a_network_that_stays_on_is_a_failure(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(offline, "WAYS", (("--no-such-option",),))
    assert offline.main(["true"]) == 2
    assert "cannot be switched off" in capsys.readouterr().err
    monkeypatch.setenv("PATH", "/nowhere")
    assert offline.main(["true"]) == 2
    assert offline.main([]) == 2


# -- the lock files ---------------------------------------------------------------------------------
@pytest.mark.threat("G12")
def test_the_lock_of_users_is_part_of_that_of_developers() -> None:
    run, dev = read_lock(RUN_LOCK), read_lock(DEV_LOCK)
    assert len(run) > 10
    assert {name: dev[name] for name in run} == run


@pytest.mark.threat("G12")
def test_the_lock_holds_what_is_needed_and_no_more() -> None:
    """Told apart by two programs: pip-tools wrote the lock, here what is installed is asked."""
    always = {name for name, extras in of_users().items() if "" in extras}
    assert always == read_lock(RUN_LOCK).keys()


def test_a_lock_without_hashes_is_refused(tmp_path: Path) -> None:
    lock = tmp_path / "requirements.lock"
    lock.write_text(f"one[extra]==1.0 \\\n    --hash=sha256:{'a' * 64}\n    # via two\ntwo==2.0\n")
    with pytest.raises(ValueError, match=r"two has no hash"):
        read_lock(lock)
    lock.write_text(lock.read_text() + f"    --hash=sha256:{'c' * 64} --hash=sha256:{'b' * 64}\n")
    assert read_lock(lock) == {
        "one": Package("one", "1.0", ("a" * 64,)),
        "two": Package("two", "2.0", ("b" * 64, "c" * 64)),
    }


def test_a_package_that_is_not_as_it_is_pinned_is_told() -> None:
    packages = {"rdflib": Package("rdflib", "0.1", ("a" * 64,))}
    with pytest.raises(ValueError, match=r"rdflib \S+ is installed, the lock has 0\.1"):
        needs(requirements()[""][:1], packages)
    with pytest.raises(ValueError, match=r"no lock file names rdflib"):
        needs(requirements()[""][:1], {})
    absent = {"rdflib": Package("no-such-package-here", "1", ("a" * 64,))}
    with pytest.raises(ValueError, match=r"is not installed"):
        needs(requirements()[""][:1], absent)


def test_the_lowest_versions(tmp_path: Path) -> None:
    project = tmp_path / "pyproject.toml"

    def write(audit: str) -> None:
        project.write_text(
            f'[project]\ndependencies = ["b>=2.1,<3"]\n[project.optional-dependencies]\ncohort = ["a[x]>=1,<2"]\naudit = ["{audit}"]\ndev = ["c"]\n'
        )

    write("a[y]>=1,<2")
    assert lowest(project) == {"a": "1", "b": "2.1"}
    for other in ("a>=1.1,<2", "a<2"):
        write(other)
        with pytest.raises(ValueError, match=r"one lower bound"):
            lowest(project)


# -- licences ---------------------------------------------------------------------------------------
@pytest.mark.threat("G12")
def test_the_list_of_licences_is_fresh() -> None:
    """Stale: run `make licences`, after `make lock` and `make setup`."""
    assert licences.PAGE.read_text("utf-8") == licences.page()


@pytest.mark.threat("G12")
def test_a_licence_that_is_not_allowed_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(licences.ALLOWED, "MPL-2.0")
    with pytest.raises(ValueError, match=r"shtab: MPL-2\.0; read its licence file"):
        licences.table()


@pytest.mark.parametrize(
    ("expression", "allowed"),
    [
        ("MIT", True),
        ("GPL-3.0-only", False),
        ("GPL-3.0-only OR MIT", True),
        ("GPL-3.0-only AND MIT", False),
        ("(GPL-3.0-only OR MIT) AND (Apache-2.0 OR AGPL-3.0-only)", True),
        ("(GPL-3.0-only AND MIT) OR SSPL-1.0", False),
    ],
)
def test_one_way_that_a_licence_leaves_open_is_enough(expression: str, allowed: bool) -> None:
    assert licences.allowed(expression) is allowed


def test_every_allowed_licence_is_one_of_spdx_and_stands_on_the_page() -> None:
    used = licences.PAGE.read_text("utf-8").partition("| licence | why")[0]
    for name, reason in licences.ALLOWED.items():
        assert licences.allowed(name)
        assert re.search(rf"(?<![\w.-]){re.escape(name)}(?![\w.-])", used), f"{name}: nobody has it"
        assert len(reason) > 10


# -- the bill of materials --------------------------------------------------------------------------
def written(folder: Path, **environment: str) -> tuple[bytes, bytes]:
    code = f"from pathlib import Path; from supply.sbom import main; main(Path({str(folder)!r}))"
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return (folder / "sbom.json").read_bytes(), (folder / "sbom-dev.json").read_bytes()


@pytest.fixture(scope="module")
def bills(tmp_path_factory: pytest.TempPathFactory) -> tuple[bytes, bytes]:
    return written(tmp_path_factory.mktemp("bills"), PYTHONHASHSEED="0", TZ="UTC")


@pytest.mark.xdist_group("supply")
@pytest.mark.threat("G12", "F8")
def test_the_bill_has_the_same_bytes_at_every_run(
    bills: tuple[bytes, bytes], tmp_path: Path
) -> None:
    assert written(tmp_path, PYTHONHASHSEED="7", TZ="Asia/Tokyo") == bills


@pytest.mark.xdist_group("supply")
@pytest.mark.threat("G12")
def test_the_bill_says_what_the_lock_says(bills: tuple[bytes, bytes]) -> None:
    """The lock is read here in another way than the program does, as words."""
    words = DEV_LOCK.read_text("utf-8").split()
    pins = {w.lower() for w in words if "==" in w and not w.startswith("#")}
    users, developers = map(json.loads, bills)
    parts = {f"{c['name']}=={c['version']}": c for c in developers["components"]}
    assert parts.keys() == pins
    hashes = [
        h["content"] for c in parts.values() for r in c["externalReferences"] for h in r["hashes"]
    ]
    assert sorted(hashes) == sorted(
        w.removeprefix("--hash=sha256:") for w in words if w.startswith("--hash")
    )
    scopes: dict[str, set[str]] = {}
    for part in parts.values():
        scopes.setdefault(part["scope"], set()).add(part["name"])
    assert scopes["required"] == read_lock(RUN_LOCK).keys()
    assert scopes["optional"] >= {"duckdb", "owlready2", "psycopg", "pyspark", "z3-solver"}
    assert scopes["excluded"] >= {"mypy", "pytest", "ruff"}
    assert {c["name"] for c in users["components"]} == scopes["required"] | scopes["optional"]
    assert all(c["licenses"] for c in users["components"])


@pytest.mark.xdist_group("supply")
def test_the_bill_says_what_needs_what(bills: tuple[bytes, bytes]) -> None:
    users, developers = map(json.loads, bills)
    for bill in (users, developers):
        edges = {d["ref"]: set(d.get("dependsOn", ())) for d in bill["dependencies"]}
        assert edges.keys() == {"sarc-kb", *(c["bom-ref"] for c in bill["components"])}
        reached, waiting = {"sarc-kb"}, ["sarc-kb"]
        while waiting:
            fresh = edges[waiting.pop()] - reached
            reached |= fresh
            waiting.extend(fresh)
        assert reached == edges.keys(), "nobody needs the others"
        (rdflib,) = (r for r in reached if r.startswith("rdflib@"))
        (pyshacl,) = (r for r in reached if r.startswith("pyshacl@"))
        assert rdflib in edges[pyshacl]


def test_a_bill_that_breaks_the_schema_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    from cyclonedx.model.bom import Bom

    from supply import sbom

    assert json.loads(sbom.text(Bom()))["bomFormat"] == "CycloneDX"
    monkeypatch.setattr(sbom, "uuid5", lambda *_: type("Uuid", (), {"urn": "of nobody"}))
    with pytest.raises(ValueError, match=r"does not follow CycloneDX"):
        sbom.text(Bom())


# -- wheel and source distribution ------------------------------------------------------------------
@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the source distribution, the wheel made from it, and one made from here."""
    folder = tmp_path_factory.mktemp("built")
    for arguments in (["--outdir", str(folder)], ["--wheel", "--outdir", str(folder / "direct")]):
        done = subprocess.run(
            [sys.executable, "-m", "build", "--no-isolation", *arguments, str(ROOT)],
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
    return folder


def members(folder: Path) -> tuple[dict[str, bytes], dict[str, bytes]]:
    """Return the files of the wheel and of the source distribution, by name."""
    (wheel,) = folder.glob("*.whl")
    (source,) = folder.glob("*.tar.gz")
    with zipfile.ZipFile(wheel) as packed:
        ours = {name: packed.read(name) for name in packed.namelist()}
    with tarfile.open(source) as tar:
        theirs = {
            m.name.partition("/")[2]: tar.extractfile(m).read()  # type: ignore[union-attr]
            for m in tar.getmembers()
            if m.isfile()
        }
    return ours, theirs


@pytest.mark.xdist_group("supply")
def test_the_wheel_is_the_same_from_the_source_distribution(built: Path) -> None:
    (wheel,) = built.glob("*.whl")
    assert wheel.read_bytes() == (built / "direct" / wheel.name).read_bytes()


@pytest.mark.xdist_group("supply")
def test_wheel_and_source_distribution_hold_every_file(built: Path) -> None:
    """Against what lies here: the package, the knowledge base, and in the source the tests too."""
    ours, theirs = members(built)

    def here(*folders: str) -> dict[str, bytes]:
        return {
            str(path.relative_to(ROOT)): path.read_bytes()
            for folder in folders
            for path in (ROOT / folder).rglob("*")
            if path.is_file() and "__pycache__" not in path.parts
        }

    expected = {
        re.sub(r"^(ontology|shapes)/", r"sarc_kb/_data/\1/", name): data
        for name, data in here("sarc_kb", "ontology", "shapes").items()
    }
    assert {n: d for n, d in ours.items() if ".dist-info/" not in n} == expected
    kinds = {Path(name).suffix for name in expected}
    assert kinds >= {".py", ".ttl", ".html", ".css", ".json", ".tsv", ".rq"}
    assert "sarc_kb/py.typed" in expected
    for name, data in here("sarc_kb", "ontology", "shapes", "tests", "examples", "docs").items():
        assert theirs[name] == data
    for name in ("pyproject.toml", "requirements.lock", "Makefile", "README.md", "supply/sbom.py"):
        assert name in theirs


@pytest.mark.xdist_group("supply")
def test_both_carry_the_licences(built: Path) -> None:
    ours, theirs = members(built)
    for name in ("LICENSE", "LICENSE-rules"):
        text = (ROOT / name).read_bytes()
        assert theirs[name] == text
        assert [d for n, d in ours.items() if n.endswith(f".dist-info/licenses/{name}")] == [text]
    (metadata,) = (d for n, d in ours.items() if n.endswith("METADATA"))
    assert b"License-Expression: Apache-2.0 AND CC-BY-4.0\n" in metadata


@pytest.mark.xdist_group("supply")
def test_nothing_of_a_workplace_is_packed(built: Path) -> None:
    ours, theirs = members(built)
    unwanted = re.compile(r"(^|/)(\.venv|build|dist|__pycache__|\.git|\.ci|[^/]*\.pyc|\.env)(/|$)")
    assert not [name for name in (*ours, *theirs) if unwanted.search(name)]
    assert sum(map(len, ours.values())) < 50_000_000
