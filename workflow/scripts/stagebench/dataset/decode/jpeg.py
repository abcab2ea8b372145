"""Check that a JPEG file can surely be decoded, without decoding it.

libjpeg only warns of what is wrong inside the compressed data, and so does Pillow: a flipped bit there gives other
pixels, not an error. What ends a decoder is in the headers and in markers where none belong, and these are read here.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from functools import lru_cache
from itertools import accumulate

import numpy as np
from PIL import Image

_START_OF_SCAN = 0xDA
_TABLES_OF_QUANTISATION = 0xDB
_TABLES_OF_HUFFMAN = 0xC4
_RESTART_INTERVAL = 0xDD
# Sequential Huffman frames of 8 bits: what cameras and ImageNet's makers wrote.
_FRAMES = frozenset({0xC0, 0xC1})
_APPLICATION = range(0xE0, 0xF0)
_COMMENT = 0xFE
# JFIF's and Adobe's own, with the least bytes that Pillow reads of them. It reads more of the others: Exif, ICC
# profiles, Photoshop's, several pictures in one file.
_PLAIN_APPLICATION = {0xE0: 14, 0xEE: 12}
_END_OF_IMAGE = 0xD9
# Up to this many bytes counting is faster than a call of numpy; beyond it, far slower.
_SMALL = 1 << 12
# Whether a byte after 0xFF ends or interrupts compressed data: all do but a stuffed zero, and the
# restart markers.
_INTERRUPTS = np.ones(256, np.bool_)
_INTERRUPTS[0xD0:0xD8] = False
# libjpeg's JPEG_MAX_DIMENSION.
_LONGEST_SIDE = 65_500
# Sampling of the components as the frame's bytes have it: grey, and colour with whole, halved or quartered chroma.
_SAMPLINGS = frozenset({b"\x11", b"\x22", *(bytes([luma, 0x11, 0x11]) for luma in (0x11, 0x12, 0x21, 0x22))})


class _UnusualError(Exception):
    """Something that decoding has to judge."""


def is_surely_decodable(data: bytes) -> bool:
    """Return whether `data` is a JPEG file of the usual kind that Pillow decodes without an error.

    It takes some microseconds where decoding takes milliseconds. False means only that decoding has to decide, as for
    progressive files, for CMYK, and for anything else that is out of the ordinary.
    """
    try:
        return data.startswith(b"\xff\xd8\xff") and _is_usual(data)
    except _UnusualError:
        return False


def _is_usual(data: bytes) -> bool:
    quantisation: set[int] = set()
    huffman: set[int] = set()
    frame = b""
    described = False
    for marker, begin, end in _segments(data):
        if marker == _TABLES_OF_QUANTISATION:
            quantisation.update(_quantisation(data[begin:end]))
        elif marker == _TABLES_OF_HUFFMAN:
            huffman |= _huffman(data[begin:end])
        elif marker in _FRAMES and not frame:
            frame = _sound_frame(data[begin:end])
        elif marker in _APPLICATION:
            described |= end - begin < _PLAIN_APPLICATION.get(marker, 1 << 16)
        elif marker == _START_OF_SCAN:
            return (
                _fits(data[begin:end], frame, quantisation, huffman)
                and _ends_well(data, end)
                and (not described or _opens(data))
            )
        elif marker != _COMMENT and (marker != _RESTART_INTERVAL or end - begin != 2):
            return False
    return False


def _segments(data: bytes) -> Iterator[tuple[int, int, int]]:
    """Yield (marker, begin, end) of each segment's contents up to the first scan; stop where there is none."""
    position = 2
    while position + 4 <= len(data) and data[position] == 0xFF:
        begin = position + 4
        position += 2 + (data[position + 2] << 8 | data[position + 3])
        if not begin <= position <= len(data):
            return
        yield data[begin - 3], begin, position


def _sound_frame(frame: bytes) -> bytes:
    """Return a frame that has 8 bits, a size that Pillow opens without a warning, and one of the usual samplings."""
    if len(frame) < 6 or frame[0] != 8 or len(frame) != 6 + 3 * frame[5] or frame[7::3] not in _SAMPLINGS:
        raise _UnusualError
    height, width = frame[1] << 8 | frame[2], frame[3] << 8 | frame[4]
    if not 0 < height * width <= (Image.MAX_IMAGE_PIXELS or 0) or max(height, width) > _LONGEST_SIDE:
        raise _UnusualError
    return frame


def _quantisation(segment: bytes) -> bytes:
    """Return the numbers of its tables, all of them of 8 bits."""
    numbers = segment[::65]
    if len(segment) % 65 or max(numbers, default=0) > 3:
        raise _UnusualError
    return numbers


def _fits(scan: bytes, frame: bytes, quantisation: set[int], huffman: set[int]) -> bool:
    """Return whether the only scan holds all components of the frame, and all tables are there that they name."""
    components, tables = frame[6::3], scan[2:-3:2]
    return (
        len(scan) == 4 + 2 * len(components)
        and len(set(components)) == len(components) > 0
        and (scan[0], scan[1:-3:2], scan[-3:]) == (len(components), components, b"\x00\x3f\x00")
        and quantisation.issuperset(frame[8::3])
        and huffman.issuperset(table >> 4 for table in tables)
        and huffman.issuperset(0x10 | table & 0x0F for table in tables)
    )


def _ends_well(data: bytes, begin: int) -> bool:
    """Return whether the compressed data, which begins at `begin`, is ended by nothing but the end of the image."""
    if len(data) - begin < _SMALL and data.count(b"\xff", begin) == data.count(b"\xff\x00", begin) + 1:
        return data.endswith(b"\xff\xd9")
    compressed = np.frombuffer(data, np.uint8, offset=begin)
    markers = (compressed[:-1] == 0xFF) & (compressed[1:] != 0)
    if np.count_nonzero(markers) == 1:  # no restarts: so it is in most files
        return data.endswith(b"\xff\xd9")
    following = compressed[1:][markers]
    ending = following[_INTERRUPTS[following]]
    return bool(ending.size) and int(ending[0]) == _END_OF_IMAGE


@lru_cache(maxsize=256)  # most files have the standard's own tables
def _huffman(segment: bytes) -> frozenset[int]:
    """Return the classes and numbers (as the segment has them) of its tables, all of which libjpeg accepts."""
    found = set()
    while segment:
        counts, total = segment[1:17], sum(segment[1:17])
        symbols = segment[17 : 17 + total]
        kind, number = divmod(segment[0], 16)
        if len(counts) < 16 or len(symbols) < total or kind > 1 or number > 3 or _overflows(counts):
            raise _UnusualError
        if kind == 0 and max(symbols, default=0) > 11:  # the classes of differences of 8-bit samples
            raise _UnusualError
        found.add(segment[0])
        segment = segment[17 + total :]
    return frozenset(found)


def _overflows(counts: bytes) -> bool:
    """Return whether there are more codes than code words, or more than 256 symbols. All ones is no code word."""
    used = accumulate(counts, lambda total, count: 2 * total + count)
    return any(words >= 1 << length for length, words in enumerate(used, 1)) or sum(counts) > 256


def _opens(data: bytes) -> bool:
    """Return whether Pillow accepts what an application wrote into the file, as a file of one picture."""
    try:
        with Image.open(io.BytesIO(data)) as image:
            return image.format == "JPEG"
    except Exception:  # decoding decides
        return False
