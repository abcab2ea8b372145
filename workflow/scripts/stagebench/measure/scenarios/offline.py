"""Offline: all images are there from the beginning, and the engine is kept supplied."""

from __future__ import annotations

import math
import time
from collections import deque
from typing import TYPE_CHECKING

from stagebench.job.pulse import beat
from stagebench.measure.breakdown import Breakdown, Work
from stagebench.measure.passes import Passes, Predictions, Scenario

if TYPE_CHECKING:
    from concurrent.futures import Future

    from stagebench.engines.base import Session
    from stagebench.measure.feeding import Feeder


class Offline(Scenario):
    """Throughput: as many requests in flight as the session takes, through the ring of its slots."""

    def run(self, session: Session, feeder: Feeder, repeats: int) -> Passes:
        """Run `run_passes`."""
        return run_passes(session, feeder, repeats)


def run_passes(session: Session, feeder: Feeder, repeats: int) -> Passes:
    """Run every image of the feeder's source `repeats` times through the session.

    Passes follow each other without draining in between. Slots are filled as far ahead as the ring goes; the engine is
    kept supplied first, results are collected when it has as many requests as it takes. The last batch of a pass is
    padded with what its slot held before, and the padding's outputs are dropped.
    """
    images, batch, ring = len(feeder.source), len(session.slots[0]), len(session.slots)
    batches = math.ceil(images / batch)
    total = repeats * batches
    found = Passes.of(repeats, images)
    predictions = Predictions(found)
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
        beat()
        repeat, number = divmod(collected, batches)
        first = number * batch
        predictions.take(repeat, first, logits[: images - first])
        if number == batches - 1:
            predictions.finish()
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


SCENARIO = Offline()
