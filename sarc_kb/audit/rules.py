"""Is the rule base well-formed? What ``sarc-kb check`` finds, and rules that are written twice."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields

from sarc_kb.audit.section import Request, Section
from sarc_kb.audit.shared import compiled
from sarc_kb.errors import Finding, RuleBaseError
from sarc_kb.kb import KnowledgeBase
from sarc_kb.rule_check import check_rule_base
from sarc_kb.rules import Clause, Role, Trial, Window


def audit(kb: KnowledgeBase, request: Request) -> Section:
    """Return every fault of the files of one trial's rules."""
    report = check_rule_base(kb, request.trial)
    findings = list(report.findings)
    try:
        trial = compiled(kb, request.trial)
    except RuleBaseError:
        doubled: list[tuple[Clause, Clause]] = []  # the check has told why
    else:
        doubled = list(repeated(trial))
    findings += [_doubled(one, other) for one, other in doubled]
    also = f"; {len(doubled)} written twice" if doubled else ""
    return Section(
        "rules",
        report.summary + also,
        document={
            "faults": len(findings),
            "written_twice": [[one.id, other.id] for one, other in doubled],
        },
        findings=tuple(findings),
    )


def repeated(trial: Trial) -> Iterator[tuple[Clause, Clause]]:
    """Yield each clause that says what an earlier one says: the same component with the same
    parameters, from the same words of the source. That a protocol says a thing twice in other words
    is no fault of the rules."""
    seen: dict[object, Clause] = {}
    for part in trial.parts:
        for clause in part.clauses.values():
            said = (
                clause.component,
                _content(part, clause.role),
                _content(part, clause.second),
                clause.gap,
                clause.settled_by,
                clause.unit,
                clause.text.quote,
                clause.text.locator,
                # Judgements have no parameters: what is asked for is in their name.
                clause.text.label if clause.role is None else "",
            )
            first = seen.setdefault(said, clause)
            if first.iri != clause.iri:
                yield first, clause


def _content(part: Trial, role: Role | None) -> object:
    """Return what a role selects, whatever the things are called that it names."""
    if role is None:
        return None
    sets = [part.set_of(name) for name in (role.concept_set, role.accepted)]
    window = part.windows.get(role.window)
    qualifier = part.qualifiers.get(role.qualifier)
    return (
        tuple((s.members, s.excluding, s.kind, s.by_name) for s in sets),
        None if window is None else _nameless(window),
        None if qualifier is None else qualifier.requires,
        role.bounds,
    )


def _nameless(window: Window) -> tuple[object, ...]:
    return tuple(getattr(window, f.name) for f in fields(window) if f.name != "iri")


def _doubled(one: Clause, other: Clause) -> Finding:
    return Finding(
        "AUDIT010",
        "error",
        other.id,
        f"it says what {one.id} ({one.text.label}) says: the same parameters, from the same words",
        "who changes one of them and not the other has two rules for one sentence",
        f"take one of them out, or let the joins name {one.id} twice",
    )
