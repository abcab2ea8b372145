"""The ring of a session's slots, run by the contract's rules."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np


def requests(session: Any, count: int, fill: Callable[[int, np.ndarray], None] | None = None) -> Iterator[Any]:
    """Send `count` requests, as many in flight as the session keeps; yield (logits, timing) of each, in order.

    Args:
        fill: writes the images of a request into its slot; None to launch what the slots hold.
    """
    launched = 0
    for done in range(count):
        while launched < count and launched - done < session.requests:
            k = launched % len(session.slots)
            if fill is not None:
                fill(launched, session.slots[k])
            session.launch(k)
            launched += 1
        yield session.wait(done % len(session.slots))


def run(session: Any, images: np.ndarray) -> tuple[np.ndarray, list]:
    """Send whole batches of images through the ring; return the logits (images, classes) and a timing per request."""
    batch = len(session.slots[0])

    def fill(number: int, slot: np.ndarray) -> None:
        slot[:] = images[number * batch : (number + 1) * batch]

    found = [(logits.copy(), timing) for logits, timing in requests(session, len(images) // batch, fill)]
    return np.concatenate([logits for logits, _ in found]), [timing for _, timing in found]
