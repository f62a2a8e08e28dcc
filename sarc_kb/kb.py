"""The knowledge base: ontology, shapes and trials, loaded once, and patients judged against them.

>>> kb = KnowledgeBase.load()                                   # doctest: +SKIP
>>> result = kb.validate("examples/eligible/patient.ttl")       # doctest: +SKIP
>>> result.assessments[0].verdict                               # doctest: +SKIP
<Verdict.ELIGIBLE: 'eligible'>
"""

from __future__ import annotations

import hashlib
import traceback
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cache, lru_cache
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

from rdflib import Graph

from sarc_kb import __version__
from sarc_kb.assess import assess
from sarc_kb.assessment import (
    Assessment,
    AssessmentSet,
    KnowledgeBaseInfo,
    Provenance,
    TreatmentAssessment,
    Verdict,
)
from sarc_kb.dates import PartialDate, iso, parse_date
from sarc_kb.engines.prepared_graph import prepared_graph
from sarc_kb.engines.shacl_engine import ShaclEngine
from sarc_kb.errors import EngineError, Finding, InputError, RuleBaseError, UsageError
from sarc_kb.facts import PatientRecord
from sarc_kb.mappings import Added, add_descendants, add_mappings, add_value_set
from sarc_kb.namespaces import SARC
from sarc_kb.prepare import Preparation, Prepared, begin, finish
from sarc_kb.rule_check import ensure_checked
from sarc_kb.rules import (
    Trial,
    apply_policies,
    apply_readings,
    apply_relaxations,
    compile_trial,
)
from sarc_kb.rules.form import form_faults
from sarc_kb.sources.facts_frame import ArrowTable
from sarc_kb.sources.fhir import FhirTerms
from sarc_kb.sources.omop import OmopTerms, read_omop
from sarc_kb.sources.read import ReadingTerms, read_sources
from sarc_kb.terminology import Terminology, load_terminology
from sarc_kb.treatment import (
    assess_treatment,
    findings_beyond,
    has_begun,
    last_day,
    may_have_begun,
)
from sarc_kb.turtle_files import parse_files

if TYPE_CHECKING:
    from sarc_kb.screening import Screened


def data_folder() -> Path:
    """Return the folder that holds ``ontology/`` and ``shapes/``: inside an installed package, or
    the checkout."""
    package = Path(__file__).resolve().parent
    inside = package / "_data"
    return inside if inside.is_dir() else package.parent


def content_files(folder: Path) -> list[Path]:
    """Return the files of a knowledge base that its content hash is made from, in their order: all
    that judging reads; cases prove rules and are none of them."""
    return [
        path
        for path in sorted(p for part in ("ontology", "shapes") for p in (folder / part).rglob("*"))
        if path.suffix in (".ttl", ".tsv", ".txt") and not path.name.endswith(".cases.ttl")
    ]


def content_sha256(folder: Path) -> str:
    """Return the content hash of a knowledge base: of the names and bytes of `content_files`."""
    digest = hashlib.sha256()
    for path in content_files(folder):
        digest.update(path.relative_to(folder).as_posix().encode() + b"\0")
        digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()


ENGINES_KEPT = 16
"""How many compiled trials with their processors a knowledge base keeps, so that one that is asked
for ever other limits does not grow."""


