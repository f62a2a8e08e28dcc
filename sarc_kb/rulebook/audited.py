"""What an audit of the rule base came to: the JSON document of ``sarc-kb audit``, or the part about
the source alone, which takes no time."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sarc_kb.audit.section import Request, Section
from sarc_kb.audit.source import audit as audit_source
from sarc_kb.errors import Finding, UsageError
from sarc_kb.kb import KnowledgeBase
from sarc_kb.reports.json_report import plain

Part = Mapping[str, Any]


def source_part(kb: KnowledgeBase, trial: str) -> Part:
    """Return the audit of the source, as `read_audit` gives it."""
    section: Section = audit_source(kb, Request(trial))
    return {
        "name": section.name,
        "passed": section.passed,
        "summary": section.summary,
        "findings": [plain(f) for f in section.findings],
        **section.document,
    }


def read_audit(path: Path, kb: KnowledgeBase, trial: str) -> dict[str, Part]:
    """Return the parts of an audit by their names.

    Raises:
        UsageError: the file cannot be read, or is about another trial or other rules.
    """
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise _fault(path, f"cannot be read: {error.strerror}") from None
    except (UnicodeDecodeError, json.JSONDecodeError):
        raise _fault(path, "not JSON in UTF-8") from None
    parts = document.get("parts") if isinstance(document, dict) else None
    if not isinstance(parts, list) or not all(
        isinstance(p, dict)
        and isinstance(p.get("name"), str)
        and isinstance(p.get("passed"), bool)
        and isinstance(p.get("summary"), str)
        and isinstance(p.get("findings"), list)
        for p in parts
    ):
        raise _fault(path, "not the JSON document of an audit")
    if document.get("trial") != trial:
        raise _fault(path, f"about {document.get('trial')!s:.40}, and not {trial}")
    if document.get("knowledge_base") != kb.info.sha256:
        raise _fault(path, "about other rules than these: their digests differ")
    return {p["name"]: p for p in parts}


def wrong_shape(path: Path, part: str) -> UsageError:
    """Return the error for a part that lacks what the page shows."""
    return _fault(path, f"its part {part} is not as `sarc-kb audit` writes it")


def _fault(path: Path, found: str) -> UsageError:
    return UsageError(
        Finding(
            "USE082",
            "error",
            f"--audit {path}",
            found,
            "the book would say what is not so of these rules",
            "write it anew: sarc-kb audit --format json --output FILE.json",
        )
    )
