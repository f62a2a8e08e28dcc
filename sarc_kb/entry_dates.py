"""The table of entry dates that a caller gives for patients whose data do not say theirs."""

from __future__ import annotations

import csv
from pathlib import Path

from sarc_kb.errors import Finding, UsageError
from sarc_kb.kb import option_date


def read_entry_dates(path: Path) -> dict[str, str]:
    """Return the entry dates of a CSV table of patients and dates; a line of headings may lead.

    Raises:
        UsageError: it cannot be read, or a line is not one patient and one date.
    """

    def fault(where: str, found: str, why: str, fix: str) -> UsageError:
        return UsageError(Finding("USE012", "error", where, found, why, fix))

    dates: dict[str, str] = {}
    name = str(path)
    try:
        with path.open(encoding="utf-8-sig", newline="") as handle:
            for number, row in enumerate(csv.reader(handle, strict=True), 1):
                cells = [cell.strip() for cell in row]
                if not any(cells) or (number == 1 and cells[-1].lower() == "date"):
                    continue
                if len(cells) != 2 or not cells[0] or cells[0] in dates:
                    raise fault(
                        f"{name}:{number}",
                        "not one patient and one date",
                        "an entry date would be guessed",
                        "write patient,YYYY-MM-DD, each patient once",
                    )
                option_date(f"{name}:{number}", cells[1])
                dates[cells[0]] = cells[1]
    except OSError as error:
        raise fault(
            name, f"cannot be opened: {error.strerror}", "entry dates are needed", "check the path"
        ) from None
    except (UnicodeDecodeError, csv.Error):
        raise fault(
            name, "not readable as a table", "entry dates are needed", "save it as CSV in UTF-8"
        ) from None
    return dates
