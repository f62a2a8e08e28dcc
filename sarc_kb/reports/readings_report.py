"""Whose verdict rests on which reading, as text or JSON."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from sarc_kb.errors import Finding
from sarc_kb.readings import Readings, Register, Turn
from sarc_kb.reports.escaping import visible, visible_in_json
from sarc_kb.reports.json_report import plain

if TYPE_CHECKING:
    from sarc_kb.cohort.screen import Screening


def render_text(
    register: Register, found: Sequence[Readings], faults: Sequence[Finding] = ()
) -> str:
    """Return, for each patient, what each reading turns, and then the counts."""
    lines = [f"READINGS  {register.name}: {_size(register)}", ""]
    for patient in found:
        treatment = f"; treatment {patient.conclusion}" if patient.conclusion else ""
        lines.append(f"{patient.patient}  {patient.verdict.value}{treatment}: {patient.text}")
        if not patient.holds:
            lines.append(f"    between {patient.worst.value} and {patient.best.value}")
        lines += [f"    {_turn(patient, t)}" for t in patient.turns]
        lines.append("")
    lines += [f"{fault.where}: not judged: {fault.found}" for fault in faults]
    if len(found) > 1:
        holding = sum(p.holds for p in found)
        lines += [
            f"{len(found)} patients: the verdict of {holding} holds under every reading",
            *(f"    {row}" for row in _count_rows(found)),
        ]
    return "\n".join(map(visible, lines)).rstrip() + "\n"


def _size(register: Register) -> str:
    return (
        f"{len(register.default.ambiguities)} entries, {len(register.switches)} readings beside "
        f"the defaults, {len(register.unrunnable)} that cannot be run"
    )


def _turn(patient: Readings, turn: Turn) -> str:
    what = []
    if turn.turns_verdict:
        what.append(f"{patient.verdict.value} -> {turn.verdict.value}")
    if turn.turns_conclusion:
        names = (patient.conclusion, turn.conclusion)
        what.append("treatment " + " -> ".join(n or "none on record" for n in names))
    if not what:
        what.append("same verdict")
    rules = ", ".join(f"{name} {a} -> {b}" for name, a, b in turn.rules)
    return f"{turn.entry}={turn.reading}: {'; '.join(what)}" + (f" ({rules})" if rules else "")


def _counts(found: Iterable[Readings]) -> Counter[tuple[str, str, str, str]]:
    return Counter(
        (t.entry, t.reading, p.verdict.value, t.verdict.value)
        for p in found
        for t in p.turns
        if t.turns_verdict
    )


def _count_rows(found: Iterable[Readings]) -> list[str]:
    return [
        f"{entry}={reading}: {old} -> {new}: {n}"
        for (entry, reading, old, new), n in sorted(_counts(found).items())
    ]


def render_json(
    register: Register, found: Sequence[Readings], faults: Sequence[Finding] = ()
) -> str:
    """Return the same as one JSON document."""
    document: dict[str, object] = {
        "trial": register.name,
        "knowledge_base": register.kb.info.sha256,
        "patients": [
            {
                "patient": p.patient,
                "verdict": p.verdict.value,
                "treatment": p.conclusion,
                "holds_under_every_reading": p.holds,
                "worst": p.worst.value,
                "best": p.best.value,
                "depends_on": list(p.depends_on),
                "readings": [
                    {
                        "entry": t.entry,
                        "reading": t.reading,
                        "verdict": t.verdict.value,
                        "turns_verdict": t.turns_verdict,
                        "treatment": t.conclusion,
                        "turns_treatment": t.turns_conclusion,
                        "rules": [{"rule": n, "from": a, "to": b} for n, a, b in t.rules],
                    }
                    for t in p.turns
                ],
            }
            for p in found
        ],
        "counts": [
            {"entry": e, "reading": r, "from": a, "to": b, "patients": n}
            for (e, r, a, b), n in sorted(_counts(found).items())
        ],
        "not_judged": [plain(f) for f in faults],
        "unrunnable": _unrunnable(register),
    }
    return _as_json(document)


def _unrunnable(register: Register) -> list[dict[str, str]]:
    return [{"entry": u.entry, "reading": u.reading, "because": u.why} for u in register.unrunnable]


def render_counts(register: Register, found: Screening) -> str:
    """Return the counts of a cohort, each reading alone."""
    verdicts = ", ".join(f"{name} {n}" for name, n in found.trials[0].verdicts)
    lines = [
        f"READINGS  {register.name}: {_size(register)}",
        "",
        f"{found.patients} patients, by default: {verdicts}",
        "Each reading alone; who holds under all of them together is told without --counts.",
        "",
    ]
    names = {s.name for s in register.switches}
    for change in found.changes:
        if change.change not in names:
            continue
        told = [f"{a} -> {b}: {n}" for a, b, n in change.flips]
        told += [
            f"treatment {a or 'none'} -> {b or 'none'}: {n}" for a, b, n in change.treatment_flips
        ]
        lines.append(f"{change.change}: {'; '.join(told) or 'nobody'}")
    return "\n".join(map(visible, lines)) + "\n"


def render_counts_json(register: Register, found: Screening) -> str:
    """Return the same as one JSON document."""
    names = {s.name: s for s in register.switches}
    document: dict[str, object] = {
        "trial": register.name,
        "knowledge_base": register.kb.info.sha256,
        "patients": found.patients,
        "not_judged": found.not_judged,
        "verdicts": dict(found.trials[0].verdicts),
        "counts": [
            {
                "entry": names[change.change].entry,
                "reading": names[change.change].reading,
                "part": part,
                "from": a,
                "to": b,
                "patients": n,
            }
            for change in found.changes
            if change.change in names
            for part, flips in (
                ("eligibility", change.flips),
                ("treatment", change.treatment_flips),
            )
            for a, b, n in flips
        ],
        "unrunnable": _unrunnable(register),
    }
    return _as_json(document)


def _as_json(document: dict[str, object]) -> str:
    return visible_in_json(json.dumps(document, ensure_ascii=False, indent=2)) + "\n"
