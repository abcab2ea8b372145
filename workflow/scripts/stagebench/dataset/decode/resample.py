"""Pillow's bilinear resize of an RGB image, for the window that a crop leaves.

A classifier sees the 224 x 224 window in the middle of an image whose shorter side was resized to 256 pixels. Pillow
resizes the whole image, and the crop then throws a third of it away. With the kernels loaded, only the window is
computed, to the same bytes; without them, Pillow does it. The tests compare the two.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from PIL import Image

if TYPE_CHECKING:
    from numpy.typing import NDArray

# Who is about to decode as many images as this gains by loading the kernels first: they save about 1 ms of each.
WORTHWHILE = 2000

_kernels: Any = None


def load_kernels() -> None:
    """Load the compiled kernels; from then on this process resizes windows alone."""
    global _kernels  # noqa: PLW0603 - a process either has them or has not
    from stagebench.dataset.decode import kernels

    _kernels = kernels


def resize_window(
    image: NDArray[np.uint8], size: tuple[int, int], corner: tuple[int, int], out: NDArray[np.uint8]
) -> None:
    """Write into `out` what Pillow's `resize(size, BILINEAR)` followed by a crop gives.

    Args:
        image: uint8 (height, width, 3), C-contiguous.
        size: width and height of the whole resized image.
        corner: left and top of the window in the resized image.
        out: uint8 (rows, columns, 3), C-contiguous; the window has its size and lies inside the resized image.
    """
    if _kernels is not None:
        _resize_by_kernels(image, size, corner, out)
        return
    left, top = corner
    whole = Image.fromarray(image).resize(size, Image.Resampling.BILINEAR)
    out[...] = np.asarray(whole)[top : top + out.shape[0], left : left + out.shape[1]]


class _Taps(NamedTuple):
    """For each output pixel of a window along one axis: its first source pixel, how many, and their weights."""

    first: NDArray[np.int32]
    number: NDArray[np.int32]
    weights: NDArray[np.int32]

    @property
    def begin(self) -> int:
        """Return the first source pixel that the window needs."""
        return int(self.first[0])

    @property
    def end(self) -> int:
        """Return the source pixel after the last that the window needs."""
        return int(self.first[-1] + self.number[-1])


def _resize_by_kernels(
    image: NDArray[np.uint8], size: tuple[int, int], corner: tuple[int, int], out: NDArray[np.uint8]
) -> None:
    height, width, _ = image.shape
    rows, columns, _ = out.shape
    across = _taps(width, size[0], corner[0], columns)
    down = _taps(height, size[1], corner[1], rows)
    # Pillow's rule: an image that shrinks in height by more than twice as many pixels as in width is scaled in height
    # first. Each pass rounds to a byte, so the order matters.
    fewer_rows, fewer_columns = height - size[1], width - size[0]
    if fewer_rows > 0 and fewer_rows > 2 * fewer_columns:
        needed = image[:, across.begin : across.end]
        between = np.empty((rows, needed.shape[1], 3), np.uint8)
        _down(needed, down, 0, between)
        _across(between, across, across.begin, out)
    else:
        needed = image[down.begin : down.end]
        between = np.empty((needed.shape[0], columns, 3), np.uint8)
        _across(needed, across, 0, between)
        _down(between, down, down.begin, out)


def _across(image: NDArray[np.uint8], taps: _Taps, offset: int, out: NDArray[np.uint8]) -> None:
    """Resample along the width; column 0 of `image` is source column `offset`."""
    flat = np.ascontiguousarray(image).reshape(image.shape[0], -1)
    _kernels.pass_across(flat, taps.first - np.int32(offset), taps.number, taps.weights, out.reshape(out.shape[0], -1))


def _down(image: NDArray[np.uint8], taps: _Taps, offset: int, out: NDArray[np.uint8]) -> None:
    """Resample along the height; row 0 of `image` is source row `offset`."""
    sums = np.empty(out.shape[1] * 3, np.int32)
    # Rows are treated as flat runs of bytes: the inner loop is then one that the compiler turns into vector code.
    flat = np.ascontiguousarray(image).reshape(image.shape[0], -1)
    _kernels.pass_down(
        flat, taps.first - np.int32(offset), taps.number, taps.weights, sums, out.reshape(out.shape[0], -1)
    )


@lru_cache(maxsize=4096)
def _taps(source: int, target: int, first: int, count: int) -> _Taps:
    """Return the taps of output pixels `first` to `first + count` when `source` pixels become `target`."""
    if source == target:  # Pillow leaves this pass out; a single tap of weight one does the same
        begin = np.arange(first, first + count, dtype=np.int32)
        return _Taps(begin, np.ones(count, np.int32), np.full((count, 1), 1 << _kernels.BITS, np.int32))
    support = max(source / target, 1.0)
    begins, counts = np.empty(count, np.int32), np.empty(count, np.int32)
    weights = np.zeros((count, math.ceil(support) * 2 + 1), np.int32)
    _kernels.fill_taps(source, source / target, support, first, begins, counts, weights)
    return _Taps(begins, counts, weights)
