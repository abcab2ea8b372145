"""Risky work in a child process: its death becomes a value instead of ending the stage."""

from __future__ import annotations

import contextlib
import ctypes
import logging
import math
import multiprocessing
import os
import signal
import sys
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from stagebench.errors import StagebenchError, UnrecordedError, says_out_of_memory
from stagebench.job import family, pulse
from stagebench.records import lifetime
from stagebench.records.envelope import Failure
from stagebench.records.failures import of_the_moment, reason_of
from stagebench.records.io import part_of, remove
from stagebench.vocabulary import State, failed

_log = logging.getLogger(__name__)
# The kernel's out-of-memory killer takes the process with the highest score first; 1000 is the highest (proc(5)).
_OOM_SCORE = "1000"
# Which files are mapped into this process, libraries among them (proc(5)).
_MAPS = Path("/proc/self/maps")


@dataclass(frozen=True)
class Ended:
    """End of a child that failed: the state for the record, and what else is known."""

    state: State
    failure: Failure
    #: Whether it was ended here, since it made no progress.
    stalled: bool = False

    @property
    def out_of_memory(self) -> bool:
        """Whether memory ran out, as far as can be known: the kernel's kill, or the library's own words."""
        if self.stalled:
            return False
        return self.failure.signal == "SIGKILL" or says_out_of_memory(self.state.reason)

    def raise_if_worth_another_try(self, tries_left: int) -> None:
        """Fail the job if memory ran out and the scheduler would try again with more of it.

        Raises:
            UnrecordedError: it would.
        """
        if tries_left and self.out_of_memory:
            raise UnrecordedError(f"{self.state.reason}; tries left, with more memory: {tries_left}")


@dataclass(frozen=True)
class _Ties:
    """Ties of a child to its parent."""

    sender: Connection
    beats: ctypes.c_uint64
    group: int
    #: For whom the parent works, and itself.
    masters: tuple[lifetime.Process, ...]


def _child(ties: _Ties, function: Callable[..., None], arguments: dict[str, Any]) -> None:
    for number in family.FROM_OUTSIDE:  # what the parent says when it is ended is said once
        signal.signal(number, signal.SIG_DFL)
    family.join(ties.group, ties.masters[-1].pid)
    lifetime.work_for(ties.masters)
    pulse.count_in(ties.beats)
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text(_OOM_SCORE)
    try:
        function(**arguments)
    except StagebenchError as error:
        ties.sender.send(error)
        sys.exit(1)
    except BaseException as error:  # any error of a library becomes the row's reason
        _log.info("%s", traceback.format_exc())  # for the log file alone: the row has the reason
        if isinstance(error, OSError) and of_the_moment(error):
            ties.sender.send(UnrecordedError(reason_of(error)))
            sys.exit(1)
        lines = str(error).strip().splitlines() or ["no message"]
        ties.sender.send(f"{type(error).__name__}: {lines[0]}")
        sys.exit(1)


def may_fork() -> bool:
    """Return whether a forked child can work: no threads but those of numpy's OpenBLAS, and no CUDA.

    OpenBLAS ends its threads before a fork and starts them when it needs them again. So the threads that are there
    after a fork that does nothing are others. The state of the CUDA driver does not outlive a fork; what is asked is
    whether the driver is loaded at all.
    """
    if "libcuda.so" in _MAPS.read_text():
        return False
    nothing = os.fork()
    if nothing == 0:
        os._exit(0)
    os.waitpid(nothing, 0)
    return len(list(Path("/proc/self/task").iterdir())) == 1


def run(
    function: Callable[..., None], *, timeout_s: float = math.inf, makes: Sequence[Path] = (), **arguments: Any
) -> Ended | None:
    """Run `function(**arguments)` in a child process and wait for it; return None where it ended well.

    The child is forked, which spares it the imports, unless a library has computed here with threads of its own, for
    which the child would wait for ever, or CUDA. Then it is spawned, and function and arguments are pickled.

    Neither the child nor anything that it has started is left when this returns or raises, or when this process ends,
    however that happens.

    Args:
        timeout_s: seconds without progress (`pulse.Watchdog`) after which the child is ended.
        makes: files that it makes; of those what is in progress is deleted, unless it ends well.

    Returns:
        How it ended, where it was killed by a signal, ran out of memory, stood still or raised an error of a library.

    Raises:
        StagebenchError: the one that the child raised.
        UnrecordedError: it was ended from outside, or the machine failed it (a full disk).
    """
    context: Any = multiprocessing.get_context("fork" if may_fork() else "spawn")
    receiver, sender = context.Pipe(duplex=False)
    beats = pulse.new()
    sys.stdout.flush()
    sys.stderr.flush()
    done = False
    try:
        with receiver, family.Family() as members:
            ties = _Ties(sender, beats, members.group, (*lifetime.masters(), lifetime.Process.here()))
            child = context.Process(target=_child, args=(ties, function, arguments))
            try:
                child.start()
                sender.close()
                message, stalled = _wait(child.pid, receiver, pulse.Watchdog(beats, members.group), timeout_s)
                if stalled:
                    members.kill()
                _, status, usage = os.wait4(child.pid, 0)
            except BaseException:
                if child.pid is not None:
                    child.kill()  # it may have had no time to become a member
                    members.kill()
                    child.join()
                raise
        done = status == 0
    finally:
        if not done:
            for file in makes:
                remove(part_of(file))
    peak = usage.ru_maxrss * 1024  # Linux reports kibibytes (getrusage(2))
    if isinstance(message, StagebenchError):
        raise message
    if stalled:
        reason = f"no progress for {timeout_s:g} s (measurement.timeout_s): ended"
        reason = f"{message} (then {reason})" if message else reason
        return Ended(failed(reason), Failure(signal="SIGKILL", peak_memory_bytes=peak), stalled=True)
    if status == 0:
        return None
    if os.WIFSIGNALED(status):
        number = signal.Signals(os.WTERMSIG(status))
        name = number.name
        if number in family.FROM_OUTSIDE:
            raise UnrecordedError(f"ended from outside ({name}): nothing was recorded; run it again")
        if message:  # unloading a library after an error can still end the process; the error is what counts
            return _ended(f"{message} (then killed by {name})", name, peak)
        hint = " (out of memory?)" if name == "SIGKILL" else ""
        return _ended(f"killed by {name}{hint} at a peak of {peak / 2**30:.2f} GiB", name, peak)
    return _ended(message or f"ended with exit code {os.WEXITSTATUS(status)}", None, peak)


def _wait(
    pid: int, receiver: Connection, watchdog: pulse.Watchdog, timeout_s: float
) -> tuple[StagebenchError | str | None, bool]:
    """Wait until a child has ended, or has made no progress for `timeout_s` seconds.

    Returns:
        What it said of an error, and whether it stood still.
    """
    message: StagebenchError | str | None = None
    while True:
        # The pipe ends with the child, or later if what the child has started holds it, too.
        over = os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
        if receiver.poll(0 if over else pulse.PERIOD_S):
            try:
                message = receiver.recv()
            except EOFError:
                return message, False
        elif over:
            return message, False
        elif watchdog.idle_s() >= timeout_s:
            return message, True


def _ended(reason: str, name: str | None, peak: int) -> Ended:
    return Ended(failed(reason), Failure(signal=name, peak_memory_bytes=peak))
