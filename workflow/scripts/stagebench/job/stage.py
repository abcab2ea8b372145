"""The frame of a rule's script: its log file, its GPU, and one clear line if it fails."""

from __future__ import annotations

import logging
import os
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any, Protocol

from stagebench.errors import StagebenchError
from stagebench.host import gpu
from stagebench.job import logs
from stagebench.records.envelope import Stopwatch, job_begins

# Snakemake gives a job's threads to OpenMP, however few CPUs there are. OpenMP reads this once, when a library loads
# it, so it is corrected here, before a script imports any.
if "OMP_NUM_THREADS" in os.environ:
    os.environ["OMP_NUM_THREADS"] = str(min(int(os.environ["OMP_NUM_THREADS"]), len(os.sched_getaffinity(0))))

# CUDA, too, reads its variable once.
gpu.take_scheduled()

_log = logging.getLogger(__name__)


class Job(Protocol):
    """The part of Snakemake's object `snakemake` that is used here."""

    rule: str
    resources: Any


@contextmanager
def logged(log: str | Path, job: Job | None = None) -> Iterator[None]:
    """Run a stage with its log in the file `log`; a `StagebenchError` ends it with that one line.

    If a scheduler ends the stage (SIGTERM), the line names the rule of `job` and the resources that it had.
    """
    job_begins()
    path = Path(log)
    path.unlink(missing_ok=True)
    logs.start(path)
    if job is not None:
        _log_when_ended(job)
    try:
        yield
    except StagebenchError as error:
        _log.debug("", exc_info=error)
        _log.error("%s", error)
        sys.exit(1)
    except BaseException:
        _log.exception("stage failed unexpectedly")
        raise


def optional(path: str | Sequence[str]) -> Path | None:
    """Return the path of an input that a job may go without, which Snakemake then gives as an empty list."""
    return Path(str(path)) if path else None


def _log_when_ended(job: Job) -> None:
    """At SIGTERM log what was ended and which limits it had, then end."""
    watch, process = Stopwatch(), os.getpid()

    def ended(_number: int, _frame: FrameType | None) -> None:
        if os.getpid() == process:  # a forked worker has nothing to add
            given = {name: job.resources.get(name) for name in ("runtime", "mem_mb")}
            _log.error(
                "rule %s was ended from outside (SIGTERM) after %.0f s; it had runtime=%s minutes and mem_mb=%s: "
                "give it more by --set-resources %s:runtime=MINUTES, or with more --retries",
                job.rule,
                watch.seconds(),
                given["runtime"],
                given["mem_mb"],
                job.rule,
            )
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGTERM)

    signal.signal(signal.SIGTERM, ended)
