"""The register of ambiguities: which readings can be run, and what they change for the cases."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from rdflib import URIRef

from sarc_kb.audit.section import Request, Section
from sarc_kb.audit.shared import cases_of
from sarc_kb.cases import Case, part_of
from sarc_kb.errors import Finding, InputError
from sarc_kb.judging import at_entry, in_treatment
from sarc_kb.kb import KnowledgeBase
from sarc_kb.namespaces import SARC
from sarc_kb.readings import Register, Switch
from sarc_kb.rules import Trial
from sarc_kb.treatment import last_day

_ABOUT = 4
"""Cases of each rule that an entry touches that are looked at, unless all are asked for."""


def audit(kb: KnowledgeBase, request: Request) -> Section:
    """Return the part of the audit about the register.

    A reading is used by the cases that ask for it; it has an effect where some case comes out
    otherwise under it than by default. ``full``: every case of the rules an entry affects.
    """
    register = Register(kb, request.trial)
    cases = cases_of(kb, request.trial)
    affected = {
        entry.id: {
            str(rule) for rule in register.default.graph.objects(URIRef(entry.iri), SARC.affects)
        }
        for entry in register.default.ambiguities
    }
    findings: list[Finding] = []
    entries: list[dict[str, object]] = []
    lines: list[str] = []
    for entry in register.default.ambiguities:
        switches = [s for s in register.switches if s.entry == entry.id]
        barred = [u for u in register.unrunnable if u.entry == entry.id]
        silent = [name for e, name in register.silent if e == entry.id]
        own = [c for c in cases if entry.id in c.readings]
        near = [c for c in cases if c.rule in affected[entry.id]]
        told = []
        for switch in switches:
            using = sorted(c.id for c in own if c.readings[entry.id] == switch.reading)
            effect = _effect(kb, register.default, switch, own, near, full=request.full)
            told.append(
                {
                    "reading": switch.reading,
                    "label": switch.label,
                    "cases": using,
                    "effect_shown_by": effect,
                }
            )
            if not using:
                findings.append(_unproven(switch))
        if switches and not any(t["effect_shown_by"] for t in told):
            findings.append(_idle(entry.id, entry.label))
        lines.append(f"{entry.id}  {entry.label}; default: {entry.default or 'none'}")
        for t in told:
            names = t["cases"]
            assert isinstance(names, list)
            effect_text = t["effect_shown_by"] or "no case"
            lines.append(
                f"    {t['reading']}: {t['label']}; {len(names)} case{'' if len(names) == 1 else 's'}; effect shown by {effect_text}"
            )
        lines += [f"    {u.reading}: cannot be run: {u.why}" for u in barred]
        lines += [f"    {name}: changes no rule" for name in silent]
        findings += [
            Finding(
                "AUDIT070",
                "info",
                f"{u.entry}={u.reading}",
                "this reading cannot be run",
                u.why,
                "nothing; who holds with it must judge by hand",
            )
            for u in barred
        ]
        entries.append(
            {
                "entry": entry.id,
                "label": entry.label,
                "default": entry.default,
                "runnable": told,
                "unrunnable": [
                    {"reading": u.reading, "label": u.label, "because": u.why} for u in barred
                ],
                "changes_no_rule": silent,
            }
        )
    idle = sum(f.code == "AUDIT072" for f in findings)
    used = {name for c in cases for name in c.readings.items()}
    summary = (
        f"{len(register.default.ambiguities)} entries, {len(register.switches)} readings that can "
        f"be run beside the defaults, {sum((s.entry, s.reading) in used for s in register.switches)} "
        f"with cases, {len(register.unrunnable)} that cannot be run; "
        f"{idle} entries without an effect on any case"
    )
    return Section("register", summary, tuple(lines), {"entries": entries}, tuple(findings))


def _effect(
    kb: KnowledgeBase,
    default: Trial,
    switch: Switch,
    own: Iterable[Case],
    near: Iterable[Case],
    *,
    full: bool,
) -> str | None:
    """Return a case that comes out otherwise under a reading than by default."""
    by_rule: dict[str, int] = {}
    for case in (*own, *near):
        seen = by_rule.get(case.rule, 0)
        if not full and case not in own and seen >= _ABOUT:
            continue
        by_rule[case.rule] = seen + 1
        one, other = _outcomes(kb, case, default), _outcomes(kb, case, switch.trial)
        if (one is None) is not (other is None):
            return case.id
        # What nobody asks for under one of them says nothing about this case.
        if (
            one is not None
            and other is not None
            and any(one[rule] != other[rule] for rule in one.keys() & other.keys())
        ):
            return case.id
    return None


def _outcomes(kb: KnowledgeBase, case: Case, trial: Trial) -> dict[object, object] | None:
    """Return the outcomes of clauses and of rules; None where nobody asks for the case's rule."""
    try:
        part = part_of(trial, case.rule)
    except KeyError:
        # Nobody asks for the rule under this reading, or for the clause.
        return None
    tables: tuple[Mapping[str, object], Mapping[str, object]]
    try:
        if part.course is None:
            tables = at_entry(kb.prepare(case.record, part, as_of=case.as_of))
        else:
            as_of = case.as_of or last_day(case.record)
            prepared = kb.prepare(case.record, part, as_of=as_of)
            tables = in_treatment(prepared, kb.prepare(case.record, trial))
    except InputError:
        return None
    return {(n, iri): outcome for n in (0, 1) for iri, outcome in tables[n].items()}


def _unproven(switch: Switch) -> Finding:
    return Finding(
        "AUDIT071",
        "info",
        switch.name,
        "no case uses this reading",
        "what it changes is not shown",
        "write a case with sarc:withReading",
    )


def _idle(entry: str, label: str) -> Finding:
    return Finding(
        "AUDIT072",
        "warning",
        entry,
        f"no reading of “{label}” changes the outcome of any case looked at",
        "either the readings mean the same, or no case shows the difference",
        "write a case that tells them apart, or ask whether the entry is needed",
    )
