"""From the bytes of an image file to the pixels that the model takes: exactly torchvision's, and faster.

JPEG files of the usual kinds are decoded by libjpeg-turbo directly, to the same bytes that Pillow gives; everything
else goes through Pillow. Of the resized image only the window that the crop leaves is computed.
"""

from __future__ import annotations

import io
import math
import struct
from importlib import metadata
from typing import Any

import numpy as np
import numpy.typing as npt
import simplejpeg
from PIL import Image, UnidentifiedImageError, features

from stagebench.dataset.decode.resample import resize_window
from stagebench.dataset.decode.scratch import Scratch
from stagebench.errors import StagebenchError
from stagebench.preprocessing import Preprocessing

# What determines the pixels in addition to the preprocessing: part of the name of decoded files.
DECODER = "-".join(
    (
        f"simplejpeg-{metadata.version('simplejpeg')}",
        f"pillow-{metadata.version('pillow')}",
        f"libjpeg-turbo-{features.version('libjpeg_turbo') or 'none'}",
    )
)

# Colour spaces of a JPEG file that libjpeg-turbo turns into RGB exactly as Pillow does.
_USUAL = frozenset({"YCbCr", "Gray"})

_JPEG = b"\xff\xd8\xff"

_decoded = Scratch()

# What Pillow raises on files that are no image, are cut short, are broken inside, or unpack to more than
# twice Image.MAX_IMAGE_PIXELS.
_BROKEN = (OSError, SyntaxError, ValueError, EOFError, struct.error, Image.DecompressionBombError)


class ImageError(StagebenchError):
    """An image that cannot be decoded; the text says why, the caller knows which file it is."""


def decode_image(
    data: bytes, preprocessing: Preprocessing, out: npt.NDArray[np.uint8] | None = None
) -> npt.NDArray[np.uint8]:
    """Decode an image file to uint8 pixels (crop, crop, 3): RGB, shorter side resized, centre cut out.

    The pixels are those of torchvision's `Resize(resize)` and `CenterCrop(crop)` on the Pillow image that its default
    loader gives (`convert("RGB")`, EXIF orientation ignored).

    Args:
        data: the bytes of the file.
        preprocessing: its `resize`, `crop` and `interpolation` are used.
        out: array (crop, crop, 3) of uint8 to decode into; a new one is made if there is none.

    Raises:
        ImageError: the bytes are no image, are truncated, or unpack to an absurd size.
    """
    if out is None:
        out = np.empty((preprocessing.crop, preprocessing.crop, 3), np.uint8)
    resize_and_crop(decode_whole(data), preprocessing, out)
    return out


def decode_whole(data: bytes) -> npt.NDArray[np.uint8]:
    """Decode an image file at its own size: the first step of `decode_image`.

    Returns:
        uint8 (height, width, 4): red, green, blue and a byte of no meaning. It is this thread's until it decodes again.

    Raises:
        ImageError: as for `decode_image`.
    """
    image = _decode_usual_jpeg(data)
    return _decode_by_pillow(data) if image is None else image


def resize_and_crop(image: npt.NDArray[np.uint8], preprocessing: Preprocessing, out: npt.NDArray[np.uint8]) -> None:
    """Resize an image as `decode_whole` returns it, and write the centre into `out`: the second step."""
    height, width, _ = image.shape
    size = resized_size(width, height, preprocessing.resize)
    resize_window(image, size, centre_corner(*size, preprocessing.crop), out)


def _decode_usual_jpeg(data: bytes) -> npt.NDArray[np.uint8] | None:
    """Decode a JPEG file of the usual kinds; None where it is another kind or anything about it is amiss.

    What libjpeg-turbo warns of is left to Pillow, so that there is one judge of broken files.
    """
    if not data.startswith(_JPEG):
        return None
    try:
        height, width, colours, _ = simplejpeg.decode_jpeg_header(data)
        if colours not in _USUAL or height * width > (Image.MAX_IMAGE_PIXELS or math.inf):
            return None
        buffer = _decoded.take(height * width * 4)
        decoded: npt.NDArray[np.uint8] = simplejpeg.decode_jpeg(data, colorspace="RGBX", buffer=buffer)
    except ValueError:
        return None
    return decoded


def _decode_by_pillow(data: bytes) -> npt.NDArray[np.uint8]:
    try:
        with Image.open(io.BytesIO(data)) as opened:
            return np.asarray(opened.convert("RGB").convert("RGBX"))
    except _BROKEN as error:
        raise ImageError(_reason(data, error)) from error


def resized_size(width: int, height: int, shorter: int) -> tuple[int, int]:
    """Return (width, height) with the shorter side at `shorter`, the longer one rounded down as torchvision does."""
    if width <= height:
        return shorter, int(shorter * height / width)
    return int(shorter * width / height), shorter


def centre_corner(width: int, height: int, crop: int) -> tuple[int, int]:
    """Return (left, top) of the centre square; odd margins round half to even, as torchvision does.

    `Preprocessing` holds crop <= resize and no side is shorter than resize, so torchvision's padding never occurs.
    """
    return round((width - crop) / 2), round((height - crop) / 2)


def _reason(data: bytes, error: Any) -> str:
    if not data:
        return "the file is empty"
    if isinstance(error, UnidentifiedImageError):
        return "not an image of a known format"  # Pillow's own text holds the address of a buffer
    return " ".join(str(error).split()) or type(error).__name__
