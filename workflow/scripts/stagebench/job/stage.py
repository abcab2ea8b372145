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
from stagebench.host import cpus, gpu
from stagebench.job import logs
from stagebench.job.family import FROM_OUTSIDE
from stagebench.records import lifetime
from stagebench.records.envelope import Stopwatch, job_begins

# Snakemake gives a job's threads to OpenMP, however few CPUs there are. OpenMP reads this once, when a library loads
# it, so it is corrected here, before a script imports any.
if "OMP_NUM_THREADS" in os.environ:
    os.environ["OMP_NUM_THREADS"] = str(min(int(os.environ["OMP_NUM_THREADS"]), cpus.usable()))

# CUDA, too, reads its variable once.
gpu.take_scheduled()

_log = logging.getLogger(__name__)


# Seconds between two looks at the Snakemake that started the job.
_LOOK_S = 1.0


class Job(Protocol):
    """The part of Snakemake's object `snakemake` that is used here."""

    rule: str
    resources: Any
    params: Any


class EndedError(BaseException):
    """A signal from outside. Not an `Exception`: no library may take it for an error of its own."""

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.number = number


@contextmanager
def logged(log: str | Path, job: Job) -> Iterator[None]:
    """Run a stage with its log in the file `log`; a `StagebenchError` ends it with that one line.

    If it is ended from outside (SIGTERM, SIGINT, SIGHUP), a line says so at once, since a scheduler may wait for no
    more; for its SIGTERM the line names the rule of `job` and the resources that it had. Then its children are ended
    and its work in progress is removed, as they are if the Snakemake that started it is gone.
    """
    job_begins(job.params.get("compared"))
    path = Path(log)
    path.unlink(missing_ok=True)
    logs.start(path)
    _obey(job)
    try:
        yield
    except EndedError as ended:
        signal.signal(ended.number, signal.SIG_DFL)
        os.kill(os.getpid(), ended.number)
    except lifetime.OrphanedError as orphaned:
        _log.error("%s", orphaned)
        sys.exit(1)
    except StagebenchError as error:
        _log.debug("", exc_info=error)
        _log.error("%s", error)
        sys.exit(1)
    except BaseException:
        _log.exception("stage failed unexpectedly")
        raise
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)  # an interpreter that ends gives up its handlers


def optional(path: str | Sequence[str]) -> Path | None:
    """Return the path of an input that a job may go without, which Snakemake then gives as an empty list."""
    return Path(str(path)) if path else None


def _obey(job: Job) -> None:
    """Raise in this process, wherever it is, when a signal ends it or when its Snakemake is gone.

    Each does so once: nothing interrupts what then cleans up, but for a second signal of the kind, which kills.
    """
    process, watch = os.getpid(), Stopwatch()
    lifetime.work_for(lifetime.snakemakes())

    def end(number: int, _frame: FrameType | None) -> None:
        signal.signal(number, signal.SIG_DFL)
        if os.getpid() != process:  # a forked worker has nothing to clean up, and nothing to add
            os.kill(os.getpid(), number)
        ended = EndedError(number)
        _log.error("%s", _ended_line(ended, job, watch.seconds()))
        raise ended

    def looked(_number: int, _frame: FrameType | None) -> None:
        try:
            lifetime.require_masters()
        except lifetime.OrphanedError:
            signal.setitimer(signal.ITIMER_REAL, 0)
            raise

    for number in FROM_OUTSIDE:
        if signal.getsignal(number) is not signal.SIG_IGN:  # as `nohup` has it
            signal.signal(number, end)
    # A timer, since a thread would keep the stage from forking; forked processes do not have it.
    signal.signal(signal.SIGALRM, looked)
    signal.siginterrupt(signal.SIGALRM, False)
    signal.setitimer(signal.ITIMER_REAL, _LOOK_S, _LOOK_S)


def _ended_line(ended: EndedError, job: Job, seconds: float) -> str:
    line = f"rule {job.rule} was ended from outside ({ended}) after {seconds:.0f} s"
    if ended.number != signal.SIGTERM:
        return line
    given = {name: job.resources.get(name) for name in ("runtime", "mem_mb")}
    return (
        f"{line}; it had runtime={given['runtime']} minutes and mem_mb={given['mem_mb']}: give it more by "
        f"--set-resources {job.rule}:runtime=MINUTES, or with more --retries"
    )
