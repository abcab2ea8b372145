"""Risky work in a child process: its death becomes a value instead of ending the stage."""

from __future__ import annotations

import contextlib
import logging
import multiprocessing
import os
import signal
import sys
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from stagebench.errors import StagebenchError, UnrecordedError
from stagebench.records.envelope import Failure
from stagebench.vocabulary import State, failed

_log = logging.getLogger(__name__)
# The kernel's out-of-memory killer takes the process with the highest score first; 1000 is the highest (proc(5)).
_OOM_SCORE = "1000"
# Which files are mapped into this process, libraries among them (proc(5)).
_MAPS = Path("/proc/self/maps")
# Signals from users or schedulers; they say nothing about the cell.
_FROM_OUTSIDE = frozenset({"SIGTERM", "SIGINT", "SIGHUP"})


@dataclass(frozen=True)
class Ended:
    """End of a child that failed: the state for the record, and what else is known."""

    state: State
    failure: Failure

    @property
    def out_of_memory(self) -> bool:
        """Whether memory ran out, as far as can be known: the kernel's kill, or the library's own words."""
        text = self.state.reason.lower().replace("_", " ")
        return self.failure.signal == "SIGKILL" or "memoryerror" in text or "out of memory" in text

    def raise_if_worth_another_try(self, tries_left: int) -> None:
        """Fail the job if memory ran out and the scheduler would try again with more of it.

        Raises:
            StagebenchError: it would.
        """
        if tries_left and self.out_of_memory:
            raise UnrecordedError(f"{self.state.reason}; tries left, with more memory: {tries_left}")


def _child(sender: Connection, function: Callable[..., None], arguments: dict[str, Any]) -> None:
    for number in (signal.SIGTERM, signal.SIGINT):  # what the parent says when it is ended is said once
        signal.signal(number, signal.SIG_DFL)
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text(_OOM_SCORE)
    try:
        function(**arguments)
    except StagebenchError as error:
        sender.send(error)
        sys.exit(1)
    except BaseException as error:  # any error of a library becomes the row's reason
        _log.error("%s", traceback.format_exc())
        lines = str(error).strip().splitlines() or ["no message"]
        sender.send(f"{type(error).__name__}: {lines[0]}")
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


def run(function: Callable[..., None], **arguments: Any) -> Ended | None:
    """Run `function(**arguments)` in a child process and wait for it; return None where it ended well.

    The child is forked, which spares it the imports, unless a library has computed here with threads of its own, for
    which the child would wait for ever, or CUDA. Then it is spawned, and function and arguments are pickled.

    Returns:
        How it ended, where it was killed by a signal, ran out of memory or raised an error of a library.

    Raises:
        StagebenchError: the one that the child raised, or it was ended from outside.
    """
    context: Any = multiprocessing.get_context("fork" if may_fork() else "spawn")
    receiver, sender = context.Pipe(duplex=False)
    child = context.Process(target=_child, args=(sender, function, arguments))
    sys.stdout.flush()
    sys.stderr.flush()
    child.start()
    sender.close()
    message: StagebenchError | str | None = None
    try:
        with contextlib.suppress(EOFError):
            message = receiver.recv()
        _, status, usage = os.wait4(child.pid or 0, 0)
    except BaseException:
        child.kill()
        raise
    finally:
        receiver.close()
    if isinstance(message, StagebenchError):
        raise message
    if status == 0:
        return None
    peak = usage.ru_maxrss * 1024  # Linux reports kibibytes (getrusage(2))
    if os.WIFSIGNALED(status):
        name = signal.Signals(os.WTERMSIG(status)).name
        if name in _FROM_OUTSIDE:
            raise UnrecordedError(f"ended from outside ({name}): nothing was recorded; run it again")
        if message:  # unloading a library after an error can still end the process; the error is what counts
            return _ended(f"{message} (then killed by {name})", name, peak)
        hint = " (out of memory?)" if name == "SIGKILL" else ""
        return _ended(f"killed by {name}{hint} at a peak of {peak / 2**30:.2f} GiB", name, peak)
    return _ended(message or f"ended with exit code {os.WEXITSTATUS(status)}", None, peak)


def _ended(reason: str, name: str | None, peak: int) -> Ended:
    return Ended(failed(reason), Failure(signal=name, peak_memory_bytes=peak))
