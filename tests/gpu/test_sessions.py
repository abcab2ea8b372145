"""Engines on a real card: right logits, hidden copies, graphs that change nothing, memory given back."""

from __future__ import annotations

import re
import shutil
import subprocess
import time

import numpy as np
import pytest
from cuda.bindings import runtime
from gpu_helpers import BATCH, run

from stagebench import engines, gpu
from stagebench.model import checks

# Least mean cosine similarity with fp32 logits, by precision.
LEAST = {"fp32": 0.99999, "tf32": 0.9999, "fp16": 0.9999, "bf16": 0.999, "int8": 0.98, "fp8": 0.98}


def free_bytes() -> int:
    status, free, _ = runtime.cudaMemGetInfo()
    assert int(status) == 0
    return free


def opened(built, name, batch=BATCH, **options):
    return engines.get(name).open(built.file, built.record, batch, options)


@pytest.mark.parametrize("precision", LEAST)
def test_a_precision_gives_the_models_logits(precision, library, build, images, wanted):
    built = build(library, precision)
    if built.record["status"] == "unsupported":
        pytest.skip(built.record["reason"])
    assert built.record["status"] == "ok", built.record["reason"]
    with opened(built, library) as session:
        logits, timings = run(session, images)
        assert session.execution["tensor_types"]
        assert session.repeat_resident(4 * session.requests) > 0
    assert min(min(timing) for timing in timings) > 0
    assert checks.agreement(logits, wanted)["cosine"] > LEAST[precision]


@pytest.mark.parametrize("precision", ["fp32", "tf32", "fp16", "bf16"])
def test_torch_gives_the_models_logits(precision, build, images, wanted):
    built = build("torch", precision)
    if built.record["status"] == "unsupported":
        pytest.skip(built.record["reason"])
    with opened(built, "torch") as session:
        logits, timings = run(session, images)
        assert session.execution["tf32"] is (precision == "tf32")
        assert session.repeat_resident(4) > 0
    assert min(timing.compute for timing in timings) > 0
    assert checks.agreement(logits, wanted)["cosine"] > LEAST[precision]


def test_graphs_change_nothing(library, build, images):
    built = build(library, "fp32")
    with opened(built, library, cuda_graphs=True) as session:
        with_graphs, _ = run(session, images)
        assert session.execution["cuda_graphs"] in ("captured", "not capturable")
    with opened(built, library, cuda_graphs=False) as session:
        without, _ = run(session, images)
        assert session.execution["cuda_graphs"] == "switched off"
    assert np.array_equal(with_graphs, without)


def test_copies_hide_behind_compute(library, build, images):
    """The whole takes less than its parts one after the other."""
    batch, count = 32, 60
    built = build(library, "fp32", batch)
    with opened(built, library, batch) as session:
        many = np.tile(images, (count, 1, 1, 1))
        run(session, many[: 4 * batch])
        for slot in session.slots:  # the slots keep their images: what is timed is the card, not numpy
            slot[:] = images
        begin = time.perf_counter()
        timings, launched = [], 0
        for done in range(count):
            while launched < count and launched - done < session.requests:
                session.launch(launched % len(session.slots))
                launched += 1
            timings.append(session.wait(done % len(session.slots))[1])
        whole = time.perf_counter() - begin
    assert whole < sum(sum(timing) for timing in timings)


def test_memory_is_given_back(library, build):
    built = build(library, "fp32")
    opened(built, library).close()  # the library's own first allocations stay
    before = free_bytes()
    for _ in range(3):
        session = opened(built, library)
        session.close()
        session.close()
    assert before - free_bytes() < 16 * 2**20


def test_a_second_build_uses_the_timing_cache(build):
    if shutil.which("nvidia-smi") is None or engines.get("tensorrt").version() == "none":
        pytest.skip("TensorRT is not installed")
    first = build("tensorrt", "fp16", 4).record["build"]["timing_cache"]
    second = build("tensorrt", "fp16", 4).record["build"]["timing_cache"]
    assert second["sha256_before"] == first["sha256_after"]


def test_the_card_is_described():
    known, shown, now = gpu.identity(), gpu.environment(), gpu.snapshot()
    assert re.fullmatch(r"\d+\.\d", known["compute_capability"])
    assert known["uuid"].startswith("GPU-")
    assert known["name"] in shown["Accelerator"]
    assert shown["Driver"] != "none"
    assert now["sm_clock_mhz"] > 0


@pytest.mark.skipif(shutil.which("trtexec") is None, reason="trtexec is not installed")
def test_core_throughput_is_trtexecs(build):
    """Within 3 % of TensorRT's own tool on the same engine."""
    built = build("tensorrt", "fp16", 32)
    ours = []
    with opened(built, "tensorrt", 32) as session:
        session.repeat_resident(200)
        ours = [200 / session.repeat_resident(200) for _ in range(5)]
    done = subprocess.run(
        ["trtexec", f"--loadEngine={built.file}", "--useCudaGraph", "--noDataTransfers", "--duration=5"],
        capture_output=True,
        text=True,
        check=True,
    )
    theirs = float(re.search(r"Throughput: ([\d.]+) qps", done.stdout).group(1))
    assert sorted(ours)[2] / theirs > 0.97
