"""The table of results: one row per cell, supported or not, as CSV."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pandas as pd

from stagebench.records import StagebenchError, replacing
from stagebench.report.chain import Row, load_rows

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

#: The columns of the file, in their order.
COLUMNS = (
    "device",
    "model",
    "engine",
    "precision",
    "bs",
    "mem_used_gib",
    "mem_total_gib",
    "e2e_time_s",
    "p_val_whole",
    "p_val_core",
    "p_infer_whole",
    "p_infer_core",
    "latency_us",
    "acc_infer",
    "acc_val",
    "status",
    "note",
)
#: Columns that name a row.
KEY = ("device", "model", "engine", "precision", "bs")
_DECIMALS = 3


def make_table(rows: Sequence[Mapping[str, Any]], table: Path) -> None:
    """Write the CSV file `table` from the records of every row, in the order given.

    A row that was not measured has blank figures, its status, and the reason as its note.

    Raises:
        StagebenchError: a record is missing, damaged or lacks a figure.
    """
    frame = pd.DataFrame([_line(row) for row in load_rows(rows)], columns=list(COLUMNS))
    with replacing(table) as part:
        frame.to_csv(part, index=False, lineterminator="\n")


def read_table(table: Path) -> dict[tuple[str, ...], dict[str, str]]:
    """Read the file back: each row as column -> text, by its key (device, model, engine, precision, bs)."""
    frame = pd.read_csv(table, dtype=str, keep_default_na=False)
    if tuple(frame.columns) != COLUMNS:
        raise StagebenchError(f"{table}: its columns are not those of this version; delete it and run again")
    lines = [{str(name): str(value) for name, value in line.items()} for line in frame.to_dict("records")]
    return {tuple(line[name] for name in KEY): line for line in lines}


def e2e_seconds(row: Row) -> float:
    """Sum the wall times of every stage on the row's chain, in seconds; downloads are left out."""
    return sum(row.seconds().values())


def _line(row: Row) -> dict[str, str]:
    line = dict(zip(KEY, row.key, strict=True))
    if row.ok:
        line |= {name: _decimal(value) for name, value in _figures(row).items()}
    return {name: line.get(name, "") for name in COLUMNS} | {"status": row.status, "note": row.note()}


def _figures(row: Row) -> dict[str, float | None]:
    engine, reference = row.metrics, row.reference
    try:
        return {
            "mem_used_gib": engine["mem_used_gib"],
            "mem_total_gib": engine["mem_total_gib"],
            "e2e_time_s": e2e_seconds(row),
            "p_val_whole": reference.get("p_whole"),
            "p_val_core": reference.get("p_core"),
            "p_infer_whole": engine["p_whole"],
            "p_infer_core": engine["p_core"],
            "latency_us": engine["latency_us"],
            "acc_infer": engine["top1"],
            "acc_val": reference.get("top1"),
        }
    except KeyError as error:
        where = row.paths["inference"]
        raise StagebenchError(f"{where}: the record has no figure {error}; delete it and run again") from None


def _decimal(value: float | None) -> str:
    return "" if value is None else f"{value:.{_DECIMALS}f}"
