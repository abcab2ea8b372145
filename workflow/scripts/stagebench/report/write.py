"""The stage of the report: rows are read once, and every file of it is made from them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from stagebench.records.envelope import FileEntry, Stopwatch
from stagebench.records.reports import FailedRow, Report, ReportRecord
from stagebench.report.render.markdown import write_markdown
from stagebench.report.render.table_csv import write_table
from stagebench.report.rows import Row, RowFiles, load_rows
from stagebench.report.settings import ReportSettings
from stagebench.vocabulary import Status


@dataclass(frozen=True)
class ReportFiles:
    """The files of a report; a precision's has no table of its own."""

    report: Path
    record: Path
    table: Path | None


def write_report(rows: Sequence[RowFiles], files: ReportFiles, *, settings: ReportSettings) -> None:
    """Write a report, its table and its record.

    Args:
        rows: the cells to report, with the paths of their records.
    """
    watch = Stopwatch()
    loaded = load_rows(rows)
    written = datetime.now(UTC).isoformat(timespec="seconds")
    write_markdown(loaded, files.report, settings=settings, written=written)
    outputs = {"report": FileEntry.of(files.report)}
    if files.table is not None:
        write_table(loaded, files.table)
        outputs["table"] = FileEntry.of(files.table)
    ReportRecord.make(
        watch,
        result=Report(
            config_sha256=settings.config_sha256,
            precision=settings.precision,
            rows=len(loaded),
            measured=sum(row.ok for row in loaded),
            failed=tuple(_failed(row) for row in loaded if row.state.status is Status.FAILED),
        ),
        outputs=outputs,
    ).write(files.record)


def _failed(row: Row) -> FailedRow:
    return FailedRow(cell=row.cell, stage=row.stage, reason=row.reason)
