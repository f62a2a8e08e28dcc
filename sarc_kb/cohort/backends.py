"""Where the plan runs: DuckDB in this process, PostgreSQL, or Apache Spark.

Each takes Arrow tables and Parquet files in and gives tables back; the expressions between are the
same for all.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol

import ibis
import pyarrow as pa
import pyarrow.parquet as pq

from sarc_kb.errors import EngineError, Finding, UsageError

ENGINES = ("duckdb", "postgres", "spark")
_BATCH = 100_000
_MEMORY = re.compile(r"(\d+)\s*([kKmMgGtT])[iI]?[bB]?")


class Backend(Protocol):
    """A database that evaluates the plan.

    ``version`` names it for reports. Tables that it makes are its own and go with `close`.
    """

    name: str
    version: str

    def load(self, name: str, table: pa.Table) -> Any:
        """Return the Arrow table as a table of the database."""
        ...

    def load_files(self, name: str, files: Sequence[Path], schema: pa.Schema) -> Any:
        """Return the rows of Parquet files as a table of the database."""
        ...

    def keep(self, name: str, expression: Any) -> Any:
        """Return the table that holds the rows of ``expression``, worked out once."""
        ...

    def drop(self, name: str) -> None:
        """Drop a table that was loaded or kept."""
        ...

    def batches(self, expression: Any) -> Iterator[pa.RecordBatch]:
        """Yield the rows of ``expression``, a bounded number at a time."""
        ...

    def close(self) -> None: ...


def open_backend(
    name: str, *, memory: str, scratch: Path, threads: int | None = None, server: str | None = None
) -> Backend:
    """Return the named engine.

    Args:
        memory: such as ``4GB``: what the engine may use before it turns to disk.
        scratch: a folder for what does not fit.
        server: ``postgresql://…``, for PostgreSQL alone.
    Raises:
        UsageError: see `check_engine`.
    """
    check_engine(name, memory=memory, server=server)
    if name == "duckdb":
        return DuckDB(memory, scratch, threads)
    if name == "postgres":
        return PostgreSQL(server)
    return Spark(memory, scratch, threads)


def check_engine(name: str, *, memory: str, server: str | None = None) -> None:
    """Check what can be known of an engine before it is opened.

    Raises:
        UsageError: no such engine, or what it needs is not there.
    """
    bounded_memory(memory)
    if name not in ENGINES:
        raise UsageError(
            Finding(
                "USE040",
                "error",
                f"--engine {name}",
                "not a known cohort engine",
                "the name selects where the plan runs",
                "choose one of: " + ", ".join(ENGINES),
            )
        )
    if name == "postgres" and not (server or "").startswith(("postgresql://", "postgres://")):
        raise UsageError(
            Finding(
                "USE042",
                "error",
                "--engine postgres",
                "no server",
                "the plan runs where the OMOP tables are",
                "name the server: --omop postgresql://… or --server postgresql://…",
            )
        )
    package, extra, why = _NEEDS.get(name, ("", "", ""))
    if package and find_spec(package) is None:
        raise UsageError(
            Finding(
                "USE043",
                "error",
                f"--engine {name}",
                f"the package {package} is not installed",
                why,
                f"install it with: pip install 'sarc-kb[{extra}]'",
            )
        )


_NEEDS = {
    "postgres": ("psycopg", "omop", "this engine is an optional extra"),
    "spark": ("pyspark", "spark", "this engine is an optional extra, and needs Java 17"),
}
_ENGINES_OWN = ("_duckdb", "duckdb", "ibis", "psycopg", "py4j", "pyspark")
"""Packages whose exceptions are those of an engine."""


@contextmanager
def told_failures(name: str) -> Iterator[None]:
    """Tell what fails inside an engine as a finding, in the engine's own words.

    Raises:
        EngineError: an engine failed.
    """
    try:
        yield
    except Exception as failure:
        if type(failure).__module__.partition(".")[0] not in _ENGINES_OWN:
            raise
        kind, text = type(failure).__name__, str(failure).strip()
        fix = "what was prepared is kept: go on with --resume when it is mended"
        if "OutOfMemory" in kind:
            fix = "give it more with --memory, and go on with --resume"
        raise EngineError(
            Finding(
                "ENGINE007",
                "error",
                f"--engine {name}",
                f"{kind}: {text.splitlines()[0] if text else 'no more is known'}",
                "the engine could not finish; nothing was written",
                fix,
            )
        ) from None


def bounded_memory(text: str) -> int:
    """Return the bytes that ``text``, such as ``4GB``, says.

    Raises:
        UsageError: it says none.
    """
    found = _MEMORY.fullmatch(text.strip())
    size = int(found[1]) << (10 * (1 + "KMGT".index(found[2].upper()))) if found else 0
    if size < 64 << 20:
        raise UsageError(
            Finding(
                "USE041",
                "error",
                f"--memory {text}",
                "not an amount of at least 64MB",
                "the engine is held to it and turns to disk beyond",
                "write for example 4GB",
            )
        )
    return size


def _columns(expression: Any, dialect: str) -> str:
    """Return the columns of a table for the rows of ``expression``."""
    defined = expression.schema().to_sqlglot_column_defs(dialect)
    return ", ".join(column.sql(dialect) for column in defined)


class DuckDB:
    """DuckDB in this process."""

    name = "duckdb"

    def __init__(self, memory: str, scratch: Path, threads: int | None = None) -> None:
        import duckdb

        self.version = str(duckdb.__version__)
        self._connection = duckdb.connect(":memory:")
        settings: dict[str, object] = {
            "memory_limit": f"{bounded_memory(memory) >> 20}MiB",
            "temp_directory": str(scratch),
            "preserve_insertion_order": False,
            "autoinstall_known_extensions": False,
            "autoload_known_extensions": False,
        }
        if threads:
            settings["threads"] = threads
        for name, value in settings.items():
            text = str(value).lower() if isinstance(value, bool) else _quoted(str(value))
            self._connection.execute(f"SET {name} = {text}")
        # Asked first: in a notebook DuckDB refuses to set this at all without a package for widgets.
        self._connection.execute("SELECT current_setting('enable_progress_bar')")
        if self._connection.fetchone() != (False,):
            self._connection.execute("SET enable_progress_bar = false")
        self._backend = ibis.duckdb.from_connection(self._connection)

    def load(self, name: str, table: pa.Table) -> Any:
        self._connection.register(f"arrow_{name}", table)
        self._connection.execute(f"CREATE TEMP TABLE {name} AS SELECT * FROM arrow_{name}")
        self._connection.unregister(f"arrow_{name}")
        return self._backend.table(name)

    def load_files(self, name: str, files: Sequence[Path], schema: pa.Schema) -> Any:
        if not files:
            return self.load(name, schema.empty_table())
        listed = ", ".join(_quoted(str(file)) for file in files)
        self._connection.execute(
            f"CREATE TEMP VIEW {name} AS SELECT * FROM read_parquet([{listed}])"
        )
        return self._backend.table(name)

    def keep(self, name: str, expression: Any) -> Any:
        self._connection.execute(f"CREATE TEMP TABLE {name} ({_columns(expression, 'duckdb')})")
        self._connection.execute(f"INSERT INTO {name} {self._sql(expression)}")
        return self._backend.table(name)

    def drop(self, name: str) -> None:
        self._connection.execute(f"DROP TABLE {name}")

    def batches(self, expression: Any) -> Iterator[pa.RecordBatch]:
        yield from self._connection.execute(self._sql(expression)).fetch_record_batch(_BATCH)

    def close(self) -> None:
        self._connection.close()

    def _sql(self, expression: Any) -> str:
        return str(ibis.to_sql(expression, dialect="duckdb"))


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


class PostgreSQL:
    """A PostgreSQL server: the tables go there as temporary ones, the rows come back."""

    name = "postgres"

    def __init__(self, server: str | None) -> None:
        self._backend = ibis.connect(server)
        self.version = str(self._backend.version)

    def load(self, name: str, table: pa.Table) -> Any:
        return self._filled(name, [table], table.schema)

    def load_files(self, name: str, files: Sequence[Path], schema: pa.Schema) -> Any:
        return self._filled(name, (pq.read_table(file, schema=schema) for file in files), schema)

    def _filled(self, name: str, tables: Iterable[pa.Table], schema: pa.Schema) -> Any:
        self._create(name, ibis.memtable(schema.empty_table()))
        columns = ", ".join(schema.names)
        with (
            self._backend.con.cursor() as cursor,
            cursor.copy(f"COPY {name} ({columns}) FROM STDIN") as copy,
        ):
            for table in tables:
                for batch in table.to_batches(max_chunksize=10_000):
                    for row in zip(*(column.to_pylist() for column in batch.columns), strict=True):
                        copy.write_row([_without_nul(value) for value in row])
        self._backend.con.cursor().execute(f"ANALYZE {name}")
        return self._backend.table(name)

    def keep(self, name: str, expression: Any) -> Any:
        self._create(name, expression)
        sql = ibis.to_sql(expression, dialect="postgres")
        self._backend.con.cursor().execute(f"INSERT INTO {name} {sql}")
        self._backend.con.cursor().execute(f"ANALYZE {name}")
        return self._backend.table(name)

    def _create(self, name: str, expression: Any) -> None:
        columns = _columns(expression, "postgres")
        self._backend.con.cursor().execute(f"CREATE TEMP TABLE {name} ({columns})")

    def drop(self, name: str) -> None:
        self._backend.con.cursor().execute(f"DROP TABLE {name}")

    def batches(self, expression: Any) -> Iterator[pa.RecordBatch]:
        yield from expression.to_pyarrow_batches(chunk_size=_BATCH)

    def close(self) -> None:
        self._backend.disconnect()


def _without_nul(value: object) -> object:
    """Return the value as PostgreSQL takes it: a text of it has no NUL."""
    return value.replace("\0", "\\x00") if isinstance(value, str) and "\0" in value else value


class Spark:
    """Apache Spark, in this machine unless the session's own settings say otherwise.

    Where a session is running, its cluster is used, in a session beside it: what the caller has set
    there stays, and it goes on afterwards.
    """

    name = "spark"

    def __init__(self, memory: str, scratch: Path, threads: int | None = None) -> None:
        from pyspark.sql import SparkSession

        running = SparkSession.getActiveSession()
        self._is_guest = running is not None
        self._session = running.newSession() if running else self._started(memory, scratch, threads)
        for name, value in self._SETTINGS.items():
            self._session.conf.set(name, value)
        self.version = str(self._session.version)
        self._backend = ibis.pyspark.connect(self._session)
        self._scratch = scratch
        self._kept: set[str] = set()

    _SETTINGS: Mapping[str, str] = {
        "spark.sql.session.timeZone": "UTC",
        "spark.sql.shuffle.partitions": "8",
        "spark.sql.execution.arrow.pyspark.enabled": "true",
    }
    """What holds for one session of a cluster."""

    @staticmethod
    def _started(memory: str, scratch: Path, threads: int | None) -> Any:
        from pyspark.sql import SparkSession

        megabytes = bounded_memory(memory) >> 20
        settings: Mapping[str, str] = {
            "spark.ui.enabled": "false",
            "spark.ui.showConsoleProgress": "false",
            "spark.local.dir": str(scratch),
            "spark.driver.memory": f"{megabytes}m",
            "spark.driver.bindAddress": "127.0.0.1",
            "spark.driver.host": "127.0.0.1",
            "spark.sql.warehouse.dir": str(scratch / "warehouse"),
        }
        builder = SparkSession.builder.appName("sarc-kb")
        if "SPARK_REMOTE" not in os.environ and "MASTER" not in os.environ:
            builder = builder.master(f"local[{threads or os.cpu_count() or 1}]")
        for name, value in settings.items():
            builder = builder.config(name, value)
        session = builder.getOrCreate()
        session.sparkContext.setLogLevel("ERROR")
        return session

    def load(self, name: str, table: pa.Table) -> Any:
        # By way of a file: Spark takes no empty table from Python, and types stay what they are.
        file = self._scratch / f"{name}.parquet"
        pq.write_table(table, file)
        return self.load_files(name, [file], table.schema)

    def load_files(self, name: str, files: Sequence[Path], schema: pa.Schema) -> Any:
        if not files:
            return self.load(name, schema.empty_table())
        frame = self._session.read.parquet(*(str(file) for file in files))
        frame.createOrReplaceTempView(name)
        return self._backend.table(name)

    def keep(self, name: str, expression: Any) -> Any:
        self._frame(expression).cache().createOrReplaceTempView(name)
        self._kept.add(name)
        return self._backend.table(name)

    def _frame(self, expression: Any) -> Any:
        return self._session.sql(str(ibis.to_sql(expression, dialect="pyspark")))

    def drop(self, name: str) -> None:
        if name in self._kept:
            self._session.table(name).unpersist()
            self._kept.remove(name)
        self._session.catalog.dropTempView(name)

    def batches(self, expression: Any) -> Iterator[pa.RecordBatch]:
        yield from self._frame(expression).toArrow().to_batches(_BATCH)

    def close(self) -> None:
        if not self._is_guest:
            self._session.stop()
            return
        for name in (*self._kept,):
            self.drop(name)


def write_tables(tables: Iterable[pa.Table], schema: pa.Schema, path: Path) -> None:
    """Write tables of the same columns as one Parquet file; what is a dictionary here is a plain
    column of its values to whoever reads the file."""
    with pq.ParquetWriter(path, schema, compression="zstd", store_schema=False) as writer:
        for table in tables:
            writer.write_table(table)
