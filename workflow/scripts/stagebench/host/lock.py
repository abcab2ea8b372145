"""Timed runs hold what they run on: the whole machine, or a GPU and CPUs of their own where a machine may be shared.

The locks are files that users and runs have in common. The kernel releases them when the process ends, however it ends.
Snakemake's own limit (the resource `machine`) does the same inside one run that uses the workflow's profile.
"""

from __future__ import annotations

import fcntl
import logging
import os
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from stagebench.host import gpu

LOCK = Path(tempfile.gettempdir()) / "stagebench.lock"
_log = logging.getLogger(__name__)


@contextmanager
def machine(lock: Path = LOCK) -> Iterator[None]:
    """Hold the machine; wait for it as long as another timed run has it, or a part of it."""
    with _held(lock, fcntl.LOCK_EX):
        yield


@contextmanager
def share(lock: Path = LOCK) -> Iterator[None]:
    """Hold this process's GPU and each CPU that it may use; wait for those that another timed run has.

    A run that holds the whole machine keeps all sharers out, and they keep it out. Where a scheduler does not confine
    jobs to CPUs of their own they take turns. Without a GPU there is nothing to share by: the machine is held.
    """
    card = gpu.identity()
    if card is None:
        with machine(lock):
            yield
        return
    parts = [str(card.uuid), *(f"cpu{number}" for number in sorted(os.sched_getaffinity(0)))]
    with ExitStack() as stack:
        stack.enter_context(_held(lock, fcntl.LOCK_SH))
        # Always in the same order, so that no two runs wait for each other.
        for part in parts:
            stack.enter_context(_held(lock.with_name(f"{lock.name}.{part}"), fcntl.LOCK_EX))
        yield


@contextmanager
def _held(lock: Path, mode: int) -> Iterator[None]:
    descriptor = os.open(lock, os.O_RDONLY | os.O_CREAT | os.O_CLOEXEC, 0o666)
    try:
        try:
            fcntl.flock(descriptor, mode | fcntl.LOCK_NB)
        except BlockingIOError:
            _log.warning("another timed run holds this machine (%s): waiting for it to end", lock)
            fcntl.flock(descriptor, mode)
        yield
    finally:
        os.close(descriptor)
