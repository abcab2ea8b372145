"""Files out of an archive, each read, checked, hashed and written by one of several processes.

Python does most of this for a small file, one thread at a time; so processes share the work, not threads. They read
the archive themselves, and nothing but names, places and digests passes between them.
"""

from __future__ import annotations

import hashlib
import multiprocessing
import os
import signal
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple, Self

from stagebench.errors import StagebenchError
from stagebench.job.family import die_with
from stagebench.job.supervise import may_fork

# A batch is what a worker takes at a time: enough to make the hand-over cheap, little enough to keep all of them busy.
_BATCH_FILES = 256
_BATCH_BYTES = 4 << 20
_AHEAD = 3  # batches that wait for each worker

_DIGEST = 32  # bytes of a SHA-256

Check = Callable[[bytes], str | None]
# What passes between processes: plain values, since most of the time on a small file would go into anything else.
_Batch = list[tuple[int, int, str]]
_Outcome = tuple[bytes, dict[int, str]]


class Piece(NamedTuple):
    """A file in an archive: where its bytes lie, and the path in the folder to write it to, which must not exist."""

    offset: int
    size: int
    target: str


class Written(NamedTuple):
    """A file that was written: its SHA-256, and what `check` said of its contents."""

    sha256: str
    fault: str | None


class Unpacker:
    """Writes pieces of an archive to their places; a context manager, whose processes end with it.

    Args:
        archive: file that holds the pieces.
        folder: where they go; the folders in it that they name are there.
        check: says what is wrong with a file's contents, None if nothing; a function of a module.
        workers: processes; one is this process itself. They end when it does, however it ends. They are forked, which
            spares them the imports, unless there are threads: so this comes before anything that starts some.
    """

    def __init__(self, archive: Path, folder: Path, *, check: Check, workers: int) -> None:
        self._source = _Source(archive, folder, check)
        self._workers = workers

    def __enter__(self) -> Self:
        self._executor = self._start()
        return self

    def _start(self) -> Executor:
        if self._workers <= 1:
            _start(self._source)
            return _Here()
        context: Any = multiprocessing.get_context("fork" if may_fork() else "spawn")
        executor = ProcessPoolExecutor(self._workers, context, _start_worker, (self._source, os.getpid()))
        executor.submit(os.getpid).result()  # it starts its processes with the first task
        return executor

    def __exit__(self, *_: object) -> None:
        self._executor.shutdown(wait=True, cancel_futures=True)

    def unpack(self, pieces: Iterable[Piece]) -> Iterator[Written]:
        """Write pieces to their places; yield what there is to say of each, in their order.

        Raises:
            StagebenchError: a piece is cut off, cannot be written, or a worker was killed.
        """
        running: deque[Future[_Outcome]] = deque()
        try:
            for batch in _batches(pieces):
                running.append(self._executor.submit(_write_batch, batch))
                if len(running) > self._workers * _AHEAD:
                    yield from _written(running.popleft().result())
            while running:
                yield from _written(running.popleft().result())
        except BrokenProcessPool:
            raise StagebenchError(
                f"{self._source.archive}: a process that extracts it was killed (out of memory?); run again"
            ) from None


class _Here(Executor):
    """Runs what is submitted at once, in this process."""

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        future: Future[Any] = Future()
        future.set_result(fn(*args, **kwargs))
        return future


def _batches(pieces: Iterable[Piece]) -> Iterator[_Batch]:
    batch: _Batch = []
    total = 0
    for piece in pieces:
        batch.append((piece.offset, piece.size, piece.target))
        total += piece.size
        if len(batch) == _BATCH_FILES or total >= _BATCH_BYTES:
            yield batch
            batch, total = [], 0
    if batch:
        yield batch


def _written(outcome: _Outcome) -> Iterator[Written]:
    digests, faults = outcome
    for index, begin in enumerate(range(0, len(digests), _DIGEST)):
        yield Written(digests[begin : begin + _DIGEST].hex(), faults.get(index))


class _Source(NamedTuple):
    """A worker's source and target, and its check of what it has read."""

    archive: Path
    folder: Path
    check: Check


class _Descriptors(NamedTuple):
    """The same, opened: a path from a folder's descriptor is short to walk."""

    archive: int
    folder: int


_source: _Source | None = None


def _start(source: _Source) -> None:
    global _source  # noqa: PLW0603  # set once in each worker
    _source = source


def _start_worker(source: _Source, parent: int) -> None:
    """Prepare a worker: it dies with its parent, so that nothing writes on once a killed stage is run again."""
    die_with(parent)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent is interrupted, too, and ends its workers
    _start(source)


def _write_batch(batch: _Batch) -> _Outcome:
    """Write a batch; return the digests, one after the other, and by their index the faults that were found."""
    if _source is None:
        raise RuntimeError("no archive was named to this process")
    digests: list[bytes] = []
    faults: dict[int, str] = {}
    with _opened(_source) as descriptors:
        for index, (offset, size, target) in enumerate(batch):
            data = _read(descriptors.archive, offset, size, target)
            _write(descriptors.folder, target, data)
            digests.append(hashlib.sha256(data).digest())
            if fault := _source.check(data):
                faults[index] = fault
    return b"".join(digests), faults


@contextmanager
def _opened(source: _Source) -> Iterator[_Descriptors]:
    descriptors = _Descriptors(os.open(source.archive, os.O_RDONLY), os.open(source.folder, os.O_RDONLY))
    try:
        yield descriptors
    except OSError as error:  # above all, of a full disk
        raise StagebenchError(f"{source.folder}: {error.strerror}; put that right, then run again") from None
    finally:
        os.close(descriptors.archive)
        os.close(descriptors.folder)


def _read(archive: int, offset: int, size: int, target: str) -> bytes:
    data = os.pread(archive, size, offset)
    while len(data) < size:
        more = os.pread(archive, size - len(data), offset + len(data))
        if not more:
            raise StagebenchError(f"{target}: the archive ends in the middle of it; fetch the archive again")
        data += more
    return data


def _write(folder: int, target: str, data: bytes) -> None:
    descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644, dir_fd=folder)
    try:
        done = os.write(descriptor, data)
        while done < len(data):
            done += os.write(descriptor, memoryview(data)[done:])
    finally:
        os.close(descriptor)
