"""Workbooks (Office Open XML): sheets of rows, the same byte for byte for the same rows.

Every text is written as a text: nothing of a record becomes a formula, a link or a number.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from importlib.util import find_spec
from types import TracebackType
from typing import IO, Any

from sarc_kb.errors import Finding, UsageError
from sarc_kb.reports.escaping import visible

LONGEST_TEXT = 32_767
"""Characters that a cell can hold."""
MOST_ROWS = 1_048_576
"""Rows that a sheet can hold, the one with the names of the columns included."""

_CREATED = datetime(2000, 1, 1)  # noqa: DTZ001 - the format has no time zone, and it is no time
_WIDEST = 60
_LOOKED_AT = 200


def check_installed() -> None:
    """Raise an error that says how to install the writer, where it is not installed."""
    if find_spec("xlsxwriter") is None:
        raise UsageError(
            Finding(
                "USE091",
                "error",
                "--format xlsx",
                "the package XlsxWriter is not installed",
                "the writer of workbooks is an optional extra",
                "install it with: pip install 'sarc-kb[xlsx]'",
            )
        )


class Workbook:
    """A workbook that is written to ``stream`` when it is left without an exception.

    Raises:
        UsageError: the extra is not installed.
    """

    def __init__(self, stream: IO[bytes]) -> None:
        check_installed()
        import xlsxwriter

        options = {
            "strings_to_formulas": False,
            "strings_to_numbers": False,
            "strings_to_urls": False,
        }
        self._book = xlsxwriter.Workbook(stream, options)
        self._book.set_properties({"title": "sarc-kb", "created": _CREATED})
        self._head = self._book.add_format({"bold": True, "bottom": 1})
        self._cell = self._book.add_format({"text_wrap": True, "valign": "top"})

    def __enter__(self) -> Workbook:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if kind is None:
            self._book.close()
        else:
            self._book.fileclosed = True  # nothing is to be written, now or when it is collected

    def sheet(self, name: str, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
        """Add a sheet: a head that stays in sight and filters, and the rows.

        Whole numbers are numbers; a list is its items with ``;`` between them; all else is a text,
        cut where a cell can hold no more.
        Raises:
            UsageError: there are more rows than a sheet can hold.
        """
        sheet = self._book.add_worksheet(name)
        widths = [len(column) for column in columns]
        for number, column in enumerate(columns):
            sheet.write_string(0, number, column, self._head)
        last = 0
        for last, row in enumerate(rows, 1):
            if last >= MOST_ROWS:
                raise _too_many(name)
            for number, value in enumerate(row):
                width = self._write(sheet, last, number, value)
                if last <= _LOOKED_AT:
                    widths[number] = max(widths[number], width)
        for number, width in enumerate(widths):
            sheet.set_column(number, number, min(width, _WIDEST) + 2)
        sheet.freeze_panes(1, 1)
        sheet.autofilter(0, 0, last, len(columns) - 1)

    def _write(self, sheet: Any, row: int, column: int, value: object) -> int:
        """Write a cell and return how many characters wide it is."""
        if value is None or value == "":
            return 0
        if isinstance(value, int) and not isinstance(value, bool):
            sheet.write_number(row, column, value, self._cell)
            return len(str(value))
        text = "; ".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)
        text = visible(text)
        if not text:
            return 0
        if len(text) > LONGEST_TEXT:
            text = text[: LONGEST_TEXT - 1] + "…"
        sheet.write_string(row, column, text, self._cell)
        return len(text)


def _too_many(name: str) -> UsageError:
    return UsageError(
        Finding(
            "USE092",
            "error",
            f"sheet {name}",
            f"more than {MOST_ROWS - 1} rows",
            "a sheet can hold no more, and rows would be lost",
            "choose parquet, csv or jsonl, or leave the sheet out (--no-clauses)",
        )
    )
