"""This project's own protocol: warm up, time resident blocks, then whole passes, then passes over decoded images."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from stagebench.dataset.pixels import open_pixels
from stagebench.measure.blocks import run_resident
from stagebench.measure.feeding import Decoded, Feeder, threads_to_feed
from stagebench.measure.passes import Passes
from stagebench.measure.protocol import Findings, Protocol

if TYPE_CHECKING:
    from stagebench.measure.protocol import Bench

# What a pass over decoded images may take: nothing varies from image to image, so part of them says the same.
_CACHED_S = 1.0


class StagebenchProtocol(Protocol):
    """All images count, and nothing but the passes and blocks is timed."""

    def measure(self, bench: Bench) -> Findings:
        """Measure an opened engine; memory is read before decoded images are mapped and would count as resident."""
        warm = _warm_up(bench)
        resident = run_resident(bench.session, bench.repeats)
        core = resident.rate(len(bench.session.slots[0]))
        input_cpu_s = warm.breakdown.input_cpu / warm.images
        threads = threads_to_feed(bench.computes_on, bench.cpus, input_cpu_s, core)
        with Feeder(bench.files, threads) as feeder:
            whole = bench.scenario.run(bench.session, feeder, bench.repeats)
        memory = bench.meter.peak()
        cached = _run_cached(bench, threads, core)
        return Findings(warm, resident, whole, cached, memory, threads)


def _warm_up(bench: Bench) -> Passes:
    """Run the first images through the whole chain once, as many batches as are in flight at a time."""
    first = bench.files.first(bench.session.requests * len(bench.session.slots[0]))
    with Feeder(first, bench.cpus) as feeder:
        return bench.scenario.run(bench.session, feeder, 1)


def _run_cached(bench: Bench, threads: int, core: float) -> Passes:
    """Run passes over the decoded images, or over as many of them as the engine computes in `_CACHED_S` seconds."""
    if bench.decoded is None or bench.cached_repeats == 0:
        return Passes.of(0, 0)
    batch = len(bench.session.slots[0])
    enough = batch * math.ceil(_CACHED_S * core / batch)
    with Feeder(Decoded(open_pixels(bench.decoded)[:enough]), threads) as feeder:
        return bench.scenario.run(bench.session, feeder, bench.cached_repeats)


PROTOCOL = StagebenchProtocol()
