"""Options as they are written, on the command line and in a request."""

from __future__ import annotations

from collections.abc import Sequence

from sarc_kb.errors import Finding, UsageError


def pairs(option: str, given: Sequence[str]) -> dict[str, str]:
    """Return the names and values of an option that is written ``NAME=VALUE``, in order.

    Raises:
        UsageError: one has no name or no value, or a name is given twice.
    """
    found: dict[str, str] = {}
    for text in given:
        name, equals, value = text.partition("=")
        if not equals or not name:
            raise UsageError(
                Finding(
                    "USE011",
                    "error",
                    f"{option} {text}",
                    "no name and value",
                    "nothing would change, silently",
                    f"write {option} NAME=VALUE",
                )
            )
        if name in found:
            raise UsageError(
                Finding(
                    "USE011",
                    "error",
                    f"{option} {text}",
                    "given twice",
                    "only one can hold",
                    "give it once",
                )
            )
        found[name] = value
    return found
