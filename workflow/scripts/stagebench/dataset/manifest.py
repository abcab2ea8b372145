"""The manifest of a data set: one line per image, and the fixed choices made from it."""

from __future__ import annotations

import csv
import hashlib
from array import array
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Literal, NamedTuple

from stagebench.errors import StagebenchError
from stagebench.records.artifact import ChangedError
from stagebench.records.io import replacing

Split = Literal["val", "fit"]

# MLPerf Inference calibrates ResNet-50 with 500 images of ImageNet's validation set.
CALIBRATION_IMAGES = 500
_DIGEST = 32  # bytes of a SHA-256


class ManifestRow(NamedTuple):
    """An image: its path relative to the manifest's folder, its class, its size in bytes and its SHA-256."""

    path: str
    label: int
    wnid: str
    split: Split
    bytes: int
    sha256: str


class ImageFileError(ChangedError):
    """An image file that is not the one of its manifest; `reason` says why, without the file's name."""

    def __init__(self, text: str, reason: str = "") -> None:
        super().__init__(text)
        self.reason = reason


class Label(NamedTuple):
    """Split, class name and label of an image."""

    split: Split
    wnid: str
    label: int


class ManifestRows(Iterable[ManifestRow]):
    """The rows of a manifest in the making, in the order of the images' names.

    Rows are made while they are iterated over. What is kept of an image is its name, 40 bytes and a place in the order:
    less than half of its row, so that the memory of a stage hardly grows with the number of images.
    """

    def __init__(self, folder: str) -> None:
        """Begin without rows; `folder` is where the class folders lie, relative to the manifest's."""
        self._folder = folder
        self._names: list[str] = []
        self._sizes = array("Q")
        self._digests = bytearray()
        self._labels = array("I")
        self._known: dict[Label, int] = {}

    def add(self, name: str, label: Label, size: int, sha256: str) -> None:
        """Add an image: the name of its file, its label, its size in bytes and its SHA-256 in hexadecimal digits."""
        self._names.append(name)
        self._sizes.append(size)
        self._digests += bytes.fromhex(sha256)
        self._labels.append(self._known.setdefault(label, len(self._known)))

    def __iter__(self) -> Iterator[ManifestRow]:
        labels = list(self._known)
        for i in sorted(range(len(self._names)), key=self._names.__getitem__):
            label = labels[self._labels[i]]
            digest = self._digests[_DIGEST * i : _DIGEST * (i + 1)].hex()
            path = f"{self._folder}/{label.wnid}/{self._names[i]}"
            yield ManifestRow(path, label.label, label.wnid, label.split, self._sizes[i], digest)

    def tally(self) -> Counter[Label]:
        """Count the images of each label."""
        labels = list(self._known)
        return Counter({labels[i]: number for i, number in Counter(self._labels).items()})

    def total_bytes(self) -> int:
        """Return the size of all images together."""
        return sum(self._sizes)


def read_manifest(path: Path) -> list[ManifestRow]:
    """Read all rows of a manifest, in its order (that of the archive's member names).

    Raises:
        StagebenchError: the file is missing or is no manifest.
    """
    return list(_rows(path))


def write_manifest(path: Path, rows: Iterable[ManifestRow]) -> None:
    """Write a manifest (CSV with a header line) and rename it into place."""
    with replacing(path) as part, part.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(ManifestRow._fields)
        writer.writerows(rows)


def image_path(manifest: Path, row: ManifestRow) -> Path:
    """Return where the image of a row lies."""
    return manifest.parent / row.path


def read_image(manifest: Path, row: ManifestRow) -> bytes:
    """Return the file of a row's image, compared with the row's SHA-256.

    Raises:
        ImageFileError: it is missing, cannot be read, or has other contents.
    """
    path = image_path(manifest, row)
    try:
        data = path.read_bytes()
    except OSError as error:
        reason = f"cannot be read: {error.strerror}"
    else:
        if hashlib.sha256(data).hexdigest() == row.sha256:
            return data
        reason = "other contents than its manifest describes"
    raise ImageFileError(f"{path}: {reason}; {remedy(manifest)}", reason)


def remedy(manifest: Path) -> str:
    """Return what to do about an image that is not the one of its manifest; copies on a scratch disk have none."""
    return f"delete {manifest} and run the target {manifest}" if manifest.exists() else "run again"


def validation_rows(manifest: Path, subset: int | None) -> list[ManifestRow]:
    """Return the validation images in the manifest's order: all of them, or a fixed subset balanced over classes.

    Raises:
        StagebenchError: the manifest holds no validation images, or fewer than the subset asks for.
    """
    rows = [row for row in _rows(manifest) if row.split == "val"]
    if not rows:
        raise StagebenchError(f"{manifest}: holds no validation images; delete it and run again")
    if subset is None:
        return rows
    if subset > len(rows):
        raise StagebenchError(
            f"{manifest}: holds {len(rows)} validation images, but datasets.*.subset asks for {subset}: choose fewer"
        )
    return _balanced(rows, subset, "subset")


def calibration_rows(manifest: Path, count: int = CALIBRATION_IMAGES) -> list[ManifestRow]:
    """Return the fixed list of at most `count` images that quantisation is calibrated with, balanced over classes.

    They are fitting images where the data set has any, so that nothing is tuned on what is measured. ImageNet's
    archive holds validation images only: there the list is taken from those and excluded from nothing, as MLPerf does.
    """
    rows = read_manifest(manifest)
    fitting = [row for row in rows if row.split == "fit"]
    return _balanced(fitting or rows, count, "calibration")


def list_digest(rows: Iterable[ManifestRow]) -> str:
    """Return the SHA-256 of a list of images, by their own digests: the identity of a choice of images in records."""
    return hashlib.sha256("".join(row.sha256 for row in rows).encode()).hexdigest()


def _rows(path: Path) -> Iterator[ManifestRow]:
    try:
        file = path.open(encoding="utf-8", newline="")
    except FileNotFoundError:
        raise StagebenchError(f"{path}: no such manifest; run the target {path} first") from None
    with file:
        reader = csv.reader(file)
        if tuple(next(reader, ())) != ManifestRow._fields:
            raise StagebenchError(f"{path}: not a manifest of this workflow; delete it and run again")
        for line in reader:
            try:
                name, label, wnid, split, size, sha256 = line
                row = ManifestRow(name, int(label), wnid, "fit" if split == "fit" else "val", int(size), sha256)
            except ValueError:
                raise StagebenchError(
                    f"{path}: line {reader.line_num} is not a row of a manifest; delete the file and run again"
                ) from None
            yield row


def _balanced(rows: list[ManifestRow], count: int, purpose: str) -> list[ManifestRow]:
    """Choose `count` rows, as many of each class as of any other (one less for some), in the order of `rows`.

    The choice depends on `purpose` and the rows' names alone: digests of the names serve as random numbers.
    """

    def lot(name: str) -> bytes:
        return hashlib.sha256(f"{purpose}\0{name}".encode()).digest()

    classes: dict[str, list[ManifestRow]] = defaultdict(list)
    for row in sorted(rows, key=lambda row: lot(row.path)):
        classes[row.wnid].append(row)
    drawn = [(rank, lot(wnid), row) for wnid, members in classes.items() for rank, row in enumerate(members)]
    chosen = {row.path for _, _, row in sorted(drawn)[:count]}
    return [row for row in rows if row.path in chosen]
