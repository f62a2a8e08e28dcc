"""The lowest version of each package that pyproject.toml allows a user, as constraints for pip.

python -m supply.lowest >constraints.txt
"""

from __future__ import annotations

from pathlib import Path

from supply.packages import DEVELOPERS, PROJECT, requirements


def lowest(project: Path = PROJECT) -> dict[str, str]:
    """Return the lower bound of each package by its name: ``{"rdflib": "7.6", ...}``.

    Raises:
        ValueError: a requirement has no lower bound, or two extras name different ones.
    """
    found: dict[str, str] = {}
    for extra, wanted in requirements(project).items():
        for requirement in wanted if extra != DEVELOPERS else ():
            bounds = [s.version for s in requirement.specifier if s.operator == ">="]
            if len(bounds) != 1 or found.setdefault(requirement.name, bounds[0]) != bounds[0]:
                raise ValueError(
                    f"pyproject.toml: {requirement}: one lower bound is needed, the same everywhere"
                )
    return dict(sorted(found.items()))


if __name__ == "__main__":
    for name, version in lowest().items():
        print(f"{name}=={version}")
