"""From the bytes of an image file to the pixels that the model takes: exactly torchvision's."""

from __future__ import annotations

import io
import struct
from importlib import metadata
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, features

from stagebench.preprocessing import Preprocessing
from stagebench.records import StagebenchError

# What decides about the pixels beside the preprocessing: part of the name of decoded files.
DECODER = f"pillow-{metadata.version('pillow')}-libjpeg-turbo-{features.version('libjpeg_turbo') or 'none'}"

_RESAMPLING = {"bilinear": Image.Resampling.BILINEAR}

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
    try:
        with Image.open(io.BytesIO(data)) as opened:
            image = opened.convert("RGB")
    except _BROKEN as error:
        raise ImageError(_reason(data, error)) from error
    image = image.resize(
        resized_size(image.width, image.height, preprocessing.resize), _RESAMPLING[preprocessing.interpolation]
    )
    pixels = np.asarray(image.crop(centre_box(image.width, image.height, preprocessing.crop)))
    if out is None:
        return pixels.copy()  # asarray's result is read-only
    out[...] = pixels
    return out


def resized_size(width: int, height: int, shorter: int) -> tuple[int, int]:
    """Return (width, height) with the shorter side at `shorter` and the longer one rounded down, as torchvision does."""
    if width <= height:
        return shorter, int(shorter * height / width)
    return int(shorter * width / height), shorter


def centre_box(width: int, height: int, crop: int) -> tuple[int, int, int, int]:
    """Return (left, top, right, bottom) of the centre square; odd margins round half to even, as torchvision does.

    `Preprocessing` holds crop <= resize and no side is shorter than resize, so torchvision's padding never occurs.
    """
    left, top = round((width - crop) / 2), round((height - crop) / 2)
    return left, top, left + crop, top + crop


def _reason(data: bytes, error: Any) -> str:
    if not data:
        return "the file is empty"
    if isinstance(error, Image.UnidentifiedImageError):
        return "not an image of a known format"  # Pillow's own text holds the address of a buffer
    return " ".join(str(error).split()) or type(error).__name__
