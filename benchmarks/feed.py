"""What one process feeds from decoded pixels: the real feeder and session, and an engine that computes nothing."""

from __future__ import annotations

import tempfile
from typing import Any

import artifacts
import numpy as np
from pairs import figure

from stagebench.host import cpus
from stagebench.measure.feeding import Decoded, Feeder
from stagebench.measure.scenarios.offline import run_passes

#: What FlagPerf's A100 takes in fp16, images/s (its published p_infer_core).
A100 = 11710.0
IMAGES = 8192
PASSES = 9


def measure() -> dict[str, Any]:
    """Return `feed_cached`, and its ratio to what an A100 takes."""
    decoded = np.load(artifacts.PIXELS, mmap_mode="r")
    with tempfile.TemporaryDirectory(dir=artifacts.PIXELS.parent) as folder:
        path = f"{folder}/many.npy"
        many = np.lib.format.open_memmap(path, "w+", np.uint8, (IMAGES, *decoded.shape[1:]))
        for begin in range(0, IMAGES, len(decoded)):
            many[begin : begin + len(decoded)] = decoded[: IMAGES - begin]
        many.flush()
        del many
        pixels = np.load(path, mmap_mode="r")
        threads = cpus.usable()
        with artifacts.open_session("noop", "fp32") as session, Feeder(Decoded(pixels), threads) as feeder:
            run_passes(session, feeder, 1)
            taken = run_passes(session, feeder, PASSES).seconds
    rates = [IMAGES / each for each in taken]
    return {
        "feed_cached": figure(rates, "images/s"),
        "feed_cached_over_a100": figure([rate / A100 for rate in rates], "ratio"),
    }
