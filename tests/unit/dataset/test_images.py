"""Pixels are exactly torchvision's, with the compiled kernels and without."""

import io
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from torchvision import transforms

from stagebench.dataset.decode import resample
from stagebench.dataset.decode.images import ImageError, decode_image, decode_whole
from stagebench.preprocessing import Preprocessing

CHAIN = transforms.Compose([transforms.Resize(256), transforms.CenterCrop(224)])
# A folder of JPEGs to try beside the generated images: STAGEBENCH_PHOTOS=/data/photos make test
PHOTOS = sorted(Path(os.environ["STAGEBENCH_PHOTOS"]).rglob("*.JPEG")) if "STAGEBENCH_PHOTOS" in os.environ else []


def wanted(data: bytes) -> np.ndarray:
    with Image.open(io.BytesIO(data)) as image:
        return np.asarray(CHAIN(image.convert("RGB")))


def encoded(mode: str, size: tuple[int, int], kind: str = "JPEG", **options) -> bytes:
    """A picture with smooth parts, edges and noise, the same each time."""
    width, height = size
    generator = np.random.default_rng(width * 10007 + height)
    y, x = np.mgrid[:height, :width]
    planes = [(x * (3 + k) + y * (5 - k)) % 256 for k in range(4)]
    picture = np.stack(planes, -1) * 0.7 + generator.integers(0, 76, (height, width, 4))
    picture[height // 3 : height // 2, width // 4 : width // 2] = (255, 0, 255, 128)
    array = picture.astype(np.uint8)
    if mode == "I;16":
        image = Image.fromarray(array[..., 0].astype(np.uint16) * 257)
    else:
        image = Image.fromarray(array, "RGBA").convert("RGB" if mode in ("CMYK", "P") else mode if mode != "L" else "L")
        image = image.convert(mode)
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


GENERATED = {
    "rgb": encoded("RGB", (500, 375)),
    "rgb-444": encoded("RGB", (375, 500), subsampling=0),
    "progressive": encoded("RGB", (333, 500), progressive=True),
    "grey": encoded("L", (500, 333)),
    "cmyk": encoded("CMYK", (400, 300)),
    "png-named-jpeg": encoded("RGB", (300, 420), "PNG"),
    "alpha": encoded("RGBA", (300, 300), "PNG"),
    "grey-alpha": encoded("LA", (280, 300), "PNG"),
    "palette": encoded("P", (310, 290), "PNG"),
    "16-bit": encoded("I;16", (300, 300), "PNG"),
    "one-pixel": encoded("RGB", (1, 1)),
    "one-wide": encoded("RGB", (1, 300)),
    "one-high": encoded("RGB", (300, 1)),
    "tiny": encoded("RGB", (7, 5)),
    "as-resized": encoded("RGB", (256, 256)),
    "as-cropped": encoded("RGB", (224, 224)),
    "vertical-first": encoded("RGB", (320, 685)),
    "three-wide": encoded("RGB", (3, 300)),
    "four-wide": encoded("RGB", (4, 300)),
    "long": encoded("RGB", (90, 2000)),
    "very-large": encoded("RGB", (5000, 3333)),
    "odd": encoded("RGB", (257, 259)),
}


@pytest.fixture(params=[False, True], ids=["pillow", "kernels"])
def kernels(request, monkeypatch):
    monkeypatch.setattr(resample, "_kernels", None)
    if request.param:
        resample.load_kernels()


@pytest.mark.parametrize("name", GENERATED)
def test_generated_images_are_torchvisions_to_the_byte(name, kernels):
    found = decode_image(GENERATED[name], Preprocessing())
    assert found.shape == (224, 224, 3)
    assert found.dtype == np.uint8
    assert np.array_equal(found, wanted(GENERATED[name]))


def test_the_samples_own_images_are_torchvisions_to_the_byte(sample, kernels):
    files = sorted(sample.images.rglob("*.JPEG"))
    assert len(files) == 64
    for file in files:
        data = file.read_bytes()
        assert np.array_equal(decode_image(data, Preprocessing()), wanted(data)), file


@pytest.mark.skipif(not PHOTOS, reason="STAGEBENCH_PHOTOS names no folder of photographs")
def test_photographs_are_torchvisions_to_the_byte(kernels):
    for file in PHOTOS:
        data = file.read_bytes()
        assert np.array_equal(decode_image(data, Preprocessing()), wanted(data)), file


def test_random_sizes_agree(kernels):
    generator = np.random.default_rng(0)
    for _ in range(40):
        size = tuple(int(side) for side in generator.integers(1, 900, 2))
        data = encoded("RGB", size)
        assert np.array_equal(decode_image(data, Preprocessing()), wanted(data)), size


@pytest.mark.parametrize(("resize", "crop"), [(232, 192), (256, 223), (224, 222), (40, 5), (6, 3), (4, 4), (1, 1)])
@pytest.mark.parametrize("name", ["rgb", "vertical-first", "as-cropped", "tiny"])
def test_another_preprocessing_is_followed(resize, crop, name, kernels):
    data = GENERATED[name]
    chain = transforms.Compose([transforms.Resize(resize), transforms.CenterCrop(crop)])
    found = decode_image(data, Preprocessing(resize=resize, crop=crop))
    assert np.array_equal(found, np.asarray(chain(Image.open(io.BytesIO(data)).convert("RGB"))))


def test_a_thread_decodes_into_the_same_memory_again_and_into_no_other_threads(kernels):
    first = decode_whole(GENERATED["rgb"])
    assert np.shares_memory(first, decode_whole(GENERATED["grey"]))
    with ThreadPoolExecutor(1) as thread:
        assert not np.shares_memory(first, thread.submit(decode_whole, GENERATED["rgb"]).result())
    assert not np.shares_memory(decode_whole(GENERATED["very-large"]), decode_whole(GENERATED["very-large"]))


def test_threads_do_not_disturb_one_another(kernels):
    names = [name for name in GENERATED if name != "very-large"] * 4
    with ThreadPoolExecutor(8) as threads:
        found = list(threads.map(lambda name: decode_image(GENERATED[name], Preprocessing()), names))
    for name, pixels in zip(names, found, strict=True):
        assert np.array_equal(pixels, wanted(GENERATED[name])), name


def test_orientation_is_ignored_as_torchvision_does():
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees
    data = encoded("RGB", (500, 375), exif=exif)
    assert np.array_equal(decode_image(data, Preprocessing()), decode_image(GENERATED["rgb"], Preprocessing()))


def test_pixels_are_written_where_they_are_wanted():
    slot = np.zeros((2, 224, 224, 3), np.uint8)
    found = decode_image(GENERATED["rgb"], Preprocessing(), out=slot[1])
    assert found.base is slot
    assert not slot[0].any()
    assert np.array_equal(slot[1], wanted(GENERATED["rgb"]))


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "empty"),
        (b"no image at all", "known format"),
        (GENERATED["rgb"][:2000], "truncated"),
        (GENERATED["png-named-jpeg"][:500], "truncated|broken|not enough|unexpected"),
    ],
    ids=["empty", "text", "cut-jpeg", "cut-png"],
)
def test_what_is_no_image_is_refused_in_a_few_words(data, words):
    with pytest.raises(ImageError, match=f"(?i){words}"):
        decode_image(data, Preprocessing())


def test_a_decompression_bomb_is_refused(monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 50_000)
    with pytest.raises(ImageError, match="exceeds limit"):
        decode_image(GENERATED["rgb"], Preprocessing())
