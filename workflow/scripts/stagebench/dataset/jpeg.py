"""The outline of a JPEG file, read without decoding it."""

from __future__ import annotations

from PIL import Image

# Frame headers: SOF0 to SOF15 without DHT (C4), JPG (C8) and DAC (CC).
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_START_OF_SCAN = 0xDA
_END_OF_IMAGE = b"\xff\xd9"


def is_well_formed(data: bytes) -> bool:
    """Whether `data` is a JPEG with sound segments, a frame of a reasonable size, a scan and its end mark.

    It takes some microseconds where decoding takes milliseconds. False says only that decoding has to tell.
    """
    if not data.startswith(b"\xff\xd8\xff") or not data.rstrip(b"\0").endswith(_END_OF_IMAGE):
        return False
    position, framed = 2, False
    while position + 4 <= len(data) and data[position] == 0xFF:
        marker = data[position + 1]
        if marker == 0xFF:  # fill byte
            position += 1
            continue
        length = int.from_bytes(data[position + 2 : position + 4], "big")
        if marker == _START_OF_SCAN:
            return framed
        if marker in _FRAMES:
            height = int.from_bytes(data[position + 5 : position + 7], "big")
            width = int.from_bytes(data[position + 7 : position + 9], "big")
            framed = 0 < width * height <= (Image.MAX_IMAGE_PIXELS or 0)
        position += 2 + length
    return False
