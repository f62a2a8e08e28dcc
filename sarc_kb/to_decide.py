"""The smallest set of data that would settle an undetermined verdict."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from sarc_kb.assessment import CriterionResult, Outcome
from sarc_kb.dates import NEVER
from sarc_kb.explain import Explanation, window_text
from sarc_kb.prepare import Prepared
from sarc_kb.rules import Trial
from sarc_kb.wording import evidence_of, settling_text


def to_decide(
    prepared: Prepared,
    criteria: tuple[CriterionResult, ...],
    outcomes: Mapping[str, Outcome],
    grounds: Mapping[str, Explanation],
) -> tuple[str, ...]:
    """Return the smallest set of data that would settle the verdict.

    For each open criterion the fewest clauses whose passing passes it; for those clauses the
    fewest data items (a question or a completeness statement may settle several at once).
    """
    trial, terms = prepared.trial, prepared.terms
    needed: dict[str, None] = {}
    for criterion in criteria:
        if criterion.outcome is Outcome.UNDETERMINED:
            needed.update(dict.fromkeys(cheapest(trial, criterion.iri, outcomes) or ()))
    options: dict[str, dict[str, str]] = {}
    for iri in needed:
        clause, ground = trial.clauses[iri], grounds[iri]
        choices: dict[str, str] = {}
        if clause.role is not None and not ground.doubts:
            if clause.component in ("latest", "some"):
                what = trial.label(clause.role.concept_set, terms)
                window = window_text(prepared, clause.role.window)
                choices[f"data:{clause.role.concept_set}:{clause.role.window}"] = (
                    what if window == "at any time" else f"{what}, dated {window}"
                )
            elif clause.settled_by:
                # One statement up to entry covers every window that clauses look into.
                choices[f"scope:{clause.settled_by}"] = settling_text(
                    prepared, clause.settled_by, _widest(prepared, clause.settled_by, needed)
                )
        elif ground.doubts:
            first = ground.doubts[0]
            item = first.item
            choices[f"doubt:{item.id}:{first.words}"] = (
                f"{evidence_of(prepared, item).label} ({', '.join(item.sources)}): {first.words}"
            )
        if clause.attestable:
            for q in trial.questions:
                if iri in q.covers:
                    choices[f"question:{q.iri}"] = f"an answer to “{q.text}” ({q.link_id})"
            if not any(iri in q.covers for q in trial.questions):
                choices[f"rule:{iri}"] = f"an attestation of {clause.id}"
        options[iri] = choices
    chosen = fewest({iri: tuple(c) for iri, c in options.items()})
    lines = []
    for key in chosen:
        text = next(c[key] for c in options.values() if key in c)
        ids = [trial.clauses[iri].id for iri in needed if key in options[iri]]
        lines.append(f"{text} [{', '.join(ids)}]")
    return tuple(lines)


def _widest(prepared: Prepared, scope: str, clauses: Iterable[str]) -> str:
    """Return the window of ``clauses`` settled by ``scope`` that reaches back furthest."""
    trial = prepared.trial
    windows = [
        c.role.window
        for c in (trial.clauses[iri] for iri in clauses)
        if c.role is not None and c.settled_by == scope
    ]
    return min(
        windows, key=lambda w: (prepared.windows[w].start_lo if w in prepared.windows else NEVER, w)
    )


def cheapest(trial: Trial, node: str, outcomes: Mapping[str, Outcome]) -> tuple[str, ...] | None:
    """Return the fewest open clauses whose passing makes ``node`` pass; None if none can."""
    join = trial.joins.get(node)
    if join is None:
        if outcomes[node] is Outcome.FAIL:
            return None
        return (node,) if outcomes[node] is Outcome.UNDETERMINED else ()
    parts = [cheapest(trial, c, outcomes) for c in join.children]
    if join.operator == "or":
        able = [p for p in parts if p is not None]
        return min(able, key=len) if able else None
    if any(p is None for p in parts):
        return None
    return tuple(dict.fromkeys(x for p in parts if p for x in p))


def fewest(options: Mapping[str, tuple[str, ...]]) -> list[str]:
    """Return a smallest set of keys that gives every entry at least one of its options.

    Exact: branch on the entry with the fewest options, cut by the best found; entries that share
    no option fall apart into independent problems, so the search stays small.
    """
    todo = {k: set(v) for k, v in options.items() if v}
    chosen: list[str] = []
    while todo:
        group = {next(iter(todo))}
        keys: set[str] = set()
        grown = True
        while grown:
            keys = set().union(*(todo[k] for k in group))
            more = {k for k, v in todo.items() if v & keys}
            grown = more != group
            group = more
        part = {k: todo.pop(k) for k in list(todo) if k in group}
        chosen += _cover(part, sorted(keys), None) or []
    order = {key: n for n, key in enumerate(k for v in options.values() for k in v)}
    return sorted(chosen, key=lambda k: order[k])


def _cover(part: Mapping[str, set[str]], keys: list[str], best: int | None) -> list[str] | None:
    if not part:
        return []
    if best is not None and best <= 0:
        return None
    tightest = min(part, key=lambda k: (len(part[k]), k))
    found: list[str] | None = None
    gain = {k: sum(k in v for v in part.values()) for k in part[tightest]}
    for key in sorted(part[tightest], key=lambda k: (-gain[k], k)):
        limit = len(found) - 1 if found is not None else best
        rest = _cover(
            {n: v for n, v in part.items() if key not in v},
            keys,
            None if limit is None else limit - 1,
        )
        if rest is not None and (found is None or len(rest) + 1 < len(found)):
            found = [key, *rest]
    return found
