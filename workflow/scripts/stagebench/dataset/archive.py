"""From the archive to class folders and a manifest."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import tee
from pathlib import Path

from stagebench.dataset.inventory import check_counts, check_image, devkit_entry, write_dataset
from stagebench.dataset.labels import kinds as label_kinds
from stagebench.dataset.labels.kinds import Labels
from stagebench.dataset.manifest import Label, ManifestRows
from stagebench.dataset.space import require_free
from stagebench.dataset.tarstream import Member, members
from stagebench.dataset.unpack import Piece, Unpacker
from stagebench.errors import StagebenchError
from stagebench.host import cpus
from stagebench.job.logs import progress_bar
from stagebench.records.data import ArchiveRecord, DatasetRecord
from stagebench.records.envelope import Stopwatch, passed_on
from stagebench.records.io import replacing


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

    The images are written next to their place and renamed at the end, so an interrupted run leaves nothing that passes
    for complete; the next one starts over.

    Args:
        archive: tar archive of image files.
        archive_record: its record.
        images: directory to make.
        manifest: CSV file to write.
        record: record to write.
        labels: kind of the labels, "imagenet" or "sample".
        expected: number of validation images that there must be.
        devkit: ImageNet's development kit, compared with the labels; None to go without.
        workers: processes that share the work, of which more than there are CPUs are not started.

    Raises:
        StagebenchError: the archive is damaged or unsafe, an image is broken (all of them are named), the images are
            not those expected, the archive changed after its check, or the disk is too small.
    """
    watch = Stopwatch()
    source = ArchiveRecord.read(archive_record)
    if passed_on(DatasetRecord, record, watch, sources=[source], outputs={"manifest": manifest}):
        images.mkdir(parents=True, exist_ok=True)
        return
    source.artifact("archive", archive).verify()
    kind = label_kinds.resolve(labels, devkit)
    with replacing(images) as folder:
        folder.mkdir()
        require_free(
            folder, archive.stat().st_size, what="the extraction", advice="name a folder of extracted images by path"
        )
        rows = _extract(archive, folder, images.name, kind, expected, min(workers, cpus.usable()))
    inputs = {"archive": source.outputs["archive"], **devkit_entry(devkit)}
    write_dataset(manifest, record, rows, labels, watch=watch, inputs=inputs, photographs=source.found.photographs)


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


def _remove_if_empty(folder: Path) -> None:
    if next(folder.iterdir(), None) is None:
        folder.rmdir()
