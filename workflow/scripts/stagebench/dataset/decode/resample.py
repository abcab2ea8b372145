"""Pillow's bilinear resize of an RGB image, for the window that a crop leaves.

A classifier sees the 224 x 224 window in the middle of an image whose shorter side was resized to 256 pixels. Pillow
resizes the whole image, and the crop then throws a third of it away. With the kernels loaded, only the window is
computed, to the same bytes; without them, Pillow does it. The tests compare the two.

A pixel has four bytes here, as it has in Pillow: red, green, blue and one that is dropped. It is a word then, and four
of them are a vector.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from PIL import Image

from stagebench.dataset.decode.scratch import Scratch

if TYPE_CHECKING:
    from numpy.typing import NDArray

# Who is about to decode as many images as this gains by loading the kernels first: they save about 1 ms of each.
WORTHWHILE = 2000

_kernels: Any = None
_between = Scratch()
_sums = Scratch()


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
        image: uint8 (height, width, 4), C-contiguous: red, green, blue and a byte that is not used.
        size: width and height of the whole resized image.
        corner: left and top of the window in the resized image.
        out: uint8 (rows, columns, 3), C-contiguous; the window has its size and lies inside the resized image.
    """
    if _kernels is None or not _resize_by_kernels(image, size, corner, out):
        _resize_by_pillow(image, size, corner, out)


def _resize_by_pillow(
    image: NDArray[np.uint8], size: tuple[int, int], corner: tuple[int, int], out: NDArray[np.uint8]
) -> None:
    height, width, _ = image.shape
    left, top = corner
    # Converted, since Pillow would resample a fourth channel, too.
    opened = Image.frombuffer("RGBX", (width, height), image, "raw", "RGBX", 0, 1).convert("RGB")
    whole = opened.resize(size, Image.Resampling.BILINEAR)
    out[...] = np.asarray(whole)[top : top + out.shape[0], left : left + out.shape[1]]


class _Taps(NamedTuple):
    """For each output pixel of a window along one axis: its first source pixel, how many, and their weights."""

    first: NDArray[np.int32]
    number: NDArray[np.int32]
    weights: NDArray[np.int32]


def _resize_by_kernels(
    image: NDArray[np.uint8], size: tuple[int, int], corner: tuple[int, int], out: NDArray[np.uint8]
) -> bool:
    """Resize, or return False where the image or the window is narrower than the kernel's vectors."""
    height, width, pixel = image.shape
    rows, columns, _ = out.shape
    across = _fours(width, size[0], corner[0], columns)
    down = _taps(height, size[1], corner[1], rows)
    if across is None:
        return False
    target = out.reshape(rows, -1)
    # Pillow's rule: an image that shrinks in height by more than twice as many pixels as in width is scaled in height
    # first. Each pass rounds to a byte, so the order matters.
    fewer_rows, fewer_columns = height - size[1], width - size[0]
    if fewer_rows > 0 and fewer_rows > 2 * fewer_columns:
        between = _between.take(rows * width * pixel).reshape(rows, -1)
        _down(image.reshape(height, -1), down, down.first, between)
        _kernels.pass_across(between, across.places, across.spread, target)
    else:
        begin, end = int(down.first[0]), int(down.first[-1] + down.number[-1])
        between = _between.take((end - begin) * columns * 3).reshape(end - begin, -1)
        _kernels.pass_across(image.reshape(height, -1)[begin:end], across.places, across.spread, between)
        _down(between, down, down.first - np.int32(begin), target)
    return True


def _down(rows: NDArray[np.uint8], taps: _Taps, first: NDArray[np.int32], out: NDArray[np.uint8]) -> None:
    """Resample flat rows of bytes along the height; `first` are the taps' first rows in `rows`."""
    sums = _sums.take(4 * out.shape[1]).view(np.int32)
    _kernels.pass_down(rows, first, taps.number, taps.weights, sums, out)


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


class _Fours(NamedTuple):
    """What `pass_across` takes; the kernels say what it is."""

    places: NDArray[np.int32]
    spread: NDArray[np.int32]


@lru_cache(maxsize=512)  # of 14 KiB and more
def _fours(source: int, target: int, first: int, count: int) -> _Fours | None:
    """Return `_taps` laid out for `pass_across`; None where the source or the window is narrower than its vectors."""
    begins, counts, weights = _taps(source, target, first, count)
    side = _kernels.SIDE
    groups = -(-int(counts.max()) // side)
    if count < side or source < groups * side:
        return None
    places = np.empty(count, np.int32)
    spread = np.zeros((-(-count // side), groups, side, side, side), np.int32)
    _kernels.spread_taps(source, begins, counts, weights, places, spread)
    return _Fours(places, spread)
