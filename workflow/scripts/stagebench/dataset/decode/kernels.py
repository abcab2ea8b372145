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
    rows: NDArray[np.uint8],
    begins: NDArray[np.int32],
    counts: NDArray[np.int32],
    weights: NDArray[np.int32],
    out: NDArray[np.uint8],
) -> None:
    """Resample RGB rows, uint8 (rows, 3 * source columns), along the width into uint8 (rows, 3 * columns).

    Four rows are computed side by side: they share weights and positions, and their twelve sums fill the registers.
    Indices are unsigned, which spares numba's test for counting from the end.
    """
    one, two, three, four = np.uint64(1), np.uint64(2), np.uint64(3), np.uint64(4)
    half = np.int32(_HALF)
    height = np.uint64(out.shape[0])
    y = np.uint64(0)
    while y + four <= height:
        first, second, third, fourth = rows[y], rows[y + one], rows[y + two], rows[y + three]
        for x in range(np.uint64(begins.shape[0])):
            at = np.uint64(begins[x]) * three
            a0 = a1 = a2 = b0 = b1 = b2 = c0 = c1 = c2 = d0 = d1 = d2 = half
            for j in range(np.uint64(counts[x])):
                weight = weights[x, j]
                a0 += np.int32(first[at]) * weight
                a1 += np.int32(first[at + one]) * weight
                a2 += np.int32(first[at + two]) * weight
                b0 += np.int32(second[at]) * weight
                b1 += np.int32(second[at + one]) * weight
                b2 += np.int32(second[at + two]) * weight
                c0 += np.int32(third[at]) * weight
                c1 += np.int32(third[at + one]) * weight
                c2 += np.int32(third[at + two]) * weight
                d0 += np.int32(fourth[at]) * weight
                d1 += np.int32(fourth[at + one]) * weight
                d2 += np.int32(fourth[at + two]) * weight
                at += three
            red, green, blue = x * three, x * three + one, x * three + two
            out[y, red], out[y, green], out[y, blue] = a0 >> BITS, a1 >> BITS, a2 >> BITS
            out[y + one, red], out[y + one, green], out[y + one, blue] = b0 >> BITS, b1 >> BITS, b2 >> BITS
            out[y + two, red], out[y + two, green], out[y + two, blue] = c0 >> BITS, c1 >> BITS, c2 >> BITS
            out[y + three, red], out[y + three, green], out[y + three, blue] = d0 >> BITS, d1 >> BITS, d2 >> BITS
        y += four
    while y < height:
        _row_across(rows[y], begins, counts, weights, out[y])
        y += one


@numba.njit(nogil=True, cache=True)
def _row_across(
    row: NDArray[np.uint8],
    begins: NDArray[np.int32],
    counts: NDArray[np.int32],
    weights: NDArray[np.int32],
    out: NDArray[np.uint8],
) -> None:
    """Resample one row: what is left over when the rows are no multiple of four."""
    for x in range(begins.shape[0]):
        begin = 3 * begins[x]
        for channel in range(3):
            total = np.int32(_HALF)
            for j in range(counts[x]):
                total += np.int32(row[begin + 3 * j + channel]) * weights[x, j]
            out[3 * x + channel] = total >> BITS


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
