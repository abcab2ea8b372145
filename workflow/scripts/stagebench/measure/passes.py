"""Passes over all images, through the ring of a session's slots."""

from __future__ import annotations

import math
import time
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from stagebench.measure.accuracy import TOP, top5
from stagebench.measure.breakdown import Breakdown, Work

if TYPE_CHECKING:
    from concurrent.futures import Future

    from numpy.typing import NDArray

    from stagebench.engines.base import Session, Timing
    from stagebench.measure.feeding import Feeder

# A resident block is long enough for the clock and short beside the passes.
_BLOCK_S = 0.5


@dataclass
class Passes:
    """What several passes over N images gave."""

    #: Classes and logits of the five best, int16 and float32 (passes, N, 5).
    classes: NDArray[np.int16]
    logits: NDArray[np.float32]
    #: Seconds of each pass: from the last prediction of the one before it, the first from opening the first file.
    seconds: list[float] = field(default_factory=list)
    #: Time in each phase of every request, in the order of the requests.
    timings: list[Timing] = field(default_factory=list)
    #: Where the time of all passes went.
    breakdown: Breakdown = field(default_factory=lambda: Breakdown(threads=0))

    @classmethod
    def none(cls) -> Passes:
        """Return no passes over no images."""
        return cls(np.empty((0, 0, TOP), np.int16), np.empty((0, 0, TOP), np.float32))


def run_passes(session: Session, feeder: Feeder, repeats: int) -> Passes:
    """Run every image of the feeder's source `repeats` times through the session.

    Passes follow each other without draining in between. Slots are filled as far ahead as the ring goes; the engine is
    kept supplied first, results are collected when it has as many requests as it takes. The last batch of a pass is
    padded with what its slot held before, and the padding's outputs are dropped.
    """
    images, batch, ring = len(feeder.source), len(session.slots[0]), len(session.slots)
    batches = math.ceil(images / batch)
    total = repeats * batches
    found = Passes(np.empty((repeats, images, TOP), np.int16), np.empty((repeats, images, TOP), np.float32))
    spent = found.breakdown = Breakdown(threads=feeder.threads)
    filling: deque[list[Future[Work]]] = deque()
    filled = launched = collected = 0
    begin = time.perf_counter()
    while collected < total:
        while filled < total and filled - collected < ring:
            filling.append(feeder.start(filled % batches * batch, session.slots[filled % ring]))
            filled += 1
        if launched < filled and launched - collected < session.requests:
            asked = time.perf_counter()
            for future in filling.popleft():
                spent.add(future.result())
            spent.wait_input += time.perf_counter() - asked
            session.launch(launched % ring)
            launched += 1
            continue
        asked = time.perf_counter()
        logits, timing = session.wait(collected % ring)
        answered = time.perf_counter()
        repeat, number = divmod(collected, batches)
        first = number * batch
        count = min(batch, images - first)
        classes, values = top5(logits[:count])
        found.classes[repeat, first : first + count] = classes
        found.logits[repeat, first : first + count] = values
        found.timings.append(timing)
        collected += 1
        now = time.perf_counter()
        spent.wait_engine += answered - asked
        spent.top_k += now - answered
        if number == batches - 1:
            found.seconds.append(now - begin)
            begin = now
    spent.wall = sum(found.seconds)
    return found


def run_resident(session: Session, repeats: int) -> tuple[list[float], int]:
    """Time `repeats` blocks of requests on inputs that are already on the device.

    Returns:
        Seconds of each block, and how many requests a block has.
    """
    # The first round of requests tells how many fill a block; it also settles caches and clocks.
    once = session.repeat_resident(session.requests)
    requests = session.requests * max(1, math.ceil(_BLOCK_S / once))
    return [session.repeat_resident(requests) for _ in range(repeats)], requests
