"""From the archive to class folders and a manifest."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from itertools import tee
from pathlib import Path
from typing import Any

from stagebench import records
from stagebench.dataset import labels as label_kinds
from stagebench.dataset.images import ImageError, decode_image
from stagebench.dataset.jpeg import is_surely_decodable
from stagebench.dataset.labels import Labels
from stagebench.dataset.manifest import Label, ManifestRows, write_manifest
from stagebench.dataset.space import require_free
from stagebench.dataset.tarstream import Member, members
from stagebench.dataset.unpack import Piece, Unpacker
from stagebench.logs import progress_bar
from stagebench.preprocessing import Preprocessing
from stagebench.records import StagebenchError

_SHOWN = 3


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
    workers: int = 1,
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
        workers: processes that share the work, of which more than there are CPUs are not started.

    Raises:
        StagebenchError: the archive is damaged or unsafe, an image is broken (all of them are named), the images are
            not those expected, or the disk is too small.
    """
    watch = records.Stopwatch()
    source = records.read_record(archive_record)
    kind = label_kinds.resolve(labels, devkit)
    with records.replacing(images) as folder:
        folder.mkdir()
        require_free(
            folder, archive.stat().st_size, what="the extraction", advice="name a folder of extracted images by path"
        )
        rows = _extract(archive, folder, images.name, kind, expected, min(workers, len(os.sched_getaffinity(0))))
    inputs = {"archive": records.output_entry(source, "archive"), **devkit_entry(devkit)}
    notes = {key: source[key] for key in ("photographs",) if key in source}
    write_dataset(manifest, record, rows, labels, watch=watch, inputs=inputs, notes=notes)


def devkit_entry(devkit: str | None) -> dict[str, Any]:
    """Return the entry of a development kit for a record's `inputs`, if there is one."""
    return {} if devkit is None else {"devkit": records.describe(Path(devkit).expanduser())}


def _extract(archive: Path, folder: Path, name: str, kind: Labels, expected: int, workers: int) -> ManifestRows:
    rows = ManifestRows(name)
    broken: list[str] = []
    for wnid in kind.wnids:
        (folder / wnid).mkdir()
    images, again = tee(_images(archive, kind))  # `again` is behind by what the workers have in hand
    pieces = (Piece(member.offset, member.size, f"{label.wnid}/{file_name}") for file_name, member, label in images)
    with (
        Unpacker(archive, folder, check=check_image, workers=workers) as unpacker,
        progress_bar("extract", total=expected, unit="img") as bar,
    ):
        for (file_name, member, label), file in zip(again, unpacker.unpack(pieces), strict=True):
            if file.fault:
                broken.append(f"{member.name} ({file.fault})")
            rows.add(file_name, label, member.size, file.sha256)
            bar.update()
    for wnid in kind.wnids:
        _remove_if_empty(folder / wnid)
    if broken:
        raise StagebenchError(f"{archive}: {len(broken)} images are broken: {'; '.join(broken)}; replace the archive")
    check_counts(rows, kind, expected, str(archive))
    return rows


def _images(archive: Path, kind: Labels) -> Iterator[tuple[str, Member, Label]]:
    """Yield the members of an archive with the names of their files and their labels; no stranger, and none twice."""
    seen: set[str] = set()
    for member in members(archive):
        file_name = member.name.rpartition("/")[2]
        label = kind.of(file_name)
        if label is None:
            raise StagebenchError(
                f"{archive}: the member {member.name} is no image of this data set; is it another archive?"
            )
        if file_name in seen:
            raise StagebenchError(f"{archive}: holds {file_name} twice; is it another archive?")
        seen.add(file_name)
        yield file_name, member, label


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


def check_counts(rows: ManifestRows, kind: Labels, expected: int, where: str) -> None:
    """Go on only where the number of images and of each class's images are what they must be.

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


def _remove_if_empty(folder: Path) -> None:
    if next(folder.iterdir(), None) is None:
        folder.rmdir()


def write_dataset(
    manifest: Path,
    record: Path,
    rows: ManifestRows,
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
    tally = rows.tally()
    records.write_json(
        record,
        records.make_record(
            "dataset",
            watch=watch,
            inputs=inputs,
            outputs={"manifest": records.describe(manifest)},
            labels=labels,
            images=sum(number for label, number in tally.items() if label.split == "val"),
            fitting_images=sum(number for label, number in tally.items() if label.split == "fit"),
            classes=len({label.wnid for label in tally}),
            bytes=rows.total_bytes(),
            **notes,
        ),
    )
