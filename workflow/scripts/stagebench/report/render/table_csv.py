"""The table of results: one row per cell, in any state, as CSV."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from stagebench.records.io import replacing
from stagebench.report.metrics import METRICS, Scalar
from stagebench.report.rows import Row

#: Columns before and after the metrics.
_NAMES = ("device", "model", "engine")
_END = ("status", "note")
#: The columns of the file, in their order.
COLUMNS = (*_NAMES, *(part.csv for metric in METRICS for part in metric.parts if part.csv), *_END)
_DECIMALS = 3


def write_table(loaded: Sequence[Row], table: Path) -> None:
    """Write the CSV file `table` with a line for every row, in the order given.

    A row that was not measured has blank figures, its status, and the reason as its note.
    """
    frame = pd.DataFrame([_line(row) for row in loaded], columns=list(COLUMNS))
    with replacing(table) as part:
        frame.to_csv(part, index=False, lineterminator="\n")


def _line(row: Row) -> dict[str, str]:
    figures = {part.csv: _text(part.value(row)) for metric in METRICS for part in metric.parts if part.csv}
    names = dict(zip(_NAMES, row.cell.key, strict=False))
    return {**names, **figures, "status": row.status, "note": row.note()}


def _text(value: Scalar) -> str:
    if value is None:
        return ""
    return f"{value:.{_DECIMALS}f}" if isinstance(value, float) else str(value)
