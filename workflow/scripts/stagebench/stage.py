"""The frame of a rule's script: its log file, its GPU, and one clear line where it fails."""

from __future__ import annotations

import logging
import os
import signal
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any, Protocol

from stagebench import gpu, logs, records
from stagebench.records import StagebenchError, Stopwatch

# Snakemake gives a job's threads to OpenMP, however few CPUs there are. OpenMP reads this once, when a library loads
# it, so it is corrected here, before a script imports any.
if "OMP_NUM_THREADS" in os.environ:
    os.environ["OMP_NUM_THREADS"] = str(min(int(os.environ["OMP_NUM_THREADS"]), len(os.sched_getaffinity(0))))

# CUDA, too, reads its variable once.
gpu.take_scheduled()

_log = logging.getLogger(__name__)


class Job(Protocol):
    """What is used of the object `snakemake` that Snakemake gives a script."""

    rule: str
    resources: Any


@contextmanager
def logged(log: str | Path, job: Job | None = None) -> Iterator[None]:
    """Run a stage: what it logs goes to the file `log`, an error that a user can act on ends it with that one line.

    Where a scheduler ends the stage (SIGTERM) the line names the rule of `job` and the resources that it had.
    """
    records.job_begins()
    path = Path(log)
    path.unlink(missing_ok=True)
    logs.start(path)
    if job is not None:
        _tell_when_ended(job)
    try:
        yield
    except StagebenchError as error:
        _log.debug("", exc_info=error)
        _log.error("%s", error)
        sys.exit(1)
    except BaseException:
        _log.exception("the stage broke off")
        raise


def located(rows: Iterable[Mapping[str, Any]], inputs: Iterable[str]) -> list[dict[str, Any]]:
    """Return a report's rows with their records' paths as they are here: a storage provider keeps copies elsewhere.

    Args:
        rows: {"cell": {...}, "records": {stage: path or None}} per row.
        inputs: the same paths, each once and in the same order, as Snakemake gives them to the job.
    """
    rows = list(rows)
    named = dict.fromkeys(path for row in rows for path in row["records"].values() if path)
    here: dict[str | None, str] = dict(zip(named, map(str, inputs), strict=True))
    return [{**row, "records": {stage: here.get(path) for stage, path in row["records"].items()}} for row in rows]


def _tell_when_ended(job: Job) -> None:
    """Say at SIGTERM what was ended and what it was allowed, and end."""
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
