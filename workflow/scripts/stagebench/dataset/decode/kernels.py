"""Compiled code for `resample`: the weights and the two passes of Pillow's bilinear resize, in its integer arithmetic.

libImaging/Resample.c of Pillow 13.0.0 is followed step by step, so that every byte is the one it would have produced.
Loading numba and its cached machine code takes about as long as resizing two thousand images by Pillow.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numba
import numpy as np
from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

# Coefficients are fixed-point numbers with this many fractional bits: 32 less 8 for a pixel and 2 for headroom.
BITS = 22
# The pass across takes so many taps, and computes so many pixels, at a time.
SIDE = 4
_HALF = 1 << (BITS - 1)
_PIXEL = 4  # bytes: red, green, blue and one that nobody reads


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


def _typed_four_pixels(context: Any, begins: Any, weights: Any, groups: Any, row: Any, out: Any) -> Any:
    """Compute four pixels of a row and write their twelve bytes to `out`.

    Four taps are sixteen neighbouring bytes, so one vector multiplies them all, whichever pixel the filter begins at.
    What the four taps gave is summed for the four pixels together: fewer shuffles than for each alone. These are LLVM's
    own operations on vectors, for which it finds instructions on any CPU.

    Args:
        context: numba's.
        begins: address of four int32, the first tap of each pixel.
        weights: address of int32 (groups, 4 pixels, 4 taps, 4 channels), aligned to a vector.
        groups: number of fours of taps.
        row: address of the source's pixels, four bytes each.
        out: address of twelve bytes.
    """
    del context, begins, weights, groups, row, out
    return types.void(*[types.uintp] * 5), _generate_four_pixels


def _generate_four_pixels(context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
    begins, weights, groups, row, out = arguments
    word, int32 = groups.type, ir.IntType(32)
    bytes16, words16 = ir.VectorType(ir.IntType(8), 16), ir.VectorType(int32, 16)

    def load(address: Any, kind: Any, aligned: int) -> Any:
        found = builder.load(builder.inttoptr(address, kind.as_pointer()))
        found.align = aligned
        return found

    def plus(address: Any, offset: int) -> Any:
        return builder.add(address, ir.Constant(word, offset))

    def times(number: Any, size: int) -> Any:
        return builder.mul(number, ir.Constant(word, size))

    def pick(one: Any, other: Any, lanes: Sequence[int]) -> Any:
        return builder.shuffle_vector(one, other, ir.Constant(ir.VectorType(int32, len(lanes)), list(lanes)))

    first = [
        builder.add(row, times(builder.zext(load(plus(begins, 4 * pixel), int32, 4), word), _PIXEL))
        for pixel in range(SIDE)
    ]
    # Half of the last bit, once for each channel: Pillow rounds so.
    half = ir.Constant(words16, [_HALF] * 4 + [0] * 12)
    sums = [cgutils.alloca_once_value(builder, half) for _ in range(SIDE)]
    with cgutils.for_range(builder, groups) as loop:
        group = builder.add(weights, times(loop.index, 4 * SIDE**3))
        for pixel in range(SIDE):
            taps = load(builder.add(first[pixel], times(loop.index, SIDE * _PIXEL)), bytes16, 1)
            own = load(plus(group, 4 * SIDE**2 * pixel), words16, 4)
            product = builder.mul(builder.zext(taps, words16), own)
            builder.store(builder.add(builder.load(sums[pixel]), product), sums[pixel])
    one, two, three, four = (builder.load(each) for each in sums)
    # Added by pairs twice, four taps of four channels become four pixels of four channels.
    low = (0, 1, 2, 3, 8, 9, 10, 11, 16, 17, 18, 19, 24, 25, 26, 27)
    high = tuple(lane + 4 for lane in low)
    left = builder.add(pick(one, two, low), pick(one, two, high))
    right = builder.add(pick(three, four, low), pick(three, four, high))
    total = builder.add(pick(left, right, low), pick(left, right, high))
    narrow = builder.trunc(builder.lshr(total, ir.Constant(words16, [BITS] * 16)), bytes16)
    packed = pick(narrow, narrow, [lane for lane in range(16) if lane % 4 != 3])
    builder.store(packed, builder.inttoptr(out, packed.type.as_pointer())).align = 1
    return context.get_dummy_value()


_four_pixels: Any = intrinsic(_typed_four_pixels)


@numba.njit(cache=True)
def spread_taps(
    source: int,
    begins: NDArray[np.int32],
    counts: NDArray[np.int32],
    weights: NDArray[np.int32],
    places: NDArray[np.int32],
    spread: NDArray[np.int32],
) -> None:
    """Lay out weights for `pass_across`.

    Args:
        source: pixels of the source.
        begins: first tap of each pixel; with `counts` and `weights` as `fill_taps` leaves them.
        counts: taps of each pixel.
        weights: of each tap.
        places: set to the first tap that is taken: all taps lie inside the source, those before `begins` count nothing.
        spread: zeros, int32 (fours of pixels, groups, 4 pixels, 4 taps, 4 channels), to be set. The last four pixels
            may overlap those before.
    """
    taps = spread.shape[1] * SIDE
    for i in range(begins.shape[0]):
        places[i] = min(begins[i], source - taps)
    for four in range(spread.shape[0]):
        x = min(four * SIDE, begins.shape[0] - SIDE)
        for pixel in range(SIDE):
            i = x + pixel
            for j in range(counts[i]):
                tap = begins[i] - places[i] + j
                spread[four, tap // SIDE, pixel, tap % SIDE, :] = weights[i, j]


@numba.njit(nogil=True, cache=True)
def pass_across(
    rows: NDArray[np.uint8], places: NDArray[np.int32], spread: NDArray[np.int32], out: NDArray[np.uint8]
) -> None:
    """Resample rows, uint8 (rows, 4 * source columns), along the width into RGB, uint8 (rows, 3 * columns).

    Of a pixel's four bytes the last is dropped. `places` and `spread` are those of `spread_taps`.
    """
    last = np.uint64(places.shape[0] - SIDE)
    groups = np.uint64(spread.shape[1])
    for y in range(np.uint64(out.shape[0])):
        row = rows.ctypes.data + y * np.uint64(rows.strides[0])
        target = out.ctypes.data + y * np.uint64(out.strides[0])
        for four in range(np.uint64(spread.shape[0])):
            x = min(four * np.uint64(SIDE), last)
            _four_pixels(
                places.ctypes.data + x * np.uint64(4),
                spread.ctypes.data + four * np.uint64(spread.strides[0]),
                groups,
                row,
                target + x * np.uint64(3),
            )


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
