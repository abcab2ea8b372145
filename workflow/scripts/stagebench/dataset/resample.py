"""Pillow's bilinear resize of an RGB image, computed for a window of the result only.

A classifier sees the 224 x 224 window in the middle of an image whose shorter side was resized to 256 pixels. Pillow
resizes the whole image and most chains then throw a third of it away. This module computes the window alone, in the
same integer arithmetic, so that every byte is the one that Pillow would have produced (libImaging/Resample.c of
Pillow 13.0.0; the tests hold the two against each other).
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

import numba
import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

# Coefficients are fixed-point numbers with this many fractional bits: 32 less 8 for a pixel and 2 for headroom.
_BITS = 22
_HALF = 1 << (_BITS - 1)


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


def resize_window(
    image: NDArray[np.uint8], size: tuple[int, int], corner: tuple[int, int], out: NDArray[np.uint8]
) -> None:
    """Write into `out` what Pillow's `resize(size, BILINEAR)` followed by a crop would give.

    Args:
        image: uint8 (height, width, 3), C-contiguous.
        size: width and height of the whole resized image.
        corner: left and top of the window in the resized image.
        out: uint8 (rows, columns, 3), C-contiguous; the window has its size and lies inside the resized image.
    """
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
    _pass_across(image, taps.first - np.int32(offset), taps.number, taps.weights, out)


def _down(image: NDArray[np.uint8], taps: _Taps, offset: int, out: NDArray[np.uint8]) -> None:
    """Resample along the height; row 0 of `image` is source row `offset`."""
    sums = np.empty(out.shape[1] * 3, np.int32)
    # Rows are treated as flat runs of bytes: the inner loop is then one that the compiler turns into vector code.
    flat = np.ascontiguousarray(image).reshape(image.shape[0], -1)
    _pass_down(flat, taps.first - np.int32(offset), taps.number, taps.weights, sums, out.reshape(out.shape[0], -1))


@lru_cache(maxsize=4096)
def _taps(source: int, target: int, first: int, count: int) -> _Taps:
    """Return the taps of output pixels `first` to `first + count` when `source` pixels become `target`."""
    if source == target:  # Pillow leaves this pass out; a single tap of weight one does the same
        begin = np.arange(first, first + count, dtype=np.int32)
        return _Taps(begin, np.ones(count, np.int32), np.full((count, 1), 1 << _BITS, np.int32))
    support = max(source / target, 1.0)
    begins, counts = np.empty(count, np.int32), np.empty(count, np.int32)
    weights = np.zeros((count, math.ceil(support) * 2 + 1), np.int32)
    _fill_taps(source, source / target, support, first, begins, counts, weights)
    return _Taps(begins, counts, weights)


@numba.njit(cache=True)
def _fill_taps(
    source: int,
    scale: float,
    support: float,
    first: int,
    begins: NDArray[np.int32],
    counts: NDArray[np.int32],
    weights: NDArray[np.int32],
) -> None:
    """Compute the triangle filter's weights in double precision, normalise and round them as Pillow does."""
    inverse = 1.0 / support
    exact = np.empty(weights.shape[1], np.float64)
    for i in range(begins.shape[0]):
        centre = (first + i + 0.5) * scale
        begin = max(int(centre - support + 0.5), 0)
        number = min(int(centre + support + 0.5), source) - begin
        total = 0.0
        for j in range(number):
            distance = abs((j + begin - centre + 0.5) * inverse)
            exact[j] = 1.0 - distance if distance < 1.0 else 0.0
            total += exact[j]
        for j in range(number):
            normalised = exact[j] / total if total != 0.0 else exact[j]
            weights[i, j] = int(0.5 + normalised * (1 << _BITS))
        begins[i] = begin
        counts[i] = number


@numba.njit(nogil=True, cache=True)
def _pass_across(
    image: NDArray[np.uint8],
    begins: NDArray[np.int32],
    counts: NDArray[np.int32],
    weights: NDArray[np.int32],
    out: NDArray[np.uint8],
) -> None:
    for y in range(out.shape[0]):
        row = image[y]
        for x in range(out.shape[1]):
            begin = begins[x]
            red = green = blue = np.int32(_HALF)
            for j in range(counts[x]):
                weight = weights[x, j]
                red += np.int32(row[begin + j, 0]) * weight
                green += np.int32(row[begin + j, 1]) * weight
                blue += np.int32(row[begin + j, 2]) * weight
            out[y, x, 0] = red >> _BITS
            out[y, x, 1] = green >> _BITS
            out[y, x, 2] = blue >> _BITS


@numba.njit(nogil=True, cache=True)
def _pass_down(
    rows: NDArray[np.uint8],
    begins: NDArray[np.int32],
    counts: NDArray[np.int32],
    weights: NDArray[np.int32],
    sums: NDArray[np.int32],
    out: NDArray[np.uint8],
) -> None:
    for y in range(out.shape[0]):
        for i in range(sums.shape[0]):
            sums[i] = _HALF
        for j in range(counts[y]):
            weight = weights[y, j]
            row = rows[begins[y] + j]
            for i in range(sums.shape[0]):
                sums[i] += np.int32(row[i]) * weight
        for i in range(sums.shape[0]):
            out[y, i] = sums[i] >> _BITS
