"""The logic of a TensorRT session: order, lifetimes, padding, errors. It runs on a stand-in, not on a GPU.

What these tests prove is what `fake_cuda` says that it checks. That CUDA and TensorRT do what the session expects of
them is for tests/gpu to show.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from fake_cuda import BATCH, CLASSES, COMPUTE_S, CROP, D2H_S, H2D_S, StickyError, World
from support import ring

from stagebench import engines
from stagebench.engines import registry
from stagebench.engines.ownership import ForeignEngineError
from stagebench.engines.tensorrt import session as tensorrt_session
from stagebench.engines.tensorrt.options import RunOptions
from stagebench.engines.tensorrt.session import TensorRTSession
from stagebench.host import gpu, identity
from stagebench.host.environment import environment
from stagebench.measure.breakdown import Work
from stagebench.measure.feeding import Feeder
from stagebench.measure.scenarios.offline import run_passes
from stagebench.records.artifact import ChangedError
from stagebench.records.cells import Built, EngineRecord
from stagebench.records.envelope import FileEntry, Stopwatch
from stagebench.records.io import versions
from stagebench.vocabulary import Cell, RefusedError


def left(world: World) -> dict[str, int]:
    return {kind: count for kind, count in world.alive.items() if count}


def image_of(value: int) -> np.ndarray:
    return np.full((CROP, CROP, 3), value, np.uint8)


def send(session: TensorRTSession, values: list[int]) -> list[int]:
    """Send images of one value each through the ring; return the class of each."""

    def fill(number: int, slot: np.ndarray) -> None:
        for place, value in enumerate(values[number * BATCH : (number + 1) * BATCH]):
            slot[place] = image_of(value)

    found = ring.requests(session, len(values) // BATCH, fill)
    return [label for logits, _ in found for label in logits.argmax(1).tolist()]


@pytest.mark.parametrize("cuda_graphs", [True, False])
def test_every_slots_logits_are_those_of_its_images(cuda_graphs, opened):
    values = np.random.default_rng(0).integers(0, CLASSES, 40 * BATCH).tolist()
    session = opened(cuda_graphs=cuda_graphs)
    assert session.execution.cuda_graphs == ("captured" if cuda_graphs else "switched off")
    assert send(session, values) == values


def test_a_ring_has_at_least_three_slots_and_two_more_than_are_in_flight(opened):
    session = opened()
    assert len(session.slots) == session.ring(session.requests, BATCH) >= session.requests + 2 >= 3
    assert all(slot.shape == (BATCH, CROP, CROP, 3) and not slot.any() for slot in session.slots)


def test_copies_and_compute_have_streams_of_their_own_and_overlap(opened, world):
    session = opened()
    first = len(world.operations)
    for k in range(session.requests):
        session.launch(k)
    timings = [session.wait(k)[1] for k in range(session.requests)]
    assert all(timing == pytest.approx((H2D_S, COMPUTE_S, D2H_S)) for timing in timings)
    done = [operation for operation in world.operations[first:] if operation.kind != "record"]
    assert [operation.kind for operation in done] == ["copy in", "inference", "copy out"] * session.requests
    # Each next request is copied in while the one before it computes.
    for before, after in zip(done[1::3], done[3::3], strict=False):
        assert after.begins < before.ends
        assert not after.follows(before) or after.ends <= before.ends
    whole = done[-1].ends - done[0].begins
    assert whole == pytest.approx(H2D_S + session.requests * COMPUTE_S + D2H_S)
    assert whole < sum(map(sum, timings))


def test_a_resident_block_copies_nothing(opened, world):
    session = opened()
    first = len(world.operations)
    assert session.repeat_resident(3 * session.requests) == pytest.approx(3 * session.requests * COMPUTE_S)
    kinds = {operation.kind for operation in world.operations[first:]}
    assert kinds == {"record", "inference"}


@dataclass
class Images:
    """A source of images of one value each."""

    values: list[int]

    def __len__(self) -> int:
        return len(self.values)

    def fill(self, begin: int, out: np.ndarray) -> Work:
        for offset in range(len(out)):
            out[offset] = image_of(self.values[begin + offset])
        return Work(0.0, 0.0, 0.0, 0.0)


@pytest.mark.parametrize("cuda_graphs", [True, False])
def test_the_last_batch_is_padded_and_its_padding_dropped(cuda_graphs, opened):
    """By the real passes: 11 images in batches of 2, three times over, without draining in between."""
    values = [1, 2, 3, 4, 5, 1, 2, 3, 4, 5, 1]
    session = opened(cuda_graphs=cuda_graphs)
    with Feeder(Images(values), threads=2) as feeder:
        passes = run_passes(session, feeder, 3)
    assert passes.classes[:, :, 0].tolist() == [values] * 3


def test_closing_gives_everything_back_in_the_order_of_dependencies(opened, world):
    session = opened()
    session.launch(0)  # nobody waits for it
    session.close()
    session.close()
    assert left(world) == {}
    order = [kind for kind in world.given_back if kind in ("graph", "context", "engine", "runtime", "pool")]
    assert order == ["graph"] * session.requests + ["context", "engine", "runtime", "pool"]
    assert not world.pending()


@pytest.mark.parametrize(
    ("call", "result", "words"),
    [
        ("Runtime", lambda: False, "cannot initialise CUDA"),
        ("context", None, "no execution context: out of memory"),
        ("pin", RuntimeError("CUDA_ERROR_OUT_OF_MEMORY"), "OUT_OF_MEMORY"),
        ("allocate", RuntimeError("CUDA_ERROR_OUT_OF_MEMORY"), "OUT_OF_MEMORY"),
        ("execute", lambda: False, "could not enqueue the inference: no kernel could be launched"),
        ("end_building", RuntimeError("CUDA_ERROR_STREAM_CAPTURE_INVALIDATED"), "CAPTURE_INVALIDATED"),
    ],
)
def test_an_error_while_opening_gives_everything_back(call, result, words, opened, world):
    def fail():
        if isinstance(result, Exception):
            raise result
        return result() if result is not None else None

    world.failing[call] = fail
    with pytest.raises((RuntimeError, RefusedError), match=words):
        opened()
    assert left(world) == {}


def test_an_engine_that_is_none_is_refused_in_the_librarys_words(opened, world, engine_file):
    engine_file.write_bytes(b"nothing")
    with pytest.raises(RuntimeError, match="cannot be loaded: the engine's header is wrong"):
        opened()
    assert left(world) == {}


def test_an_engine_of_another_batch_size_is_refused(world, engine_file):
    with pytest.raises(RuntimeError, match=r"does not take \(3, 4, 4, 3\)"):
        TensorRTSession(world.tensorrt(), engine_file, 3, "fp16", RunOptions())
    assert left(world) == {}


@pytest.mark.parametrize(
    "call",
    [lambda session: session.launch(1), lambda session: session.wait(0), lambda session: session.repeat_resident(3)],
    ids=["launch", "wait", "resident"],
)
def test_after_a_sticky_error_it_is_told_and_no_destructor_meets_the_card(call, opened, world):
    session = opened()
    session.launch(0)
    world.broken = True
    with pytest.raises(StickyError, match="ILLEGAL_ADDRESS"), session:
        call(session)
    assert world.alive["context"] == 1  # lost, and the process ends
    assert world.faults == []
    world.broken = False
    world.operations.clear()
    tensorrt_session._LOST.clear()


@pytest.mark.parametrize(("capturable", "told"), [(True, "captured"), (False, "not capturable")])
def test_tensorrt_rtx_is_asked_whether_it_can_be_captured(capturable, told, opened, world):
    session = opened(trt=world.tensorrt(capturable=capturable))
    assert session.execution.cuda_graphs == told
    assert send(session, [1, 2, 3, 4]) == [1, 2, 3, 4]


def test_another_card_than_the_records_is_refused(opened, world, monkeypatch):
    another = gpu.identity().model_copy(update={"uuid": "GPU-00000000-0000-0000-0000-000000000000"})
    monkeypatch.setattr(gpu, "identity", lambda: another)
    with pytest.raises(RefusedError, match="CUDA_DEVICE_ORDER"):
        opened()
    assert left(world) == {}


# Engines that were built for something else.


@pytest.fixture
def built(engine_file, tmp_path):
    """The record of an engine that fits this machine."""
    onnx = tmp_path / "fp16.onnx"
    onnx.write_bytes(b"model")
    engine = registry.get("tensorrt")
    return EngineRecord.make(
        Stopwatch(),
        result=Built(build_s=1.0),
        inputs={"source": FileEntry.of(onnx)},
        outputs={"engine": FileEntry.of(engine_file)},
        versions=versions(*engine.distributions),
        cell=Cell(device="local", model="tiny", engine="tensorrt", precision="fp16", batch=BATCH),
        device=identity.identity(),
        accelerator=engine.accelerator(),
        ran_on=identity.ran_on(),
        environment=environment(),
        options={},
    )


def test_an_engine_of_this_machine_is_opened(world, engine_file, built, monkeypatch):
    engine = registry.get("tensorrt")
    monkeypatch.setattr(engine, "_import", world.tensorrt)
    with engine.open(engine_file, built) as session:
        assert session.execution.executed == {"fp16": 1}
        assert session.execution.details == {"tensor_types": {"fp16": 1}}
    assert left(world) == {}


def test_what_is_executed_is_read_from_the_engine_whatever_was_asked_for(world, engine_file, built, monkeypatch):
    """An engine that was built for fp16 and computes in single precision is refused, with the counts."""
    engine = registry.get("tensorrt")
    monkeypatch.setattr(engine, "_import", world.tensorrt)
    world.computes_in = "FP32"
    with pytest.raises(RefusedError, match="built for fp16, but its layers compute in 1 x fp32") as refused:
        engine.open(engine_file, built)
    assert refused.value.state.status == "unsupported"
    assert left(world) == {}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda gpu: {"device": identity.identity().model_copy(update={"gpu": gpu})}, "7.0"),
        (lambda gpu: {"accelerator": gpu}, "accelerator another card there, a card here"),
        (
            lambda gpu: {"versions": dict.fromkeys(versions(*registry.get("tensorrt").distributions), "9.9")},
            "9.9 there",
        ),
    ],
    ids=["device", "accelerator", "version"],
)
def test_a_foreign_engine_is_refused_before_cuda_is_touched(change, words, world, engine_file, built, monkeypatch):
    engine = registry.get("tensorrt")
    monkeypatch.setattr(engine, "_import", world.tensorrt)
    other = gpu.identity().model_copy(update={"name": "another card", "compute_capability": "7.0"})
    with pytest.raises(ForeignEngineError, match=words):
        engine.open(engine_file, built.model_copy(update=change(other)))
    assert not world.alive


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [("fp16.onnx", b"other", r"fp16\.onnx: changed since"), ("x.engine", b"engine 2 4 7", r"x\.engine: changed since")],
    ids=["model", "file"],
)
def test_changed_files_are_refused_before_cuda_is_touched(
    name, content, words, world, engine_file, built, tmp_path, monkeypatch
):
    engine = registry.get("tensorrt")
    monkeypatch.setattr(engine, "_import", world.tensorrt)
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ChangedError, match=words):
        engine.open(engine_file, built)
    assert not world.alive


def test_nothing_of_torch_is_imported():
    code = (
        "import sys, stagebench.engines.tensorrt.session; sys.exit('torch' in sys.modules or 'pycuda' in sys.modules)"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(engines.__file__).parents[2])}
    assert subprocess.run([sys.executable, "-c", code], env=environment, check=False).returncode == 0


def test_what_is_recorded_of_a_run_is_plain_json(opened):
    json.loads(opened().execution.model_dump_json())
