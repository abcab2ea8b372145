"""Breakdown of the time of passes: the work of the feeder's threads, and the loop's waits."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple


class Work(NamedTuple):
    """Cost of filling a run of images, in seconds of the thread that did it."""

    read: float
    decode: float
    resize: float
    #: Processor time of all of it: less than the others' sum where the thread waited for the disk or for a core.
    cpu: float


@dataclass
class Breakdown:
    """Seconds of one or more passes, by what they were spent on."""

    #: Threads that read and decode.
    threads: int
    #: Wall time of all passes.
    wall: float = 0.0
    #: Thread-seconds of the feeder: they add up over its threads.
    read: float = 0.0
    decode: float = 0.0
    resize: float = 0.0
    input_cpu: float = 0.0
    #: The loop's own seconds: for images although the engine could take more, for results, and for picking classes.
    wait_input: float = 0.0
    wait_engine: float = 0.0
    top_k: float = 0.0

    def add(self, work: Work) -> None:
        """Count what a thread of the feeder did."""
        self.read += work.read
        self.decode += work.decode
        self.resize += work.resize
        self.input_cpu += work.cpu

    @property
    def wait_slot(self) -> float:
        """Thread-seconds in which the feeder had nothing to do: every slot was full or in flight."""
        return max(0.0, self.threads * self.wall - self.read - self.decode - self.resize)
