"""Records and files: written beside their place and renamed, with digests and provenance.

A record is a JSON object that stands beside every artifact and says how it was made. Its envelope is the same for all
stages; what a stage has to tell follows under keys of its own:

    format    FORMAT of the code that wrote it
    kind      what was made: "archive", "dataset", "pixels", "weights", "model", "device", "engine",
              "validation", "inference"
    status    "ok", "unsupported", "unavailable" or "failed"
    reason    one line; null where the status is "ok"
    wall_s    wall time of the stage in seconds
    start_s   seconds from the start of the job's process to the stage's first useful work; null outside a job
    finished  UTC time at which the stage ended, ISO 8601
    inputs    name -> {"path", "sha256", "bytes"} of what went in
    outputs   name -> {"path", "sha256", "bytes"} of what came out
    versions  library -> version of what made it
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any, Literal

# Raised by hand when a record's meaning changes. It is a parameter of every rule, so raising it reruns everything;
# an edit of this module alone reruns nothing.
FORMAT = 1

Status = Literal["ok", "unsupported", "unavailable", "failed"]
_CHUNK = 1 << 20


class StagebenchError(Exception):
    """An error that a user can act on: its text is one line that says what is wrong, where, and what to do."""


def part_of(path: Path) -> Path:
    """Return the undeclared sibling of `path` in which work in progress lives (`x.npy` -> `x.npy.part`)."""
    return path.with_name(path.name + ".part")


def remove(path: Path) -> None:
    """Delete a file or a folder, if it exists."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield the sibling of `path` to write to; rename it to `path` if the block ends well, delete it if it does not."""
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


def describe(path: Path) -> dict[str, Any]:
    """Return a file's entry for `inputs` or `outputs`: path, sha256 and size in bytes."""
    return {"path": path.as_posix(), "sha256": digest(path), "bytes": path.stat().st_size}


def versions(*distributions: str) -> dict[str, str]:
    """Return the installed version of each distribution; "none" for one that is not installed."""
    found = {}
    for name in distributions:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = "none"
    return found


# Set once per job, when its script begins.
_start_s: float | None = None


def job_begins() -> None:
    """Note how long this process took to get here: the interpreter, Snakemake's preamble, the script's imports."""
    global _start_s  # noqa: PLW0603 - a process is one job
    # Field 22 of proc(5)'s stat, behind the command in parentheses: start after boot in clock ticks.
    ticks = int(Path("/proc/self/stat").read_text().rpartition(")")[2].split()[19])
    _start_s = time.clock_gettime(time.CLOCK_BOOTTIME) - ticks / os.sysconf("SC_CLK_TCK")


class Stopwatch:
    """Wall time since it was made, in seconds; one is started at the beginning of each stage."""

    def __init__(self) -> None:
        self._start = time.perf_counter()
        #: Kept here since a stage's record may be written by a child process.
        self.start_s = _start_s

    def seconds(self) -> float:
        """Return the seconds since the start."""
        return time.perf_counter() - self._start


def make_record(
    kind: str,
    *,
    watch: Stopwatch,
    status: Status = "ok",
    reason: str | None = None,
    inputs: Mapping[str, Any] | None = None,
    outputs: Mapping[str, Any] | None = None,
    versions: Mapping[str, str] | None = None,
    **payload: Any,
) -> dict[str, Any]:
    """Return a record: the envelope described at the head of this module, then `payload`."""
    return {
        "format": FORMAT,
        "kind": kind,
        "status": status,
        "reason": reason,
        "wall_s": round(watch.seconds(), 6),
        "start_s": None if watch.start_s is None else round(watch.start_s, 2),
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
        "inputs": dict(inputs or {}),
        "outputs": dict(outputs or {}),
        "versions": dict(versions or {}),
        **payload,
    }


def write_json(path: Path, value: Any) -> None:
    """Write a JSON file atomically, with sorted structure left as given and a final newline."""
    with replacing(path) as part, part.open("w", encoding="utf-8") as file:
        json.dump(value, file, indent=1, ensure_ascii=False, allow_nan=False)
        file.write("\n")
        file.flush()
        os.fsync(file.fileno())


def read_json(path: Path) -> Any:
    """Read a JSON file that this workflow has just written."""
    return json.loads(path.read_text(encoding="utf-8"))


def read_record(path: Path) -> dict[str, Any]:
    """Read a record.

    Raises:
        StagebenchError: the file is missing, is not JSON or is no record.
    """
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise StagebenchError(f"{path}: no such record; run the target {path} first") from None
    except ValueError as error:
        raise StagebenchError(f"{path}: not a JSON record ({error}); delete it and run again") from None
    if not isinstance(record, dict) or "status" not in record:
        raise StagebenchError(f"{path}: not a record of this workflow; delete it and run again")
    return record


def output_entry(record: Mapping[str, Any], name: str) -> dict[str, Any]:
    """Return what a record says of one of its outputs, to be used as an entry of a consumer's `inputs`."""
    return dict(record["outputs"][name])
