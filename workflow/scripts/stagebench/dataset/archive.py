"""From the archive to class folders and a manifest."""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from stagebench import records
from stagebench.dataset import labels as label_kinds
from stagebench.dataset import tarstream
from stagebench.dataset.images import ImageError, decode_image
from stagebench.dataset.jpeg import is_surely_decodable
from stagebench.dataset.labels import Label, Labels
from stagebench.dataset.manifest import ManifestRow, write_manifest
from stagebench.logs import progress_bar
from stagebench.preprocessing import Preprocessing
from stagebench.records import StagebenchError

if TYPE_CHECKING:
    from types import TracebackType

_BUFFER = 1 << 20
_SHOWN = 3
# Files handed to the writer at a time: some megabytes of ImageNet.
_BATCH = 32


def extract_archive(
    archive: Path,
    archive_record: Path,
    images: Path,
    manifest: Path,
    record: Path,
    *,
    labels: str,
    expected: int,
    devkit: str | None = None,
) -> None:
    """Extract an archive into class folders `images`/<wnid>/<name>, with a manifest outside that directory.

    The images are written beside their place and renamed at the end, so an interrupted run leaves nothing that passes
    for complete; the next one starts over.

    Args:
        archive: tar archive of image files.
        archive_record: its record.
        images: directory to make.
        manifest: CSV file to write.
        record: record to write.
        labels: kind of the labels, "imagenet" or "sample".
        expected: number of validation images that there must be.
        devkit: ImageNet's development kit, held against the labels; None to go without.

    Raises:
        StagebenchError: the archive is damaged or unsafe, an image is broken (all of them are named), or the images
            are not those expected.
    """
    watch = records.Stopwatch()
    source = records.read_record(archive_record)
    kind = label_kinds.resolve(labels, devkit)
    with records.replacing(images) as folder:
        folder.mkdir()
        rows = _extract(archive, folder, images.name, kind, expected)
    inputs = {"archive": records.output_entry(source, "archive")}
    notes = {key: source[key] for key in ("photographs",) if key in source}
    write_dataset(manifest, record, rows, labels, watch=watch, inputs=inputs, notes=notes)


def _extract(archive: Path, folder: Path, name: str, kind: Labels, expected: int) -> list[ManifestRow]:
    rows: dict[str, ManifestRow] = {}
    broken: list[str] = []
    for wnid in kind.wnids:
        (folder / wnid).mkdir()
    with (
        archive.open("rb", buffering=_BUFFER) as file,
        _Writer() as writer,
        progress_bar("extract", total=expected, unit="img") as bar,
    ):
        for path, data in tarstream.members(file, archive.as_posix()):
            member = path.rpartition("/")[2]
            label = kind.of(member)
            if label is None:
                raise StagebenchError(
                    f"{archive}: the member {path} is no image of this data set; is it another archive?"
                )
            if member in rows:
                raise StagebenchError(f"{archive}: holds {member} twice; is it another archive?")
            if reason := check_image(data):
                broken.append(f"{path} ({reason})")
            writer.write(f"{folder}/{label.wnid}/{member}", data)
            rows[member] = _row(f"{name}/{label.wnid}/{member}", label, data)
            bar.update()
    for wnid in kind.wnids:
        _remove_if_empty(folder / wnid)
    if broken:
        raise StagebenchError(f"{archive}: {len(broken)} images are broken: {'; '.join(broken)}; replace the archive")
    return check_counts([rows[member] for member in sorted(rows)], kind, expected, archive.as_posix())


def check_image(data: bytes) -> str | None:
    """Say why an image file cannot be used; None if it can.

    What torchvision's loader decodes can be used, whatever its name says. A JPEG of the usual kind is not decoded for
    that, since its headers tell; anything else is.
    """
    if is_surely_decodable(data):
        return None
    try:
        decode_image(data, Preprocessing())
    except ImageError as error:
        return str(error)
    return None


def check_counts(rows: list[ManifestRow], kind: Labels, expected: int, where: str) -> list[ManifestRow]:
    """Return `rows`, once their number and their number per class are what they must be.

    Raises:
        StagebenchError: they are not.
    """
    found = Counter(row.label for row in rows if row.split == "val")
    if found.total() != expected:
        raise StagebenchError(
            f"{where}: holds {found.total()} validation images, but datasets.*.images expects {expected}; "
            "correct the number or fetch the archive again"
        )
    wanted = kind.per_class(expected)
    if wanted is not None and wanted != found:
        wrong = [kind.wnids[label] for label in sorted(wanted.keys() | found.keys()) if wanted[label] != found[label]]
        shown = ", ".join(wrong[:_SHOWN]) + (f" and {len(wrong) - _SHOWN} others" if len(wrong) > _SHOWN else "")
        raise StagebenchError(f"{where}: the number of images is wrong in the classes {shown}; is it another archive?")
    return rows


def _row(path: str, label: Label, data: bytes) -> ManifestRow:
    return ManifestRow(path, label.label, label.wnid, label.split, len(data), hashlib.sha256(data).hexdigest())


class _Writer:
    """Writes files on a thread of its own, a batch at a time, while the next ones are read and hashed."""

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="writer")
        self._batch: list[tuple[str, bytes]] = []
        self._running: Future[None] | None = None

    def write(self, path: str, data: bytes) -> None:
        """Take a file; what it was given earlier may fail here."""
        self._batch.append((path, data))
        if len(self._batch) == _BATCH:
            self._flush()

    def _flush(self) -> None:
        if self._running is not None:
            self._running.result()
        self._running = self._pool.submit(_write_all, self._batch)
        self._batch = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if kind is None:
                self._flush()
                self._flush()  # waits for the one before it
        finally:
            self._pool.shutdown(wait=True, cancel_futures=True)


def _write_all(files: list[tuple[str, bytes]]) -> None:
    for path, data in files:
        _write(path, data)


def _write(path: str, data: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
    try:
        view = memoryview(data)
        while view:
            view = view[os.write(descriptor, view) :]
    finally:
        os.close(descriptor)


def _remove_if_empty(folder: Path) -> None:
    if next(folder.iterdir(), None) is None:
        folder.rmdir()


def write_dataset(
    manifest: Path,
    record: Path,
    rows: list[ManifestRow],
    labels: str,
    *,
    watch: records.Stopwatch,
    inputs: dict[str, Any],
    notes: dict[str, Any],
) -> None:
    """Write the manifest and the record of a data set whose images are in their place.

    Args:
        notes: what the record has to say beside the counts.
    """
    write_manifest(manifest, rows)
    records.write_json(
        record,
        records.make_record(
            "dataset",
            watch=watch,
            inputs=inputs,
            outputs={"manifest": records.describe(manifest)},
            labels=labels,
            images=sum(row.split == "val" for row in rows),
            fitting_images=sum(row.split == "fit" for row in rows),
            classes=len({row.wnid for row in rows}),
            bytes=sum(row.bytes for row in rows),
            **notes,
        ),
    )
