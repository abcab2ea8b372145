"""Images that are extracted already: linked into class folders, never written to."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from stagebench.dataset.inventory import check_counts, check_image, devkit_entry, write_dataset
from stagebench.dataset.labels import kinds as label_kinds
from stagebench.dataset.labels.kinds import Labels
from stagebench.dataset.manifest import Label, ManifestRows
from stagebench.errors import StagebenchError
from stagebench.job.logs import progress_bar
from stagebench.records.envelope import FileEntry, Stopwatch
from stagebench.records.io import replacing

_SHOWN = 3
# How far down images are looked for where there are none, and how many files of a class folder are looked at for that.
_DEPTH = 3
_PEEKED = 8


def link_folder(
    folder: Path,
    images: Path,
    manifest: Path,
    record: Path,
    *,
    labels: str,
    devkit: str | None,
    expected: int,
) -> None:
    """Link the images of a folder as `images`/<wnid>/<name>, with a manifest outside that directory.

    Args:
        folder: images side by side, as in ImageNet's archive, or in class folders named by wnid.
        images: directory to make; it holds symbolic links alone.
        labels: kind of the labels, "imagenet" or "sample".
        devkit: ImageNet's development kit, compared with the labels; None to go without.
        expected: number of validation images that there must be.

    Raises:
        StagebenchError: the folder lies one level too high, images are broken (all of them are named) or not those
            expected, or a class folder is not the class of an image in it.
    """
    watch = Stopwatch()
    kind = label_kinds.resolve(labels, devkit)
    _require_level(folder, kind)
    rows, seen = ManifestRows(images.name), set[str]()
    broken: list[str] = []
    with replacing(images) as made, progress_bar("link", total=expected, unit="img") as bar:
        made.mkdir()
        for path, label in _images(folder, kind):
            if path.name in seen:
                raise StagebenchError(f"{folder}: holds {path.name} twice; name a folder with one data set")
            data = path.read_bytes()
            if reason := check_image(data):
                broken.append(f"{path} ({reason})")
            (made / label.wnid).mkdir(exist_ok=True)
            (made / label.wnid / path.name).symlink_to(path.resolve())
            seen.add(path.name)
            rows.add(path.name, label, len(data), hashlib.sha256(data).hexdigest())
            bar.update()
        if broken:
            raise StagebenchError(f"{folder}: {len(broken)} images are broken: {'; '.join(broken)}; replace them")
        check_counts(rows, kind, expected, folder.as_posix())
    inputs = {"folder": FileEntry(path=folder.as_posix(), bytes=rows.total_bytes()), **devkit_entry(devkit)}
    write_dataset(manifest, record, rows, labels, watch=watch, inputs=inputs)


def listing(folder: Path) -> str:
    """Return 16 hexadecimal digits that change with the files of a folder and of the folders in it.

    They stand for names, sizes and times of modification. No file is opened: 50,000 take 0.2 s. A link counts as what
    it leads to; hidden entries of the folder are passed over, as in linking.

    Raises:
        OSError: the folder is missing or cannot be read.
    """
    lines: list[str] = []
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.startswith("."):
                continue
            if entry.is_dir():
                with os.scandir(entry.path) as below:
                    lines.extend(_line(file, f"{entry.name}/") for file in below)
            else:
                lines.append(_line(entry))
    return hashlib.sha256("\0".join(sorted(lines)).encode("utf-8", "surrogateescape")).hexdigest()[:16]


def _line(file: os.DirEntry[str], above: str = "") -> str:
    try:
        found = file.stat()
    except FileNotFoundError:  # a link that leads nowhere
        return f"{above}{file.name} -"
    return f"{above}{file.name} {found.st_size} {found.st_mtime_ns}"


def _images(folder: Path, kind: Labels) -> Iterator[tuple[Path, Label]]:
    """Yield the images of a folder, flat or in class folders, with their labels; hidden files are passed over."""
    for entry in sorted(folder.iterdir()):
        if entry.name.startswith("."):
            continue
        for path in sorted(entry.iterdir()) if entry.is_dir() else [entry]:
            label = kind.of(path.name)
            if label is None:
                raise StagebenchError(f"{path}: no image of this data set; name a folder that holds nothing else")
            if entry.is_dir() and entry.name != label.wnid:
                raise StagebenchError(
                    f"{path}: its class is {label.wnid}, but it lies in {entry.name}; is this another data set?"
                )
            yield path, label


def _require_level(folder: Path, kind: Labels) -> None:
    """Refuse a folder whose images lie lower than they should, with the path of those."""
    if not folder.is_dir():
        raise StagebenchError(f"{folder}: no such folder; correct datasets.*.archive.path")
    level = [folder]
    for depth in range(_DEPTH + 1):
        for candidate in level:
            if not _holds_images(candidate, kind):
                continue
            if depth == 0:
                return
            levels = "one level" if depth == 1 else f"{depth} levels"
            raise StagebenchError(f"{folder}: lies {levels} too high; name {candidate} in datasets.*.archive.path")
        level = [lower for candidate in level for lower in _folders(candidate) if lower.name not in kind.wnids]
    shown = ", ".join(entry.name for entry in sorted(folder.iterdir())[:_SHOWN]) or "nothing"
    raise StagebenchError(
        f"{folder}: holds no validation images of this data set (it holds {shown}); correct datasets.*.archive.path"
    )


def _holds_images(folder: Path, kind: Labels) -> bool:
    """Return whether images of the data set lie in a folder, side by side or in class folders.

    Class folders alone say nothing: those of ImageNet's training images have the same names.
    """
    if any(kind.of(entry.name) for entry in folder.iterdir()):
        return True
    classes = (lower for lower in _folders(folder) if lower.name in kind.wnids)
    return any(kind.of(path.name) for lower in classes for path in islice(lower.iterdir(), _PEEKED))


def _folders(folder: Path) -> list[Path]:
    return sorted(entry for entry in folder.iterdir() if entry.is_dir() and not entry.name.startswith("."))