class KnowledgeBase:
    """One loaded knowledge base; loading takes a second, judging a patient a fraction of it.

    ``info`` tells its version and content hash; it may be shared by threads no more than a
    processor of SHACL may, and is best loaded once a process.
    """

    def __init__(self, root: Path, graph: Graph, terms: Terminology, sha256: str) -> None:
        self.root = root
        self.terms = terms
        self.info = KnowledgeBaseInfo(__version__, sha256)
        self._ontology = graph
        self._graphs: dict[str, Graph] = {}
        self._engines: dict[tuple[object, ...], tuple[Trial, ShaclEngine]] = {}
        self.added: tuple[Added, ...] = ()

    @classmethod
    def load(cls, root: Path | str | None = None) -> KnowledgeBase:
        """Return the knowledge base below ``root`` (default: the one this program came with).

        Raises:
            RuleBaseError: a file is missing or cannot be parsed.
        """
        folder = Path(root) if root is not None else data_folder()
        files = sorted((folder / "ontology").rglob("*.ttl"))
        if not files:
            raise RuleBaseError(
                Finding(
                    "RULE000",
                    "error",
                    str(folder),
                    "no ontology",
                    "without it no code and no unit has a meaning",
                    "point --rules at a folder with ontology/ and shapes/",
                )
            )
        graph = parse_files(files)
        terms = load_terminology(folder / "ontology", graph)
        return cls(folder, graph, terms, content_sha256(folder))

    def with_mappings(
        self,
        *tables: Path | str,
        concept_ancestors: Iterable[Path | str] = (),
        value_sets: Iterable[tuple[str | None, Path | str]] = (),
    ) -> KnowledgeBase:
        """Return this knowledge base with a team's own SSSOM tables added, then with what OMOP
        CONCEPT_ANCESTOR tables and FHIR value sets (term, or None for the set's url, and file) say
        is below something mapped. Reports name the files and what they changed.

        Raises:
            InputError, UsageError: a file cannot be read or has faults; all of them are named.
        """
        added = [add_mappings(self.terms, map(Path, tables), self._rule_iris)] if tables else []
        for name, path in value_sets:
            added.append(add_value_set(added[-1].terms if added else self.terms, Path(path), name))
        for path in concept_ancestors:
            added.append(add_descendants(added[-1].terms if added else self.terms, Path(path)))
        if not added:
            return self
        grown = KnowledgeBase(self.root, self._ontology, added[-1].terms, self.info.sha256)
        grown._graphs = self._graphs
        grown.added = (*self.added, *added)
        return grown

    @property
    def added_findings(self) -> tuple[Finding, ...]:
        """What is worth telling about the files that were added."""
        return tuple(f for a in self.added for f in a.findings)

    def _rule_iris(self) -> frozenset[str]:
        trials = [self.compile(name) for name in self.trial_folders]
        return frozenset(
            iri
            for t in trials
            for iri in (*t.clauses, *(c.iri for c in t.criteria), *(q.iri for q in t.questions))
        )

    # -- trials --------------------------------------------------------------------------------
    @property
    def trial_folders(self) -> dict[str, Path]:
        """Trial id (upper case) to its folder."""
        folders = sorted(p for p in (self.root / "shapes" / "trials").iterdir() if p.is_dir())
        return {p.name.upper(): p for p in folders}

    def trial_folder(self, trial: str) -> Path:
        """Return the folder of one trial.

        Raises:
            UsageError: there is no such trial.
        """
        folders = self.trial_folders
        if trial not in folders:
            raise UsageError(
                Finding(
                    "USE001",
                    "error",
                    f"--trial {trial}",
                    "no such trial",
                    "the rule base has no folder of that name",
                    "choose one of: " + ", ".join(sorted(folders)),
                )
            )
        return folders[trial]

    def trial_graph(self, trial: str) -> Graph:
        """Return a fresh graph of the trial's files and the ontology's general derivations.

        Raises:
            RuleBaseError: a file cannot be read, or what it says cannot be walked through.
        """
        folder = self.trial_folder(trial)
        if trial not in self._graphs:
            files = [p for p in sorted(folder.rglob("*.ttl")) if not p.name.endswith(".cases.ttl")]
            parsed = parse_files(files)
            if faults := form_faults(parsed):
                raise RuleBaseError(*faults)
            self._graphs[trial] = parsed
        graph = Graph()
        for triple in self._graphs[trial]:
            graph.add(triple)
        for triple in self._ontology_derivations():
            graph.add(triple)
        return graph

    @lru_cache(maxsize=1)  # noqa: B019 - one entry; the knowledge base lives as long as the process
    def _ontology_derivations(self) -> Graph:
        return parse_files([p for p in [self.root / "ontology" / "derivations.ttl"] if p.exists()])

    def compile(
        self,
        trial: str | None = None,
        *,
        policies: Mapping[str, str] | None = None,
        readings: Mapping[str, str] | None = None,
        relaxed: Mapping[str, str] | None = None,
    ) -> Trial:
        """Return one trial's rules under the given policies and readings of the register.

        ``relaxed`` sets limits of clauses (``I07a:atLeast``) to other numbers, in either
        direction: readings first, then these limits, then the policies' tolerances about them.

        Raises:
            UsageError: an option names something unknown, or a limit cannot be set so.
        """
        name = trial.upper() if trial else self.default_trial()
        graph = self.trial_graph(name)
        for s, p, o in self._ontology.triples((None, SARC.convertsTo, None)):
            graph.add((s, p, o))
            for triple in self._ontology.triples((o, None, None)):
                graph.add(triple)
        chosen = apply_readings(graph, readings or {})
        limits = apply_relaxations(graph, relaxed or {})
        apply_policies(graph, policies or {})
        set_here = (*(policies or {}).items(), *(readings or {}).items())
        changed = (*(f"{name}={value}" for name, value in set_here), *(r.change for r in limits))
        return compile_trial(graph, self.terms, chosen, changed, limits)

    def default_trial(self) -> str:
        """Return the id of the only trial there is.

        Raises:
            UsageError: there are several.
        """
        names = sorted(self.trial_folders)
        if len(names) != 1:
            raise UsageError(
                Finding(
                    "USE001",
                    "error",
                    "--trial",
                    "no trial named",
                    "the rule base holds several",
                    "choose one of: " + ", ".join(names),
                )
            )
        return names[0]

    def engine(
        self,
        trial: str | None = None,
        *,
        policies: Mapping[str, str] | None = None,
        readings: Mapping[str, str] | None = None,
        relaxed: Mapping[str, str] | None = None,
        name: str = "pyshacl",
    ) -> tuple[Trial, ShaclEngine]:
        """Return the compiled trial and a processor loaded with it; the last `ENGINES_KEPT` are
        kept for the next call."""
        key = (
            trial,
            tuple(sorted((policies or {}).items())),
            tuple(sorted((readings or {}).items())),
            tuple(sorted((relaxed or {}).items())),
            name,
        )
        if key in self._engines:
            self._engines[key] = self._engines.pop(key)  # the one used last is the last to go
        else:
            ensure_checked(self, trial.upper() if trial else self.default_trial())
            compiled = self.compile(trial, policies=policies, readings=readings, relaxed=relaxed)
            self._engines[key] = (
                compiled,
                ShaclEngine(compiled, self.root / "shapes" / "components", name),
            )
            while len(self._engines) > ENGINES_KEPT:
                del self._engines[next(iter(self._engines))]
        return self._engines[key]

    # -- patients ------------------------------------------------------------------------------
    def prepare(
        self,
        record: PatientRecord,
        trial: Trial,
        *,
        as_of: PartialDate | None = None,
        complete: Iterable[str] = (),
        attested: Mapping[str, str] | None = None,
        unchanged_since: PartialDate | None = None,
    ) -> Prepared:
        """Return the prepared patient; see :func:`sarc_kb.prepare.prepare`.

        Raises:
            InputError: the record has no usable entry date.
        """
        return finish(
            self.begin(
                record,
                trial,
                as_of=as_of,
                complete=complete,
                attested=attested,
                unchanged_since=unchanged_since,
            )
        )

    def begin(
        self,
        record: PatientRecord,
        trial: Trial,
        *,
        as_of: PartialDate | None = None,
        complete: Iterable[str] = (),
        attested: Mapping[str, str] | None = None,
        unchanged_since: PartialDate | None = None,
    ) -> Preparation:
        """Return what the record says before anything is held against entry, as
        :func:`sarc_kb.prepare.begin` does.

        Raises:
            InputError: the record has no usable entry date.
        """
        return begin(
            _judgeable(record),
            trial,
            self.terms,
            as_of=as_of,
            complete=self.scopes(complete),
            attested=self.answers(trial, attested or {}),
            unchanged_since=unchanged_since,
        )

    def assess_record(
        self,
        record: PatientRecord,
        trial: Trial,
        engine: ShaclEngine,
        *,
        as_of: PartialDate | None = None,
        complete: Iterable[str] = (),
        attested: Mapping[str, str] | None = None,
        only: str | None = None,
    ) -> Assessment:
        """Return one patient's assessment; whatever is wrong with the record becomes a verdict
        ``error`` for this patient alone.

        ``only`` is ``eligibility`` or ``treatment``; by default the treatment rules stand beside
        the criteria where treatment is on record. Eligibility is judged as of ``as_of`` or entry,
        treatment as of ``as_of`` or the last day that the record names.
        """
        complete = tuple(complete)
        try:
            prepared = self.prepare(
                record, trial, as_of=as_of, complete=complete, attested=attested
            )
            readings = engine.run(prepared_graph(prepared))
            provenance = Provenance(
                engine=engine.name,
                engine_version=engine.version,
                program_version=__version__,
                input_origin=record.origin,
                input_sha256=record.sha256,
                as_of=iso(prepared.as_of),
                policies=tuple((p.name, p.value) for p in trial.policies),
                readings=trial.chosen_readings,
                anchors=tuple(
                    (
                        iri.rpartition("/")[2].rpartition("#")[2] or iri,
                        _span_text(day.span.start_lo, day.span.start_hi),
                        day.how,
                    )
                    for iri, day in sorted(prepared.anchors.items())
                ),
                clauses_evaluated=len(trial.clauses),
                facts_read=len(record.facts),
                facts_void=prepared.void,
                facts_after_as_of=prepared.later,
                facts_unused=0,
                changed=(
                    *(change for a in self.added for change in a.changed),
                    *trial.changed,
                    *(f"complete: {name}" for name in complete),
                    *(f"answer {name}={word}" for name, word in (attested or {}).items()),
                ),
            )
            assessment = assess(prepared, readings.refuted, readings.unproven, provenance)
            if only == "eligibility":
                return assessment
            at_entry = prepared if as_of is None else self.prepare(record, trial, complete=complete)
            treatment = self._assess_treatment(
                at_entry, engine, as_of, complete, always=only == "treatment"
            )
            if treatment is not None:
                treatment = findings_beyond(treatment, assessment.data_findings)
            if only == "treatment":
                assessment = replace(
                    assessment,
                    verdict=Verdict.NOT_ASKED,
                    criteria=(),
                    to_decide=(),
                    provenance=_of_treatment(provenance, trial, treatment),
                )
            return replace(assessment, treatment=treatment)
        except (InputError, EngineError) as failure:
            return not_judged(record, trial, failure.findings[0])
        except UsageError:
            raise
        except Exception as bug:
            return not_judged(record, trial, bug_finding(record, bug))

    def _assess_treatment(
        self,
        at_entry: Prepared,
        engine: ShaclEngine,
        as_of: PartialDate | None,
        complete: tuple[str, ...],
        *,
        always: bool,
    ) -> TreatmentAssessment | None:
        """Return the assessment of the course, None where no treatment is on record (unless
        ``always``) or the trial has no rules about it."""
        record, trial = at_entry.record, at_entry.trial
        part, processor = trial.treatment, engine.treatment
        if part is None or processor is None:
            return None
        if not always and not may_have_begun(record, trial, self.terms):
            return None
        prepared = self.prepare(record, part, as_of=as_of or last_day(record), complete=complete)
        if not always and not has_begun(prepared):
            return None
        readings = processor.run(prepared_graph(prepared))
        return assess_treatment(prepared, readings.refuted, readings.unproven, at_entry)

    def validate(
        self,
        *sources: Path | str | ArrowTable,
        trial: str | None = None,
        entry_date: str | None = None,
        entry_dates: Mapping[str, str] | None = None,
        as_of: str | None = None,
        complete: Iterable[str] = (),
        attested: Mapping[str, str] | None = None,
        policies: Mapping[str, str] | None = None,
        readings: Mapping[str, str] | None = None,
        relaxed: Mapping[str, str] | None = None,
        engine: str = "pyshacl",
        only: str | None = None,
        omop: str | None = None,
        persons: Iterable[str] = (),
        omop_schema: str | None = None,
    ) -> AssessmentSet:
        """Return an assessment for every patient in ``sources``, in order: files, folders, and then
        tables of facts in memory (``docs/use/dataframes.md``).

        After them come those of an ``omop`` source (a DuckDB file, a folder of Parquet or CSV files,
        or a ``postgresql://`` URL): the ``persons``, or everybody.

        ``entry_date`` (for all) or ``entry_dates`` (patient to date) give what the data do not
        say; a date in the data wins over ``entry_date`` and must agree with ``entry_dates``.
        ``only``: ``eligibility`` or ``treatment``. ``relaxed``: see :meth:`compile`; reports say of
        every such limit that it is not the protocol's.

        Raises:
            UsageError: an option names something unknown, or a source needs an extra.
            RuleBaseError: the rule base is broken.
        """
        compiled, processor = self.engine(
            trial, policies=policies, readings=readings, relaxed=relaxed, name=engine
        )
        complete = tuple(complete)
        self.scopes(complete)
        day = option_date("--as-of", as_of)
        found, problems = read_sources(map(_source, sources), self.reading_terms(compiled))
        records: Iterable[PatientRecord] = found
        if omop is not None:
            tables = self.omop_records(
                omop, compiled, problems, persons=persons, schema=omop_schema
            )
            records = chain(found, tables)
        assessments = [
            self.assess_record(
                r, compiled, processor, as_of=day, complete=complete, attested=attested, only=only
            )
            for r in with_entry_dates(records, entry_date, entry_dates or {})
        ]
        problems = [*self.added_findings, *problems]
        return AssessmentSet(self.info, tuple(assessments), tuple(problems))

    def screen(
        self,
        *sources: Path | str | ArrowTable,
        trial: str | None = None,
        entry_date: str | None = None,
        entry_dates: Mapping[str, str] | None = None,
        as_of: str | None = None,
        complete: Iterable[str] = (),
        attested: Mapping[str, str] | None = None,
        policies: Mapping[str, str] | None = None,
        readings: Mapping[str, str] | None = None,
        relaxed: Mapping[str, str] | None = None,
        only: str | None = None,
        omop: str | None = None,
        persons: Iterable[str] = (),
        omop_schema: str | None = None,
        engine: str = "duckdb",
        server: str | None = None,
        memory: str = "4GB",
        workers: int = 1,
    ) -> Screened:
        """Return rows of patients and of clauses for a cohort of any size, as ``sarc-kb screen``
        writes them, by the trial named or all that there are.

        Sources and options are those of :meth:`validate`. ``engine``: ``duckdb``, ``postgres`` (on
        ``server``, a ``postgresql://`` URL) or ``spark``; it may use ``memory`` before it turns to
        disk. ``workers``: processes that prepare patients. Where something is set otherwise than
        the protocol says, the rows are those of the changed trial, compared with nothing.

        Raises:
            UsageError: an option names something unknown, there is no patient, or an extra is
                needed (``cohort``; ``omop`` and ``spark`` for these).
            RuleBaseError: the rule base is broken.
            EngineError: the engine failed.
        """
        from sarc_kb.screening import screen

        return screen(
            self,
            map(_source, sources),
            trial=trial,
            set_here={
                "policies": policies or {},
                "readings": readings or {},
                "relaxed": relaxed or {},
            },
            entry_date=entry_date,
            entry_dates=entry_dates or {},
            as_of=as_of,
            complete=tuple(complete),
            attested=attested or {},
            only=only,
            omop=omop,
            persons=persons,
            omop_schema=omop_schema,
            engine=engine,
            server=server,
            memory=memory,
            workers=workers,
        )

    def reading_terms(self, *trials: Trial) -> ReadingTerms:
        """Return what the readers of patient data need to know of this knowledge base.

        Of several trials, an id that they use for different rules names none of them.
        """
        return ReadingTerms(
            self.terms.axes,
            FhirTerms(
                systems=self.terms.code_systems,
                questions=_agreed(_rule_names(trial) for trial in trials),
                study_ids={trial.id: trial.iri for trial in trials},
                term=lambda name: str(SARC[name]),
                names=self.terms.names_without_code(str(SARC.MedicationUse)),
                means=cache(self.terms.meaning),
                axes=self.terms.axes,
                units_agree=cache(self.terms.units_agree),
                absences=frozenset(
                    d.source for t in trials for d in t.derivations if d.kind == "Settling"
                ),
            ),
        )

    def omop_terms(self, *trials: Trial) -> OmopTerms:
        """Return what the reader of OMOP sources needs to know of this knowledge base."""
        fhir = self.reading_terms(*trials).fhir
        return OmopTerms(
            vocabularies=self.terms.omop_vocabularies,
            mappings=self.terms.mappings,
            sites=self.terms.sites,
            known=self.terms.ancestors.keys(),
            kinds=self.terms.kinds,
            axes=_agreed(trial.axes_of_terms(self.terms) for trial in trials),
            result_of=self.terms.result_of,
            units=self.terms.spellings.keys(),
            questions={
                **fhir.questions,
                **{f"{t.id}/{name}": iri for t in trials for name, iri in _rule_names(t).items()},
            },
            studies=fhir.study_ids,
            term=cache(fhir.term),
        )

    def omop_records(
        self,
        source: str,
        trials: Trial | Sequence[Trial],
        problems: list[Finding],
        *,
        persons: Iterable[str] = (),
        schema: str | None = None,
    ) -> Iterator[PatientRecord]:
        """Yield the records of an OMOP source; see :func:`sarc_kb.sources.omop.read_omop`.

        ``persons``: their numbers; none: everybody.
        """
        named = tuple(dict.fromkeys(persons)) or None
        terms = self.omop_terms(*((trials,) if isinstance(trials, Trial) else trials))
        return read_omop(source, terms, problems, persons=named, schema=schema)

    # -- options -------------------------------------------------------------------------------
    def scopes(self, names: Iterable[str]) -> tuple[str, ...]:
        """Return the IRIs of kinds of history, by their names or IRIs.

        Raises:
            UsageError: there is no such kind.
        """
        known = self.terms.scopes
        found = []
        for name in names:
            iri = known.get(name) or (name if name in known.values() else None)
            if iri is None:
                raise UsageError(
                    Finding(
                        "USE008",
                        "error",
                        f"--complete {name}",
                        "no such kind of history",
                        "it would settle nothing",
                        "choose from: " + ", ".join(sorted(known)),
                    )
                )
            found.append(iri)
        return tuple(found)

    def answers(self, trial: Trial, given: Mapping[str, str]) -> dict[str, str]:
        """Return answers (rule or question to yes, no or unknown) by IRIs of the trial.

        Raises:
            UsageError: there is no such rule or question, or no such answer.
        """
        names = _rule_names(trial)
        words = {
            "true": SARC.Yes,
            "yes": SARC.Yes,
            "false": SARC.No,
            "no": SARC.No,
            "unknown": SARC.Unknown,
        }
        answers: dict[str, str] = {}
        for name, word in given.items():
            if name not in names or word.lower() not in words:
                raise UsageError(
                    Finding(
                        "USE009",
                        "error",
                        f"--attest {name}={word}",
                        "not a rule id or question with an answer",
                        "it would answer nothing",
                        "write for example I11=true",
                    )
                )
            answers[names[name]] = str(words[word.lower()])
        return answers


