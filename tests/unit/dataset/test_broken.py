"""Broken and odd files: decoded as torchvision's loader would, or named, all of them at once."""

import io
import random
import struct
import warnings
import zlib

import numpy as np
import pytest
from PIL import Image, ImageCms
from support.stages import PREPROCESSING, archive_record, pack_archive
from torchvision import datasets, transforms

from stagebench.dataset.archive import extract_archive
from stagebench.dataset.decode.images import ImageError, decode_image
from stagebench.dataset.decode.jpeg import is_surely_decodable
from stagebench.dataset.folder import link_folder
from stagebench.dataset.manifest import image_path, read_manifest, validation_rows
from stagebench.dataset.pixels import decode_pixels, open_pixels
from stagebench.errors import StagebenchError
from stagebench.preprocessing import Preprocessing

CHAIN = transforms.Compose([transforms.Resize(256), transforms.CenterCrop(224)])


def picture(mode="RGB", kind="JPEG", size=(40, 30), **options):
    """A small picture as a file."""
    x, y = np.meshgrid(*map(np.arange, size))
    noise = np.random.default_rng(1).integers(0, 70, (size[1], size[0], 3))
    array = (np.stack([x * (3 + k) + y * (5 - k) for k in range(3)], -1) % 186 + noise).astype(np.uint8)
    image = Image.fromarray(array[..., 0].astype(np.uint16) * 257) if mode == "I;16" else Image.fromarray(array)
    buffer = io.BytesIO()
    (image if mode == "I;16" else image.convert(mode)).save(buffer, kind, **options)
    return buffer.getvalue()


EXIF = Image.Exif()
EXIF[0x0112] = 6  # to be turned by 90 degrees
EXIF[0x011A] = 72.0
PROFILE = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
JPEGS = {
    "colour": picture(),
    "whole chroma": picture(subsampling=0),
    "grey": picture("L"),
    "own tables": picture(optimize=True),
    "restarts": picture(size=(64, 50), restart_marker_blocks=2),
    "comment": picture(comment=b"hello"),
    "metadata": picture(exif=EXIF, icc_profile=PROFILE),
    "progressive": picture(progressive=True),
    "cmyk": picture("CMYK"),
}


def torchvisions(data):
    """What torchvision's loader and transforms make of a file; None where they raise."""
    try:
        with Image.open(io.BytesIO(data)) as image:
            return np.asarray(CHAIN(image.convert("RGB")))
    except Exception:
        return None


def harmed(data, chance):
    """The file with some bytes changed, a bit flipped, its end cut off, a marker put in, or a piece taken out."""
    data, place = bytearray(data), chance.randrange(len(data))
    kind = chance.randrange(6)
    if kind < 2:
        for _ in range(chance.choice((1, 1, 2, 4))):
            data[chance.randrange(len(data))] = chance.randrange(256)
    elif kind == 2:
        data[place] ^= 1 << chance.randrange(8)
    elif kind == 3:
        data[place:] = chance.choice((b"", b"\xff\xd9"))
    elif kind == 4:
        data[place:place] = bytes((0xFF, chance.randrange(256)))
    else:
        del data[place : place + chance.randrange(1, 30)]
    return bytes(data)


def absurd(data):
    """Whether a header was harmed so that torchvision would resize to gigabytes: nobody waits for that."""
    try:
        with Image.open(io.BytesIO(data)) as image:
            return max(image.size) > 3000
    except Exception:
        return False


def test_usual_files_need_no_decoding_to_be_accepted():
    usual = {name for name, data in JPEGS.items() if is_surely_decodable(data)}
    assert usual == JPEGS.keys() - {"progressive", "cmyk"}


@pytest.mark.filterwarnings("ignore")
def test_harmed_files_are_decoded_or_refused_as_torchvision_does():
    chance = random.Random(0)
    seen = {"sure": 0, "decoded": 0, "refused": 0}
    for _ in range(900):
        data = harmed(chance.choice(list(JPEGS.values())), chance)
        if absurd(data):
            continue
        wanted = torchvisions(data)
        if is_surely_decodable(data):
            seen["sure"] += 1
            assert wanted is not None
        try:
            found = decode_image(data, Preprocessing())
        except ImageError:
            found = None
        seen["refused" if found is None else "decoded"] += 1
        assert (found is None) == (wanted is None)
        assert found is None or np.array_equal(found, wanted)
    assert min(seen.values()) > 150


def flipped(data):
    """A JPEG with a bit flipped in its compressed data: libjpeg only warns of that."""
    place = len(data) // 2
    changed = bytes((*data[:place], data[place] ^ 0x10, *data[place + 1 :]))
    assert not np.array_equal(torchvisions(changed), torchvisions(data))
    return changed


def with_impossible_codes(data):
    """A JPEG whose outline is whole, with a Huffman table that cannot be: three codes of one bit."""
    place = data.index(b"\xff\xc4") + 5
    return bytes((*data[:place], 3, *data[place + 1 :]))


