"""A pack holds what reports rest on: it is the same at every run, is made again from its own rules,
and shows every change."""

from __future__ import annotations

import io
import json
import os
import random
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import jsonschema
import pytest
from rdflib import Graph

import sarc_kb
from sarc_kb import cli
from sarc_kb.errors import InputError
from sarc_kb.kb import data_folder
from sarc_kb.namespaces import OWL, PROV, RDF, RDFS, SARC
from sarc_kb.provenance import pack as packing
from sarc_kb.provenance import verify as verifying
from sarc_kb.provenance.archive import open_archive, safe_name, write_archive
from sarc_kb.provenance.manifest import MANIFEST, SEAL, seal_of
from sarc_kb.provenance.verify import _first_difference

ROOT = data_folder()
RECORD = ROOT / "examples" / "anaemic" / "patient.ttl"
ASKED = ("--policy", "laboratory-look-back=28", "--attest", "I11=true", "--complete", "conditions")
REPORTS = {"reports/assessments.json", "reports/assessments.txt", "reports/report.ttl"}
SCHEMA = json.loads(
    (Path(sarc_kb.__file__).parent / "schema" / "pack-1.schema.json").read_text("utf-8")
)


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("pack") / "anaemic.zip"
    assert cli.main(["pack", str(RECORD), *ASKED, "-o", str(path)]) == cli.PASS
    return path


