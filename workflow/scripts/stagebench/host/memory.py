"""Peak memory of a run: the contract of a meter, and the one for the host's memory."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from pathlib import Path
from types import TracebackType
from typing import Self

import psutil

from stagebench.records.machine import MemoryUse


class MemoryMeter(ABC):
    """Watches the memory of this process's work while it is entered; made before the engine is opened."""

    @abstractmethod
    def peak(self) -> MemoryUse:
        """Return the peak up to now."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop watching; nothing to do for a meter that reads the kernel's."""
        return


class ProcessMemory(MemoryMeter):
    """RSS of this process, by the kernel's own high-water mark."""

    def __init__(self) -> None:
        # proc(5): "5" resets the peak to the current size; a forked child inherits its parent's.
        Path("/proc/self/clear_refs").write_text("5")

    def peak(self) -> MemoryUse:
        """Return the peak RSS since this object was made."""
        status = Path("/proc/self/status").read_text()
        found = re.search(r"^VmHWM:\s+(\d+) kB", status, flags=re.MULTILINE)
        used = int(found.group(1)) * 1024 if found else 0
        return MemoryUse(used_bytes=used, total_bytes=psutil.virtual_memory().total, source="rss")
