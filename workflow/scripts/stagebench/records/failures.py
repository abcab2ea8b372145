"""A stage that breaks leaves a record that says so, and takes no other model or device with it."""

from __future__ import annotations

import errno
import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from stagebench.errors import StagebenchError, UnrecordedError, says_out_of_memory
from stagebench.records.envelope import Record, Stopwatch, write_unmade
from stagebench.vocabulary import RefusedError, failed

_log = logging.getLogger(__name__)
# Errors of the machine in this moment: disk, memory, open files, a file system that went away.
_OF_THE_MACHINE = frozenset(
    {
        errno.ENOSPC,
        errno.EDQUOT,
        errno.EFBIG,
        errno.ENOMEM,
        errno.EIO,
        errno.EMFILE,
        errno.ENFILE,
        errno.EROFS,
        errno.ESTALE,
        errno.EACCES,
        errno.EPERM,
    }
)


@contextmanager
def failure_recorded(
    kind: type[Record[Any]], path: Path, watch: Stopwatch, *, outputs: Mapping[str, Path], **fields: Any
) -> Iterator[None]:
    """Run a stage's block; if it breaks, write its record with the reason, and end well.

    The state is "failed", or that of a refusal. What would not happen again with the same inputs is raised instead, and
    nothing is recorded: memory or disk that ran out, a changed file, a signal.

    Args:
        kind, path: the record to write.
        outputs: the stage's files, which become placeholders.
        fields: further fields of the record.
    """
    try:
        yield
    except Exception as error:
        if of_the_moment(error):
            raise
        state = error.state if isinstance(error, RefusedError) else failed(reason_of(error))
        write_unmade(kind, path, watch, state=state, outputs=outputs, **fields)
        _log.info("the stage failed", exc_info=error)  # for the log file alone
        _log.warning("%s: %s (%s)", path, state.status.value, state.reason)


def of_the_moment(error: BaseException) -> bool:
    """Return whether an error, or one that led to it, says nothing about what was to be made."""
    seen: list[BaseException] = []
    current: BaseException | None = error
    while current is not None and current not in seen:
        if isinstance(current, UnrecordedError | MemoryError):
            return True
        if isinstance(current, OSError) and current.errno in _OF_THE_MACHINE:
            return True
        seen.append(current)
        current = current.__cause__ or current.__context__
    return says_out_of_memory(str(error))


def reason_of(error: BaseException) -> str:
    """Return an error as one line: a user's error as it is, any other with its type."""
    text = " ".join(str(error).split()) or "no message"
    return text if isinstance(error, StagebenchError) else f"{type(error).__name__}: {text}"
