"""Small OMOP sources for tests: the same tables as CSV, Parquet, DuckDB file or PostgreSQL schema."""

from __future__ import annotations

import csv
import gzip
import os
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

duckdb = pytest.importorskip("duckdb", reason="the extra omop is not installed")

Tables = Mapping[str, Sequence[Mapping[str, object]]]
SERVER = os.environ.get("SARC_KB_TEST_POSTGRES", "")
FORMS = (
    "csv",
    "csv.gz",
    "parquet",
    "duckdb",
    pytest.param(
        "postgres",
        marks=[
            pytest.mark.postgres,
            pytest.mark.skipif(not SERVER, reason="no server: SARC_KB_TEST_POSTGRES is not set"),
        ],
    ),
)


def cdm(**tables: Sequence[Mapping[str, object]]) -> dict[str, list[dict[str, object]]]:
    """Return tables with one man born in 1960, observed from birth on, and what is given besides."""
    base: dict[str, list[dict[str, object]]] = {
        "cdm_source": [{"cdm_source_name": "test", "cdm_version": "5.4"}],
        "person": [
            {
                "person_id": 1,
                "gender_concept_id": 8507,
                "year_of_birth": 1960,
                "month_of_birth": 5,
                "day_of_birth": 17,
            }
        ],
        "observation_period": [
            {
                "observation_period_id": 1,
                "person_id": 1,
                "observation_period_start_date": "1960-05-17",
                "observation_period_end_date": "2024-03-01",
            }
        ],
    }
    return base | {name: [dict(row) for row in rows] for name, rows in tables.items()}


_TEXT_IDS = ("concept_class_id", "domain_id", "vocabulary_id")


def _type(column: str) -> str:
    if column.endswith("_id") and column not in _TEXT_IDS:
        return "BIGINT"
    if column in ("year_of_birth", "month_of_birth", "day_of_birth", "days_supply"):
        return "INTEGER"
    if column.endswith("_date"):
        return "DATE"
    if column.endswith("_datetime"):
        return "TIMESTAMP"
    if column in ("value_as_number", "range_high", "range_low", "quantity", "amount_value"):
        return "DOUBLE PRECISION"
    return "VARCHAR"


def _columns(rows: Sequence[Mapping[str, object]]) -> list[str]:
    return list(dict.fromkeys(column for row in rows for column in row))


def _fill(execute, tables: Tables, prefix: str = "") -> None:
    for name, rows in tables.items():
        columns = _columns(rows)
        execute(
            f"CREATE TABLE {prefix}{name} ({', '.join(f'{c} {_type(c)}' for c in columns)})", []
        )
        marks = ", ".join(f"CAST(%s AS {_type(c)})" for c in columns)
        for row in rows:
            execute(f"INSERT INTO {prefix}{name} VALUES ({marks})", [row.get(c) for c in columns])


def write_csv(folder: Path, tables: Tables, ending: str = ".csv") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, rows in tables.items():
        opened = gzip.open if ending.endswith(".gz") else open
        with opened(folder / f"{name}{ending}", "wt", encoding="utf-8", newline="") as handle:
            writer = csv.DictWriter(handle, _columns(rows), restval="")
            writer.writeheader()
            writer.writerows(rows)
    return folder


def write_duckdb(path: Path, tables: Tables) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    connection = duckdb.connect(str(path))
    _fill(lambda sql, values: connection.execute(sql.replace("%s", "?"), values), tables)
    connection.close()
    return path


def write_parquet(folder: Path, tables: Tables) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    connection = duckdb.connect()
    _fill(lambda sql, values: connection.execute(sql.replace("%s", "?"), values), tables)
    for name in tables:
        connection.execute(f"COPY {name} TO '{folder / name}.parquet' (FORMAT parquet)")
    connection.close()
    return folder


@contextmanager
def postgres_schema() -> Iterator[tuple[str, str]]:
    """Give the URL of the test server and an empty schema on it, which is dropped afterwards."""
    import psycopg

    schema = f"cdm_{uuid.uuid4().hex[:12]}"
    with psycopg.connect(SERVER, autocommit=True) as connection:
        connection.execute(f"CREATE SCHEMA {schema}")
    try:
        yield SERVER, schema
    finally:
        with psycopg.connect(SERVER, autocommit=True) as connection:
            connection.execute(f"DROP SCHEMA {schema} CASCADE")


@contextmanager
def source_of(form: str, tables: Tables, folder: Path) -> Iterator[tuple[str, str | None]]:
    """Give a source with ``tables`` in one of `FORMS`, and its schema if it has one."""
    if form == "postgres":
        import psycopg

        with postgres_schema() as (url, schema):
            with psycopg.connect(url, autocommit=True) as connection:
                _fill(connection.execute, tables, f"{schema}.")
            yield url, schema
    elif form == "duckdb":
        yield str(write_duckdb(folder / "cdm.duckdb", tables)), None
    elif form == "parquet":
        yield str(write_parquet(folder / "cdm", tables)), None
    else:
        yield str(write_csv(folder / "cdm", tables, f".{form}")), None
