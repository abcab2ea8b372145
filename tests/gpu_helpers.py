"""What the tests on a GPU share."""

from __future__ import annotations

import numpy as np

BATCH = 8


def run(session, images: np.ndarray) -> tuple[np.ndarray, list]:
    """Send images through the ring, as many batches in flight as the session keeps."""
    batch, count = len(session.slots[0]), len(images) // len(session.slots[0])
    logits, timings, launched = [], [], 0
    for done in range(count):
        while launched < count and launched - done < session.requests:
            k = launched % len(session.slots)
            session.slots[k][:] = images[launched * batch : (launched + 1) * batch]
            session.launch(k)
            launched += 1
        found, timing = session.wait(done % len(session.slots))
        logits.append(found.copy())
        timings.append(timing)
    return np.concatenate(logits), timings
