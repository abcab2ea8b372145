"""Signs of life: a supervised child counts what it has done, and its parent sees whether the count moves."""

from __future__ import annotations

import ctypes
import time
from multiprocessing import sharedctypes
from pathlib import Path

from stagebench.records.lifetime import Status

#: Seconds between two looks at a child.
PERIOD_S = 1.0

# Shared with the parent in a supervised child; counts for nobody anywhere else.
_beats = ctypes.c_uint64()


def new() -> ctypes.c_uint64:
    """Return a counter that a child can share."""
    return sharedctypes.RawValue(ctypes.c_uint64)


def count_in(counter: ctypes.c_uint64) -> None:
    """Count this process's beats in a counter that its parent made."""
    global _beats  # noqa: PLW0603 - a process has one parent
    _beats = counter


def beat() -> None:
    """Say that something was done: a request was answered, an engine loaded. It takes some 50 ns."""
    _beats.value += 1


class Watchdog:
    """Knows for how long a child has made no progress.

    Progress is a beat; before the first one, processor time of the child's group, since building and loading have no
    requests to count.
    """

    def __init__(self, beats: ctypes.c_uint64, group: int) -> None:
        self._beats = beats
        self._group = group
        self._seen = self._progress()
        self._idle_s = 0.0
        self._looked = time.monotonic()

    def idle_s(self) -> float:
        """Return the seconds without progress; to be asked every `PERIOD_S` seconds.

        A longer pause between two looks is this process's own: it was stopped, or got no processor.
        """
        seen, now = self._progress(), time.monotonic()
        self._idle_s = self._idle_s + min(now - self._looked, 2 * PERIOD_S) if seen == self._seen else 0.0
        self._seen, self._looked = seen, now
        return self._idle_s

    def _progress(self) -> tuple[int, int]:
        """Return beats, and clock ticks while there are none."""
        beats = self._beats.value
        return beats, 0 if beats else _busy(self._group)


def _busy(group: int) -> int:
    """Return the processor time of a process group in clock ticks."""
    everyone = (Status.of(int(entry.name)) for entry in Path("/proc").iterdir() if entry.name.isdigit())
    return sum(status.busy for status in everyone if status is not None and status.group == group)
