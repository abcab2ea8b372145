"""Files that appear only when they are whole, their digests, and JSON."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path
from typing import Any

#: The version of a distribution that is not installed, and any other fact that does not exist.
NONE = "none"


def part_of(path: Path) -> Path:
    """Return the undeclared sibling of `path` that holds work in progress (`x.npy` -> `x.npy.part`)."""
    return path.with_name(path.name + ".part")


def remove(path: Path) -> None:
    """Delete a file or a folder, if it exists."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield the sibling of `path` to write to; rename it to `path` if the block succeeds, else delete it."""
    part = part_of(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    remove(part)
    try:
        yield part
    except BaseException:
        remove(part)
        raise
    if path.is_dir() and not path.is_symlink():
        remove(path)  # a folder cannot be renamed onto one that holds files
    part.replace(path)


def digest(path: Path, algorithm: str = "sha256") -> str:
    """Return the hexadecimal digest of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, algorithm).hexdigest()


def write_json(path: Path, value: Any) -> None:
    """Write a JSON file atomically: keys in the given order, a final newline, no NaN."""
    write_text(path, json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False) + "\n")


def write_text(path: Path, text: str) -> None:
    """Write a text file atomically and flush it to the disk."""
    with replacing(path) as part, part.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())


def read_json(path: Path) -> Any:
    """Read a JSON file that this process or its child has just written."""
    return json.loads(path.read_text(encoding="utf-8"))


def versions(*distributions: str) -> dict[str, str]:
    """Return the installed version of each distribution; "none" for one that is not installed."""
    found = {}
    for name in distributions:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = NONE
    return found
