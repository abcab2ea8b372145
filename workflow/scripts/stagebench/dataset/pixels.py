"""Decoded pixels as a file: every validation image decoded once, memory-mapped by its readers."""

from __future__ import annotations

import hashlib
import io
import json
import logging
import os
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from stagebench.dataset.decode import resample
from stagebench.dataset.decode.images import DECODER, ImageError, decode_image
from stagebench.dataset.manifest import (
    ImageFileError,
    ManifestRow,
    image_path,
    list_digest,
    read_image,
    remedy,
    validation_rows,
)
from stagebench.dataset.space import require_free
from stagebench.errors import StagebenchError
from stagebench.job.logs import progress_bar
from stagebench.preprocessing import Preprocessing
from stagebench.records.data import DatasetRecord, DecodedImages, PixelsRecord
from stagebench.records.envelope import FileEntry, Stopwatch, passed_on
from stagebench.records.io import part_of, versions

_log = logging.getLogger(__name__)

# Images decoded between two checkpoints: 19 MB of pixels at 224 x 224.
_BLOCK = 128
_CHUNK = 1 << 20
_Images = npt.NDArray[np.uint8]


def decode_pixels(
    manifest: Path,
    dataset_record: Path,
    pixels: Path,
    record: Path,
    *,
    preprocessing: Preprocessing,
    subset: int | None,
    threads: int,
) -> None:
    """Decode the validation images of a data set into one .npy file: uint8 (images, crop, crop, 3), manifest's order.

    Work in progress lives in `pixels`.part with a journal next to it. A run that was killed resumes from the journal's
    last entry whose digest the file still has; another manifest, recipe or subset starts over.

    Raises:
        StagebenchError: the disk is too small, or images cannot be decoded or are not those of the manifest (all of
            them are named).
    """
    watch = Stopwatch()
    source = DatasetRecord.read(dataset_record)
    if passed_on(PixelsRecord, record, watch, sources=[source], outputs={"pixels": pixels}):
        return
    rows = validation_rows(source.artifact("manifest", manifest).verify(), subset)
    shape = (len(rows), preprocessing.crop, preprocessing.crop, 3)
    inputs = {"manifest": source.outputs["manifest"]}
    key = {
        "decoder": DECODER,
        "recipe": preprocessing.recipe(DECODER),
        "shape": shape,
        "manifest": inputs["manifest"].sha256,
    }
    if len(rows) >= resample.WORTHWHILE:
        resample.load_kernels()
    with _Writer(pixels, shape, key) as writer:
        if writer.done:
            _log.info("%s: %d of %d images are there, going on", pixels, writer.done, len(rows))
        with progress_bar("decode", total=len(rows), unit="img", initial=writer.done) as bar:
            for block in _decoded(manifest, rows, writer.done, preprocessing, threads):
                writer.append(block)
                bar.update(len(block))
        entry = writer.finish()
    PixelsRecord.make(
        watch,
        result=DecodedImages(
            preprocessing=preprocessing,
            decoder=DECODER,
            images=len(rows),
            subset=subset,
            images_sha256=list_digest(rows),
        ),
        inputs=inputs,
        outputs={"pixels": entry},
        versions=versions("pillow", "numpy"),
    ).write(record)


def open_pixels(path: Path) -> _Images:
    """Map a file of decoded pixels read-only: uint8 (images, crop, crop, 3)."""
    mapped: _Images = np.load(path, mmap_mode="r", allow_pickle=False)
    return mapped


