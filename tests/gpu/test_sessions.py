"""Engines on a real card: right logits, hidden copies, graphs that change nothing, memory given back."""

from __future__ import annotations

import re
import shutil
import subprocess
import time
from importlib import import_module

import numpy as np
import pytest
from cuda.bindings import runtime
from support.ring import requests, run

from stagebench.engines import registry
from stagebench.engines.tensorrt.options import RunOptions
from stagebench.engines.tensorrt.session import open_session
from stagebench.host import gpu, gpu_state
from stagebench.host.environment import environment
from stagebench.host.gpu_memory import DeviceMemory
from stagebench.job import supervise
from stagebench.model import checks
from stagebench.vocabulary import Status

BATCH = 8
# Least mean cosine similarity with the reference's logits, by precision.
LEAST = {"fp32": 0.99999, "tf32": 0.9999, "fp16": 0.9999, "bf16": 0.999, "int8": 0.98, "fp8": 0.98}


def free_bytes() -> int:
    status, free, _ = runtime.cudaMemGetInfo()
    assert int(status) == 0
    return free


def opened(built, name, **options):
    if built.record.status is Status.UNSUPPORTED:  # TensorRT-RTX on an H100, fp8 on an A100
        pytest.skip(built.record.reason)
    assert built.record.ok, built.record.reason
    engine = registry.get(name)
    return engine.open(built.file, built.record, engine.run_options(**options))


@pytest.mark.parametrize("precision", LEAST)
def test_a_precision_gives_torchs_logits(precision, library, build, images, by_torch):
    """Built, run and compared with torch in the same precision on the same card; int8 and fp8 with torch's fp32."""
    built = build(library, precision)
    with opened(built, library) as session:
        logits, timings = run(session, images)
        assert session.execution.executed
        assert session.repeat_resident(4 * session.requests) > 0
    assert min(min(timing) for timing in timings) > 0
    agreement = checks.agreement(logits, by_torch(precision), "torch")
    assert agreement.cosine > LEAST[precision]
    assert agreement.top1_agreement >= (90 if precision in ("int8", "fp8") else 96)


@pytest.mark.parametrize("precision", ["fp32", "tf32", "fp16", "bf16"])
def test_torch_gives_the_models_logits(precision, build, images, wanted):
    built = build("torch", precision)
    with opened(built, "torch") as session:
        logits, timings = run(session, images)
        assert ("tf32" in session.execution.executed) is (precision == "tf32")
        assert session.repeat_resident(4 * session.requests) > 0
    assert min(timing.compute for timing in timings) > 0
    assert checks.agreement(logits, wanted, "fp32").cosine > LEAST[precision]


def test_graphs_change_nothing(library, build, images):
    built = build(library, "fp32")
    with opened(built, library, cuda_graphs=True) as session:
        with_graphs, _ = run(session, images)
        assert session.execution.cuda_graphs in ("captured", "not capturable")
    with opened(built, library, cuda_graphs=False) as session:
        without, _ = run(session, images)
        assert session.execution.cuda_graphs == "switched off"
    assert np.array_equal(with_graphs, without)


@pytest.mark.parametrize("cuda_graphs", [True, False])
def test_copies_hide_behind_compute(cuda_graphs, library, build_resnet50, images):
    """The whole time of many batches is less than the sum of their parts, and nearly that of compute alone."""
    batch, count = 64, 60
    built = build_resnet50(library, "fp16", batch)
    with opened(built, library, cuda_graphs=cuda_graphs) as session:
        for slot in session.slots:  # the slots keep their images: what is timed is the card, not numpy
            slot[:] = np.resize(images, slot.shape)
        through_the_ring(session, 10)
        begin = time.perf_counter()
        timings = through_the_ring(session, count)
        whole = time.perf_counter() - begin
    assert whole < 0.98 * sum(sum(timing) for timing in timings)
    assert whole < 1.1 * sum(timing.compute for timing in timings)


