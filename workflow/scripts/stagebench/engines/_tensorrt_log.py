"""What TensorRT says while it works: collected for error messages, and shown as progress."""

from __future__ import annotations

import logging
import threading
from functools import cache
from typing import Any, Protocol

from stagebench.logs import progress_bar

_log = logging.getLogger("stagebench.tensorrt")
# How many of the library's own messages an error carries: the first names the cause, the last the call that failed.
_QUOTED = 2


class Messages(Protocol):
    """A logger that keeps what it was told."""

    errors: list[str]
    warnings: list[str]

    def explain(self) -> str:
        """Return the library's own errors in one line."""


@cache
def logger(trt: Any) -> Any:
    """Return the one logger of this process for a TensorRT module: the library ignores a second one."""

    class Collector(trt.ILogger):  # type: ignore[misc]
        """Hands the library's messages to Python's logging and keeps errors and warnings."""

        def __init__(self) -> None:
            trt.ILogger.__init__(self)
            self.errors: list[str] = []
            self.warnings: list[str] = []

        def log(self, severity: Any, message: str) -> None:
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

    return Collector()


def begin(trt: Any) -> Any:
    """Return the logger with nothing in it yet, so that an error quotes this piece of work alone."""
    collector = logger(trt)
    collector.errors.clear()
    collector.warnings.clear()
    return collector


def progress_monitor(trt: Any, label: str, cancelled: threading.Event) -> Any:
    """Return a monitor that shows a build's outermost phase as a bar and logs all phases.

    Args:
        cancelled: once it is set, the build ends at the next step and gives nothing.
    """

    class Monitor(trt.IProgressMonitor):  # type: ignore[misc]
        """Called by the library from several threads at a time."""

        def __init__(self) -> None:
            trt.IProgressMonitor.__init__(self)
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
