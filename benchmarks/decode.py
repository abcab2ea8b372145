"""Decoding against torchvision's chain, image by image by turns, on one core with the files in memory."""

from __future__ import annotations

import io
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from artifacts import IMAGES, MANIFEST, validation_images
from pairs import Figure, figure
from PIL import Image

from stagebench.dataset.decode import resample
from stagebench.dataset.decode.images import decode_image
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


def torchvision_chain() -> Callable[[bytes], Any]:
    """Return torchvision's usual preprocessing of one file, on one thread."""
    import torch
    from torchvision import transforms

    torch.set_num_threads(1)
    chain = transforms.Compose(
        [
            transforms.Resize(256),
            transforms.CenterCrop(224),
            transforms.ToTensor(),
            transforms.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
        ]
    )
    return lambda data: chain(Image.open(io.BytesIO(data)).convert("RGB"))


def measure() -> dict[str, Figure]:
    """Return `decode_ratio` and both rates; PHOTOS names a folder to use in place of `sample`."""
    photos = os.environ.get("PHOTOS")
    data = images_of(Path(photos).expanduser() if photos else None)
    assert IMAGES.is_dir() or photos
    theirs = torchvision_chain()
    out = np.empty((224, 224, 3), np.uint8)
    preprocessing = Preprocessing()
    resample.load_kernels()

    def ours(image: bytes) -> None:
        decode_image(image, preprocessing, out=out)

    for image in data[:8]:
        ours(image)
        theirs(image)
    mine, other = [], []
    for _ in range(ROUNDS):
        totals = {ours: 0.0, theirs: 0.0}
        for number, image in enumerate(data):
            for work in (ours, theirs) if number % 2 else (theirs, ours):
                begin = time.perf_counter()
                work(image)
                totals[work] += time.perf_counter() - begin
        mine.append(len(data) / totals[ours])
        other.append(len(data) / totals[theirs])
    return {
        "decode_ratio": figure([a / b for a, b in zip(mine, other, strict=True)], "ratio"),
        "decode_rate": figure(mine, "images/s/core"),
        "torchvision_rate": figure(other, "images/s/core"),
    }
