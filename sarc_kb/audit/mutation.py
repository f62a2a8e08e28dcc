"""Mutation testing of the rules: is every number, word and join of them held by some case?

One thing of the compiled rules is changed at a time, and the cases written by hand are judged under
it. A mutant that some case tells apart is killed; the score is the share of those. What survives is
listed, with the reason that the trial's folder gives for it, if it gives one.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from rdflib import Graph

from sarc_kb.audit.judging import Judge
from sarc_kb.audit.mutant import KINDS, Mutant
from sarc_kb.audit.mutants import mutants_of
from sarc_kb.audit.section import Request, Section
from sarc_kb.audit.shared import compiled, judge_of
from sarc_kb.audit.variants import killers
from sarc_kb.cases import Case
from sarc_kb.errors import Finding
from sarc_kb.kb import KnowledgeBase
from sarc_kb.namespaces import RDF, SARC
from sarc_kb.rules import Trial


@dataclass(frozen=True, slots=True)
class Result:
    """A mutant, and the case that kills it (empty: it survived, or nothing could kill it).

    ``reason``: why it survived, as the trial's folder says.
    """

    mutant: Mutant
    killed_by: str = ""
    equivalent: str = ""
    reason: str = ""

    @property
    def survived(self) -> bool:
        return not self.killed_by and not self.equivalent


def audit(kb: KnowledgeBase, request: Request) -> Section:
    """Return how many mutants of the rules the cases kill, and which survive."""
    trial = compiled(kb, request.trial)
    reasons = reasons_of(kb.trial_folder(request.trial))
    judge = judge_of(kb, request.trial)
    broken, results = tried(judge, mutants_of(trial, kb.terms), reasons)
    return _section(results, broken, reasons)


def run(
    kb: KnowledgeBase,
    trial: Trial,
    cases: Iterable[Case],
    mutants: Iterable[Mutant],
    reasons: Mapping[str, str],
) -> tuple[list[Case], list[Result]]:
    """Return what :func:`tried` does, by these cases.

    A case that asks for another reading of the register is about other rules: it is left out.
    """
    judge = Judge(kb, trial, (case for case in cases if not case.readings))
    return tried(judge, mutants, reasons)


def tried(
    judge: Judge, mutants: Iterable[Mutant], reasons: Mapping[str, str]
) -> tuple[list[Case], list[Result]]:
    """Return the cases that do not hold by the rules as they are, and what became of each mutant."""
    mutants = list(mutants)
    unread = {m.id: judge.unread(m) for m in mutants}
    asked = [m for m in mutants if not m.equivalent and not unread[m.id]]
    touched = list({at.case.id: at for m in asked for at in judge.relevant(m)}.values())
    broken = [
        at.case for at in touched if not judge.holds(at, judge.prepared(at), judge.at_entry(at))
    ]
    if broken:
        return broken, []
    killed = killers(judge, [m for m in asked if m.limits])
    killed |= {m.id: judge.killer(m) for m in asked if not m.limits}
    return [], [
        Result(m, killed.get(m.id, ""), m.equivalent or unread[m.id], reasons.get(m.id, ""))
        for m in mutants
    ]


def reasons_of(folder: Path) -> dict[str, str]:
    """Return the reasons that a trial's folder gives for mutants that survive, by their ids."""
    found: dict[str, str] = {}
    for path in sorted(folder.rglob("mutants.cases.ttl")):
        graph = Graph().parse(path, format="turtle")
        for node in graph.subjects(RDF.type, SARC.KnownSurvivor):
            for mutant in graph.objects(node, SARC.mutant):
                found[str(mutant)] = str(graph.value(node, SARC.because))
    return found


