"""A stand-in for CUDA and TensorRT that computes nothing but checks order and lifetimes. It proves logic, not the GPU.

Work is put on streams as operations that wait for what is before them on the stream and for events. Nothing runs until
the host waits for it, and then no more than it waits for: what is read too early is not there. Every operation tells
which memory it reads and writes. It is a `OrderError` where

* two operations touch the same memory, one of them writes it, and nothing orders one after the other;
* memory, a stream, a graph or an execution context is used after it was given back, or given back while in use;
* an event is waited for or measured that was never recorded, or measured before the host knows that it is over;
* the host waits while a stream is being captured, or a graph is completed before its capture has ended.

Copies into the card take 2 ms, inferences 5 ms and copies back 1 ms, on a clock of its own.
"""

from __future__ import annotations

import ctypes
import json
from collections import Counter
from collections.abc import Callable, Iterable
from types import ModuleType, SimpleNamespace

import numpy as np

H2D_S, COMPUTE_S, D2H_S = 0.002, 0.005, 0.001
#: What engine files of these tests are built for: batch size, edge of an image, number of logits.
BATCH, CROP, CLASSES = 2, 4, 6
UUID = "12345678-9abc-def0-1234-56789abcdef0"


class OrderError(AssertionError):
    """Order or lifetimes are wrong."""


class StickyError(RuntimeError):
    """What every call raises once the card is broken."""


class Operation:
    """Something on a stream: what it follows, what it touches, what it does."""

    def __init__(self, kind: str, after: Iterable[Operation], reads: Iterable = (), writes: Iterable = ()) -> None:
        self.kind = kind
        self.after = [operation for operation in after if not operation.over]
        self.since = max((operation.ends for operation in after if operation.over), default=0.0)
        self.reads, self.writes = frozenset(reads), frozenset(writes)
        self.run: Callable[[], None] = lambda: None
        self.takes = 0.0
        self.over = False
        self.begins = self.ends = 0.0

    def follows(self, other: Operation) -> bool:
        """Say whether this one cannot begin before the other is over."""
        return other.over or any(before is other or before.follows(other) for before in self.after)

    def finish(self) -> None:
        """Run what this one follows and then this one."""
        if self.over:
            return
        for before in self.after:
            before.finish()
        self.begins = max([self.since, *(before.ends for before in self.after)])
        self.ends = self.begins + self.takes
        self.run()
        self.over = True


class World:
    """The card with everything on it; the modules of cuda.core and TensorRT that reach it."""

    def __init__(self) -> None:
        self.operations: list[Operation] = []
        self.alive: Counter[str] = Counter()
        self.memory: dict[int, Buffer] = {}
        self.streams: dict[int, Stream] = {}
        self.capturing: GraphBuilder | None = None
        self.now = 0.0
        self.faults: list[str] = []
        self.given_back: list[str] = []
        self.broken = False
        #: The type of the tensors that engines multiply, by their inspector.
        self.computes_in = "FP16"
        #: name of a call -> what it does in place of its work: raise an error, or give a result that means one.
        self.failing: dict[str, Callable[[], object]] = {}

    # What the host does.

    def call(self, name: str) -> object:
        """Note a call; raise or return what a test has planned for it."""
        if self.broken:
            raise StickyError("CUDA_ERROR_ILLEGAL_ADDRESS")
        return self.failing[name]() if name in self.failing else None

    def wait_for(self, operations: Iterable[Operation]) -> None:
        if self.capturing is not None:
            raise OrderError("the host waits while a stream is captured")
        for operation in operations:
            operation.finish()
            self.now = max(self.now, operation.ends)

    def enqueue(self, operation: Operation) -> Operation:
        """Put an operation among those that have not run, if what it touches is ordered."""
        operation.since = max(operation.since, self.now)
        for memory in operation.reads | operation.writes:
            memory.require_alive()
        for other in self.pending():
            both = (operation.writes & (other.reads | other.writes)) | (operation.reads & other.writes)
            if both and not operation.follows(other):
                raise OrderError(f"{operation.kind} and {other.kind} touch the same memory, and nothing orders them")
        self.operations.append(operation)
        return operation

    def pending(self) -> list[Operation]:
        return [operation for operation in self.operations if not operation.over]

    def in_use(self, thing: object) -> bool:
        return any(thing in operation.reads | operation.writes for operation in self.pending())

    # The modules.

    def cuda_core(self) -> SimpleNamespace:
        """What stands for the names that are taken from cuda.core."""
        return SimpleNamespace(
            Device=lambda ordinal: Device(self),
            DeviceMemoryResource=lambda device, options: Pool(self),
            DeviceMemoryResourceOptions=lambda: None,
            LegacyPinnedMemoryResource=lambda: Pinned(self),
        )

    def tensorrt(self, *, capturable: bool | None = None) -> ModuleType:
        """What stands for the module tensorrt; with `capturable` given, for tensorrt_rtx."""

        class Severity:
            INTERNAL_ERROR, ERROR, WARNING, INFO, VERBOSE = range(5)

        module = ModuleType("tensorrt" if capturable is None else "tensorrt_rtx")
        module.ILogger = type("ILogger", (), {"Severity": Severity})
        module.LayerInformationFormat = SimpleNamespace(JSON=1)
        module.Runtime = lambda logger: self.make_runtime(logger, capturable)
        return module

    def make_runtime(self, logger, capturable: bool | None) -> Runtime:
        if self.call("Runtime") is not None:
            raise TypeError("pybind11::init(): factory function returned nullptr")
        return Runtime(self, logger, capturable)


