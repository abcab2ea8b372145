"""The judgement that follows a written report: did every stage do what it could?"""

from __future__ import annotations

from pathlib import Path

from stagebench.errors import UnrecordedError
from stagebench.records.reports import ReportRecord

_SHOWN = 3


def require_no_failed_row(record: Path) -> None:
    """Raise if a row of a report failed: it was tried, and went wrong in a way that no state but "failed" describes.

    Raises:
        UnrecordedError: one did; the text names the first ones with their reasons.
    """
    found = ReportRecord.read(record).found
    if not found.failed:
        return
    named = [f"{' '.join(row.cell.key)} in stage {row.stage}: {row.reason}" for row in found.failed]
    more = f"; and {len(named) - _SHOWN} others" if len(named) > _SHOWN else ""
    rows = "row" if found.rows == 1 else "rows"
    raise UnrecordedError(
        f"{len(named)} of {found.rows} {rows} failed; {record.with_suffix('.md')} has the reasons and how to try again "
        f"({'; '.join(named[:_SHOWN])}{more})"
    )
