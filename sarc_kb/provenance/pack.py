"""One archive with everything that the reports on some patients rest on."""

from __future__ import annotations

import hashlib
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from sarc_kb.errors import Finding, InputError, UsageError
from sarc_kb.kb import content_files
from sarc_kb.provenance.archive import Content, safe_name, write_archive
from sarc_kb.provenance.graph import render_provenance
from sarc_kb.provenance.manifest import (
    MANIFEST,
    SEAL,
    File,
    Input,
    Manifest,
    Options,
    seal_of,
    sha256_of,
)
from sarc_kb.provenance.replay import RULES, reports, versions, vocabularies
from sarc_kb.rule_check import STAMP
from sarc_kb.sources.read import STANDARD_INPUT, files_of
from sarc_kb.whole_file import whole_file

PROVENANCE = "provenance.ttl"


@dataclass(frozen=True, slots=True)
class Given:
    """A file or folder that the caller names, and what it is for; ``term``: see `Input`."""

    path: Path
    role: str
    term: str | None = None


def pack(
    given: Iterable[Given], options: Options, root: Path, output: Path, *, with_inputs: bool = False
) -> Manifest:
    """Write the pack ``output``, whole or not at all, and return what it says of itself.

    ``root``: the folder of the rule base. Inputs are named by their hashes, and are in the pack only
    ``with_inputs``.

    Raises:
        SarcError: an option or an input is at fault, or there is nobody to judge.
        OSError: the pack cannot be written.
    """
    with tempfile.TemporaryDirectory(prefix="sarc-kb-pack-") as name:
        folder = Path(name)
        inputs = tuple(_staged_inputs(given, folder, included=with_inputs))
        _stage_rules(root, folder / RULES)
        kb, made = reports(folder, options, inputs)
        contents: dict[str, Content] = {**made}
        for path in sorted((folder / RULES).rglob("*")):
            if path.is_file():
                contents[path.relative_to(folder).as_posix()] = path
        manifest = Manifest(
            options,
            {"version": kb.info.version, "sha256": kb.info.sha256},
            versions(options, inputs),
            inputs,
            (),
        )
        graph = render_provenance(
            manifest, (_file(n, c) for n, c in made.items()), vocabularies(kb, options.trial)
        )
        contents[PROVENANCE] = graph
        files = sorted((_file(n, c) for n, c in contents.items()), key=lambda f: f.name)
        manifest = replace(manifest, files=tuple(files))
        text = manifest.render()
        contents |= {MANIFEST: text, SEAL: seal_of(text)}
        if with_inputs:
            contents |= {each.name: folder / each.name for each in inputs}
        with whole_file(output) as stream:
            write_archive(stream, contents.items())
    return manifest


def _file(name: str, content: Content) -> File:
    if isinstance(content, bytes):
        return File(name, len(content), hashlib.sha256(content).hexdigest())
    return File(name, *sha256_of(content))


def _stage_rules(root: Path, folder: Path) -> None:
    stamp = root / STAMP
    for path in (*content_files(root), *((stamp,) if stamp.exists() else ())):
        target = folder / path.relative_to(root)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, target)


def _staged_inputs(given: Iterable[Given], folder: Path, *, included: bool) -> Iterator[Input]:
    """Yield the inputs, in the order in which they were given, each laid in its place.

    Files of one folder stay together, since those of a bulk export belong together.
    """
    numbers: dict[Path, int] = {}
    seen: set[Path] = set()
    for each in given:
        for path in _files(each):
            parent = path.parent.resolve()
            place = parent / path.name
            if place in seen:
                continue
            seen.add(place)
            number = numbers.setdefault(parent, len(numbers) + 1)
            name = f"inputs/{number}/{safe_name(path.name)}"
            target = folder / name
            target.parent.mkdir(parents=True, exist_ok=True)
            try:
                size, digest = sha256_of(path)
                lay(path, target)
            except OSError as error:
                raise _unreadable(path, error) from None
            yield Input(name, each.role, size, digest, included, each.term)


def lay(path: Path, target: Path) -> None:
    """Put a file in its place without copying it where that can be."""
    try:
        target.symlink_to(path.resolve())
    except OSError:
        shutil.copyfile(path, target)


def _files(given: Given) -> list[Path]:
    if given.role != "record":
        return [given.path]
    if str(given.path) == STANDARD_INPUT:
        raise UsageError(
            Finding(
                "PACK005",
                "error",
                "pack -",
                "standard input",
                "a pack names its inputs by their files, so that they can be found again",
                "write the record to a file first",
            )
        )
    problems: list[Finding] = []
    try:
        files = [path for path, _ in files_of(given.path, problems)]
    except OSError as error:
        raise _unreadable(given.path, error) from None
    if broken := [p for p in problems if p.severity == "error"]:
        raise InputError(*broken)
    return files


def _unreadable(path: Path, error: OSError) -> InputError:
    return InputError(
        Finding(
            "PACK005",
            "error",
            str(path),
            f"cannot be read: {error.strerror or type(error).__name__}",
            "what was not read cannot be named by its hash",
            "check the path and its permissions",
        )
    )
