"""The stand-in for CUDA and TensorRT finds each fault that it is to find, and has no name that the real ones lack.

Sessions are made wrong here on purpose. What this proves is that the tests of the session's logic can fail, not that a
GPU behaves like the stand-in.
"""

from __future__ import annotations

import inspect

import cuda.core
import cuda.core.graph
import fake_cuda
import pytest
from bindings_names import FILES, Release
from fake_cuda import OrderError

from stagebench.engines import cuda as own_cuda
from stagebench.engines.tensorrt.session import TensorRTSession


class WithoutWaitingForTheCopy(TensorRTSession):
    def launch(self, k):
        slot = self._ring[k]
        self._places[0].images.copy_from(slot.host_images, stream=self._in)
        self._enqueue[k]()


class WithoutWaitingForCompute(TensorRTSession):
    def launch(self, k):
        slot = self._ring[k]
        self._enqueue[k]()
        slot.host_logits.copy_from(self._places[0].logits, stream=self._out)


class WithoutRecording(TensorRTSession):
    def launch(self, k):
        slot = self._ring[k]
        self._places[0].images.copy_from(slot.host_images, stream=self._in)
        self._compute.wait(slot.copied_in)


class OnTwoStreams(TensorRTSession):
    def launch(self, k):
        self._loaded.enqueue(self._places[0], self._compute)
        self._loaded.enqueue(self._places[1], self._out)


class MeasuredTooEarly(TensorRTSession):
    def launch(self, k):
        super().launch(k)
        slot = self._ring[k]
        own_cuda.elapsed_s(slot.copying_in, slot.copied_in)


class UsedAfterFree(TensorRTSession):
    def launch(self, k):
        self._places[0].images.close()
        super().launch(k)


class FreedInUse(TensorRTSession):
    def launch(self, k):
        super().launch(k)
        self._places[0].logits.close()


class GraphFreedInUse(TensorRTSession):
    def launch(self, k):
        super().launch(k)
        self._graphs[0].close()


class StreamFreedInUse(TensorRTSession):
    def launch(self, k):
        super().launch(k)
        self._out.close()


class CapturedWhileTheHostWaits(TensorRTSession):
    def launch(self, k):
        builder = self._compute.create_graph_builder()
        builder.begin_building("thread_local")
        try:
            self._compute.sync()
        finally:
            builder.close()


class GraphWithoutAnEnd(TensorRTSession):
    def launch(self, k):
        builder = self._compute.create_graph_builder()
        builder.begin_building("thread_local")
        try:
            builder.complete()
        finally:
            builder.close()


@pytest.mark.parametrize("cuda_graphs", [True, False])
@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (WithoutWaitingForTheCopy, "inference and copy in touch the same memory"),
        (WithoutWaitingForCompute, "copy out and inference touch the same memory"),
        (WithoutRecording, "never recorded"),
        (OnTwoStreams, "inference and inference touch the same memory"),
        (MeasuredTooEarly, "before the host knows"),
        (UsedAfterFree, "device memory is used after it was given back"),
        (FreedInUse, "device memory is given back while it is in use"),
        (StreamFreedInUse, "stream is given back while it is in use"),
        (CapturedWhileTheHostWaits, "the host waits while a stream is captured"),
        (GraphWithoutAnEnd, "completed before its capture has ended"),
    ],
)
def test_a_wrong_session_is_found_out(wrong, words, cuda_graphs, opened):
    session = opened(wrong, cuda_graphs=cuda_graphs)
    with pytest.raises(OrderError, match=words):
        session.launch(0)


def test_a_graph_that_is_given_back_too_early_is_found_out(opened):
    session = opened(GraphFreedInUse)
    with pytest.raises(OrderError, match="graph is given back while it is in use"):
        session.launch(0)


@pytest.mark.parametrize("cuda_graphs", [True, False])
def test_more_launches_than_are_kept_in_flight_are_found_out(cuda_graphs, opened):
    session = opened(cuda_graphs=cuda_graphs)
    for k in range(session.requests):
        session.launch(k)
    with pytest.raises(OrderError, match="copy in and inference touch the same memory"):
        session.launch(session.requests)


def test_logits_that_are_read_too_early_are_not_there(opened):
    session = opened()
    session.slots[0][:] = 3
    session.launch(0)
    assert not session._ring[0].logits.any()
    assert session.wait(0)[0].argmax(1).tolist() == [3, 3]


def test_a_context_that_is_given_back_in_use_is_found_out(opened, world):
    session = opened(cuda_graphs=False)
    session.launch(0)
    session._enqueue = []
    session._loaded.close()
    assert world.faults == ["a context is given back while it is in use"]
    world.faults.clear()


# The stand-in has no name that the real libraries do not have.


@pytest.mark.parametrize("release", [Release.read(file) for file in FILES], ids=str)
def test_the_stand_in_has_only_names_of_the_real_tensorrt(release):
    kinds = [fake_cuda.Runtime, fake_cuda.ICudaEngine, fake_cuda.IExecutionContext, fake_cuda.EngineInspector]
    own = {"kind", "require_alive"}
    for kind in kinds:
        names = {name for name in dir(kind) if not name.startswith("_")} - own
        assert names
        assert all(release.member(kind.__name__, name) is not None for name in names), (kind, names)
    if release.library == "tensorrt_rtx":
        assert release.member("IExecutionContext", "is_stream_capturable") is not None


@pytest.mark.parametrize(
    ("fake", "real"),
    [
        (fake_cuda.Device, cuda.core.Device),
        (fake_cuda.Stream, cuda.core.Stream),
        (fake_cuda.Event, cuda.core.Event),
        (fake_cuda.Buffer, cuda.core.Buffer),
        (fake_cuda.Pool, cuda.core.DeviceMemoryResource),
        (fake_cuda.Pinned, cuda.core.LegacyPinnedMemoryResource),
        (fake_cuda.GraphBuilder, cuda.core.graph.GraphBuilder),
        (fake_cuda.Graph, cuda.core.graph.Graph),
    ],
    ids=lambda kind: kind.__name__,
)
def test_the_stand_in_has_only_names_of_the_real_cuda_core(fake, real):
    own = {"kind", "require_alive", "follow", "last"}
    names = {name for name, _ in inspect.getmembers(fake) if not name.startswith("_")} - own
    assert names
    assert all(hasattr(real, name) for name in names), names
