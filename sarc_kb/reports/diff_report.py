"""What differs between two knowledge bases, as text, Markdown or JSON."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict

from sarc_kb.diff.model import Change, Difference, RuleChange, ThingChange, TrialDiff
from sarc_kb.reports.escaping import visible, visible_in_json

_SHOWN = 12
"""Changes and patients of one sort that a text lists; JSON has all."""
_SIGNS = {"added": "+", "removed": "-", "changed": "~", "reached": "~"}


def render_json(found: Difference) -> str:
    """Return everything as one JSON document."""
    document = {"changed": found.changed, **asdict(found)}
    return visible_in_json(json.dumps(document, ensure_ascii=False, indent=2)) + "\n"


def render_text(found: Difference) -> str:
    """Return what differs, for reading."""
    lines = [f"DIFF  {found.old} -> {found.new}", ""]
    for trial in found.trials:
        lines += [f"{trial.trial}: {_summary(trial)}", ""]
        for rule in trial.rules:
            lines.append(f"{_SIGNS[rule.kind]} {rule.rule}  {rule.label}  [{_kind(rule)}]")
            lines += [f"    {text}" for text in _changes(rule.changes)]
            lines += [f"    {text}" for text in _witness(rule)]
            if rule.witness is not None:
                lines += [f"      {row}" for row in _body(rule.witness.turtle)]
            lines.append("")
        for title, things in _grouped(trial):
            lines.append(title)
            for thing in things:
                lines.append(f"  {_SIGNS[thing.kind]} {thing.name}  [{_thing(thing)}]")
                lines += [f"      {text}" for text in _changes(thing.changes)]
            lines.append("")
        lines += [*_notes(trial), *_cohort(trial)]
    while lines[-1] == "":
        lines.pop()
    return "\n".join(visible(line) for line in lines) + "\n"


def render_markdown(found: Difference) -> str:
    """Return what differs, for a page or a comment on a proposed change."""
    lines = [f"# Rules: `{_code(found.old)}` → `{_code(found.new)}`", ""]
    for trial in found.trials:
        lines += [f"## {_escaped(trial.trial)}", "", _escaped(_summary(trial)) + ".", ""]
        for rule in trial.rules:
            lines += [
                f"### {_escaped(rule.rule)} {_escaped(rule.label)}",
                "",
                f"*{_kind(rule)}*",
                "",
            ]
            lines += [f"- {_escaped(text)}" for text in _changes(rule.changes)]
            lines += ["", *(_escaped(text) for text in _witness(rule)), ""]
            if rule.witness is not None:
                turtle = "\n".join(_body(rule.witness.turtle, prefixes=True))
                fence = "`" * max(3, 1 + _longest_run(turtle))
                lines += [f"{fence}turtle", turtle, fence, ""]
        for title, things in _grouped(trial):
            lines += [f"### {_escaped(title)}", ""]
            for thing in things:
                lines.append(f"- **{_escaped(thing.name)}** ({_escaped(_thing(thing))})")
                lines += [f"  - {_escaped(text)}" for text in _changes(thing.changes)]
            lines.append("")
        notes = [*_notes(trial), *_cohort(trial)]
        lines += [
            _escaped(n.strip()) if not n.startswith("  ") else f"- {_escaped(n.strip())}"
            for n in notes
        ]
        lines.append("")
    while lines[-1] == "":
        lines.pop()
    return "\n".join(visible(line) for text in lines for line in text.split("\n")) + "\n"


def _summary(trial: TrialDiff) -> str:
    if trial.kind in ("added", "removed"):
        return f"the whole trial was {trial.kind}"
    if trial.kind == "same":
        return "no semantic change"
    flipping = sum(rule.witness is not None for rule in trial.rules)
    return (
        f"{_count(len(trial.rules), 'rule')}, {_count(len(trial.things), 'other thing')} changed; "
        f"{flipping} with a witness; {_count(trial.looked_at, 'patient')} looked at"
    )


def _count(number: int, word: str) -> str:
    return f"{number} {word}{'' if number == 1 else 's'}"


def _kind(rule: RuleChange) -> str:
    return "reached by what changed elsewhere" if rule.kind == "reached" else rule.kind


def _thing(thing: ThingChange) -> str:
    used = f"; used by {', '.join(thing.used_by)}" if thing.used_by else ""
    return f"{thing.area}, {thing.kind}{used}"


def _changes(changes: tuple[Change, ...]) -> Iterator[str]:
    for change in changes[:_SHOWN]:
        if change.old is None:
            yield f"{change.aspect}: + {change.new}"
        elif change.new is None:
            yield f"{change.aspect}: - {change.old}"
        else:
            yield f"{change.aspect}: {change.old} -> {change.new}"
    if len(changes) > _SHOWN:
        yield f"and {len(changes) - _SHOWN} more; see --format json"


def _witness(rule: RuleChange) -> Iterator[str]:
    w = rule.witness
    if w is None:
        yield f"no witness: {rule.no_witness}"
        return
    where = "" if w.rule == rule.rule else f"{w.rule} "
    as_of = f", judged as of {w.as_of}" if w.as_of else ""
    yield (
        f"witness: {where}{w.old} -> {w.new} (the patient: {w.old_verdict} -> {w.new_verdict}); "
        f"{_count(w.facts, 'fact')}, {w.made}{as_of}"
    )


def _body(turtle: str, *, prefixes: bool = False) -> list[str]:
    """Return the lines of a patient; prefixes that are not used are left out."""
    rows = turtle.strip().split("\n")
    used = "\n".join(row for row in rows if not row.startswith("@prefix"))
    kept = []
    for row in rows:
        if row.startswith("@prefix"):
            if prefixes and f"{row.split()[1]}" in used:
                kept.append(row)
        elif row or kept:
            kept.append(row)
    return kept


def _grouped(trial: TrialDiff) -> Iterator[tuple[str, list[ThingChange]]]:
    groups = (
        ("Register", lambda t: "ambiguity" in t.area or "reading" in t.area),
        ("Codes", lambda t: t.area == "mapping of a code"),
        ("Definitions and terms", lambda _: True),
    )
    left = list(trial.things)
    for title, wanted in groups:
        inside = [t for t in left if wanted(t)]
        left = [t for t in left if t not in inside]
        if inside:
            yield title, inside


def _notes(trial: TrialDiff) -> Iterator[str]:
    if trial.renames:
        yield "Renamed, with the same content:"
        yield from (f"  {old} -> {new}" for old, new in trial.renames)
        yield ""
    if trial.texts:
        yield f"Labels and explanations of {_count(trial.texts, 'thing')} differ; no change."
        yield ""


def _cohort(trial: TrialDiff) -> Iterator[str]:
    c = trial.cohort
    if c is None:
        return
    lost = f", {c.not_judged} could not be judged" if c.not_judged else ""
    yield f"Cohort: {_count(c.patients, 'patient')}{lost}; {_count(len(c.flips), 'flip')}."
    yield from (f"  {old} -> {new}: {n}" for old, new, n in c.counts if old != new)
    for flip in c.flips[:_SHOWN]:
        rules = "; ".join(f"{name} {a} -> {b}" for name, a, b in flip.rules)
        verdict = f"{flip.old} -> {flip.new}" if flip.old != flip.new else f"still {flip.old}"
        treatment = (
            f"; treatment {flip.old_treatment} -> {flip.new_treatment}"
            if flip.old_treatment != flip.new_treatment
            else ""
        )
        yield f"  {flip.patient}: {verdict}{treatment}" + (f" ({rules})" if rules else "")
    if len(c.flips) > _SHOWN:
        yield f"  and {len(c.flips) - _SHOWN} more; see --format json"
    yield ""


def _escaped(text: str) -> str:
    """Return a text that Markdown shows as it is."""
    shown = " ".join(text.split())
    for mark in "\\`*_[]<#|":
        shown = shown.replace(mark, "\\" + mark)
    return shown


def _code(text: str) -> str:
    return text.replace("`", "'")


def _longest_run(text: str) -> int:
    longest = run = 0
    for character in text:
        run = run + 1 if character == "`" else 0
        longest = max(longest, run)
    return longest
