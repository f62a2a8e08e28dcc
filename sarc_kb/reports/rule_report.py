"""Rules for the terminal: the list, one rule explained, policies, the register."""

from __future__ import annotations

import textwrap
from pathlib import Path

from rdflib import Graph, URIRef

from sarc_kb.errors import Finding, UsageError
from sarc_kb.namespaces import RDF, SARC, compact, local_name
from sarc_kb.reports.escaping import visible
from sarc_kb.rules import ANY, EVER, Clause, Criterion, Role, Trial
from sarc_kb.terminology import Terminology

_WIDTH = 100


def render_rules(trial: Trial, terms: Terminology) -> str:
    """Return every criterion and treatment rule with its tree of clauses, one line each."""
    lines = [f"{trial.id}  {trial.title}", ""]
    for criterion in trial.criteria:
        lines += _rule_lines(trial, terms, criterion, criterion.kind)
    lines += ["", f"{len(trial.criteria)} criteria, {len(trial.clauses)} clauses"]
    part = trial.treatment
    if part is not None:
        lines.append("")
        for rule in part.criteria:
            lines += _rule_lines(part, terms, rule, _words(rule.modality))
        lines += [f"{d.id}  definition: {d.text.label}" for d in part.definitions]
        lines += ["", f"{len(part.criteria)} treatment rules, {len(part.clauses)} clauses"]
    return "\n".join(lines)


def _rule_lines(trial: Trial, terms: Terminology, rule: Criterion, kind: str) -> list[str]:
    lines = [f"{rule.id}  {kind}: {rule.text.label}"]
    if rule.compares is not None:
        return [*lines, f"    {trial.clauses[rule.compares].id} as it came out at entry"]
    if rule.root in trial.joins:
        return [*lines, *_tree(trial, terms, rule.root, 1)]
    return [*lines, f"    {clause_line(trial, terms, trial.clauses[rule.root])}"]


def _tree(trial: Trial, terms: Terminology, node: str, depth: int) -> list[str]:
    pad = "    " * depth
    if node in trial.joins:
        join = trial.joins[node]
        lines = [f"{pad}{'all of' if join.operator == 'and' else 'any of'}"]
        for child in join.children:
            lines += _tree(trial, terms, child, depth + 1)
        return lines
    clause = trial.clauses[node]
    return [f"{pad}{clause.id:<7}{clause_line(trial, terms, clause)}"]


def clause_line(trial: Trial, terms: Terminology, clause: Clause) -> str:
    """Return what a clause demands in one line."""
    if clause.role is None:
        return f"{clause.text.label}: a person's answer"
    text = f"{clause.component} {_role(trial, terms, clause.role, clause.unit)}"
    if clause.second is not None and clause.gap is not None:
        text += f" with {_role(trial, terms, clause.second, clause.unit)}, {clause.gap[0]} to {clause.gap[1]} min apart"
    if clause.relaxed:
        text += f" [relaxed: {', '.join(clause.relaxed)}]"
    return text


def _role(trial: Trial, terms: Terminology, role: Role, unit: str) -> str:
    parts = [trial.label(role.concept_set, terms)]
    if role.accepted != ANY:
        parts.append(f"is {trial.label(role.accepted, terms)}")
    if role.bounds.used:
        parts.append(role.bounds.text(unit))
    if role.qualifier != ANY:
        parts.append(f"[{trial.label(role.qualifier, terms)}]")
    if role.window != EVER:
        parts.append(f"({trial.label(role.window, terms)})")
    return " ".join(parts)


