"""The reports in Markdown: templates filled with what the records say."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from pathlib import Path

import jinja2

from stagebench.records.io import write_text
from stagebench.report import environment, limits, metrics, provenance, reference, tables
from stagebench.report.rows import Row
from stagebench.report.settings import ReportSettings
from stagebench.report.tables import Table

#: Where the templates are: workflow/report, next to workflow/scripts.
TEMPLATES = Path(__file__).resolve().parents[4] / "report"
_TEMPLATE = "report.md.j2"


def write_markdown(loaded: Sequence[Row], report: Path, *, settings: ReportSettings, written: str) -> None:
    """Write a report.

    Args:
        loaded: the rows to report.
        report: Markdown file to write.
        settings: what it is a report of.
        written: UTC time, ISO 8601.
    """
    precision = settings.precision
    context = {
        "precision": precision,
        "written": written,
        "config": settings.config_sha256,
        "summary": tables.summary(loaded),
        "notes": list(settings.notes),
        "metrics": tables.metric_table(loaded, published(precision)),
        "missing": tables.missing_table(loaded),
        "beyond": tables.added_table(loaded),
        "limits": limits.sentences(loaded),
        "breakdown": limits.breakdown_table(loaded),
        "startup": limits.startup_table(loaded),
        "environments": environment.blocks(loaded),
        "environment_table": environment.side_by_side(environment.blocks(loaded)),
        "places": environment.places(loaded),
        "times": provenance.stage_times(loaded),
        "datasets": provenance.datasets(loaded),
        "files": provenance.files(loaded),
        "definitions": metrics.as_markdown(),
        "source": reference.SOURCE,
    }
    write_text(report, _environment().get_template(_TEMPLATE).render(context))


def published(precision: str | None) -> list[reference.PublishedRow]:
    """Return FlagPerf's rows to show: all, or those of a precision; int8 and the others have none of their own."""
    chosen = [row for row in reference.PUBLISHED if precision in (None, row.precision)]
    return chosen or list(reference.PUBLISHED)


def markdown_table(table: Table) -> str:
    """Return a Markdown table whose columns are padded to line up as raw text.

    Words are aligned left and figures right; a `|` or a line break inside a text is made harmless.
    """
    cells = [[_cell(text) for text in line] for line in (table.headers, *table.rows)]
    widths = [max(3, *(_width(line[column]) for line in cells)) for column in range(len(table.headers))]
    rule = ["-" * width if column < table.left else "-" * (width - 1) + ":" for column, width in enumerate(widths)]
    lines = [
        [_pad(text, width, column < table.left) for column, (text, width) in enumerate(zip(line, widths, strict=True))]
        for line in cells
    ]
    return "\n".join("| " + " | ".join(line) + " |" for line in (lines[0], rule, *lines[1:]))


def _cell(text: str) -> str:
    return " ".join(str(text).split()).replace("|", "\\|")


def _width(text: str) -> int:
    """Return the columns that a text takes on a terminal: East Asian wide characters take two."""
    return sum(2 if unicodedata.east_asian_width(character) in "WF" else 1 for character in text)


def _pad(text: str, width: int, left: bool) -> str:
    space = " " * (width - _width(text))
    return text + space if left else space + text


def _environment() -> jinja2.Environment:
    """Return the templates' environment: a missing value is an error, not a gap."""
    made = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=False,  # the output is Markdown
    )
    made.filters["table"] = markdown_table
    return made
