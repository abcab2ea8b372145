"""Decoding against torchvision's chain, image by image by turns, on one core with the files in memory."""

from __future__ import annotations

import io
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import simplejpeg
from artifacts import MANIFEST, validation_images
from pairs import Figure, figure
from PIL import Image

from stagebench.dataset.decode import resample
from stagebench.dataset.decode.images import decode_image, decode_whole
from stagebench.dataset.manifest import image_path
from stagebench.preprocessing import Preprocessing

ROUNDS = 7


def images_of(folder: Path | None) -> list[bytes]:
    """Return the validation images of `sample`, or the JPEG files of a folder."""
    if folder is None:
        return [image_path(MANIFEST, row).read_bytes() for row in validation_images()]
    files = sorted(path for path in folder.rglob("*") if path.suffix.lower() in (".jpg", ".jpeg"))
    if not files:
        raise SystemExit(f"PHOTOS={folder}: there are no JPEG files; name a folder of photographs")
    return [file.read_bytes() for file in files]


def torchvision_chain() -> tuple[Callable[[bytes], Any], Callable[[bytes], Any]]:
    """Return torchvision's usual preprocessing of one file, on one thread: to pixels, and to what a model takes."""
    import torch
    from torchvision import transforms

    torch.set_num_threads(1)
    steps = [transforms.Resize(256), transforms.CenterCrop(224)]
    rest = [transforms.ToTensor(), transforms.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))]

    def chain(*parts: Any) -> Callable[[bytes], Any]:
        composed = transforms.Compose(parts)
        return lambda data: composed(Image.open(io.BytesIO(data)).convert("RGB"))

    return chain(*steps), chain(*steps, *rest)


def compare(data: list[bytes]) -> dict[str, Figure]:
    """Return the ratio of the rates on some files, both rates, and the shares of our time that are libjpeg-turbo's."""
    pixels, theirs = torchvision_chain()
    out = np.empty((224, 224, 3), np.uint8)
    preprocessing = Preprocessing()

    def ours(image: bytes) -> None:
        decode_image(image, preprocessing, out=out)

    def libjpeg(image: bytes) -> None:
        decode_whole(image)

    def entropy(image: bytes) -> None:
        # An eighth of the size is one coefficient of each block: little is left but reading the codes of all.
        simplejpeg.decode_jpeg(image, min_height=1, min_width=1, min_factor=8)

    for image in data:
        ours(image)
        if not np.array_equal(out, np.asarray(pixels(image))):
            raise SystemExit("decode: a pixel differs from torchvision's")
    times: dict[Callable[[bytes], Any], list[float]] = {work: [] for work in (ours, theirs, libjpeg, entropy)}
    turns = list(times)
    for _ in range(ROUNDS):
        totals = dict.fromkeys(times, 0.0)
        for image in data:
            turns.append(turns.pop(0))
            for work in turns:
                begin = time.perf_counter()
                work(image)
                totals[work] += time.perf_counter() - begin
        for work, total in totals.items():
            times[work].append(total / len(data))

    def over(one: Callable[[bytes], Any], other: Callable[[bytes], Any]) -> Figure:
        return figure([a / b for a, b in zip(times[one], times[other], strict=True)], "ratio")

    return {
        "decode_ratio": over(theirs, ours),
        "decode_rate": figure([1 / each for each in times[ours]], "images/s/core"),
        "torchvision_rate": figure([1 / each for each in times[theirs]], "images/s/core"),
        "libjpeg_share": over(libjpeg, ours),
        "entropy_share": over(entropy, ours),
    }


def measure() -> dict[str, Figure]:
    """Return `compare` for `sample`, and with the suffix `_photos` for the folder that PHOTOS names."""
    resample.load_kernels()
    found = compare(images_of(None))
    photos = os.environ.get("PHOTOS")
    if photos:
        found |= {f"{key}_photos": value for key, value in compare(images_of(Path(photos).expanduser())).items()}
    return found
