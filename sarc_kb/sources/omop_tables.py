"""The tables of an OMOP source, opened for reading only, and the table expressions over them.

Every table of `TABLES` becomes the same expression, one row of text cells for each of its rows; all
of them together, ordered by person, are the one stream that records are made of. The expressions
are ibis', so DuckDB (also over Parquet and CSV) and PostgreSQL read the same ones; decision 0011.

Nothing is reached but the source: DuckDB may open the named file or folder and nothing else, loads
no extension, and writes to no place but a temporary folder of its own.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sarc_kb.errors import Finding, InputError, UsageError
from sarc_kb.sources.omop_cdm import (
    CONCEPTS,
    FIELDS,
    IDS,
    NEW_IN_5_4,
    NO_CONCEPT,
    OTHERS,
    TABLES,
    Concept,
    Row,
    Strength,
    Vocabulary,
)
from sarc_kb.sources.omop_findings import finding

if TYPE_CHECKING:
    import ibis.expr.types as ir

ENDINGS = (".parquet", ".csv", ".csv.gz")
_URLS = ("postgresql://", "postgres://")
_BATCH = 10_000
# DuckDB: no extension is fetched or loaded by itself, whatever a file asks for.
_ALONE: dict[str, str | bool | int | float | list[str]] = {
    "autoinstall_known_extensions": "false",
    "autoload_known_extensions": "false",
}


@dataclass
class Cdm:
    """An open source: its tables by the CDM's names, and how to run an expression on it.

    ``fetch`` yields the rows of one SQL text in order, holding a batch of them at a time.
    """

    origin: str
    backend: Any
    tables: dict[str, ir.Table]
    fetch: Callable[[str], Iterator[tuple[Any, ...]]]
    findings: list[Finding] = field(default_factory=list)
    folder: tempfile.TemporaryDirectory[str] | None = None

    def run(self, expression: ir.Table) -> Iterator[tuple[Any, ...]]:
        """Yield the rows of an expression.

        Raises:
            InputError: the source fails on the way.
        """
        try:
            yield from self.fetch(str(self.backend.compile(expression)))
        except Exception as error:  # of DuckDB, psycopg or ibis; its text may repeat a value
            found = f"reading stopped ({type(error).__name__})"
            raise InputError(finding("DATA200", self.origin, found)) from None

    def close(self) -> None:
        self.backend.con.close()
        if self.folder is not None:
            self.folder.cleanup()

    def __enter__(self) -> Cdm:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


# -- opening ---------------------------------------------------------------------------------


def open_cdm(source: str, schema: str | None = None) -> Cdm:
    """Return the open source: a DuckDB file, a folder of Parquet or CSV files, or PostgreSQL.

    Raises:
        UsageError: the extra ``omop`` is not installed.
        InputError: the source cannot be opened, or has no table ``person``.
    """
    try:
        import ibis  # noqa: F401

        if source.startswith(_URLS):
            import psycopg  # noqa: F401
    except ImportError:
        raise UsageError(
            Finding(
                "USE030",
                "error",
                f"--omop {_shown(source)}",
                "reading OMOP needs packages that are not installed",
                "they are an extra, because most users do not need them",
                "pip install 'sarc-kb[omop]'",
            )
        ) from None
    if source.startswith(_URLS):
        cdm = _open_postgres(source, schema)
    elif Path(source).is_dir():
        cdm = _open_folder(Path(source))
    else:
        cdm = _open_duckdb(Path(source), schema)
    if "person" not in cdm.tables:
        cdm.close()
        raise InputError(*cdm.findings, finding("DATA201", cdm.origin, "no table person"))
    return cdm


def _shown(source: str) -> str:
    """Return a source as findings name it: never with a password."""
    return source.partition("://")[0] + "://…" if source.startswith(_URLS) else source


def _open_postgres(url: str, schema: str | None) -> Cdm:
    import ibis
    import psycopg

    shown = _shown(url)
    try:
        connection = psycopg.connect(url)
        connection.read_only = True
        connection.execute("SET DateStyle TO ISO")
        connection.execute("SET extra_float_digits TO 1")
        connection.commit()
        backend = ibis.postgres.from_connection(connection)
        connection.commit()
        shown = f"postgresql://{connection.info.host}/{connection.info.dbname}"
        cdm = Cdm(shown, backend, {}, _from_postgres(connection))
        _find_tables(cdm, schema)
    except (psycopg.Error, UnicodeError) as error:
        # Its text may repeat the URL, with the password in it.
        raise InputError(
            finding("DATA200", shown, f"cannot be read ({type(error).__name__})")
        ) from None
    return cdm


def _from_postgres(connection: Any) -> Callable[[str], Iterator[tuple[Any, ...]]]:
    def fetch(sql: str) -> Iterator[tuple[Any, ...]]:
        # A cursor of the server's: the client holds a batch, whatever the size of the result.
        with connection.cursor(name="sarc_kb") as cursor:
            cursor.itersize = _BATCH
            cursor.execute(sql)
            yield from cursor

    return fetch


def _connect_duckdb(
    path: str, allowed: Sequence[str]
) -> tuple[Any, tempfile.TemporaryDirectory[str]]:
    """Return a connection that reaches the file ``path``, the ``allowed`` folders, and no more."""
    import duckdb

    folder = tempfile.TemporaryDirectory(prefix="sarc-kb-")
    try:
        connection = duckdb.connect(path, read_only=path != ":memory:", config=_ALONE)
    except duckdb.Error:
        folder.cleanup()
        raise
    connection.execute(f"SET temp_directory = {_quoted(folder.name)}")
    listed = ", ".join(_quoted(name) for name in allowed)
    connection.execute(f"SET allowed_directories = [{listed}]")
    connection.execute("SET enable_external_access = false")
    connection.execute("SET preserve_insertion_order = false")
    return connection, folder


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def _from_duckdb(connection: Any) -> Callable[[str], Iterator[tuple[Any, ...]]]:
    def fetch(sql: str) -> Iterator[tuple[Any, ...]]:
        cursor = connection.cursor()
        cursor.execute(sql)
        while batch := cursor.fetchmany(_BATCH):
            yield from batch

    return fetch


def _open_duckdb(path: Path, schema: str | None) -> Cdm:
    import duckdb
    import ibis

    if not path.is_file():
        raise InputError(finding("DATA200", str(path), "no such file or folder"))
    try:
        connection, folder = _connect_duckdb(str(path), ())
        backend = ibis.duckdb.from_connection(connection)
        connection.execute("SET lock_configuration = true")
        cdm = Cdm(str(path), backend, {}, _from_duckdb(connection), folder=folder)
        _find_tables(cdm, schema)
    except duckdb.Error as error:
        raise InputError(
            finding("DATA200", str(path), f"not a readable DuckDB file ({type(error).__name__})")
        ) from None
    return cdm


def _open_folder(path: Path) -> Cdm:
    """Open a folder with a file, or a folder of files, for each table, named after it."""
    import duckdb
    import ibis

    home = path.resolve()
    connection, folder = _connect_duckdb(":memory:", [str(home)])
    backend = ibis.duckdb.from_connection(connection)
    connection.execute("SET lock_configuration = true")
    cdm = Cdm(str(path), backend, {}, _from_duckdb(connection), folder=folder)
    for name, files in _files_of(home, cdm).items():
        paths = [str(file) for file in files]
        try:
            if files[0].suffix.lower() == ".parquet":
                rows = connection.read_parquet(paths, union_by_name=True)
            else:
                # Text stays text: no type is guessed, so that a value is what the file says.
                rows = connection.read_csv(paths, all_varchar=True, header=True, union_by_name=True)
            rows.create_view(name)
        except duckdb.Error as error:
            cdm.findings.append(
                finding("DATA202", f"{path} {name}", f"cannot be read ({type(error).__name__})")
            )
    _find_tables(cdm, None)
    return cdm


def _files_of(home: Path, cdm: Cdm) -> dict[str, list[Path]]:
    """Return the files of each table that is known; what leads out of the folder is left out."""
    known = {*TABLES, *OTHERS}
    found: dict[str, list[Path]] = {}
    for entry in sorted(home.iterdir()):
        name, ending = _name_and_ending(entry)
        inside = sorted(entry.iterdir()) if entry.is_dir() else [entry]
        files = [f for f in inside if f.is_file() and _name_and_ending(f)[1] in ENDINGS]
        if name not in known or not files or (ending not in ENDINGS and not entry.is_dir()):
            continue
        if any(not f.resolve().is_relative_to(home) for f in files):
            cdm.findings.append(
                finding("DATA202", f"{cdm.origin} {name}", "leads out of the folder")
            )
            continue
        kinds = {_name_and_ending(f)[1].partition(".gz")[0] for f in files}
        if name in found:
            # The same table in two forms: one is read, never both.
            cdm.findings.append(finding("DATA203", f"{cdm.origin} {name}", f"also {entry.name}"))
            if ".parquet" not in kinds:
                continue
        found[name] = [f for f in files if ".parquet" not in kinds or f.suffix == ".parquet"]
    return found


def _name_and_ending(path: Path) -> tuple[str, str]:
    name = path.name.lower()
    ending = next((e for e in sorted(ENDINGS, key=len, reverse=True) if name.endswith(e)), "")
    return name.removesuffix(ending), ending


def _find_tables(cdm: Cdm, schema: str | None) -> None:
    """Fill in the tables that are there, whatever the case of their names."""
    known = {*TABLES, *OTHERS}
    options = {"database": schema} if schema else {}
    for name in sorted(cdm.backend.list_tables(**options)):
        if name.lower() in known and name.lower() not in cdm.tables:
            try:
                cdm.tables[name.lower()] = cdm.backend.table(name, **options)
            except Exception as error:  # a view of the source's own may fail in any way
                found = f"cannot be read ({type(error).__name__})"
                cdm.findings.append(finding("DATA202", f"{cdm.origin} {name}", found))


# -- expressions -----------------------------------------------------------------------------


def columns_of(table: ir.Table) -> dict[str, str]:
    """Return the columns of ``table``: name in lower case to name."""
    return {name.lower(): name for name in table.columns}


def _text(column: Any) -> Any:
    return column.cast("string")


def _key(column: Any) -> Any:
    """Return a key as text; a tool that knows no empty integer writes 12 as 12.0."""
    if column.type().is_integer():
        return column.cast("string")
    return _text(column).strip().re_replace(r"\.0+$", "").nullif("")


def _among(table: ir.Table, column: Any, persons: Sequence[str] | None) -> ir.Table:
    if persons is None:
        return table
    if column.type().is_integer():
        # Compared as the number that it is, so that an index can serve.
        numbers = [int(p) for p in persons if p.isascii() and p.isdigit() and len(p) < 19]
        return table.filter(column.isin(numbers))
    return table.filter(_key(column).isin(list(persons)))


def rows_of(name: str, cdm: Cdm, persons: Sequence[str] | None = None) -> ir.Table | None:
    """Return the rows of one table as `Row` lays them out, or None where they name no person."""
    import ibis

    spec = TABLES[name]
    table = cdm.tables[name]
    there = columns_of(table)
    if name == "episode_event":
        # It does not name the person; its episode does.
        table, there = _with_person(cdm)
    if "person_id" not in there:
        return None
    table = _among(table, table[there["person_id"]], persons)
    cells: dict[str, Any] = {}
    for f in FIELDS:
        wanted = spec.columns.get(f, ())
        column = next(
            (c for c in ((wanted,) if isinstance(wanted, str) else wanted) if c in there), None
        )
        if f == "person":
            cells[f] = _key(table[there["person_id"]])
        elif f == "table":
            cells[f] = ibis.literal(name)
        elif column is None:
            cells[f] = ibis.null("string")
        else:
            cells[f] = (_key if f in IDS else _text)(table[there[column]])
    return table.select(**cells)


def _with_person(cdm: Cdm) -> tuple[ir.Table, dict[str, str]]:
    events = cdm.tables["episode_event"]
    there = columns_of(events)
    episodes = cdm.tables.get("episode")
    if episodes is None or "episode_id" not in there:
        return events, {}
    named = columns_of(episodes)
    if not {"episode_id", "person_id"} <= named.keys():
        return events, {}
    owners = episodes.select(
        owned_episode=_key(episodes[named["episode_id"]]), owner=episodes[named["person_id"]]
    )
    joined = events.join(owners, _key(events[there["episode_id"]]) == owners.owned_episode)
    return joined, there | {"person_id": "owner"}


def all_rows(cdm: Cdm, persons: Sequence[str] | None = None) -> ir.Table:
    """Return the rows of all tables that are there, in no order."""
    import ibis

    parts = [
        part
        for name in TABLES
        if name in cdm.tables
        if (part := rows_of(name, cdm, persons)) is not None
    ]
    return ibis.union(*parts) if len(parts) > 1 else parts[0]


def stream(cdm: Cdm, persons: Sequence[str] | None = None) -> Iterator[Row]:
    """Yield all rows, those of one person together, the persons in the order of their numbers."""
    rows = all_rows(cdm, persons)
    for cells in cdm.run(rows.order_by([rows.person.length(), rows.person])):
        yield Row._make(cells)


# -- what the source says of its concepts ----------------------------------------------------

Reads = Callable[[str, Concept | None], bool]


def _chunks(ids: Iterable[str]) -> Iterator[list[str]]:
    ordered = sorted(ids)
    for start in range(0, len(ordered), _BATCH):
        yield ordered[start : start + _BATCH]


def _where(table: ir.Table, column: str, ids: list[str]) -> ir.Table:
    return _among(table, table[columns_of(table)[column]], ids)


def _select(
    cdm: Cdm, name: str, key: str, ids: Iterable[str], *names: str
) -> Iterator[tuple[Any, ...]]:
    """Yield the named columns (empty where one is missing) of the rows whose ``key`` is in ``ids``."""
    import ibis

    table = cdm.tables.get(name)
    if table is None:
        return
    there = columns_of(table)
    if key not in there:
        cdm.findings.append(finding("DATA205", f"{cdm.origin} {name}", f"no column {key}"))
        return
    for chunk in _chunks(ids):
        found = _where(table, key, chunk)
        cells = {
            n: (_key if n.endswith("_id") and n != "vocabulary_id" else _text)(found[there[n]])
            if n in there
            else ibis.null("string")
            for n in names
        }
        yield from cdm.run(found.select(**cells))


def used_concepts(cdm: Cdm, persons: Sequence[str] | None = None) -> set[str]:
    """Return the ids of all concepts that the rows use."""
    import ibis

    parts = []
    for name, spec in TABLES.items():
        rows = rows_of(name, cdm, persons) if name in cdm.tables else None
        if rows is not None:
            parts += [rows.select(id=rows[f]).distinct() for f in CONCEPTS if f in spec.columns]
    expression = ibis.union(*parts, distinct=True) if len(parts) > 1 else parts[0]
    return {i for (i,) in cdm.run(expression) if i and i != NO_CONCEPT}


def _concepts(cdm: Cdm, ids: Iterable[str]) -> dict[str, Concept]:
    wanted = (
        "concept_id",
        "vocabulary_id",
        "concept_code",
        "concept_name",
        "standard_concept",
        "invalid_reason",
    )
    return {
        row[0]: Concept(
            row[1] or "", row[2] or "", row[3] or "", row[4] == "S", not (row[5] or "").strip()
        )
        for row in _select(cdm, "concept", "concept_id", ids, *wanted)
        if row[0]
    }


def _ancestors(cdm: Cdm, ids: Iterable[str]) -> dict[str, set[str]]:
    above: dict[str, set[str]] = {}
    wanted = ("descendant_concept_id", "ancestor_concept_id")
    for below, ancestor in _select(cdm, "concept_ancestor", wanted[0], ids, *wanted):
        if below and ancestor and below != ancestor:
            above.setdefault(below, set()).add(ancestor)
    return above


def load_vocabulary(cdm: Cdm, reads: Reads, persons: Sequence[str] | None = None) -> Vocabulary:
    """Return what the source says of the concepts that its rows use.

    ``reads`` tells whether a mapping reads a concept. For one that none reads, the nearest
    ancestors that one does are taken: those with no other such ancestor between.
    """
    used = used_concepts(cdm, persons)
    concepts = _concepts(cdm, used)
    unread = {i for i in used if not reads(i, concepts.get(i))}
    above = _ancestors(cdm, unread)
    higher = set().union(*above.values()) if above else set()
    concepts |= _concepts(cdm, higher - concepts.keys())
    mapped = {i for i in higher if reads(i, concepts.get(i))}
    between = _ancestors(cdm, mapped)
    nearest: dict[str, tuple[str, ...]] = {}
    for i, ancestors in above.items():
        found = ancestors & mapped
        passed = set().union(*(between.get(a, set()) for a in found)) if found else set()
        if found - passed:
            nearest[i] = tuple(sorted(found - passed, key=lambda a: (len(a), a)))
    return Vocabulary(concepts, nearest, _strengths(cdm, used))


def _strengths(cdm: Cdm, ids: Iterable[str]) -> dict[str, Strength]:
    """Return the strength of products with one ingredient, given as an amount."""
    wanted = ("drug_concept_id", "amount_value", "amount_unit_concept_id", "invalid_reason")
    found: dict[str, list[tuple[Any, ...]]] = {}
    for row in _select(cdm, "drug_strength", wanted[0], ids, *wanted):
        found.setdefault(row[0], []).append(row)
    return {
        drug: Strength(rows[0][1], rows[0][2])
        for drug, rows in found.items()
        if len(rows) == 1 and rows[0][1] and rows[0][2] and not (rows[0][3] or "").strip()
    }


# -- what is missing, and the version --------------------------------------------------------

VERSIONS: Mapping[str, str] = {"5.4": "", "5.3": "DATA206"}


def look_over(cdm: Cdm) -> str | None:
    """Add findings on version, tables and columns; return the version, if it is one that is read.

    Raises:
        InputError: the source says that it is of another version.
    """
    version = _version(cdm)
    for name, table in TABLES.items():
        there = cdm.tables.get(name)
        if there is None:
            if table.lost and not (version == "5.3" and name in NEW_IN_5_4):
                cdm.findings.append(finding("DATA204", f"{cdm.origin} {name}", table.lost))
            continue
        named = columns_of(there)
        for f in ("person", *table.needed):
            wanted = "person_id" if f == "person" else table.columns[f]
            if name == "episode_event":
                continue
            options = (wanted,) if isinstance(wanted, str) else wanted
            if not any(o in named for o in options):
                cdm.findings.append(
                    finding("DATA205", f"{cdm.origin} {name}", f"no column {options[0]}")
                )
    return version


def _version(cdm: Cdm) -> str | None:
    source = cdm.tables.get("cdm_source")
    column = columns_of(source).get("cdm_version") if source is not None else None
    said = (
        {
            str(v).strip().lower().removeprefix("v")
            for (v,) in cdm.run(source.select(source[column]))
            if v
        }
        if source is not None and column is not None
        else set()
    )
    versions = {".".join(v.split(".")[:2]) for v in said}
    if len(versions) != 1:
        found = "several versions" if versions else "no version"
        cdm.findings.append(finding("DATA207", f"{cdm.origin} cdm_source", found))
        return None
    version = versions.pop()
    if version not in VERSIONS:
        shown = (
            version if len(version) < 8 and version.replace(".", "").isdigit() else "an unknown one"
        )
        raise InputError(finding("DATA208", f"{cdm.origin} cdm_source", f"version {shown}"))
    if VERSIONS[version]:
        cdm.findings.append(
            finding(VERSIONS[version], f"{cdm.origin} cdm_source", f"version {version}")
        )
    return version
