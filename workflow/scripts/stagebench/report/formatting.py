"""Numbers and tables as text that reads well raw and rendered."""

from __future__ import annotations

import unicodedata
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

#: What stands where there is no figure.
BLANK = "-"


def rate(value: float | None) -> str:
    """Format images per second: one decimal from 10 on, two below."""
    if value is None:
        return BLANK
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"


def seconds(value: float | None) -> str:
    """Format a time in seconds, without the unit: one decimal from 10 on, two below."""
    return rate(value)


def latency(microseconds: float | None) -> str:
    """Format a time per image with its unit: microseconds, or milliseconds from 1000 on."""
    if microseconds is None:
        return BLANK
    if microseconds >= 1000:
        return f"{microseconds / 1000:.1f} ms"
    return f"{microseconds:.0f} μs" if microseconds >= 10 else f"{microseconds:.2f} μs"


def percent(value: float | None, decimals: int = 3) -> str:
    """Format a percentage without its sign."""
    return BLANK if value is None else f"{value:.{decimals}f}"


def gib(used: float | None, total: float | None) -> str:
    """Format memory in GiB as `used/total`."""
    return f"{BLANK if used is None else format(used, '.2f')}/{BLANK if total is None else format(total, '.1f')}"


def size(count: int | float) -> str:
    """Format a number of bytes with a binary unit."""
    value = float(count)
    for unit in ("B", "KiB", "MiB"):
        if value < 1024:
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1024
    return f"{value:.1f} GiB"


def span(values: Sequence[int]) -> str:
    """Format whole numbers as ranges: [0, 1, 2, 5] becomes "0-2,5"."""
    parts: list[list[int]] = []
    for value in sorted(set(values)):
        if parts and value == parts[-1][-1] + 1:
            parts[-1].append(value)
        else:
            parts.append([value])
    return ",".join(str(part[0]) if len(part) == 1 else f"{part[0]}-{part[-1]}" for part in parts)


def table(headers: Sequence[str], rows: Sequence[Sequence[str]], left: int) -> str:
    """Return a Markdown table whose columns are padded to line up as raw text.

    Args:
        headers: one per column.
        rows: cells as text; a `|` or a line break inside a cell is made harmless.
        left: how many columns, from the first, are aligned left; the others are figures and aligned right.
    """
    cells = [[_cell(text) for text in line] for line in (headers, *rows)]
    widths = [max(3, *(_width(line[column]) for line in cells)) for column in range(len(headers))]
    rule = ["-" * width if column < left else "-" * (width - 1) + ":" for column, width in enumerate(widths)]
    lines = [
        [_pad(text, width, column < left) for column, (text, width) in enumerate(zip(line, widths, strict=True))]
        for line in cells
    ]
    return "\n".join("| " + " | ".join(line) + " |" for line in (lines[0], rule, *lines[1:]))


def _cell(text: str) -> str:
    return " ".join(str(text).split()).replace("|", "\\|")


def _width(text: str) -> int:
    """Columns that a text takes on a terminal: East Asian wide characters take two."""
    return sum(2 if unicodedata.east_asian_width(character) in "WF" else 1 for character in text)


def _pad(text: str, width: int, left: bool) -> str:
    space = " " * (width - _width(text))
    return text + space if left else space + text
