"""The archive of a pack: a zip whose bytes follow from its files alone, and one that is read with
care.

Nothing in it is compressed: the bytes do not depend on who compresses, and what an archive holds is
never larger than the archive is.
"""

from __future__ import annotations

import hashlib
import re
import shutil
import zipfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, NoReturn
from urllib.parse import quote

from sarc_kb.errors import Finding, InputError
from sarc_kb.provenance.manifest import MANIFEST, SEAL, Manifest, read_manifest, seal_of

MAX_FILES = 100_000
"""Most files of an archive that is read."""
MAX_MANIFEST = 64_000_000
"""Largest manifest that is read, in bytes."""
_EPOCH = (1980, 1, 1, 0, 0, 0)  # the earliest that zip knows
_UNIX = 3
# What one folder or file may be called, on any system.
_SEGMENT = re.compile(r"""(?!\.{1,2}\Z)[^\x00-\x1f\x7f/\\:*?"<>|]+""")
_ZIP64 = 1 << 31

Content = bytes | Path


def safe_name(text: str) -> str:
    """Return ``text`` as one segment of a name in an archive; texts that differ stay different.

    >>> safe_name("a file.ttl"), safe_name("..")
    ('a%20file.ttl', '%2E%2E')
    """
    name = quote(text.encode("utf-8", "surrogateescape"), safe="~+")
    return name.replace(".", "%2E") if name in (".", "..") else name


def write_archive(stream: IO[bytes], files: Iterable[tuple[str, Content]]) -> None:
    """Write ``files``, contents by name, sorted by name."""
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_STORED) as archive:
        for name, content in sorted(files, key=lambda pair: pair[0]):
            info = zipfile.ZipInfo(name, _EPOCH)
            info.create_system = _UNIX
            info.external_attr = 0o100644 << 16
            if isinstance(content, bytes):
                archive.writestr(info, content)
            else:
                large = content.stat().st_size >= _ZIP64
                with (
                    content.open("rb") as source,
                    archive.open(info, "w", force_zip64=large) as target,
                ):
                    shutil.copyfileobj(source, target, 1 << 20)


class Archive:
    """A pack that is open, all of whose files have the hashes that its manifest names."""

    def __init__(self, archive: zipfile.ZipFile, path: Path) -> None:
        self._archive, self._path = archive, path
        members = archive.infolist()
        self._check_members(members)
        names = {info.filename for info in members}
        for needed in (MANIFEST, SEAL):
            if needed not in names:
                self._refuse("PACK001", f"there is no {needed}")
        if archive.getinfo(MANIFEST).file_size > MAX_MANIFEST:
            self._refuse("PACK001", f"{MANIFEST} is larger than {MAX_MANIFEST} bytes")
        data = self.read(MANIFEST)
        if self.read(SEAL) != seal_of(data):
            self._refuse("PACK003", f"{MANIFEST} is not the one that {SEAL} names")
        self.manifest: Manifest = read_manifest(data, str(path))
        listed = [each.name for each in self.manifest.files]
        listed += [each.name for each in self.manifest.inputs if each.included]
        others = names - {MANIFEST, SEAL}
        if sorted(listed) != sorted(others):
            odd = sorted(set(listed) ^ others) or sorted(listed)
            self._refuse("PACK003", f"the files are not those of the manifest: {odd[0]}")
        wanted = {each.name: each.sha256 for each in self.manifest.files}
        wanted |= {each.name: each.sha256 for each in self.manifest.inputs if each.included}
        for name, sha256 in wanted.items():
            if self._sha256(name) != sha256:
                self._refuse("PACK003", f"{name} is not the file that the manifest names")
        for given in self.manifest.inputs:
            if not _is_safe(given.name) or not given.name.startswith("inputs/"):
                self._refuse("PACK001", "the name of an input leads out of the archive")

    def _check_members(self, members: list[zipfile.ZipInfo]) -> None:
        """Refuse what no pack holds, before anything of it is read."""
        if len(members) > MAX_FILES:
            self._refuse("PACK001", f"it holds more than {MAX_FILES} files")
        if len({info.filename for info in members}) != len(members):
            self._refuse("PACK001", "two files have one name")
        for info in members:
            if not _is_safe(info.filename):
                self._refuse("PACK001", "the name of a file leads out of the archive")
            if info.compress_type != zipfile.ZIP_STORED or info.compress_size != info.file_size:
                self._refuse("PACK001", f"{info.filename} is compressed, which no pack is")
            if info.flag_bits & 1:
                self._refuse("PACK001", f"{info.filename} is encrypted, which no pack is")
        if sum(info.file_size for info in members) > self._path.stat().st_size:
            self._refuse("PACK001", "its files are larger than the archive itself")

    def read(self, name: str) -> bytes:
        """Return the content of a file.

        Raises:
            InputError: the archive is damaged there.
        """
        try:
            return self._archive.read(name)
        except (zipfile.BadZipFile, EOFError, NotImplementedError, ValueError):
            self._refuse("PACK003", f"{name} is damaged")

    def _sha256(self, name: str) -> str:
        digest = hashlib.sha256()
        try:
            with self._archive.open(name) as stream:
                while chunk := stream.read(1 << 20):
                    digest.update(chunk)
        except (zipfile.BadZipFile, EOFError, NotImplementedError, ValueError):
            self._refuse("PACK003", f"{name} is damaged")
        return digest.hexdigest()

    def extract(self, name: str, folder: Path) -> None:
        """Write a file below ``folder``; its name was found harmless."""
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        with self._archive.open(name) as source, target.open("wb") as stream:
            shutil.copyfileobj(source, stream, 1 << 20)

    def _refuse(self, code: str, found: str) -> NoReturn:
        raise InputError(
            Finding(
                code,
                "error",
                str(self._path),
                found,
                "it is not, or no longer, the archive that `sarc-kb pack` wrote",
                "get it again from where it was kept",
            )
        )


@contextmanager
def open_archive(path: Path) -> Iterator[Archive]:
    """Give the archive ``path``, once all its hashes are found to be right.

    Raises:
        InputError: it cannot be read, is no pack, or was changed.
    """
    try:
        archive = zipfile.ZipFile(path)
    except OSError as error:
        raise _not_a_pack(path, f"cannot be opened: {error.strerror or error}") from None
    except (zipfile.BadZipFile, NotImplementedError, ValueError):
        raise _not_a_pack(path, "it is not a zip archive, or a damaged one") from None
    with archive:
        yield Archive(archive, path)


def _not_a_pack(path: Path, found: str) -> InputError:
    return InputError(
        Finding(
            "PACK001",
            "error",
            str(path),
            found,
            "there is nothing to verify",
            "name an archive that `sarc-kb pack` wrote",
        )
    )


def _is_safe(name: str) -> bool:
    return all(_SEGMENT.fullmatch(segment) for segment in name.split("/"))