class Owned:
    """Something that is given back once, and not while it is in use."""

    kind = "thing"

    def __init__(self, world: World) -> None:
        self.world = world
        self.closed = False
        world.alive[self.kind] += 1

    def require_alive(self) -> None:
        if self.closed:
            raise OrderError(f"a {self.kind} is used after it was given back")

    def close(self) -> None:
        if self.world.broken:
            raise StickyError("CUDA_ERROR_ILLEGAL_ADDRESS")
        if self.closed:
            return
        if self.world.in_use(self):
            raise OrderError(f"a {self.kind} is given back while it is in use")
        self.closed = True
        self.world.alive[self.kind] -= 1
        self.world.given_back.append(self.kind)


class Device:
    """cuda.core.Device."""

    uuid = UUID

    def __init__(self, world: World) -> None:
        self.world = world

    def set_current(self) -> None:
        self.world.call("set_current")

    def sync(self) -> None:
        self.world.call("sync")
        self.world.wait_for(self.world.operations)

    def create_stream(self) -> Stream:
        self.world.call("create_stream")
        return Stream(self.world)

    def create_event(self, options) -> Event:
        assert options.timing_enabled
        return Event(self.world)


class Buffer(Owned):
    """cuda.core.Buffer, over memory of the host in either case."""

    def __init__(self, world: World, size: int, kind: str) -> None:
        self.kind = kind
        super().__init__(world)
        self.array = np.full(size, 255, np.uint8)
        self.handle = int(self.array.ctypes.data)
        world.memory[self.handle] = self

    def copy_from(self, source: Buffer, *, stream: Stream) -> None:
        to_card = self.kind == "device memory"
        self.world.call("copy_in" if to_card else "copy_out")
        operation = stream.follow("copy in" if to_card else "copy out", reads=[source], writes=[self])
        operation.takes = H2D_S if to_card else D2H_S

        def run() -> None:
            self.array[:] = source.array

        operation.run = run


class Pool(Owned):
    """cuda.core.DeviceMemoryResource."""

    kind = "pool"

    def allocate(self, size: int, *, stream: Stream) -> Buffer:
        self.require_alive()
        stream.require_alive()
        self.world.call("allocate")
        return Buffer(self.world, size, "device memory")

    def close(self) -> None:
        if self.world.alive["device memory"]:
            raise OrderError("a pool is given back before its memory")
        super().close()


class Pinned:
    """cuda.core.LegacyPinnedMemoryResource."""

    def __init__(self, world: World) -> None:
        self.world = world

    def allocate(self, size: int) -> Buffer:
        self.world.call("pin")
        return Buffer(self.world, size, "pinned memory")


