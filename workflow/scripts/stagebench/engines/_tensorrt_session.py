"""Running a TensorRT engine: a ring of slots whose copies hide behind compute."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from stagebench.engines import _tensorrt_inspect, _tensorrt_log
from stagebench.engines.base import EngineUnavailableError, Session, Timing
from stagebench.engines.cuda import Card, elapsed_s

if TYPE_CHECKING:
    from numpy.typing import NDArray

_INPUT, _OUTPUT = "images", "logits"
# One request computes while the next one's images are copied in and the last one's logits out.
_REQUESTS = 2
_log = logging.getLogger("stagebench.tensorrt")


class _Slot:
    """One place of the ring: pinned memory on the host, its counterparts on the card, an event around each phase."""

    def __init__(self, card: Card, shape: tuple[int, ...], classes: int) -> None:
        self.host_images, self.images = card.pinned(shape, np.uint8)
        self.host_logits, self.logits = card.pinned((shape[0], classes), np.float32)
        self.card_images = card.allocate(self.images.nbytes)
        self.card_logits = card.allocate(self.logits.nbytes)
        self.copying_in, self.copied_in = card.event(), card.event()
        self.computing, self.computed = card.event(), card.event()
        self.copying_out, self.done = card.event(), card.event()


class TensorRTSession(Session):
    """Copies in, compute and copies out have a stream each, ordered by events; one execution context computes.

    With CUDA graphs each slot's inference is one graph launch; without, TensorRT enqueues its kernels each time.
    """

    def __init__(self, trt: Any, engine_file: Path, batch: int, precision: str, options: Mapping[str, Any]) -> None:
        self._card = Card()
        try:
            self._open(trt, engine_file, batch)
            graphs = self._capture() if options.get("cuda_graphs", True) else "switched off"
            described = _tensorrt_inspect.describe(trt, self._engine)
        except BaseException:
            self.close()
            raise
        self.execution = {
            "precision": precision,
            "tensor_types": described["tensor_types"],
            "device_memory_bytes": described["device_memory_bytes"],
            "cuda_graphs": graphs,
            "streams": 3,
        }

    def _open(self, trt: Any, engine_file: Path, batch: int) -> None:
        self.requests = _REQUESTS
        self.slots = []
        self._ring: list[_Slot] = []
        self._graphs: list[Any] = []
        self._context: Any = None
        self._engine: Any = None
        self._runtime: Any = None
        messages = _tensorrt_log.begin(trt)
        try:
            self._runtime = trt.Runtime(messages)
        except TypeError:  # pybind11: the factory gave nothing
            raise EngineUnavailableError(f"{trt.__name__} cannot initialise CUDA ({messages.explain()})") from None
        self._engine = self._runtime.deserialize_cuda_engine(engine_file.read_bytes())
        if self._engine is None:
            raise RuntimeError(f"{engine_file} cannot be loaded: {messages.explain()}")
        self._context = self._engine.create_execution_context()
        if self._context is None:
            raise RuntimeError(f"{engine_file}: no execution context: {messages.explain()}")
        shape = (batch, *tuple(self._engine.get_tensor_shape(_INPUT))[1:])
        if not self._context.set_input_shape(_INPUT, shape):
            raise RuntimeError(f"{engine_file} does not take {shape}: {messages.explain()}")
        classes = tuple(self._context.get_tensor_shape(_OUTPUT))[1]
        self._in, self._compute, self._out = (self._card.stream() for _ in range(3))
        self._ring = [_Slot(self._card, shape, classes) for _ in range(_REQUESTS + 2)]
        self.slots = [slot.images for slot in self._ring]
        self._enqueue: list[Callable[[], None]] = [self._enqueue_by_hand(slot) for slot in self._ring]
        # The first run of a context initialises what a graph must not capture (TensorRT's documentation of graphs).
        for enqueue in self._enqueue:
            enqueue()
        self._compute.sync()

    def _enqueue_by_hand(self, slot: _Slot) -> Callable[[], None]:
        """Return what puts a slot's inference on the compute stream."""

        def enqueue() -> None:
            self._context.set_tensor_address(_INPUT, int(slot.card_images.handle))
            self._context.set_tensor_address(_OUTPUT, int(slot.card_logits.handle))
            if not self._context.execute_async_v3(int(self._compute.handle)):
                raise RuntimeError("TensorRT could not enqueue the inference; its messages are in the log")

        return enqueue

    def _capture(self) -> str:
        """Capture each slot's inference as a graph; return "captured", or why the engine cannot be."""
        capturable = getattr(self._context, "is_stream_capturable", None)
        if capturable is not None and not capturable(int(self._compute.handle)):
            return "not capturable"
        captured = []
        for enqueue in self._enqueue:
            builder = self._compute.create_graph_builder()
            builder.begin_building("thread_local")
            enqueue()
            builder.end_building()
            graph = builder.complete()
            builder.close()
            graph.upload(self._compute)
            captured.append(graph)
        self._graphs = captured
        self._enqueue = [lambda graph=graph: graph.launch(self._compute) for graph in captured]  # type: ignore[misc]
        self._compute.sync()
        return "captured"

    def launch(self, k: int) -> None:
        """Enqueue copy, inference and copy back of a slot."""
        slot = self._ring[k]
        self._in.record(slot.copying_in)
        slot.card_images.copy_from(slot.host_images, stream=self._in)
        self._in.record(slot.copied_in)
        self._compute.wait(slot.copied_in)
        self._compute.record(slot.computing)
        self._enqueue[k]()
        self._compute.record(slot.computed)
        self._out.wait(slot.computed)
        self._out.record(slot.copying_out)
        slot.host_logits.copy_from(slot.card_logits, stream=self._out)
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
        begin, end = self._ring[0].computing, self._ring[0].computed
        self._compute.record(begin)
        for i in range(n):
            self._enqueue[i % self.requests]()
        self._compute.record(end)
        end.sync()
        return elapsed_s(begin, end)

    def close(self) -> None:
        """Give everything back, in the order of its dependencies; safe after an error and twice."""
        self.slots = []
        self._enqueue = []
        for graph in self._graphs:
            graph.close()
        self._graphs = []
        self._ring = []
        self._context = None
        self._engine = None
        self._runtime = None
        self._card.release()


def open_session(trt: Any, engine_file: Path, batch: int, precision: str, options: Mapping[str, Any]) -> Session:
    """Load an engine file on the first visible card.

    Args:
        options: {"cuda_graphs": bool}.

    Raises:
        EngineUnavailableError: no driver, no device.
        RuntimeError: the engine cannot be loaded or run, in the library's own words.
    """
    return TensorRTSession(trt, engine_file, batch, precision, options)