def _rule_names(trial: Trial) -> dict[str, str]:
    """Return what an answer may call a question, criterion or clause, with its IRI."""
    names = {q.link_id: q.iri for q in trial.questions}
    names |= {c.id: c.iri for c in trial.criteria}
    return names | {c.id: c.iri for c in trial.clauses.values()}


def _agreed(found: Iterable[Mapping[str, str]]) -> dict[str, str]:
    """Return the pairs of all mappings, without the keys on which two of them differ."""
    values: dict[str, set[str]] = {}
    for mapping in found:
        for key, value in mapping.items():
            values.setdefault(key, set()).add(value)
    return {key: of.pop() for key, of in values.items() if len(of) == 1}


def bug_finding(record: PatientRecord, bug: Exception) -> Finding:
    """Return what went wrong on one record, which must never stop a cohort, without its values."""
    if isinstance(bug, MemoryError):
        return Finding(
            "ENGINE009",
            "error",
            record.origin,
            "there was not memory enough for this record",
            "nothing is known about this patient; the other patients are not touched",
            "give the program more memory, or raise its limit",
        )
    where = traceback.extract_tb(bug.__traceback__)[-1]
    return Finding(
        "ENGINE005",
        "error",
        record.origin,
        f"{type(bug).__name__} in {Path(where.filename).name}:{where.lineno}",
        "the program failed on this record; a failure is never a verdict",
        "report it with these two names; the other patients are not touched",
    )


