"""What one process feeds: the real feeder and session, and an engine that computes nothing."""

from __future__ import annotations

import tempfile
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import artifacts
import numpy as np
from pairs import Figure, figure
from PIL import Image

from stagebench.dataset.decode import resample
from stagebench.dataset.manifest import ManifestRow
from stagebench.engines.noop import NoopSession
from stagebench.host import cpus
from stagebench.measure.feeding import Decoded, Feeder, Files, Source
from stagebench.measure.scenarios.offline import run_passes
from stagebench.preprocessing import Preprocessing

# What FlagPerf's A100 takes in fp16, images/s (its published p_infer_core).
A100 = 11710.0
IMAGES = 8192
PASSES = 9
#: Pixels of each side of an image that costs next to nothing to decode.
TINY = 16


def rates(source: Source, batch: int, crop: int) -> list[float]:
    """Return images/s of each pass over a source, after one to warm up."""
    with NoopSession(batch, crop) as session, Feeder(source, cpus.usable()) as feeder:
        run_passes(session, feeder, 1)
        return [len(source) / seconds for seconds in run_passes(session, feeder, PASSES).seconds]


def tiny_files(folder: Path) -> Files:
    """Return JPEG files so small that reading and decoding them is the interpreter's work and little else."""
    (folder / "images").mkdir()
    rows = []
    for number in range(IMAGES // 8):
        name = f"images/{number}.JPEG"
        Image.effect_noise((TINY, TINY), 60).convert("RGB").save(folder / name, "JPEG")
        rows.append(cast(ManifestRow, SimpleNamespace(path=name)))
    return Files(folder / "manifest.csv", rows, Preprocessing(resize=TINY, crop=TINY))


def measure() -> dict[str, Figure]:
    """Return what is fed from decoded pixels by batch size, its ratio to an A100's appetite, and where files bend.

    `feed_bend` is images/s from files that cost next to nothing to decode. What is left holds the interpreter's lock
    or waits for it: however many cores there are, one process feeds no more.
    """
    resample.load_kernels()
    decoded = np.load(artifacts.PIXELS, mmap_mode="r")
    crop = decoded.shape[1]
    with tempfile.TemporaryDirectory(dir=artifacts.PIXELS.parent) as name:
        folder = Path(name)
        many = np.lib.format.open_memmap(folder / "many.npy", "w+", np.uint8, (IMAGES, *decoded.shape[1:]))
        for begin in range(0, IMAGES, len(decoded)):
            many[begin : begin + len(decoded)] = decoded[: IMAGES - begin]
        many.flush()
        del many
        pixels = Decoded(np.load(folder / "many.npy", mmap_mode="r"))
        files = tiny_files(folder)
        found = {"": rates(pixels, artifacts.BATCH, crop), "_batch1": rates(pixels, 1, crop)}
        bends = {"": rates(files, artifacts.BATCH, TINY), "_batch1": rates(files, 1, TINY)}
    return {
        **{f"feed_cached{suffix}": figure(each, "images/s") for suffix, each in found.items()},
        "feed_cached_over_a100": figure([rate / A100 for rate in found[""]], "ratio"),
        **{f"feed_bend{suffix}": figure(each, "images/s") for suffix, each in bends.items()},
        **{
            f"feed_interpreter_us{suffix}": figure([1e6 / rate for rate in each], "us/image")
            for suffix, each in bends.items()
        },
    }
