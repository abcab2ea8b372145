"""A record is written only while those live for whom it is: Snakemake, and the script of its job.

A Snakemake that is killed takes nobody with it. What a job wrote after that would be newer than what follows, and would
count.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple, Self

_DEAD = frozenset("ZX")


class OrphanedError(BaseException):
    """Whoever started this process is gone. Not an `Exception`: nothing may take it for an error of its own."""


class Status(NamedTuple):
    """What /proc/PID/stat says of a process (proc(5)); times in clock ticks."""

    state: str
    parent: int
    group: int
    #: Processor time, that of its children that were waited for included.
    busy: int
    #: When it started, after boot.
    started: int

    @classmethod
    def of(cls, pid: int) -> Self | None:
        """Return the status of a process; None if there is no such process, or it is not shown to us."""
        try:
            text = Path(f"/proc/{pid}/stat").read_bytes().decode(errors="replace")
        except OSError:
            return None
        fields = text.rpartition(")")[2].split()  # from field 3 on: the command before it may hold anything
        return cls(fields[0], int(fields[1]), int(fields[2]), sum(map(int, fields[11:15])), int(fields[19]))


class Process(NamedTuple):
    """A process. Its number may be given to another one when it has ended; the start tells them apart."""

    pid: int
    started: int

    @classmethod
    def here(cls) -> Self:
        """Return this process."""
        status = Status.of(os.getpid())
        return cls(os.getpid(), status.started if status else 0)

    @property
    def lives(self) -> bool:
        """Whether it runs; one that has ended and was not waited for does not."""
        status = Status.of(self.pid)
        return status is not None and status.started == self.started and status.state not in _DEAD


# For whom this process works; nobody outside a job.
_masters: tuple[Process, ...] = ()


def masters() -> tuple[Process, ...]:
    """Return the processes for which this one works."""
    return _masters


def work_for(processes: tuple[Process, ...]) -> None:
    """Set the processes for which this one works: when one of them is gone it writes no record."""
    global _masters  # noqa: PLW0603 - a process is one job
    _masters = processes


def snakemakes() -> tuple[Process, ...]:
    """Return the ancestors of this process that run Snakemake.

    Here that is the one which the user started, and perhaps one which it started for the job; on a node of a cluster
    the latter alone.
    """
    found = []
    pid = os.getppid()
    while (status := Status.of(pid)) is not None:
        if _runs_snakemake(pid):
            found.append(Process(pid, status.started))
        pid = status.parent
    return tuple(found)


def _runs_snakemake(pid: int) -> bool:
    """Return whether a process is a Python that runs Snakemake's command, as a script or by `-m`."""
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace").split("\0")
    except OSError:
        return False
    program = next((word for word in words[1:] if not word.startswith("-")), "")
    return "python" in Path(words[0]).name and Path(program).name == "snakemake"


def require_masters() -> None:
    """Make sure that the processes for which this one works still live.

    Raises:
        OrphanedError: one of them is gone.
    """
    for master in _masters:
        if not master.lives:
            raise OrphanedError(
                f"process {master.pid}, which started this job, is gone: nothing was recorded; run Snakemake again"
            )
