"""A card and an engine that stand in for real ones, for tests of the session's logic."""

from __future__ import annotations

from pathlib import Path

import cuda.core
import fake_cuda
import pytest
from fake_cuda import BATCH, CLASSES, CROP, World

from stagebench.engines import cuda as own_cuda
from stagebench.engines.tensorrt import session as tensorrt_session
from stagebench.engines.tensorrt.options import RunOptions
from stagebench.engines.tensorrt.session import TensorRTSession
from stagebench.host import gpu
from stagebench.records.machine import Accelerator

CARD = Accelerator(name="a card", uuid=f"GPU-{fake_cuda.UUID}", compute_capability="9.0", memory_bytes=80 << 30)


@pytest.fixture
def world(monkeypatch):
    """A card behind cuda.core's names; at the end nothing may be left on it and no destructor have complained."""
    made = World()
    for name, value in vars(made.cuda_core()).items():
        monkeypatch.setattr(cuda.core, name, value)
    monkeypatch.setattr(own_cuda, "require", lambda: made.call("require"))
    monkeypatch.setattr(gpu, "identity", lambda: CARD)
    monkeypatch.setattr(tensorrt_session, "_LOST", [])
    yield made
    assert made.faults == []


@pytest.fixture
def engine_file(tmp_path) -> Path:
    file = tmp_path / "x.engine"
    file.write_bytes(f"engine {BATCH} {CROP} {CLASSES}".encode())
    return file


@pytest.fixture
def opened(world, engine_file):
    """A function that opens a session; sessions that a test leaves open are closed after it."""
    sessions = []

    def opens(kind=TensorRTSession, trt=None, **options) -> TensorRTSession:
        session = kind(trt or world.tensorrt(), engine_file, BATCH, "fp16", RunOptions(**options))
        sessions.append(session)
        return session

    yield opens
    for session in sessions:
        session.close()