def with_entry_dates(
    records: Iterable[PatientRecord], default: str | None, each: Mapping[str, str]
) -> Iterator[PatientRecord]:
    """Yield the records with entry dates from the options where the data have none.

    Raises:
        UsageError: a date cannot be read.
    """
    common = option_date("--entry-date", default)
    for record in records:
        named = each.get(record.patient) or each.get(record.label)
        given = option_date("--entry-dates", named) if named else None
        if given is not None and record.entry is not None and given.text != record.entry.text:
            clash = Finding(
                "DATA004",
                "error",
                record.origin,
                f"entry date {record.entry.text} in the data, {given.text} in the option",
                "every window counts from the one entry date",
                "correct one of them",
            )
            record = replace(record, findings=(*record.findings, clash))
        elif record.entry is None and (given or common) is not None:
            record = replace(record, entry=given or common)
        yield record


def _source(source: Path | str | ArrowTable) -> Path | ArrowTable:
    return Path(source) if isinstance(source, str) else source


def option_date(option: str, text: str | None) -> PartialDate | None:
    if text is None:
        return None
    try:
        date = parse_date(text)
    except ValueError as error:
        raise UsageError(
            Finding(
                "USE010", "error", f"{option} {text}", "not a date", str(error), "write YYYY-MM-DD"
            )
        ) from None
    if not date.exact:
        raise UsageError(
            Finding(
                "USE010",
                "error",
                f"{option} {text}",
                "the day is missing",
                "windows count days",
                "write YYYY-MM-DD",
            )
        )
    return date