class Event(Owned):
    """cuda.core.Event."""

    kind = "event"

    def __init__(self, world: World) -> None:
        super().__init__(world)
        self.recorded: Operation | None = None

    def last(self) -> Operation:
        self.require_alive()
        if self.recorded is None:
            raise OrderError("an event is waited for that was never recorded")
        return self.recorded

    def sync(self) -> None:
        self.world.call("event_sync")
        self.world.wait_for([self.last()])

    def __sub__(self, other: Event) -> float:
        if not (self.last().over and other.last().over):
            raise OrderError("an event is measured before the host knows that it is over")
        return (self.last().ends - other.last().ends) * 1000


class Stream(Owned):
    """cuda.core.Stream."""

    kind = "stream"

    def __init__(self, world: World) -> None:
        super().__init__(world)
        self.handle = 1000 + len(world.streams)
        world.streams[self.handle] = self
        self.last: list[Operation] = []

    def follow(self, kind: str, reads: Iterable = (), writes: Iterable = ()) -> Operation:
        """Put an operation behind what is on the stream, or into the graph that is being captured."""
        self.require_alive()
        operation = Operation(kind, self.last, reads, writes)
        if self.world.capturing is not None and self.world.capturing.stream is self:
            self.world.capturing.captured.append(operation)
            return operation
        self.last = [self.world.enqueue(operation)]
        return operation

    def record(self, event: Event) -> Event:
        event.require_alive()
        self.world.call("record")
        event.recorded = self.follow("record")
        return event

    def wait(self, event: Event) -> None:
        self.require_alive()
        self.last = [*self.last, event.last()]

    def sync(self) -> None:
        self.require_alive()
        self.world.call("stream_sync")
        self.world.wait_for(self.last)

    def create_graph_builder(self) -> GraphBuilder:
        self.require_alive()
        return GraphBuilder(self)

    def close(self) -> None:
        if any(not operation.over for operation in self.last):
            raise OrderError("a stream is given back while it is in use")
        super().close()


class GraphBuilder(Owned):
    """cuda.core.graph.GraphBuilder."""

    kind = "graph builder"

    def __init__(self, stream: Stream) -> None:
        super().__init__(stream.world)
        self.stream = stream
        self.captured: list[Operation] = []
        self.ended = False

    def begin_building(self, mode: str) -> None:
        assert mode in ("global", "thread_local", "relaxed")
        self.world.capturing = self

    def end_building(self) -> None:
        self.world.call("end_building")
        self.ended, self.world.capturing = True, None

    def complete(self) -> Graph:
        if not self.ended:
            raise OrderError("a graph is completed before its capture has ended")
        return Graph(self.world, self.captured)

    def close(self) -> None:
        if self.world.capturing is self:
            self.world.capturing = None
        super().close()


class Graph(Owned):
    """cuda.core.graph.Graph."""

    kind = "graph"

    def __init__(self, world: World, captured: list[Operation]) -> None:
        super().__init__(world)
        self.captured = captured

    def upload(self, stream: Stream) -> None:
        self.require_alive()

    def launch(self, stream: Stream) -> None:
        self.require_alive()
        self.world.call("launch")
        for captured in self.captured:
            operation = stream.follow(captured.kind, [*captured.reads, self], captured.writes)
            operation.takes, operation.run = captured.takes, captured.run


class Library:
    """An object of TensorRT: given back when nothing refers to it any more."""

    kind = "library object"

    def __init__(self, world: World) -> None:
        self.world = world
        world.alive[self.kind] += 1

    def require_alive(self) -> None:
        """An operation that refers to it would keep it alive, so operations refer to its memory."""

    def __del__(self) -> None:
        self.world.alive[self.kind] -= 1
        self.world.given_back.append(self.kind)
        if self.world.broken:
            self.world.faults.append(f"a {self.kind} is given back to a broken card")


class Runtime(Library):
    """tensorrt.Runtime."""

    kind = "runtime"

    def __init__(self, world: World, logger, capturable: bool | None) -> None:
        super().__init__(world)
        self.logger, self.capturable = logger, capturable

    def deserialize_cuda_engine(self, serialized_engine: bytes) -> ICudaEngine | None:
        self.world.call("deserialize")
        if not serialized_engine.startswith(b"engine "):
            self.logger.log(1, "the engine's header is wrong")
            return None
        return ICudaEngine(self, *map(int, serialized_engine.split()[1:]))


