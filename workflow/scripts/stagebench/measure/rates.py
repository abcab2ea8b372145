"""From recorded seconds to rates."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence


def rate(images: int, seconds: Sequence[float]) -> float | None:
    """Return images per second where each of `seconds` is the time that `images` images took; None without any."""
    return images * len(seconds) / sum(seconds) if seconds else None


def reciprocal_us(images_per_second: float) -> float:
    """Return 1 / throughput in microseconds per image: what FlagPerf prints as latency."""
    return 1e6 / images_per_second