def _of_treatment(
    made: Provenance, trial: Trial, treatment: TreatmentAssessment | None
) -> Provenance:
    """Return what the part on treatment, judged alone, was made with."""
    if treatment is None or trial.treatment is None:
        return made
    return replace(
        made,
        as_of=treatment.as_of,
        anchors=treatment.anchors,
        clauses_evaluated=len(trial.treatment.clauses),
        facts_after_as_of=treatment.facts_after_as_of,
    )


def _judgeable(record: PatientRecord) -> PatientRecord:
    broken = [f for f in record.findings if f.severity == "error"]
    if broken:
        raise InputError(*broken)
    if record.entry is None:
        raise InputError(
            Finding(
                "DATA001",
                "error",
                record.origin,
                f"patient {record.label} has no entry date",
                "age and every window count from it, and today is never assumed",
                "put sarc:entryDate in the data, or give --entry-date or --entry-dates",
            )
        )
    if not record.entry.exact:
        raise InputError(
            Finding(
                "DATA001",
                "error",
                record.origin,
                f"the entry date {record.entry.text} has no day",
                "windows count days",
                "give the whole date",
            )
        )
    return record


def _span_text(lo: int, hi: int) -> str:
    return iso(lo) if lo == hi else f"{iso(lo)} to {iso(hi)}"


def not_judged(record: PatientRecord, trial: Trial, why: Finding) -> Assessment:
    """Return the assessment of a patient who cannot be judged: the verdict is ``error``."""
    return Assessment(
        trial=trial.id,
        trial_iri=trial.iri,
        patient=record.label,
        patient_iri=record.patient,
        entry_date=record.entry.text if record.entry else None,
        verdict=Verdict.ERROR,
        data_findings=record.findings,
        error=why,
    )
