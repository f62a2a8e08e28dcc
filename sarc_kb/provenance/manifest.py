"""What a pack says of itself: what was judged, how, by what, and the hash of every file."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NoReturn

from sarc_kb.errors import Finding, InputError
from sarc_kb.namespaces import BASE

SCHEMA = BASE + "schema/pack/1"
MANIFEST, SEAL = "manifest.json", "manifest.sha256"
ROLES = ("record", "entry dates", "mappings", "concept ancestors", "value set")
"""What an input may be; each is given to `validate` by an argument or an option of its own."""

Pairs = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Options:
    """What `validate` was asked, without its files."""

    trial: str
    engine: str = "pyshacl"
    only: str | None = None
    entry_date: str | None = None
    as_of: str | None = None
    complete: tuple[str, ...] = ()
    attest: Pairs = ()
    policy: Pairs = ()
    reading: Pairs = ()
    relax: Pairs = ()


@dataclass(frozen=True, slots=True)
class Input:
    """A file that was read: its name in the pack, whether it is there or not, and its content.

    ``term``: of a value set alone, the term that its codes are below, as it was given.
    """

    name: str
    role: str
    bytes: int
    sha256: str
    included: bool
    term: str | None = None


@dataclass(frozen=True, slots=True)
class File:
    """A file of the pack."""

    name: str
    bytes: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Manifest:
    """All that a pack says of itself. ``versions``: what judged, by package."""

    options: Options
    knowledge_base: Mapping[str, str]
    versions: Mapping[str, str]
    inputs: tuple[Input, ...]
    files: tuple[File, ...]

    @property
    def command(self) -> list[str]:
        """The command that makes the reports again, in the folder of the unpacked archive with all
        inputs in their places."""
        o = self.options
        words = ["sarc-kb", "validate", *self.named("record"), "--rules", "rules"]
        single = {"--trial": o.trial, "--engine": o.engine, "--only": o.only}
        single |= {"--entry-date": o.entry_date, "--as-of": o.as_of}
        single |= {"--complete": ",".join(o.complete) or None}
        for option, value in single.items():
            words += [option, value] if value is not None else []
        for option, pairs in (
            *(("--attest", o.attest), ("--policy", o.policy)),
            *(("--reading", o.reading), ("--relax", o.relax)),
        ):
            words += [w for name, value in pairs for w in (option, f"{name}={value}")]
        for option, role in (
            *(("--entry-dates", "entry dates"), ("--mappings", "mappings")),
            ("--concept-ancestor", "concept ancestors"),
        ):
            words += [w for name in self.named(role) for w in (option, name)]
        for each in self.inputs:
            if each.role == "value set":
                words += ["--valueset", f"{each.term}={each.name}" if each.term else each.name]
        return words

    def named(self, role: str) -> list[str]:
        """Return the names of the inputs of one role, in the order in which they were given."""
        return [each.name for each in self.inputs if each.role == role]

    def render(self) -> bytes:
        """Return the manifest as JSON."""
        document = {
            "schema": SCHEMA,
            "command": self.command,
            "options": {k: dict(v) if k in _PAIRS else v for k, v in asdict(self.options).items()},
            "knowledge_base": dict(self.knowledge_base),
            "versions": dict(self.versions),
            "inputs": [asdict(each) for each in self.inputs],
            "files": [asdict(each) for each in self.files],
        }
        return (json.dumps(document, indent=2) + "\n").encode("ascii")


_PAIRS = ("attest", "policy", "reading", "relax")


def sha256_of(path: Path) -> tuple[int, str]:
    """Return the size and the SHA-256 of a file.

    Raises:
        OSError: it cannot be read.
    """
    digest, size = hashlib.sha256(), 0
    with path.open("rb") as stream:
        while chunk := stream.read(1 << 20):
            digest.update(chunk)
            size += len(chunk)
    return size, digest.hexdigest()


def seal_of(manifest: bytes) -> bytes:
    """Return the line that goes with a manifest, as ``sha256sum`` writes and reads it."""
    return f"{hashlib.sha256(manifest).hexdigest()}  {MANIFEST}\n".encode("ascii")


# -- reading ---------------------------------------------------------------------------------------
def read_manifest(data: bytes, where: str) -> Manifest:
    """Return the manifest in ``data``.

    Raises:
        InputError: it is not one that this program reads.
    """
    try:
        document = json.loads(data)
    except (ValueError, RecursionError):
        _refuse(where, "it is not JSON")
    try:
        if document["schema"] != SCHEMA:
            _refuse(where, "its schema is not " + SCHEMA)
        options = document["options"]
        manifest = Manifest(
            Options(
                trial=_text(options["trial"]),
                engine=_text(options["engine"]),
                only=_text_or_none(options["only"]),
                entry_date=_text_or_none(options["entry_date"]),
                as_of=_text_or_none(options["as_of"]),
                complete=tuple(map(_text, _list(options["complete"]))),
                attest=_pairs(options["attest"]),
                policy=_pairs(options["policy"]),
                reading=_pairs(options["reading"]),
                relax=_pairs(options["relax"]),
            ),
            dict(_pairs(document["knowledge_base"])),
            dict(_pairs(document["versions"])),
            tuple(_input(each) for each in _list(document["inputs"])),
            tuple(_file(each) for each in _list(document["files"])),
        )
        if manifest.render() != data:
            _refuse(where, "it says something else than it would if it had been written so")
    except (KeyError, TypeError, ValueError, AttributeError):
        _refuse(where, "a member is missing, or is not what it should be")
    return manifest


def _refuse(where: str, found: str) -> NoReturn:
    raise InputError(
        Finding(
            "PACK002",
            "error",
            f"{where}: {MANIFEST}",
            found,
            "without it nobody can tell what was judged, and how",
            "take the archive as `sarc-kb pack` wrote it",
        )
    )


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError
    return value


def _text_or_none(value: Any) -> str | None:
    return None if value is None else _text(value)


def _list(value: Any) -> Sequence[Any]:
    if not isinstance(value, list):
        raise TypeError
    return value


def _number(value: Any) -> int:
    if type(value) is not int or value < 0:
        raise TypeError
    return value


def _pairs(value: Any) -> Pairs:
    return tuple((name, _text(each)) for name, each in value.items())


def _input(value: Any) -> Input:
    if value["role"] not in ROLES or type(value["included"]) is not bool:
        raise ValueError
    return Input(
        _text(value["name"]),
        value["role"],
        _number(value["bytes"]),
        _text(value["sha256"]),
        value["included"],
        _text_or_none(value["term"]),
    )


def _file(value: Any) -> File:
    return File(_text(value["name"]), _number(value["bytes"]), _text(value["sha256"]))
