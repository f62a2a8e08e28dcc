"""What an audit comes to, on one page of text, as JSON, and as one page of HTML."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from sarc_kb.assessment import KnowledgeBaseInfo
from sarc_kb.audit.run import PARTS
from sarc_kb.audit.section import Section, Status
from sarc_kb.errors import Finding
from sarc_kb.namespaces import BASE
from sarc_kb.reports import pages
from sarc_kb.reports.escaping import visible, visible_in_json
from sarc_kb.reports.findings_report import Checked, Locate, render_junit, render_sarif
from sarc_kb.reports.json_report import plain

SCHEMA = BASE + "schema/audit/1"
_STYLE = "audit.css"
_WORDS: dict[Status, str] = {
    "passed": "passed",
    "failed": "FAILED",
    "could not run": "NOT RUN",
}
_SEVERITIES = (("error", "error"), ("warning", "warning"), ("info", "remark"))


@dataclass(frozen=True, slots=True)
class Audit:
    """What was audited, and what its parts come to. ``version``: that of the trial's rules."""

    trial: str
    title: str
    version: str
    knowledge_base: KnowledgeBaseInfo
    parts: tuple[Section, ...]

    @property
    def status(self) -> Status:
        """The worst of the parts."""
        found = {part.status for part in self.parts}
        return next((s for s in _WORST if s in found), "passed")


_WORST: tuple[Status, ...] = ("could not run", "failed")


# -- text ------------------------------------------------------------------------------------------
def render_text(audit: Audit, *, verbose: bool, width: int = 100) -> str:
    """Return the page: a line a part, and every error in full; ``verbose`` adds all details."""
    kb = audit.knowledge_base
    lines = [
        f"AUDIT  {audit.trial}  rules {audit.version}, sarc-kb {kb.version}",
        f"rule base sha256 {kb.sha256}",
        "",
    ]
    for part in audit.parts:
        line = f"{part.name:<11} {_WORDS[part.status]:<7}  {visible(part.summary)}"
        lines += _folded(line, width, 21)
        shown = (f for f in part.findings if verbose or f.severity == "error")
        for finding in (*part.not_run, *shown):
            lines += _finding(finding)
        if verbose and part.lines:
            lines += ["", *(visible(line) for line in part.lines), ""]
    lines += ["", *(line for told in _last(audit, verbose) for line in _folded(told, width, 4))]
    return "\n".join(lines) + "\n"


def _folded(line: str, width: int, indent: int) -> list[str]:
    return textwrap.wrap(
        line, width, subsequent_indent=" " * indent, break_long_words=False, break_on_hyphens=False
    )


def _finding(finding: Finding) -> Iterator[str]:
    yield f"  {finding.severity} {finding.code} {visible(finding.where)}"
    for name in ("found", "why", "fix"):
        yield f"    {name:<5} {visible(getattr(finding, name))}"


def _last(audit: Audit, verbose: bool) -> Iterator[str]:
    """Yield the last lines: what all parts come to, and what the page has not told."""
    passed = sum(part.passed for part in audit.parts)
    yield f"{_WORDS[audit.status]}: {passed} of {len(audit.parts)} parts passed"
    if verbose:
        return
    for severity, word in _SEVERITIES[1:]:
        count = [(p.name, sum(f.severity == severity for f in p.findings)) for p in audit.parts]
        told = [f"{name} {n}" for name, n in count if n]
        total = sum(n for _, n in count)
        if told:
            yield f"{total} {word}{'' if total == 1 else 's'} ({', '.join(told)}): --verbose"


# -- JSON ------------------------------------------------------------------------------------------
def render_json(audit: Audit) -> str:
    """Return the document of ``sarc_kb/schema/audit-1.schema.json``."""
    document = {
        "schema": SCHEMA,
        "trial": audit.trial,
        "version": audit.version,
        "knowledge_base": plain(audit.knowledge_base),
        "status": audit.status,
        "passed": audit.status == "passed",
        "parts": [
            {
                "name": part.name,
                "status": part.status,
                "passed": part.passed,
                "summary": part.summary,
                "findings": plain(part.findings),
                "not_run": plain(part.not_run),
                **part.document,
            }
            for part in audit.parts
        ],
    }
    return visible_in_json(json.dumps(document, ensure_ascii=False, indent=2)) + "\n"


# -- SARIF, JUnit ----------------------------------------------------------------------------------
def render_findings(audit: Audit, form: str, locate: Locate) -> str:
    """Return the findings as ``sarif`` or ``junit``."""
    checks = [Checked(p.name, PARTS[p.name], p.summary, p.findings, p.not_run) for p in audit.parts]
    about = {
        "trial": audit.trial,
        "version": audit.version,
        "knowledge_base": audit.knowledge_base.sha256,
    }
    if form == "sarif":
        return render_sarif(checks, locate, about)
    return render_junit("sarc-kb.audit", checks, about)


# -- HTML ------------------------------------------------------------------------------------------
def render_html(audit: Audit) -> str:
    """Return one page that needs nothing else: no script, no other file, no network."""
    environment = pages.environment()
    environment.filters["visible"] = visible
    return environment.get_template("audit.html.j2").render(
        audit=audit,
        words=_WORDS,
        about=PARTS,
        counts=_counts(audit.parts),
        style=pages.style(_STYLE),
        style_hash=pages.style_hash(_STYLE),
    )


def _counts(parts: Sequence[Section]) -> list[str]:
    return [_counted(part.findings) for part in parts]


def _counted(findings: Iterable[Finding]) -> str:
    found: list[str] = [f.severity for f in findings]
    told = [
        f"{n} {word}{'' if n == 1 else 's'}" for s, word in _SEVERITIES if (n := found.count(s))
    ]
    return ", ".join(told) or "nothing"
