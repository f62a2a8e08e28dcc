"""The packages that the lock files pin, what needs what, and what a user installs with which extra."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parent.parent
PROJECT = ROOT / "pyproject.toml"
RUN_LOCK, DEV_LOCK = ROOT / "requirements.lock", ROOT / "requirements-dev.lock"
ALWAYS = ""
"""Stands where an extra is named, for what everybody installs."""
DEVELOPERS = "dev"
"""The extra that no user installs."""


@dataclass(frozen=True, slots=True)
class Package:
    """One pinned package. ``hashes``: SHA-256 of each of its files that may be installed, sorted."""

    name: str
    version: str
    hashes: tuple[str, ...]


def read_lock(path: Path) -> dict[str, Package]:
    """Return the packages of a lock file by name, in the order of their names.

    Raises:
        ValueError: a package has no hash.
    """
    found = {}
    for name, version, rest in _entries(path.read_text("utf-8")):
        hashes = tuple(sorted(re.findall(r"--hash=sha256:([0-9a-f]{64})", rest)))
        if not hashes:
            raise ValueError(f"{path.name}: {name} has no hash; run `make lock`")
        found[name] = Package(name, version, hashes)
    return dict(sorted(found.items()))


def _entries(text: str) -> Iterator[tuple[str, str, str]]:
    parts = re.split(r"^([\w.-]+)(?:\[[^]]*\])?==(\S+)", text, flags=re.MULTILINE)
    for name, version, rest in zip(parts[1::3], parts[2::3], parts[3::3], strict=True):
        yield canonicalize_name(name), version, rest


def requirements(project: Path = PROJECT) -> dict[str, list[Requirement]]:
    """Return what the project asks for, by extra; `ALWAYS` has what everybody needs."""
    table = tomllib.loads(project.read_text("utf-8"))["project"]
    groups = {ALWAYS: table["dependencies"], **table["optional-dependencies"]}
    return {extra: [Requirement(text) for text in texts] for extra, texts in groups.items()}


def installed(package: Package) -> Distribution:
    """Return what is installed of a package.

    Raises:
        ValueError: nothing is, or another version than the lock names.
    """
    try:
        found = distribution(package.name)
    except PackageNotFoundError:
        raise ValueError(f"{package.name} is not installed; run `make setup`") from None
    if found.version != package.version:
        raise ValueError(
            f"{package.name} {found.version} is installed, the lock has {package.version}; run `make setup`"
        )
    return found


def needs(wanted: Iterable[Requirement], packages: dict[str, Package]) -> dict[str, set[str]]:
    """Return all that comes with ``wanted``: each package with those that it needs itself.

    What they need is read from what is installed, by its extras and on this system.

    Raises:
        ValueError: a package is not pinned, or not installed as it is pinned.
    """
    edges: dict[str, set[str]] = {}
    waiting = [(canonicalize_name(r.name), extra) for r in wanted for extra in ("", *r.extras)]
    seen = set(waiting)
    while waiting:
        name, extra = waiting.pop()
        if name not in packages:
            raise ValueError(f"no lock file names {name}; run `make lock`")
        own = edges.setdefault(name, set())
        for text in installed(packages[name]).requires or ():
            requirement = Requirement(text)
            if requirement.marker is None or requirement.marker.evaluate({"extra": extra}):
                other = canonicalize_name(requirement.name)
                own.add(other)
                fresh = {(other, more) for more in ("", *requirement.extras)} - seen
                seen |= fresh
                waiting.extend(fresh)
    return edges


def of_users() -> dict[str, list[str]]:
    """Return the packages that a user may install, each with the extras that bring it, sorted."""
    packages = read_lock(DEV_LOCK)
    extras: dict[str, list[str]] = {}
    for extra, wanted in sorted(requirements().items()):
        if extra != DEVELOPERS:
            for name in needs(wanted, packages):
                extras.setdefault(name, []).append(extra)
    return dict(sorted(extras.items()))
