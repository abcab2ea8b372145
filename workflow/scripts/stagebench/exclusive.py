"""One timed run at a time on a machine, whoever started it."""

from __future__ import annotations

import fcntl
import logging
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

LOCK = Path(tempfile.gettempdir()) / "stagebench.lock"
_log = logging.getLogger(__name__)


@contextmanager
def machine(lock: Path = LOCK) -> Iterator[None]:
    """Hold the machine-wide lock; wait for it as long as another timed run has it.

    Snakemake's own limit (the resource `machine`) does the same inside one run that uses the workflow's profile; this
    holds between runs, users and profiles. The kernel releases it when the process ends, however it ends.
    """
    descriptor = os.open(lock, os.O_RDONLY | os.O_CREAT | os.O_CLOEXEC, 0o666)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            _log.warning("another timed run holds this machine (%s): waiting for it to end", lock)
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
