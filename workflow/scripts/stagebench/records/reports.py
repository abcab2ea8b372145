"""The record of a report: what it was made from, which rows failed, and whether its files are as they were written."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

from stagebench.errors import StagebenchError
from stagebench.records.envelope import Record, Value
from stagebench.vocabulary import Cell


class FailedRow(Value):
    """A row in the state "failed": its cell, the stage in which that arose, and the reason."""

    cell: Cell
    stage: str
    reason: str


class Report(Value):
    """A written report."""

    #: SHA-256 of the checked config, defaults included.
    config_sha256: str
    #: The one precision of its rows; null for a report of all.
    precision: str | None
    rows: int
    measured: int
    failed: tuple[FailedRow, ...]


class ReportRecord(Record[Report]):
    """Beside report.md and table.csv, or beside a precision's report."""

    KIND: ClassVar[str] = "report"
    FORMAT: ClassVar[int] = 1


def as_written(record: Path, files: Mapping[str, Path], config_sha256: str) -> bool:
    """Return whether those files of a report that exist are as they were written, from this config.

    Args:
        record: the report's record.
        files: the report's files, by the names of the record's outputs.
        config_sha256: SHA-256 of the checked config.
    """
    if not record.exists():
        return True
    try:
        known = ReportRecord.read(record)
        for name, path in files.items():
            if path.exists():
                known.artifact(name, path).verify()
    except StagebenchError:
        return False
    return known.found.config_sha256 == config_sha256
