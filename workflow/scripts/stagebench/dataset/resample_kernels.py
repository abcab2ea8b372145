"""Compiled code for `resample`: the weights and the two passes of Pillow's bilinear resize, in its integer arithmetic.

libImaging/Resample.c of Pillow 13.0.0 is followed step by step, so that every byte is the one it would have produced.
Loading numba and its cached machine code takes about as long as resizing two thousand images by Pillow.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numba
import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

# Coefficients are fixed-point numbers with this many fractional bits: 32 less 8 for a pixel and 2 for headroom.
BITS = 22
_HALF = 1 << (BITS - 1)


@numba.njit(cache=True)
def fill_taps(
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
            weights[i, j] = int(0.5 + normalised * (1 << BITS))
        begins[i] = begin
        counts[i] = number


@numba.njit(nogil=True, cache=True)
def pass_across(
    image: NDArray[np.uint8],
    begins: NDArray[np.int32],
    counts: NDArray[np.int32],
    weights: NDArray[np.int32],
    out: NDArray[np.uint8],
) -> None:
    """Resample rows, uint8 (rows, columns, 3), along the width."""
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
            out[y, x, 0] = red >> BITS
            out[y, x, 1] = green >> BITS
            out[y, x, 2] = blue >> BITS


@numba.njit(nogil=True, cache=True)
def pass_down(
    rows: NDArray[np.uint8],
    begins: NDArray[np.int32],
    counts: NDArray[np.int32],
    weights: NDArray[np.int32],
    sums: NDArray[np.int32],
    out: NDArray[np.uint8],
) -> None:
    """Resample rows of bytes, uint8 (rows, bytes), along the height."""
    for y in range(out.shape[0]):
        for i in range(sums.shape[0]):
            sums[i] = _HALF
        for j in range(counts[y]):
            weight = weights[y, j]
            row = rows[begins[y] + j]
            for i in range(sums.shape[0]):
                sums[i] += np.int32(row[i]) * weight
        for i in range(sums.shape[0]):
            out[y, i] = sums[i] >> BITS
