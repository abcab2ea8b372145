"""The frame of a rule's script: its log file, and one clear line where it fails."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from stagebench import logs, records
from stagebench.records import StagebenchError

# Snakemake gives a job's threads to OpenMP, however few CPUs there are. OpenMP reads this once, when a library loads
# it, so it is corrected here, before a script imports any.
if "OMP_NUM_THREADS" in os.environ:
    os.environ["OMP_NUM_THREADS"] = str(min(int(os.environ["OMP_NUM_THREADS"]), len(os.sched_getaffinity(0))))

_log = logging.getLogger(__name__)


@contextmanager
def logged(log: str | Path) -> Iterator[None]:
    """Run a stage: what it logs goes to the file `log`, an error that a user can act on ends it with that one line."""
    records.job_begins()
    path = Path(log)
    path.unlink(missing_ok=True)
    logs.start(path)
    try:
        yield
    except StagebenchError as error:
        _log.debug("", exc_info=error)
        _log.error("%s", error)
        sys.exit(1)
    except BaseException:
        _log.exception("the stage broke off")
        raise
