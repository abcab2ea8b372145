"""TensorRT's messages: collected for errors, and shown as progress."""

from __future__ import annotations

import logging
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import TYPE_CHECKING, Any, TypeAlias, cast

from stagebench.job.logs import progress_bar

if TYPE_CHECKING:
    import tensorrt

    from stagebench.engines.tensorrt.api import TensorRT

    class Messages(tensorrt.ILogger):  # type: ignore[misc]
        """A logger that keeps messages."""

        errors: list[str]
        warnings: list[str]

        def explain(self) -> str:
            """Return the library's own errors in one line."""


_log = logging.getLogger("stagebench.tensorrt")
# How many of the library's own messages an error carries: the first names the cause, the last the call that failed.
_QUOTED = 2


@cache
def logger(trt: TensorRT) -> Messages:
    """Return the one logger of this process for a TensorRT module: the library ignores a second one."""

    if TYPE_CHECKING:
        base: TypeAlias = tensorrt.ILogger
    else:
        base = trt.ILogger

    class Collector(base):  # type: ignore[misc]
        """Hands the library's messages to Python's logging and keeps errors and warnings."""

        def __init__(self) -> None:
            base.__init__(self)
            self.errors: list[str] = []
            self.warnings: list[str] = []

        def log(self, severity: tensorrt.ILogger.Severity, message: str) -> None:
            """Take a message; called by the library, from any of its threads."""
            if severity in (trt.ILogger.Severity.INTERNAL_ERROR, trt.ILogger.Severity.ERROR):
                self.errors.append(message)
                _log.error("%s", message)
            elif severity == trt.ILogger.Severity.WARNING:
                self.warnings.append(message)
                _log.info("warning: %s", message)
            elif severity == trt.ILogger.Severity.INFO:
                _log.info("%s", message)

        def explain(self) -> str:
            """Return the library's own errors in one line."""
            distinct = list(dict.fromkeys(" ".join(message.split()) for message in self.errors))
            shown = distinct if len(distinct) <= _QUOTED else [distinct[0], distinct[-1]]
            return "; ".join(shown) or "the library gave no message"

    return cast("Messages", Collector())


def begin(trt: TensorRT) -> Messages:
    """Return the logger with nothing in it yet, so that an error quotes this piece of work alone."""
    collector = logger(trt)
    collector.errors.clear()
    collector.warnings.clear()
    return collector


def progress_monitor(trt: TensorRT, label: str, cancelled: threading.Event) -> tensorrt.IProgressMonitor:
    """Return a monitor that shows a build's outermost phase as a bar and logs all phases.

    Args:
        cancelled: once it is set, the build ends at the next step and gives nothing.
    """

    if TYPE_CHECKING:
        base: TypeAlias = tensorrt.IProgressMonitor
    else:
        base = trt.IProgressMonitor

    class Monitor(base):  # type: ignore[misc]
        """Called by the library from several threads at a time."""

        def __init__(self) -> None:
            base.__init__(self)
            self._lock = threading.Lock()
            self._bars: dict[str, Any] = {}

        def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
            """Open a bar for an outermost phase."""
            with self._lock:
                _log.info("phase %s: %d steps", phase_name, num_steps)
                if not parent_phase:
                    shown = progress_bar(f"{label}: {phase_name}", total=num_steps, unit="step")
                    self._bars[phase_name] = (shown, shown.__enter__())

        def step_complete(self, phase_name: str, step: int) -> bool:
            """Move the bar; return whether the build is to go on."""
            with self._lock:
                if phase_name in self._bars:
                    self._bars[phase_name][1].update(1)
            return not cancelled.is_set()

        def phase_finish(self, phase_name: str) -> None:
            """Close the bar."""
            with self._lock:
                if phase_name in self._bars:
                    self._bars.pop(phase_name)[0].__exit__(None, None, None)

    return Monitor()


@contextmanager
def stopped_by_signals(cancelled: threading.Event) -> Iterator[None]:
    """Let SIGINT and SIGTERM set `cancelled` while the block runs; they take effect when it has ended.

    The library calls the monitor from C++ code, through which an exception must not pass.
    """
    if threading.current_thread() is not threading.main_thread():  # others may not set handlers
        yield
        return
    came: list[int] = []

    def note(number: int, _: object) -> None:
        came.append(number)
        cancelled.set()

    before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        for arrived in came[:1]:
            signal.raise_signal(arrived)