class ICudaEngine(Library):
    """tensorrt.ICudaEngine: an engine of one batch size; logits are how often each byte value occurs."""

    kind = "engine"
    device_memory_size_v2 = 4096

    def __init__(self, runtime: Runtime, batch: int, crop: int, classes: int) -> None:
        super().__init__(runtime.world)
        self.capturable, self.logger = runtime.capturable, runtime.logger
        self.shapes = {"images": (batch, crop, crop, 3), "logits": (batch, classes)}

    def create_execution_context(self) -> IExecutionContext | None:
        if "context" in self.world.failing:
            self.logger.log(1, "out of memory")
            return None
        kind = IExecutionContext if self.capturable is None else IExecutionContextOfRTX
        return kind(self)

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        return self.shapes[name]

    def create_engine_inspector(self) -> EngineInspector:
        return EngineInspector(self.world.computes_in)


class EngineInspector:
    """tensorrt.EngineInspector."""

    def __init__(self, dtype: str = "FP16") -> None:
        self.dtype = dtype

    def get_engine_information(self, format: int) -> str:
        """One convolution in the schema of TensorRT 11, as its inspector gives it with detailed verbosity."""
        tensor = {"Name": "a", "Location": "Device", "Format": "Channel major", "DataType": self.dtype}
        layer = {
            "Name": "conv1 + relu",
            "LayerType": "CaskConvolution",
            "ParameterType": "Convolution",
            "Inputs": [tensor],
            "Outputs": [tensor],
        }
        return json.dumps({"Layers": [layer], "I/O Tensors": [{"Name": "images"}, {"Name": "logits"}]})


class Scratch(Owned):
    """The memory that a context's inferences share: two at a time would spoil each other's."""

    kind = "scratch memory"


class IExecutionContext(Library):
    """tensorrt.IExecutionContext."""

    kind = "context"

    def __init__(self, engine: ICudaEngine) -> None:
        super().__init__(engine.world)
        self.shapes, self.logger, self.scratch = engine.shapes, engine.logger, Scratch(engine.world)
        self.set: dict[str, int] = {}
        self.taken = False

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        self.taken = tuple(shape) == self.shapes[name]
        return self.taken

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        return self.shapes[name]

    def set_tensor_address(self, name: str, memory: int) -> bool:
        assert name in self.shapes
        self.set[name] = memory
        return True

    def execute_async_v3(self, stream_handle: int) -> bool:
        if self.world.call("execute") is not None:
            self.logger.log(1, "no kernel could be launched")
            return False
        if not self.taken:
            raise OrderError("an inference is enqueued before the shape of its input is set")
        images, logits = (self.world.memory[self.set[name]] for name in ("images", "logits"))
        images.require_alive()
        logits.require_alive()
        stream = self.world.streams[stream_handle]
        operation = stream.follow("inference", reads=[images], writes=[logits, self.scratch])
        operation.takes = COMPUTE_S
        shape = self.shapes["logits"]
        operation.run = lambda: infer(images, logits, shape)
        return True

    def __del__(self) -> None:
        try:
            if not self.world.broken:
                self.scratch.close()
        except OrderError as fault:  # which an exception in a destructor cannot tell
            self.world.faults.append(str(fault).replace("scratch memory", "context"))
        super().__del__()


class IExecutionContextOfRTX(IExecutionContext):
    """The same of TensorRT-RTX."""

    def __init__(self, engine: ICudaEngine) -> None:
        super().__init__(engine)
        self.capturable = engine.capturable

    def is_stream_capturable(self, stream: int) -> bool:
        return self.capturable


def infer(images: Buffer, logits: Buffer, shape: tuple[int, int]) -> None:
    """Count, image by image, how often each value below the number of classes occurs."""
    batch, classes = shape
    view = (ctypes.c_float * (batch * classes)).from_address(logits.handle)
    found = np.ctypeslib.as_array(view).reshape(shape)
    for row, image in zip(found, images.array.reshape(batch, -1), strict=True):
        row[:] = np.bincount(image, minlength=256)[:classes]
