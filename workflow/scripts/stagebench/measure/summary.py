"""From what a protocol measured to the record's figures and the raw samples next to it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from stagebench.measure import accuracy, rates
from stagebench.records.cells import Metrics, PassSeconds, TimeSpent
from stagebench.records.io import replacing

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from stagebench.engines.base import Timing
    from stagebench.measure.passes import Passes
    from stagebench.measure.protocol import Findings


def metrics(found: Findings, labels: NDArray[np.int16], batch: int) -> Metrics:
    """Return the figures of a run.

    Args:
        labels: int16 (images,), in the order of the passes' images.
        batch: images per request.
    """
    core = found.resident.rate(batch)
    whole, classes = found.whole, found.whole.classes[0]
    p_whole = rates.rate(whole.images, whole.seconds)
    if p_whole is None:
        raise ValueError("a run without a whole pass has no figures")
    return Metrics(
        p_whole=p_whole,
        p_core=core,
        p_device=_device_rate(whole.images * len(whole.seconds), whole.timings),
        p_cached=rates.rate(found.cached.images, found.cached.seconds),
        latency_us=rates.reciprocal_us(core),
        top1=accuracy.accuracy(classes, labels, 1),
        top5=accuracy.accuracy(classes, labels, accuracy.TOP),
    )


def time_spent(whole: Passes) -> TimeSpent:
    """Return where the time of the whole passes went."""
    spent = whole.breakdown
    return TimeSpent(
        threads=spent.threads,
        wall=spent.wall,
        read=spent.read,
        decode=spent.decode,
        resize=spent.resize,
        input_cpu=spent.input_cpu,
        wait_slot=spent.wait_slot,
        wait_input=spent.wait_input,
        wait_engine=spent.wait_engine,
        top_k=spent.top_k,
        h2d=sum(timing.h2d for timing in whole.timings),
        compute=sum(timing.compute for timing in whole.timings),
        d2h=sum(timing.d2h for timing in whole.timings),
    )


def pass_seconds(found: Findings) -> PassSeconds:
    """Return the seconds of each pass and block."""
    return PassSeconds(
        whole=tuple(found.whole.seconds),
        cached=tuple(found.cached.seconds),
        cached_images=found.cached.images,
        resident=tuple(found.resident.seconds),
    )


def samples(found: Findings, labels: NDArray[np.int16]) -> dict[str, NDArray[Any]]:
    """Return the arrays of the .npz file: predictions of the first pass, and all raw times in seconds."""
    whole = found.whole
    return {
        "labels": labels,
        "top5": whole.classes[0],
        "top5_logits": whole.logits[0],
        "whole_s": np.array(whole.seconds),
        "cached_s": np.array(found.cached.seconds),
        "resident_s": np.array(found.resident.seconds),
        "resident_requests": np.array(found.resident.requests),
        "h2d_s": np.array([timing.h2d for timing in whole.timings]),
        "compute_s": np.array([timing.compute for timing in whole.timings]),
        "d2h_s": np.array([timing.d2h for timing in whole.timings]),
    }


def write_samples(path: Path, arrays: Mapping[str, NDArray[Any]]) -> None:
    """Write an .npz file atomically; it is empty if nothing was measured."""
    with replacing(path) as part, part.open("wb") as file:
        np.savez_compressed(file, **dict(arrays))  # type: ignore[arg-type]


def _device_rate(images: int, timings: Sequence[Timing]) -> float | None:
    """Return images per second of H2D, compute and D2H together."""
    seconds = sum(timing.h2d + timing.compute + timing.d2h for timing in timings)
    return images / seconds if seconds > 0 else None