def with_samples_of(bits, data):
    place = data.index(b"\xff\xc0") + 4
    return bytes((*data[:place], bits, *data[place + 1 :]))


def bomb():
    """A PNG of a few bytes that says it has 60,000 x 60,000 pixels."""
    head = b"IHDR" + struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    body = b"IDAT" + zlib.compress(bytes(100))
    chunks = [struct.pack(">I", len(part) - 4) + part + struct.pack(">I", zlib.crc32(part)) for part in (head, body)]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


ODD = {
    "sample_val_00000001.JPEG": picture("CMYK", size=(400, 300)),
    "sample_val_00000002.JPEG": picture(kind="PNG", size=(300, 280)),
    "sample_val_00000003.JPEG": picture("I;16", "PNG", size=(300, 300)),
    "sample_val_00000004.JPEG": picture(size=(300, 400), exif=EXIF),
    "sample_val_00000005.JPEG": flipped(picture(size=(300, 400))),
    "sample_val_00000006.JPEG": picture(size=(333, 300), progressive=True),
}
BROKEN = {
    "sample_val_00000011.JPEG": (b"", "the file is empty"),
    "sample_val_00000012.JPEG": (picture(size=(300, 400))[:3000], "truncated"),
    "sample_val_00000013.JPEG": (with_impossible_codes(picture()), "broken"),
    "sample_val_00000014.JPEG": (bomb(), "could be decompression bomb"),
    "sample_val_00000015.JPEG": (with_samples_of(12, picture()), "not an image of a known format"),
    "sample_fit_00000016.JPEG": (picture(kind="PNG")[:400], "truncated"),
    "sample_val_00000017.JPEG": (b"<html>not found</html>", "not an image of a known format"),
}


@pytest.fixture
def place(tmp_path):
    return {name: tmp_path / name for name in ("images", "manifest", "record")}


@pytest.fixture
def files(sample):
    rows = read_manifest(sample.manifest)
    return {row.path.rpartition("/")[2]: image_path(sample.manifest, row).read_bytes() for row in rows}


@pytest.fixture(params=["archive", "folder"])
def prepare(request, sample, tmp_path, place):
    """Bring files to their place as the workflow does: from an archive, or from a folder of them."""

    def from_archive(files):
        archive = pack_archive(tmp_path / "archive.tar", files.items())
        extract_archive(
            archive, archive_record(tmp_path / "archive.json", archive), **place, labels="sample", expected=32
        )

    def from_folder(files):
        (tmp_path / "mine").mkdir()
        for name, data in files.items():
            (tmp_path / "mine" / name).write_bytes(data)
        link_folder(tmp_path / "mine", **place, labels="sample", devkit=None, expected=32)

    return from_archive if request.param == "archive" else from_folder


def test_odd_files_are_decoded_as_torchvision_does(prepare, files, place, tmp_path):
    prepare({**files, **ODD})
    out = {"pixels": tmp_path / "pixels.npy", "record": tmp_path / "pixels.json"}
    decode_pixels(place["manifest"], place["record"], **out, preprocessing=PREPROCESSING, subset=None, threads=2)
    wanted = {path: np.asarray(CHAIN(datasets.folder.default_loader(path))) for path in place["images"].rglob("*val*")}
    rows = validation_rows(place["manifest"], None)
    for row, pixels in zip(rows, open_pixels(out["pixels"]), strict=True):
        assert np.array_equal(pixels, wanted[image_path(place["manifest"], row)]), row.path


def test_all_broken_files_are_named_at_once(prepare, files, place):
    prepared = {**files, **ODD, **{name: data for name, (data, _) in BROKEN.items()}}
    with warnings.catch_warnings(), pytest.raises(StagebenchError) as error:
        prepare(prepared)
    text = str(error.value)
    assert "\n" not in text
    assert f"{len(BROKEN)} images are broken" in text
    for name, (_, reason) in BROKEN.items():
        told = next(part for part in text.split("; ") if name in part)
        assert reason in told, told
    assert not any(name in text for name in ODD)
    assert not place["images"].exists()


def test_files_that_break_later_are_named_at_once_by_the_step_that_meets_them(prepare, files, place, tmp_path):
    prepare(files)
    broken = [image_path(place["manifest"], row) for row in validation_rows(place["manifest"], None)[3:30:9]]
    for path in broken:
        path.unlink()
        path.write_bytes(b"")
    out = {"pixels": tmp_path / "pixels.npy", "record": tmp_path / "pixels.json"}
    with pytest.raises(StagebenchError, match=f"{len(broken)} images cannot be decoded") as error:
        decode_pixels(place["manifest"], place["record"], **out, preprocessing=PREPROCESSING, subset=None, threads=2)
    assert all(f"{path} (other contents than its manifest describes)" in str(error.value) for path in broken)
    assert str(error.value).endswith(
        f"put them right, then delete {place['manifest']} and run the target {place['manifest']}"
    )
    assert not out["pixels"].exists()
