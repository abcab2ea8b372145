"""How much device memory a piece of work takes at its peak."""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING, Any, Self

from stagebench import gpu

if TYPE_CHECKING:
    from types import TracebackType

# How often it is asked for; buffers of a run or a build live for seconds.
_PERIOD_S = 0.2


class DeviceMemory:
    """Samples device memory while the block runs; `peak` is the most that was seen, in bytes, 0 without a GPU.

    What is counted is this process's own memory. In a container NVML lists processes by numbers that are not known
    inside, if at all; then it is how much more of the card is in use than when this object was made, and `source` says
    so. Make it before the first allocation.
    """

    def __init__(self) -> None:
        self.peak = 0
        #: "process" or "card"; None while nothing was seen.
        self.source: str | None = None
        self._of_card = 0
        self._before = gpu.memory_in_use_bytes() or 0
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="device-memory", daemon=True)

    def describe(self) -> dict[str, Any] | None:
        """Return the peak in bytes and what it was counted by, as records hold it; None where nothing was seen."""
        return {"bytes": self.peak, "source": self.source} if self.source else None

    def _watch(self) -> None:
        with gpu.memory_reader(os.getpid()) as read:
            if read is None:
                return
            while True:
                self._take(*read())
                if self._ended.wait(_PERIOD_S):
                    self._take(*read())
                    return

    def _take(self, own: int, in_use: int) -> None:
        self._of_card = max(self._of_card, in_use - self._before)
        if own:
            self.peak = max(self.peak if self.source == "process" else 0, own)
            self.source = "process"
        elif self.source != "process" and self._of_card > 0:
            self.peak, self.source = self._of_card, "card"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        self._thread.join()
