"""Numbers as text, the same in every file of the report."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

#: Text for a figure that does not exist.
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
    """Format memory in GiB as `used/total`; blank if neither is known."""
    if used is None and total is None:
        return BLANK
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


def text(value: float | int | str | None) -> str:
    """Format what needs no rounding."""
    return BLANK if value is None else str(value)


def pair(first: float | None, second: float | None, decimals: int = 3) -> str:
    """Format two percentages as `first/second`; blank if there is no first."""
    return BLANK if first is None else f"{percent(first, decimals)}/{percent(second, decimals)}"


def count(number: int, name: str) -> str:
    """Format a number of things: "1 thread", "2 threads"."""
    return f"{number} {name}" if number == 1 else f"{number} {name}s"
