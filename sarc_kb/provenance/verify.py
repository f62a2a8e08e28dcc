"""A pack made again from what is in it, and held against what it says, byte for byte."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from sarc_kb.errors import Finding, InputError
from sarc_kb.provenance.archive import Archive, open_archive
from sarc_kb.provenance.graph import render_provenance
from sarc_kb.provenance.manifest import Input, Manifest, sha256_of
from sarc_kb.provenance.pack import PROVENANCE, lay
from sarc_kb.provenance.replay import REPORTS, reports, versions, vocabularies


@dataclass(frozen=True, slots=True)
class Difference:
    """A file that comes out otherwise, and where it first does, without what stands there."""

    name: str
    place: str


@dataclass(frozen=True, slots=True)
class Verification:
    """What came of making the reports again.

    ``same``: the names of the files that are the same byte for byte. ``versions``: what judges here
    in another version than then, as (package, then, now); no fault by itself.
    """

    manifest: Manifest
    same: tuple[str, ...]
    different: tuple[Difference, ...]
    versions: tuple[tuple[str, str, str], ...]


def verify(path: Path, given: Iterable[Path] = ()) -> Verification:
    """Return how the reports of the pack ``path`` compare with those made again by the rules that
    are in it.

    ``given``: the inputs that are not in the pack, files or folders, found by their content, whatever
    they are called.

    Raises:
        InputError: the pack is damaged or was changed, or an input is missing or another.
        SarcError: the packed rules or options cannot be used by this version of the program.
        OSError: there is no room for the unpacked files.
    """
    with (
        open_archive(path) as archive,
        tempfile.TemporaryDirectory(prefix="sarc-kb-verify-") as name,
    ):
        folder = Path(name)
        manifest = archive.manifest
        for file in manifest.files:
            if file.name.startswith("rules/"):
                archive.extract(file.name, folder)
        _lay_inputs(archive, tuple(given), folder)
        kb, made = reports(folder, manifest.options, manifest.inputs)
        if kb.info.sha256 != manifest.knowledge_base.get("sha256"):
            raise InputError(_other_rules(path))
        packed = [file for file in manifest.files if file.name.startswith(f"{REPORTS}/")]
        made[PROVENANCE] = render_provenance(
            manifest, packed, vocabularies(kb, manifest.options.trial)
        )
        names = sorted({PROVENANCE, *made, *(file.name for file in packed)})
        there = {file.name for file in manifest.files}
        different = []
        for each in names:
            then = archive.read(each) if each in there else b""
            now = made.get(each, b"")
            if then != now:
                different.append(Difference(each, _first_difference(each, then, now)))
    now_here = versions(manifest.options, manifest.inputs)
    changed = tuple(
        (package, manifest.versions.get(package, "none"), now_here.get(package, "none"))
        for package in sorted({*manifest.versions, *now_here})
        if manifest.versions.get(package) != now_here.get(package)
    )
    same = tuple(n for n in names if n not in {d.name for d in different})
    return Verification(manifest, same, tuple(different), changed)


# -- inputs ----------------------------------------------------------------------------------------
def _lay_inputs(archive: Archive, given: tuple[Path, ...], folder: Path) -> None:
    """Put every input in its place: from the pack, or the given file that has its content.

    Raises:
        InputError: one is missing; all that are missing are named.
    """
    wanted = [each for each in archive.manifest.inputs if not each.included]
    found = _by_content(given, {each.bytes for each in wanted}) if wanted else {}
    missing = [each for each in wanted if each.sha256 not in found]
    if missing:
        names = {path.name for path in _all_files(given)}
        raise InputError(*(_missing(each, names) for each in missing))
    for each in archive.manifest.inputs:
        if each.included:
            archive.extract(each.name, folder)
        else:
            target = folder / each.name
            target.parent.mkdir(parents=True, exist_ok=True)
            lay(found[each.sha256], target)


def _all_files(given: Iterable[Path]) -> list[Path]:
    found: list[Path] = []
    for path in given:
        found += [p for p in sorted(path.rglob("*")) if p.is_file()] if path.is_dir() else [path]
    return found


def _by_content(given: Iterable[Path], sizes: set[int]) -> dict[str, Path]:
    """Return the given files by their hashes; only those of a size that is wanted are read."""
    found: dict[str, Path] = {}
    for path in _all_files(given):
        try:
            if path.stat().st_size in sizes:
                found.setdefault(sha256_of(path)[1], path)
        except OSError as error:
            raise InputError(
                Finding(
                    "PACK004",
                    "error",
                    str(path),
                    f"cannot be read: {error.strerror or type(error).__name__}",
                    "the reports cannot be made again without it",
                    "check the path and its permissions",
                )
            ) from None
    return found


def _missing(each: Input, names: set[str]) -> Finding:
    base = each.name.rpartition("/")[2]
    found = (
        "a file of this name was given, but it has another SHA-256"
        if base in names
        else "no file with its SHA-256 was given"
    )
    return Finding(
        "PACK004",
        "error",
        each.name,
        found,
        "the reports cannot be made again from other data",
        f"give the file whose SHA-256 is {each.sha256}: sarc-kb verify PACK FILE…",
    )


def _other_rules(path: Path) -> Finding:
    return Finding(
        "PACK003",
        "error",
        str(path),
        "the rule base in it has another content hash than its manifest says",
        "it is not the rule base that the reports were made with",
        "get it again from where it was kept",
    )


# -- places ----------------------------------------------------------------------------------------
def _first_difference(name: str, then: bytes, now: bytes) -> str:
    """Return where two files first differ, as a line, and in JSON also as the member."""
    at = next((i for i, (a, b) in enumerate(zip(then, now, strict=False)) if a != b), None)
    at = min(len(then), len(now)) if at is None else at
    line = then[:at].count(b"\n") + 1
    column = at - (then.rfind(b"\n", 0, at) + 1) + 1
    place = f"line {line}, byte {column} of it"
    if name.endswith(".json"):
        try:
            member = _member(json.loads(then), json.loads(now))
        except ValueError:
            return place
        return f"{place}, {member}" if member else place
    return place


def _member(then: object, now: object, path: str = "") -> str:
    """Return the JSON Pointer (RFC 6901) of the first member that differs; empty at none."""
    if isinstance(then, dict) and isinstance(now, dict):
        for key in (*then, *(k for k in now if k not in then)):
            if key not in then or key not in now:
                return f"{path}/{key}"
            if then[key] != now[key]:
                return _member(then[key], now[key], f"{path}/{key}")
    if isinstance(then, list) and isinstance(now, list):
        for number, (one, other) in enumerate(zip(then, now, strict=False)):
            if one != other:
                return _member(one, other, f"{path}/{number}")
        return f"{path}/{min(len(then), len(now))}" if len(then) != len(now) else path
    return path
