"""docs/licences.md: under which licences stands what a user installs.

    python -m supply.licences          writes the page
    python -m supply.licences --check  writes nothing, fails if it is stale

A licence is read from what is installed: an SPDX expression where the package states one, else what
is known of its words. Each must be one that we allow, for the reason given here.
"""

from __future__ import annotations

import sys
from functools import cache
from importlib.metadata import Distribution

from license_expression import AND, OR, ExpressionError, get_spdx_licensing

from supply.packages import ALWAYS, DEV_LOCK, ROOT, installed, of_users, read_lock

SPDX = cache(get_spdx_licensing)
PAGE = ROOT / "docs" / "licences.md"
START, END = "<!-- licences: written by `make licences` -->", "<!-- licences: end -->"

ALLOWED = {
    "0BSD": "asks for nothing",
    "Apache-2.0": "keep the notices; our own licence",
    "BSD-2-Clause": "keep the notice",
    "BSD-3-Clause": "keep the notice, lend no names",
    "CC0-1.0": "asks for nothing",
    "LGPL-3.0-only": "used as a library of its own, which anybody may exchange; not part of our files",
    "LGPL-3.0-or-later": "used as a library of its own, which anybody may exchange; not part of our files",
    "MIT": "keep the notice",
    "MPL-2.0": "asks for the source of its own files alone, which we do not change",
    "PSF-2.0": "keep the notice; Python's own licence",
    "W3C-20150513": "keep the notice",
    "Zlib": "do not claim to have written it",
}
"""The licences under which a package may stand that users install, by SPDX identifier."""

CLASSIFIERS = {
    "License :: OSI Approved :: Apache Software License": "Apache-2.0",
    "License :: OSI Approved :: MIT License": "MIT",
}
"""Those of PyPI's classifiers that name one licence. "BSD License" is one of several."""

READ = {
    "jinja2": "BSD-3-Clause",
    "py4j": "BSD-3-Clause",
    "pyarrow-hotfix": "Apache-2.0",
    "z3-solver": "MIT",
}
"""What the licence files of packages say that state no SPDX expression; z3-solver brings no file and
says "MIT License"."""


def licence(name: str, found: Distribution) -> str | None:
    """Return the SPDX expression of a package, or None where none is stated or known."""
    fields = ("License-Expression", "License")
    for text in (t for f in fields for t in found.metadata.get_all(f) or ()):
        try:
            if "\n" not in text:
                return str(SPDX().parse(text, validate=True))
        except ExpressionError:
            pass
    stated = {
        CLASSIFIERS[c] for c in found.metadata.get_all("Classifier") or () if c in CLASSIFIERS
    }
    return READ.get(name) or (stated.pop() if len(stated) == 1 else None)


def allowed(expression: str) -> bool:
    """Return whether one of the ways that an SPDX expression leaves open is allowed.

    >>> allowed("GPL-3.0-only OR MIT"), allowed("GPL-3.0-only AND MIT")
    (True, False)
    """

    def holds(part: object) -> bool:
        if isinstance(part, OR):
            return any(map(holds, part.args))
        if isinstance(part, AND):
            return all(map(holds, part.args))
        return str(part) in ALLOWED

    return holds(SPDX().parse(expression, validate=True))


def table() -> str:
    """Return the two tables in Markdown: the packages, and why each licence is allowed.

    Raises:
        ValueError: a package states no licence that is known, or one that is not allowed.
    """
    packages = read_lock(DEV_LOCK)
    lines = ["| package | version | licence | comes with |", "|---|---|---|---|"]
    for name, extras in of_users().items():
        stated = licence(name, installed(packages[name]))
        if stated is None or not allowed(stated):
            raise ValueError(
                f"{name}: {stated or 'no licence that is known'}; read its licence file, then add to supply/licences.py, or do without it"
            )
        comes = "everything" if ALWAYS in extras else ", ".join(f"`{e}`" for e in extras)
        lines.append(f"| {name} | {packages[name].version} | {stated} | {comes} |")
    lines += ["", "| licence | why it is allowed |", "|---|---|"]
    lines += [f"| {name} | {reason} |" for name, reason in ALLOWED.items()]
    return "\n".join(lines)


def page() -> str:
    """Return the page with the tables as they should be."""
    before, _, rest = PAGE.read_text("utf-8").partition(START)
    return f"{before}{START}\n{table()}\n{END}{rest.partition(END)[2]}"


def main() -> int:
    fresh = page()
    if "--check" in sys.argv[1:]:
        return int(fresh != PAGE.read_text("utf-8"))
    PAGE.write_text(fresh, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