# -- telling ---------------------------------------------------------------------------------------
def _section(results: list[Result], broken: list[Case], reasons: Mapping[str, str]) -> Section:
    if broken:
        return Section(
            "mutation",
            f"{len(broken)} cases do not hold by the rules as they are",
            findings=tuple(map(_broken, broken)),
        )
    killed = sum(bool(r.killed_by) for r in results)
    equal = sum(bool(r.equivalent) for r in results)
    survivors = [r for r in results if r.survived]
    explained = sum(bool(r.reason) for r in survivors)
    tried = len(results) - equal
    summary = (
        f"{killed} of {tried} mutants killed ({_percent(killed, tried)}); "
        f"{len(survivors)} survived, {explained} of them for a reason that is given; "
        f"{equal} more change nothing"
    )
    return Section(
        "mutation",
        summary,
        tuple(_lines(results)),
        {
            "mutants": len(results),
            "equivalent": equal,
            "killed": killed,
            "survived": len(survivors),
            "score": round(killed / tried, 4) if tried else None,
            "kinds": list(_by_kind(results)),
            "survivors": [
                {
                    "id": r.mutant.id,
                    "kind": r.mutant.kind,
                    "mutant": r.mutant.words,
                    "reason": r.reason,
                }
                for r in survivors
            ],
            "equivalents": [
                {
                    "id": r.mutant.id,
                    "kind": r.mutant.kind,
                    "mutant": r.mutant.words,
                    "reason": r.equivalent,
                }
                for r in results
                if r.equivalent
            ],
        },
        tuple(_findings(results, reasons)),
    )


def _percent(part: int, whole: int) -> str:
    return f"{100 * part / whole:.1f} %" if whole else "none"


def _by_kind(results: Iterable[Result]) -> Iterator[dict[str, object]]:
    for kind, about in KINDS.items():
        own = [r for r in results if r.mutant.kind == kind]
        if not own:
            continue
        equal = sum(bool(r.equivalent) for r in own)
        killed = sum(bool(r.killed_by) for r in own)
        yield {
            "kind": kind,
            "about": about,
            "mutants": len(own),
            "equivalent": equal,
            "killed": killed,
            "survived": len(own) - equal - killed,
            "score": round(killed / (len(own) - equal), 4) if len(own) > equal else None,
        }


def _lines(results: list[Result]) -> Iterator[str]:
    yield f"{'kind':<12} {'mutants':>7} {'killed':>7} {'survived':>8} {'nothing':>8}  share"
    for row in _by_kind(results):
        tried = int(str(row["mutants"])) - int(str(row["equivalent"]))
        share = _percent(int(str(row["killed"])), tried)
        yield (
            f"{row['kind']:<12} {row['mutants']:>7} {row['killed']:>7} {row['survived']:>8} "
            f"{row['equivalent']:>8}  {share}"
        )
    survivors = [r for r in results if r.survived]
    if survivors:
        yield ""
        yield "survived:"
        for result in survivors:
            reason = f" ({result.reason})" if result.reason else ""
            yield f"  {result.mutant.words}{reason}"


def _broken(case: Case) -> Finding:
    return Finding(
        "MUT001",
        "error",
        case.id,
        "the case does not come out as it says by the rules as they are",
        "it cannot tell a mutant apart",
        "see `sarc-kb audit cases`; mend the rule or the case",
    )


def _findings(results: list[Result], reasons: Mapping[str, str]) -> Iterator[Finding]:
    for result in results:
        if not result.survived:
            continue
        if result.reason:
            yield Finding(
                "MUT003",
                "info",
                result.mutant.id,
                f"{result.mutant.words}: no case comes out otherwise",
                result.reason,
                "nothing, unless the reason no longer holds",
            )
        else:
            yield Finding(
                "MUT002",
                "error",
                result.mutant.id,
                f"{result.mutant.words}: no case comes out otherwise",
                "nobody would notice if the rule were changed so",
                "write the case that comes out otherwise, or give the reason in mutants.cases.ttl",
            )
    held = {r.mutant.id: r.killed_by or r.equivalent for r in results}
    for name in sorted(reasons):
        if name not in held or held[name]:
            found = held.get(name) or "there is no such mutant"
            yield Finding(
                "MUT004",
                "error",
                name,
                f"a reason is given for a mutant that does not survive ({found})",
                "a reason that nothing needs hides the next survivor of that name",
                "take it out of mutants.cases.ttl",
            )
