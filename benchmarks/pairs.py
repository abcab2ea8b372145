"""Measuring in pairs: two things by turns in one run, so that a noisy machine is noisy to both."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any

Figure = dict[str, Any]


def figure(values: Sequence[float], unit: str) -> Figure:
    """Return the median of some values with their spread."""
    return {"median": statistics.median(values), "min": min(values), "max": max(values), "unit": unit}


def seconds(work: Callable[[], Any]) -> float:
    """Return the wall time of a call in seconds."""
    begin = time.perf_counter()
    work()
    return time.perf_counter() - begin


def ratio_of_times(ours: Callable[[], Any], theirs: Callable[[], Any], pairs: int) -> tuple[Figure, Figure, Figure]:
    """Time both by turns, the order changing with every pair.

    Returns:
        Our time over theirs, pair by pair, and the seconds of both.
    """
    mine: list[float] = []
    other: list[float] = []
    for number in range(pairs):
        first, second = (mine, ours), (other, theirs)
        for times, work in (first, second) if number % 2 == 0 else (second, first):
            times.append(seconds(work))
    ratios = [a / b for a, b in zip(mine, other, strict=True)]
    return figure(ratios, "ratio"), figure(mine, "s"), figure(other, "s")


def ratio_of_rates(ours: Callable[[], float], theirs: Callable[[], float], pairs: int) -> tuple[Figure, Figure, Figure]:
    """Measure two rates by turns, the order changing with every pair.

    Returns:
        Our rate over theirs, pair by pair, and both rates.
    """
    mine: list[float] = []
    other: list[float] = []
    for number in range(pairs):
        first, second = (mine, ours), (other, theirs)
        for rates, work in (first, second) if number % 2 == 0 else (second, first):
            rates.append(work())
    ratios = [a / b for a, b in zip(mine, other, strict=True)]
    return figure(ratios, "ratio"), figure(mine, "images/s"), figure(other, "images/s")


def as_table(results: dict[str, Any]) -> str:
    """Return figures as lines of text: name, median, spread, unit."""
    lines = []
    for name, value in results.items():
        if isinstance(value, dict) and "median" in value:
            lines.append(
                f"{name:34s} {value['median']:12.3f}  ({value['min']:.3f} to {value['max']:.3f}) {value['unit']}"
            )
        elif isinstance(value, dict):
            lines += [
                line
                for key, inner in value.items()
                if isinstance(inner, dict)
                for line in [as_table({f"{name} {key}": inner})]
            ]
    return "\n".join(line for line in lines if line)
