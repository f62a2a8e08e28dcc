"""What the HTML pages share: templates that escape every text, and a style sheet that a strict
content-security policy allows by its hash.

Source: HTML living standard; Content Security Policy 3 (hash sources).
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Callable
from functools import cache
from hashlib import sha256
from importlib.resources import files
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jinja2 import Environment


def environment(
    package: str = "sarc_kb.reports", *, finalize: Callable[[Any], Any] | None = None
) -> Environment:
    """Return an environment for the templates of a package, in which an unknown name is an error.

    ``finalize``: what every value is put through before it is shown.
    """
    from jinja2 import Environment, PackageLoader, StrictUndefined

    return Environment(
        loader=PackageLoader(package),
        finalize=finalize,
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )


@cache
def style(*names: str) -> str:
    """Return the named style sheets, one after the other."""
    folder = files("sarc_kb") / "reports" / "templates"
    return "".join((folder / name).read_text("utf-8") for name in names)


def style_hash(*names: str) -> str:
    """Return the hash of the style sheets, as a content-security policy names it."""
    digest = sha256(style(*names).encode("utf-8")).digest()
    return f"sha256-{b64encode(digest).decode('ascii')}"
