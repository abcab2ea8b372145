"""The engines' core rates against the libraries' own tools, on the same files, batch size and settings."""

from __future__ import annotations

import math
import re
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import artifacts
import numpy as np
from pairs import Figure, figure, ratio_of_rates

from stagebench.engines.base import Session
from stagebench.host import cpus
from stagebench.measure.feeding import Decoded, Feeder, Files
from stagebench.measure.scenarios.offline import run_passes
from stagebench.preprocessing import Preprocessing

# Windows of int8 on two streams vary by tens of percent from one to the next: short ones say nothing.
SECONDS = 4
PAIRS = 5
CACHED_PAIRS = 5


def resident_rate(session: Session, seconds: float = SECONDS) -> float:
    """Return images per second of a block of about so many seconds, with inputs resident."""
    once = session.repeat_resident(session.requests)
    requests = session.requests * max(1, math.ceil(seconds / once))
    return requests * len(session.slots[0]) / session.repeat_resident(requests)


def benchmark_app(precision: str) -> float:
    """Return the throughput that OpenVINO's own tool measures on the file that the engine was built from."""
    settings = artifacts.build_record("openvino", precision).found.settings
    streams = settings["NUM_STREAMS"]
    command = [
        str(Path(sys.executable).with_name("benchmark_app")),
        *("-m", str(artifacts.model_file("openvino", precision))),
        *("-shape", f"[{artifacts.BATCH},224,224,3]"),
        *("-d", "CPU", "-hint", "none", "-api", "async", "-t", str(SECONDS)),
        *("-nstreams", str(streams), "-nireq", str(streams), "-nthreads", str(settings["INFERENCE_NUM_THREADS"])),
        *("-infer_precision", str(settings["INFERENCE_PRECISION_HINT"])),
        *("-pin", "YES" if settings["ENABLE_CPU_PINNING"] else "NO"),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    found = re.search(r"Throughput:\s+([\d.]+) FPS", done.stdout)
    assert found, done.stdout
    return float(found.group(1))


def plain_loop(precision: str) -> Callable[[], float]:
    """Return what runs ONNX Runtime by its usual call, arrays in and arrays out, for the same time."""
    import onnxruntime

    session = onnxruntime.InferenceSession(
        str(artifacts.model_file("onnxruntime", precision)), providers=["CPUExecutionProvider"]
    )
    images = np.random.default_rng(0).integers(0, 256, (artifacts.BATCH, 224, 224, 3), np.uint8)

    def rate() -> float:
        done, begin = 0, time.perf_counter()
        while (taken := time.perf_counter() - begin) < SECONDS:
            session.run(None, {"images": images})
            done += artifacts.BATCH
        return done / taken

    return rate


def core_ratio(engine: str, precision: str) -> tuple[Figure, Figure, Figure]:
    """Return our core rate over the library's own, by turns, and both rates."""
    theirs = (lambda: benchmark_app(precision)) if engine == "openvino" else plain_loop(precision)
    with artifacts.open_session(engine, precision) as session:
        resident_rate(session, 1.0)
        return ratio_of_rates(lambda: resident_rate(session), theirs, PAIRS)


def shares_of_core(engine: str, precision: str) -> dict[str, Figure]:
    """Return whole and cached rates over the core rate, each measured by turns in one process."""
    rows = artifacts.validation_images()
    files = Files(artifacts.MANIFEST, rows, Preprocessing())
    pixels = np.load(artifacts.PIXELS, mmap_mode="r")
    threads = cpus.usable()

    def rate(session: Session, source: Any, passes: int) -> float:
        with Feeder(source, threads) as feeder:
            found = run_passes(session, feeder, passes)
        return len(source) * passes / sum(found.seconds)

    from stagebench.dataset.decode import resample

    resample.load_kernels()
    with artifacts.open_session(engine, precision) as session:
        core = resident_rate(session, 1.0)
        passes = max(1, round(SECONDS / 2 * core / len(rows)))
        rate(session, files, 1)
        shares: dict[str, list[float]] = {"whole": [], "cached": []}
        for _ in range(CACHED_PAIRS):
            # Core before and after, so that a slow drift of the machine cancels.
            before = resident_rate(session, SECONDS / 4)
            cached = rate(session, Decoded(pixels), passes)
            between = resident_rate(session, SECONDS / 4)
            whole = rate(session, files, passes)
            after = resident_rate(session, SECONDS / 4)
            shares["cached"].append(2 * cached / (before + between))
            shares["whole"].append(2 * whole / (between + after))
    return {name: figure(values, "ratio") for name, values in shares.items()}


def measure() -> dict[str, Any]:
    """Return `core_ratio` and its peers per precision, `whole_over_core` and `cached_over_core`."""
    results: dict[str, Any] = {}
    for engine in ("openvino", "onnxruntime"):
        suffix = "" if engine == "openvino" else "_onnxruntime"
        for precision in artifacts.PRECISIONS:
            ratio, ours, theirs = core_ratio(engine, precision)
            results.setdefault(f"core_ratio{suffix}", {})[precision] = ratio
            results.setdefault(f"core_rate{suffix}", {})[precision] = ours
            results.setdefault(f"peer_rate{suffix}", {})[precision] = theirs
    for precision in artifacts.PRECISIONS:
        shares = shares_of_core("openvino", precision)
        results.setdefault("cached_over_core", {})[precision] = shares["cached"]
        results.setdefault("whole_over_core", {})[precision] = shares["whole"]
    return results
