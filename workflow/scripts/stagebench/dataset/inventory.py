"""Common steps of extracting an archive and linking a folder: sound images, right counts, manifest and record."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path

from stagebench.dataset.decode.images import ImageError, decode_image
from stagebench.dataset.decode.jpeg import is_surely_decodable
from stagebench.dataset.labels.kinds import Labels
from stagebench.dataset.manifest import ManifestRows, write_manifest
from stagebench.errors import StagebenchError
from stagebench.preprocessing import Preprocessing
from stagebench.records.data import Dataset, DatasetRecord, PhotographEntry
from stagebench.records.envelope import FileEntry, Stopwatch

_SHOWN = 3


def check_image(data: bytes) -> str | None:
    """Return why an image file cannot be used; None if it can.

    What torchvision's loader decodes can be used, independent of its name. A JPEG of the usual kind is not decoded for
    that, since its headers suffice; anything else is.
    """
    if is_surely_decodable(data):
        return None
    try:
        decode_image(data, Preprocessing())
    except ImageError as error:
        return str(error)
    return None


def check_counts(rows: ManifestRows, kind: Labels, expected: int, where: str) -> None:
    """Raise unless the numbers of images and of each class's images are as expected.

    Raises:
        StagebenchError: they are not.
    """
    found = Counter({label.label: number for label, number in rows.tally().items() if label.split == "val"})
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


def devkit_entry(devkit: str | None) -> dict[str, FileEntry]:
    """Return the entry of a development kit for a record's `inputs`, if there is one."""
    return {} if devkit is None else {"devkit": FileEntry.of(Path(devkit).expanduser())}


def write_dataset(
    manifest: Path,
    record: Path,
    rows: ManifestRows,
    labels: str,
    *,
    watch: Stopwatch,
    inputs: Mapping[str, FileEntry],
    photographs: tuple[PhotographEntry, ...] = (),
) -> None:
    """Write the manifest and the record of a data set whose images are in their place."""
    write_manifest(manifest, rows)
    tally = rows.tally()
    DatasetRecord.make(
        watch,
        result=Dataset(
            labels=labels,
            images=sum(number for label, number in tally.items() if label.split == "val"),
            fitting_images=sum(number for label, number in tally.items() if label.split == "fit"),
            classes=len({label.wnid for label in tally}),
            bytes=rows.total_bytes(),
            photographs=photographs,
        ),
        inputs=inputs,
        outputs={"manifest": FileEntry.of(manifest)},
    ).write(record)
