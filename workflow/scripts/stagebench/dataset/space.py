"""Free disk space, asked for before gigabytes are written."""

from __future__ import annotations

import shutil
from pathlib import Path

from stagebench.errors import UnrecordedError


def require_free(folder: Path, needed: int, *, what: str, advice: str) -> None:
    """Raise unless a folder's disk has `needed` bytes free.

    Args:
        folder: an existing folder.
        what: what is to be written there, the beginning of a sentence.
        advice: what to do about it other than making room.

    Raises:
        UnrecordedError: it has less.
    """
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise UnrecordedError(
            f"{what} needs {needed / 1e9:.1f} GB, but {folder} has {free / 1e9:.1f} GB free; make room, or {advice}"
        )