def _decoded(
    manifest: Path, rows: list[ManifestRow], start: int, recipe: Preprocessing, threads: int
) -> Iterator[_Images]:
    """Yield the pixels of `rows[start:]` block by block; while one is used, the next is being decoded.

    Raises:
        StagebenchError: at the end, where images could not be decoded or are not those of the manifest; it names them
            all.
    """
    shape = (_BLOCK, recipe.crop, recipe.crop, 3)
    buffers = [np.empty(shape, np.uint8), np.empty(shape, np.uint8)]
    broken: list[str] = []

    def decode(row: ManifestRow, out: _Images) -> str | None:
        try:
            decode_image(read_image(manifest, row), recipe, out)
        except ImageFileError as error:
            return f"{image_path(manifest, row)} ({error.reason})"
        except ImageError as error:
            return f"{image_path(manifest, row)} ({error})"
        return None

    with ThreadPoolExecutor(max_workers=max(1, threads)) as pool:

        def submit(first: int) -> list[Future[str | None]]:
            buffer = buffers[first // _BLOCK % 2]
            return [pool.submit(decode, row, buffer[i]) for i, row in enumerate(rows[first : first + _BLOCK])]

        waiting = submit(start)
        for first in range(start, len(rows), _BLOCK):
            reasons = [future.result() for future in waiting]
            waiting = submit(first + _BLOCK)
            broken.extend(reason for reason in reasons if reason)
            if not broken:
                yield buffers[first // _BLOCK % 2][: len(reasons)]
    if broken:
        listed = "; ".join(broken)
        raise StagebenchError(
            f"{manifest}: {len(broken)} images cannot be decoded: {listed}; put them right, then {remedy(manifest)}"
        )


class _Writer:
    """Appends blocks to `pixels`.part, with a journal from which a killed run resumes.

    The journal holds one line of JSON that says what is being made, then one line per block: the images so far and the
    SHA-256 of the file so far. It trusts nothing that the file's bytes do not confirm.
    """

    def __init__(self, pixels: Path, shape: tuple[int, ...], key: dict[str, Any]) -> None:
        self._pixels = pixels
        self._part = part_of(pixels)
        self._journal = self._part.with_name(self._part.name + ".journal")
        self._bytes_per_image = int(np.prod(shape[1:]))
        self._images = shape[0]
        self._header = _npy_header(shape)
        self._key = json.dumps(key)
        self.done = 0

    def __enter__(self) -> _Writer:
        self._pixels.parent.mkdir(parents=True, exist_ok=True)
        self._resume()
        require_free(
            self._pixels.parent,
            (self._images - self.done) * self._bytes_per_image,
            what=str(self._pixels),
            advice="set datasets.*.pixels to false",
        )
        self._file: BinaryIO = self._part.open("r+b" if self.done else "wb")
        if self.done:
            self._file.seek(len(self._header) + self.done * self._bytes_per_image)
            self._file.truncate()
            self._lines = self._journal.open("a", encoding="utf-8")
        else:
            self._digest = hashlib.sha256(self._header)
            self._file.write(self._header)
            self._lines = self._journal.open("w", encoding="utf-8")
            self._note(self._key)
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()
        self._lines.close()

    def append(self, block: _Images) -> None:
        """Write the pixels of the next images."""
        data = block.data.cast("B")
        self._file.write(data)
        self._digest.update(data)
        self._file.flush()
        self.done += len(block)
        self._note(f"{self.done} {self._digest.hexdigest()}")

    def finish(self) -> FileEntry:
        """Put the whole file in its place and return its entry for `outputs`."""
        self._file.flush()
        os.fsync(self._file.fileno())
        self._part.replace(self._pixels)
        self._journal.unlink()
        entry = FileEntry(
            path=self._pixels.as_posix(), sha256=self._digest.hexdigest(), bytes=self._pixels.stat().st_size
        )
        entry.note(self._pixels)
        return entry

    def _note(self, line: str) -> None:
        self._lines.write(line + "\n")
        self._lines.flush()

    def _resume(self) -> None:
        """Set `done` and the digest to the journal's last entry that the file confirms."""
        try:
            key, *lines = self._journal.read_text(encoding="utf-8").splitlines()
            entries = dict(line.split() for line in lines if len(line.split()) == 2)
            file = self._part.open("rb")
        except (FileNotFoundError, ValueError):
            return
        with file:
            if key != self._key:
                return
            digest = hashlib.sha256(file.read(len(self._header)))
            total = 0
            for images in sorted(int(images) for images in entries):
                _hash_next(file, digest, (images - total) * self._bytes_per_image)
                total = images
                if digest.hexdigest() != entries[str(images)]:
                    return
                self.done, self._digest = images, digest.copy()


def _npy_header(shape: tuple[int, ...]) -> bytes:
    """Return the head of a .npy file of uint8 in C order."""
    head = io.BytesIO()
    np.lib.format.write_array_header_1_0(head, {"descr": "|u1", "fortran_order": False, "shape": shape})
    return head.getvalue()


def _hash_next(file: BinaryIO, digest: Any, count: int) -> None:
    while count > 0 and (chunk := file.read(min(count, _CHUNK))):
        digest.update(chunk)
        count -= len(chunk)
