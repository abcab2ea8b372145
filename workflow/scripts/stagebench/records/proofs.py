"""Digests of files that were compared before: a file in the same state is not read again.

What is kept is one fact per file of the folder `PROOFS`: a file with this identity on its file system, this size and
these time stamps had this digest. The kernel sets ctime_ns itself, so contents that change leave a state that no fact
mentions. Facts are only ever added; who deletes the folder loses nothing but time.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

#: Beside what Snakemake itself keeps of a run. Without that folder facts hold for this process alone.
PROOFS = Path(".snakemake/stagebench-proofs")
_known: set[str] = set()
_seconds = 0.0


class FileState(NamedTuple):
    """The state of a file: contents do not change without it."""

    device: int
    inode: int
    bytes: int
    mtime_ns: int
    ctime_ns: int

    @classmethod
    def of(cls, path: Path) -> FileState:
        """Return the state of the file that a path leads to.

        Raises:
            OSError: there is none.
        """
        found = path.stat()
        return cls(found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)


def fact(states: Iterable[FileState], digests: Iterable[str]) -> str:
    """Return the name of the fact that files in these states have these digests, in the same order."""
    text = json.dumps([list(states), list(digests)])
    return hashlib.sha256(text.encode()).hexdigest()


def is_known(name: str) -> bool:
    """Return whether a fact was noted before."""
    return name in _known or (PROOFS / name).exists()


def note(name: str) -> None:
    """Keep a fact; where it cannot be written, for this process alone."""
    _known.add(name)
    with suppress(OSError):
        if PROOFS.parent.is_dir():
            PROOFS.mkdir(exist_ok=True)
            (PROOFS / name).touch()


@contextmanager
def counted() -> Iterator[None]:
    """Add the seconds of the block to what comparing has cost this process."""
    global _seconds  # noqa: PLW0603 - a process is one job
    begin = time.perf_counter()
    try:
        yield
    finally:
        _seconds += time.perf_counter() - begin


def seconds() -> float:
    """Return what comparing files with their records has cost this process, in seconds."""
    return _seconds
