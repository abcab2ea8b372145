"""State of a file that the user names by its path, cheap enough to ask for while planning."""

from __future__ import annotations

import hashlib
from pathlib import Path

from stagebench.records.io import digest

#: Largest file in bytes whose contents are read while planning; profiles let Snakemake read as much. Of a larger one,
#: above all ImageNet's archive, size and time of modification count, so that a `touch` makes it another one.
READ = 200_000_000


def state(path: Path) -> str:
    """Return 16 hexadecimal digits that change with a file's contents.

    Raises:
        OSError: it is missing or cannot be read.
    """
    found = path.stat()
    if found.st_size <= READ:
        return digest(path)[:16]
    return hashlib.sha256(f"{found.st_size} {found.st_mtime_ns}".encode()).hexdigest()[:16]