def members(path: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def rewritten(path: Path, files: dict[str, bytes]) -> Path:
    with path.open("wb") as stream:
        write_archive(stream, files.items())
    return path


def sealed(files: dict[str, bytes], document: object) -> dict[str, bytes]:
    """Return ``files`` with another manifest, sealed as if it were the real one."""
    text = (json.dumps(document, indent=2) + "\n").encode("ascii")
    return files | {MANIFEST: text, SEAL: seal_of(text)}


def refused(path: Path) -> str:
    """Return the code with which an archive is refused before anything of it is used."""
    with pytest.raises(InputError) as caught, open_archive(path):
        pytest.fail("it was opened")
    return caught.value.findings[0].code


# -- what is in it ---------------------------------------------------------------------------------
def test_a_pack_holds_rules_source_reports_and_hashes(packed: Path) -> None:
    files = members(packed)
    assert REPORTS | {MANIFEST, SEAL, "provenance.ttl"} <= files.keys()
    trial = "rules/shapes/trials/nct05602415"
    assert (
        files[f"{trial}/source.txt"]
        == (ROOT / trial.removeprefix("rules/") / "source.txt").read_bytes()
    )
    assert f"{trial}/inclusion/I07a-haemoglobin.ttl" in files
    assert {"rules/ontology/sarc.ttl", "rules/shapes/components/refuted.ttl"} <= files.keys()
    assert not [name for name in files if name.endswith(".cases.ttl") or name.startswith("inputs")]
    assert RECORD.read_bytes() not in files.values()
    document = json.loads(files[MANIFEST])
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    jsonschema.Draft202012Validator(SCHEMA).validate(document)
    (given,) = document["inputs"]
    assert (given["name"], given["included"]) == ("inputs/1/patient.ttl", False)
    assert given["bytes"] == RECORD.stat().st_size
    assert document["options"]["policy"] == {"laboratory-look-back": "28"}
    report = json.loads(files["reports/assessments.json"])
    assert report["knowledge_base"]["sha256"] == document["knowledge_base"]["sha256"]
    provenance = report["assessments"][0]["provenance"]
    assert provenance["input_sha256"] == given["sha256"]
    assert provenance["engine_version"] == document["versions"]["pyshacl"]


def test_every_option_and_file_comes_back(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A team's mappings, a table of entry dates, a reading and a limit are in the pack or named."""
    folder = ROOT / "examples" / "local-codes"
    dates = tmp_path / "dates.csv"
    dates.write_text("patient,date\nsomebody-else,2024-03-01\n", "utf-8")
    (table,) = folder.glob("*.sssom.tsv")
    archive = tmp_path / "local.zip"
    command = ["pack", str(folder), "--mappings", str(table), "--entry-dates", str(dates)]
    command += ["--reading", "A-11=either", "--relax", "I07a:atLeast=8.0", "--only", "eligibility"]
    assert cli.main([*command, "-o", str(archive)]) == cli.PASS
    document = json.loads(members(archive)[MANIFEST])
    assert [i["role"] for i in document["inputs"]] == ["record", "entry dates", "mappings"]
    assert document["options"]["relax"] == {"I07a:atLeast": "8.0"}
    words = " ".join(document["command"])
    for expected in (
        "--mappings inputs/1/our-hospital.sssom.tsv",
        "--entry-dates inputs/2/dates.csv",
        "--reading A-11=either",
        "--only eligibility",
    ):
        assert expected in words
    told = json.loads(members(archive)["reports/assessments.json"])["assessments"][0]
    assert told["treatment"] is None
    assert any("inputs/1/our-hospital.sssom.tsv" in c for c in told["provenance"]["changed"])
    capsys.readouterr()
    assert cli.main(["verify", str(archive), str(folder)]) == cli.COULD_NOT
    assert "PACK004 inputs/2/dates.csv" in capsys.readouterr().err
    assert cli.main(["verify", str(archive), str(folder), str(dates)]) == cli.PASS


def test_sha256sum_reads_the_seal(packed: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(packed) as archive:
        archive.extractall(tmp_path)
    subprocess.run(["sha256sum", "--check", "--strict", SEAL], cwd=tmp_path, check=True)


@pytest.mark.threat("F8")
def test_the_same_pack_at_every_run(packed: Path, tmp_path: Path) -> None:
    """Whatever the hash seed, the time zone, the folder, and how the input is named."""
    shutil.copy(RECORD, tmp_path / RECORD.name)
    command = [sys.executable, "-m", "sarc_kb.cli", "pack", RECORD.name, *ASKED, "-o", "again.zip"]
    environment = {**os.environ, "PYTHONHASHSEED": "4711", "TZ": "Pacific/Auckland"}
    environment["PYTHONPATH"] = str(Path(sarc_kb.__file__).parent.parent)
    subprocess.run(command, cwd=tmp_path, env=environment, check=True, capture_output=True)
    assert (tmp_path / "again.zip").read_bytes() == packed.read_bytes()


@pytest.mark.threat("F10")
def test_the_command_of_the_manifest_makes_the_report(packed: Path, tmp_path: Path) -> None:
    """By hand, without `verify`: unpack, lay the input in its place, run the command."""
    with zipfile.ZipFile(packed) as archive:
        archive.extractall(tmp_path)
    (tmp_path / "inputs" / "1").mkdir(parents=True)
    shutil.copy(RECORD, tmp_path / "inputs" / "1")
    program, *words = json.loads((tmp_path / MANIFEST).read_text("utf-8"))["command"]
    assert program == "sarc-kb"
    done = subprocess.run(
        [sys.executable, "-m", "sarc_kb.cli", *words, "--format", "json"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(Path(sarc_kb.__file__).parent.parent)},
        capture_output=True,
        check=False,
    )
    assert done.returncode == cli.FAIL
    assert done.stdout == (tmp_path / "reports" / "assessments.json").read_bytes()


@pytest.mark.threat("F10")
def test_provenance_leads_from_every_report_to_what_it_rests_on(packed: Path) -> None:
    files = members(packed)
    document = json.loads(files[MANIFEST])
    graph = Graph().parse(data=files["provenance.ttl"], format="turtle")
    (activity,) = graph.subjects(RDF.type, PROV.Activity)
    hashes = {f["name"]: f["sha256"] for f in (*document["files"], *document["inputs"])}
    for name in REPORTS:
        (report,) = (
            s for s in graph.subjects(RDFS.label) if str(graph.value(s, RDFS.label)) == name
        )
        assert graph.value(report, PROV.wasGeneratedBy) == activity
        assert str(graph.value(report, SARC.sha256)) == hashes[name]
    used = {str(graph.value(e, SARC.sha256)) for e in graph.objects(activity, PROV.used)}
    assert used == {hashes["inputs/1/patient.ttl"], document["knowledge_base"]["sha256"]}
    agents = {
        str(graph.value(a, OWL.versionInfo))
        for a in graph.objects(activity, PROV.wasAssociatedWith)
    }
    assert agents == set(document["versions"].values())
    members_ = {str(m) for m in graph.objects(None, PROV.hadMember)}
    assert any("/version/" in iri and iri.endswith("NCT05602415") for iri in members_)


# -- making it again -------------------------------------------------------------------------------
def test_verify_finds_the_input_by_its_content(
    packed: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "elsewhere").mkdir()
    shutil.copy(RECORD, tmp_path / "elsewhere" / "renamed.dat")
    (tmp_path / "elsewhere" / "other.ttl").write_text("another file", "utf-8")
    assert cli.main(["verify", str(packed), str(tmp_path)]) == cli.PASS
    out = capsys.readouterr().out
    assert out.startswith(f"VERIFIED  {packed}: 4 of 4 files")
    assert "the one of this installation" in out


def test_verify_judges_by_the_rules_in_the_pack(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Rules that ask for 8 g/dL pass the patient whom those of this installation fail."""
    root = tmp_path / "rules"
    for part in ("ontology", "shapes"):
        shutil.copytree(ROOT / part, root / part, ignore=shutil.ignore_patterns("*.cases.ttl"))
    (rule,) = root.rglob("I07a-haemoglobin.ttl")
    text = rule.read_text("utf-8")
    assert text.count("9.0 ;") == 1
    rule.write_text(text.replace("9.0 ;", "8.0 ;"), "utf-8")
    archive = tmp_path / "lower.zip"
    command = ["pack", str(RECORD), "--rules", str(root), "--with-inputs", "-o", str(archive)]
    assert cli.main(command) == cli.PASS
    shutil.rmtree(root)
    report = json.loads(members(archive)["reports/assessments.json"])
    assert report["assessments"][0]["verdict"] == "eligible"
    capsys.readouterr()
    assert cli.main(["verify", str(archive)]) == cli.PASS
    out = capsys.readouterr().out
    assert out.startswith("VERIFIED")
    assert "another than that of this installation" in out
    assert members(archive)["inputs/1/patient.ttl"] == RECORD.read_bytes()


@pytest.mark.threat("F10")
def test_a_forged_report_differs_and_the_place_is_told_without_its_values(
    packed: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Hashes made right again cannot hide it."""
    import hashlib

    files = members(packed)
    name = "reports/assessments.json"
    document = json.loads(files[MANIFEST])
    report = json.loads(files[name])
    index = next(i for i, c in enumerate(report["assessments"][0]["criteria"]) if c["id"] == "I07")
    forged = files[name].replace(b'"8.6"', b'"9.6"', 1)
    assert forged != files[name]
    files[name] = forged
    for each in document["files"]:
        if each["name"] == name:
            each["sha256"] = hashlib.sha256(forged).hexdigest()
    path = rewritten(tmp_path / "forged.zip", sealed(files, document))
    assert cli.main(["verify", str(path), str(RECORD)]) == cli.FAIL
    out = capsys.readouterr().out
    assert "differs  reports/assessments.json: first at line " in out
    assert f"/assessments/0/criteria/{index}/clauses/0/evidence/0/value" in out
    assert "differs  provenance.ttl" in out
    assert "8.6" not in out
    assert "9.6" not in out


def test_another_version_is_told_and_no_fault_by_itself(
    packed: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    real = verifying.versions
    monkeypatch.setattr(verifying, "versions", lambda *a: real(*a) | {"rdflib": "99.1"})
    assert cli.main(["verify", str(packed), str(RECORD)]) == cli.PASS
    out = capsys.readouterr().out
    assert "  version  rdflib " in out
    assert " then, 99.1 here" in out


# -- inputs ----------------------------------------------------------------------------------------
def test_an_input_changed_by_a_byte(
    packed: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = bytearray(RECORD.read_bytes())
    data[len(data) // 2] ^= 1
    other = tmp_path / RECORD.name
    other.write_bytes(data)
    assert cli.main(["verify", str(packed), str(other)]) == cli.COULD_NOT
    err = capsys.readouterr().err
    assert "PACK004 inputs/1/patient.ttl" in err
    assert "it has another SHA-256" in err
    assert cli.main(["verify", str(packed)]) == cli.COULD_NOT
    assert "no file with its SHA-256 was given" in capsys.readouterr().err


def test_files_of_one_folder_stay_together(tmp_path: Path) -> None:
    """The files of a bulk export are one data set by their folder."""
    names = ("a/Patient.ndjson", "b/Patient.ndjson", "a/Observation.ndjson")
    for name in names:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("{}\n", "utf-8")
    given = [packing.Given(tmp_path / name, "record") for name in (*names, names[0])]
    found = list(packing._staged_inputs(given, tmp_path / "staged", included=False))
    assert [each.name for each in found] == [
        "inputs/1/Patient.ndjson",
        "inputs/2/Patient.ndjson",
        "inputs/1/Observation.ndjson",
    ]


@pytest.mark.parametrize(
    ("source", "code"), [("-", "PACK005"), ("no-such-file.ttl", "PACK005"), ("empty", "DATA000")]
)
def test_what_cannot_be_packed(
    source: str, code: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "empty").mkdir()
    named = source if source == "-" else str(tmp_path / source)
    output = tmp_path / "x.zip"
    assert cli.main(["pack", named, "-o", str(output)]) == cli.COULD_NOT
    assert code in capsys.readouterr().err
    assert not output.exists()


@pytest.mark.threat("G3")
def test_a_pack_appears_whole_or_not_at_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(stream: io.BytesIO, files: object) -> None:
        stream.write(b"half")
        raise OSError(28, "No space left on device")

    output = tmp_path / "x.zip"
    output.write_bytes(b"as it was")
    monkeypatch.setattr(packing, "write_archive", full)
    assert cli.main(["pack", str(RECORD), "-o", str(output)]) == cli.COULD_NOT
    assert output.read_bytes() == b"as it was"
    assert [p.name for p in tmp_path.iterdir()] == ["x.zip"]


# -- changed archives ------------------------------------------------------------------------------
@pytest.mark.threat("F10")
def test_a_changed_byte_in_any_file_is_caught(packed: Path, tmp_path: Path) -> None:
    """Each file in turn, the archive's own checksums made right again."""
    files = members(packed)
    assert len(files) > 150
    chance = random.Random(5)
    for name, content in files.items():
        at = chance.randrange(len(content))
        changed = content[:at] + bytes((content[at] ^ 1,)) + content[at + 1 :]
        path = rewritten(tmp_path / "changed.zip", files | {name: changed})
        assert refused(path) in ("PACK002", "PACK003"), name


@pytest.mark.threat("F10")
def test_a_changed_byte_of_the_archive_is_caught_by_its_own_checksums(
    packed: Path, tmp_path: Path
) -> None:
    data = packed.read_bytes()
    path = tmp_path / "changed.zip"
    for text in (b'"ineligible"', b"sarc:atLeast", b'"sarc-kb"'):
        at = data.index(text) + 2
        path.write_bytes(data[:at] + bytes((data[at] ^ 1,)) + data[at + 1 :])
        assert refused(path) == "PACK003"


def test_a_file_more_or_less_is_caught(packed: Path, tmp_path: Path) -> None:
    files = members(packed)
    path = tmp_path / "changed.zip"
    assert refused(rewritten(path, files | {"rules/ontology/more.ttl": b""})) == "PACK003"
    less = {n: c for n, c in files.items() if not n.endswith("I07a-haemoglobin.ttl")}
    assert refused(rewritten(path, less)) == "PACK003"
    for name in (MANIFEST, SEAL):
        assert refused(rewritten(path, {n: c for n, c in files.items() if n != name})) == "PACK001"


Write = Callable[[zipfile.ZipFile], None]
HOSTILE: dict[str, tuple[Write, str]] = {
    "a name that climbs out": (lambda z: z.writestr("../evil", b"x"), "leads out"),
    "a name that climbs out in the middle": (
        lambda z: z.writestr("rules/../../evil", b"x"),
        "leads out",
    ),
    "an absolute name": (lambda z: z.writestr("/etc/evil", b"x"), "leads out"),
    "a name with a backslash": (lambda z: z.writestr("rules\\..\\evil", b"x"), "leads out"),
    "a drive": (lambda z: z.writestr("C:evil", b"x"), "leads out"),
    "a folder": (lambda z: z.writestr("rules/", b""), "leads out"),
    "a bomb": (
        lambda z: z.writestr("bomb", b"\0" * 10_000_000, zipfile.ZIP_DEFLATED),
        "is compressed",
    ),
}


@pytest.mark.parametrize("name", HOSTILE)
@pytest.mark.threat("A14")
def test_a_hostile_archive_is_refused(name: str, packed: Path, tmp_path: Path) -> None:
    write, words = HOSTILE[name]
    path = tmp_path / "hostile.zip"
    shutil.copy(packed, path)
    with zipfile.ZipFile(path, "a") as archive:
        write(archive)
    with pytest.raises(InputError, match=words) as caught, open_archive(path):
        pass
    assert caught.value.findings[0].code == "PACK001"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["hostile.zip"]


@pytest.mark.threat("A14")
def test_one_name_twice_is_refused(packed: Path, tmp_path: Path) -> None:
    path = tmp_path / "twice.zip"
    shutil.copy(packed, path)
    with zipfile.ZipFile(path, "a") as archive, pytest.warns(UserWarning, match="Duplicate"):
        archive.writestr(MANIFEST, b"{}")
    assert refused(path) == "PACK001"


@pytest.mark.threat("A14", "B10")
def test_files_that_overlap_are_refused(packed: Path, tmp_path: Path) -> None:
    """Many entries that share one large content: larger together than the archive."""
    path = tmp_path / "overlap.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a", b"x" * 1_000_000)
        (first,) = archive.filelist
        for number in range(50):
            again = zipfile.ZipInfo(f"b{number}")
            for field in ("CRC", "compress_size", "file_size", "header_offset"):
                setattr(again, field, getattr(first, field))
            archive.filelist.append(again)
        archive._didModify = True  # type: ignore[attr-defined]
    assert path.stat().st_size < 2_000_000
    with pytest.raises(InputError, match="larger than the archive"), open_archive(path):
        pass


@pytest.mark.parametrize(
    "name", ["../../evil", "/etc/evil", "rules/ontology/evil.ttl", "inputs/.."]
)
@pytest.mark.threat("A14")
def test_an_input_that_would_be_laid_elsewhere_is_refused(
    name: str, packed: Path, tmp_path: Path
) -> None:
    files = members(packed)
    document = json.loads(files[MANIFEST])
    document["inputs"][0]["name"] = name
    document["command"] = [name if w == "inputs/1/patient.ttl" else w for w in document["command"]]
    path = rewritten(tmp_path / "hostile.zip", sealed(files, document))
    assert refused(path) == "PACK001"


@pytest.mark.parametrize(
    "change",
    [
        lambda d: d.update(schema="other"),
        lambda d: d.pop("options"),
        lambda d: d["options"].update(trial=7),
        lambda d: d["inputs"][0].update(role="other"),
        lambda d: d["files"][0].update(bytes=-1),
        lambda d: d.update(files={}),
        lambda d: d.update(more="than a manifest has"),
        lambda d: d.update(command=["rm", "-rf"]),
    ],
)
def test_a_manifest_that_is_none(
    change: Callable[[dict[str, object]], object], packed: Path, tmp_path: Path
) -> None:
    files = members(packed)
    document = json.loads(files[MANIFEST])
    change(document)
    assert refused(rewritten(tmp_path / "x.zip", sealed(files, document))) == "PACK002"


@pytest.mark.parametrize("content", [b"", b"not a zip", b"PK\x05\x06" + b"\0" * 18])
def test_what_is_no_pack(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "x.zip"
    assert refused(path) == "PACK001"
    path.write_bytes(content)
    assert refused(path) == "PACK001"


# -- small things ----------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("name", "then", "now", "place"),
    [
        ("x.txt", b"a\nbcd", b"a\nbxd", "line 2, byte 2 of it"),
        ("x.txt", b"a", b"a\n", "line 1, byte 2 of it"),
        ("x.json", b'{"a": [1, 2]}', b'{"a": [1, 3]}', "line 1, byte 11 of it, /a/1"),
        ("x.json", b'{"a": [1]}', b'{"a": [1, 3]}', "line 1, byte 9 of it, /a/1"),
        ("x.json", b'{"a": 1}', b"", "line 1, byte 1 of it"),
    ],
)
def test_the_first_difference(name: str, then: bytes, now: bytes, place: str) -> None:
    assert _first_difference(name, then, now) == place


def names() -> Iterator[str]:
    yield from ("..", ".", "a b.ttl", "ä.ttl", "%2E", "a:b", "a\\b", "a\nb", "~x+y.json")


@pytest.mark.threat("A13")
def test_names_are_safe_and_stay_different() -> None:
    found = [safe_name(name) for name in names()]
    assert len(set(found)) == len(found)
    assert all(name.isascii() and name.isprintable() for name in found)
    assert not {".", ".."} & set(found)
