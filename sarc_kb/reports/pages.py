"""What the HTML pages share: templates that escape every text, and a style sheet that a strict
content-security policy allows by its hash.

Source: HTML living standard; Content Security Policy 3 (hash sources).
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Callable, Mapping
from functools import cache
from hashlib import sha256
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from sarc_kb.assessment import Conclusion, Outcome, TreatmentOutcome, Verdict

if TYPE_CHECKING:
    from jinja2 import Environment


Tonal = Outcome | Verdict | TreatmentOutcome | Conclusion
TONES: Mapping[Tonal, tuple[str, str]] = {
    Outcome.FAIL: ("fail", "✗"),
    Outcome.UNDETERMINED: ("open", "?"),
    Outcome.PASS: ("pass", "✓"),
    Verdict.ELIGIBLE: ("pass", "✓"),
    Verdict.INELIGIBLE: ("fail", "✗"),
    Verdict.UNDETERMINED: ("open", "?"),
    Verdict.ERROR: ("fail", "!"),
    Verdict.NOT_ASKED: ("info", "–"),
    TreatmentOutcome.VIOLATION: ("fail", "✗"),
    TreatmentOutcome.UNDETERMINED: ("open", "?"),
    TreatmentOutcome.DEVIATION: ("open", "!"),
    TreatmentOutcome.NOT_YET_APPLICABLE: ("info", "…"),
    TreatmentOutcome.PERMITTED: ("info", "i"),
    TreatmentOutcome.NOT_RULED: ("info", "i"),
    TreatmentOutcome.CONFORMANT: ("pass", "✓"),
    Conclusion.VIOLATION: ("fail", "✗"),
    Conclusion.UNDETERMINED: ("open", "?"),
    Conclusion.DEVIATION: ("open", "!"),
    Conclusion.IN_PROGRESS: ("info", "…"),
    Conclusion.CONFORMANT: ("pass", "✓"),
}
"""The colour and the sign of an outcome: what is told by the one is told by the other, and in words."""


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
