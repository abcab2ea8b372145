"""Peak memory of a piece of work on an NVIDIA GPU."""

from __future__ import annotations

import os
import threading
from types import TracebackType
from typing import Self

from stagebench.host import gpu
from stagebench.host.memory import MemoryMeter
from stagebench.records.machine import MemoryUse

# How often NVML is asked; buffers of a run or a build live for seconds.
_PERIOD_S = 0.2


class DeviceMemory(MemoryMeter):
    """Samples device memory while it is entered; nothing is seen without a GPU.

    What is counted is this process's own memory. In a container NVML lists processes by numbers that are not known
    inside, if at all; then it is by how much the use of the whole card grew since this object was made, and `source`
    says so.
    """

    def __init__(self) -> None:
        self._peak = 0
        self._source = ""
        self._of_card = 0
        self._before = gpu.memory_in_use_bytes() or 0
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="device-memory", daemon=True)

    def peak(self) -> MemoryUse:
        """Return the peak of the device memory; its source is empty while nothing was seen."""
        card = gpu.identity()
        total = (card.memory_bytes or 0) if card else 0
        return MemoryUse(used_bytes=self._peak, total_bytes=total, source=self._source)

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
            self._peak = max(self._peak if self._source == "process" else 0, own)
            self._source = "process"
        elif self._source != "process" and self._of_card > 0:
            self._peak, self._source = self._of_card, "card"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        self._thread.join()
