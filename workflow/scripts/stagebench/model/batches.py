"""Real images as batches, for fitting, comparing and calibrating."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from stagebench.dataset.decode.images import decode_image
from stagebench.dataset.manifest import read_image, validation_rows

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from stagebench.dataset.manifest import ManifestRow
    from stagebench.preprocessing import Preprocessing


def validation_images(manifest: Path, count: int, preprocessing: Preprocessing) -> NDArray[np.uint8]:
    """Return the first validation images, uint8 (at most `count`, crop, crop, 3)."""
    return next(batches(manifest, validation_rows(manifest, None)[:count], preprocessing, count))


def batches(
    manifest: Path, rows: Sequence[ManifestRow], preprocessing: Preprocessing, size: int
) -> Iterator[NDArray[np.uint8]]:
    """Yield the images of `rows` in order, as uint8 (at most `size`, crop, crop, 3).

    Raises:
        StagebenchError: an image is missing or is not the one of the manifest.
    """
    for first in range(0, len(rows), size):
        chosen = rows[first : first + size]
        yield np.stack([decode_image(read_image(manifest, row), preprocessing) for row in chosen])
