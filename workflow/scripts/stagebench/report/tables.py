"""The report's tables of measured figures, as headers and texts; renderers format them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from stagebench.report.formatting import BLANK, percent, rate
from stagebench.report.metrics import ADDED, ORIGINAL, Metric
from stagebench.report.reference import PublishedRow
from stagebench.report.rows import Row

_NAMES = ("device", "model", "engine")
#: FlagPerf's rows end with the memory, which its list of indicators names earlier.
_COLUMNS = sorted(ORIGINAL, key=lambda metric: metric.name == "mem")
_IDENTITY = _COLUMNS[:2]


@dataclass(frozen=True)
class Table:
    """Headers, and rows of as many texts. The first `left` columns are words, the others figures."""

    headers: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    left: int

    @classmethod
    def of(cls, headers: Sequence[str], rows: Sequence[Sequence[str]], left: int) -> Table:
        """Return the table of these texts."""
        return cls(tuple(headers), tuple(map(tuple, rows)), left)


def metric_table(rows: Sequence[Row], published: Sequence[PublishedRow]) -> Table:
    """Return FlagPerf's metric table, in its layout: the rows of this run, then FlagPerf's published ones.

    A row that was not measured shows its status in the last column.
    """
    lines = [[*_names(row), *(metric.text(row) for metric in _COLUMNS)] for row in rows]
    for row, line in zip(rows, lines, strict=True):
        if not row.ok:
            line[-1] = row.status
    lines += [
        [f"*FlagPerf: {row.configuration}*", row.model, row.engine, *(row.texts()[metric.name] for metric in _COLUMNS)]
        for row in published
    ]
    return Table.of([*_NAMES, *_headers(_COLUMNS)], lines, left=len(_NAMES) + 1)


def added_table(rows: Sequence[Row]) -> Table:
    """Return the metrics that FlagPerf does not have, for the rows that were measured."""
    columns = (*_IDENTITY, *ADDED)
    lines = [[*_names(row), *(metric.text(row) for metric in columns)] for row in rows if row.ok]
    return Table.of([*_NAMES, *_headers(columns)], lines, left=len(_NAMES) + 1)


def missing_table(rows: Sequence[Row]) -> Table:
    """Return the rows that were not measured: state, stage in which it arose, reason, and the option to try again."""
    lines = [
        [
            *_names(row),
            *(metric.text(row) for metric in _IDENTITY),
            row.status,
            row.stage,
            row.reason,
            row.again() or BLANK,
        ]
        for row in rows
        if not row.ok
    ]
    headers = [*_NAMES, *_headers(_IDENTITY), "status", "stage", "reason", "to try again"]
    return Table.of(headers, lines, left=len(headers))


def summary(rows: Sequence[Row]) -> list[str]:
    """Return sentences on what was measured, and the fastest row of each model on each device."""
    measured = [row for row in rows if row.run is not None]
    cells = "cell was" if len(rows) == 1 else "cells were"
    lines = [f"{len(measured)} of {len(rows)} {cells} measured."]
    groups: dict[tuple[str, str], list[Row]] = {}
    for row in measured:
        groups.setdefault((row.cell.device, row.cell.model), []).append(row)
    for (device, model), members in groups.items():
        best, run = max(
            ((row, row.run) for row in members if row.run is not None), key=lambda pair: pair[1].metrics.p_whole
        )
        figures = run.metrics
        lines.append(
            f"Fastest end to end on {device} for {model}: {best.cell.engine} {best.cell.precision}, batch "
            f"{best.cell.batch}, {rate(figures.p_whole)} images/s (engine alone {rate(figures.p_core)}), "
            f"top-1 {percent(figures.top1)} %."
        )
    return lines


def _names(row: Row) -> list[str]:
    return [row.cell.device, row.cell.model, row.cell.engine]


def _headers(metrics: Sequence[Metric]) -> list[str]:
    return [metric.header for metric in metrics]


__all__ = ["BLANK", "Table", "added_table", "metric_table", "missing_table", "summary"]
