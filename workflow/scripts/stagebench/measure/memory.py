"""How much memory a timed run takes at its peak."""

from __future__ import annotations

import os
import re
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Self

from stagebench import gpu

if TYPE_CHECKING:
    from types import TracebackType

# How often the device memory of this process is asked for; a run's buffers live for seconds.
_PERIOD_S = 0.2


def forget_peak() -> None:
    """Start this process's peak of resident memory anew (a forked child inherits its parent's)."""
    Path("/proc/self/clear_refs").write_text("5")  # proc(5): "5" resets the peak to the current size


def peak_resident_bytes() -> int:
    """Return the peak of this process's resident memory since it was started or last forgotten."""
    status = Path("/proc/self/status").read_text()
    found = re.search(r"^VmHWM:\s+(\d+) kB", status, flags=re.MULTILINE)
    return int(found.group(1)) * 1024 if found else 0


class DeviceMemory:
    """Samples the device memory of this process while the block runs; `peak` is the most that was seen, in bytes."""

    def __init__(self) -> None:
        self.peak = 0
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._sample, name="device-memory", daemon=True)

    def _sample(self) -> None:
        while True:
            self.peak = max(self.peak, gpu.memory_used_bytes(os.getpid()) or 0)
            if self._ended.wait(_PERIOD_S):
                return

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        self._thread.join()
