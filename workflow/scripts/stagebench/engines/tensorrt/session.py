"""Running a TensorRT engine: a ring of slots whose copies hide behind compute."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, cast

import numpy as np

from stagebench.engines.base import Session, Timing
from stagebench.engines.cuda import Card, elapsed_s
from stagebench.engines.tensorrt import inspector, log
from stagebench.engines.tensorrt.options import RunOptions
from stagebench.records.cells import Execution
from stagebench.vocabulary import RefusedError, unavailable

if TYPE_CHECKING:
    import tensorrt
    import tensorrt_rtx
    from cuda.core import Stream
    from cuda.core.graph import Graph
    from numpy.typing import NDArray

    from stagebench.engines.tensorrt.api import TensorRT
    from stagebench.engines.tensorrt.log import Messages

_INPUT, _OUTPUT = "images", "logits"
# One request in each phase: its images are copied in, it computes, its logits are copied out.
_REQUESTS = 3
# What cannot be given back after a sticky error: a destructor that meets one may end the process before its error is
# reported. The process that runs a cell ends right after it.
_LOST: list[object] = []


class _Slot:
    """One place of the ring: pinned memory on the host, and an event around each phase of its request."""

    def __init__(self, card: Card, shape: tuple[int, ...], classes: int) -> None:
        self.host_images, self.images = card.pinned(shape, np.uint8)
        self.host_logits, self.logits = card.pinned((shape[0], classes), np.float32)
        self.copying_in, self.copied_in = card.event(), card.event()
        self.computing, self.computed = card.event(), card.event()
        self.copying_out, self.done = card.event(), card.event()


class _Place:
    """Memory on the card of one request in flight. There are fewer than slots, and so there are fewer graphs."""

    def __init__(self, card: Card, slot: _Slot) -> None:
        self.images = card.allocate(slot.images.nbytes)
        self.logits = card.allocate(slot.logits.nbytes)


class _Loaded:
    """An engine with its one execution context, ready for requests of one shape."""

    def __init__(self, trt: TensorRT, engine_file: Path, batch: int) -> None:
        self.messages: Messages = log.begin(trt)
        try:
            self._load(trt, engine_file)
            self.shape = (batch, *tuple(self.engine.get_tensor_shape(_INPUT))[1:])
            if not self.context.set_input_shape(_INPUT, self.shape):
                raise RuntimeError(f"{engine_file} does not take {self.shape}: {self.messages.explain()}")
            self.classes = int(tuple(self.context.get_tensor_shape(_OUTPUT))[1])
        except BaseException:
            self.close()
            raise

    def _load(self, trt: TensorRT, engine_file: Path) -> None:
        try:
            self.runtime: tensorrt.Runtime = trt.Runtime(self.messages)
        except TypeError:  # pybind11: the factory gave nothing
            reason = f"{trt.__name__} cannot initialise CUDA ({self.messages.explain()})"
            raise RefusedError(unavailable(reason)) from None
        self.engine: tensorrt.ICudaEngine = self.runtime.deserialize_cuda_engine(engine_file.read_bytes())
        if self.engine is None:
            raise RuntimeError(f"{engine_file} cannot be loaded: {self.messages.explain()}")
        self.context: tensorrt.IExecutionContext = self.engine.create_execution_context()
        if self.context is None:
            raise RuntimeError(f"{engine_file}: no execution context: {self.messages.explain()}")

    def enqueue(self, place: _Place, stream: Stream) -> None:
        """Put the inference of a place on a stream."""
        self.context.set_tensor_address(_INPUT, int(place.images.handle))
        self.context.set_tensor_address(_OUTPUT, int(place.logits.handle))
        if not self.context.execute_async_v3(int(stream.handle)):
            raise RuntimeError(f"TensorRT could not enqueue the inference: {self.messages.explain()}")

    def is_capturable(self, stream: Stream) -> bool:
        """Return whether an inference can become a CUDA graph; TensorRT-RTX may have to compile in between."""
        if not hasattr(self.context, "is_stream_capturable"):
            return True
        return bool(cast("tensorrt_rtx.IExecutionContext", self.context).is_stream_capturable(int(stream.handle)))

    def close(self) -> None:
        """Let go of context, engine and runtime, in this order: what is let go of last is what the others need."""
        for name in ("context", "engine", "runtime"):
            self.__dict__.pop(name, None)


class TensorRTSession(Session):
    """Copies in, compute and copies out have a stream each, ordered by events; one execution context computes.

    With CUDA graphs each request's inference is one graph launch; without, TensorRT enqueues its kernels each time.
    """

    def __init__(self, trt: TensorRT, engine_file: Path, batch: int, precision: str, options: RunOptions) -> None:
        self.requests = _REQUESTS
        self.slots = []
        self._loaded: _Loaded | None = None
        self._ring: list[_Slot] = []
        self._places: list[_Place] = []
        self._launched = 0
        self._graphs: list[Graph] = []
        self._enqueue: list[Callable[[], None]] = []
        self._card: Card | None = Card()
        try:
            loaded = self._open(self._card, trt, engine_file, batch)
            graphs = self._capture(loaded) if options.cuda_graphs else "switched off"
            found = inspector.describe(trt, loaded.engine)
            inspector.require_executed(found.executed, precision)
        except BaseException:
            self.close()
            raise
        self.execution = Execution(
            executed=found.executed,
            streams=3,
            cuda_graphs=graphs,
            device_memory_bytes=found.device_memory_bytes,
            details={"tensor_types": dict(found.tensor_types)},
        )

    def _open(self, card: Card, trt: TensorRT, engine_file: Path, batch: int) -> _Loaded:
        """Load the engine, make streams and ring, and run every place once."""
        loaded = self._loaded = _Loaded(trt, engine_file, batch)
        self._in, self._compute, self._out = card.stream(), card.stream(), card.stream()
        self._began, self._ended = card.event(), card.event()
        self._ring = [_Slot(card, loaded.shape, loaded.classes) for _ in range(self.ring(_REQUESTS, batch))]
        self.slots = [slot.images for slot in self._ring]
        self._places = [_Place(card, self._ring[0]) for _ in range(_REQUESTS)]
        self._enqueue = [self._by_hand(loaded, place) for place in self._places]
        # The first run of a context initialises what a graph must not capture (TensorRT's documentation of graphs).
        for enqueue in self._enqueue:
            enqueue()
        self._compute.sync()
        return loaded

    def _by_hand(self, loaded: _Loaded, place: _Place) -> Callable[[], None]:
        return lambda: loaded.enqueue(place, self._compute)

    def _by_graph(self, graph: Graph) -> Callable[[], None]:
        return lambda: graph.launch(self._compute)

    def _capture(self, loaded: _Loaded) -> str:
        """Capture each place's inference as a graph; return "captured", or why the engine cannot be.

        A graph keeps the addresses that its place had when it was captured, so each place has its own.
        """
        if not loaded.is_capturable(self._compute):
            return "not capturable"
        for enqueue in self._enqueue:
            builder = self._compute.create_graph_builder()
            try:
                builder.begin_building("thread_local")
                enqueue()
                builder.end_building()
                self._graphs.append(builder.complete())
            finally:
                builder.close()  # which ends a capture that an error broke off
            self._graphs[-1].upload(self._compute)
        self._enqueue = [self._by_graph(graph) for graph in self._graphs]
        self._compute.sync()
        return "captured"

    def launch(self, k: int) -> None:
        """Enqueue copy, inference and copy back of a slot, in the place of the request that was waited for last."""
        slot, number = self._ring[k], self._launched % self.requests
        place = self._places[number]
        self._launched += 1
        self._in.record(slot.copying_in)
        place.images.copy_from(slot.host_images, stream=self._in)
        self._in.record(slot.copied_in)
        self._compute.wait(slot.copied_in)
        self._compute.record(slot.computing)
        self._enqueue[number]()
        self._compute.record(slot.computed)
        self._out.wait(slot.computed)
        self._out.record(slot.copying_out)
        slot.host_logits.copy_from(place.logits, stream=self._out)
        self._out.record(slot.done)

    def wait(self, k: int) -> tuple[NDArray[np.float32], Timing]:
        """Return the slot's logits and the times that its events recorded."""
        slot = self._ring[k]
        slot.done.sync()
        timing = Timing(
            elapsed_s(slot.copying_in, slot.copied_in),
            elapsed_s(slot.computing, slot.computed),
            elapsed_s(slot.copying_out, slot.done),
        )
        return slot.logits, timing

    def repeat_resident(self, n: int) -> float:
        """Enqueue `n` inferences on images that are on the card, and time them by events."""
        self._compute.record(self._began)
        for i in range(n):
            self._enqueue[i % self.requests]()
        self._compute.record(self._ended)
        self._ended.sync()
        return elapsed_s(self._began, self._ended)

    def close(self) -> None:
        """Give everything back, in the order of its dependencies; safe after an error and twice."""
        card, self._card = self._card, None
        if card is None:
            return
        self.slots = []
        self._enqueue = []
        loaded, graphs = self._loaded, self._graphs
        self._loaded, self._graphs, self._ring, self._places = None, [], [], []
        if not card.settle():
            _LOST.extend([card, loaded, *graphs])
            return
        for graph in graphs:
            graph.close()
        if loaded is not None:
            loaded.close()
        card.release()


def open_session(trt: TensorRT, engine_file: Path, batch: int, precision: str, options: RunOptions) -> Session:
    """Load an engine file on the first visible card.

    Raises:
        RefusedError: no driver, no device, or layers that compute in another type than the precision's.
        RuntimeError: the engine cannot be loaded or run, in the library's own words.
    """
    return TensorRTSession(trt, engine_file, batch, precision, options)
