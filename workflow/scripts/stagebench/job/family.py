"""A child and all that it starts, as one process group that does not outlive its parent."""

from __future__ import annotations

import ctypes
import os
import signal
from types import TracebackType
from typing import NoReturn, Self

#: Signals from users or schedulers.
FROM_OUTSIDE = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
_PR_SET_PDEATHSIG = 1  # prctl(2)
# What the kernel sends to a warden: one that nobody else sends.
_PARENT_IS_GONE = signal.SIGRTMIN + 7
_prctl = ctypes.CDLL(None).prctl


def die_with(parent: int, number: int = signal.SIGKILL) -> None:
    """Have the kernel send this process a signal when its parent ends, however that ends.

    Args:
        parent: the parent's number as it knows it itself: it may be gone already.
        number: the signal.
    """
    _prctl(_PR_SET_PDEATHSIG, int(number))
    if os.getppid() != parent:
        os.kill(os.getpid(), number)


class Family:
    """A process group whose members end when the block does, or this process; a context manager.

    The group's first member is a warden. The kernel tells it when this process is gone, and it kills the group: a
    child can ask to die with its parent, but what the child started would live on.
    """

    #: The group's number.
    group: int

    def __enter__(self) -> Self:
        parent = os.getpid()
        self.group = os.fork()
        if self.group == 0:
            _guard(parent)
        os.setpgid(self.group, self.group)  # both say so: whoever comes first
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill()
        os.waitpid(self.group, 0)

    def kill(self) -> None:
        """Kill all members. The group's number stays taken as long as the block lasts."""
        os.killpg(self.group, signal.SIGKILL)


def join(group: int, parent: int) -> None:
    """Make this process, a child of `parent`, a member of a family's group that dies with its parent."""
    die_with(parent)
    os.setpgid(0, group)


def _guard(parent: int) -> NoReturn:
    """Wait for the end of the parent, then kill this process's group."""
    try:
        os.setpgid(0, 0)
        for number in FROM_OUTSIDE:
            signal.signal(number, signal.SIG_IGN)
        signal.pthread_sigmask(signal.SIG_BLOCK, {_PARENT_IS_GONE})
        die_with(parent, _PARENT_IS_GONE)
        signal.sigwait({_PARENT_IS_GONE})
        os.killpg(0, signal.SIGKILL)
    finally:
        os._exit(1)