def render_rule(trial: Trial, terms: Terminology, rule: str, folder: Path) -> str:
    """Return one rule as a page: its words, its reading, what it needs, its limits and cases.

    Raises:
        UsageError: no such rule.
    """
    definitions = trial.treatment.definitions if trial.treatment is not None else ()
    definition = next((d for d in definitions if d.id == rule), None)
    trial = next((part for part in trial.parts if rule in _names(part)), trial)
    criterion = next((c for c in trial.criteria if c.id == rule), None)
    clause = trial.clause_by_id(rule)
    join = next((j for j in trial.joins.values() if j.id == rule), None)
    if criterion is None and clause is None and join is None and definition is None:
        known = [n for part in trial.parts for n in _names(part)] + [d.id for d in definitions]
        raise UsageError(
            Finding(
                "USE013",
                "error",
                rule,
                "no such rule",
                "nothing to explain",
                "rules are: " + ", ".join(dict.fromkeys(known)),
            )
        )
    if criterion is not None:
        text, iri = criterion.text, criterion.iri
        kind = _kind(trial, criterion)
    elif clause is not None:
        text, iri, kind = clause.text, clause.iri, f"clause of {local_name(clause.criterion)}"
    elif definition is not None:
        text, iri = definition.text, definition.iri
        kind = f"definition of {trial.label(definition.defines, terms)}"
    else:
        assert join is not None
        return "\n".join([f"{join.id}  {join.label}", "", *_tree(trial, terms, join.iri, 0)])
    lines = [f"{trial.id} {rule}  {text.label}", f"{kind}; {_words(text.executability)}; {iri}"]
    _section(lines, "What the source says", [f"“{text.quote}”", text.locator])
    _section(lines, "How it is read", [text.interpretation])
    if text.resolves:
        names = {a.id: a for a in trial.ambiguities}
        _section(
            lines,
            "Ambiguities",
            [
                f"{name}: {names[name].label} (default: {names[name].default}; readings: {', '.join(r for r, _ in names[name].readings)})"
                if name in names
                else name
                for name in text.resolves
            ],
        )
    if clause is not None:
        body = [clause_line(trial, terms, clause)]
        if clause.limits:
            limits = [f"--relax {clause.id}:{n}={x}" for n, x in clause.limits.items()]
            body.append("to try another limit: " + " ".join(limits))
        _section(lines, "The rule", body, wrap=False)
    elif criterion is not None:
        _section(lines, "The rule", _tree(trial, terms, criterion.root, 0), wrap=False)
    if criterion is not None and criterion.due:
        _section(lines, "Not yet applicable", [trial.label(w, terms) for w in criterion.due])
    if clause is not None and clause.role is not None:
        needs = [
            f"facts: {trial.label(clause.role.concept_set, terms)} ({compact(clause.role.concept_set)})"
        ]
        codes = mapped_codes(trial, terms, clause.role.concept_set)
        if codes:
            needs.append("codes: " + ", ".join(codes[:12]) + (" …" if len(codes) > 12 else ""))
        if clause.unit:
            quantity = terms.quantity_of(clause.role.concept_set)
            accepted = ", ".join(sorted(quantity.accepts)) if quantity else clause.unit
            needs.append(f"units: {accepted}; compared in {clause.unit}")
        if clause.settled_by:
            needs.append(f"silence is settled by: {trial.label(clause.settled_by, terms)} complete")
        asked = [q for q in trial.questions if iri in q.covers]
        needs += [f"question: {q.text} ({q.link_id})" for q in asked if clause.attestable]
        _section(lines, "What it needs", needs)
    cases = read_cases(folder, iri)
    if cases:
        of = "; by the limits as written" if clause is not None and clause.relaxed else ""
        _section(lines, f"Cases ({len(cases)}{of})", [f"{o:<20} {n}: {b}" for n, o, b in cases])
    _section(
        lines,
        "If it is not kept to" if trial.course is not None else "If it does not pass",
        [text.remedy],
    )
    return "\n".join(visible(line) for line in lines)


def _names(trial: Trial) -> list[str]:
    """Return the ids of a part's criteria, clauses and joins."""
    names = [c.id for c in trial.criteria] + [c.id for c in trial.clauses.values()]
    return list(dict.fromkeys([*names, *(j.id for j in trial.joins.values())]))


def _kind(trial: Trial, criterion: Criterion) -> str:
    if trial.course is None:
        return criterion.kind
    kind = f"treatment rule, {_words(criterion.modality)}"
    return (
        f"{kind}; judges {trial.clauses[criterion.root].id} again" if criterion.compares else kind
    )


def _words(name: str) -> str:
    return "".join(f" {c.lower()}" if c.isupper() else c for c in name).strip()


def _section(lines: list[str], title: str, body: list[str], *, wrap: bool = True) -> None:
    kept = [b for b in body if b]
    if not kept:
        return
    lines += ["", title]
    for paragraph in kept:
        if wrap:
            lines += textwrap.wrap(paragraph, _WIDTH, initial_indent="  ", subsequent_indent="  ")
        else:
            lines.append("  " + paragraph)


def mapped_codes(trial: Trial, terms: Terminology, iri: str) -> list[str]:
    """Return the codes that a record may use for the set ``iri``."""
    wanted = trial.set_of(iri)
    return sorted(
        {
            terms.code_text(code)
            for code, rows in terms.mappings.items()
            for term, predicate in rows
            if predicate != "narrowMatch" and wanted.degree_of_term(term, terms) == 2
        }
    )


def read_cases(folder: Path, rule: str) -> list[tuple[str, str, str]]:
    """Return (name, expected, because) of the boundary cases of a rule, in the file's order of
    names."""
    graph = Graph()
    for path in sorted(folder.rglob("*.cases.ttl")):
        if f"/{local_name(rule)}" in path.read_text(
            encoding="utf-8"
        ) or f"trial:{local_name(rule)} " in path.read_text(encoding="utf-8"):
            graph.parse(path, format="turtle")
    return sorted(
        (
            local_name(str(case)),
            _words(local_name(str(graph.value(case, SARC.expected)))),
            str(graph.value(case, SARC.because)),
        )
        for case in graph.subjects(RDF.type, SARC.BoundaryCase)
        if graph.value(case, SARC.forRule) == URIRef(rule)
    )


def render_policies(trial: Trial, terms: Terminology) -> str:
    """Return the policies with their values; ``terms`` is unused but keeps one signature."""
    del terms
    return "\n".join(f"{p.name:<40}{p.value:<14}{p.label}" for p in trial.policies)


def render_ambiguities(trial: Trial, terms: Terminology) -> str:
    """Return the register: every entry, its readings, the default marked."""
    del terms
    lines = []
    for entry in sorted(trial.ambiguities, key=lambda a: a.id):
        lines.append(f"{entry.id}  {entry.label}")
        lines += [
            f"    {'*' if n == entry.default else ' '} {n:<28}{label}"
            for n, label in entry.readings
        ]
    return "\n".join(lines)
