"""A buffer that each thread uses again for every image: a fresh one costs a page fault for every 4 KiB of it."""

from __future__ import annotations

import threading

import numpy as np
import numpy.typing as npt

# Larger requests get a buffer of their own: one huge image is no reason to hold its memory in every thread.
_KEPT_BYTES = 16 << 20


class Scratch(threading.local):
    """Memory of the calling thread, which grows to the largest request below 16 MiB."""

    def __init__(self) -> None:
        self._kept = np.empty(0, np.uint8)

    def take(self, count: int) -> npt.NDArray[np.uint8]:
        """Return `count` bytes of any contents, the caller's until this thread takes again."""
        if count > _KEPT_BYTES:
            return np.empty(count, np.uint8)
        if count > len(self._kept):
            self._kept = np.empty(count, np.uint8)
        return self._kept[:count]