def through_the_ring(session, count) -> list:
    """Launch `count` batches as they lie in the slots, as many in flight as the session keeps; return the timings."""
    return [timing for _, timing in requests(session, count)]


def test_memory_is_given_back(library, build_resnet50):
    built = build_resnet50(library, "fp32")
    opened(built, library).close()  # the library's own first allocations stay
    before = free_bytes()
    for _ in range(3):
        session = opened(built, library)
        assert before - free_bytes() > 64 * 2**20
        session.close()
        session.close()
        assert before - free_bytes() < 16 * 2**20


def test_memory_is_given_back_after_an_error(library, build_resnet50):
    built = build_resnet50(library, "fp32")
    opened(built, library).close()
    before = free_bytes()
    with pytest.raises(RuntimeError, match="does not take"):
        open_session(import_module(library), built.file, BATCH + 1, "fp32", RunOptions())
    assert before - free_bytes() < 16 * 2**20


def test_the_memory_of_a_run_is_seen(library, build_resnet50):
    built = build_resnet50(library, "fp32")
    memory = DeviceMemory()
    with opened(built, library) as session, memory:
        session.repeat_resident(session.requests)
    assert memory.peak().used_bytes > 64 * 2**20
    assert memory.peak().source in ("process", "card")


def reach_outside(file, record, library) -> None:
    """Let an inference read from an address that is nobody's."""
    with registry.get(library).open(file, record, RunOptions(cuda_graphs=False)) as session:
        loaded = session._loaded
        loaded.context.set_tensor_address("images", 1 << 20)
        loaded.context.set_tensor_address("logits", 1 << 20)
        loaded.context.execute_async_v3(int(session._compute.handle))
        session._compute.sync()


def test_a_sticky_error_ends_the_process_with_a_line_that_names_it(library, build):
    built = build(library, "fp32")
    opened(built, library).close()
    ended = supervise.run(reach_outside, file=built.file, record=built.record, library=library)
    assert ended is not None
    assert re.search("(?i)illegal", ended.state.reason), ended.state.reason


def test_a_second_build_uses_the_timing_cache(build):
    if not registry.get("tensorrt").is_installed():
        pytest.skip("TensorRT is not installed")
    first, second = (build("tensorrt", "fp16", 4).record.found.details["timing_cache"] for _ in range(2))
    assert second["sha256_before"] == first["sha256_after"]


def test_the_card_is_described():
    known, shown, now = gpu.identity(), environment(), gpu_state.state()
    assert re.fullmatch(r"\d+\.\d", known.compute_capability)
    assert known.uuid.startswith("GPU-")
    assert known.name in shown.accelerator
    assert shown.driver != "none"
    assert now.sm_clock_mhz > 0


@pytest.mark.skipif(shutil.which("trtexec") is None, reason="trtexec is not installed")
@pytest.mark.parametrize("precision", ["fp16", "tf32"])
def test_core_throughput_is_trtexecs(precision, build_resnet50):
    """Within 3 % of TensorRT's own tool on the same engine, with one engine's runs between those of the other."""
    batch, ours, theirs = 256, [], []
    built = build_resnet50("tensorrt", precision, batch)
    for _ in range(3):
        with opened(built, "tensorrt") as session:
            requests = 100 * session.requests
            session.repeat_resident(requests)
            ours.append(requests / session.repeat_resident(requests))
        theirs.append(trtexec(built.file))
    assert 0.97 < np.median(ours) / np.median(theirs) < 1.03, (ours, theirs)


def trtexec(engine_file) -> float:
    """Return the inferences per second that trtexec measures in the way of a resident block.

    The flags are what TensorRT 10 needs for that; in 11 they are the defaults and are taken without effect.
    """
    done = subprocess.run(
        [
            "trtexec",
            f"--loadEngine={engine_file}",
            "--useCudaGraph",
            "--noDataTransfers",
            "--useSpinWait",
            "--warmUp=1000",
            "--duration=5",
        ],
        capture_output=True,
        text=True,
        check=True,
    )
    return float(re.search(r"Throughput: ([\d.]+) qps", done.stdout).group(1))
