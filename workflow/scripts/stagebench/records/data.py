"""Records of the data set's stages: archive, extraction, decoded pixels."""

from __future__ import annotations

from typing import ClassVar

from stagebench.preprocessing import Preprocessing
from stagebench.records.envelope import Record, Value


class PhotographEntry(Value):
    """A photograph of the embedded default: its class name, its file, what it shows, its licence and source."""

    name: str
    file: str
    title: str
    licence: str
    source: str


class Archive(Value):
    """An archive in its place."""

    #: Where it came from, without credentials.
    source: str
    #: Whether it was downloaded or linked rather than made.
    fetched: bool
    photographs: tuple[PhotographEntry, ...]


class Dataset(Value):
    """Extracted images and their manifest."""

    labels: str
    #: Validation images, fitting images, and classes of both.
    images: int
    fitting_images: int
    classes: int
    bytes: int
    photographs: tuple[PhotographEntry, ...]


class DecodedImages(Value):
    """Validation images decoded once into a .npy file."""

    preprocessing: Preprocessing
    #: Decoding libraries and their versions.
    decoder: str
    images: int
    subset: int | None
    #: SHA-256 of the list of images, by their own digests.
    images_sha256: str


class ArchiveRecord(Record[Archive]):
    """Beside resources/{dataset}/archive.tar."""

    KIND: ClassVar[str] = "archive"
    FORMAT: ClassVar[int] = 2


class DatasetRecord(Record[Dataset]):
    """Beside the manifest of a data set."""

    KIND: ClassVar[str] = "dataset"
    FORMAT: ClassVar[int] = 2


class PixelsRecord(Record[DecodedImages]):
    """Beside a file of decoded pixels."""

    KIND: ClassVar[str] = "pixels"
    FORMAT: ClassVar[int] = 2
