"""Images that are extracted already: linked into class folders, never written to."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

from stagebench import records
from stagebench.dataset import labels as label_kinds
from stagebench.dataset.archive import check_counts, check_image, write_dataset
from stagebench.dataset.labels import Label, Labels
from stagebench.dataset.manifest import ManifestRow
from stagebench.logs import progress_bar
from stagebench.records import StagebenchError

_SHOWN = 3


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
        devkit: ImageNet's development kit, held against the labels; None to go without.
        expected: number of validation images that there must be.

    Raises:
        StagebenchError: the folder lies one level too high, images are broken (all of them are named) or not those
            expected, or a class folder is not the class of an image in it.
    """
    watch = records.Stopwatch()
    kind = label_kinds.resolve(labels, devkit)
    _require_level(folder, kind)
    rows: dict[str, ManifestRow] = {}
    broken: list[str] = []
    with records.replacing(images) as made, progress_bar("link", total=expected, unit="img") as bar:
        made.mkdir()
        for path, label in _images(folder, kind):
            if path.name in rows:
                raise StagebenchError(f"{folder}: holds {path.name} twice; name a folder with one data set")
            data = path.read_bytes()
            if reason := check_image(data):
                broken.append(f"{path} ({reason})")
            (made / label.wnid).mkdir(exist_ok=True)
            (made / label.wnid / path.name).symlink_to(path.resolve())
            rows[path.name] = ManifestRow(
                f"{images.name}/{label.wnid}/{path.name}",
                label.label,
                label.wnid,
                label.split,
                len(data),
                hashlib.sha256(data).hexdigest(),
            )
            bar.update()
        if broken:
            raise StagebenchError(f"{folder}: {len(broken)} images are broken: {'; '.join(broken)}; replace them")
        found = check_counts([rows[name] for name in sorted(rows)], kind, expected, folder.as_posix())
    write_dataset(manifest, record, found, labels, watch=watch, inputs={}, notes={"folder": folder.as_posix()})


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
    """Refuse a folder whose images lie one level lower than they should."""
    if not folder.is_dir():
        raise StagebenchError(f"{folder}: no such folder; correct datasets.*.archive.path")
    if _fits(folder, kind):
        return
    lower = [entry for entry in sorted(folder.iterdir()) if entry.is_dir() and _fits(entry, kind)]
    if lower:
        raise StagebenchError(f"{folder}: lies one level too high; name {lower[0]} in datasets.*.archive.path")
    shown = ", ".join(entry.name for entry in sorted(folder.iterdir())[:_SHOWN]) or "nothing"
    raise StagebenchError(f"{folder}: holds no images of this data set (it holds {shown}); correct the path")


def _fits(folder: Path, kind: Labels) -> bool:
    """Whether a folder holds images of the data set, or class folders."""
    wnids = set(kind.wnids)
    return any(entry.name in wnids if entry.is_dir() else kind.of(entry.name) for entry in folder.iterdir())
