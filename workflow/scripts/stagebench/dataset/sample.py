"""The archive of the embedded default: windows of photographs, packed as ImageNet packs its own."""

from __future__ import annotations

import io
import tarfile
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from stagebench.dataset.labels.kinds import sample_label, sample_name
from stagebench.dataset.manifest import Split
from stagebench.dataset.photographs import PHOTOGRAPHS, Photograph
from stagebench.errors import StagebenchError
from stagebench.job.logs import progress_bar
from stagebench.records.data import Archive, ArchiveRecord, PhotographEntry
from stagebench.records.envelope import FileEntry, Stopwatch
from stagebench.records.io import digest, replacing, versions

if TYPE_CHECKING:
    from PIL.Image import Image

__all__ = ["PHOTOGRAPHS", "make_archive"]

_SEED = 20120000
_SPLITS: tuple[Split, ...] = ("fit", "val")
_LONGER_SIDE = 500  # pixels; most of ImageNet's photographs are 500 x 375
_WINDOW = (0.55, 0.95)  # sides of a window as fractions of the photograph's
_QUALITY = 92  # Pillow's; the median of ImageNet's validation files is a little above 90
_SUBSAMPLING = "4:2:0"


def make_archive(archive: Path, record: Path, *, images: int) -> None:
    """Write the archive of `sample`: `images` fitting and `images` validation JPEGs, the same bytes each time.

    Every photograph is a class, and the classes take turns. A window has random sides between 55 and 95 % of its
    photograph's, at a random place, and is resized to 500 pixels on its longer side. No window comes twice: those of
    the validation images differ from those of the fitting images.

    Raises:
        StagebenchError: scikit-image's photographs are not there.
    """
    watch = Stopwatch()
    photographs = [_open(photograph) for photograph in PHOTOGRAPHS]
    generator = np.random.Generator(np.random.PCG64(_SEED))
    used: set[tuple[int, ...]] = set()
    # Streams of PCG64 are the same on every machine, and so are Pillow's resize and JPEG encoder of one version.
    with (
        replacing(archive) as part,
        tarfile.open(part, "w", format=tarfile.USTAR_FORMAT) as tar,
        progress_bar("make images", total=images * len(_SPLITS), unit="img") as bar,
    ):
        for split in _SPLITS:
            for number in range(1, images + 1):
                label = sample_label(number)
                box = _window(generator, photographs[label].size, used, label)
                data = _encode(photographs[label], box)
                tar.addfile(_member(sample_name(split, number), len(data)), io.BytesIO(data))
                bar.update()
    entry = FileEntry.of(archive).model_copy(update={"md5": digest(archive, "md5")})
    ArchiveRecord.make(
        watch,
        result=Archive(
            source="made from the photographs that scikit-image ships",
            fetched=False,
            photographs=tuple(PhotographEntry(**photograph._asdict()) for photograph in PHOTOGRAPHS),
        ),
        outputs={"archive": entry},
        versions=versions("pillow", "numpy", "scikit-image"),
    ).write(record)


def _open(photograph: Photograph) -> Image:
    """Open a photograph as RGB; what is transparent becomes white."""
    from PIL import Image

    # Found without importing scikit-image, whose own loader would look for a newer file on the network.
    package = find_spec("skimage")
    if package is None or package.origin is None:
        raise StagebenchError("scikit-image is not installed: run `make` to install the requirements")
    path = Path(package.origin).parent / "data" / photograph.file
    try:
        image = Image.open(path)
    except FileNotFoundError:
        raise StagebenchError(f"{path}: this scikit-image has no such photograph; install the pinned one") from None
    if image.mode == "RGBA":
        white = Image.new("RGBA", image.size, "white")
        return Image.alpha_composite(white, image).convert("RGB")
    return image.convert("RGB")


def _window(
    generator: np.random.Generator, size: tuple[int, int], used: set[tuple[int, ...]], label: int
) -> tuple[int, int, int, int]:
    """Draw a window (left, top, right, bottom) of a photograph that was not drawn before."""
    while True:
        width, height = (
            round(side * fraction) for side, fraction in zip(size, generator.uniform(*_WINDOW, 2), strict=True)
        )
        left, top = (int(generator.integers(0, free + 1)) for free in (size[0] - width, size[1] - height))
        box = (left, top, left + width, top + height)
        if (label, *box) not in used:
            used.add((label, *box))
            return box


def _encode(photograph: Image, box: tuple[int, int, int, int]) -> bytes:
    """Return a window as a JPEG with 500 pixels on its longer side."""
    from PIL import Image

    width, height = box[2] - box[0], box[3] - box[1]
    scale = _LONGER_SIDE / max(width, height)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    window = photograph.crop(box).resize(size, Image.Resampling.BICUBIC)
    buffer = io.BytesIO()
    window.save(buffer, "JPEG", quality=_QUALITY, subsampling=_SUBSAMPLING, optimize=False, progressive=False)
    return buffer.getvalue()


def _member(name: str, size: int) -> tarfile.TarInfo:
    """Return a member's header that depends on nothing but its name and size."""
    member = tarfile.TarInfo(name)
    member.size = size
    member.mode = 0o644
    member.mtime = 0
    return member
