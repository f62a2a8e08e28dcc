"""Which codes lead where: what is unverified and which rules read it, and codes mapped twice."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

from sarc_kb.audit.judging import Uses
from sarc_kb.audit.section import Request, Section
from sarc_kb.audit.shared import compiled
from sarc_kb.errors import Finding
from sarc_kb.kb import KnowledgeBase
from sarc_kb.namespaces import compact, local_name
from sarc_kb.rules import Trial
from sarc_kb.terminology import RELATED, USED, Terminology, parse_sssom

_CERTAIN = ("exactMatch", "broadMatch")


@dataclass(frozen=True, slots=True)
class Row:
    """A row of a table of mappings that rules may use, and where it stands."""

    path: str
    line: int
    code: str
    term: str
    predicate: str
    system: str
    verified: bool

    @property
    def where(self) -> str:
        return f"{self.path}:{self.line}"


def audit(kb: KnowledgeBase, request: Request) -> Section:
    """Return what the project's tables of mappings are worth for the rules of one trial.

    Raises:
        RuleBaseError: the rules cannot be compiled.
    """
    rows = list(rows_of(kb.root, kb.terms))
    unverified = [row for row in rows if not row.verified]
    systems = Counter(row.system for row in rows)
    open_ = Counter(row.system for row in unverified)
    readers = read_by(compiled(kb, request.trial), kb.terms, unverified)
    findings = [*_faults(rows, kb.terms), *_unverified(open_, systems)]
    tables = len({row.path for row in rows})
    twice = sum(f.severity == "error" for f in findings)
    summary = (
        f"{len(rows)} rows of {tables} tables, {len(unverified)} unverified, "
        f"read by {len(readers)} rules; "
        + (f"{twice} faults" if twice else "no code is mapped to two things that differ")
    )
    return Section(
        "codes",
        summary,
        tuple(_lines(systems, open_, readers)),
        {
            "rows": len(rows),
            "tables": tables,
            "unverified": len(unverified),
            "by_system": [
                {"system": name, "rows": count, "unverified": open_[name]}
                for name, count in sorted(systems.items())
            ],
            "by_rule": [
                {
                    "rule": rule,
                    "unverified": len(own),
                    "codes": [kb.terms.code_text(c) for c in own],
                }
                for rule, own in readers.items()
            ],
        },
        tuple(findings),
    )


def rows_of(root: Path, terms: Terminology) -> Iterator[Row]:
    """Yield the rows of the tables below ``root`` that rules may use, in their order."""
    for path in sorted((root / "ontology" / "mappings").glob("*.sssom.tsv")):
        table = parse_sssom(path.read_text(encoding="utf-8"))
        for line, cells in table.rows:
            predicate = local_name(table.expand(cells["predicate_id"]))
            if predicate not in USED and predicate != RELATED:
                continue
            code = table.expand(cells["subject_id"])
            yield Row(
                path.relative_to(root).as_posix(),
                line,
                code,
                table.expand(cells["object_id"]),
                predicate,
                _system(code, terms) or path.name.removesuffix(".sssom.tsv"),
                cells.get("verified") == "yes",
            )


def _system(code: str, terms: Terminology) -> str:
    prefixes = [prefix for prefix in terms.code_names if code.startswith(prefix)]
    return terms.code_names[max(prefixes, key=len)] if prefixes else ""


# -- faults ----------------------------------------------------------------------------------------
def _faults(rows: Iterable[Row], terms: Terminology) -> Iterator[Finding]:
    by_code: dict[str, list[Row]] = {}
    for row in rows:
        by_code.setdefault(row.code, []).append(row)
        if not terms.known(row.term):
            yield _unknown(row, terms)
    for own in by_code.values():
        for one, other in combinations([r for r in own if r.predicate != RELATED], 2):
            if one.term == other.term:
                if one.predicate == other.predicate:
                    yield _same(one, other, terms)
            elif why := _apart(one, other, terms):
                yield _twice(one, other, why, terms)


def _apart(one: Row, other: Row, terms: Terminology) -> str:
    """Return why a code cannot be mapped to both; empty where it can."""
    certain = [row for row in (one, other) if row.predicate in _CERTAIN]
    if len(certain) == 1:
        return "what certainly is the one cannot only possibly be the other"
    if not certain or one.term in terms.up(other.term) or other.term in terms.up(one.term):
        return ""
    kinds = {terms.kind_of(row.term) for row in (one, other)}
    if one.predicate == other.predicate == "exactMatch":
        return "a code cannot be the same as two things"
    if terms.contradictions((one.term, other.term)):
        return "nothing can be both"
    if len(kinds) == 1 and "exactMatch" in (one.predicate, other.predicate):
        return f"a code that is {terms.label(one.term)} or {terms.label(other.term)} is not the other too"
    return ""


def _twice(one: Row, other: Row, why: str, terms: Terminology) -> Finding:
    return Finding(
        "CODE001",
        "error",
        other.where,
        f"{terms.code_text(other.code)} is mapped to {compact(other.term)} ({other.predicate}), and "
        f"at {one.where} to {compact(one.term)} ({one.predicate})",
        why,
        "find out in the code system what the code means, and take one of the rows out",
    )


def _same(one: Row, other: Row, terms: Terminology) -> Finding:
    return Finding(
        "CODE002",
        "warning",
        other.where,
        f"{terms.code_text(other.code)} is mapped to {compact(other.term)} at {one.where} too",
        "who corrects one of the rows leaves the other as it was",
        "take one of them out",
    )


def _unknown(row: Row, terms: Terminology) -> Finding:
    return Finding(
        "CODE003",
        "error",
        row.where,
        f"{terms.code_text(row.code)} is mapped to {compact(row.term)}, which is not declared",
        "what has the code would be lost",
        "correct the spelling, or declare the term",
    )


def _unverified(open_: Counter[str], systems: Counter[str]) -> Iterator[Finding]:
    for system, count in sorted(open_.items()):
        yield Finding(
            "CODE010",
            "warning",
            system,
            f"{count} of {systems[system]} rows are not verified",
            "nobody has held code and name against a release of the code system",
            "look them up, and set the column verified to yes",
        )


# -- readers ---------------------------------------------------------------------------------------
def read_by(trial: Trial, terms: Terminology, rows: Iterable[Row]) -> dict[str, list[str]]:
    """Return, for each rule, which of the codes of ``rows`` it reads, directly or through what is
    derived; a rule that reads none is not named."""
    led: dict[str, set[str]] = {}
    for row in rows:
        for term in terms.up(row.term):
            led.setdefault(term, set()).add(row.code)
    found: dict[str, set[str]] = {}
    for part in trial.parts:
        uses = Uses(part, terms)
        rules = {c: rule.id for rule in part.criteria for c in (rule.root, *rule.clauses)}
        for iri, clause in part.clauses.items():
            names = set(uses.of_clause(clause))
            names |= {m for name in names if name in part.sets for m in part.sets[name].members}
            codes = {code for name in names for code in led.get(name, ())}
            if codes:
                found.setdefault(rules.get(iri, clause.id), set()).update(codes)
    order = [rule.id for part in trial.parts for rule in part.criteria]
    rank = {rule: number for number, rule in enumerate(order)}
    return {
        rule: sorted(found[rule])
        for rule in sorted(found, key=lambda rule: (rank.get(rule, len(rank)), rule))
    }


def _lines(
    systems: Counter[str], open_: Counter[str], readers: dict[str, list[str]]
) -> Iterator[str]:
    yield f"{'code system':<28} {'rows':>5} {'unverified':>10}"
    for name, count in sorted(systems.items()):
        yield f"{name:<28} {count:>5} {open_[name]:>10}"
    yield ""
    yield f"{'rule':<8} {'unverified codes that it reads':>30}"
    for rule, own in readers.items():
        yield f"{rule:<8} {len(own):>30}"
