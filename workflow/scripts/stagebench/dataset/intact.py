"""Images are compared with their manifest before they are timed: inside the clock nothing is hashed."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from stagebench.dataset.manifest import ManifestRow, image_path
from stagebench.host import cpus
from stagebench.records import proofs
from stagebench.records.artifact import ChangedError
from stagebench.records.proofs import FileState

_SHOWN = 3


def require_intact(manifest: Path, rows: Sequence[ManifestRow], *, advice: str) -> None:
    """Compare images with the digests of their rows; while no file's state changes, that is done once.

    Args:
        manifest: path next to which the images lie.
        advice: what to do about images that differ.

    Raises:
        ChangedError: images are missing or have other contents; the text names the first of them.
    """
    with proofs.counted():
        paths = [image_path(manifest, row) for row in rows]
        wrong = [f"{path} is missing" for path in paths if not path.is_file()]
        if not wrong:
            known = _fact(paths, rows)
            if proofs.is_known(known):
                return
            with ThreadPoolExecutor(cpus.usable()) as pool:
                found = list(pool.map(_sha256, paths))
            wrong = [
                f"{path} has changed"
                for path, row, digest in zip(paths, rows, found, strict=True)
                if digest != row.sha256
            ]
            if not wrong and _fact(paths, rows) == known:
                proofs.note(known)
    if wrong:
        more = f" and {len(wrong) - _SHOWN} others" if len(wrong) > _SHOWN else ""
        raise ChangedError(
            f"{manifest}: images are not those that it describes: {'; '.join(wrong[:_SHOWN])}{more}; {advice}"
        )


def _fact(paths: Sequence[Path], rows: Sequence[ManifestRow]) -> str:
    return proofs.fact(map(FileState.of, paths), [row.sha256 for row in rows])


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
