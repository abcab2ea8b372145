"""Resident blocks: requests on inputs that are already on the device."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

from stagebench.job import pulse

if TYPE_CHECKING:
    from stagebench.engines.base import Session

# Long enough to time reliably, short compared with a pass.
_BLOCK_S = 0.5


class Blocks(NamedTuple):
    """Seconds of each block, and how many requests each has."""

    seconds: list[float]
    requests: int

    def rate(self, batch: int) -> float:
        """Return images per second over all blocks, for requests of `batch` images."""
        return self.requests * batch * len(self.seconds) / sum(self.seconds)


def run_resident(session: Session, repeats: int) -> Blocks:
    """Time `repeats` blocks of requests on resident inputs."""
    # The first round of requests shows how many fill a block; it also settles caches and clocks.
    once = _timed(session, session.requests)
    requests = session.requests * max(1, math.ceil(_BLOCK_S / once))
    return Blocks([_timed(session, requests) for _ in range(repeats)], requests)


def _timed(session: Session, requests: int) -> float:
    seconds = session.repeat_resident(requests)
    pulse.beat()
    return seconds
