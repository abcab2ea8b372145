"""Images and decoded pixels on the machine's own disk: copied there once, read from there by every timed run.

A copy lives in a folder named after the user and the manifest's digest, so another data set never mixes with it. It
stays for the next job; whoever clears the disk takes nothing but time.
"""

from __future__ import annotations

import fcntl
import getpass
import logging
import os
import shutil
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from stagebench.dataset.manifest import ManifestRow, read_image
from stagebench.dataset.space import require_free
from stagebench.errors import StagebenchError
from stagebench.host import cpus
from stagebench.records.cells import ReadFrom
from stagebench.records.envelope import Stopwatch
from stagebench.records.io import digest, replacing

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Location:
    """Location that a timed run reads from."""

    #: The manifest's path there: images lie relative to its folder.
    manifest: Path
    pixels: Path | None
    #: Whether it is a copy on the machine's own disk.
    staged: bool
    seconds: float

    def describe(self) -> ReadFrom:
        """Return its entry in a record."""
        folder = self.manifest.parent
        return ReadFrom(
            folder=folder.as_posix(),
            file_system=file_system(folder),
            staged=self.staged,
            staging_s=self.seconds,
        )


def in_place(manifest: Path, pixels: Path | None) -> Location:
    """Return the location where the workflow keeps the data set."""
    return Location(manifest, pixels, staged=False, seconds=0.0)


def stage(manifest: Path, rows: Sequence[ManifestRow], pixels: Path | None, scratch: str) -> Location:
    """Copy the images of `rows` and the decoded pixels below the folder `scratch`; what is there already stays.

    Every image is compared with the manifest's SHA-256 while it is copied.

    Raises:
        StagebenchError: the folder does not exist or is too small, or an image differs from the manifest.
    """
    watch = Stopwatch()
    root = Path(os.path.expandvars(scratch)).expanduser()
    if not root.is_dir() or not root.is_absolute():
        raise StagebenchError(
            f"devices.*.local_scratch: {scratch!r} names no folder on this machine (it expands to {root}); "
            "name one that every node of this device has, or leave the key out"
        )
    name = f"{manifest.parent.name}-{digest(manifest)[:16]}"
    folder = root / f"stagebench-{getpass.getuser()}" / name
    folder.mkdir(parents=True, exist_ok=True)
    with _alone(folder / "lock"):
        missing = [row for row in rows if not _is_there(folder / row.path, row.bytes)]
        to_copy = None if pixels is None else (pixels, folder / f"pixels-{pixels.stem}.npy")
        if to_copy and _is_there(to_copy[1], pixels_bytes := to_copy[0].stat().st_size):
            pixels_bytes = 0
        require_free(
            folder,
            sum(row.bytes for row in missing) + (pixels_bytes if to_copy else 0),
            what=f"{folder}: staging",
            advice="leave devices.*.local_scratch out",
        )
        with ThreadPoolExecutor(cpus.usable()) as pool:
            for _ in pool.map(lambda row: _copy_image(manifest, row, folder / row.path), missing):
                pass
        if to_copy and pixels_bytes:
            _copy_file(*to_copy)
    _log.info("%d of %d images copied to %s", len(missing), len(rows), folder)
    return Location(folder / manifest.name, to_copy[1] if to_copy else None, staged=True, seconds=watch.seconds())


def file_system(path: Path) -> str:
    """Return the type of the file system that holds `path`, as the kernel names it; "unknown" where it does not."""
    resolved = path.resolve()
    best, kind = "", "unknown"
    try:
        lines = Path("/proc/self/mounts").read_text(encoding="utf-8").splitlines()
    except OSError:
        return kind
    for line in lines:
        mount, name = line.split()[1:3]
        if resolved.is_relative_to(mount) and len(mount) >= len(best):
            best, kind = mount, name
    return kind


@contextmanager
def _alone(lock: Path) -> Iterator[None]:
    """Hold the folder's lock: jobs that share a machine do not copy over each other."""
    with lock.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _is_there(path: Path, size: int) -> bool:
    try:
        return path.stat().st_size == size
    except OSError:
        return False


def _copy_image(manifest: Path, row: ManifestRow, target: Path) -> None:
    content = read_image(manifest, row)
    with replacing(target) as part:
        part.write_bytes(content)


def _copy_file(source: Path, target: Path) -> None:
    with replacing(target) as part:
        shutil.copyfile(source, part)
