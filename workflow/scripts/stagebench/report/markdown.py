"""The reports in Markdown: templates filled with what the records say."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jinja2

from stagebench.records import read_record, replacing
from stagebench.report import definitions, limits, reference, results
from stagebench.report.chain import Row, load_rows
from stagebench.report.provenance import datasets, files, places, stage_times

#: Where the templates lie: workflow/report beside workflow/scripts.
TEMPLATES = Path(__file__).resolve().parents[3] / "report"


def write_report(
    rows: Sequence[Mapping[str, Any]], devices: Mapping[str, str], report: Path, *, notes: Sequence[str]
) -> None:
    """Write the report of all cells.

    Args:
        rows: {"cell": {...}, "records": {stage: path or None}} per row, as for `report.table.make_table`.
        devices: device name -> path of its record.
        report: Markdown file to write.
        notes: sentences on how the config was understood.

    Raises:
        StagebenchError: a record is missing or damaged.
    """
    _write("report.md.j2", load_rows(rows), devices, notes, report, {"precision": None})


def write_precision_report(
    rows: Sequence[Mapping[str, Any]],
    devices: Mapping[str, str],
    report: Path,
    *,
    precision: str,
    notes: Sequence[str],
) -> None:
    """Write the report of the cells of one precision; arguments and errors are those of `write_report`."""
    _write("report.md.j2", load_rows(rows), devices, notes, report, {"precision": precision})


def _write(
    template: str,
    rows: list[Row],
    devices: Mapping[str, str],
    notes: Sequence[str],
    report: Path,
    more: Mapping[str, Any],
) -> None:
    machines = {name: read_record(Path(path)) for name, path in devices.items()}
    context = {
        "rows": rows,
        "measured": [row for row in rows if row.ok],
        "missing": results.missing_table([row for row in rows if not row.ok]),
        "summary": results.summary(rows),
        "metrics": results.metric_table(rows, with_published(more.get("precision"))),
        "beyond": results.added_table(rows),
        "machines": {name: record["environment"] for name, record in machines.items()},
        "limits": limits.sentences(rows),
        "breakdown": limits.breakdown_table(rows),
        "startup": limits.startup_table(rows),
        "places": places(rows),
        "times": stage_times(rows),
        "datasets": datasets(rows),
        "files": files(rows),
        "definitions": definitions.as_markdown(),
        "source": reference.SOURCE,
        "notes": list(notes),
        **more,
    }
    text = _environment().get_template(template).render(context)
    with replacing(report) as part:
        part.write_text(text, encoding="utf-8")


def with_published(precision: str | None) -> list[reference.PublishedRow]:
    """Return FlagPerf's rows to show: all, or those of a precision; int8 and the others have none of their own."""
    chosen = [row for row in reference.PUBLISHED if precision in (None, row.precision)]
    return chosen or list(reference.PUBLISHED)


def _environment() -> jinja2.Environment:
    """Return the templates' environment: a missing value is an error, not a gap."""
    return jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=False,  # the output is Markdown
    )
